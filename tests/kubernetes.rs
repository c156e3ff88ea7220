//! Holds what is written down twice equal: k8s.yaml, compose.yaml and the Dockerfile against the
//! program, its files and one another. Whether Kubernetes takes k8s.yaml at all is asked by
//! tests/manifests.sh and tests/cluster.sh.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use support::two_tier;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn file(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(&file(name))
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// What k8s.yaml says.
struct Manifest(Vec<Value>);

impl Manifest {
    fn read() -> Self {
        Self(yaml("k8s.yaml"))
    }

    #[track_caller]
    fn get(&self, kind: &str, name: &str) -> &Value {
        let mut found = self
            .0
            .iter()
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        match (found.next(), found.next()) {
            (Some(object), None) => object,
            (first, _) => panic!(
                "{} {kind} {name} in k8s.yaml",
                if first.is_some() { "more than one" } else { "no" }
            ),
        }
    }

    fn web(&self) -> &Value {
        &self.get("Deployment", "app")["spec"]["template"]
    }

    fn database(&self) -> &Value {
        &self.get("StatefulSet", "mongo")["spec"]["template"]
    }

    fn network_policy(&self, name: &str) -> &Value {
        &self.get("NetworkPolicy", name)["spec"]
    }
}

/// The only container of a pod template.
fn container(template: &Value) -> &Value {
    let containers = template["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

/// The value of a container's environment variable.
#[track_caller]
fn variable<'a>(container: &'a Value, name: &str) -> &'a str {
    let found =
        container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == name);
    found
        .and_then(|variable| variable["value"].as_str())
        .unwrap_or_else(|| panic!("no variable {name}"))
}

#[track_caller]
fn port(container: &Value, name: &str) -> u64 {
    let found = container["ports"].as_array().unwrap().iter().find(|port| port["name"] == name);
    found
        .and_then(|port| port["containerPort"].as_u64())
        .unwrap_or_else(|| panic!("no port {name}"))
}

/// The names and defaults of the settings, as `two-tier --help` prints them.
fn settings() -> Vec<(String, String)> {
    let help = String::from_utf8(two_tier().arg("--help").output().unwrap().stdout).unwrap();
    let (_, table) = help.split_once("Settings").unwrap();
    let lines = table.lines().skip(1).filter(|line| !line.trim().is_empty());
    let mut settings = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let (name, default) = (words.next().unwrap(), words.next().unwrap());
        match name.strip_suffix("[_FILE]") {
            Some(name) => settings.extend([
                (name.to_owned(), default.to_owned()),
                (format!("{name}_FILE"), "-".into()),
            ]),
            None => settings.push((name.to_owned(), default.to_owned())),
        }
    }
    assert!(settings.iter().any(|(name, _)| name == "PORT"), "no settings in:\n{help}");
    settings
}

#[track_caller]
fn assert_is_setting(name: &str, place: &str) {
    let settings = settings();
    assert!(
        settings.iter().any(|(known, _)| known == name),
        "{place} sets {name}, which two-tier --help does not list"
    );
}

/// Each instruction of the Dockerfile on one line, without comments.
fn dockerfile() -> Vec<String> {
    let text = file("Dockerfile");
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    lines.join("\n").replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// What follows an instruction of the last stage, where it stands once.
#[track_caller]
fn instruction(name: &str) -> String {
    let lines = dockerfile();
    let last_stage = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    let found: Vec<&str> = lines[last_stage..]
        .iter()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .collect();
    assert_eq!(found.len(), 1, "{name} in the Dockerfile's last stage: {found:?}");
    found[0].trim().to_owned()
}

fn seconds(text: &Value) -> Duration {
    Duration::from_secs(text.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap())
}

#[test]
fn config_map_contains_mongo_init_js() {
    let manifest = Manifest::read();
    let data = manifest.get("ConfigMap", "mongo-init")["data"].as_object().unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["mongo-init.js"]);
    let copy = data["mongo-init.js"].as_str().unwrap();
    assert!(
        copy == file("mongo-init.js"),
        "k8s.yaml has another mongo-init.js than the file:\n{copy}"
    );
}

#[test]
fn manifests_use_known_settings() {
    let manifest = Manifest::read();
    for name in manifest.get("ConfigMap", "app-config")["data"].as_object().unwrap().keys() {
        assert_is_setting(name, "the ConfigMap app-config");
    }
    for variable in container(manifest.web())["env"].as_array().unwrap() {
        assert_is_setting(variable["name"].as_str().unwrap(), "the Deployment");
    }
    let compose = &yaml("compose.yaml")[0];
    for name in compose["services"]["app"]["environment"].as_object().unwrap().keys() {
        assert_is_setting(name, "compose.yaml");
    }
    for assignment in instruction("ENV").split_whitespace() {
        let (name, _) = assignment.split_once('=').unwrap();
        if name != "GLIBC_TUNABLES" {
            assert_is_setting(name, "the Dockerfile");
        }
    }
}

#[test]
fn manifests_use_ports_of_program() {
    let manifest = Manifest::read();
    let config = &manifest.get("ConfigMap", "app-config")["data"];
    let web = container(manifest.web());
    let mut exposed = Vec::new();
    for (setting, port_name) in [("PORT", "http"), ("OPS_PORT", "http-metrics")] {
        let port = port(web, port_name).to_string();
        assert_eq!(
            config[setting],
            port.as_str(),
            "{setting} and the container's port {port_name}"
        );
        let default = settings().into_iter().find(|(name, _)| name == setting).unwrap().1;
        assert_eq!(
            default, port,
            "the default of {setting}, which image and compose.yaml leave as it is"
        );
        exposed.push(port);
    }
    assert_eq!(instruction("EXPOSE"), exposed.join(" "));

    let (http, metrics) = (port(web, "http"), port(web, "http-metrics"));
    assert_eq!(manifest.get("Service", "app-service")["spec"]["ports"][0]["targetPort"], "http");
    let policy = manifest.network_policy("app");
    assert_eq!(policy["ingress"][0]["ports"][0]["port"], http);
    assert_eq!(policy["ingress"][1]["ports"][0]["port"], metrics);
    assert_eq!(
        manifest.web()["metadata"]["annotations"]["prometheus.io/port"],
        metrics.to_string()
    );
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(web[probe]["httpGet"]["port"], "http-metrics");
    }

    let mongodb = port(container(manifest.database()), "mongodb");
    for service in ["mongo-service", "mongo-headless"] {
        let port = &manifest.get("Service", service)["spec"]["ports"][0];
        assert_eq!(
            (&port["port"], &port["targetPort"]),
            (&mongodb.into(), &"mongodb".into()),
            "{service}"
        );
    }
    assert_eq!(policy["egress"][0]["ports"][0]["port"], mongodb);
    assert_eq!(manifest.network_policy("mongo")["ingress"][0]["ports"][0]["port"], mongodb);

    let compose = &yaml("compose.yaml")[0];
    let published = compose["services"]["app"]["ports"].as_array().unwrap();
    let expected = [http, metrics].map(|port| Value::from(format!("127.0.0.1:{port}:{port}")));
    assert_eq!(published[..], expected, "compose.yaml publishes to this machine only");
}

#[test]
fn manifest_uri_names_created_user() {
    let manifest = Manifest::read();
    let database = container(manifest.database());
    let port = port(database, "mongodb");
    let secret = |name: &str, key: &str| {
        manifest.get("Secret", name)["stringData"][key].as_str().unwrap().to_owned()
    };
    let service = manifest.get("Service", "mongo-service");
    let namespace = service["metadata"]["namespace"].as_str().unwrap();
    let expected = |password: &str, host: &str, environment: &dyn Fn(&str) -> String| {
        format!(
            "mongodb://{}:{password}@{host}:{port}/{}",
            environment("APP_USERNAME"),
            environment("MONGO_INITDB_DATABASE")
        )
    };
    assert_eq!(
        secret("app-secret", "mongodb-uri"),
        expected(
            &secret("mongo-secret", "app-password"),
            &format!("mongo-service.{namespace}.svc.cluster.local"),
            &|name| variable(database, name).to_owned()
        )
    );

    let compose = &yaml("compose.yaml")[0];
    let environment = &compose["services"]["mongo"]["environment"];
    assert_eq!(
        file("secrets/mongodb-uri").trim_end(),
        expected(file("secrets/app-password").trim_end(), "mongo", &|name| environment[name]
            .as_str()
            .unwrap()
            .to_owned())
    );
}

/// The program warns of a password that begins with this.
#[test]
fn manifest_passwords_are_warned_placeholders() {
    let manifest = Manifest::read();
    let secret = &manifest.get("Secret", "mongo-secret")["stringData"];
    for password in secret.as_object().unwrap().values() {
        assert!(password.as_str().unwrap().starts_with("change-me"), "{password}");
    }
    for name in ["root-password", "app-password"] {
        assert_eq!(file(&format!("secrets/{name}")).trim_end(), secret[name], "secrets/{name}");
    }
}

#[test]
fn referenced_secrets_and_config_maps_exist() {
    let manifest = Manifest::read();
    for template in [manifest.web(), manifest.database()] {
        let container = container(template);
        for source in container["envFrom"].as_array().into_iter().flatten() {
            manifest.get("ConfigMap", source["configMapRef"]["name"].as_str().unwrap());
        }
        // Where each volume's keys appear as files.
        let mut files = BTreeSet::new();
        for volume in template["spec"]["volumes"].as_array().unwrap() {
            let (object, data) = if let Some(name) = volume["secret"]["secretName"].as_str() {
                (manifest.get("Secret", name), "stringData")
            } else if let Some(name) = volume["configMap"]["name"].as_str() {
                (manifest.get("ConfigMap", name), "data")
            } else {
                continue;
            };
            let mounts = container["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
            let directory = mount["mountPath"].as_str().unwrap();
            files.extend(
                object[data].as_object().unwrap().keys().map(|key| format!("{directory}/{key}")),
            );
        }
        for variable in container["env"].as_array().unwrap() {
            if variable["name"].as_str().unwrap().ends_with("_FILE") {
                assert!(
                    files.contains(variable["value"].as_str().unwrap()),
                    "{variable} is none of {files:?}"
                );
            }
            assert!(
                variable.get("valueFrom").is_none(),
                "{variable}: this test does not know it yet"
            );
        }
        assert!(!files.is_empty());
    }
}

#[test]
fn manifests_set_variables_of_mongo_init_js() {
    let manifest = Manifest::read();
    let script = file("mongo-init.js");
    let asked: Vec<&str> =
        script.split("setting(\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    let compose = &yaml("compose.yaml")[0];
    for name in asked {
        let given = |known: &str| known == name || known.strip_suffix("_FILE") == Some(name);
        let variables = container(manifest.database())["env"].as_array().unwrap();
        assert!(
            variables.iter().any(|variable| given(variable["name"].as_str().unwrap())),
            "{name} in k8s.yaml"
        );
        let environment = compose["services"]["mongo"]["environment"].as_object().unwrap();
        assert!(environment.keys().any(|known| given(known)), "{name} in compose.yaml");
    }
}

#[test]
fn image_and_version_match_everywhere() {
    let manifest = Manifest::read();
    let image = format!("two-tier:{VERSION}");
    assert_eq!(container(manifest.web())["image"], image.as_str());
    let compose = &yaml("compose.yaml")[0];
    assert_eq!(compose["services"]["app"]["image"], image.as_str());
    assert!(
        dockerfile().contains(&format!("ARG VERSION={VERSION}")),
        "ARG VERSION in the Dockerfile"
    );
    let database = container(manifest.database());
    assert_eq!(compose["services"]["mongo"]["image"], database["image"]);
    assert_eq!(compose["services"]["mongo"]["command"], database["args"]);
}

#[test]
fn rust_version_is_the_same_everywhere() {
    let toolchain = file("rust-toolchain.toml");
    let version = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .expect("a channel");
    let base = format!("FROM docker.io/library/rust:{version}-slim-");
    assert!(dockerfile().iter().any(|line| line.starts_with(&base)), "{base} in the Dockerfile");
    let minor = version.rsplit_once('.').expect("1.2.3").0;
    let oldest = format!("rust-version = \"{minor}\"\n");
    assert!(file("Cargo.toml").contains(&oldest), "{oldest} in Cargo.toml");
}

#[test]
fn web_tier_runs_as_image_user() {
    let manifest = Manifest::read();
    let context = &manifest.web()["spec"]["securityContext"];
    assert_eq!(instruction("USER"), format!("{}:{}", context["runAsUser"], context["runAsGroup"]));
}

#[test]
fn grace_period_outlasts_drain() {
    let manifest = Manifest::read();
    let config = &manifest.get("ConfigMap", "app-config")["data"];
    let grace = manifest.web()["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let drain = seconds(&config["SHUTDOWN_DELAY"]) + seconds(&config["SHUTDOWN_TIMEOUT"]);
    // What stopping may take after that (README.md, "Operations").
    let rest = Duration::from_secs(2);
    assert!(drain + rest < Duration::from_secs(grace), "{drain:?} of draining in {grace} s");
    let default = settings().into_iter().find(|(name, _)| name == "SHUTDOWN_TIMEOUT").unwrap().1;
    let compose = &yaml("compose.yaml")[0];
    assert!(
        seconds(&default.into()) + rest < seconds(&compose["services"]["app"]["stop_grace_period"]),
        "compose.yaml"
    );
}

//! docs/openapi.yaml and the server, held to each other: each answer that is described is got from
//! a real server and is as described, and what a real server answers is described.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::sync::Mutex;

use bson::doc;
use serde_json::Value;
use support::mongodb::database_of;
use support::proxy::{Fate, Proxy};
use support::{Answer, Connection, Directory, Mongodb, Server};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");
/// What every answer may have: HTTP's own, not the contract's.
const STANDARD_HEADERS: [&str; 5] =
    ["date", "content-type", "content-length", "transfer-encoding", "connection"];

/// The description, and what of it was seen.
struct Contract {
    description: Value,
    seen: Mutex<BTreeSet<String>>,
}

impl Contract {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.yaml");
        let description = serde_yaml_ng::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        Self { description, seen: Mutex::default() }
    }

    /// What a `$ref` refers to, or the value itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                self.description.pointer(reference.strip_prefix('#').unwrap()).unwrap()
            }
            None => value,
        }
    }

    /// Each operation, as `("GET", "/data")`.
    fn operations(&self) -> Vec<(String, String)> {
        let paths = self.description["paths"].as_object().unwrap();
        let methods = paths
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |key| (key, path)));
        methods
            .filter(|(key, _)| *key != "parameters")
            .map(|(method, path)| (method.to_uppercase(), path.clone()))
            .collect()
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        &self.description["paths"][path][method.to_lowercase()]
    }

    /// Every answer that is described, as `seen` has them.
    fn described(&self) -> BTreeSet<String> {
        let mut described = BTreeSet::new();
        for (method, path) in self.operations() {
            for (status, response) in
                self.operation(&method, &path)["responses"].as_object().unwrap()
            {
                for content_type in self.resolve(response)["content"].as_object().unwrap().keys() {
                    described.insert(format!("{method} {path} {status} {content_type}"));
                }
            }
        }
        described
    }

    /// Holds an answer to its description.
    #[track_caller]
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        let status = answer.status.to_string();
        let content_type = answer.header("content-type").unwrap().split(';').next().unwrap();
        let name = format!("{method} {path} {status} {content_type}");
        let response = self.resolve(&self.operation(method, path)["responses"][&status]);
        let content = &response["content"][content_type];
        assert!(content.is_object(), "not described: {name}: {}", answer.text());
        self.check_headers(&name, &response["headers"], answer);
        if method == "HEAD" {
            assert_eq!(answer.text(), "", "{name}");
        } else if content_type.ends_with("json") && content_type != "application/x-ndjson" {
            let outcome = self.conforms(&content["schema"], &answer.json());
            assert_eq!(outcome, Ok(()), "{name}: {}", answer.text());
        } else {
            assert_eq!(self.conforms(&content["schema"], &answer.text().into()), Ok(()), "{name}");
        }
        if content_type == "application/problem+json" && method != "HEAD" {
            assert_eq!(answer.json()["status"], answer.status, "{name}");
        }
        self.seen.lock().unwrap().insert(name);
    }

    #[track_caller]
    fn check_headers(&self, name: &str, described: &Value, answer: &Answer) {
        let empty = serde_json::Map::new();
        let described = described.as_object().unwrap_or(&empty);
        for (header, value) in &answer.headers {
            if STANDARD_HEADERS.contains(&header.as_str()) {
                continue;
            }
            let found = described.iter().find(|(name, _)| name.eq_ignore_ascii_case(header));
            let (_, description) =
                found.unwrap_or_else(|| panic!("{name}: the header {header} is not described"));
            let schema = &self.resolve(description)["schema"];
            let value = if schema["type"] == "integer" {
                value.parse().unwrap()
            } else {
                value.as_str().into()
            };
            assert_eq!(self.conforms(schema, &value), Ok(()), "{name}: {header}");
        }
        for (header, description) in described {
            let is_required = self.resolve(description)["required"] == true;
            assert!(
                !is_required || answer.header(&header.to_lowercase()).is_some(),
                "{name}: no {header}"
            );
        }
    }

    /// As much of JSON Schema as the description uses; what it does not know is an error.
    fn conforms(&self, schema: &Value, value: &Value) -> Result<(), String> {
        for (keyword, rule) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "$ref" => self.conforms(self.resolve(schema), value).map(|()| true)?,
                "allOf" => {
                    rule.as_array().unwrap().iter().all(|rule| self.conforms(rule, value).is_ok())
                }
                "anyOf" => {
                    rule.as_array().unwrap().iter().any(|rule| self.conforms(rule, value).is_ok())
                }
                "not" => self.conforms(rule, value).is_err(),
                "type" => match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    other => panic!("{other}"),
                },
                "const" => rule == value,
                "minimum" => value.as_i64() >= rule.as_i64(),
                "maximum" => value.as_i64() <= rule.as_i64(),
                "minLength" => value.as_str().unwrap().len() as u64 >= rule.as_u64().unwrap(),
                "minItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
                "maxItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
                "pattern" => value
                    .as_str()
                    .unwrap()
                    .starts_with(rule.as_str().unwrap().strip_prefix('^').unwrap()),
                "format" => chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).is_ok(),
                "required" => rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|name| value.get(name.as_str().unwrap()).is_some()),
                "properties" | "additionalProperties" => self.members_conform(schema, value)?,
                "items" => value
                    .as_array()
                    .is_none_or(|items| items.iter().all(|item| self.conforms(rule, item).is_ok())),
                "description" => true,
                other => panic!("the test does not know the keyword {other}"),
            };
            if !holds {
                return Err(format!("{keyword}: {rule}, but it is {value}"));
            }
        }
        Ok(())
    }

    fn members_conform(&self, schema: &Value, value: &Value) -> Result<bool, String> {
        for (name, member) in value.as_object().into_iter().flatten() {
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(schema), _) => self.conforms(schema, member)?,
                (None, Value::Bool(false)) => return Ok(false),
                (None, Value::Object(_)) => {
                    self.conforms(&schema["additionalProperties"], member)?
                }
                (None, _) => {}
            }
        }
        Ok(true)
    }

    #[track_caller]
    fn request(
        &self,
        server: &Server,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let answer = server.request(method, target, headers, body.as_bytes());
        self.check(method, path_of(target), &answer);
        answer
    }

    /// GET and HEAD.
    #[track_caller]
    fn read_both(&self, server: &Server, target: &str, headers: &[(&str, &str)]) {
        self.request(server, "GET", target, headers, "");
        self.request(server, "HEAD", target, headers, "");
    }
}

/// The path as it is described.
fn path_of(target: &str) -> &str {
    match target.split('?').next().unwrap() {
        path if path.starts_with("/data/") => "/data/{id}",
        path => path,
    }
}

#[test]
fn described_answers_are_given() {
    let contract = Contract::read();
    answers_of_the_routes(&contract);
    answers_with_a_token(&contract);
    answers_without_the_database(&contract);
    answers_to_heads_that_are_refused(&contract);
    let mut described = contract.described();
    if !answers_of_a_database_that_refuses(&contract) {
        described.retain(|name| ![" 500 ", " 507 "].iter().any(|status| name.contains(status)));
    }
    assert_eq!(*contract.seen.lock().unwrap(), described);
}

fn answers_of_the_routes(contract: &Contract) {
    let server = Server::start(&[]);
    for accept in ["*/*", "application/json", "text/html"] {
        contract.read_both(&server, "/", &[("Accept", accept)]);
    }
    contract.read_both(&server, "/?x=1", &[]);

    for body in [
        "{\"_id\":1,\"name\":\"Ada\"}",
        "[{\"_id\":2},{\"n\":{\"$numberLong\":\"9007199254740993\"}}]",
    ] {
        assert_eq!(contract.request(&server, "POST", "/data", &[JSON], body).status, 201);
    }
    for (headers, body) in [
        (JSON, "{\"_id\":1}"),
        (JSON, "[{\"_id\":1},{\"_id\":9}]"),
        (NDJSON, "{\"_id\":5}\n{\"_id\":6}\n"),
        (NDJSON, "{\"_id\":5}\n"),
        (NDJSON, "nope\n"),
        (JSON, "nope"),
        (("Content-Type", "text/plain"), "{}"),
    ] {
        contract.request(&server, "POST", "/data", &[headers], body);
    }
    for lines in ["{\"_id\":5}\n{\"_id\":7}\n", "{\"_id\":5}\nnope\n"] {
        contract.request(&server, "POST", "/data?existing=skip", &[NDJSON], lines);
    }
    for format in ["relaxed", "canonical"] {
        contract.read_both(&server, &format!("/data?format={format}"), &[]);
        contract.read_both(&server, &format!("/data/1?format={format}"), &[]);
    }
    for accept in ["*/*", "application/x-ndjson"] {
        contract.read_both(&server, "/data?limit=2", &[("Accept", accept)]);
    }
    contract.read_both(&server, "/data?limit=0", &[]);
    for id in ["1", "none", "%ZZ"] {
        contract.read_both(&server, &format!("/data/{id}"), &[]);
    }
}

fn answers_with_a_token(contract: &Contract) {
    let server = Server::start(&[("API_TOKEN", "open-sesame")]);
    contract.read_both(&server, "/data", &[]);
    contract.read_both(&server, "/data/1", &[("Authorization", "Bearer guess")]);
    contract.request(&server, "POST", "/data", &[JSON], "{}");
    for (method, path) in contract.operations() {
        let answer = server.request(&method, &path, &[], b"");
        let asks_for_none =
            contract.operation(&method, &path)["security"] == Value::Array(Vec::new());
        assert_eq!(answer.status == 401, !asks_for_none, "{method} {path}");
    }
}

fn answers_without_the_database(contract: &Contract) {
    // A port on which nobody listens once the listener is gone.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let uri = format!("mongodb://127.0.0.1:{port}/test?serverSelectionTimeoutMS=100");
    let server = Server::start(&[("MONGODB_URI", &uri)]);
    contract.read_both(&server, "/data", &[]);
    contract.read_both(&server, "/data/1", &[]);
    contract.request(&server, "POST", "/data", &[JSON], "{}");
}

/// False if there is no MongoDB here.
fn answers_of_a_database_that_refuses(contract: &Contract) -> bool {
    let Some(mongodb) = Mongodb::shared_own() else { return false };
    let proxy = Proxy::start(mongodb.port());
    let directory = std::sync::Arc::new(Directory::new());
    let uri = mongodb.uri_through(&proxy, &database_of(&directory));
    let server = Server::start_in(directory, &[("MONGODB_URI", &uri)]);
    for (code, status) in [(13, 500), (14031, 507)] {
        proxy.set(move |_| Fate::Pass);
        proxy.set_for("insert", Fate::Answer(doc! { "ok": 0, "code": code, "errmsg": "no" }));
        assert_eq!(contract.request(&server, "POST", "/data", &[JSON], "{}").status, status);
    }
    proxy.set_for("find", Fate::Answer(doc! { "ok": 0, "code": 13, "errmsg": "no" }));
    contract.read_both(&server, "/data", &[]);
    contract.read_both(&server, "/data/1", &[]);
    true
}

/// What is refused before any route sees it, of every operation.
fn answers_to_heads_that_are_refused(contract: &Contract) {
    let server = Server::start(&[("HEAD_TIMEOUT", "1s")]);
    let long = "x".repeat(16 * 1024);
    let mut waiting = Vec::new();
    for (method, path) in contract.operations() {
        let path = path.replace("{id}", "1");
        for head in [
            format!("{method} {path}"),
            format!(
                "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 18446744073709551615\r\n\r\n"
            ),
            format!("{method} {path}?{long}"),
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nExpect: much\r\n\r\n"),
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nX: {long}"),
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n"),
            format!("{method} {path} HTTP/2.0\r\nHost: test\r\n\r\n"),
            format!("{method} {path} HTTP/1.1\r\n\r\n"),
        ] {
            let mut connection = Connection::open(server.address);
            connection.send(head.as_bytes());
            waiting.push((method.clone(), path.clone(), connection));
        }
    }
    for (method, path, mut connection) in waiting {
        let mut answer = connection.read_head().unwrap();
        answer.body = connection.read_to_end();
        contract.check(&method, path_of(&path), &answer);
    }
}

#[test]
fn undescribed_operations_are_refused() {
    let contract = Contract::read();
    let server = Server::start(&[]);
    let problem = serde_json::json!({ "$ref": "#/components/schemas/Problem" });
    for path in contract.description["paths"].as_object().unwrap().keys() {
        let answer = server.request("DELETE", path, &[], b"");
        assert_eq!(
            (answer.status, contract.conforms(&problem, &answer.json())),
            (405, Ok(())),
            "{path}"
        );
        let described =
            contract.operations().into_iter().filter(|(_, described)| described == path);
        let described: BTreeSet<String> = described.map(|(method, _)| method).collect();
        let allowed = answer.header("allow").unwrap().split(", ").map(str::to_owned).collect();
        assert_eq!(described, allowed, "{path}");
    }
    let answer = server.get("/nothing");
    assert_eq!((answer.status, contract.conforms(&problem, &answer.json())), (404, Ok(())));
}

#[test]
fn parameters_have_described_bounds_and_defaults() {
    let contract = Contract::read();
    let server = Server::start(&[]);
    let parameters = contract.operation("GET", "/data")["parameters"].as_array().unwrap();
    let names: Vec<&str> =
        parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
    let detail = server.get("/data?x=1").problem(400);
    assert!(detail.ends_with(&format!("the parameters are {}.", names.join(", "))), "{detail}");
    let schema = |name: &str| {
        let parameter = parameters.iter().find(|parameter| parameter["name"] == name).unwrap();
        contract.resolve(&parameter["schema"])
    };

    let limit =
        |keyword: &str| usize::try_from(schema("limit")[keyword].as_u64().unwrap()).unwrap();
    let (minimum, maximum, default) = (limit("minimum"), limit("maximum"), limit("default"));
    let documents: Vec<String> = (0..=maximum).map(|id| format!("{{\"_id\":{id}}}")).collect();
    server.post(&format!("[{}]", documents.join(",")));
    let count = |target: &str| server.get(target).json().as_array().unwrap().len();
    assert_eq!(count("/data"), default);
    for limit in [minimum, maximum] {
        assert_eq!(count(&format!("/data?limit={limit}")), limit);
    }
    for limit in [minimum - 1, maximum + 1] {
        server.get(&format!("/data?limit={limit}")).problem(400);
    }

    let order = schema("order");
    assert_eq!(
        server.get("/data").body,
        server.get(&format!("/data?order={}", order["default"].as_str().unwrap())).body
    );
    for order in order["enum"].as_array().unwrap() {
        assert_eq!(server.get(&format!("/data?order={}", order.as_str().unwrap())).status, 200);
    }
    server.get("/data?order=other").problem(400);
    let post = &contract.operation("POST", "/data")["parameters"][0]["schema"];
    for (schema, method, headers) in [(schema("format"), "GET", [JSON]), (post, "POST", [NDJSON])] {
        let name = if method == "GET" { "format" } else { "existing" };
        for value in schema["enum"].as_array().unwrap() {
            let target = format!("/data?{name}={}", value.as_str().unwrap());
            assert_eq!(server.request(method, &target, &headers, b"").status / 100, 2, "{target}");
        }
        server.request(method, &format!("/data?{name}=other"), &headers, b"").problem(400);
    }
    assert_eq!(schema("after")["minLength"], 1);
    assert_eq!(server.get("/data?after=0&limit=1").text(), "[{\"_id\":1}]\n");
    server.get("/data?after=").problem(400);
}

#[test]
fn bodies_have_described_bounds_and_examples() {
    let contract = Contract::read();
    assert_eq!(contract.description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let server = Server::start(&[]);
    let content = &contract.operation("POST", "/data")["requestBody"]["content"];
    let array = &content["application/json"]["schema"]["anyOf"][1];
    for (keyword, beyond) in [("minItems", -1), ("maxItems", 1)] {
        let bound = array[keyword].as_i64().unwrap();
        for (count, is_taken) in [(bound, true), (bound + beyond, false)] {
            let answer = server
                .post(&format!("[{}]", vec!["{}"; usize::try_from(count).unwrap()].join(",")));
            assert_eq!(answer.status == 201, is_taken, "{count}: {}", answer.status);
        }
    }
    for example in content["application/json"]["examples"].as_object().unwrap().values() {
        assert_eq!(server.post(&example["value"].to_string()).status, 201, "{example}");
    }
    let lines = content["application/x-ndjson"]["example"].as_str().unwrap();
    assert_eq!(server.import(lines).status, 201);
    let id = &contract.description["paths"]["/data/{id}"]["parameters"][0];
    for example in id["examples"].as_object().unwrap().values() {
        let encoded: String =
            example["value"].as_str().unwrap().bytes().map(|byte| format!("%{byte:02X}")).collect();
        server.get(&format!("/data/{encoded}")).problem(404);
    }
}

#[test]
fn example_answers_match_their_schemas() {
    let contract = Contract::read();
    let mut count = 0;
    for (method, path) in contract.operations() {
        for response in
            contract.operation(&method, &path)["responses"].as_object().unwrap().values()
        {
            for content in contract.resolve(response)["content"].as_object().unwrap().values() {
                if let Some(example) = content.get("example") {
                    assert_eq!(
                        contract.conforms(&content["schema"], example),
                        Ok(()),
                        "{method} {path}"
                    );
                    count += 1;
                }
            }
        }
    }
    assert!(count > 10, "{count}");
}

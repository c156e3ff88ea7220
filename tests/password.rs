//! A database password that changes while the web tier runs: no restart, and no request that fails.

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use bson::doc;
use support::mongodb::database_of;
use support::proxy::Proxy;
use support::{Connection, Directory, Mongodb, Server, wait_for};

const USER: &str = "rotating";

/// A web tier that logs in as a user of its own, with a URI from a file.
struct Tier<'a> {
    mongodb: &'a Mongodb,
    proxy: Proxy,
    database: String,
    file: PathBuf,
    server: Server,
}

impl<'a> Tier<'a> {
    fn start(mongodb: &'a Mongodb, password: &str) -> Self {
        let proxy = Proxy::start(mongodb.port());
        let directory = Arc::new(Directory::new());
        let database = database_of(&directory);
        let file = directory.join("uri");
        fs::write(&file, uri(&proxy, &database, password)).unwrap();
        let roles: &[&str] = if mongodb.lacks("roles of users") { &[] } else { &["readWrite"] };
        let user = doc! { "createUser": USER, "pwd": password, "roles": roles };
        mongodb.client().database(&database).run_command(user).run().unwrap();
        let server = Server::start_in(directory, &[("MONGODB_URI_FILE", file.to_str().unwrap())]);
        Self { mongodb, proxy, database, file, server }
    }

    fn change_file(&self, password: &str) {
        fs::write(&self.file, uri(&self.proxy, &self.database, password)).unwrap();
    }

    fn change_user(&self, password: &str) {
        let user = doc! { "updateUser": USER, "pwd": password };
        self.mongodb.client().database(&self.database).run_command(user).run().unwrap();
    }

    fn logins(&self) -> usize {
        self.proxy.commands("saslStart").len()
    }

    #[track_caller]
    fn assert_works(&self) {
        let stored = self.server.post("{\"a\":1}");
        assert_eq!(stored.status, 201, "{}", stored.text());
        for target in ["/data", stored.header("location").unwrap()] {
            let answer = self.server.get(target);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}

fn uri(proxy: &Proxy, database: &str, password: &str) -> String {
    format!("mongodb://{USER}:{password}@{}/{database}\n", proxy.address)
}

#[test]
fn refused_login_rereads_password() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let tier = Tier::start(mongodb, "hush1");
    tier.assert_works();
    let before = tier.logins();
    // Connections that exist go on, whichever of the two changes first.
    for (old, new, file_first) in [("hush1", "hush2", false), ("hush2", "hush3", true)] {
        if file_first {
            tier.change_file(new);
        } else {
            tier.change_user(new);
        }
        tier.assert_works();
        if file_first {
            tier.change_user(new);
        } else {
            tier.change_file(new);
        }
        tier.assert_works();
        // New ones need the new password.
        let since = tier.logins();
        tier.proxy.cut();
        tier.assert_works();
        assert!(tier.logins() > since.max(before), "{old} to {new}");
    }
    let log = tier.server.log().join("\n");
    assert_eq!(log.matches("with the new URI").count(), 2, "{log}");
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn password_change_fails_no_request() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let tier = Tier::start(mongodb, "hush1");
    tier.assert_works();
    let (is_over, failures) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let answered: [AtomicUsize; 8] = Default::default();
    thread::scope(|scope| {
        for (number, answered) in answered.iter().enumerate() {
            let (address, is_over, failures) = (tier.server.address, &is_over, &failures);
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                let json = [("Content-Type", "application/json")];
                for turn in 0.. {
                    let answer = match (number + turn) % 2 {
                        0 => connection.request("POST", "/data", &json, b"{}"),
                        _ => connection.request("GET", "/data?limit=1", &[], b""),
                    };
                    if !matches!(answer.status, 200 | 201) {
                        failures.lock().unwrap().push(answer.text());
                    }
                    answered.fetch_add(1, SeqCst);
                    if is_over.load(SeqCst) {
                        return;
                    }
                    if answer.header("connection") == Some("close") {
                        connection = Connection::open(address);
                    }
                }
            });
        }
        // Until none waits for an answer that was asked for before.
        let wait = || {
            for answered in &answered {
                let before = answered.load(SeqCst);
                wait_for("more answers", || (answered.load(SeqCst) > before + 10).then_some(()));
            }
        };
        wait();
        for password in ["hush2", "hush3"] {
            tier.change_file(password);
            wait();
            tier.change_user(password);
            wait();
            // Everybody has to log in again.
            tier.proxy.cut();
            wait();
        }
        is_over.store(true, SeqCst);
    });
    assert_eq!(failures.into_inner().unwrap(), [""; 0]);
    assert!(tier.logins() > 2);
}

/// The database knows the new password some time before the web tier does.
#[test]
fn open_connections_survive_password_change() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let tier = Tier::start(mongodb, "hush1");
    tier.assert_works();
    wait_for("connections for every kind of call", || {
        (tier.proxy.commands("saslContinue").len() >= 8).then_some(())
    });
    tier.assert_works();
    let logins = tier.logins();
    tier.change_user("hush2");
    thread::scope(|scope| {
        for number in 0..8 {
            let server = &tier.server;
            scope.spawn(move || {
                for turn in 0..20 {
                    let id = format!("{number}-{turn}");
                    let answer = server.post(&format!("{{\"_id\":\"{id}\"}}"));
                    assert_eq!(answer.status, 201, "{}", answer.text());
                    assert_eq!(server.get(&format!("/data/{id}")).status, 200);
                    assert_eq!(server.get("/data?limit=3").status, 200);
                    assert_eq!(server.ops("/readyz").status, 200);
                }
            });
        }
    });
    assert_eq!(tier.logins(), logins);
    tier.change_file("hush2");
    tier.proxy.cut();
    tier.assert_works();
}

#[test]
fn unusable_new_uri_changes_nothing() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let tier = Tier::start(mongodb, "hush1");
    tier.assert_works();
    tier.change_user("hush2");
    fs::write(&tier.file, "mongodb://hush:hush@127.0.0.1").unwrap();
    tier.proxy.cut();
    wait_for("the login to be refused", || {
        let answer = tier.server.post("{}");
        (answer.status == 503 && answer.text().contains("user or password")).then_some(())
    });
    tier.server.wait_for_line("names no database");
    tier.server.post("{}").problem(503);
    tier.server.post("{}").problem(503);
    assert_eq!(tier.server.log().join("\n").matches("names no database").count(), 1);
    tier.change_file("hush2");
    wait_for("the new password", || (tier.server.post("{}").status == 201).then_some(()));
    assert!(!tier.server.log().join("\n").contains("hush"));
}

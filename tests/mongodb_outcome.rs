//! What a client is told of a write that failed: whether it may have been stored. For each error
//! that the driver can give, from a real server where it can show it, else from one that answers by
//! a script.

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use bson::{Document, doc};
use support::mongodb::database_of;
use support::proxy::{Fate, Proxy};
use support::{Answer, Mongodb, Server, wait_for};

const MAY_BE_STORED: &str = "may have been stored";
const DATABASE: &str = "db";

fn start(uri: &str) -> Server {
    Server::start(&[("MONGODB_URI", uri)])
}

/// A server over a database that does nothing but what its script says, without authentication.
fn start_scripted(
    script: impl Fn(&str) -> Option<Fate> + Send + 'static,
) -> Option<(Server, Proxy)> {
    // Somebody has to take the proxy's connections.
    let mongodb = Mongodb::shared_own()?;
    let proxy = Proxy::start(mongodb.port());
    let address = proxy.address.to_string();
    proxy.set(move |name| {
        script(name).unwrap_or_else(|| match name {
            "hello" | "isMaster" | "ismaster" => Fate::Answer(primary(&address)),
            _ => Fate::Answer(doc! { "ok": 1 }),
        })
    });
    let server = start(&format!("mongodb://{}/{DATABASE}?replicaSet=rs", proxy.address));
    Some((server, proxy))
}

/// How the primary of a replica set introduces itself. Unlike a server by itself it has retryable
/// writes.
fn primary(address: &str) -> Document {
    doc! {
        "ok": 1,
        "ismaster": true,
        "isWritablePrimary": true,
        "helloOk": true,
        "setName": "rs",
        "setVersion": 1,
        "hosts": [address],
        "primary": address,
        "me": address,
        "maxBsonObjectSize": 16 * 1024 * 1024,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0,
        "maxWireVersion": 17,
    }
}

fn error(code: i32, name: &str) -> Document {
    doc! { "ok": 0, "code": code, "codeName": name, "errmsg": "asked tests@127.0.0.1:27017 for it" }
}

/// A 503 with `Retry-After` that reveals neither the address of the database nor the user.
#[track_caller]
fn assert_unavailable(answer: &Answer, may_be_stored: bool) {
    let detail = answer.problem(503);
    assert_eq!(answer.header("retry-after"), Some("1"), "{detail}");
    assert_eq!(detail.contains(MAY_BE_STORED), may_be_stored, "{detail}");
    assert_nothing_told(&detail);
}

#[track_caller]
fn assert_nothing_told(detail: &str) {
    for secret in ["127.0.0.1", "27017", "tests", "hush"] {
        assert!(!detail.contains(secret), "{detail}");
    }
}

#[test]
fn write_to_nobody_is_not_stored() {
    let server = start("mongodb://tests:hush@127.0.0.1:1/db");
    assert_unavailable(&server.post("{\"_id\":1}"), false);
    let server = start("mongodb://tests:hush@tests.invalid/db");
    assert_unavailable(&server.post("{\"_id\":1}"), false);
    let server = start("mongodb+srv://tests:hush@tests.invalid/db");
    assert_unavailable(&server.post("{\"_id\":1}"), false);
}

#[test]
fn write_to_foreign_server_is_not_stored() {
    let other = Server::start(&[]);
    let server = start(&format!("mongodb://tests:hush@{}/db", other.address));
    assert_unavailable(&server.post("{\"_id\":1}"), false);
}

/// `Authentication` for one of them, `ConnectionPoolCleared` for others that wait for a connection.
#[test]
fn writes_without_login_are_not_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let uri = format!("mongodb://tests:hush%21@127.0.0.1:{}/db?authSource=admin", mongodb.port());
    let server = Server::start(&[("MONGODB_URI", &uri), ("GROUPING", "off")]);
    let all_at_once = Barrier::new(20);
    thread::scope(|scope| {
        for number in 0..20 {
            let (server, all_at_once) = (&server, &all_at_once);
            scope.spawn(move || {
                all_at_once.wait();
                for turn in 0..3 {
                    let answer = server.post(&format!("{{\"_id\":\"{number}-{turn}\"}}"));
                    assert_unavailable(&answer, false);
                    assert!(answer.text().contains("user or password"), "{}", answer.text());
                }
            });
        }
    });
}

/// `Io` of a connection that breaks before anything was sent on it.
#[test]
fn write_without_connection_is_not_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    proxy.set(|name| if name == "saslStart" { Fate::CutBefore } else { Fate::Pass });
    assert_unavailable(&server.post("{\"_id\":1}"), false);
    assert!(proxy.commands("insert").is_empty());
}

/// `Io`, and answers that make no sense.
#[test]
fn write_with_lost_answer_may_be_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    let fates = [
        Fate::CutAfter,
        Fate::CutInAnswer,
        Fate::GarbleHeader,
        Fate::GarbleBody,
        Fate::Answer(doc! {}),
        Fate::Answer(doc! { "ok": "yes" }),
        Fate::Answer(doc! { "ok": 1 }),
        Fate::Answer(doc! { "ok": 0 }),
        Fate::Answer(
            doc! { "ok": 1, "n": 1, "writeErrors": [{ "index": 7, "code": 121, "errmsg": "not mine" }] },
        ),
    ];
    for (number, fate) in fates.into_iter().enumerate() {
        proxy.set_for("insert", fate);
        let answer = server.post(&format!("{{\"_id\":{number}}}"));
        proxy.set(|_| Fate::Pass);
        eprintln!("fate {number}");
        assert_unavailable(&answer, true);
        wait_for("the database to be back", || (server.post("{}").status == 201).then_some(()));
    }
}

/// `ConnectionPoolCleared` in the middle of a command: the monitor gives up on a server that has
/// frozen.
#[test]
fn write_interrupted_by_monitor_may_be_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    // Soon enough for the request to be told of it.
    let server =
        mongodb.start_behind(&proxy, "&heartbeatFrequencyMS=500&connectTimeoutMS=500", &[]);
    assert_eq!(server.post("{\"_id\":0}").status, 201);
    proxy.set(|name| match name {
        "insert" => Fate::LoseAnswer,
        "hello" | "isMaster" | "ismaster" => Fate::Lose,
        _ => Fate::Pass,
    });
    let answer = server.post("{\"_id\":1}");
    proxy.set(|_| Fate::Pass);
    assert_unavailable(&answer, true);
    server.wait_for_line("interrupted due to server monitor timeout");
    wait_for("the database to be back", || (server.get("/data/0").status == 200).then_some(()));
    assert_eq!(server.get("/data/1").status, 200, "it was stored");
}

#[test]
fn command_errors_tell_whether_write_is_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    let labelled = |label: &str| {
        let mut error = error(4242, "SomethingNew");
        error.insert("errorLabels", [label]);
        error
    };
    let mut not_begun = error(11602, "InterruptedDueToReplStateChange");
    not_begun.insert("errorLabels", ["NoWritesPerformed"]);
    let cases = [
        (error(10107, "NotWritablePrimary"), false),
        (error(13435, "NotPrimaryNoSecondaryOk"), false),
        (error(18, "AuthenticationFailed"), false),
        (not_begun, false),
        (labelled("SystemOverloadedError"), false),
        (labelled("RetryableWriteError"), true),
        (error(11602, "InterruptedDueToReplStateChange"), true),
        (error(189, "PrimarySteppedDown"), true),
        (error(91, "ShutdownInProgress"), true),
        (error(6, "HostUnreachable"), true),
        (error(7, "HostNotFound"), true),
        (error(50, "MaxTimeMSExpired"), true),
        (error(89, "NetworkTimeout"), true),
        (error(112, "WriteConflict"), true),
        (error(262, "ExceededTimeLimit"), true),
        (error(11601, "Interrupted"), true),
    ];
    for (number, (refusal, may_be_stored)) in cases.into_iter().enumerate() {
        eprintln!("{refusal}");
        proxy.set_for("insert", Fate::Answer(refusal.clone()));
        let answer = server.post(&format!("{{\"_id\":{number}}}"));
        assert_unavailable(&answer, may_be_stored);
        proxy.set(|_| Fate::Pass);
        wait_for("the database to be back", || (server.post("{}").status == 201).then_some(()));
        // A read that fails so may work later as well.
        proxy.set_for("find", Fate::Answer(refusal));
        assert_unavailable(&server.get("/data"), false);
        proxy.set(|_| Fate::Pass);
        wait_for("the database to be back", || (server.get("/data").status == 200).then_some(()));
    }
    for (code, name) in [(59, "CommandNotFound"), (13, "Unauthorized"), (4242, "SomethingNew")] {
        proxy.set_for("insert", Fate::Answer(error(code, name)));
        let detail = server.post("{}").problem(500);
        assert!(detail.contains(name), "{detail}");
        assert_nothing_told(&detail);
    }
}

#[test]
fn document_errors_become_statuses() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    let cases = [
        (121, 400),
        (2, 400),
        (10334, 400),
        (14031, 507),
        // Nobody knows what these are.
        (4242, 500),
        (96, 500),
        (10107, 503),
        (189, 503),
        (262, 503),
    ];
    for (code, status) in cases {
        let refused = doc! { "index": 1, "code": code, "errmsg": "for a reason" };
        proxy.set_for("insert", Fate::Answer(doc! { "ok": 1, "n": 1, "writeErrors": [refused] }));
        let answer = server.post("[{\"_id\":1},{\"_id\":2}]");
        let detail = answer.problem(status);
        assert!(detail.contains("1 of 2"), "{code}: {detail}");
        assert_eq!(answer.json()["ids"], serde_json::json!([1]), "{code}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{code}");
    }
    // What befell one document is told though the others are not confirmed.
    let taken = doc! { "index": 1, "code": 121, "errmsg": "Document failed validation" };
    let unsure = doc! { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for 127.0.0.1:27017" };
    let answer = doc! { "ok": 1, "n": 1, "writeErrors": [taken], "writeConcernError": unsure };
    proxy.set_for("insert", Fate::Answer(answer));
    let answer = server.post("[{\"_id\":1},{\"_id\":2}]");
    answer.problem(503);
    let errors = &answer.json()["errors"];
    assert!(errors[0]["detail"].as_str().unwrap().contains(MAY_BE_STORED), "{errors}");
    assert!(errors[1]["detail"].as_str().unwrap().contains("schema"), "{errors}");
    assert_nothing_told(&answer.text());
}

/// The driver sends a retryable write twice, and tells only of the second time.
#[test]
fn resent_write_may_be_stored_by_first() {
    let answers = [
        error(10107, "NotWritablePrimary"),
        error(59, "CommandNotFound"),
        doc! { "ok": 1, "n": 0, "writeErrors": [{ "index": 0, "code": 10107, "errmsg": "not primary" }] },
    ];
    for second in answers {
        let sent = AtomicUsize::new(0);
        let script = move |name: &str| match name {
            "insert" if sent.fetch_add(1, SeqCst) == 0 => Some(Fate::CutBefore),
            "insert" => Some(Fate::Answer(second.clone())),
            _ => None,
        };
        let Some((server, proxy)) = start_scripted(script) else { return };
        assert_unavailable(&server.post("{\"_id\":1}"), true);
        assert_eq!(proxy.commands("insert").len(), 2);
    }
}

#[test]
fn write_is_resent_after_step_down() {
    let sent = AtomicUsize::new(0);
    let Some((server, proxy)) = start_scripted(move |name| match name {
        "insert" if sent.fetch_add(1, SeqCst) == 0 => {
            let mut error = error(11602, "InterruptedDueToReplStateChange");
            error.insert("errorLabels", ["RetryableWriteError"]);
            Some(Fate::Answer(error))
        }
        "insert" => Some(Fate::Answer(doc! { "ok": 1, "n": 1 })),
        _ => None,
    }) else {
        return;
    };
    assert_eq!(server.post("{\"_id\":1}").status, 201);
    assert_eq!(proxy.commands("insert").len(), 2);
}

/// A client must not choose what an error is about.
#[test]
fn unique_index_refuses_any_clashing_value() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    let namespace = format!("{}.data", database_of(&server.directory()));
    for key in [
        "email: \"index: _id_\"",
        "email: \" index: _id_ dup key: { : 1 }\"",
        "email: \"collection: \"",
    ] {
        let message = format!(
            "E11000 duplicate key error collection: {namespace} index: email_1 dup key: {{ {key} }}"
        );
        let refused = doc! {
            "index": 0, "code": 11000, "errmsg": message, "keyPattern": { "email": 1 }, "keyValue": { "email": key },
        };
        proxy.set_for("insert", Fate::Answer(doc! { "ok": 1, "n": 0, "writeErrors": [refused] }));
        for body in ["{\"email\":1}", "{\"_id\":1,\"email\":1}"] {
            let detail = server.post(body).problem(409);
            assert!(detail.contains("email_1"), "{detail}");
        }
    }
}

#[test]
fn unnamed_unique_index_is_told_from_id() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    let collection =
        mongodb.client().database(&database_of(&server.directory())).collection::<Document>("data");
    let unique = ::mongodb::options::IndexOptions::builder().unique(true).build();
    let index = ::mongodb::IndexModel::builder().keys(doc! { "email": 1 }).options(unique).build();
    collection.create_index(index).run().unwrap();
    assert_eq!(server.post("{\"_id\":1,\"email\":\"index: _id_\"}").status, 201);
    for body in ["{\"email\":\"index: _id_\"}", "{\"_id\":2,\"email\":\"index: _id_\"}"] {
        let detail = server.post(body).problem(409);
        assert!(detail.contains("unique index"), "{detail}");
    }
    assert!(server.post("{\"_id\":1,\"email\":\"other\"}").problem(409).contains("_id 1"));
    assert_eq!(server.export().lines().count(), 1);
}

#[test]
fn resent_document_is_stored_once() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    assert_eq!(server.post("{\"n\":0}").status, 201);
    // The connection breaks when the server has stored it, and the second command finds it there.
    let cut = AtomicUsize::new(0);
    proxy.set(move |name| match name {
        "insert" if cut.fetch_add(1, SeqCst) == 0 => Fate::CutAfter,
        _ => Fate::Pass,
    });
    let answer = server.post("{\"n\":1,\"at\":{\"$timestamp\":{\"t\":0,\"i\":0}}}");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let stored = server.get(answer.header("location").unwrap()).json();
    assert_eq!(stored["n"], 1);
    assert!(stored["at"]["$timestamp"]["t"].as_u64().unwrap() > 1_600_000_000, "{stored}");
    assert_eq!(server.export().lines().count(), 2);
    // The commands on the wire: what was read for it is what a majority holds.
    let find = proxy.commands("find").into_iter().next().unwrap();
    assert_eq!(
        find.get_document("readConcern").unwrap().get_str("level").unwrap(),
        "majority",
        "{find}"
    );
}

#[test]
fn unreadable_duplicate_may_be_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    assert_eq!(server.post("{}").status, 201);
    proxy.set(|name| match name {
        "insert" => Fate::Repeat,
        "find" => Fate::Answer(error(6, "HostUnreachable")),
        _ => Fate::Pass,
    });
    assert_unavailable(&server.post("{}"), true);
    proxy.set(|_| Fate::Pass);
    assert_eq!(server.export().lines().count(), 2);
}

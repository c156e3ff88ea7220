//! What a client of the web tier sees when the database fails, whatever way it fails: an answer
//! within five seconds that says what is wrong, the same on /readyz, which goes on being ready once
//! the database was reached, one line in the log, no password anywhere; and when the database is
//! back, documents again within two.

mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bson::{Document, doc};
use support::mongodb::{assert_no_secret, database_of};
use support::proxy::{Fate, Proxy};
use support::watch::Watch;
use support::{Answer, Connection, Directory, Mongodb, Server, wait_for};

/// How long any request may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How long the first request may take that comes when the database is back.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// How /readyz may take: a probe of Kubernetes gives up after a second.
const PROBED_WITHIN: Duration = Duration::from_secs(1);
const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];
/// Where nobody listens.
const CLOSED_PORT: u16 = 1;

fn start(uri: &str, directory: Arc<Directory>) -> Server {
    Server::start_in(directory, &[("MONGODB_URI", uri)])
}

/// All that one can ask for, at once; each with what it is, and checked for the time that it took.
fn ask_for_everything(server: &Server) -> Vec<(&'static str, Answer)> {
    const EXPORT: [(&str, &str); 1] = [("Accept", "application/x-ndjson")];
    const IMPORT: [(&str, &str); 1] = [("Content-Type", "application/x-ndjson")];
    let requests: [(&str, &str, &str, &[_], &[u8]); 7] = [
        ("a page", "GET", "/data", &[], b""),
        ("the head of a page", "HEAD", "/data?limit=3", &[], b""),
        ("an export", "GET", "/data", &EXPORT, b""),
        ("a document", "GET", "/data/1", &[], b""),
        ("one to store", "POST", "/data", &JSON, b"{}"),
        ("several to store", "POST", "/data", &JSON, b"[{},{}]"),
        ("an import", "POST", "/data", &IMPORT, b"{}\n{}\n"),
    ];
    let ask = |what, method: &str, target: &str, headers: &[_], body: &[u8]| {
        let since = Watch::start();
        let answer = server.request(method, target, headers, body);
        assert!(since.elapsed() < ANSWERED_WITHIN, "{what} took {:?}", since.elapsed());
        (what, answer)
    };
    thread::scope(|scope| {
        let asked = requests.map(|(what, method, target, headers, body)| {
            scope.spawn(move || ask(what, method, target, headers, body))
        });
        asked.into_iter().map(|answer| answer.join().unwrap()).collect()
    })
}

/// Everything is answered 503 with when to try again, and nobody but the operator is told `cause`.
#[track_caller]
fn assert_unavailable(server: &Server, cause: &str) {
    for (what, answer) in ask_for_everything(server) {
        assert_eq!(answer.header("retry-after"), Some("1"), "{what}: {}", answer.text());
        if what != "the head of a page" {
            let detail = answer.problem(503);
            for secret in ["127.0.0.1", "nowhere", "tests", "hush", "os error"] {
                assert!(!detail.contains(secret), "{what}: {detail}");
            }
        }
    }
    let readiness = wait_for("/readyz to say so", || {
        Some(probe(server)).filter(|answer| answer.text() != "ready\n")
    });
    assert_eq!(readiness.text().lines().count(), 1, "{}", readiness.text());
    let was_reached = readiness.text().starts_with("ready, but");
    assert_eq!(readiness.status, if was_reached { 200 } else { 503 }, "{}", readiness.text());
    wait_for("/readyz to say why", || probe(server).text().contains(cause).then_some(()));
    assert_eq!(server.metric("two_tier_database_up"), 0.0);
    assert_eq!(server.ops("/healthz").status, 200, "the process itself is well");
    assert_no_secret(server);
}

/// What /readyz answers a probe.
#[track_caller]
fn probe(server: &Server) -> Answer {
    let since = Watch::start();
    let readiness = server.ops("/readyz");
    assert!(since.elapsed() < PROBED_WITHIN, "/readyz took {:?}", since.elapsed());
    readiness
}

/// Everything works.
#[track_caller]
fn assert_works(server: &Server) {
    for (what, answer) in ask_for_everything(server) {
        assert!(matches!(answer.status, 200 | 201 | 404), "{what}: {}", answer.text());
    }
    wait_for("/readyz to know it", || (probe(server).text() == "ready\n").then_some(()));
    assert_eq!((probe(server).status, server.metric("two_tier_database_up")), (200, 1.0));
}

/// Everything works again, soon after now.
#[track_caller]
fn assert_back(server: &Server) {
    let since = Watch::start();
    wait_for("the first write", || (server.post("{}").status == 201).then_some(()));
    assert!(since.elapsed() < BACK_WITHIN, "{:?}", since.elapsed());
    assert_works(server);
}

/// The log says that reading, or writing, fails: so many times.
#[track_caller]
fn assert_logged(server: &Server, what: &str, times: usize) {
    let log = server.log();
    let lines: Vec<&String> = log.iter().filter(|line| line.contains(what)).collect();
    assert_eq!(lines.len(), times, "{what}: {lines:#?}");
}

#[test]
fn refused_connection_gets_503() {
    let uri = format!("mongodb://tests:hush%21@127.0.0.1:{CLOSED_PORT}/db");
    let server = start(&uri, Arc::new(Directory::new()));
    for _ in 0..2 {
        assert_unavailable(&server, "refused");
    }
    assert_logged(&server, "cannot read", 1);
    assert_logged(&server, "cannot write", 1);
}

#[test]
fn unknown_host_gets_503() {
    let server = start("mongodb://tests:hush%21@nowhere.invalid/db", Arc::new(Directory::new()));
    assert_unavailable(&server, "lookup address");
}

#[test]
fn unknown_srv_name_gets_503() {
    let server =
        start("mongodb+srv://tests:hush%21@cluster.nowhere.invalid/db", Arc::new(Directory::new()));
    assert_unavailable(&server, "nowhere.invalid");
}

#[test]
fn wrong_password_gets_503() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    for (user, password) in [("tests", "hush%2Fwrong"), ("nobody", "hush")] {
        let uri =
            format!("mongodb://{user}:{password}@127.0.0.1:{}/db?authSource=admin", mongodb.port());
        let server = start(&uri, Arc::new(Directory::new()));
        assert_unavailable(&server, "user or password");
        assert_logged(&server, "cannot read", 1);
        assert_logged(&server, "cannot write", 1);
    }
}

#[test]
fn server_of_other_protocol_gets_503() {
    // It answers in HTTP.
    let other = Server::start(&[]);
    let uri = format!("mongodb://tests:hush%21@{}/db", other.address);
    let server = start(&uri, Arc::new(Directory::new()));
    assert_unavailable(&server, "MongoDB");
}

#[test]
fn start_succeeds_while_database_is_down() {
    let Some(mongodb) = Mongodb::start() else { return };
    mongodb.kill();
    let directory = Arc::new(Directory::new());
    let server = start(&mongodb.uri(&database_of(&directory)), directory);
    assert_unavailable(&server, "refused");
    mongodb.restart();
    assert_back(&server);
    assert_logged(&server, "can read from the database again", 1);
    assert_logged(&server, "can write to the database again", 1);
    assert_no_secret(&server);
}

#[test]
fn silent_database_costs_only_timeouts() {
    let Some(mongodb) = Mongodb::start() else { return };
    let directory = Arc::new(Directory::new());
    let server = start(&mongodb.uri(&database_of(&directory)), directory);
    // Everything once, so that whatever threads it takes are there.
    assert_works(&server);
    let before = server.threads();

    mongodb.signal("STOP");
    for _ in 0..3 {
        assert_unavailable(&server, "");
        // As many as there may be, and then they wait.
        assert!(server.threads() < before + 40, "{} threads, {before} before", server.threads());
    }
    assert_logged(&server, "cannot read", 1);
    assert_logged(&server, "cannot write", 1);
    mongodb.signal("CONT");
    mongodb.client().database("admin").run_command(doc! { "ping": 1 }).run().unwrap();
    assert_back(&server);
    wait_for("the threads to be as many as before", || {
        (server.threads() <= before + 2).then_some(())
    });
    assert_no_secret(&server);
}

#[test]
fn silent_database_gets_200_clients_answered() {
    let Some(mongodb) = Mongodb::start() else { return };
    let directory = Arc::new(Directory::new());
    let uri = mongodb.uri(&database_of(&directory));
    let server = Server::start_in(directory, &[("MONGODB_URI", &uri), ("LOG", "off")]);
    assert_works(&server);
    let (stopped, slowest) = (AtomicBool::new(false), Mutex::new(Duration::ZERO));
    thread::scope(|scope| {
        for client in 0..200 {
            let (server, stopped, slowest) = (&server, &stopped, &slowest);
            scope.spawn(move || {
                let mut connection = Connection::open(server.address);
                for turn in 0.. {
                    let was_stopped = stopped.load(SeqCst);
                    let since = Watch::start();
                    let answer = match client % 2 {
                        0 => connection.request("POST", "/data", &JSON, b"{}"),
                        _ => connection.request(
                            "GET",
                            &format!("/data?limit={}", 1 + turn % 3),
                            &[],
                            b"",
                        ),
                    };
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = since.elapsed().max(*slowest);
                    drop(slowest);
                    assert!(matches!(answer.status, 200 | 201 | 503), "{}", answer.text());
                    if was_stopped {
                        return;
                    }
                    if answer.header("connection") == Some("close") {
                        connection = Connection::open(server.address);
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        mongodb.signal("STOP");
        stopped.store(true, SeqCst);
    });
    let slowest = slowest.into_inner().unwrap();
    assert!(slowest < ANSWERED_WITHIN, "{slowest:?}");
    mongodb.signal("CONT");
    assert_back(&server);
}

#[test]
fn network_faults_get_503_until_over() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let fates = [
        Fate::CutBefore,
        Fate::CutAfter,
        Fate::Lose,
        Fate::LoseAnswer,
        Fate::GarbleHeader,
        Fate::GarbleBody,
        Fate::CutInAnswer,
        Fate::DelayAnswer(Duration::from_secs(6)),
    ];
    // Each takes its seconds, so all at once.
    thread::scope(|scope| {
        for fate in fates {
            scope.spawn(move || {
                let proxy = Proxy::start(mongodb.port());
                let server = mongodb.start_behind(&proxy, "", &[]);
                assert_works(&server);
                // The monitor and the greeting get through or not: both are such that occur.
                for everything in [false, true] {
                    let fate = fate.clone();
                    proxy.set(move |name| match name {
                        "insert" | "find" | "ping" => fate.clone(),
                        _ if everything => fate.clone(),
                        _ => Fate::Pass,
                    });
                    assert_unavailable(&server, "");
                    proxy.set(|_| Fate::Pass);
                    if everything {
                        proxy.cut();
                    }
                    assert_back(&server);
                }
            });
        }
    });
}

#[test]
fn cut_idle_connections_are_reopened() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    for _ in 0..3 {
        assert_works(&server);
        proxy.cut();
        assert_back(&server);
    }
}

#[test]
fn unanswered_write_may_have_been_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    for (n, fate) in [Fate::CutAfter, Fate::LoseAnswer, Fate::CutInAnswer, Fate::GarbleHeader]
        .into_iter()
        .enumerate()
    {
        proxy.set_for("insert", fate);
        let document = format!("{{\"_id\":{n}}}");
        let detail = server.post(&document).problem(503);
        assert!(detail.contains("may have been stored") && detail.contains("_id"), "{detail}");
        proxy.set(|_| Fate::Pass);
        // It was, and doing as the detail says tells so.
        server.post(&document).problem(409);
    }
    // What was never sent is not said to have been.
    for (n, fate) in [Fate::CutBefore, Fate::Lose].into_iter().enumerate() {
        proxy.set_for("insert", fate);
        let document = format!("{{\"_id\":\"{n}\"}}");
        // The server can't know that, however.
        assert!(server.post(&document).problem(503).contains("may have been stored"));
        proxy.set(|_| Fate::Pass);
        assert_eq!(server.post(&document).status, 201);
    }
    // A read changes nothing.
    proxy.set_for("find", Fate::CutAfter);
    assert!(!server.get("/data").problem(503).contains("may have been stored"));
}

#[test]
fn queued_write_is_not_called_stored() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    assert_works(&server);
    proxy.set_for("insert", Fate::Lose);
    // As many as there are threads for them may get stuck, the others are never sent. Each fills a
    // command.
    let details: Vec<String> = thread::scope(|scope| {
        let posts: Vec<_> = (0..40)
            .map(|n| {
                let server = &server;
                let documents: Vec<String> =
                    (0..1000).map(|index| format!("{{\"_id\":\"write {n}.{index}\"}}")).collect();
                scope.spawn(move || server.post(&format!("[{}]", documents.join(","))).problem(503))
            })
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    let sent: usize =
        details.iter().filter(|detail| detail.contains("may have been stored")).count();
    assert!(sent > 0 && sent < 40, "{details:#?}");
    proxy.set(|_| Fate::Pass);
    proxy.cut();
    assert_back(&server);
    // What was said not to have been sent is not there, now or later.
    for (n, detail) in details.iter().enumerate() {
        if !detail.contains("may have been stored") {
            assert!(detail.contains("nothing was stored"), "{detail}");
            assert_eq!(server.get(&format!("/data/write%20{n}.0")).status, 404);
        }
    }
}

#[test]
fn unanswered_commands_are_given_up() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    assert_works(&server);
    let before = server.threads();
    // The driver's monitor is answered, and so sees nothing wrong.
    proxy.set(
        |name| if matches!(name, "find" | "insert" | "ping") { Fate::Lose } else { Fate::Pass },
    );
    for _ in 0..3 {
        assert_unavailable(&server, "");
    }
    proxy.set(|_| Fate::Pass);
    assert_back(&server);
    proxy.cut();
    wait_for("the threads to be as many as before", || {
        (server.threads() <= before + 2).then_some(())
    });
}

#[test]
fn database_errors_become_statuses() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    let namespace = format!("{}.data", database_of(&server.directory()));
    let error = |code: i32, name: &str, message: &str| doc! { "ok": 0, "code": code, "codeName": name, "errmsg": message };
    let cases: [(Document, u16, &str); 8] = [
        (error(10107, "NotWritablePrimary", "not primary"), 503, "no primary"),
        (error(189, "PrimarySteppedDown", "stepping down"), 503, "may have been stored"),
        (error(91, "ShutdownInProgress", "shutting down"), 503, "may have been stored"),
        (
            error(11602, "InterruptedDueToReplStateChange", "interrupted"),
            503,
            "may have been stored",
        ),
        (error(50, "MaxTimeMSExpired", "too long"), 503, "may have been stored"),
        (error(14031, "OutOfDiskSpace", "disk full"), 507, "no room"),
        (error(13, "Unauthorized", "not authorized on db"), 500, "readWrite"),
        (error(59, "CommandNotFound", "no such command"), 500, "CommandNotFound"),
    ];
    for (answer, status, words) in cases {
        proxy.set_for("insert", Fate::Answer(answer.clone()));
        let answered = server.post("{}");
        let detail = answered.problem(status);
        assert!(detail.contains(words), "{answer}: {detail}");
        assert_eq!(answered.header("retry-after").is_some(), status == 503, "{answer}");
        proxy.set(|_| Fate::Pass);
        // Some of them make the driver look for the server anew.
        wait_for("the database to be back", || (server.post("{}").status == 201).then_some(()));
    }
    // The documents are there, but not as safe as they were to be.
    let unsure = doc! { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out" };
    proxy.set_for("insert", Fate::Answer(doc! { "ok": 1, "n": 1, "writeConcernError": unsure }));
    let detail = server.post("{}").problem(503);
    assert!(
        detail.contains("did not confirm") && detail.contains("may have been stored"),
        "{detail}"
    );
    // Each caller gets what concerns its own documents.
    let full = doc! { "index": 0, "code": 14031, "errmsg": "disk full" };
    proxy.set_for("insert", Fate::Answer(doc! { "ok": 1, "n": 1, "writeErrors": [full] }));
    assert!(server.post("[{},{}]").problem(507).contains("1 of 2 documents were not stored"));
    let invalid = doc! { "index": 0, "code": 121, "errmsg": "Document failed validation" };
    proxy.set_for("insert", Fate::Answer(doc! { "ok": 1, "n": 0, "writeErrors": [invalid] }));
    assert!(server.post("{}").problem(400).contains("schema"));
    let taken = doc! { "index": 0, "code": 11000, "errmsg": format!("E11000 duplicate key error collection: {namespace} index: email_1 dup key: {{}}") };
    proxy.set_for("insert", Fate::Answer(doc! { "ok": 1, "n": 0, "writeErrors": [taken] }));
    assert!(server.post("{}").problem(409).contains("email_1"));
    // Reads as well.
    proxy.set_for("find", Fate::Answer(error(13, "Unauthorized", "not authorized on db")));
    server.get("/data").problem(500);
    server.get("/data/1").problem(500);
    proxy.set_for("find", Fate::Answer(error(13435, "NotPrimaryNoSecondaryOk", "not primary")));
    assert!(server.get("/data").problem(503).contains("no primary"));
}

#[test]
fn disconnected_readers_delay_no_later_request() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    for n in 0..20 {
        assert_eq!(
            server.post(&format!("{{\"_id\":{n},\"a\":\"{}\"}}", "x".repeat(10_000))).status,
            201
        );
    }
    // In the middle of the first queries, and before the later ones; half of them in good order,
    // half without a word.
    proxy.set_for("find", Fate::DelayAnswer(Duration::from_millis(100)));
    let mut hung_up = Vec::new();
    for n in 0..200 {
        let mut connection = Connection::open(server.address);
        connection.send(
            format!("GET /data?limit={} HTTP/1.1\r\nHost: test\r\n\r\n", 1 + n % 8).as_bytes(),
        );
        if n % 2 == 0 {
            let _ = connection.stream().shutdown(std::net::Shutdown::Both);
        }
        hung_up.push(connection);
    }
    drop(hung_up);
    proxy.set(|_| Fate::Pass);
    assert_back(&server);
    // As few as before: nobody's connection to the database was given up.
    let pool = server.metric("two_tier_database_connections");
    assert!(pool < 20.0, "{pool} connections");
}

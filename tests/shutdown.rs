//! SIGTERM and SIGINT: whoever was let in gets an answer, whoever comes later is refused, and then
//! the process ends.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::mongodb::database_of;
use support::proxy::{Fate, Proxy};
use support::{Connection, Directory, Mongodb, PATIENCE, Server, Store, wait_for};

stores!(shutdown_answers_admitted_requests_under_load);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// A connection on which a document is half sent, and the rest of it.
fn half_a_post(server: &Server) -> (Connection, &'static [u8]) {
    let mut connection = Connection::open(server.address);
    let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
    connection.send(format!("{head}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n").as_bytes());
    // Now the request is in progress beyond doubt.
    assert_eq!(connection.read_answer().unwrap().status, 100);
    connection.send(b"{\"_id");
    (connection, b"\":1}")
}

fn expect_stored(mut connection: Connection, rest: &[u8]) {
    connection.send(rest);
    let answer = connection.read_answer().expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(connection.read_to_end(), b"");
}

#[track_caller]
fn expect_success(server: &mut Server) {
    let status = server.wait_for_exit();
    assert!(status.success(), "{status}");
}

#[test]
fn shutdown_finishes_requests_and_refuses_new() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let (connection, rest) = half_a_post(&server);
        let mut idle = Connection::open(server.address);
        idle.send(GET);
        assert_eq!(idle.read_answer().unwrap().status, 200);
        server.signal(signal);
        server.wait_for_line(signal);
        assert_eq!(idle.read_to_end(), b"", "an idle connection is closed without a byte");
        wait_for("newcomers to be refused", || Connection::try_open(server.address).err());
        expect_stored(connection, rest);
        expect_success(&mut server);
        let server = Server::start_in(server.directory(), &[]);
        assert_eq!(server.export(), "{\"_id\":1}\n");
    }
}

#[test]
fn readyz_fails_before_requests_do() {
    let mut server = Server::start(&[("SHUTDOWN_DELAY", "3s")]);
    let mut kept = Connection::open(server.address);
    assert_eq!(kept.request("GET", "/", &[], b"").header("connection"), None);
    assert_eq!(server.ops("/readyz").status, 200);
    let asked = Instant::now();
    server.signal("TERM");
    let text = wait_for("/readyz to fail", || {
        let answer = server.ops("/readyz");
        (answer.status == 503).then(|| answer.text())
    });
    assert!(text.contains("shutting down"), "{text}");
    assert_eq!(server.ops("/healthz").status, 200);
    // Newcomers and kept connections are answered, and told that it is the last answer.
    let answers = [server.get("/"), kept.request("GET", "/", &[], b""), server.post("{}")];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200, 201]);
    assert!(answers.iter().all(|answer| answer.header("connection") == Some("close")));
    assert_eq!(kept.read_to_end(), b"");
    expect_success(&mut server);
    assert!(asked.elapsed() >= Duration::from_secs(3));
}

#[test]
fn shutdown_timeout_ends_endless_request() {
    let mut server = Server::start(&[("SHUTDOWN_TIMEOUT", "1s")]);
    let mut endless = Connection::open(server.address);
    let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n";
    endless.send(
        format!("{head}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
    );
    assert_eq!(endless.read_answer().unwrap().status, 100);
    let mut stream = endless.stream().try_clone().unwrap();
    let dribbling = thread::spawn(move || while stream.write_all(b"3\r\n{}\n\r\n").is_ok() {});
    let asked = Instant::now();
    server.signal("TERM");
    server.wait_for_line("SHUTDOWN_TIMEOUT");
    assert!(asked.elapsed() >= Duration::from_secs(1));
    expect_success(&mut server);
    dribbling.join().unwrap();
    // What was on its way into the store then is no obstacle to the next start.
    Server::start_in(server.directory(), &[]);
}

#[test]
fn silent_database_does_not_delay_shutdown() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    // Requests are given up after 5 s: before the end in one case, with it in the other.
    thread::scope(|scope| {
        for (delay, timeout) in [(0, 6), (1, 2)] {
            scope.spawn(move || expect_end_in_time(mongodb, delay, timeout));
        }
    });
}

/// Stops a server whose calls to the database are stuck, and measures how long that takes. Times
/// are in seconds.
fn expect_end_in_time(mongodb: &Mongodb, delay: u64, timeout: u64) {
    let proxy = Proxy::start(mongodb.port());
    let directory = Arc::new(Directory::new());
    let uri = mongodb.uri_through(&proxy, &database_of(&directory));
    let [shutdown_delay, shutdown_timeout] = [delay, timeout].map(|seconds| format!("{seconds}s"));
    let settings =
        [("SHUTDOWN_DELAY", shutdown_delay.as_str()), ("SHUTDOWN_TIMEOUT", &shutdown_timeout)];
    let mut server =
        Server::start_in(directory, &[&[("MONGODB_URI", uri.as_str())], &settings[..]].concat());
    assert_eq!(server.post("{\"_id\":1}").status, 201);
    // The driver's monitor is answered, and so breaks nothing off.
    proxy.set(
        |name| if matches!(name, "find" | "insert" | "ping") { Fate::Lose } else { Fate::Pass },
    );
    // Each kind of call, several of each, the later ones while the first are stuck.
    let mut stuck = Vec::new();
    for _ in 0..3 {
        for request in ["GET /data", "GET /data/1", "POST /data"] {
            let mut connection = Connection::open(server.address);
            let headers = "Host: test\r\nContent-Type: application/json\r\nContent-Length: 2";
            connection.send(format!("{request} HTTP/1.1\r\n{headers}\r\n\r\n{{}}").as_bytes());
            stuck.push(connection);
        }
        // A probe asks for the fourth kind of call, or no more than what is known.
        server.ops("/readyz");
    }
    let asked = Instant::now();
    server.signal("TERM");
    expect_success(&mut server);
    let most = Duration::from_secs(delay + timeout + 2);
    assert!(asked.elapsed() < most, "{:?}, not {most:?}", asked.elapsed());
}

#[test]
fn second_signal_ends_process_at_once() {
    let mut server = Server::start(&[("SHUTDOWN_DELAY", "600s")]);
    let (_connection, _) = half_a_post(&server);
    server.signal("TERM");
    server.wait_for_line("shutting down");
    server.signal("INT");
    assert_eq!(server.wait_for_exit().code(), Some(130));
}

#[test]
fn shutdown_serves_waiting_clients() {
    let mut server = Server::start(&[("MAX_CONNECTIONS", "2")]);
    let taken = [half_a_post(&server), half_a_post(&server)];
    let mut waiting: Vec<Connection> = (0..30).map(|_| Connection::open(server.address)).collect();
    waiting.iter_mut().for_each(|connection| connection.send(GET));
    server.signal("TERM");
    server.wait_for_line("shutting down");
    let [(first, rest), (mut second, _)] = taken;
    expect_stored(first, rest);
    for mut connection in waiting {
        let answer = connection.read_answer().expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    second.send(rest);
    second.read_answer().unwrap().problem(409);
    expect_success(&mut server);
}

#[test]
fn steady_new_clients_do_not_prevent_shutdown() {
    let mut server = Server::start(&[("SHUTDOWN_TIMEOUT", "10s"), ("LOG", "off")]);
    let address = server.address;
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                // Each connects, asks and waits for the end, and comes again until it is refused.
                while let Ok(mut stream) = TcpStream::connect(address) {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                        .unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
                    answered.fetch_add(1, SeqCst);
                }
            });
        }
        wait_for("load", || (answered.load(SeqCst) > 500).then_some(()));
        server.signal("TERM");
        expect_success(&mut server);
    });
}

fn shutdown_answers_admitted_requests_under_load(store: Store) {
    for signal in ["TERM", "INT"] {
        let mut server = store.start(&[("SHUTDOWN_TIMEOUT", "10s"), ("LOG", "off")]);
        let address = server.address;
        let acknowledged = AtomicUsize::new(0);
        thread::scope(|scope| {
            for client in 0..40 {
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    let mut kept = None;
                    for turn in 0.. {
                        let Some(mut connection) =
                            kept.take().or_else(|| Connection::try_open(address).ok())
                        else {
                            return;
                        };
                        let id = format!("{client}-{turn}");
                        let body = json!({"_id": id}).to_string();
                        let headers = [("Content-Type", "application/json")];
                        let answer = connection.request("POST", "/data", &headers, body.as_bytes());
                        assert_eq!(answer.json()["ids"], json!([id]));
                        acknowledged.fetch_add(1, SeqCst);
                        // Half of the clients keep their connection for as long as they may.
                        if client % 2 == 0 && answer.header("connection").is_none() {
                            kept = Some(connection);
                        }
                    }
                });
            }
            wait_for("load", || (acknowledged.load(SeqCst) > 500).then_some(()));
            server.signal(signal);
            expect_success(&mut server);
        });
        let server = store.start_in(server.directory(), &[]);
        assert_eq!(server.export().lines().count(), acknowledged.into_inner());
    }
}

//! One deadline per request: whatever the server waits for on the way adds up to less than five
//! seconds.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::proxy::{Fate, Proxy};
use support::{Connection, Mongodb};

/// Once the whole request is there.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 64 * 1024;
/// As many bodies of MAX_BODY as may be in memory at once.
const BODIES: usize = 16;

fn head(length: usize) -> String {
    format!(
        "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[test]
fn request_waits_share_one_deadline() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("MAX_BODY", &MAX_BODY.to_string())]);
    assert_eq!(server.post("{}").status, 201);
    proxy.set_for("insert", Fate::Lose);

    // Bodies that have begun hold all the memory that there is for them; one of them is given up
    // after three seconds.
    let mut holders: Vec<Connection> = (0..BODIES)
        .map(|_| {
            let mut connection = Connection::open(server.address);
            connection.send(format!("{}{{", head(MAX_BODY)).as_bytes());
            connection
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    let body = format!("{{{}}}", " ".repeat(MAX_BODY - 2));
    let mut waiting = Connection::open(server.address);
    let since = Instant::now();
    waiting.send(format!("{}{body}", head(MAX_BODY)).as_bytes());
    thread::sleep(Duration::from_secs(3));
    holders.pop();
    // So it waited for the memory, and then for the database, which never answers.
    waiting.read_answer().expect("an answer").problem(503);
    assert!(since.elapsed() < ANSWERED_WITHIN, "{:?}", since.elapsed());
}

#[test]
fn import_waits_do_not_add_up() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    assert_eq!(server.post("{}").status, 201);
    proxy.set_for("insert", Fate::Lose);
    // Several batches, of which two are on their way at once.
    let since = Instant::now();
    server.import(&"{}\n".repeat(2500)).problem(503);
    assert!(since.elapsed() < ANSWERED_WITHIN, "{:?}", since.elapsed());
}

#[test]
fn slow_sender_keeps_full_deadline() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[]);
    assert_eq!(server.post("{}").status, 201);
    proxy.set_for("insert", Fate::DelayAnswer(Duration::from_secs(1)));
    let mut slow = Connection::open(server.address);
    slow.send(format!("{}{{", head(2)).as_bytes());
    thread::sleep(ANSWERED_WITHIN);
    slow.send(b"}");
    assert_eq!(slow.read_answer().expect("an answer").status, 201);
}

//! Many connections at once, most of them slow or idle: what they cost those that are neither.

mod support;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use support::{Answer, Connection, Server, wait_for};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const POST: &str = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
/// Far more than an answer takes on a machine that has other things to do as well, and far less
/// than any time-out.
const SOON: Duration = Duration::from_secs(5);

/// So many connections that have each sent this much.
fn open(server: &Server, count: usize, bytes: &[u8]) -> Vec<Connection> {
    let begin = |_| {
        let connection = Connection::open(server.address);
        // One that is given up at once need not be sent all of it.
        let _ = connection.stream().write_all(bytes);
        connection
    };
    (0..count).map(begin).collect()
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[track_caller]
fn answered_soon(request: impl FnOnce() -> Answer) -> Answer {
    let since = Instant::now();
    let answer = request();
    assert!(since.elapsed() < SOON, "took {:?}", since.elapsed());
    answer
}

/// The first bytes of a JSON body of 1 MB that never ends.
fn stalled_body(length: usize) -> Vec<u8> {
    [format!("{POST}Content-Length: 1000000\r\n\r\n[\"").as_bytes(), "x".repeat(length).as_bytes()]
        .concat()
}

#[test]
fn slow_connections_delay_no_others() {
    let half_a_line = format!(
        "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000000\r\n\r\n{}",
        "x".repeat(1000)
    );
    let half_a_chunk = format!("{POST}Transfer-Encoding: chunked\r\n\r\n3e8\r\n[");
    let kinds: [&[u8]; 6] = [
        b"",
        GET,
        b"GET / HTTP/1.1\r\nX: ",
        &stalled_body(1000),
        half_a_chunk.as_bytes(),
        half_a_line.as_bytes(),
    ];
    let server = Server::start(&[]);
    let slow: Vec<Vec<Connection>> = kinds.iter().map(|bytes| open(&server, 100, bytes)).collect();
    wait_for("the connections", || (connections(&server) == 600).then_some(()));
    for _ in 0..20 {
        assert_eq!(answered_soon(|| server.get("/")).status, 200);
        assert_eq!(answered_soon(|| server.post("{}")).status, 201);
    }
    drop(slow);
    wait_for("the end of the connections", || (connections(&server) == 0).then_some(()));
}

fn connections(server: &Server) -> u64 {
    metric(server, "two_tier_connections")
}

fn held(server: &Server) -> u64 {
    metric(server, "two_tier_held_bytes")
}

fn metric(server: &Server, name: &str) -> u64 {
    let page = server.ops("/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
}

#[test]
fn stalled_bodies_leave_room_for_others() {
    let server = Server::start(&[]);
    let before = server.resident_kib();
    // A third more than what all bodies together may hold, in pieces that the kernel takes from a
    // client at once.
    let mut stalled = open(&server, 700, &stalled_body(60_000));
    let large = |length: usize| format!("{{\"text\":\"{}\"}}", "x".repeat(length));
    for body in [large(17_000), large(900_000)] {
        let answer =
            wait_for("room", || Some(server.post(&body)).filter(|answer| answer.status != 503));
        assert_eq!(answer.status, 201);
    }
    let two_bytes = format!(
        "{POST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    let answer = answered_soon(|| server.exchange(two_bytes.as_bytes()).remove(0));
    assert_eq!(answer.status, 201);
    assert!(
        server.resident_kib() < before + 64 * 1024,
        "from {before} KiB to {} KiB",
        server.resident_kib()
    );
    // Those that had to give way are told so.
    let evicted = stalled.iter_mut().find_map(|connection| {
        connection.stream().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        connection.read_answer()
    });
    let evicted = evicted.expect("an answer to one of them");
    assert!(metric(&server, "two_tier_evicted_total{reason=\"stalled\"}") > 0);
    assert!(evicted.problem(503).contains("memory"), "{}", evicted.text());
    assert_eq!(evicted.header("retry-after"), Some("1"));
    assert_eq!(server.export().lines().count(), 3);
    server.expect_no_panic();
}

#[test]
fn trickling_bodies_leave_room_for_others() {
    let server = Server::start(&[("LOG", "off")]);
    // An idle client that has sent an empty line must not change anything.
    let _idle = open(&server, 1, b"\r\n");
    let trickling = open(&server, 700, &stalled_body(60_000));
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when an assertion fails, or the scope would wait for ever.
        let _ended = SetOnDrop(&has_ended);
        scope.spawn(|| {
            trickling
                .iter()
                .for_each(|connection| connection.stream().set_nonblocking(true).unwrap());
            while !has_ended.load(SeqCst) {
                // What is given up or paused takes none.
                trickling
                    .iter()
                    .for_each(|connection| drop(connection.stream().write(&[b'x'; 100])));
                thread::sleep(Duration::from_millis(100));
            }
        });
        let body = format!("{{\"text\":\"{}\"}}", "x".repeat(17_000));
        let answers: Vec<Answer> = (0..5).map(|_| answered_soon(|| server.post(&body))).collect();
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [201; 5]);
    });
}

/// Lines of an import that come as fast as the server takes them, never end, and come again as
/// often as they are given up, until `has_ended`.
fn send_endless_lines(server: &Server, count: usize, has_ended: &AtomicBool) {
    const HEAD: &[u8] =
        b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n\
        Transfer-Encoding: chunked\r\n\r\n4c4b40\r\n{\"text\":\"";
    // How often it begins in one round at most: they come from a network.
    const REOPENED: usize = 5;
    let begin = || {
        let connection = Connection::open(server.address);
        connection.stream().write_all(HEAD).unwrap();
        connection.stream().set_nonblocking(true).unwrap();
        (connection, 5_000_000)
    };
    let piece = [b'x'; 64 * 1024];
    let mut lines: Vec<(Connection, usize)> = (0..count).map(|_| begin()).collect();
    while !has_ended.load(SeqCst) {
        let mut reopened = 0;
        for (connection, left) in &mut lines {
            match connection.stream().write(&piece[..piece.len().min(*left)]) {
                Ok(count) => *left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) if reopened < REOPENED => {
                    (*connection, *left) = begin();
                    reopened += 1;
                }
                Err(_) => {}
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn endless_lines_leave_room_for_others() {
    const LINES: usize = 20_000;
    let server = Server::start(&[("LOG", "off")]);
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ended = SetOnDrop(&has_ended);
        scope.spawn(|| send_endless_lines(&server, 1000, &has_ended));
        wait_for("a shortage", || (held(&server) > 30 * 1024 * 1024).then_some(()));
        let lines: String = (0..LINES).map(|number| format!("{{\"number\":{number}}}\n")).collect();
        let body = format!("{{\"text\":\"{}\"}}", "x".repeat(900_000));
        for _ in 0..3 {
            for answer in [server.import(&lines), server.post(&body)] {
                // On a machine that is busy elsewhere the store may be what does not answer.
                assert!(!answer.text().contains("short of memory"), "{}", answer.text());
            }
        }
    });
    server.expect_no_panic();
}

#[test]
fn unread_pages_leave_room_for_others() {
    let server = Server::start(&[("LOG", "off")]);
    let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(40_000));
    assert_eq!(server.import(&line.repeat(110)).status, 201);
    let before = server.resident_kib();
    let mut unread = Vec::new();
    // Each asks for another version of the page, so that they do not share one.
    for _ in 0..30 {
        unread.extend(open(&server, 1, b"GET /data HTTP/1.1\r\nHost: test\r\n\r\n"));
        wait_for("a version of its own", || {
            (server.post("{\"_id\":{\"$minKey\":1}}").status != 503).then_some(())
        });
    }
    let page = wait_for("a page", || {
        Some(server.get("/data?limit=1000")).filter(|answer| answer.status == 200)
    });
    assert!(page.body.len() > 1_000_000);
    assert!(
        server.resident_kib() < before + 96 * 1024,
        "from {before} KiB to {} KiB",
        server.resident_kib()
    );
}

#[test]
fn old_connection_closes_after_next_answer() {
    let server = Server::start(&[("MAX_CONNECTION_AGE", "1s")]);
    let mut connection = Connection::open(server.address);
    let since = Instant::now();
    let mut answers = 0;
    loop {
        let answer = connection.request("GET", "/", &[], b"");
        assert_eq!(answer.status, 200);
        answers += 1;
        if answer.header("connection") == Some("close") {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "it goes on");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(
        answers > 5 && since.elapsed() >= Duration::from_millis(900),
        "{answers} in {:?}",
        since.elapsed()
    );
    assert_eq!(connection.read_to_end(), b"");
}

#[test]
fn interim_answer_has_no_headers() {
    let server = Server::start(&[]);
    let mut connection = Connection::open(server.address);
    connection.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n").as_bytes());
    let interim = connection.read_answer().unwrap();
    assert_eq!((interim.status, interim.headers), (100, Vec::new()));
    connection.send(b"{}");
    assert_eq!(connection.read_answer().unwrap().status, 201);
}

#[test]
fn oversized_chunk_is_refused_at_once() {
    let server = Server::start(&[("MAX_BODY", "64KiB")]);
    let mut connection = Connection::open(server.address);
    // Not one byte of the chunk is sent.
    connection.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n10001\r\n").as_bytes());
    answered_soon(|| connection.read_answer().unwrap()).problem(413);
}

#[test]
fn request_before_end_is_answered() {
    let server = Server::start(&[]);
    let mut connection = Connection::open(server.address);
    connection.send(format!("{POST}Content-Length: 2\r\n\r\n{{}}").as_bytes());
    connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(connection.read_answer().unwrap().status, 201);
    assert_eq!(connection.read_to_end(), b"");
}

#[test]
fn pipelined_requests_are_all_answered() {
    let server = Server::start(&[]);
    let mut connection = Connection::open(server.address);
    let mut sender = connection.stream().try_clone().unwrap();
    let sending = thread::spawn(move || sender.write_all(&GET.repeat(5000)).unwrap());
    for _ in 0..5000 {
        assert_eq!(connection.read_answer().expect("an answer").status, 200);
    }
    sending.join().unwrap();
}

//! What one client may cost the server: bytes, time, connections. Each limit is met by a raw socket
//! that goes past it.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::{Answer, Connection, Directory, PATIENCE, Server, two_tier, wait_for};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const POST: &str = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";

/// A connection that has been sent this much.
fn begin(server: &Server, bytes: &[u8]) -> Connection {
    let mut connection = Connection::open(server.address);
    connection.send(bytes);
    connection
}

/// The one answer, a problem of this status with which the connection ends.
#[track_caller]
fn expect_last(mut connection: Connection, status: u16) -> Answer {
    let answer = connection.read_answer().expect("an answer");
    answer.problem(status);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(connection.read_to_end(), b"");
    answer
}

/// Sends a piece every few milliseconds until the server takes no more or `time` is over.
fn dribble(stream: &TcpStream, piece: &[u8], time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until && (&*stream).write_all(piece).is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Dribbles from a thread of its own until the connection ends.
fn keep_dribbling(connection: &Connection, piece: &'static [u8]) -> thread::JoinHandle<()> {
    let stream = connection.stream().try_clone().unwrap();
    thread::spawn(move || dribble(&stream, piece, PATIENCE))
}

#[track_caller]
fn wait_for_gauge(server: &Server, name: &str, value: f64) {
    wait_for(&format!("{name} to be {value}"), || (server.metric(name) == value).then_some(()));
}

#[test]
fn head_takes_up_to_16_kib() {
    let server = Server::start(&[]);
    let head = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: test\r\nX: ";
        let end = "\r\n\r\n";
        format!("{start}{}{end}", "x".repeat(length - start.len() - end.len()))
    };
    for length in [2048, 16 * 1024] {
        assert_eq!(
            begin(&server, head(length).as_bytes()).read_answer().unwrap().status,
            200,
            "{length}"
        );
    }
    expect_last(begin(&server, &head(16 * 1024 + 1).as_bytes()[..16 * 1024]), 431);
    for (endless, status) in [("GET / HTTP/1.1\r\nHost: test\r\nX: ", 431), ("GET /", 414)] {
        let connection = begin(&server, endless.as_bytes());
        // More than it takes; how much of it the server still reads is its own affair.
        let _ = connection.stream().write_all(&[b'x'; 16 * 1024]);
        expect_last(connection, status);
    }
}

#[test]
fn head_takes_up_to_100_headers() {
    let server = Server::start(&[]);
    let head = |count: usize| {
        format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: y\r\n".repeat(count - 1))
    };
    assert_eq!(begin(&server, head(100).as_bytes()).read_answer().unwrap().status, 200);
    expect_last(begin(&server, head(101).as_bytes()), 431);
}

#[test]
fn slow_head_gets_408() {
    let server = Server::start(&[("HEAD_TIMEOUT", "1s")]);
    expect_last(begin(&server, b"GET / HT"), 408);
    let connection = begin(&server, b"GET / HTTP/1.1\r\nX: ");
    let dribbling = keep_dribbling(&connection, b"x");
    expect_last(connection, 408);
    dribbling.join().unwrap();
    // The second head of a connection as well, and one that came in part with the first.
    let mut connection = begin(&server, &[GET, b"GET /"].concat());
    assert_eq!(connection.read_answer().unwrap().status, 200);
    expect_last(connection, 408);
}

#[test]
fn body_over_max_body_gets_413() {
    let server = Server::start(&[("MAX_BODY", "64KiB")]);
    for length in ["65537", "10000000000000", "9223372036854775807"] {
        // Not one byte of the body is sent.
        expect_last(
            begin(&server, format!("{POST}Content-Length: {length}\r\n\r\n").as_bytes()),
            413,
        );
    }
    let connection = begin(&server, format!("{POST}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
    for _ in 0..66 {
        let _ =
            connection.stream().write_all(&[b"400\r\n", [b' '; 1024].as_slice(), b"\r\n"].concat());
    }
    expect_last(connection, 413);
    let fits = format!("{{\"text\":\"{}\"}}", "x".repeat(64 * 1024 - 11));
    assert_eq!(fits.len(), 64 * 1024);
    assert_eq!(server.post(&fits).status, 201);
}

#[test]
fn slow_body_gets_408_and_is_dropped() {
    let server = Server::start(&[("BODY_TIMEOUT", "1s")]);
    // Up to 1 KiB tiny_http reads a body by itself, before there is a request.
    for framing in ["Content-Length: 10", "Content-Length: 10000", "Transfer-Encoding: chunked"] {
        expect_last(begin(&server, format!("{POST}{framing}\r\n\r\n").as_bytes()), 408);
        let connection = begin(&server, format!("{POST}{framing}\r\n\r\n").as_bytes());
        let piece: &[u8] = if framing.contains("chunked") { b"1\r\n \r\n" } else { b" " };
        if !framing.ends_with(" 10") {
            let dribbling = keep_dribbling(&connection, piece);
            expect_last(connection, 408);
            dribbling.join().unwrap();
        }
    }
    assert_eq!(server.get("/data").text(), "[]\n");
}

#[test]
fn steady_body_may_outlast_timeout() {
    let server = Server::start(&[("BODY_TIMEOUT", "1s")]);
    let mut connection =
        begin(&server, format!("{POST}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
    let piece = [b"400\r\n", [b' '; 1024].as_slice(), b"\r\n"].concat();
    dribble(connection.stream(), &piece, Duration::from_secs(3));
    connection.send(b"2\r\n{}\r\n0\r\n\r\n");
    assert_eq!(connection.read_answer().unwrap().status, 201);
}

#[test]
fn idle_connection_closes_without_answer() {
    let server = Server::start(&[("IDLE_TIMEOUT", "1s"), ("HEAD_TIMEOUT", "60s")]);
    assert_eq!(begin(&server, b"").read_to_end(), b"");
    assert_eq!(begin(&server, b"\r\n").read_to_end(), b"");
    let mut used = begin(&server, GET);
    assert_eq!(used.read_answer().unwrap().status, 200);
    assert_eq!(used.read_to_end(), b"");
    // Nor does one that the client closes get an answer that nobody asked for.
    let mut closed = begin(&server, GET);
    assert_eq!(closed.read_answer().unwrap().status, 200);
    closed.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(closed.read_to_end(), b"");
}

#[test]
fn server_drops_client_that_never_reads() {
    let server = Server::start(&[("SEND_TIMEOUT", "1s"), ("LOG", "text")]);
    let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(64 * 1024));
    assert_eq!(server.import(&line.repeat(400)).status, 201);
    // A page of 4 MiB over and over, and an export, are more than the kernel keeps for a client.
    let page: &[u8] = b"GET /data HTTP/1.1\r\nHost: test\r\n\r\n";
    let pages = begin(&server, &page.repeat(40));
    let export =
        begin(&server, b"GET /data HTTP/1.1\r\nHost: test\r\nAccept: application/x-ndjson\r\n\r\n");
    wait_for_gauge(&server, "two_tier_connections", 0.0);
    server.wait_for_line("(cut off)");
    for mut connection in [pages, export] {
        let bytes = connection.read_to_end();
        assert!(!bytes.is_empty() && !bytes.ends_with(b"0\r\n\r\n"), "{} bytes", bytes.len());
    }
}

#[test]
fn clients_wait_when_connections_are_taken() {
    let server = Server::start(&[("MAX_CONNECTIONS", "4")]);
    let taken: Vec<Connection> = (0..4).map(|_| begin(&server, b"GET / HTTP/1.1\r\n")).collect();
    wait_for_gauge(&server, "two_tier_connections", 4.0);
    let mut waiting: Vec<Connection> = (0..50).map(|_| begin(&server, GET)).collect();
    // The operations port has connections of its own.
    assert_eq!(server.ops("/readyz").status, 200);
    assert_eq!(server.metric("two_tier_connections"), 4.0);
    let first = &mut waiting[0];
    first.stream().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(
        first.stream().peek(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "served beyond the limit"
    );
    first.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    for mut connection in taken {
        connection.send(b"Host: test\r\n\r\n");
        assert_eq!(connection.read_answer().unwrap().status, 200);
    }
    for connection in &mut waiting {
        assert_eq!(connection.read_answer().unwrap().status, 200);
    }
}

#[test]
fn max_connections_of_one_holds() {
    let server = Server::start(&[("MAX_CONNECTIONS", "1")]);
    let mut first = begin(&server, b"GET / HTTP/1.1\r\n");
    let mut second = begin(&server, GET);
    second.stream().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(
        second.stream().peek(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "served beyond the limit"
    );
    second.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    first.send(b"Host: test\r\n\r\n");
    assert_eq!(first.read_answer().unwrap().status, 200);
    assert_eq!(second.read_answer().unwrap().status, 200);
}

/// Takes both of a server's connections in a way that must not keep a newcomer waiting.
#[track_caller]
fn expect_place_for_a_newcomer(settings: &[(&str, &str)], take: impl Fn(&Server) -> Connection) {
    let server =
        Server::start(&[&[("MAX_CONNECTIONS", "2"), ("IDLE_TIMEOUT", "600s")], settings].concat());
    let _taken = [take(&server), take(&server)];
    let asked = Instant::now();
    assert_eq!(begin(&server, GET).read_answer().expect("an answer").status, 200);
    // "Within about a second", on a machine that has other things to do as well.
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
}

#[test]
fn idle_connection_makes_room() {
    expect_place_for_a_newcomer(&[], |server| begin(server, b""));
    expect_place_for_a_newcomer(&[], |server| {
        let mut connection = begin(server, GET);
        assert_eq!(connection.read_answer().unwrap().status, 200);
        connection
    });
}

#[test]
fn connection_sending_empty_lines_makes_room() {
    expect_place_for_a_newcomer(&[("HEAD_TIMEOUT", "1s")], |server| {
        let connection = begin(server, b"\r\n");
        keep_dribbling(&connection, b"\r\n");
        connection
    });
}

#[test]
fn connection_owing_unwanted_body_makes_room() {
    expect_place_for_a_newcomer(&[], |server| {
        let mut connection =
            begin(server, b"POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: 60000\r\n\r\n");
        connection.read_answer().unwrap().problem(404);
        connection
    });
}

#[test]
fn busy_connection_makes_room_between_requests() {
    expect_place_for_a_newcomer(&[], |server| {
        let connection = begin(server, GET);
        let mut stream = connection.stream().try_clone().unwrap();
        thread::spawn(move || {
            let mut scratch = [0; 4096];
            while stream.write_all(GET).is_ok()
                && stream.read(&mut scratch).is_ok_and(|count| count > 0)
            {}
        });
        connection
    });
}

/// What a hostile client repeats behind what it begins with, until the connection ends.
const HOSTILE: [(&str, &str); 9] = [
    ("GET / HTTP/1.1\r\nHost: test\r\nX: ", "x"),
    ("GET /", "x"),
    ("GET / HTTP/1.1\r\n", "Host: test\r\n"),
    ("", "\r\n"),
    (
        "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0",
    ),
    (
        "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 10000000000000\r\n\r\n",
        "[",
    ),
    (
        "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 65536\r\n\r\n[",
        "{},",
    ),
    (
        "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\nContent-Length: 10000000000000\r\n\r\n",
        "[",
    ),
    ("", "GET /data?limit=1000 HTTP/1.1\r\nHost: test\r\n\r\n"),
];

#[test]
fn memory_stays_flat_under_hostile_connections() {
    let server =
        Server::start(&[("MAX_BODY", "64KiB"), ("SEND_TIMEOUT", "1s"), ("HEAD_TIMEOUT", "2s")]);
    assert_eq!(server.import(&"{\"text\":\"something to read\"}\n".repeat(1000)).status, 201);
    let before = server.resident_kib();
    let address = server.address;
    let until = Instant::now() + Duration::from_secs(6);
    let hostile: Vec<_> = (0..64)
        .map(|number| {
            let (beginning, rest) = HOSTILE[number % HOSTILE.len()];
            thread::spawn(move || {
                let piece = rest.repeat(16 * 1024 / rest.len());
                // Whoever is thrown out comes again.
                while Instant::now() < until {
                    let stream = TcpStream::connect(address).unwrap();
                    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
                    let mut sent = (&stream).write_all(beginning.as_bytes());
                    while sent.is_ok() && Instant::now() < until {
                        sent = (&stream).write_all(piece.as_bytes());
                    }
                }
            })
        })
        .collect();
    let mut most = 0;
    while !hostile.iter().all(thread::JoinHandle::is_finished) {
        most = most.max(server.resident_kib());
        thread::sleep(Duration::from_millis(20));
    }
    hostile.into_iter().for_each(|client| client.join().unwrap());
    // Eight of the 64 hold a line of an import of 10 x 64 KiB each; a stack that was used is a few
    // pages.
    assert!(most < before + 32 * 1024, "from {before} KiB to {most} KiB");
    assert_eq!(server.get("/").status, 200);
    wait_for_gauge(&server, "two_tier_connections", 0.0);
    server.expect_no_panic();
}

#[test]
fn server_survives_shortage_of_descriptors() {
    let directory = Arc::new(Directory::new());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\"", two_tier().get_program().to_str().unwrap()]);
    command.env_clear().stdin(std::process::Stdio::null()).current_dir(directory.path());
    command.envs([("PORT", "0"), ("OPS_PORT", "0"), ("DATA_FILE", "two-tier.redb")]);
    let server = Server::spawn(command, directory);
    let probes: Vec<_> = (0..40).map(|_| Connection::open(server.ops_address)).collect();
    let request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let clients: Vec<_> = (0..60).map(|_| begin(&server, request)).collect();
    for mut client in clients {
        assert_eq!(client.read_answer().expect("an answer").status, 200);
    }
    drop(probes);
    for number in 0..100 {
        assert_eq!(server.post(&format!("{{\"_id\":{number}}}")).status, 201);
    }
    assert_eq!(server.ops("/readyz").status, 200);
    server.expect_no_panic();
}

#[test]
fn memory_of_large_bodies_is_released() {
    let server = Server::start(&[("MAX_BODY", "16MiB")]);
    let body = format!("{{\"x\":\"{}\"}}", "x".repeat(10_000_000));
    thread::scope(|scope| {
        for _ in 0..4 {
            // On a disk that is busy elsewhere it is a 503, which has taken the memory as well.
            scope.spawn(|| assert!([201, 503].contains(&server.post(&body).status)));
        }
    });
    wait_for("memory of less than 32 MiB", || (server.resident_kib() < 32 * 1024).then_some(()));
}

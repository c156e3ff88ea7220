//! The bodies of requests, read or not: each ends where its framing says, and what comes after it
//! is the next request.

mod support;

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use support::{Connection, Server};

/// A request that is sent as part of a body. No other request in its test gets a 200.
const SMUGGLED: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const MAX_BODY: usize = 1024;

fn start(settings: &[(&str, &str)]) -> Server {
    Server::start(&[&[("MAX_BODY", "1KiB")], settings].concat())
}

/// Every document is stored whole or not at all, so: none.
#[track_caller]
fn expect_nothing_stored(server: &Server) {
    assert_eq!(server.get("/data").text(), "[]\n");
    server.expect_no_panic();
}

fn chunks<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for piece in pieces {
        body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        body.extend_from_slice(piece);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

#[test]
fn unread_body_is_never_parsed_as_request() {
    let server = start(&[]);
    let requests = [
        (404, "POST /nowhere", "application/json", ""),
        (405, "PUT /data", "application/json", ""),
        (415, "POST /data", "text/plain", ""),
        (400, "POST /data?unknown=1", "application/json", ""),
        (413, "POST /data", "application/json", " "),
        (400, "POST /data", "application/x-ndjson", "not JSON\n"),
    ];
    for (status, request, content_type, fill) in requests {
        // Around what tiny_http buffers (1 KiB), what is read though nobody wants it (64 KiB), and
        // one byte too much.
        for length in [1, 40, 960, 1000, 1023, 1024, 1025, 1100, 2048, 5000, 64 * 1024, 65 * 1024] {
            let fill = if fill == " " { " ".repeat(MAX_BODY + 1) } else { fill.to_owned() };
            let mut body =
                format!("{fill}{}", SMUGGLED.repeat(length / SMUGGLED.len() + 1)).into_bytes();
            body.truncate(fill.len() + length);
            let framings = [
                (format!("Content-Length: {}", body.len()), body.clone()),
                ("Transfer-Encoding: chunked".to_owned(), chunks([body.as_slice()])),
                ("Transfer-Encoding: chunked".to_owned(), chunks(body.chunks(9))),
                (
                    "Transfer-Encoding: chunked".to_owned(),
                    chunks(
                        [fill.as_bytes(), &body[fill.len()..]]
                            .into_iter()
                            .filter(|piece| !piece.is_empty()),
                    ),
                ),
            ];
            for (framing, framed) in framings {
                let what = format!("{request} with {content_type}, {framing} and {length} bytes");
                let head = format!(
                    "{request} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n"
                );
                let next = b"GET /data/next HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
                let answers = server.exchange(&[head.as_bytes(), &framed, next].concat());
                match answers.as_slice() {
                    [only] => {
                        only.problem(status);
                        assert_eq!(only.header("connection"), Some("close"), "{what}");
                    }
                    [first, second] => {
                        first.problem(status);
                        assert_eq!(first.header("connection"), None, "{what}");
                        assert_eq!(second.problem(404), "No document with this _id.", "{what}");
                    }
                    _ => panic!("{what}: {answers:#?}"),
                }
            }
        }
    }
    expect_nothing_stored(&server);
}

#[test]
fn connection_survives_small_unwanted_body() {
    let server = start(&[]);
    let mut connection = Connection::open(server.address);
    for length in [0, 1, 1024, 1025, 60_000] {
        connection.request("POST", "/nowhere", &[], &b"x".repeat(length)).problem(404);
    }
    assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
}

/// Requests of every framing, each with a name of its own, and the status of each.
fn pipeline() -> Vec<(u16, String)> {
    let json = "Host: test\r\nContent-Type: application/json\r\n";
    let long = format!("{{\"_id\":\"long\",\"text\":\"{}\"}}", "x".repeat(900));
    let lines = "{}\n".repeat(2000);
    let chunked =
        |body: &str, size: usize| String::from_utf8(chunks(body.as_bytes().chunks(size))).unwrap();
    let requests = [
        (200, "GET / HTTP/1.1\r\nHost: test\r\n".to_owned(), String::new()),
        (201, format!("POST /data HTTP/1.1\r\n{json}Content-Length: 11\r\n"), "{\"_id\":\"a\"}".to_owned()),
        (409, format!("POST /data HTTP/1.1\r\n{json}Content-Length: 11\r\n"), "{\"_id\":\"a\"}".to_owned()),
        (201, format!("POST /data HTTP/1.1\r\n{json}Content-Length: {}\r\n", long.len()), long.clone()),
        (200, "HEAD /data/a HTTP/1.1\r\nHost: test\r\n".to_owned(), String::new()),
        (201, format!("POST /data HTTP/1.1\r\n{json}Transfer-Encoding: chunked\r\n"), chunked("{\"_id\":\"b\"}", 100)),
        (201, format!("POST /data HTTP/1.1\r\n{json}Transfer-Encoding: Chunked\r\n"), chunked("{\"_id\":\"c\"}", 1)),
        (400, format!("POST /data HTTP/1.1\r\n{json}Content-Length: 0\r\n"), String::new()),
        (400, format!("POST /data HTTP/1.1\r\n{json}Transfer-Encoding: chunked\r\n"), "0;x=y\r\n\r\n".to_owned()),
        (404, "GET /data/nobody HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n".to_owned(), "{}".to_owned()),
        (
            201,
            format!(
                "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n",
                lines.len()
            ),
            lines.clone(),
        ),
        (
            201,
            "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"
                .to_owned(),
            format!("000002;x\r\n{{}}\r\n{}", chunked("\n{}\n", 2)),
        ),
        (200, "GET /data?limit=1000 HTTP/1.1\r\nHost: test\r\n".to_owned(), String::new()),
        (200, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n".to_owned(), String::new()),
        (200, "GET /data/long HTTP/1.1\r\nHost: test\r\nConnection: close\r\n".to_owned(), String::new()),
    ];
    let named = requests.into_iter().enumerate();
    named
        .map(|(number, (status, head, body))| {
            (status, format!("{head}X-Request-Id: {number}\r\n\r\n{body}"))
        })
        .collect()
}

#[track_caller]
fn expect_pipeline(connection: &mut Connection) {
    for (number, (status, request)) in pipeline().into_iter().enumerate() {
        let answer = if request.starts_with("HEAD") {
            connection.read_head()
        } else {
            connection.read_answer()
        };
        let answer = answer.unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(answer.status, status, "{request:?}: {}", answer.text());
        assert_eq!(answer.header("x-request-id"), Some(number.to_string().as_str()), "{request:?}");
    }
    assert_eq!(connection.read_to_end(), b"");
}

#[test]
fn pipelined_bodies_get_answers_in_order() {
    let message: String = pipeline().into_iter().map(|(_, request)| request).collect();
    // In one piece, in pieces that end anywhere, and byte by byte.
    for size in [message.len(), 1000, 7, 1] {
        let server = start(&[]);
        let mut connection = Connection::open(server.address);
        let mut sender = connection.stream().try_clone().unwrap();
        let bytes = message.clone().into_bytes();
        let sending = thread::spawn(move || {
            bytes.chunks(size).for_each(|piece| sender.write_all(piece).unwrap())
        });
        expect_pipeline(&mut connection);
        sending.join().unwrap();
    }
}

#[test]
fn post_ignores_truncated_body() {
    let server = start(&[]);
    let post = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
    let messages = [
        format!("{post}Content-Length: 100\r\n\r\n{{\"cut\":1}}"),
        format!("{post}Content-Length: 1024\r\n\r\n{{\"cut\":2}}"),
        format!("{post}Content-Length: 10\r\nExpect: 100-continue\r\n\r\n{{\"cut\":3}}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n9\r\n{{\"cut\":4}}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n9\r\n{{\"cut\":5}}\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n9\r\n{{\"cut\":6}}\r\n0\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nff\r\n{{\"cut\":7}}"),
    ];
    for message in messages {
        let mut connection = Connection::open(server.address);
        connection.send(message.as_bytes());
        connection.stream().shutdown(Shutdown::Write).unwrap();
        let answers = connection.read_answers();
        let last = answers.last().unwrap_or_else(|| panic!("no answer to {message:?}"));
        last.problem(400);
        // The same from a client that vanishes instead.
        let connection = Connection::open(server.address);
        SockRef::from(connection.stream()).set_linger(Some(Duration::ZERO)).unwrap();
        connection.stream().write_all(message.as_bytes()).unwrap();
    }
    expect_nothing_stored(&server);
}

#[test]
fn truncated_import_stores_and_counts_lines() {
    let server = start(&[]);
    let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n";
    let bodies = [
        "Content-Length: 2000\r\n\r\n{\"_id\":1}\n{\"_id\":2}\n{\"_id\":3}",
        "Transfer-Encoding: chunked\r\n\r\n1d\r\n{\"_id\":4}\n{\"_id\":5}\n{\"_id\":6}\r\n",
    ];
    for body in bodies {
        let mut connection = Connection::open(server.address);
        connection.send(format!("{head}{body}").as_bytes());
        connection.stream().shutdown(Shutdown::Write).unwrap();
        let answer = connection.read_answer().unwrap();
        answer.problem(400);
        assert_eq!(answer.json()["inserted"], 2, "{}", answer.text());
    }
    assert_eq!(server.export(), "{\"_id\":1}\n{\"_id\":2}\n{\"_id\":4}\n{\"_id\":5}\n");
}

#[test]
fn continue_is_sent_only_for_wanted_body() {
    let server = start(&[("API_TOKEN", "secret")]);
    let authorized = "Authorization: Bearer secret\r\n";
    for (status, request, headers) in [
        (401, "POST /data", "Content-Type: application/json\r\nContent-Length: 11\r\n".to_owned()),
        (
            404,
            "POST /nowhere",
            "Content-Type: application/json\r\nContent-Length: 11\r\n".to_owned(),
        ),
        (405, "PUT /data", format!("{authorized}Content-Length: 11\r\n")),
        (
            413,
            "POST /data",
            format!("{authorized}Content-Type: application/json\r\nContent-Length: 1025\r\n"),
        ),
        (
            415,
            "POST /data",
            format!("{authorized}Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            415,
            "POST /data",
            format!("{authorized}Content-Encoding: gzip\r\nContent-Length: 11\r\n"),
        ),
    ] {
        let mut connection = Connection::open(server.address);
        connection.send(
            format!("{request} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n{headers}\r\n")
                .as_bytes(),
        );
        let answer = connection.read_answer().unwrap();
        answer.problem(status);
        // Nobody can tell whether the body still comes.
        assert_eq!(answer.header("connection"), Some("close"), "{status}");
        assert_eq!(connection.read_to_end(), b"", "{status}");
    }
    let bodies = [
        ("Content-Length: 11", "{\"_id\":\"a\"}"),
        ("Transfer-Encoding: chunked", "b\r\n{\"_id\":\"b\"}\r\n0\r\n\r\n"),
    ];
    for (framing, body) in bodies {
        let mut connection = Connection::open(server.address);
        let head = format!(
            "POST /data HTTP/1.1\r\nHost: test\r\n{authorized}Content-Type: application/json\r\n{framing}\r\n"
        );
        connection.send(format!("{head}Expect: 100-Continue\r\n\r\n").as_bytes());
        assert_eq!(connection.read_answer().unwrap().status, 100, "{framing}");
        connection.send(body.as_bytes());
        assert_eq!(connection.read_answer().unwrap().status, 201, "{framing}");
        // The connection goes on, and a client that does not wait is fine as well.
        connection.send(format!("{head}Expect: 100-continue\r\n\r\n{body}").as_bytes());
        assert_eq!(connection.read_answer().unwrap().status, 100, "{framing}");
        connection.read_answer().unwrap().problem(409);
    }
}

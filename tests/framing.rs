//! The syntax of requests: what two readers could read differently is refused, with one answer, and
//! nothing after it is taken for another request. What the standard allows is taken.

mod support;

use support::{Answer, Server};

/// A request that must not be answered, behind one that is refused.
const SMUGGLED: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// A server that does not wait long for what does not come.
fn start() -> Server {
    Server::start(&[("HEAD_TIMEOUT", "1s"), ("BODY_TIMEOUT", "1s"), ("IDLE_TIMEOUT", "1s")])
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// Sends each of the messages, with a request after it that must not be answered, and expects its
/// status alone.
#[track_caller]
fn expect_refused(server: &Server, cases: &[(u16, &str)]) {
    for (status, message) in cases {
        let answers = server.exchange(format!("{message}{SMUGGLED}").as_bytes());
        assert_eq!(statuses(&answers), [*status], "{message:?}");
        answers[0].problem(*status);
        assert_eq!(answers[0].header("connection"), Some("close"), "{message:?}");
    }
}

#[track_caller]
fn expect_unharmed(server: &Server) {
    assert_eq!(server.get("/data").text(), "[]\n");
    server.expect_no_panic();
}

#[test]
fn server_refuses_ambiguous_head() {
    let server = start();
    let post = |headers: &str| {
        format!("POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{headers}")
    };
    let lengths =
        ["+2", "-2", "0x2", "2,2", "2, 2", "2 2", "2;", "2.0", "1e0", "2_", "", "٢", "two"];
    for length in lengths {
        expect_refused(&server, &[(400, &post(&format!("Content-Length: {length}\r\n\r\n{{}}")))]);
    }
    for length in ["18446744073709551615", "18446744073709551616", "99999999999999999999999999"] {
        expect_refused(&server, &[(413, &post(&format!("Content-Length: {length}\r\n\r\n{{}}")))]);
    }
    for coding in [
        "gzip",
        "identity",
        "xchunked",
        "chunked, chunked",
        "chunked, gzip",
        "gzip, chunked",
        "chunked;q=1",
        "",
    ] {
        expect_refused(
            &server,
            &[(501, &post(&format!("Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n")))],
        );
    }
    let both = [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Length: 2\r\ncontent-length: 40\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "X: y\r\n\tz\r\n\r\n",
        "Transfer-Encoding: chunked\r\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \u{c}chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "X: y\rContent-Length: 2\r\n\r\n{}",
        "X: y\nContent-Length: 2\r\n\r\n{}",
        "X: y\r\r\nContent-Length: 2\r\n\r\n{}",
        "X: y\0z\r\n\r\n",
        "X\0: y\r\n\r\n",
        "X y: z\r\n\r\n",
        "X(y): z\r\n\r\n",
        "Zoë: z\r\n\r\n",
        "[X]: z\r\n\r\n",
        ": z\r\n\r\n",
        "no colon\r\n\r\n",
        "Host: other\r\n\r\n",
        "X: y\r\n\n",
        "X: y\n\n",
        "X: y\n\r\n",
    ];
    for headers in both {
        expect_refused(&server, &[(400, &post(headers))]);
    }
    expect_refused(&server, &[(417, &post("Expect: 200-ok\r\n\r\n"))]);
    expect_unharmed(&server);
}

#[test]
fn server_refuses_malformed_request_line() {
    let server = start();
    for (status, line) in [
        (505, "GET / HTTP/9.9"),
        (505, "GET / HTTP/2.0"),
        (505, "GET / HTTP/0.9"),
        (400, "GET / HTTP/1.10"),
        (400, "GET / HTTP/1"),
        (400, "GET / http/1.1"),
        (400, "GET / HTTP/1.1 x"),
        (400, "GET / HTTP/1.1 "),
        (400, "GET  / HTTP/1.1"),
        (400, " GET / HTTP/1.1"),
        (400, "GET\t/\tHTTP/1.1"),
        (400, "GET /"),
        (400, "GET"),
        (400, "G(T / HTTP/1.1"),
        (400, "GÉT / HTTP/1.1"),
        (400, "GET /data/Zoë HTTP/1.1"),
        (400, "GET /\0 HTTP/1.1"),
        (400, "GET /\u{7f} HTTP/1.1"),
        (400, "GET /\r HTTP/1.1"),
        (400, "\rGET / HTTP/1.1"),
        (400, "\r\n\r\nGET / HTTP/1.1"),
    ] {
        expect_refused(&server, &[(status, &format!("{line}\r\nHost: test\r\n\r\n"))]);
    }
    expect_refused(
        &server,
        &[(400, "GET / HTTP/1.1\r\n\r\n"), (400, "GET / HTTP/1.1\nHost: test\n\n")],
    );
    let coding = "POST /data HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    expect_refused(&server, &[(400, coding)]);
    expect_unharmed(&server);
}

#[test]
fn server_refuses_malformed_chunked_body() {
    let server = start();
    for (what, body) in [
        ("a size over 64 bits", "10000000000000002\r\n{}\r\n0\r\n\r\n"),
        ("a size that would wrap around", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("a negative size", "-2\r\n{}\r\n0\r\n\r\n"),
        ("a size with a plus", "+2\r\n{}\r\n0\r\n\r\n"),
        ("a size with a prefix", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("a space before a size", " 2\r\n{}\r\n0\r\n\r\n"),
        ("a space behind a size", "2 \r\n{}\r\n0\r\n\r\n"),
        ("no size", "\r\n{}\r\n0\r\n\r\n"),
        ("no size but an extension", ";x\r\n{}\r\n0\r\n\r\n"),
        ("no hex digit", "g\r\n{}\r\n0\r\n\r\n"),
        ("a size line that ends in LF", "2\n{}\r\n0\r\n\r\n"),
        ("a size line that ends in CR", "2\r{}\r\n0\r\n\r\n"),
        ("an extension that ends in LF", "2;x\n{}\r\n0\r\n\r\n"),
        ("a control character in an extension", "2;\u{1}\r\n{}\r\n0\r\n\r\n"),
        ("more data than the size says", "2\r\n{} \r\n0\r\n\r\n"),
        ("no CRLF behind the data", "2\r\n{}0\r\n\r\n"),
        ("LF behind the data", "2\r\n{}\n0\r\n\r\n"),
        ("a control character in a trailer", "2\r\n{}\r\n0\r\nX: \u{1}\r\n\r\n"),
        ("a folded trailer", "2\r\n{}\r\n0\r\n X: y\r\n\r\n"),
        ("an end with LF", "2\r\n{}\r\n0\r\n\n"),
    ] {
        let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answers = server.exchange(format!("{head}{body}{SMUGGLED}").as_bytes());
        assert_eq!(statuses(&answers), [400], "{what}");
        assert!(answers[0].problem(400).contains("chunked"), "{what}: {}", answers[0].text());
        assert_eq!(answers[0].header("connection"), Some("close"), "{what}");
    }
    expect_unharmed(&server);
}

#[test]
fn server_reads_and_drops_trailers() {
    let server = start();
    let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let message = format!("{head}2\r\n{{}}\r\n0\r\nX: y\r\nContent-Length: 5\r\n\r\n{SMUGGLED}");
    assert_eq!(statuses(&server.exchange(message.as_bytes())), [201, 200]);
    let endless = format!("{head}0\r\n{}", "X: y\r\n".repeat(2000));
    assert_eq!(statuses(&server.exchange(endless.as_bytes())), [400]);
}

#[test]
fn server_refuses_endless_chunk_size() {
    let server = start();
    for line in ["0".repeat(300), format!("2;{}", "x".repeat(300))] {
        let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
        let answers =
            server.exchange(format!("{head}Transfer-Encoding: chunked\r\n\r\n{line}").as_bytes());
        assert_eq!(statuses(&answers), [400], "and not a 408 later on");
    }
    expect_unharmed(&server);
}

#[test]
fn bytes_after_last_request_are_ignored() {
    let server = start();
    for last in
        ["GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"]
    {
        assert_eq!(
            statuses(&server.exchange(format!("{last}{SMUGGLED}").as_bytes())),
            [200],
            "{last:?}"
        );
    }
}

#[test]
fn server_takes_what_standard_allows() {
    let server = start();
    let heads = [
        "\r\nGET / HTTP/1.1\r\nHost: test\r\n",
        "GET / HTTP/1.2\r\nHost: test\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nhOST:test\r\n",
        "GET http://test/ HTTP/1.1\r\nHost: test\r\n",
        "GET http://test HTTP/1.1\r\nHost: test\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-!#$%&'*+.^_`|~0: odd\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-Name: Zoë \u{1f980}\r\nAccept: text/plain;é=1\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-Empty:\r\nX-Tab: \ta\tb\t\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n",
    ];
    for head in heads {
        let message = format!("{head}Connection: close\r\n\r\n{SMUGGLED}");
        assert_eq!(statuses(&server.exchange(message.as_bytes())), [200], "{head:?}");
    }
}

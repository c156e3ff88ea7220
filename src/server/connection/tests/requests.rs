//! Requests, good and bad, with what must come back.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::server::connection::testing::service::LIMIT;

/// One request as bytes, and its answer.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) is_head: bool,
    pub(super) status: u16,
    /// The answer is the connection's last.
    pub(super) closes: bool,
    /// How many `100 Continue` come before it.
    pub(super) interims: usize,
    /// The answer is to break off.
    pub(super) is_broken: bool,
}

impl fmt::Debug for Sent {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Sent { status, closes, interims, .. } = self;
        let start = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(1000)]);
        write!(
            formatter,
            "{start:?} ({} bytes: {status}, closes: {closes}, {interims})",
            self.bytes.len()
        )
    }
}

/// How a body is sent.
#[derive(Debug, Clone)]
enum Framing {
    Length,
    /// Where the chunks end, and what comes after a size and after the last chunk.
    Chunks(Vec<Index>, &'static str, &'static str),
}

/// Some requests on one connection, and perhaps one more that makes its end.
pub(super) fn conversation() -> impl Strategy<Value = Vec<Sent>> {
    (
        vec(prop_oneof![3 => without_body(), 4 => with_body()], 0..5),
        prop::option::weighted(0.7, bad()),
    )
        .prop_map(|(mut requests, bad)| {
            requests.extend(bad);
            requests
        })
}

#[derive(Debug, Clone)]
struct Version {
    is_http10: bool,
    connection: &'static str,
    keeps_alive: bool,
}

fn version() -> impl Strategy<Value = Version> {
    let version =
        |is_http10, connection, keeps_alive| Version { is_http10, connection, keeps_alive };
    prop_oneof![
        8 => Just(version(false, "", true)),
        1 => Just(version(false, "connection: Close\r\n", false)),
        1 => Just(version(false, "Connection: keep-alive , x\r\nConnection: close\r\n", false)),
        1 => Just(version(true, "", false)),
        2 => Just(version(true, "Connection: Keep-Alive\r\n", true)),
        1 => Just(version(true, "Connection: keep-alive, close\r\n", false)),
    ]
}

fn head(method: &str, target: &str, version: &Version, more: &str) -> String {
    let minor = if version.is_http10 { 0 } else { 1 };
    format!(
        "{method} {target} HTTP/1.{minor}\r\nHost: a\r\n{}X-Request-Id: r-1\r\n{more}\r\n",
        version.connection
    )
}

fn without_body() -> impl Strategy<Value = Sent> {
    let targets = ["/", "/long", "/call", "/large", "/stream", "/broken", "/panic", "/nothing"];
    let empty = select(vec!["", "", "\r\n"]);
    (select(targets.to_vec()), any::<bool>(), version(), empty).prop_map(
        |(target, is_head, version, empty)| {
            let method = if is_head { "HEAD" } else { "GET" };
            let is_stream = matches!(target, "/stream" | "/broken");
            let status = match target {
                "/panic" => 500,
                "/nothing" => 405,
                _ => 200,
            };
            let is_broken = target == "/broken" && !is_head;
            Sent {
                bytes: (empty.to_owned() + &head(method, target, &version, "")).into_bytes(),
                is_head,
                status,
                closes: !version.keeps_alive
                    || (is_stream && version.is_http10)
                    || is_broken
                    || status == 500,
                interims: 0,
                is_broken,
            }
        },
    )
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![8 => "[a-z]{0,12}\n", 1 => Just("!\n".to_owned())];
    prop_oneof![
        3 => vec(line, 0..12).prop_map(|lines| lines.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..300),
        1 => (select(vec!["a\n", "0\r\n", "\r"]), LIMIT - 5..LIMIT + 5).prop_map(|(text, length)| repeat(text, length)),
        1 => (65_530usize..65_545).prop_map(|length| repeat("x", length)),
    ]
}

fn repeat(text: &str, length: usize) -> Vec<u8> {
    text.bytes().cycle().take(length).collect()
}

fn framing() -> impl Strategy<Value = Framing> {
    let extension = select(vec!["", "", ";", ";a=\"b c\"", ";\t\u{e9}"]);
    let trailers = select(vec!["", "", "A: b\r\n", "X-Checksum: 1\r\nb:\r\n"]);
    prop_oneof![
        Just(Framing::Length),
        (vec(any::<Index>(), 0..6), extension, trailers)
            .prop_map(|(cuts, ext, trail)| Framing::Chunks(cuts, ext, trail)),
    ]
}

/// The body as it is sent, and its header.
fn framed(body: &[u8], framing: &Framing) -> (String, Vec<u8>) {
    let Framing::Chunks(cuts, extension, trailers) = framing else {
        return (format!("Content-Length: {}\r\n", body.len()), body.to_vec());
    };
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    ends.push(body.len());
    ends.sort_unstable();
    let mut bytes = Vec::new();
    let mut start = 0;
    for end in ends.into_iter().filter(|end| *end > 0) {
        if end > start {
            bytes.extend(format!("{:x}{extension}\r\n", end - start).into_bytes());
            bytes.extend_from_slice(&body[start..end]);
            bytes.extend_from_slice(b"\r\n");
        }
        start = end;
    }
    bytes.extend(format!("0{extension}\r\n{trailers}\r\n").into_bytes());
    ("Transfer-Encoding: Chunked\r\n".to_owned(), bytes)
}

/// Whether `/import` meets a bad line, and whether only at the end of the body, since nothing ends
/// the line.
fn has_bad_line(body: &[u8]) -> (bool, bool) {
    let mut lines: Vec<&[u8]> = body.split(|&byte| byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    let is_early = lines.iter().any(|line| line.starts_with(b"!"));
    (is_early || last.starts_with(b"!"), !is_early)
}

fn with_body() -> impl Strategy<Value = Sent> {
    let targets = vec!["/collect", "/store", "/import", "/import", "/", "/call"];
    (select(targets), body(), framing(), version(), any::<bool>()).prop_map(
        |(target, body, framing, mut version, expects)| {
            let is_chunked = matches!(framing, Framing::Chunks(..));
            if version.is_http10 && is_chunked {
                version = Version { is_http10: false, connection: "", keeps_alive: true };
            }
            let (mut headers, bytes) = framed(&body, &framing);
            if expects {
                headers += "Expect: 100-Continue\r\n";
            }
            let expects = expects && !version.is_http10;
            let comes = is_chunked || !body.is_empty();
            let is_refused = !is_chunked && body.len() > LIMIT;
            let (status, is_read, is_whole) = match target {
                "/" | "/call" => (405, false, false),
                "/import" => {
                    let (is_bad, is_whole) = has_bad_line(&body);
                    (if is_bad { 400 } else { 201 }, true, is_whole)
                }
                _ if body.len() > LIMIT => (413, !is_refused, false),
                _ => (201, true, true),
            };
            // What is left of a body is read if its length is known, small, and it comes at all.
            let can_discard = match framing {
                Framing::Length if status == 413 && is_read => false,
                Framing::Length => {
                    !comes || is_whole || (body.len() <= 65_536 && (is_read || !expects))
                }
                Framing::Chunks(..) => is_whole,
            };
            let mut all = head("POST", target, &version, &headers).into_bytes();
            all.extend(bytes);
            Sent {
                bytes: all,
                is_head: false,
                status,
                closes: !version.keeps_alive || !can_discard,
                interims: usize::from(expects && comes && is_read),
                is_broken: false,
            }
        },
    )
}

/// A request after which there is nothing more to understand.
fn bad() -> impl Strategy<Value = Sent> {
    let end = "\r\nHost: a\r\n\r\n";
    let heads = vec![
        (400, format!("GET  / HTTP/1.1{end}")),
        (400, format!("GET / HTTP/1.1 {end}")),
        (400, format!("HEAD / http/1.1{end}")),
        (400, format!("G(T / HTTP/1.1{end}")),
        (400, format!("GET /\u{e9} HTTP/1.1{end}")),
        (505, format!("GET / HTTP/2.0{end}")),
        (400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a\n\nGET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, format!("GET / HTTP/1.1\r\nHost: b{end}")),
        (400, format!("GET / HTTP/1.1\r\nA: b\r\n c{end}")),
        (400, format!("GET / HTTP/1.1\r\nA : b{end}")),
        (400, format!("GET / HTTP/1.1\r\nA: b\rc{end}")),
        (400, format!("GET / HTTP/1.1\r\nA: \0{end}")),
        (400, format!("GET / HTTP/1.1\r\nAb{end}")),
        (
            400,
            format!(
                "POST /collect HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked{end}"
            ),
        ),
        (400, format!("POST /collect HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1{end}a")),
        (400, format!("POST /collect HTTP/1.1\r\nContent-Length: +1{end}a")),
        (400, format!("POST /collect HTTP/1.1\r\nContent-Length: 1, 1{end}a")),
        (413, format!("POST /collect HTTP/1.1\r\nContent-Length: 99999999999999999999{end}a")),
        (501, format!("POST /collect HTTP/1.1\r\nTransfer-Encoding: gzip, chunked{end}")),
        (400, format!("POST /collect HTTP/1.0\r\nTransfer-Encoding: chunked{end}0\r\n\r\n")),
        (417, format!("POST /collect HTTP/1.1\r\nContent-Length: 1\r\nExpect: wonders{end}a")),
        (431, format!("GET / HTTP/1.1\r\n{}{end}", "A: b\r\n".repeat(101))),
        (431, format!("GET / HTTP/1.1\r\nA: {}{end}", "b".repeat(20_000))),
        (414, format!("GET /{} HTTP/1.1{end}", "b".repeat(20_000))),
        (414, "x".repeat(70_000)),
    ];
    let bodies = vec![
        "x\r\n",
        "1\r\nab\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1\na\r\n",
        "\r\n",
        ";a\r\n",
        "11111111111111111\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\n\r\r\n",
        "1;\x01\r\na\r\n",
        "-1\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
    ];
    let heads = select(heads).prop_map(|(status, text)| Sent {
        is_head: text.starts_with("HEAD "),
        bytes: text.into_bytes(),
        status,
        closes: true,
        interims: 0,
        is_broken: false,
    });
    let bodies = (select(bodies), select(vec!["/collect", "/import"])).prop_map(|(body, target)| {
        refused(
            format!(
                "POST {target} HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-2\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    });
    let cut = (prop_oneof![without_body(), with_body()], any::<Index>())
        .prop_filter_map("cut in what is read", cut_off);
    prop_oneof![4 => heads, 2 => bodies, 2 => cut]
}

fn refused(bytes: Vec<u8>) -> Sent {
    Sent { bytes, is_head: false, status: 400, closes: true, interims: 0, is_broken: false }
}

/// The connection ends in the middle of the request.
fn cut_off((sent, at): (Sent, Index)) -> Option<Sent> {
    let text = sent.bytes.strip_prefix(b"\r\n").unwrap_or(&sent.bytes);
    let length = 1 + at.index(text.len() - 1);
    let head = text.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    if length < head {
        let is_head = sent.is_head && length >= 5;
        return Some(Sent { is_head, ..refused(text[..length].to_vec()) });
    }
    // Where the end does not matter or is not the first thing that does, what comes depends on
    // where it is.
    let is_plain = sent.status == 201 && sent.bytes.len() < head + 3000;
    let interims = sent.interims;
    (length < text.len() && is_plain).then(|| Sent { interims, ..refused(text[..length].to_vec()) })
}

//! What goes back to a client, before it is bytes: a status, a few headers, a body. Every error is a `Problem`.
//! Knows HTTP's vocabulary, but no socket and no document.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;

use crate::clock;

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";
const PROBLEM: &str = "application/problem+json";

type Headers = Vec<(&'static str, Cow<'static, str>)>;

/// An answer to one request.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) content_type: &'static str,
    pub(crate) body: Body,
}

/// The body of an answer.
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// One page that several answers share.
    Shared(Arc<[u8]>),
    /// A body of unknown length, written piece by piece.
    Stream(Box<StreamBody>),
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body::Bytes(text.into_bytes())
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(text: Arc<[u8]>) -> Self {
        Body::Shared(text)
    }
}

/// Writes a whole body; an error ends the connection, so that the client sees the body cut off.
pub(crate) type StreamBody = dyn FnOnce(&mut dyn Write) -> io::Result<()>;

impl Response {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Body>) -> Self {
        Self { status, headers: Vec::new(), content_type, body: body.into() }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.body, Body::Stream(_))
    }
}

/// What the connection, not the route, decides about an answer.
pub(crate) struct Delivery<'a> {
    /// The connection ends with this answer.
    pub(crate) close: bool,
    /// The client said HTTP/1.0, which has no chunks and closes unless told otherwise.
    pub(crate) http10: bool,
    /// The request was a HEAD: the body is counted, not sent.
    pub(crate) head_only: bool,
    pub(crate) request_id: &'a str,
}

impl Delivery<'_> {
    /// To a client of which nothing is known but that its request was bad.
    pub(crate) const LAST: Self = Delivery { close: true, http10: false, head_only: false, request_id: "" };
}

/// Bodies up to this many bytes go out in one write with their head; longer ones are not worth the copy.
const MAX_JOINED: usize = 64 * 1024;

impl Response {
    /// Writes the whole answer and returns how many bytes of body that were.
    pub(crate) fn send(self, out: &mut dyn Write, delivery: &Delivery) -> io::Result<u64> {
        let mut head = Vec::with_capacity(512);
        self.write_head(&mut head, delivery);
        match self.body {
            Body::Bytes(bytes) => send_bytes(head, &bytes, out, delivery),
            Body::Shared(bytes) => send_bytes(head, &bytes, out, delivery),
            Body::Stream(write_body) => send_stream(head, write_body, out, delivery),
        }
    }

    /// Without `write!`, whose machinery was a tenth of all work on a short answer.
    fn write_head(&self, head: &mut Vec<u8>, delivery: &Delivery) {
        let mut write = |pieces: &[&str]| pieces.iter().for_each(|piece| head.extend_from_slice(piece.as_bytes()));
        write(&["HTTP/1.1 ", &self.status.to_string(), " ", reason(self.status), "\r\n"]);
        write(&["Date: ", &clock::http_date(), "\r\nContent-Type: ", self.content_type, "\r\n"]);
        match &self.body {
            Body::Bytes(bytes) => write(&["Content-Length: ", &bytes.len().to_string(), "\r\n"]),
            Body::Shared(bytes) => write(&["Content-Length: ", &bytes.len().to_string(), "\r\n"]),
            Body::Stream(_) if delivery.http10 => {}
            Body::Stream(_) => write(&["Transfer-Encoding: chunked\r\n"]),
        }
        for (name, value) in &self.headers {
            write(&[name, ": ", value, "\r\n"]);
        }
        if !delivery.request_id.is_empty() {
            write(&["X-Request-Id: ", delivery.request_id, "\r\n"]);
        }
        if delivery.close {
            write(&["Connection: close\r\n"]);
        } else if delivery.http10 {
            write(&["Connection: keep-alive\r\n"]);
        }
        write(&["\r\n"]);
    }
}

fn send_bytes(mut head: Vec<u8>, body: &[u8], out: &mut dyn Write, delivery: &Delivery) -> io::Result<u64> {
    let body = if delivery.head_only { &[] } else { body };
    if body.len() <= MAX_JOINED {
        head.extend_from_slice(body);
        out.write_all(&head)?;
    } else {
        out.write_all(&head)?;
        out.write_all(body)?;
    }
    out.flush()?;
    Ok(body.len() as u64)
}

fn send_stream(
    head: Vec<u8>,
    write_body: Box<StreamBody>,
    out: &mut dyn Write,
    delivery: &Delivery,
) -> io::Result<u64> {
    out.write_all(&head)?;
    let mut pieces = Pieces { out, chunked: !delivery.http10, written: 0 };
    if !delivery.head_only {
        write_body(&mut pieces)?;
        if pieces.chunked {
            pieces.out.write_all(b"0\r\n\r\n")?;
        }
    }
    pieces.out.flush()?;
    Ok(pieces.written)
}

/// A body of unknown length: each write is a chunk (RFC 9112, section 7.1), or for HTTP/1.0 goes out as it is.
struct Pieces<'a> {
    out: &'a mut dyn Write,
    chunked: bool,
    written: u64,
}

impl Write for Pieces<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.is_empty() {
            return Ok(0);
        }
        if self.chunked {
            write!(self.out, "{:x}\r\n", piece.len())?;
        }
        self.out.write_all(piece)?;
        if self.chunked {
            self.out.write_all(b"\r\n")?;
        }
        self.written += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An error that the client is told about, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    /// What was wrong and what to do about it, for a person.
    detail: String,
    headers: Headers,
    /// Further members of the problem object as JSON text: `,"name":value…`.
    members: String,
}

impl Problem {
    pub(crate) fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new(), members: String::new() }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Adds an extension member; `json` is its value as JSON text.
    pub(crate) fn with_member(mut self, name: &str, json: &str) -> Self {
        self.members.push_str(&format!(",\"{name}\":{json}"));
        self
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":{}{}}}\n",
            reason(problem.status),
            problem.status,
            json_string(&problem.detail),
            problem.members,
        );
        Self {
            status: problem.status,
            headers: problem.headers,
            content_type: PROBLEM,
            body: Body::Bytes(body.into_bytes()),
        }
    }
}

/// `text` as a JSON string, quotes included.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The reason phrase of a status that this server sends (RFC 9110, section 15).
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

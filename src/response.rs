//! What goes back to a client, before it is bytes: a status, a few headers, a body. Every error is
//! a `Problem`. Knows HTTP's vocabulary, but no socket and no document.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use tiny_http::StatusCode;

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
    Piece(Piece),
    /// A body of unknown length, in pieces.
    Stream(Box<dyn Stream>),
}

/// Bytes of a body.
pub(crate) enum Piece {
    Owned(Vec<u8>),
    /// A text that several answers share.
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

/// A body that comes piece by piece. Never blocks.
pub(crate) trait Stream: Send {
    fn poll(&mut self) -> StreamState;
    /// The last piece is nearly sent: time to ask for the next one.
    fn read_ahead(&mut self);
    /// The time that `StreamState::Wait` named is over: it is not named again.
    fn give_up(&mut self);
}

/// What a stream has for its reader.
pub(crate) enum StreamState {
    Piece(Piece),
    /// The next piece is on its way, until then at most.
    Wait(Instant),
    End,
    /// There is more, but it cannot be had.
    Broken,
}

impl Piece {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Owned(bytes) => bytes,
            Piece::Shared(text) => (**text).as_ref(),
        }
    }

    /// Bytes that nobody else holds.
    pub(crate) fn held(&self) -> usize {
        match self {
            Piece::Owned(bytes) => bytes.capacity(),
            Piece::Shared(_) => 0,
        }
    }

    /// Bytes for each of those that share it.
    pub(crate) fn share(&self) -> usize {
        match self {
            Piece::Owned(_) => 0,
            Piece::Shared(text) => (**text).as_ref().len() / Arc::strong_count(text),
        }
    }
}

impl Default for Piece {
    fn default() -> Self {
        Piece::Owned(Vec::new())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body::Piece(Piece::Owned(text.into_bytes()))
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<T: AsRef<[u8]> + Send + Sync + 'static> From<Arc<T>> for Body {
    fn from(text: Arc<T>) -> Self {
        Body::Piece(Piece::Shared(text))
    }
}

impl From<Box<dyn Stream>> for Body {
    fn from(stream: Box<dyn Stream>) -> Self {
        Body::Stream(stream)
    }
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Body>) -> Self {
        Self { status, headers: Vec::new(), content_type, body: body.into() }
    }

    pub(crate) fn with_header(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
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

impl Response {
    /// Without `write!`, whose machinery was a tenth of all work on a short answer.
    pub(crate) fn write_head(&self, head: &mut Vec<u8>, delivery: &Delivery) {
        let mut write = |pieces: &[&str]| {
            pieces.iter().for_each(|piece| head.extend_from_slice(piece.as_bytes()))
        };
        write(&["HTTP/1.1 ", &self.status.to_string(), " ", reason(self.status), "\r\n"]);
        write(&["Date: ", &clock::http_date(), "\r\nContent-Type: ", self.content_type, "\r\n"]);
        match &self.body {
            Body::Piece(piece) => {
                write(&["Content-Length: ", &piece.bytes().len().to_string(), "\r\n"])
            }
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

    pub(crate) fn with_header(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
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
            body: body.into(),
        }
    }
}

/// `text` as a JSON string, quotes included.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The reason phrase of a status (RFC 9110, section 15).
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        // tiny_http has the names that older RFCs gave these.
        413 => "Content Too Large",
        _ => StatusCode(status).default_reason_phrase(),
    }
}

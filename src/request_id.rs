//! The name of one request in logs, here and wherever else it passes: taken from `X-Request-Id` or made.

use bson::oid::ObjectId;

use crate::http::request::Request;

/// The longest name that is taken from a client, in bytes.
const MAX_LENGTH: usize = 128;

pub(crate) struct RequestId(String);

impl RequestId {
    /// The client's name for the request if it is short and plain enough for a log, else one unlike any other.
    pub(crate) fn of(request: &Request) -> Self {
        let given = request.headers().get("X-Request-Id").map(|value| value.as_str());
        match given {
            Some(id) if is_plain(id) => Self(id.to_owned()),
            _ => Self(ObjectId::new().to_hex()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A question mark may be what the guard has put in place of something else.
fn is_plain(id: &str) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?')
}

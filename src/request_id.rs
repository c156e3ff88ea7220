//! The name of one request in logs, here and wherever else it passes: taken from `X-Request-Id` or
//! made.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::http::request::Request;

/// The longest name that is taken from a client, in bytes.
const MAX_LENGTH: usize = 128;

pub(crate) struct RequestId(String);

impl RequestId {
    /// The client's name for the request if it is short and plain enough for a log, else one unlike
    /// any other.
    pub(crate) fn of(request: &Request) -> Self {
        let given = request.headers().get("X-Request-Id").map(|value| value.as_str());
        match given {
            Some(id) if is_plain(id) => Self(id.to_owned()),
            _ => Self(generate()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hash whose key is this process's, then a number that makes it unique within it. Every client
/// sees these, so they have nothing in common with the `_id`s of documents.
fn generate() -> String {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Relaxed);
    format!("{:016x}{count:08x}", KEY.hash_one(count))
}

/// A question mark may be what `http::head` has put in place of a byte that is not ASCII.
fn is_plain(id: &str) -> bool {
    (1..=MAX_LENGTH).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?')
}

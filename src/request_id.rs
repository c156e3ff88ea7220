//! The name of one request in logs, here and wherever else it passes: taken from `X-Request-Id` or made.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tiny_http::Request;

/// The longest name that is taken from a client, in bytes.
const MAX_LENGTH: usize = 128;

pub(crate) struct RequestId(String);

impl RequestId {
    /// The client's name for the request if it is short and plain enough for a log, else a new one.
    pub(crate) fn of(request: &Request) -> Self {
        let given = request.headers().get("X-Request-Id").map(|value| value.as_str());
        match given {
            Some(id) if is_plain(id) => Self(id.to_owned()),
            _ => Self::new(),
        }
    }

    /// Unlike any other: a process's own prefix (the start of a fresh ObjectId: time and random bytes) and a count.
    fn new() -> Self {
        static PREFIX: OnceLock<String> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let prefix = PREFIX.get_or_init(|| bson::oid::ObjectId::new().to_hex()[..18].to_owned());
        Self(format!("{prefix}-{:x}", COUNT.fetch_add(1, Relaxed)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(id: &str) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

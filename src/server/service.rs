//! What a server serves: the contract between a connection and whoever knows what a request means.
//!
//! A request is answered in steps, none of which may block. What has to wait (for a body, for the
//! store) says so, and its connection is parked meanwhile; a `Waker` ends the wait.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::body::BodyError;
use crate::http::request::Request;
use crate::response::Response;

/// What a server answers with.
pub(crate) trait Service: Send + Sync {
    /// Decides from a request's head alone what becomes of it. Never touches the store.
    fn begin(&self, request: &Request, waker: &Waker) -> Begun;
    /// An answer has gone out, or could not.
    fn finished(&self, exchange: &Exchange);
    /// A connection was opened (`1`) or closed (`-1`), or a request begins or ends.
    fn count(&self, connections: i64, requests: i64);
}

/// A request's route, and the first step on it.
pub(crate) struct Begun {
    /// None where the request leads nowhere.
    pub(crate) route: Option<RouteId>,
    pub(crate) step: Step,
}

/// The number that a service gives to one of its routes. The server only keeps it with the request,
/// for `Exchange`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RouteId(pub(crate) usize);

/// What becomes of a request next.
pub(crate) enum Step {
    /// The answer is there. What is left of the body is not wanted.
    Respond(Response),
    /// The body is to be collected, up to `limit` bytes.
    Collect { limit: usize, then: Box<Then> },
    /// The body is to be taken piece by piece.
    Import(Box<dyn Import>),
    /// The store is to be asked. `held` are the bytes of documents that wait until then. Where the
    /// answer brings some, `needs` of memory have to be there first, in bytes.
    Call { begin: Box<Begin>, held: usize, needs: usize },
}

/// Begins a call to the store.
pub(crate) type Begin = dyn FnOnce() -> Box<dyn Call> + Send;

/// Goes on with a collected body, or with the reason why there is none.
pub(crate) type Then = dyn FnOnce(Result<Vec<u8>, BodyError>) -> Step + Send;

/// A call to the store, on its way.
pub(crate) trait Call: Send {
    /// The next step, once the answer is there.
    fn poll(&mut self) -> Option<Step>;
    /// The deadline is over: from now on `poll` has a step.
    fn give_up(&mut self);
    /// Bytes of documents that wait to be stored.
    fn held(&self) -> usize;
}

/// A body that is taken piece by piece, with what of it is on its way into the store.
pub(crate) trait Import: Send {
    /// Takes a piece of the body, or the beginning of it, and says how many bytes. Only while
    /// `poll` says `Data`.
    fn take(&mut self, data: &[u8]) -> usize;
    /// Does the long work that `ImportState::Work` named.
    fn work(&mut self);
    /// The body has ended, whole or for a reason.
    fn end(&mut self, outcome: Result<(), BodyError>);
    fn poll(&mut self) -> ImportState;
    /// The time that `ImportState::Store` named is over: it is not named again.
    fn give_up(&mut self);
    /// Has what has come so far stored at once, and nothing more taken before; false if there is
    /// nothing.
    fn store_early(&mut self) -> bool;
    /// Bytes of memory in use.
    fn held(&self) -> usize;
    /// Bytes that have been stored.
    fn stored(&self) -> usize;
    /// How many bytes of memory the line that is coming may take yet; 0 while it is short.
    fn to_go(&self) -> usize;
}

/// What an import waits for.
pub(crate) enum ImportState {
    Data,
    /// A turn for long work.
    Work,
    Store {
        until: Instant,
    },
    Done(Response),
}

/// Ends a connection's wait for the store, from any thread. A wake too many does no harm.
#[derive(Clone)]
pub(crate) struct Waker {
    target: Arc<dyn Wake>,
    token: Token,
}

/// Where wakes go.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self, token: Token);
}

/// One connection of a server: its place in the table, and how many had that place before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl Waker {
    pub(crate) fn new(target: Arc<dyn Wake>, token: Token) -> Self {
        Self { target, token }
    }

    /// From now on it wakes another connection.
    pub(super) fn rename(&mut self, token: Token) {
        self.token = token;
    }

    pub(crate) fn wake(&self) {
        self.target.wake(self.token);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.token.fmt(formatter)
    }
}

/// One request and its answer, for the log and the metrics.
pub(crate) struct Exchange<'a> {
    /// Empty, as is `target`, where the request's head was refused.
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    /// As `begin` said; none also where the head was refused.
    pub(crate) route: Option<RouteId>,
    pub(crate) request_id: &'a str,
    pub(crate) status: u16,
    /// Of the body that was sent.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// The answer went out whole.
    pub(crate) complete: bool,
}

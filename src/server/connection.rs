//! One connection as a state machine over bytes: what comes in, what goes out, and what it waits
//! for in between. It has no socket, no thread and no clock of its own: a worker drives it with a
//! `Transport` and the time.
//!
//! The states, in the order in which a connection lives through them:
//!
//! - `Head`: idle, or in the middle of a request's head.
//! - `Body`: the request waits for its body, which is collected or imported.
//! - `Store`: the request waits for the store.
//! - `Answer`: the answer goes out. Its pieces may have to wait for the store.
//! - `Discard`: the answer is out, and the rest of a body that nobody wanted comes in.
//! - `Closing`: nothing more goes out; what the client still sends is taken in for a while, since
//!   closing a socket with unread bytes would take the answer back.
//! - `Closed`.
//!
//! The inputs are bytes, room for bytes, the client's end, a wake from the store, and time. All of
//! them come the same way: `drive` looks at what there is and returns what to wait for. So an input
//! too many does no harm, a deadline is judged where the state is known, and nobody closes a
//! connection from outside.

mod answer;
mod body;
mod head;
#[cfg(any(test, fuzzing))]
mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Timeouts;
use super::exchange::InFlight;
use super::input::{Buffer, Input};
use super::pace::Pace;
use super::service::{Begin, Call, Service, Step, Waker};
use crate::http::body::BodyReader;
use crate::response::{Problem, Response};
use answer::Answering;
use body::Receiving;
use head::ReadingHead;
#[cfg(fuzzing)]
pub(crate) use testing::answers;

/// How long a connection may be idle whatever others need: a request may be on its way.
pub(super) const SHORT_IDLE: Duration = Duration::from_millis(900);
/// How long after the store's deadline an answer may still take, where it is on its way from one
/// thread to another.
const GIVE_UP_WITHIN: Duration = Duration::from_millis(500);
/// What is received of a client although memory is short, in bytes: small bodies never wait for it.
const SMALL_BODY: usize = 4 * 1024;
/// How long a closing connection takes in what the client still sends.
const LINGER: Duration = Duration::from_secs(2);
/// How long the store has for a request once its body is there. The answer is out within 5 s; the
/// rest is for its way.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_millis(4500);
/// The most that is received in one turn of what takes work, before it is somebody else's turn, in
/// bytes.
const MAX_TAKEN_AT_ONCE: usize = 64 * 1024;

/// The socket of a connection, or a test's stand-in. Nothing here blocks: where nothing can be done
/// now, the error is `WouldBlock`.
pub(super) trait Transport {
    /// 0 is the end of what the client sends.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// How many bytes wait to be received.
    fn waiting(&self) -> usize;
    /// `more`: other bytes follow at once.
    fn send(&mut self, bytes: &[u8], more: bool) -> io::Result<usize>;
    /// Nothing more will be sent.
    fn end_sending(&mut self);
    /// Whether the end, whatever brings it about, looks like a failure to the client, and not like
    /// the end of an answer.
    fn reset_at_end(&mut self, reset: bool);
}

/// What a connection must know of the rest of the server when it is driven.
pub(super) struct Turn<'a> {
    pub(super) service: &'a Arc<dyn Service>,
    pub(super) timeouts: &'a Timeouts,
    pub(super) waker: &'a Waker,
    pub(super) now: Instant,
    /// The next answer is its connection's last.
    pub(super) close_after_answer: bool,
    /// Others need this connection's place, or the server is stopping: one that has been idle for a
    /// while ends.
    pub(super) end_if_idle: bool,
    /// The server ends soon: a body that is not here yet will not be waited for.
    pub(super) end_bodies: bool,
    /// Others need the memory that this connection holds.
    pub(super) evict: bool,
    /// There is no memory to spare.
    pub(super) is_memory_short: bool,
    /// Long work may be done now.
    pub(super) may_take_long: bool,
}

/// What a parked connection waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wait {
    /// Bytes from the client, until then at most.
    Readable(Instant),
    /// Room for bytes to the client.
    Writable(Instant),
    /// A wake from the store.
    Store(Instant),
    /// Memory.
    Memory(Instant),
    /// Its next turn, since there is something to do, short or long.
    ShortTurn,
    LongTurn,
    /// Nothing: it is over.
    Nothing,
}

/// What comes of one step.
enum Flow {
    Again,
    Park(Wait),
}

pub(super) struct Connection {
    state: State,
    input: Input,
    opened: Instant,
    /// When its next answer is to be its last.
    retires: Instant,
    /// Bytes in both directions since it was opened.
    moved: u64,
    /// Bytes of a body, or of what is thrown away, in this turn.
    taken: usize,
}

enum State {
    Head(ReadingHead),
    Body(Box<InFlight>, Receiving),
    Store(Box<InFlight>, BodyReader, Asking),
    Answer(Box<Answering>),
    Discard(BodyReader, Pace),
    Closing { until: Instant },
    Closed,
}

/// A call to the store that has not begun, or is on its way.
enum Asking {
    Before { begin: Box<Begin>, held: usize, needs: usize, until: Instant },
    Underway { call: Box<dyn Call>, until: Instant },
}

impl Connection {
    pub(super) fn new(now: Instant, retires: Instant) -> Self {
        Self {
            state: State::Head(ReadingHead::new(now)),
            input: Input::default(),
            opened: now,
            retires,
            moved: 0,
            taken: 0,
        }
    }

    /// Does what can be done now, with the worker's buffer, and says what to wait for.
    pub(super) fn drive(
        &mut self,
        socket: &mut dyn Transport,
        buffer: &mut Option<Buffer>,
        turn: &Turn,
    ) -> Wait {
        self.input.borrow(buffer.take().unwrap_or_else(Buffer::new));
        self.taken = 0;
        let wait = loop {
            match self.step(socket, turn) {
                Flow::Again => {}
                Flow::Park(wait) => break wait,
            }
        };
        *buffer = Some(self.input.give_back());
        wait
    }

    fn step(&mut self, socket: &mut dyn Transport, turn: &Turn) -> Flow {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Head(head) => self.read_head(head, socket, turn),
            State::Body(exchange, receiving) => self.read_body(exchange, receiving, socket, turn),
            State::Store(exchange, rest, asking) => self.ask_store(exchange, rest, asking, turn),
            State::Answer(answering) => self.send_answer(answering, socket, turn),
            State::Discard(body, pace) => self.discard(body, pace, socket, turn),
            State::Closing { until } => self.linger(until, socket, turn),
            State::Closed => Flow::Park(Wait::Nothing),
        }
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Since when it has been waiting for a request, if it is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match &self.state {
            State::Head(head) if self.is_idle() => Some(head.since()),
            State::Discard(_, pace) => Some(pace.since()),
            State::Closing { until } => until.checked_sub(LINGER),
            _ => None,
        }
    }

    /// Bytes of memory that it makes the server keep, apart from the page that every place has.
    pub(super) fn held(&self) -> usize {
        self.input.held()
            + match &self.state {
                State::Body(_, receiving) => receiving.held(),
                State::Store(_, _, Asking::Before { held, .. }) => *held,
                State::Store(_, _, Asking::Underway { call, .. }) => call.held(),
                State::Answer(answering) => answering.held(),
                _ => 0,
            }
    }

    /// Bytes of memory that it holds together with others, for each of them.
    pub(super) fn share(&self) -> usize {
        match &self.state {
            State::Answer(answering) => answering.share(),
            _ => 0,
        }
    }

    /// How many bytes of memory it may take yet.
    pub(super) fn to_go(&self) -> usize {
        match &self.state {
            State::Body(_, receiving) => receiving.to_go(),
            State::Store(_, _, Asking::Before { needs, .. }) => *needs,
            _ => 0,
        }
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Receives until at most `most` bytes are here.
    fn receive(&mut self, most: usize, socket: &mut dyn Transport) -> io::Result<usize> {
        let count = self.input.receive(most, socket)?;
        self.moved += count as u64;
        Ok(count)
    }

    fn park_in(&mut self, state: State, wait: Wait) -> Flow {
        self.state = state;
        Flow::Park(wait)
    }

    fn go_on_in(&mut self, state: State) -> Flow {
        self.state = state;
        Flow::Again
    }

    /// Goes where the service says.
    fn follow(
        &mut self,
        step: Step,
        exchange: Box<InFlight>,
        rest: BodyReader,
        turn: &Turn,
    ) -> Flow {
        match step {
            Step::Respond(response) => self.answer(response, exchange, rest, turn),
            Step::Collect { limit, then } => {
                let receiving =
                    Receiving::collect(limit, then, rest, exchange.expects_continue(), turn);
                self.go_on_in(State::Body(exchange, receiving))
            }
            Step::Import(import) => {
                let receiving = Receiving::import(import, rest, exchange.expects_continue(), turn);
                self.go_on_in(State::Body(exchange, receiving))
            }
            Step::Call { begin, held, needs } => {
                let until = turn.now + ANSWER_WITHIN;
                let asking = Asking::Before { begin, held, needs, until };
                self.go_on_in(State::Store(exchange, rest, asking))
            }
        }
    }

    fn ask_store(
        &mut self,
        exchange: Box<InFlight>,
        rest: BodyReader,
        asking: Asking,
        turn: &Turn,
    ) -> Flow {
        match asking {
            Asking::Before { needs: 1.., until, .. }
                if turn.evict || (turn.is_memory_short && turn.now >= until) =>
            {
                self.answer(short_of_memory(), exchange, rest, turn)
            }
            Asking::Before { needs: 1.., until, .. } if turn.is_memory_short => {
                self.park_in(State::Store(exchange, rest, asking), Wait::Memory(until))
            }
            Asking::Before { begin, until, .. } => match protect(begin) {
                Some(call) => {
                    self.go_on_in(State::Store(exchange, rest, Asking::Underway { call, until }))
                }
                None => self.answer_last(failed(), exchange, turn),
            },
            Asking::Underway { mut call, until } => {
                let is_late = turn.now >= until;
                let step = protect(|| {
                    if is_late {
                        call.give_up();
                    }
                    call.poll()
                });
                match step {
                    Some(Some(step)) => self.follow(step, exchange, rest, turn),
                    Some(None) if turn.now < until + GIVE_UP_WITHIN => {
                        let wait =
                            Wait::Store(if is_late { until + GIVE_UP_WITHIN } else { until });
                        self.park_in(
                            State::Store(exchange, rest, Asking::Underway { call, until }),
                            wait,
                        )
                    }
                    Some(None) | None => self.answer_last(failed(), exchange, turn),
                }
            }
        }
    }
}

/// Runs code of the service. A panic has been logged by the hook and costs this request only.
pub(super) fn protect<T>(action: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(action)).ok()
}

/// To a request for which there was no memory in time.
fn short_of_memory() -> Response {
    let detail = "The server is short of memory, and nothing was done. Send it again later.";
    Problem::new(503, detail).with_header("Retry-After", "1").into()
}

/// After a panic.
fn failed() -> Response {
    Problem::new(500, "The server failed on this request. Its log says where.").into()
}

//! `State::Head` and `State::Discard`: what comes in between two requests.

use std::io::ErrorKind;
use std::time::Instant;

use super::{
    Connection, Flow, MAX_TAKEN_AT_ONCE, SHORT_IDLE, SMALL_BODY, State, Transport, Turn, Wait,
    failed, protect,
};
use crate::http::body::{BodyError, BodyReader};
use crate::http::head::{self, Head, MAX_HEAD};
use crate::response::Problem;
use crate::server::exchange::InFlight;
use crate::server::pace::Pace;
use crate::server::service::Begun;

const EMPTY_LINE: &[u8] = b"\r\n";

/// A head that has not come, or not whole.
pub(super) struct ReadingHead {
    /// So many of the bytes that are here have no end of the head in them.
    seen: usize,
    /// Since when nothing has come of it, or since its first byte.
    since: Instant,
}

impl ReadingHead {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: 0, since: now }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

impl Connection {
    pub(super) fn read_head(
        &mut self,
        mut head: ReadingHead,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        let received = self.input.unread();
        // RFC 9112, section 2.2: an empty line before a request is to be ignored. One: more would
        // keep an idle connection's place for nothing.
        let skipped = if received.starts_with(EMPTY_LINE) { EMPTY_LINE.len() } else { 0 };
        // A longer head is refused however much of it came at once.
        let bytes = &received[skipped..received.len().min(skipped + MAX_HEAD)];
        match head::find_end(bytes, &mut head.seen) {
            Err(problem) => return self.refuse(problem, turn),
            Ok(Some(end)) => {
                let checked = head::check(&bytes[..end]);
                return match checked {
                    Ok(head) => {
                        self.input.consume(skipped + end);
                        self.begin_request(head, turn)
                    }
                    Err(problem) => self.refuse(problem, turn),
                };
            }
            Ok(None) if bytes.len() == MAX_HEAD => return self.refuse(head::too_long(bytes), turn),
            Ok(None) => {}
        }
        self.receive_head(head, socket, turn)
    }

    /// Whether the next head has not begun.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.input.unread(), [] | EMPTY_LINE)
    }

    fn receive_head(
        &mut self,
        mut head: ReadingHead,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        let was_idle = self.is_idle();
        let until = head.since + if was_idle { turn.timeouts.idle } else { turn.timeouts.head };
        // A client that sends ahead, or a body before anybody asked for it, waits in its own
        // memory.
        let most = if turn.is_memory_short { SMALL_BODY } else { MAX_HEAD };
        match self.receive(most, socket) {
            Ok(0) if was_idle => self.park_in(State::Closed, Wait::Nothing),
            Ok(0) => {
                let detail = "The connection was closed in the middle of the request's head.";
                self.refuse(Problem::new(400, detail), turn)
            }
            Ok(_) if was_idle && !self.is_idle() => {
                head.since = turn.now;
                self.go_on_in(State::Head(head))
            }
            Ok(_) if turn.now < until => self.go_on_in(State::Head(head)),
            Ok(_) if was_idle => self.park_in(State::Closed, Wait::Nothing),
            Ok(_) => self.refuse_slow_head(turn),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.go_on_in(State::Head(head))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let is_unwanted = turn.end_if_idle && turn.now >= head.since + SHORT_IDLE;
                if was_idle && (is_unwanted || turn.now >= until) {
                    self.park_in(State::Closed, Wait::Nothing)
                } else if turn.end_bodies && !was_idle {
                    self.refuse(BodyError::Stopped.into(), turn)
                } else if turn.now >= until {
                    self.refuse_slow_head(turn)
                } else if turn.evict && !was_idle {
                    self.refuse(BodyError::Evicted.into(), turn)
                } else {
                    self.park_in(State::Head(head), Wait::Readable(until))
                }
            }
            Err(_) => self.park_in(State::Closed, Wait::Nothing),
        }
    }

    fn refuse_slow_head(&mut self, turn: &Turn) -> Flow {
        let seconds = turn.timeouts.head.as_secs_f32();
        self.refuse(
            Problem::new(408, format!("The request's head took longer than {seconds} s.")),
            turn,
        )
    }

    /// Answers a head that is no request. What follows it cannot be read.
    fn refuse(&mut self, problem: Problem, turn: &Turn) -> Flow {
        let received = self.input.unread();
        let is_head = received.strip_prefix(EMPTY_LINE).unwrap_or(received).starts_with(b"HEAD ");
        let exchange = InFlight::refused(turn.service, is_head, turn.now);
        self.answer_last(problem.into(), exchange, turn)
    }

    fn begin_request(&mut self, head: Head, turn: &Turn) -> Flow {
        let body = BodyReader::new(head.framing);
        let mut exchange = InFlight::begin(turn.service, head, turn.now);
        let begun = exchange
            .request()
            .and_then(|request| protect(|| turn.service.begin(request, turn.waker)));
        match begun {
            Some(Begun { route, step }) => {
                exchange.route = route;
                self.follow(step, exchange, body, turn)
            }
            None => self.answer_last(failed(), exchange, turn),
        }
    }

    /// Reads what nobody wants of a body, so that the next request can be read.
    pub(super) fn discard(
        &mut self,
        mut body: BodyReader,
        mut pace: Pace,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        if body.is_complete() {
            return self.await_request(turn);
        }
        if !self.input.is_empty() {
            return match body.take_framing(self.input.unread()) {
                Ok(framing) => {
                    let data = body.data_in(self.input.unread().len() - framing);
                    body.take_data(data);
                    self.input.consume(framing + data);
                    self.go_on_in(State::Discard(body, pace))
                }
                Err(_) => self.close(socket, turn),
            };
        }
        match self.receive(MAX_TAKEN_AT_ONCE, socket) {
            Ok(0) => self.park_in(State::Closed, Wait::Nothing),
            Ok(count) => {
                pace.moved(count, turn.now);
                self.go_on_in(State::Discard(body, pace))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.go_on_in(State::Discard(body, pace))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if turn.end_if_idle || pace.is_too_slow(turn.now) {
                    self.close(socket, turn)
                } else {
                    let until = pace.deadline();
                    self.park_in(State::Discard(body, pace), Wait::Readable(until))
                }
            }
            Err(_) => self.park_in(State::Closed, Wait::Nothing),
        }
    }
}

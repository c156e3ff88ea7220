//! `State::Answer` and `State::Closing`: an answer goes out, and what becomes of the connection
//! after it.

use std::io;
use std::time::Instant;

use super::head::ReadingHead;
use super::{
    Connection, Flow, GIVE_UP_WITHIN, LINGER, MAX_TAKEN_AT_ONCE, SHORT_IDLE, State, Transport,
    Turn, Wait,
};
use crate::http::body::BodyReader;
use crate::response::{Delivery, Response};
use crate::server::exchange::InFlight;
use crate::server::output::{Next, Output};
use crate::server::pace::Pace;

/// The most of an answer that is sent before it is somebody else's turn, in bytes.
const MAX_SENT_AT_ONCE: usize = 1024 * 1024;

pub(super) struct Answering {
    exchange: Box<InFlight>,
    output: Output,
    pace: Pace,
    /// What is left of the request's body; none where nobody can tell what follows.
    rest: Option<BodyReader>,
    /// The connection can carry another request.
    goes_on: bool,
    /// The next piece had to be waited for.
    was_paused: bool,
    /// The answer ends where the connection does (HTTP/1.0), so that one which is broken off must
    /// not end in good order.
    streams_until_close: bool,
}

impl Answering {
    /// Bytes that only this answer holds.
    pub(super) fn held(&self) -> usize {
        self.output.held()
    }

    /// Bytes that it holds together with others, for each of them.
    pub(super) fn share(&self) -> usize {
        self.output.share()
    }
}

impl Connection {
    /// Begins to answer; `rest` is what is left of the request's body.
    pub(super) fn answer(
        &mut self,
        response: Response,
        exchange: Box<InFlight>,
        rest: BodyReader,
        turn: &Turn,
    ) -> Flow {
        self.begin_answer(response, exchange, Some(rest), turn)
    }

    /// Begins an answer after which nothing can be read any more.
    pub(super) fn answer_last(
        &mut self,
        response: Response,
        exchange: Box<InFlight>,
        turn: &Turn,
    ) -> Flow {
        self.begin_answer(response, exchange, None, turn)
    }

    fn begin_answer(
        &mut self,
        response: Response,
        mut exchange: Box<InFlight>,
        rest: Option<BodyReader>,
        turn: &Turn,
    ) -> Flow {
        let streams_until_close = exchange.is_http10() && response.is_stream();
        // Where a client still waits for its `100 Continue`, nobody can tell whether the body will
        // come.
        let is_readable =
            rest.as_ref().is_some_and(|rest| rest.can_be_discarded(exchange.expects_continue()));
        let must_close = turn.close_after_answer || self.is_retired(turn) || streams_until_close;
        let goes_on = is_readable && exchange.keep_alive() && !must_close;
        exchange.status = response.status;
        let delivery = Delivery {
            close: !goes_on,
            http10: exchange.is_http10(),
            head_only: exchange.is_head(),
            request_id: exchange.id(),
        };
        let output = Output::new(response, &delivery);
        let pace = Pace::new(turn.timeouts.send, turn.now);
        let answering = Answering {
            exchange,
            output,
            pace,
            rest,
            goes_on,
            was_paused: false,
            streams_until_close,
        };
        self.go_on_in(State::Answer(Box::new(answering)))
    }

    /// Whether it has lived long enough. What is here already is answered first, but not for ever.
    fn is_retired(&self, turn: &Turn) -> bool {
        let retires =
            if self.input.is_empty() { self.retires } else { self.retires + turn.timeouts.age };
        turn.now >= retires
    }

    pub(super) fn send_answer(
        &mut self,
        mut answering: Box<Answering>,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        let (mut sent_now, mut has_given_up) = (0, false);
        if answering.streams_until_close {
            socket.reset_at_end(true);
        }
        loop {
            let Answering { output, pace, was_paused, .. } = &mut *answering;
            match output.next() {
                Next::Done => break,
                Next::Broken => return self.break_off(*answering),
                Next::Wait(until) if turn.now >= until + GIVE_UP_WITHIN => {
                    return self.break_off(*answering);
                }
                Next::Wait(until) if turn.now >= until && !has_given_up => {
                    output.give_up();
                    has_given_up = true;
                }
                Next::Wait(until) if turn.now >= until => {
                    return self
                        .park_in(State::Answer(answering), Wait::Store(until + GIVE_UP_WITHIN));
                }
                Next::Wait(until) => {
                    answering.was_paused = true;
                    return self.park_in(State::Answer(answering), Wait::Store(until));
                }
                Next::Send(..) if sent_now >= MAX_SENT_AT_ONCE => {
                    return self.park_in(State::Answer(answering), Wait::ShortTurn);
                }
                Next::Send(bytes, more) => match socket.send(bytes, more) {
                    Ok(count) => {
                        if std::mem::take(was_paused) {
                            pace.restart(turn.now);
                        }
                        sent_now += count;
                        self.moved += count as u64;
                        output.advance(count, !turn.is_memory_short);
                        pace.moved(count, turn.now);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if turn.evict || pace.is_too_slow(turn.now) {
                            return self.abort(*answering, socket);
                        }
                        let until = pace.deadline();
                        return self.park_in(State::Answer(answering), Wait::Writable(until));
                    }
                    // The client is gone.
                    Err(_) => return self.abort(*answering, socket),
                },
            }
        }
        self.end_answer(answering, socket, turn)
    }

    /// The client sees that its answer is not whole: by the missing last chunk, by the length that
    /// was announced, or by a reset.
    fn break_off(&mut self, mut answering: Answering) -> Flow {
        answering.exchange.bytes = answering.output.body_sent();
        self.park_in(State::Closed, Wait::Nothing)
    }

    /// The client does not take its answer. The kernel would keep what it holds of it for minutes
    /// more.
    fn abort(&mut self, answering: Answering, socket: &mut dyn Transport) -> Flow {
        socket.reset_at_end(true);
        self.break_off(answering)
    }

    fn end_answer(
        &mut self,
        mut answering: Box<Answering>,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        answering.exchange.bytes = answering.output.body_sent();
        answering.exchange.is_complete = true;
        if answering.streams_until_close {
            socket.reset_at_end(false);
        }
        let (rest, goes_on) = (answering.rest.take(), answering.goes_on);
        let is_last = !answering.exchange.keep_alive();
        // The log and the metrics are told before the next request begins.
        drop(answering);
        match rest {
            Some(body) if goes_on && !body.is_complete() => {
                self.go_on_in(State::Discard(body, Pace::new(turn.timeouts.body, turn.now)))
            }
            Some(_) if goes_on => self.await_request(turn),
            // Where the server is what ends the connection, the next request may be on its way, and
            // closing the socket on it would take the answer back.
            Some(body) if is_last && body.is_complete() && self.input.is_empty() => {
                self.park_in(State::Closed, Wait::Nothing)
            }
            _ => self.close(socket, turn),
        }
    }

    /// One request a turn, so that pipelining neither hangs nor hogs.
    pub(super) fn await_request(&mut self, turn: &Turn) -> Flow {
        let is_here = !self.input.is_empty();
        let wait =
            if is_here { Wait::ShortTurn } else { Wait::Readable(turn.now + turn.timeouts.idle) };
        self.park_in(State::Head(ReadingHead::new(turn.now)), wait)
    }

    /// The last answer is out.
    pub(super) fn close(&mut self, socket: &mut dyn Transport, turn: &Turn) -> Flow {
        socket.end_sending();
        self.go_on_in(State::Closing { until: turn.now + LINGER })
    }

    pub(super) fn linger(
        &mut self,
        until: Instant,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        self.input.consume(self.input.unread().len());
        let is_unwanted = turn.end_if_idle && turn.now + LINGER >= until + SHORT_IDLE;
        match self.receive(MAX_TAKEN_AT_ONCE, socket) {
            Ok(0) => self.park_in(State::Closed, Wait::Nothing),
            Ok(count) if turn.now < until => {
                // The time is that of the turn: whoever sends without a pause would otherwise never
                // see it end.
                self.taken += count;
                match self.taken < MAX_TAKEN_AT_ONCE {
                    true => self.go_on_in(State::Closing { until }),
                    false => self.park_in(State::Closing { until }, Wait::ShortTurn),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.go_on_in(State::Closing { until })
            }
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && turn.now < until
                    && !is_unwanted =>
            {
                self.park_in(State::Closing { until }, Wait::Readable(until))
            }
            _ => self.park_in(State::Closed, Wait::Nothing),
        }
    }
}

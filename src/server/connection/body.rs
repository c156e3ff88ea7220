//! `State::Body`: a request's body comes in, to be collected or imported.

use std::io::ErrorKind;
use std::time::Instant;

use super::{
    ANSWER_WITHIN, Connection, Flow, GIVE_UP_WITHIN, MAX_TAKEN_AT_ONCE, SMALL_BODY, State,
    Transport, Turn, Wait, failed, protect,
};
use crate::http::body::{BodyError, BodyReader};
use crate::server::exchange::InFlight;
use crate::server::pace::Pace;
use crate::server::service::{Import, ImportState, Step, Then};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// A body longer than this is long work; in bytes.
const LARGE_BODY: usize = 64 * 1024;

/// An import may always hold so much of what it has had stored already: one part of so many.
const IMPORT_SHARE: usize = 16;

pub(super) struct Receiving {
    body: BodyReader,
    sink: Sink,
    pace: Pace,
    /// What has to be sent before the client sends its body.
    interim: &'static [u8],
    /// The body has ended before its end.
    is_broken: bool,
    /// The server has stopped reading it for a while.
    was_paused: bool,
    /// Until when there has to be memory for more of it, where there is none.
    short_until: Option<Instant>,
}

enum Sink {
    Collect { bytes: Vec<u8>, limit: usize, then: Box<Then> },
    Import(Box<dyn Import>),
}

impl Receiving {
    pub(super) fn collect(
        limit: usize,
        then: Box<Then>,
        body: BodyReader,
        expects_continue: bool,
        turn: &Turn,
    ) -> Self {
        Self::new(Sink::Collect { bytes: Vec::new(), limit, then }, body, expects_continue, turn)
    }

    pub(super) fn import(
        import: Box<dyn Import>,
        body: BodyReader,
        expects_continue: bool,
        turn: &Turn,
    ) -> Self {
        Self::new(Sink::Import(import), body, expects_continue, turn)
    }

    fn new(sink: Sink, body: BodyReader, expects_continue: bool, turn: &Turn) -> Self {
        let interim = if expects_continue && !body.is_complete() { CONTINUE } else { b"" };
        Self {
            body,
            sink,
            pace: Pace::new(turn.timeouts.body, turn.now),
            interim,
            is_broken: false,
            was_paused: false,
            short_until: None,
        }
    }

    pub(super) fn held(&self) -> usize {
        match &self.sink {
            Sink::Collect { bytes, .. } => bytes.capacity(),
            Sink::Import(import) => import.held(),
        }
    }

    /// Takes bytes of the connection, as many as it can now; returns how many.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        let framing = self.body.take_framing(bytes)?;
        let data = &bytes[framing..][..self.body.data_in(bytes.len() - framing)];
        let taken = match &mut self.sink {
            Sink::Collect { bytes, limit, .. } => {
                let announced = usize::try_from(self.body.announced()).unwrap_or(usize::MAX);
                if bytes.len().saturating_add(announced) > *limit {
                    return Err(BodyError::TooLarge);
                }
                // Doubled as it comes, but not beyond what can come still.
                if bytes.capacity() - bytes.len() < data.len() {
                    let most =
                        if self.body.has_length() { announced } else { *limit - bytes.len() };
                    bytes.reserve_exact(bytes.len().max(data.len()).min(most));
                }
                bytes.extend_from_slice(data);
                data.len()
            }
            Sink::Import(import) if !data.is_empty() => import.take(data),
            Sink::Import(_) => 0,
        };
        self.body.take_data(taken);
        Ok(framing + taken)
    }

    /// It may grow although memory is short.
    fn is_small(&self) -> bool {
        match &self.sink {
            Sink::Collect { bytes, .. } => bytes.len() < SMALL_BODY,
            // What it holds is little beside what it has had stored already.
            Sink::Import(import) => import.held() < SMALL_BODY.max(import.stored() / IMPORT_SHARE),
        }
    }

    fn is_long(&self) -> bool {
        match &self.sink {
            Sink::Collect { bytes, .. } => bytes.len() > LARGE_BODY,
            Sink::Import(_) => true,
        }
    }

    /// How many bytes of memory it may take yet.
    pub(super) fn to_go(&self) -> usize {
        match &self.sink {
            Sink::Collect { bytes, .. } if self.body.has_length() => {
                let announced = usize::try_from(self.body.announced()).unwrap_or(usize::MAX);
                bytes.len().saturating_add(announced).saturating_sub(bytes.capacity())
            }
            Sink::Collect { bytes, limit, .. } => limit.saturating_sub(bytes.capacity()),
            Sink::Import(import) => import.to_go(),
        }
    }
}

impl Connection {
    pub(super) fn read_body(
        &mut self,
        exchange: Box<InFlight>,
        mut receiving: Receiving,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        if !receiving.interim.is_empty() {
            return self.send_interim(exchange, receiving, socket, turn);
        }
        if let Sink::Import(import) = &mut receiving.sink {
            let mut state = protect(|| import.poll());
            if matches!(state, Some(ImportState::Store { until }) if turn.now >= until) {
                state = protect(|| {
                    import.give_up();
                    import.poll()
                });
            }
            match state {
                Some(ImportState::Data) => {}
                Some(ImportState::Work) if turn.may_take_long => {
                    return match protect(|| import.work()) {
                        Some(()) => self.go_on_in(State::Body(exchange, receiving)),
                        None => self.answer_last(failed(), exchange, turn),
                    };
                }
                Some(ImportState::Work) => {
                    return self.park_in(State::Body(exchange, receiving), Wait::LongTurn);
                }
                Some(ImportState::Store { until }) if turn.now < until + GIVE_UP_WITHIN => {
                    receiving.was_paused = true;
                    let until = if turn.now < until { until } else { until + GIVE_UP_WITHIN };
                    return self.park_in(State::Body(exchange, receiving), Wait::Store(until));
                }
                Some(ImportState::Done(response)) if receiving.is_broken => {
                    return self.answer_last(response, exchange, turn);
                }
                Some(ImportState::Done(response)) => {
                    return self.answer(response, exchange, receiving.body, turn);
                }
                Some(ImportState::Store { .. }) | None => {
                    return self.answer_last(failed(), exchange, turn);
                }
            }
        }
        if receiving.body.is_complete() {
            return self.end_body(exchange, receiving, turn);
        }
        self.take_body(exchange, receiving, socket, turn)
    }

    fn send_interim(
        &mut self,
        mut exchange: Box<InFlight>,
        mut receiving: Receiving,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        match socket.send(receiving.interim, false) {
            Ok(count) => {
                receiving.interim = &receiving.interim[count..];
                if receiving.interim.is_empty() {
                    exchange.expects_no_more();
                }
                self.go_on_in(State::Body(exchange, receiving))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.go_on_in(State::Body(exchange, receiving))
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock
                    && !turn.evict
                    && !receiving.pace.is_too_slow(turn.now) =>
            {
                let until = receiving.pace.deadline();
                self.park_in(State::Body(exchange, receiving), Wait::Writable(until))
            }
            Err(_) => {
                socket.reset_at_end(true);
                self.park_in(State::Closed, Wait::Nothing)
            }
        }
    }

    /// Takes what has come of a body, and receives more.
    fn take_body(
        &mut self,
        exchange: Box<InFlight>,
        mut receiving: Receiving,
        socket: &mut dyn Transport,
        turn: &Turn,
    ) -> Flow {
        if !self.input.is_empty() {
            return match protect(|| receiving.take(self.input.unread())) {
                Some(Ok(count)) => {
                    self.input.consume(count);
                    self.go_on_in(State::Body(exchange, receiving))
                }
                None => self.answer_last(failed(), exchange, turn),
                Some(Err(error)) => self.break_body(error, exchange, receiving, turn),
            };
        }
        if turn.evict {
            return self.break_body(BodyError::Evicted, exchange, receiving, turn);
        }
        if turn.end_bodies {
            return self.break_body(BodyError::Stopped, exchange, receiving, turn);
        }
        if receiving.was_paused {
            // What the server was to blame for does not count against the client.
            receiving.was_paused = false;
            receiving.pace.restart(turn.now);
        }
        // A client that sends nothing anyhow is not paused, but stalled.
        if turn.is_memory_short && !receiving.is_small() && socket.waiting() > 0 {
            receiving.was_paused = true;
            // An import may have what it needs itself.
            if let Sink::Import(import) = &mut receiving.sink
                && protect(|| import.store_early()) == Some(true)
            {
                return self.go_on_in(State::Body(exchange, receiving));
            }
            let until = *receiving.short_until.get_or_insert(turn.now + ANSWER_WITHIN);
            if turn.now >= until {
                return self.break_body(BodyError::Evicted, exchange, receiving, turn);
            }
            return self.park_in(State::Body(exchange, receiving), Wait::Memory(until));
        }
        receiving.short_until = None;
        let most = if turn.is_memory_short { SMALL_BODY } else { MAX_TAKEN_AT_ONCE };
        match self.receive(most, socket) {
            Ok(0) => self.break_body(BodyError::Cut, exchange, receiving, turn),
            Ok(count) => {
                receiving.pace.moved(count, turn.now);
                self.taken += count;
                if self.taken < MAX_TAKEN_AT_ONCE {
                    return self.go_on_in(State::Body(exchange, receiving));
                }
                let wait = if receiving.is_long() { Wait::LongTurn } else { Wait::ShortTurn };
                self.park_in(State::Body(exchange, receiving), wait)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.go_on_in(State::Body(exchange, receiving))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if receiving.pace.is_too_slow(turn.now) {
                    return self.break_body(BodyError::TooSlow, exchange, receiving, turn);
                }
                let until = receiving.pace.deadline();
                self.park_in(State::Body(exchange, receiving), Wait::Readable(until))
            }
            // The client is gone, but what it sent of an import is not.
            Err(_) => self.break_body(BodyError::Cut, exchange, receiving, turn),
        }
    }

    /// The body is here.
    fn end_body(&mut self, exchange: Box<InFlight>, mut receiving: Receiving, turn: &Turn) -> Flow {
        match receiving.sink {
            Sink::Collect { ref bytes, .. } if bytes.len() > LARGE_BODY && !turn.may_take_long => {
                self.park_in(State::Body(exchange, receiving), Wait::LongTurn)
            }
            Sink::Collect { bytes, then, .. } => match protect(|| then(Ok(bytes))) {
                Some(step) => self.follow(step, exchange, receiving.body, turn),
                None => self.answer_last(failed(), exchange, turn),
            },
            Sink::Import(ref mut import) => match protect(|| import.end(Ok(()))) {
                Some(()) => self.go_on_in(State::Body(exchange, receiving)),
                None => self.answer_last(failed(), exchange, turn),
            },
        }
    }

    /// The body will not come whole.
    fn break_body(
        &mut self,
        error: BodyError,
        exchange: Box<InFlight>,
        mut receiving: Receiving,
        turn: &Turn,
    ) -> Flow {
        match receiving.sink {
            Sink::Collect { then, .. } => match protect(|| then(Err(error))) {
                Some(Step::Respond(response)) => self.answer_last(response, exchange, turn),
                _ => self.answer_last(failed(), exchange, turn),
            },
            Sink::Import(ref mut import) => match protect(|| import.end(Err(error))) {
                Some(()) => {
                    receiving.is_broken = true;
                    self.go_on_in(State::Body(exchange, receiving))
                }
                None => self.answer_last(failed(), exchange, turn),
            },
        }
    }
}

//! A connection, its client and its store, driven step by step as a worker would. No socket, no
//! thread, and a clock that stands still unless it is moved.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use super::service::{Fake, Finished, route_of};
use crate::server::Timeouts;
use crate::server::connection::{Connection, Transport, Turn, Wait};
use crate::server::input::Buffer;
use crate::server::service::{Service, Token, Wake, Waker};

/// More calls than any input needs.
const MAX_CALLS: usize = 1_000_000;
/// What is received at once, and what is longest of an answer or of a body; in bytes.
const MAX_HELD: usize = 64 * 1024 + 128 * 1024;

/// The client's end of the connection.
#[derive(Default)]
pub(in crate::server) struct Client {
    arrived: VecDeque<u8>,
    has_ended: bool,
    /// The server knows.
    is_end_seen: bool,
    /// How many bytes each `send` takes; 0 is a `WouldBlock`. After the last of them, all.
    takes: VecDeque<u8>,
    /// It takes nothing at all.
    pub(in crate::server) is_full: bool,
    pub(in crate::server) received: Vec<u8>,
    /// The server has shut its side.
    pub(in crate::server) is_shut: bool,
    pub(in crate::server) is_reset: bool,
    is_send_blocked: bool,
    calls: usize,
}

impl Client {
    /// What makes the server's end readable.
    fn has_something(&self) -> bool {
        !self.arrived.is_empty() || (self.has_ended && !self.is_end_seen)
    }

    fn note_call(&mut self) {
        self.calls += 1;
        assert!(self.calls < MAX_CALLS, "the connection spins");
    }
}

impl Transport for Client {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.note_call();
        assert!(!into.is_empty(), "no room: 0 would look like the end");
        let count = into.len().min(self.arrived.len());
        if count == 0 && !self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.is_end_seen = count == 0;
        self.arrived.read(into)
    }

    fn waiting(&self) -> usize {
        self.arrived.len()
    }

    fn send(&mut self, bytes: &[u8], _: bool) -> io::Result<usize> {
        self.note_call();
        assert!(!self.is_shut, "sends after it said that it would not");
        assert!(!bytes.is_empty(), "sends nothing");
        let most = self.takes.pop_front().map_or(usize::MAX, usize::from);
        if most == 0 || self.is_full {
            self.is_send_blocked = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = most.min(bytes.len());
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn end_sending(&mut self) {
        self.is_shut = true;
    }

    fn reset_at_end(&mut self, reset: bool) {
        self.is_reset = reset;
    }
}

#[derive(Default)]
struct Woken(AtomicBool, AtomicUsize);

impl Wake for Woken {
    fn wake(&self, token: Token) {
        assert_eq!(token, TOKEN);
        self.0.store(true, SeqCst);
        self.1.fetch_add(1, SeqCst);
    }
}

const TOKEN: Token = Token { place: 3, generation: 5 };

pub(in crate::server) struct Session {
    connection: Connection,
    pub(in crate::server) client: Client,
    pub(in crate::server) fake: Arc<Fake>,
    pub(in crate::server) now: Instant,
    pub(in crate::server) timeouts: Timeouts,
    pub(in crate::server) close_after_answer: bool,
    pub(in crate::server) end_if_idle: bool,
    pub(in crate::server) end_bodies: bool,
    pub(in crate::server) evict: bool,
    pub(in crate::server) is_memory_short: bool,
    service: Arc<dyn Service>,
    woken: Arc<Woken>,
    buffer: Option<Buffer>,
    may_take_long: bool,
}

impl Session {
    pub(in crate::server) fn new() -> Self {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts {
            head: 10 * second,
            body: 20 * second,
            idle: 60 * second,
            send: 30 * second,
            age: 600 * second,
        };
        let now = Instant::now();
        let fake = Arc::new(Fake::default());
        Self {
            connection: Connection::new(now, now + timeouts.age),
            client: Client::default(),
            service: fake.clone(),
            fake,
            now,
            timeouts,
            close_after_answer: false,
            end_if_idle: false,
            end_bodies: false,
            evict: false,
            is_memory_short: false,
            woken: Arc::default(),
            buffer: None,
            may_take_long: false,
        }
    }

    pub(in crate::server) fn send(&mut self, bytes: &[u8]) {
        self.client.arrived.extend(bytes);
    }

    /// How many bytes the server has not received.
    pub(in crate::server) fn left(&self) -> usize {
        self.client.arrived.len()
    }

    /// One turn.
    pub(in crate::server) fn drive(&mut self) -> Wait {
        self.client.is_send_blocked = false;
        self.fake.set_time(self.now);
        let waker = Waker::new(self.woken.clone(), TOKEN);
        let turn = Turn {
            service: &self.service,
            timeouts: &self.timeouts,
            waker: &waker,
            now: self.now,
            close_after_answer: self.close_after_answer,
            end_if_idle: self.end_if_idle,
            end_bodies: self.end_bodies,
            evict: self.evict,
            is_memory_short: self.is_memory_short,
            may_take_long: self.may_take_long,
        };
        let wait = self.connection.drive(&mut self.client, &mut self.buffer, &turn);
        self.check(wait);
        wait
    }

    /// It holds no more than one request and its answer, and whatever it waits for can still come,
    /// and its deadline too.
    fn check(&self, wait: Wait) {
        let held = self.connection.held();
        assert!(held <= MAX_HELD, "holds {held} bytes");
        match wait {
            Wait::Readable(until)
            | Wait::Writable(until)
            | Wait::Store(until)
            | Wait::Memory(until) => {
                assert!(until > self.now, "a deadline that was not judged: {wait:?}");
            }
            Wait::ShortTurn | Wait::LongTurn | Wait::Nothing => {}
        }
        match wait {
            Wait::Writable(_) => {
                assert!(self.client.is_send_blocked, "waits for room that is there")
            }
            Wait::Readable(_) => assert!(!self.client.is_end_seen, "waits for bytes after the end"),
            Wait::Memory(_) => assert!(self.is_memory_short, "waits for memory that is there"),
            _ => {}
        }
    }

    /// Drives it until it waits for something that is not its next turn.
    pub(in crate::server) fn settle(&mut self) -> Wait {
        loop {
            let wait = self.drive();
            self.may_take_long = wait == Wait::LongTurn;
            if !matches!(wait, Wait::ShortTurn | Wait::LongTurn) {
                return wait;
            }
        }
    }

    /// Lets `time` pass, and drives it.
    pub(in crate::server) fn pass(&mut self, time: Duration) -> Wait {
        self.now += time;
        self.settle()
    }

    /// From the first byte to the end of the connection: `pieces` come one after another, then the
    /// end. `takes` is what the client takes of each write; `noise` says at each wait whether the
    /// connection is driven for nothing (odd) and whether a piece arrives before its time (2).
    pub(in crate::server) fn run(
        mut self,
        pieces: &[&[u8]],
        takes: &[u8],
        noise: &[u8],
    ) -> Outcome {
        self.client.takes = takes.iter().copied().collect();
        let mut pieces: VecDeque<&[u8]> = pieces.iter().copied().collect();
        let mut noise = noise.iter().copied();
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let most = 100 + 8 * (pieces.len() + takes.len() + noise.len()) + bytes;
        for _ in 0..most {
            let wait = self.drive();
            let noise = noise.next().unwrap_or(0);
            let has_come = wait != Wait::Nothing && noise & 2 != 0 && self.deliver(&mut pieces);
            self.may_take_long = false;
            if matches!(wait, Wait::Store(_) | Wait::Readable(_)) && (has_come || noise & 1 != 0) {
                continue;
            }
            match wait {
                Wait::Readable(_) if self.client.has_something() => {}
                Wait::Readable(_) if self.drive_for_nothing() != wait => {
                    panic!("waits for bytes and has some")
                }
                Wait::Readable(_) => {
                    assert!(self.deliver(&mut pieces), "waits for bytes after the end")
                }
                Wait::Store(_) => {
                    assert!(
                        self.fake.answer_one() || self.woken.0.load(SeqCst),
                        "waits for nobody"
                    );
                    self.woken.0.store(false, SeqCst);
                }
                Wait::Writable(_) | Wait::ShortTurn => {}
                Wait::LongTurn => self.may_take_long = true,
                Wait::Memory(_) => self.is_memory_short = false,
                Wait::Nothing => return self.outcome(),
            }
        }
        panic!("it does not come to an end");
    }

    /// As `run`, but time passes, and the server asks for things: each of `events` before one turn.
    pub(in crate::server) fn storm(
        mut self,
        pieces: &[&[u8]],
        takes: &[u8],
        events: &[Event],
    ) -> Outcome {
        self.client.takes = takes.iter().copied().collect();
        let mut pieces: VecDeque<&[u8]> = pieces.iter().copied().collect();
        for event in events {
            match *event {
                Event::Bytes => drop(self.deliver(&mut pieces)),
                Event::Time(millis) => self.now += Duration::from_millis(millis),
                Event::Answer => drop(self.fake.answer_one()),
                Event::Full(is_full) => self.client.is_full = is_full,
                Event::Close(close) => self.close_after_answer = close,
                Event::EndIdle(end) => self.end_if_idle = end,
                Event::EndBodies => self.end_bodies = true,
                Event::Evict => self.evict = true,
                Event::Short(is_short) => self.is_memory_short = is_short,
                Event::Long(may_take_long) => self.may_take_long = may_take_long,
            }
            if self.drive() == Wait::Nothing {
                return self.outcome();
            }
            self.evict = false;
        }
        // Whatever it waits for, nobody does anything any more: with time alone it comes to its
        // end.
        for _ in 0..1000 {
            match self.settle() {
                Wait::Readable(until) | Wait::Writable(until) | Wait::Store(until) => {
                    self.now = until
                }
                Wait::Memory(_) => self.is_memory_short = false,
                Wait::ShortTurn | Wait::LongTurn => {}
                Wait::Nothing => return self.outcome(),
            }
        }
        panic!("it does not come to an end");
    }

    /// One more turn, in which nothing can have come of it.
    fn drive_for_nothing(&mut self) -> Wait {
        let received = self.client.received.len();
        let wait = self.drive();
        assert_eq!(self.client.received.len(), received, "waits and has something to send");
        wait
    }

    /// The next piece, or the end; false if that came before.
    fn deliver(&mut self, pieces: &mut VecDeque<&[u8]>) -> bool {
        match pieces.pop_front() {
            Some(piece) => self.send(piece),
            None if self.client.has_ended => return false,
            None => self.client.has_ended = true,
        }
        true
    }

    /// What is left when the connection is gone.
    pub(in crate::server) fn outcome(self) -> Outcome {
        drop(self.connection);
        let finished = std::mem::take(&mut *self.fake.finished.lock().unwrap());
        let begun = self.fake.begun.load(SeqCst);
        assert_eq!(self.fake.open.load(SeqCst), 0, "a request that was not counted out");
        let of_requests = finished.iter().filter(|finished| !finished.method.is_empty()).count();
        assert_eq!(of_requests, begun, "each request is finished once: {finished:?}");
        for finished in &finished {
            // A head that was refused has no target; one that panics has not said its route.
            let is_routed = !finished.target.is_empty() && finished.target != "/panic";
            let route = is_routed.then(|| route_of(&finished.target));
            assert!(finished.target == "/panic" || finished.route == route, "{finished:?}");
        }
        let Client { received, is_reset, .. } = self.client;
        Outcome { answers: without_dates(&received), received, finished, is_reset }
    }
}

/// What may happen to a connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) enum Event {
    Bytes,
    /// In milliseconds.
    Time(u64),
    Answer,
    Full(bool),
    Close(bool),
    EndIdle(bool),
    EndBodies,
    Evict,
    Short(bool),
    Long(bool),
}

pub(in crate::server) struct Outcome {
    /// As it was received. Two outcomes are equal without it.
    pub(in crate::server) received: Vec<u8>,
    pub(in crate::server) answers: Vec<u8>,
    pub(in crate::server) finished: Vec<Finished>,
    pub(in crate::server) is_reset: bool,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        (&self.answers, &self.finished, self.is_reset)
            == (&other.answers, &other.finished, other.is_reset)
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let start = String::from_utf8_lossy(&self.answers[..self.answers.len().min(2000)]);
        write!(
            formatter,
            "{start:?} ({} bytes), {:?}, reset: {}",
            self.answers.len(),
            self.finished,
            self.is_reset
        )
    }
}

/// Without the lines that differ between two runs: dates, and names that the server made for
/// requests.
fn without_dates(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| {
        let is_made =
            line.starts_with(b"X-Request-Id: ") && line.len() == b"X-Request-Id: \r\n".len() + 24;
        !line.starts_with(b"Date: ") && !is_made
    });
    lines.flatten().copied().collect()
}

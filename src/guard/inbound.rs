//! The incoming side of one connection: a head read whole, judged, and handed to tiny_http in its clean form; then
//! just the body, and not one byte of the next request. All of it within the limits.
//!
//! What goes wrong before tiny_http has a request is answered here, and the sending side is shut: tiny_http would
//! answer by itself with an empty 400, even where the client merely went away.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::Body;
use super::buffer::Buffer;
use super::head::{self, Head, MAX_HEAD};
use super::{Limits, Neighbours, receive, with_socket};
use crate::response::{Delivery, Problem, Response};

/// The least a body must bring once `Limits::body` is over, in bytes a second.
const MIN_BODY_RATE: u64 = 1024;
/// How long a closing connection takes in what the client still sends, so that it gets to read the answer.
const LINGER: Duration = Duration::from_secs(2);
/// How long a connection may be idle at least, even if its thread is wanted elsewhere: a request may be on its way.
const SHORT_IDLE: Duration = Duration::from_millis(900);
const EMPTY_LINE: &[u8] = b"\r\n";

pub(super) struct Inbound {
    limits: Limits,
    neighbours: Arc<dyn Neighbours>,
    stage: Stage,
    /// When the stage began; for a head, when its first byte came.
    since: Instant,
    buffer: Buffer,
    /// Known from the first read on.
    socket: Option<RawFd>,
    keep_alive: bool,
    expects_continue: bool,
    /// The server has the request in hand.
    in_request: bool,
    /// Reads get an end of file, so that tiny_http lets go of the body.
    paused: bool,
    refused: Option<u16>,
}

/// What comes next from the client.
enum Stage {
    /// A head; the first `seen` buffered bytes hold no end of it.
    Head {
        seen: usize,
    },
    /// The head has come, and tiny_http is being handed its clean form.
    Handing {
        head: Head,
        at: usize,
    },
    Body(Body),
    /// The rest of a body that nobody wants.
    Discard(Body),
    /// Nothing: tiny_http sees an end of file from now on, even if the client still sends (`unread`).
    Over {
        unread: bool,
    },
}

/// Why no further request comes.
enum Ending {
    /// The client went away or stayed silent between requests: nothing was asked, nothing is answered.
    Close,
    /// The rest of an unwanted body does not come: as `Close`, but what still does is taken in.
    Abandon,
    Refuse(Problem),
}

impl Inbound {
    pub(super) fn new(limits: Limits, neighbours: Arc<dyn Neighbours>) -> Self {
        Self {
            limits,
            neighbours,
            stage: Stage::Head { seen: 0 },
            since: Instant::now(),
            buffer: Buffer::default(),
            socket: None,
            keep_alive: false,
            expects_continue: false,
            in_request: false,
            paused: false,
            refused: None,
        }
    }

    /// Whether `socket` is this connection's: the first one that is read from.
    pub(super) fn reads_from(&self, socket: RawFd) -> bool {
        self.socket.is_none_or(|own| own == socket)
    }

    /// What tiny_http gets in place of recv(2).
    pub(super) fn read(&mut self, socket: RawFd, out: &mut [u8]) -> io::Result<usize> {
        self.socket = Some(socket);
        if self.paused || out.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over { unread: true }) {
                over @ Stage::Over { .. } => {
                    self.stage = over;
                    return Ok(0);
                }
                Stage::Head { seen } => match self.read_head(socket, seen) {
                    Ok(head) => self.stage = Stage::Handing { head, at: 0 },
                    Err(ending) => self.end(socket, ending),
                },
                Stage::Handing { head, at } => return Ok(self.hand(head, at, out)),
                Stage::Body(mut body) => {
                    let outcome = self.read_body(socket, &mut body, out);
                    match outcome {
                        Ok(_) => self.stage = Stage::Body(body).or_next_head(),
                        Err(error) if self.in_request => return Err(error),
                        Err(error) => {
                            self.end(socket, Ending::Refuse(body_problem(&error)));
                            continue;
                        }
                    }
                    return outcome;
                }
                Stage::Discard(mut body) => match self.read_body(socket, &mut body, out) {
                    Ok(_) => self.stage = Stage::Discard(body).or_next_head(),
                    Err(_) => self.end(socket, Ending::Abandon),
                },
            }
        }
    }

    pub(super) fn begin_request(&mut self) {
        self.in_request = true;
    }

    pub(super) fn end_body(&mut self) -> bool {
        self.paused = true;
        let over = Stage::Over { unread: true };
        let readable = match std::mem::replace(&mut self.stage, over) {
            head @ Stage::Head { .. } => {
                self.stage = head;
                true
            }
            Stage::Body(body) if body.can_be_discarded(self.expects_continue) => {
                self.stage = Stage::Discard(body.unwanted());
                true
            }
            _ => false,
        };
        readable && self.keep_alive
    }

    pub(super) fn end_request(&mut self) {
        self.in_request = false;
        self.paused = false;
        self.since = Instant::now();
    }

    pub(super) fn refused(&self) -> Option<u16> {
        self.refused
    }

    /// Whether the kernel sends a reset when the socket is closed by whoever may close it.
    pub(super) fn reset_when_closed(&self, reset: bool) {
        let Some(socket) = self.socket else { return };
        let _ = with_socket(socket, |socket| socket.set_linger(reset.then_some(Duration::ZERO)));
    }

    /// Sends the reset now, since tiny_http would first say in good order that nothing more comes. There is nothing left
    /// to read from the connection after that, nor to linger for.
    pub(super) fn reset(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        self.stage = Stage::Over { unread: false };
        // A failure means that the client is gone already.
        let _ = with_socket(socket, |socket| rustix::net::connect_unspec(&*socket));
    }

    pub(super) fn linger(&mut self) {
        let Some(socket) = self.socket else { return };
        // A failure means that the client is gone already.
        let _ = with_socket(socket, |socket| socket.shutdown(Shutdown::Write));
        let nothing_unread = match self.stage {
            Stage::Head { .. } => self.is_idle(),
            Stage::Over { unread } => !unread,
            _ => false,
        };
        if !nothing_unread {
            discard(socket, Instant::now() + LINGER);
        }
    }

    fn read_head(&mut self, socket: RawFd, mut seen: usize) -> Result<Head, Ending> {
        loop {
            let buffered = self.buffer.unread();
            // RFC 9112, section 2.2: an empty line before a request is to be ignored. One: more would keep an idle
            // connection's place for nothing.
            let bytes = buffered.strip_prefix(EMPTY_LINE).unwrap_or(buffered);
            if let Some(end) = head::find_end(bytes, &mut seen).map_err(Ending::Refuse)? {
                let head = head::check(&bytes[..end]).map_err(Ending::Refuse)?;
                let consumed = buffered.len() - bytes.len() + end;
                self.buffer.consume(consumed);
                return Ok(head);
            }
            if buffered.len() >= MAX_HEAD {
                return Err(Ending::Refuse(head::too_long(bytes)));
            }
            self.receive_head(socket)?;
        }
    }

    /// Receives more of a head, waiting for it within the limits.
    fn receive_head(&mut self, socket: RawFd) -> Result<(), Ending> {
        loop {
            let is_idle = self.is_idle();
            match receive(socket, self.buffer.room()) {
                Ok(0) if is_idle => return Err(Ending::Close),
                Ok(0) => {
                    let detail = "The connection was closed in the middle of the request's head.";
                    return Err(Ending::Refuse(Problem::new(400, detail)));
                }
                Ok(count) => {
                    self.buffer.add(count);
                    if !is_idle {
                        self.check_head_time()?;
                    } else if !self.is_idle() {
                        self.since = Instant::now();
                    }
                    return Ok(());
                }
                Err(error) if !is_wait(&error) => return Err(Ending::Close),
                Err(_) if !is_idle => self.check_head_time()?,
                Err(_) => {
                    let idle = self.since.elapsed();
                    let has_had_its_chance = idle >= SHORT_IDLE && self.neighbours.idle_must_close();
                    if idle >= self.limits.idle || has_had_its_chance {
                        return Err(Ending::Close);
                    }
                }
            }
        }
    }

    /// Whether the next head has not begun.
    fn is_idle(&self) -> bool {
        matches!(self.buffer.unread(), [] | EMPTY_LINE)
    }

    fn check_head_time(&self) -> Result<(), Ending> {
        if self.since.elapsed() < self.limits.head {
            return Ok(());
        }
        let seconds = self.limits.head.as_secs_f32();
        Err(Ending::Refuse(Problem::new(408, format!("The request's head took longer than {seconds} s."))))
    }

    /// Hands on a piece of a clean head, and with its last byte begins the body.
    fn hand(&mut self, head: Head, at: usize, out: &mut [u8]) -> usize {
        let rest = &head.forwarded[at..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        if count < rest.len() {
            self.stage = Stage::Handing { head, at: at + count };
        } else {
            self.keep_alive = head.keep_alive;
            self.expects_continue = head.expects_continue;
            self.since = Instant::now();
            self.stage = Stage::Body(Body::new(head.framing)).or_next_head();
        }
        count
    }

    /// Reads a piece of `body` into `out`; an end of file in the middle of it is an error.
    fn read_body(&mut self, socket: RawFd, body: &mut Body, out: &mut [u8]) -> io::Result<usize> {
        if self.buffer.unread().is_empty() {
            if !body.is_chunked() {
                let wanted = body.left_of(out.len());
                let count = self.receive_body(socket, body, &mut out[..wanted])?;
                return body.take(&out[..count]);
            }
            // What follows a chunked body is found only once it is here, so it must come through the buffer.
            let mut buffer = std::mem::take(&mut self.buffer);
            let outcome = self.receive_body(socket, body, buffer.room());
            self.buffer = buffer;
            self.buffer.add(outcome?);
        }
        let unread = self.buffer.unread();
        let available = &unread[..unread.len().min(out.len())];
        let count = body.take(available)?;
        out[..count].copy_from_slice(&available[..count]);
        self.buffer.consume(count);
        Ok(count)
    }

    /// Waits for bytes of a body, as long as they come fast enough.
    fn receive_body(&self, socket: RawFd, body: &Body, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match receive(socket, into) {
                Ok(0) => return Err(io::Error::from_raw_os_error(libc::ECONNABORTED)),
                Err(error) if !is_wait(&error) => return Err(error),
                outcome => {
                    let late = self.since.elapsed().saturating_sub(self.limits.body);
                    let is_too_slow = late.as_secs() * MIN_BODY_RATE > body.received;
                    if is_too_slow || (!body.is_wanted && self.neighbours.idle_must_close()) {
                        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
                    }
                    if outcome.is_ok() {
                        return outcome;
                    }
                }
            }
        }
    }

    fn end(&mut self, socket: RawFd, ending: Ending) {
        let unread = !matches!(ending, Ending::Close);
        self.stage = Stage::Over { unread };
        let head_only = self.buffer.unread().starts_with(b"HEAD ");
        with_socket(socket, |socket| {
            if let Ending::Refuse(problem) = ending {
                let response = Response::from(problem);
                self.refused = Some(response.status);
                // A client that does not take its answer is gone.
                let _ = response.send(&mut &*socket, &Delivery { head_only, ..Delivery::LAST });
            }
            let _ = socket.shutdown(Shutdown::Write);
        });
    }
}

impl Stage {
    /// Behind a complete body comes a head.
    fn or_next_head(self) -> Self {
        match self {
            Stage::Body(body) | Stage::Discard(body) if body.is_complete() => Stage::Head { seen: 0 },
            stage => stage,
        }
    }
}

/// What a body that could not be read is answered with.
pub(crate) fn body_problem(error: &io::Error) -> Problem {
    match error.kind() {
        ErrorKind::TimedOut => {
            Problem::new(408, format!("The request's body came slower than {MIN_BODY_RATE} bytes a second."))
        }
        ErrorKind::InvalidInput => {
            Problem::new(400, "The request's body is not in the chunked transfer coding, or it ends in trailers.")
        }
        _ => Problem::new(400, "The connection was closed in the middle of the request's body."),
    }
}

/// The receive time-out is over, or a signal came: time to look around, not an error.
fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Takes in what a client still sends, until its end or `until`. Not a part of `linger`: its buffer would take a page of
/// every connection's stack.
#[inline(never)]
fn discard(socket: RawFd, until: Instant) {
    let mut scratch = [0; 4096];
    while Instant::now() < until {
        match receive(socket, &mut scratch) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if is_wait(&error) => {}
            Err(_) => return,
        }
    }
}

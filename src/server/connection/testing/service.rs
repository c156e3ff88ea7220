//! A service with one target for each thing that a service can ask of a connection. Its store
//! answers when it is told to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tiny_http::Method;

use crate::http::body::BodyError;
use crate::http::request::Request;
use crate::response::{Piece, Problem, Response, Stream, StreamState, TEXT};
use crate::server::service::{
    Begin, Begun, Call, Exchange, Import, ImportState, RouteId, Service, Step, Waker,
};

/// The most that `/collect` takes.
pub(in crate::server) const LIMIT: usize = 2000;
/// Lines of an import that are stored at once.
const BATCH: usize = 3;
/// The pieces of `/stream`.
pub(in crate::server) const PIECES: [usize; 4] = [10, 70_000, 1, 300];
/// The body of `/long`.
pub(in crate::server) const LONG: usize = 100_000;
/// How long the store has.
pub(in crate::server) const STORE_TIME: Duration = Duration::from_secs(4);
/// More calls than any input needs: a machine that makes as many is spinning.
const MAX_EFFORT: usize = 1_000_000;

#[derive(Default)]
pub(in crate::server) struct Fake {
    pub(in crate::server) finished: Mutex<Vec<Finished>>,
    pub(in crate::server) begun: AtomicUsize,
    /// Requests in progress.
    pub(in crate::server) open: AtomicI64,
    /// `/panic` and `/broken` are as unknown as any other target.
    is_sound: AtomicBool,
    store: Arc<Store>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::server) struct Finished {
    pub(in crate::server) method: String,
    pub(in crate::server) target: String,
    pub(in crate::server) route: Option<RouteId>,
    pub(in crate::server) id: String,
    pub(in crate::server) status: u16,
    pub(in crate::server) bytes: u64,
    pub(in crate::server) complete: bool,
}

/// Calls that nobody has answered.
#[derive(Default)]
struct Store {
    waiting: Mutex<VecDeque<(Arc<Reply>, Waker)>>,
    now: Mutex<Option<Instant>>,
    effort: AtomicUsize,
    ignores_give_up: AtomicBool,
}

#[derive(Default)]
struct Reply {
    is_there: AtomicBool,
    is_given_up: AtomicBool,
}

impl Fake {
    /// Answers the oldest call, and says whether there was one.
    pub(in crate::server) fn answer_one(&self) -> bool {
        let oldest = self.store.waiting.lock().unwrap().pop_front();
        if let Some((reply, waker)) = &oldest {
            reply.is_there.store(true, SeqCst);
            waker.wake();
        }
        oldest.is_some()
    }

    /// Nothing fails on purpose: to the fuzz target that would be a finding.
    pub(in crate::server) fn become_sound(&self) {
        self.is_sound.store(true, SeqCst);
    }

    /// As where an answer is on its way between two threads.
    pub(in crate::server) fn ignore_give_up(&self) {
        self.store.ignores_give_up.store(true, SeqCst);
    }

    pub(in crate::server) fn set_time(&self, now: Instant) {
        *self.store.now.lock().unwrap() = Some(now);
    }
}

impl Store {
    fn ask(self: &Arc<Self>, waker: &Waker) -> (Arc<Reply>, Instant) {
        let reply = Arc::new(Reply::default());
        self.waiting.lock().unwrap().push_back((reply.clone(), waker.clone()));
        (reply, self.now.lock().unwrap().expect("a time") + STORE_TIME)
    }

    fn note_effort(&self) {
        assert!(self.effort.fetch_add(1, SeqCst) < MAX_EFFORT, "the connection spins");
    }
}

impl Reply {
    fn is_there(&self) -> bool {
        self.is_there.load(SeqCst)
    }
}

impl Fake {
    fn step(&self, request: &Request, waker: &Waker) -> Step {
        let is_read = matches!(request.method(), Method::Get | Method::Head);
        let is_post = *request.method() == Method::Post;
        let store = self.store.clone();
        let waker = waker.clone();
        match request.url() {
            "/panic" | "/broken" if self.is_sound.load(SeqCst) => {
                Step::Respond(Problem::new(405, "Not so.").into())
            }
            "/" if is_read => respond(200, "root\n"),
            "/long" if is_read => Step::Respond(Response::new(200, TEXT, "x".repeat(LONG))),
            "/call" if is_read => call(store, waker, 0, || respond(200, "called\n")),
            "/large" if is_read => call(store, waker, 1, || respond(200, &"y".repeat(20_000))),
            "/stream" | "/broken" if is_read => {
                let breaks = request.url() == "/broken";
                let stream = Pieces {
                    store,
                    waker,
                    next: 0,
                    breaks,
                    state: PieceState::Here,
                    is_late: false,
                };
                Step::Respond(Response::new(200, TEXT, Box::new(stream) as Box<dyn Stream>))
            }
            "/panic" => panic!("as it is asked to"),
            "/collect" | "/store" if is_post => {
                if request.content_length().is_some_and(|length| length > LIMIT as u64) {
                    return Step::Respond(Problem::from(BodyError::TooLarge).into());
                }
                let is_stored = request.url() == "/store";
                Step::Collect {
                    limit: LIMIT,
                    then: Box::new(move |body| match body {
                        Ok(body) if is_stored => call(store, waker, 0, move || echo(&body)),
                        Ok(body) => echo(&body),
                        Err(error) => Step::Respond(Problem::from(error).into()),
                    }),
                }
            }
            "/import" if is_post => Step::Import(Box::new(Lines::new(store, waker))),
            _ => Step::Respond(Problem::new(405, "Not so.").into()),
        }
    }
}

/// Each target is a route of its own; so many bytes, such a number.
pub(in crate::server) fn route_of(target: &str) -> RouteId {
    RouteId(target.len())
}

impl Service for Fake {
    fn begin(&self, request: &Request, waker: &Waker) -> Begun {
        self.begun.fetch_add(1, SeqCst);
        Begun { route: Some(route_of(request.url())), step: self.step(request, waker) }
    }

    fn finished(&self, exchange: &Exchange) {
        self.finished.lock().unwrap().push(Finished {
            method: exchange.method.to_owned(),
            target: exchange.target.to_owned(),
            route: exchange.route,
            id: exchange.request_id.to_owned(),
            status: exchange.status,
            bytes: exchange.bytes,
            complete: exchange.complete,
        });
    }

    fn count(&self, connections: i64, requests: i64) {
        assert_eq!(connections, 0);
        self.open.fetch_add(requests, SeqCst);
    }
}

fn respond(status: u16, text: &str) -> Step {
    Step::Respond(Response::new(status, TEXT, text))
}

fn echo(body: &[u8]) -> Step {
    respond(201, &format!("{}:{}\n", body.len(), String::from_utf8_lossy(body)))
}

fn call(
    store: Arc<Store>,
    waker: Waker,
    needs: usize,
    then: impl FnOnce() -> Step + Send + 'static,
) -> Step {
    let begin: Box<Begin> = Box::new(move || {
        let (reply, _) = store.ask(&waker);
        Box::new(Called { store, reply, then: Some(Box::new(then)) })
    });
    Step::Call { begin, held: 0, needs }
}

struct Called {
    store: Arc<Store>,
    reply: Arc<Reply>,
    then: Option<Box<dyn FnOnce() -> Step + Send>>,
}

impl Call for Called {
    fn poll(&mut self) -> Option<Step> {
        self.store.note_effort();
        if self.reply.is_given_up.load(SeqCst) {
            return Some(respond(503, "late\n"));
        }
        if !self.reply.is_there() {
            return None;
        }
        Some((self.then.take().expect("one answer"))())
    }

    fn give_up(&mut self) {
        self.reply.is_given_up.store(!self.store.ignores_give_up.load(SeqCst), SeqCst);
    }

    fn held(&self) -> usize {
        1
    }
}

/// Counts lines. One that begins with `!` ends it.
struct Lines {
    store: Arc<Store>,
    waker: Waker,
    line: Vec<u8>,
    waiting: usize,
    in_flight: Option<(Arc<Reply>, Instant, usize)>,
    stored: usize,
    end: Option<(u16, String)>,
    is_late: bool,
}

impl Lines {
    fn new(store: Arc<Store>, waker: Waker) -> Self {
        let (line, end) = (Vec::new(), None);
        Self { store, waker, line, waiting: 0, in_flight: None, stored: 0, end, is_late: false }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.starts_with(b"!") {
            self.end = Some((400, "bad line".to_owned()));
        } else if !line.is_empty() {
            self.waiting += 1;
        }
    }
}

impl Import for Lines {
    fn take(&mut self, data: &[u8]) -> usize {
        for &byte in data {
            if self.end.is_some() {
                break;
            }
            match byte {
                b'\n' => self.end_line(),
                _ => self.line.push(byte),
            }
        }
        data.len()
    }

    fn work(&mut self) {}

    fn end(&mut self, outcome: Result<(), BodyError>) {
        if self.end.is_some() {
            return;
        }
        match outcome {
            Ok(()) => {
                self.end_line();
                self.end.get_or_insert((201, "imported".to_owned()));
            }
            Err(error) => self.end = Some((Problem::from(error).status, format!("{error:?}"))),
        }
    }

    fn poll(&mut self) -> ImportState {
        self.store.note_effort();
        if let Some((reply, until, count)) = self.in_flight.take() {
            if reply.is_there() {
                self.stored += count;
            } else if self.is_late {
                self.end = Some((503, "late".to_owned()));
                self.waiting = 0;
            } else {
                self.in_flight = Some((reply, until, count));
            }
        }
        let must_store = self.waiting >= BATCH || (self.end.is_some() && self.waiting > 0);
        if must_store && self.in_flight.is_none() {
            let (reply, until) = self.store.ask(&self.waker);
            self.in_flight = Some((reply, until, std::mem::take(&mut self.waiting)));
            return self.poll();
        }
        match (&self.in_flight, &self.end) {
            (Some((_, until, _)), end) if must_store || end.is_some() => {
                ImportState::Store { until: *until }
            }
            (None, Some((status, why))) => ImportState::Done(Response::new(
                *status,
                TEXT,
                format!("{why}, stored {}\n", self.stored),
            )),
            _ => ImportState::Data,
        }
    }

    fn give_up(&mut self) {
        self.is_late = true;
    }

    fn store_early(&mut self) -> bool {
        false
    }

    fn held(&self) -> usize {
        self.line.capacity()
    }

    fn stored(&self) -> usize {
        0
    }

    fn to_go(&self) -> usize {
        self.line.len()
    }
}

/// `PIECES`, each of them from the store but the first.
struct Pieces {
    store: Arc<Store>,
    waker: Waker,
    next: usize,
    /// After the second piece.
    breaks: bool,
    state: PieceState,
    is_late: bool,
}

enum PieceState {
    Here,
    Sent,
    Asked(Arc<Reply>, Instant),
}

impl Stream for Pieces {
    fn poll(&mut self) -> StreamState {
        self.store.note_effort();
        self.read_ahead();
        match &self.state {
            PieceState::Asked(reply, until) if !reply.is_there() => {
                return if self.is_late { StreamState::Broken } else { StreamState::Wait(*until) };
            }
            PieceState::Sent => return StreamState::End,
            PieceState::Asked(..) | PieceState::Here => {}
        }
        if self.breaks && self.next == 2 {
            return StreamState::Broken;
        }
        let piece = vec![b'a' + self.next as u8; PIECES[self.next]];
        self.next += 1;
        self.state = PieceState::Sent;
        StreamState::Piece(Piece::Owned(piece))
    }

    fn read_ahead(&mut self) {
        if matches!(self.state, PieceState::Sent) && self.next < PIECES.len() {
            let (reply, until) = self.store.ask(&self.waker);
            self.state = PieceState::Asked(reply, until);
        }
    }

    fn give_up(&mut self) {
        self.is_late = true;
    }
}

//! The threads of a server: few when little is asked of it, as many as connections at most, one of them in `accept`
//! whenever there is one to spare.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{SockFilter, SockRef};
use tiny_http::{Listener, Request, SslContextWrap};

use super::{Limits, Service, serve};
use crate::guard::{self, Neighbours};
use crate::log;

/// Threads that stay in `accept` when nothing is asked of the server.
const MIN_ACCEPTING: usize = 2;
/// Threads that may return to `accept` after a connection; one more ends. It keeps short connections from starting
/// and ending threads all the time.
const MAX_ACCEPTING: usize = 16;
/// Room for a JSON document at its deepest, also in an unoptimised build.
const STACK: usize = 512 * 1024;
/// How long an `accept` that failed (out of file descriptors, most likely) is left alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to complete a handshake that had begun when the server was told to stop: a round trip.
const HANDSHAKE: Duration = Duration::from_millis(250);
/// How long a connection may hold its thread while others wait for one.
const TURN: Duration = Duration::from_secs(1);

/// A running server. It has no end of its own: `stop` it.
pub(crate) struct Server {
    shared: Arc<Shared>,
}

/// What the threads of one server share.
pub(super) struct Shared {
    name: &'static str,
    listener: Listener,
    no_tls: SslContextWrap,
    pub(super) limits: Limits,
    pub(super) service: Arc<dyn Service>,
    threads: Mutex<Threads>,
    last_thread_ended: Condvar,
    /// Every thread has a connection, and there may be no more threads.
    full: AtomicBool,
    /// Every answer is its connection's last.
    draining: AtomicBool,
    /// No connection is accepted but those that already wait, and idle ones are closed.
    stopping: AtomicBool,
    /// The listener is shut: whoever comes now is refused by the kernel.
    refusing: AtomicBool,
    /// The last `accept` failed; said once, not once a try.
    accept_fails: AtomicBool,
}

/// A thread is either accepting or serving a connection.
struct Threads {
    all: usize,
    accepting: usize,
}

impl Server {
    pub(crate) fn start(
        name: &'static str,
        listener: TcpListener,
        limits: Limits,
        service: Arc<dyn Service>,
    ) -> io::Result<Self> {
        let no_tls = SslContextWrap::build_ssl_capabilities(None).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            name,
            listener: listener.into(),
            no_tls,
            limits,
            service,
            threads: Mutex::new(Threads { all: 0, accepting: 0 }),
            last_thread_ended: Condvar::new(),
            full: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            accept_fails: AtomicBool::new(false),
        });
        for _ in 0..MIN_ACCEPTING.min(limits.connections) {
            shared.add_thread(&mut shared.lock());
        }
        Ok(Self { shared })
    }

    /// From now on every answer is its connection's last.
    pub(crate) fn drain(&self) {
        self.shared.draining.store(true, Relaxed);
    }

    /// Takes no more connections but those that already wait, lets requests in progress finish until `deadline`, and
    /// says whether all of them did.
    pub(crate) fn stop(&self, deadline: Instant) -> bool {
        self.shared.draining.store(true, Relaxed);
        self.shared.stopping.store(true, Relaxed);
        self.shared.ignore_newcomers();
        let left = deadline.saturating_duration_since(Instant::now());
        let threads = self.shared.lock();
        let ended = self.shared.last_thread_ended.wait_timeout_while(threads, left, |threads| threads.all > 0);
        let (threads, _) = ended.unwrap_or_else(PoisonError::into_inner);
        threads.all == 0
    }
}

impl Neighbours for Shared {
    fn idle_must_close(&self) -> bool {
        self.stopping.load(Relaxed) || self.is_thread_wanted()
    }
}

impl Shared {
    /// Whether a connection that was opened then ends with the answer that it is about to get.
    pub(super) fn must_close(&self, opened: Instant) -> bool {
        self.draining.load(Relaxed) || (self.is_thread_wanted() && opened.elapsed() > TURN)
    }

    /// A client waits in the backlog and no thread is left to accept it.
    fn is_thread_wanted(&self) -> bool {
        self.full.load(Relaxed) && guard::is_readable(&self.listener, Duration::ZERO)
    }

    /// Has the kernel drop what knocks at the listener; who already waits behind it, or is being let in, stays.
    /// Otherwise there would be no end of them, and closing it would reset those that came last. Where it can't be done,
    /// that is what happens.
    fn ignore_newcomers(&self) {
        /// A classic BPF program, as in linux/filter.h: of a TCP segment with SYN set let 0 bytes through, of any other
        /// all. The flags are the 14th byte of the TCP header, and SYN is the second bit (RFC 9293, section 3.1).
        const DROP_SYN: [SockFilter; 4] = [
            SockFilter::new(0x30, 0, 0, 13),   // BPF_LD | BPF_B | BPF_ABS
            SockFilter::new(0x45, 0, 1, 0b10), // BPF_JMP | BPF_JSET | BPF_K
            SockFilter::new(0x06, 0, 0, 0),    // BPF_RET | BPF_K
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        let _ = SockRef::from(&self.listener).attach_filter(&DROP_SYN);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Threads> {
        // The two numbers are changed together and nothing in between can panic.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_thread(self: &Arc<Self>, threads: &mut Threads) {
        let shared = self.clone();
        let spawned = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK).spawn(move || shared.run());
        match spawned {
            Ok(_) => {
                threads.all += 1;
                threads.accepting += 1;
            }
            Err(error) => {
                log::warning(format_args!("{}: cannot start a thread beside {}: {error}", self.name, threads.all))
            }
        }
    }

    /// One thread: accept, serve, accept the next.
    fn run(self: Arc<Self>) {
        loop {
            // tiny_http panics where it cannot duplicate a descriptor.
            let accepted = catch_unwind(AssertUnwindSafe(|| self.accept()));
            let goes_on = match accepted {
                Ok(Ok(Some(connection))) => {
                    self.connection_begins();
                    // The panic was logged by the hook; it costs this connection and nothing else.
                    let _ = catch_unwind(AssertUnwindSafe(|| serve(connection, &self)));
                    guard::leave();
                    self.connection_ends()
                }
                Ok(Ok(None)) => self.tick(),
                Ok(Err(_)) | Err(_) => {
                    thread::sleep(ACCEPT_PAUSE);
                    self.tick()
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Accepts one connection: its requests up to the first that cannot be read. None if nobody came within a tick.
    fn accept(&self) -> io::Result<Option<impl Iterator<Item = Request> + use<>>> {
        match tiny_http::Server::accept_connection(&self.listener, &self.no_tls) {
            Ok(connection) => {
                if self.accept_fails.swap(false, Relaxed) {
                    log::info(format_args!("{}: accepting connections again", self.name));
                }
                Ok(connection.map(|requests| requests.map_while(Result::ok)))
            }
            Err(error) => match error.kind() {
                _ if self.refusing.load(Relaxed) => Ok(None),
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted => Ok(None),
                _ => {
                    if !self.accept_fails.swap(true, Relaxed) {
                        log::error(format_args!("{}: cannot accept connections: {error}", self.name));
                    }
                    Err(error)
                }
            },
        }
    }

    fn connection_begins(self: &Arc<Self>) {
        self.service.count(1, 0);
        let mut threads = self.lock();
        threads.accepting -= 1;
        if threads.accepting == 0 && threads.all < self.limits.connections {
            self.add_thread(&mut threads);
        }
        self.full.store(threads.accepting == 0, Relaxed);
    }

    /// Says whether the thread of a connection that has ended is to go on.
    fn connection_ends(&self) -> bool {
        self.service.count(-1, 0);
        let mut threads = self.lock();
        threads.accepting += 1;
        self.full.store(false, Relaxed);
        if threads.accepting > MAX_ACCEPTING {
            return self.end_thread(&mut threads);
        }
        true
    }

    /// Says whether a thread that had nothing to accept is to go on.
    fn tick(&self) -> bool {
        let nobody_comes = self.stopping.load(Relaxed) && !guard::is_readable(&self.listener, HANDSHAKE);
        let mut threads = self.lock();
        if nobody_comes && !self.refusing.swap(true, Relaxed) {
            // Refuses newcomers from here on, so that they can go elsewhere at once, and wakes the other threads.
            let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        }
        if self.refusing.load(Relaxed) || threads.accepting > MIN_ACCEPTING {
            return self.end_thread(&mut threads);
        }
        true
    }

    /// Takes an accepting thread off the books; it does not go on.
    fn end_thread(&self, threads: &mut Threads) -> bool {
        threads.accepting -= 1;
        threads.all -= 1;
        if threads.all == 0 {
            self.last_thread_ended.notify_all();
        }
        false
    }
}

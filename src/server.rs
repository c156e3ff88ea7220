//! The server: connections are parked in a table, a few workers drive those that can go on, a sweep
//! looks after deadlines, places and memory. No worker ever waits, neither for a client nor for the
//! store. Knows sockets and HTTP, but not what a request means: that is its `Service`'s.

mod connection;
mod exchange;
mod input;
mod listener;
mod newcomers;
mod output;
mod pace;
mod places;
mod ready;
pub(crate) mod service;
mod shortage;
mod socket;
mod sweep;
mod worker;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::memory::Memory;
use crate::sync::Monitor;
pub(crate) use connection::ANSWER_WITHIN;
#[cfg(fuzzing)]
pub(crate) use connection::answers;
pub(crate) use listener::listen;
use places::Places;
use ready::Ready;
use service::{Service, Token, Wake};

/// Room for a JSON document at its deepest, also in an unoptimised build.
const STACK: usize = 512 * 1024;
/// The store may need so much of the time that stopping has, for what the last bodies brought.
const STORE_NEEDS: Duration = Duration::from_secs(5);

/// The times that a connection is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// In which a body must make progress.
    pub(crate) body: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// In which a client must take something of its answer.
    pub(crate) send: Duration,
    /// After which a connection ends with its next answer.
    pub(crate) age: Duration,
}

/// What a server may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) workers: usize,
    /// Of the machine.
    pub(crate) processors: usize,
    pub(crate) timeouts: Timeouts,
}

/// A running server. It has no end of its own: `stop` it.
pub(crate) struct Server {
    shared: Arc<Shared>,
}

/// What the threads of one server share.
struct Shared {
    name: &'static str,
    listener: TcpListener,
    epoll: OwnedFd,
    ready: Ready,
    places: Places,
    limits: Limits,
    memory: Arc<Memory>,
    service: Arc<dyn Service>,
    sweep: sweep::Signal,
    /// A connection waits for memory.
    memory_is_awaited: AtomicBool,
    /// Every answer is its connection's last.
    is_draining: AtomicBool,
    /// Idle connections are closed.
    is_stopping: AtomicBool,
    /// Bodies that are not here yet are not waited for any more.
    ends_bodies: AtomicBool,
    /// The listener is shut: whoever comes now is refused by the kernel.
    is_refusing: AtomicBool,
    /// The threads end.
    has_ended: AtomicBool,
    /// Somebody waits in the backlog, and there is no place.
    newcomers_wait: AtomicBool,
    /// The last `accept` failed; said once, not once a try.
    accept_fails: AtomicBool,
    /// Told when the last connection has ended.
    all_ended: Monitor<()>,
}

impl Server {
    pub(crate) fn start(
        name: &'static str,
        listener: TcpListener,
        limits: Limits,
        memory: Arc<Memory>,
        service: Arc<dyn Service>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            name,
            listener,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            ready: Ready::new(limits.workers, limits.processors)?,
            places: Places::new(limits.connections),
            limits,
            memory,
            service,
            sweep: sweep::Signal::default(),
            memory_is_awaited: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            ends_bodies: AtomicBool::new(false),
            is_refusing: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            newcomers_wait: AtomicBool::new(false),
            accept_fails: AtomicBool::new(false),
            all_ended: Default::default(),
        });
        let wakeup = EventData::new_u64(worker::WAKEUP);
        epoll::add(&shared.epoll, shared.ready.wakeup(), wakeup, EventFlags::IN | EventFlags::ET)?;
        let newcomers = EventData::new_u64(worker::NEWCOMERS);
        epoll::add(
            &shared.epoll,
            &shared.listener,
            newcomers,
            EventFlags::IN | EventFlags::ONESHOT,
        )?;
        let server = Self { shared };
        for _ in 0..limits.workers {
            server.spawn(Shared::work)?;
        }
        server.spawn(Shared::sweep)?;
        Ok(server)
    }

    fn spawn(&self, run: impl FnOnce(Arc<Shared>) + Send + 'static) -> io::Result<()> {
        let shared = self.shared.clone();
        thread::Builder::new()
            .name(shared.name.to_owned())
            .stack_size(STACK)
            .spawn(move || run(shared))?;
        Ok(())
    }

    /// From now on every answer is its connection's last.
    pub(crate) fn drain(&self) {
        self.shared.is_draining.store(true, Relaxed);
    }

    /// Takes no more connections but those that already wait, lets requests in progress finish
    /// until `deadline`, and says whether all of them did.
    pub(crate) fn stop(&self, deadline: Instant) -> bool {
        let shared = &self.shared;
        let started = Instant::now();
        let left = deadline.saturating_duration_since(started);
        shared.is_draining.store(true, Relaxed);
        shared.is_stopping.store(true, Relaxed);
        listener::ignore_newcomers(&shared.listener);
        let no_more_bodies = deadline - STORE_NEEDS.min(left / 2);
        while Instant::now() < deadline {
            if !shared.is_refusing.load(Relaxed)
                && !listener::will_have_newcomer(
                    &shared.listener,
                    deadline.saturating_duration_since(Instant::now()),
                )
            {
                shared.is_refusing.store(true, Relaxed);
                listener::refuse_newcomers(&shared.listener);
            }
            if Instant::now() >= no_more_bodies {
                shared.ends_bodies.store(true, Relaxed);
            }
            let lock = shared.all_ended.lock();
            if shared.is_refusing.load(Relaxed) && shared.places.taken() == 0 {
                break;
            }
            let until = deadline.min(Instant::now() + sweep::TICK);
            drop(shared.all_ended.wait_while_until(lock, until, |()| shared.places.taken() > 0));
        }
        let all_ended = shared.places.taken() == 0;
        shared.has_ended.store(true, Relaxed);
        // So that the log and the metrics are told of what was cut off.
        shared.places.clear();
        shared.ready.end();
        shared.sweep.notify();
        all_ended
    }
}

impl Wake for Shared {
    fn wake(&self, token: Token) {
        self.queue(token, |_| {});
    }
}

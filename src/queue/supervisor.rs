//! One thread that looks after all queues: it starts further threads where calls are slow or stuck.
//! It also knows when all threads of the queues have ended.
//!
//! It sleeps while no request has to wait. Then it looks every `TICK` until it finds nothing
//! pending.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::SLOW_AFTER;
use crate::sync::{Monitor, lock};

/// Half of it, so that a request waits at most half longer for another thread than it should.
const TICK: Duration = Duration::from_millis(SLOW_AFTER.as_millis() as u64 / 2);

/// A queue as the supervisor sees it.
pub(crate) trait Supervised: Send + Sync {
    /// Starts another thread if one is needed, and says whether anything is pending.
    fn supervise(self: Arc<Self>, now: Instant) -> bool;
}

/// Held by every thread that must have ended when the database is closed. Nothing is ever sent.
pub(crate) type Alive = Sender<Infallible>;

pub(crate) struct Supervisor {
    alarm: Arc<Alarm>,
    /// `None` once closed.
    life: Mutex<Option<(Alive, Receiver<Infallible>)>>,
}

/// Wakes the supervisor.
pub(super) struct Alarm {
    /// Set before the supervisor looks at the queues for the last time. A request that it does not
    /// see there is added after that, and whoever adds it sees this: the queue's lock is between.
    is_asleep: AtomicBool,
    is_closed: Monitor<bool>,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        let alarm = Alarm { is_asleep: AtomicBool::new(true), is_closed: Monitor::new(false) };
        Self { alarm: Arc::new(alarm), life: Mutex::new(Some(mpsc::channel())) }
    }

    pub(super) fn alarm(&self) -> Arc<Alarm> {
        self.alarm.clone()
    }

    pub(crate) fn alive(&self) -> Alive {
        match &*lock(&self.life) {
            Some((alive, _)) => alive.clone(),
            // A queue of a closed supervisor: nobody waits for its end.
            None => mpsc::channel().0,
        }
    }

    /// Starts looking after `queues`.
    pub(crate) fn start(&self, queues: Vec<Arc<dyn Supervised>>) -> io::Result<()> {
        let (alarm, alive) = (self.alarm.clone(), self.alive());
        thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
            alarm.look_after(&queues);
            drop(queues);
            drop(alive);
        })?;
        Ok(())
    }

    /// Waits until all threads of closed queues, this one's, and others that hold an `Alive` have
    /// ended, but not beyond `deadline`. A stuck one is left behind.
    pub(crate) fn close(&self, deadline: Instant) {
        *self.alarm.is_closed.lock() = true;
        self.alarm.is_closed.notify_all();
        let life = lock(&self.life).take();
        if let Some((alive, ended)) = life {
            drop(alive);
            let left = deadline.saturating_duration_since(Instant::now());
            // Disconnected, if nobody is alive any more.
            let _ = ended.recv_timeout(left);
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.close(Instant::now());
    }
}

impl Alarm {
    /// A request has to wait.
    pub(super) fn raise(&self) {
        if self.is_asleep.load(Relaxed) && self.is_asleep.swap(false, Relaxed) {
            // Whoever has looked at the flag under the lock, and found nothing, waits by now.
            drop(self.is_closed.lock());
            self.is_closed.notify_one();
        }
    }

    fn look_after(&self, queues: &[Arc<dyn Supervised>]) {
        loop {
            let closed = self.is_closed.lock();
            let closed = self
                .is_closed
                .wait_while(closed, |closed| !*closed && self.is_asleep.load(Relaxed));
            let closed =
                self.is_closed.wait_while_until(closed, Instant::now() + TICK, |closed| !*closed);
            if *closed {
                return;
            }
            drop(closed);
            self.is_asleep.store(true, Relaxed);
            let now = Instant::now();
            // Each is looked at, whatever the others have.
            let pending = queues.iter().filter(|queue| Arc::clone(queue).supervise(now)).count();
            if pending > 0 {
                self.is_asleep.store(false, Relaxed);
            }
        }
    }
}

//! The sweep: a thread that looks over the parked connections every `TICK`, and at once when memory or places run short. It
//! never ends a connection: it has those driven whose time has come, and notes what is asked of them.

use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::connection::{SHORT_IDLE, Wait};
use super::places::Occupant;
use super::service::Token;

/// How late a deadline may be noticed.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often the progress of connections is noted.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);
/// A connection that holds memory is left alone for so long.
const GRACE: Duration = Duration::from_millis(500);
/// A connection makes progress if it moves what it holds in at most so many periods.
const PERIODS_FOR_ALL: u64 = 8;
/// The most idle connections that are closed in one look for the sake of newcomers.
const MAX_CLOSED_AT_ONCE: usize = 64;

/// Has the sweep look at once.
#[derive(Default)]
pub(super) struct Signal {
    is_set: Mutex<bool>,
    set: Condvar,
}

impl Signal {
    pub(super) fn notify(&self) {
        let mut is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_set {
            *is_set = true;
            self.set.notify_one();
        }
    }

    fn wait(&self, timeout: Duration) {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.set.wait_timeout_while(is_set, timeout, |is_set| !*is_set);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// A connection that holds memory.
struct Holder {
    token: Token,
    held: usize,
    /// What it moved in the last one or two periods.
    moved: u64,
    /// It has not held any for long enough to be judged by that.
    is_new: bool,
    waits_for_memory: bool,
    waits_since: Option<Instant>,
}

impl Holder {
    /// Bytes held for each that was moved.
    fn cost(&self) -> u64 {
        self.held as u64 / (self.moved + 1)
    }

    fn is_stalled(&self) -> bool {
        !self.is_new && self.moved.saturating_mul(PERIODS_FOR_ALL) < self.held as u64
    }
}

impl Shared {
    pub(super) fn sweep(self: Arc<Self>) {
        let mut progress_noted = Instant::now();
        let mut last_look = Instant::now();
        while !self.has_ended.load(Relaxed) {
            self.sweep.wait(TICK);
            // Signals may come in thousands; looks need not.
            let since = last_look.elapsed();
            if since < Duration::from_millis(5) {
                std::thread::sleep(Duration::from_millis(5) - since);
            }
            last_look = Instant::now();
            let notes_progress = progress_noted.elapsed() >= PROGRESS_PERIOD;
            if notes_progress {
                progress_noted = Instant::now();
            }
            self.look(notes_progress);
            // A place that becomes free when the last one is taken may be noticed by neither side.
            let missed = !self.places.is_full() && self.newcomers_wait.swap(false, Relaxed);
            if (missed || self.accept_fails.load(Relaxed)) && !self.is_refusing.load(Relaxed) {
                self.await_newcomers();
            }
        }
    }

    fn look(&self, notes_progress: bool) {
        let now = Instant::now();
        let ends_idle = self.newcomers_wait.load(Relaxed);
        let is_stopping = self.is_stopping.load(Relaxed);
        let ends_bodies = self.ends_bodies.load(Relaxed);
        let is_short = self.memory.is_short();
        let mut due = Vec::new();
        let mut idle = Vec::new();
        let mut holders = Vec::new();
        let mut one_is_exempt = false;
        self.places.for_each(|token, place| {
            one_is_exempt |= place.notes.is_exempt;
            let Occupant::Parked(_, wait) = &place.occupant else { return };
            let notes = &mut place.notes;
            let (until, ends_now) = match *wait {
                Wait::Readable(until) => (until, ends_bodies && notes.idle_since.is_none()),
                Wait::Memory(until) => (until, ends_bodies),
                Wait::Writable(until) | Wait::Store(until) => (until, false),
                Wait::ShortTurn | Wait::LongTurn | Wait::Nothing => return,
            };
            if until <= now || ends_now {
                due.push(token);
            } else if let Some(since) = notes.idle_since.filter(|_| ends_idle || is_stopping) {
                if now >= since + SHORT_IDLE {
                    idle.push((since, token));
                }
            } else if is_short && notes.held > 0 && !matches!(wait, Wait::Store(_)) {
                let waits_for_memory = matches!(wait, Wait::Memory(_));
                holders.push(Holder {
                    token,
                    held: notes.held,
                    moved: notes.moved - notes.moved_before[1],
                    is_new: now < notes.held_since + GRACE,
                    waits_for_memory,
                    waits_since: notes.waits_since,
                });
            }
            if notes_progress {
                notes.moved_before = [notes.moved, notes.moved_before[0]];
            }
        });
        for token in due {
            self.queue(token, |_| {});
        }
        if !is_stopping {
            idle.sort_unstable_by_key(|(since, _)| *since);
            idle.truncate(MAX_CLOSED_AT_ONCE);
        }
        for (_, token) in idle {
            self.queue(token, |_| {});
        }
        if is_short {
            self.relieve(holders, one_is_exempt);
        } else {
            // Whoever freed the memory may have been another server, or nobody's turn.
            self.wake_for_memory();
        }
    }

    /// Takes memory from those that hold the most for the least progress; one look picks all of them. Where far too much is
    /// held, others follow that hold more than they move, the new ones last, and in the end those that have waited for more
    /// the longest. Where nobody holds it for nothing, the one that holds some and has waited the longest goes on, so that
    /// not all wait for each other.
    fn relieve(&self, holders: Vec<Holder>, one_is_exempt: bool) {
        let (mut waiting, mut holders): (Vec<_>, Vec<_>) =
            holders.into_iter().partition(|holder| holder.waits_for_memory);
        holders.sort_unstable_by_key(|holder| (!holder.is_stalled(), holder.is_new, Reverse(holder.cost())));
        waiting.sort_unstable_by_key(|holder| holder.waits_since);
        let (shortage, excess, flood) = (self.memory.shortage(), self.memory.excess(), self.memory.flood());
        let mut freed = 0;
        for holder in &holders {
            let wanted = if holder.is_stalled() { shortage } else { excess };
            if freed >= wanted || holder.cost() == 0 {
                break;
            }
            freed += holder.held;
            self.queue(holder.token, |notes| notes.evict = true);
        }
        for holder in &waiting {
            if freed >= flood {
                break;
            }
            freed += holder.held;
            self.queue(holder.token, |notes| notes.evict = true);
        }
        if freed == 0
            && !one_is_exempt
            && let Some(holder) = waiting.first()
        {
            self.queue(holder.token, |notes| notes.is_exempt = true);
        }
    }
}

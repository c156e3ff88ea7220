//! The sweep: a thread that looks over the parked connections every `TICK`, and at once when memory
//! or places run short. It never ends a connection: it has those driven whose time has come, and
//! notes what is asked of them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Shared;
use super::connection::{SHORT_IDLE, Transport, Wait};
use super::places::Occupant;
use super::shortage::{self, Holder, Levels, Plan};
use crate::memory::Eviction;
use crate::sync::Monitor;

/// How late a deadline may be noticed.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often the progress of connections is noted.
const PROGRESS_PERIOD: Duration = Duration::from_millis(250);
/// A connection that holds memory is left alone for so long.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// The most idle connections that are closed in one look for the sake of newcomers.
const MAX_CLOSED_AT_ONCE: usize = 64;

/// Has the sweep look at once.
#[derive(Default)]
pub(super) struct Signal(Monitor<bool>);

impl Signal {
    pub(super) fn notify(&self) {
        if !std::mem::replace(&mut *self.0.lock(), true) {
            self.0.notify_one();
        }
    }

    fn wait(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        *self.0.wait_while_until(self.0.lock(), until, |is_set| !*is_set) = false;
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
        // Whoever begins to wait from here on says so again.
        let is_awaited = self.memory_is_awaited.swap(false, Relaxed);
        let mut due = Vec::new();
        let mut idle = Vec::new();
        let mut holders = Vec::new();
        let mut in_kernel = 0;
        let (mut one_goes_on, mut set_aside) = (false, 0);
        self.places.for_each(|token, place| {
            let notes = &mut place.notes;
            if let Occupant::Parked(_, Wait::Readable(_) | Wait::Writable(_)) = &place.occupant {
                notes.goes_on = false;
            }
            if notes.goes_on {
                one_goes_on = true;
                set_aside += shortage::counted(notes.to_go);
            }
            let Occupant::Parked(seat, wait) = &place.occupant else { return };
            let (until, ends_now) = match *wait {
                Wait::Readable(until) => (until, ends_bodies && notes.idle_since.is_none()),
                Wait::Memory(until) => (until, ends_bodies),
                Wait::Writable(until) | Wait::Store(until) => (until, false),
                Wait::ShortTurn | Wait::LongTurn | Wait::Nothing => return,
            };
            if until <= now || ends_now {
                if matches!(wait, Wait::Memory(_)) && is_short && !ends_now {
                    self.memory.count(Eviction::Waited);
                }
                due.push(token);
            } else if let Some(since) = notes.idle_since.filter(|_| ends_idle || is_stopping) {
                if now >= since + SHORT_IDLE {
                    idle.push((since, token));
                }
            } else if (is_short || is_awaited)
                && (notes.held > 0 || notes.waits_since.is_some())
                && notes.idle_since.is_none()
                && !matches!(wait, Wait::Store(_))
            {
                if notes_progress && notes.waits_since.is_some() {
                    notes.in_kernel = seat.socket.waiting();
                }
                in_kernel += notes.in_kernel;
                holders.push(Holder {
                    token,
                    held: notes.held,
                    in_kernel: notes.in_kernel,
                    to_go: notes.to_go,
                    moved: notes.moved,
                    moved_lately: notes.moved - notes.moved_before[1],
                    is_answer: matches!(wait, Wait::Writable(_)),
                    is_new: now < notes.held_since + GRACE,
                    waits_since: notes.waits_since,
                });
            }
            // The time for which it is paused does not count.
            if notes_progress && notes.waits_since.is_none() {
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
        if is_short || is_awaited {
            let levels = Levels {
                shortage: if is_short { self.memory.shortage() } else { 0 },
                flood: self.memory.flood(in_kernel),
                room: self.memory.room().saturating_sub(set_aside),
            };
            self.relieve(shortage::relieve(holders, levels, one_goes_on));
        }
    }

    fn relieve(&self, plan: Plan) {
        for (holder, reason) in plan.evicted {
            self.queue(holder.token, |notes| {
                // Unless it has gone on meanwhile: then it is another request that would be met.
                notes.evict = notes.moved == holder.moved;
                if notes.evict {
                    self.memory.count(reason);
                }
            });
        }
        for token in plan.go_on {
            self.queue(token, |notes| notes.goes_on = true);
        }
        if plan.waiting > 0 {
            self.memory_is_awaited.store(true, Relaxed);
        }
    }
}

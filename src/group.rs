//! Concurrent calls share one: calls that wait while one is in flight go out together as the next.
//!
//! A call to the store runs on a thread of the group's own, and whoever asked waits for the answer with a deadline of
//! its own: a store that never answers costs its callers a time-out, not their threads. An idle group adds no delay
//! beyond the hand-over to that thread; there is no timer.
//!
//! A request is pending (in the queue), then running (a thread took it), then answered. All of it under one lock.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crate::log;
use slot::{Outcome, Slot};

/// Requests that may be pending; one more is turned away at once.
const MAX_PENDING: usize = 10_000;
/// How long a request is pending before the running calls count as slow, or stuck, and another thread is started.
const SLOW_AFTER: Duration = Duration::from_millis(100);
/// Threads at most, but for those whose call is lost.
const MAX_THREADS: usize = 4;
/// How long a call runs before it counts as lost: its callers have given up long ago, and nobody waits for its thread.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Threads at most, with those whose call is lost.
pub(crate) const MAX_THREADS_WITH_LOST: usize = 64;

/// What may go out together.
pub(crate) struct Rules<Q> {
    /// Whether two requests are the same question, so that one answer serves both.
    pub(crate) is_same: fn(&Q, &Q) -> bool,
    /// Requests share a call up to this weight; one that weighs more goes alone.
    pub(crate) weight: fn(&Q) -> usize,
    pub(crate) full: usize,
}

/// Makes one call for several requests and returns an answer for each, in their order. The number says how many
/// callers wait for those answers.
pub(crate) type Run<Q, A> = dyn Fn(Vec<Q>, usize) -> Vec<A> + Send + Sync;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unanswered {
    /// The request was never handed to the store, and never will be.
    NotStarted,
    /// It was handed over, and no answer came in time.
    Unknown,
}

/// Requests of one kind, and the threads that make calls of them.
pub(crate) struct Group<Q, A> {
    shared: Arc<Shared<Q, A>>,
    is_off: bool,
}

pub(crate) struct Shared<Q, A> {
    name: &'static str,
    rules: Rules<Q>,
    run: Box<Run<Q, A>>,
    state: Mutex<State<Q, A>>,
    /// Told to one thread for each request that becomes pending.
    pending_grew: Condvar,
    thread_ended: Condvar,
}

struct State<Q, A> {
    pending: VecDeque<Pending<Q, A>>,
    threads: usize,
    /// Threads that wait for a request.
    idle: usize,
    /// When each running call began, by the thread that makes it.
    running: HashMap<ThreadId, Instant>,
    handles: Vec<JoinHandle<()>>,
    /// No more requests will come.
    is_closed: bool,
}

struct Pending<Q, A> {
    request: Q,
    slots: Vec<Arc<Slot<A>>>,
}

impl<Q: Send + 'static, A: Clone + Send + 'static> Group<Q, A> {
    /// With `is_off` every request is a call of its own, on its caller's thread: for comparison only, since nothing
    /// bounds its time then.
    pub(crate) fn new(name: &'static str, is_off: bool, rules: Rules<Q>, run: Box<Run<Q, A>>) -> Self {
        let state = State {
            pending: VecDeque::new(),
            threads: 0,
            idle: 0,
            running: HashMap::new(),
            handles: Vec::new(),
            is_closed: false,
        };
        let shared = Arc::new(Shared {
            name,
            rules,
            run,
            state: Mutex::new(state),
            pending_grew: Condvar::new(),
            thread_ended: Condvar::new(),
        });
        Self { shared, is_off }
    }

    /// Has `request` answered by `deadline`, alone or together with others.
    pub(crate) fn call(&self, request: Q, deadline: Instant) -> Result<A, Unanswered> {
        self.begin(request).wait(deadline)
    }

    /// Asks now; the ticket is for the answer.
    pub(crate) fn begin(&self, request: Q) -> Ticket<Q, A> {
        if self.is_off {
            let answer = (self.shared.run)(vec![request], 1).pop();
            return Ticket::Answered(answer.ok_or(Unanswered::Unknown));
        }
        match self.shared.submit(request) {
            Ok(slot) => Ticket::Waiting { shared: self.shared.clone(), slot },
            Err(unanswered) => Ticket::Answered(Err(unanswered)),
        }
    }
}

/// Stands for an answer to come, or holds the one that there is already.
pub(crate) enum Ticket<Q, A> {
    Waiting { shared: Arc<Shared<Q, A>>, slot: Arc<Slot<A>> },
    Answered(Result<A, Unanswered>),
}

impl<Q: Send + 'static, A: Clone + Send + 'static> Ticket<Q, A> {
    pub(crate) fn wait(self, deadline: Instant) -> Result<A, Unanswered> {
        let (shared, slot) = match self {
            Ticket::Waiting { shared, slot } => (shared, slot),
            Ticket::Answered(answer) => return answer,
        };
        if !slot.wait_until(deadline.min(Instant::now() + SLOW_AFTER)) {
            shared.relieve(&slot);
            slot.wait_until(deadline);
        }
        let withdrawn = !slot.is_answered() && shared.withdraw(&slot);
        match slot.take() {
            Some(Outcome::Answer(answer)) => Ok(answer),
            None if withdrawn => Err(Unanswered::NotStarted),
            Some(Outcome::Lost) | None => Err(Unanswered::Unknown),
        }
    }
}

impl<Q, A> Group<Q, A> {
    /// Takes no more requests; the threads end once they have made the calls that are pending.
    pub(crate) fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.pending_grew.notify_all();
    }

    /// Waits until the threads of a closed group have ended, so that the store is closed once nobody else has it, but
    /// not beyond `deadline`. A stuck one is left behind.
    pub(crate) fn wait_until_ended(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let state = self.shared.lock();
        let ended = self.shared.thread_ended.wait_timeout_while(state, left, |state| state.threads > 0);
        let (mut state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        if state.threads > 0 {
            return;
        }
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for handle in handles {
            // It has caught every panic of its own.
            let _ = handle.join();
        }
    }
}

impl<Q, A> Drop for Group<Q, A> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<Q, A> Shared<Q, A> {
    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        // Only `is_same` and `weight` of ours run under the lock; the state is whole whatever they do.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Send + 'static, A: Clone + Send + 'static> Shared<Q, A> {
    fn submit(self: &Arc<Self>, request: Q) -> Result<Arc<Slot<A>>, Unanswered> {
        let slot = Arc::new(Slot::new());
        let mut state = self.lock();
        if state.is_closed {
            return Err(Unanswered::NotStarted);
        }
        let is_same = self.rules.is_same;
        let joined = state.pending.iter_mut().find(|pending| is_same(&pending.request, &request));
        if let Some(pending) = joined {
            pending.slots.push(slot.clone());
            return Ok(slot);
        }
        if state.pending.len() >= MAX_PENDING {
            return Err(Unanswered::NotStarted);
        }
        state.pending.push_back(Pending { request, slots: vec![slot.clone()] });
        if state.idle > 0 {
            self.pending_grew.notify_one();
        } else if state.threads == 0 {
            self.add_thread(&mut state);
        }
        Ok(slot)
    }

    /// Starts another thread if `slot` is still pending, that is, if the running calls are stuck.
    fn relieve(self: &Arc<Self>, slot: &Arc<Slot<A>>) {
        let mut state = self.lock();
        let is_pending = state.pending.iter().any(|pending| pending.has(slot));
        let lost = state.running.values().filter(|began| began.elapsed() > LOST_AFTER).count();
        let has_room = state.threads - lost < MAX_THREADS && state.threads < MAX_THREADS_WITH_LOST;
        if is_pending && state.idle == 0 && has_room {
            self.add_thread(&mut state);
        }
    }

    /// Takes `slot` out of what is pending; false if its request has been handed to the store.
    fn withdraw(&self, slot: &Arc<Slot<A>>) -> bool {
        let mut state = self.lock();
        let Some(index) = state.pending.iter().position(|pending| pending.has(slot)) else {
            return false;
        };
        let slots = &mut state.pending[index].slots;
        slots.retain(|other| !Arc::ptr_eq(other, slot));
        if slots.is_empty() {
            state.pending.remove(index);
        }
        true
    }

    fn add_thread(self: &Arc<Self>, state: &mut State<Q, A>) {
        let shared = self.clone();
        let spawned = thread::Builder::new().name(self.name.to_owned()).spawn(move || shared.make_calls());
        match spawned {
            Ok(handle) => {
                state.threads += 1;
                state.handles.retain(|handle| !handle.is_finished());
                state.handles.push(handle);
            }
            // Its caller gives up at its deadline, and the next request tries again.
            Err(error) => log::error(format_args!("cannot start a thread for {}: {error}", self.name)),
        }
    }

    /// One thread: take what may go together, call, hand out the answers.
    fn make_calls(self: Arc<Self>) {
        let mut state = self.lock();
        loop {
            let taken = self.take(&mut state.pending);
            if taken.is_empty() {
                // Where calls were stuck and are not any more, one waiting thread is enough.
                if state.is_closed || state.idle > 0 {
                    state.threads -= 1;
                    self.thread_ended.notify_one();
                    return;
                }
                state.idle += 1;
                let woken = self.pending_grew.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            }
            let this_thread = thread::current().id();
            state.running.insert(this_thread, Instant::now());
            drop(state);
            self.answer(taken);
            state = self.lock();
            state.running.remove(&this_thread);
        }
    }

    /// Takes as many of the oldest requests as may share a call.
    fn take(&self, pending: &mut VecDeque<Pending<Q, A>>) -> Vec<Pending<Q, A>> {
        let mut taken = Vec::new();
        let mut weight = 0;
        while let Some(next) = pending.front() {
            weight += (self.rules.weight)(&next.request);
            if weight > self.rules.full && !taken.is_empty() {
                break;
            }
            taken.extend(pending.pop_front());
        }
        taken
    }

    fn answer(&self, taken: Vec<Pending<Q, A>>) {
        let (requests, slots): (Vec<_>, Vec<_>) =
            taken.into_iter().map(|pending| (pending.request, pending.slots)).unzip();
        let callers = slots.iter().map(Vec::len).sum();
        // A panic has been logged by the hook; the callers must not wait for it.
        let answers = catch_unwind(AssertUnwindSafe(|| (self.run)(requests, callers)));
        let mut answers = answers.unwrap_or_default().into_iter();
        for slots in slots {
            let answer = answers.next();
            for slot in slots {
                slot.set(answer.clone().map_or(Outcome::Lost, Outcome::Answer));
            }
        }
    }
}

impl<Q, A> Pending<Q, A> {
    fn has(&self, slot: &Arc<Slot<A>>) -> bool {
        self.slots.iter().any(|other| Arc::ptr_eq(other, slot))
    }
}

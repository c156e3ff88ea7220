//! Requests to the store wait here, and threads of the queue make calls of them. Nobody waits on a
//! thread for an answer: a request comes with a completion, which is called with it.
//!
//! A request is
//! - *pending*: in its queue's `Backlog`. Who gives it up now takes it out, and it never happens.
//! - *begun*: a thread has taken it for a call, with others as the backlog sees fit. There is no
//!   way back.
//! - *completed*: its completion has been called, with the answer or by whoever gave it up,
//!   whichever was first; or it was dropped. What comes later is ignored.
//!
//! A thread is
//! - *idle*: waits for a request;
//! - *woken*: was idle, and a request counts on it;
//! - *calling*: the call is quick, then *slow* (`SLOW_AFTER`), then *lost* (`LOST_AFTER`), until it
//!   returns.
//!
//! A request wakes one idle thread, if there is one, or starts the first. Usually there is one
//! thread, so that one call is in flight, and what comes meanwhile goes together into the next.
//! Others are started only by the `Supervisor`, when requests have been pending for long, and end
//! when the calls are quick again.
//!
//! All of this is under one lock per queue. No call is made and no completion is called under it.

mod completion;
mod reads;
mod supervisor;
#[cfg(test)]
mod tests;
mod worker;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::Monitor;
use completion::{Complete, Completion};
pub(crate) use completion::{Pending, Unanswered};
pub(crate) use reads::CoalescedReads;
use supervisor::{Alarm, Supervised};
pub(crate) use supervisor::{Alive, Supervisor};
use worker::Open;
pub(crate) use writes::{BatchedWrites, Weigh};

/// Requests that may be pending in one queue; one more is turned away at once. Each is waited for
/// by a connection, of which there are 100,000 at most (`MAX_CONNECTIONS`), or is one of several
/// commands of a large body, of which there are few. So this never turns away anybody who was let
/// in, and keeps a mistake elsewhere from filling the memory.
const MAX_PENDING: usize = 128 * 1024;
/// How long a request is pending before another thread is started, and how long a quick call takes
/// at most.
const SLOW_AFTER: Duration = Duration::from_millis(100);
/// How long a call runs before it counts as lost: its callers have given up, and nobody waits for
/// its thread.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Threads of one queue at most, with those whose call is lost.
pub(crate) const MAX_THREADS: usize = 64;

/// How many threads a queue may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads {
    /// Started as requests come.
    pub(crate) usual: usize,
    /// Where requests have been pending for long; without those whose call is lost.
    pub(crate) slow: usize,
    /// With those.
    pub(crate) most: usize,
}

/// What is pending in a queue, and how it is put together into calls.
pub(crate) trait Backlog: Send + 'static {
    type Request: Send + 'static;
    type Answer: Clone + Send + 'static;

    fn add(
        &mut self,
        request: Self::Request,
        completion: Arc<dyn Complete<Self::Answer>>,
    ) -> Ticket;

    /// Takes out the request with this ticket, if it is still there.
    fn cancel(&mut self, ticket: Ticket) -> Option<Removed<Self::Request, Self::Answer>>;

    /// Takes out the oldest requests, as many as go together.
    fn take(&mut self) -> Option<SharedCall<Self::Request, Self::Answer>>;

    /// Since when the oldest request has been pending.
    fn oldest(&self) -> Option<Instant>;

    /// How many requests are pending.
    fn waiting(&self) -> usize;
}

/// By what a request is cancelled; never used twice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    entry: u64,
    /// Of several requests that share an entry.
    waiter: u64,
}

/// What was taken out of a backlog, to be dropped without the lock.
pub(crate) struct Removed<Q, A> {
    _request: Option<Q>,
    _completion: Arc<dyn Complete<A>>,
}

/// Requests that go out together.
pub(crate) struct SharedCall<Q, A> {
    requests: Vec<Q>,
    /// Each with the index of the request whose answer it gets, in that order.
    completions: Vec<(usize, Arc<dyn Complete<A>>)>,
}

/// Makes a call of several requests and returns an answer to each, in their order. The number says
/// how many wait for those answers.
pub(crate) type Run<Q, A> = dyn Fn(Vec<Q>, usize) -> Vec<A> + Send + Sync;

/// Requests of one kind, and the threads that make calls of them.
pub(crate) struct Queue<B: Backlog> {
    shared: Arc<Shared<B>>,
}

struct Shared<B: Backlog> {
    name: &'static str,
    limits: Threads,
    state: Monitor<State<B>>,
    alarm: Arc<Alarm>,
}

struct State<B: Backlog> {
    backlog: B,
    threads: usize,
    idle: usize,
    woken: usize,
    /// When each running call began, by the number of its thread.
    calls: BTreeMap<u64, Instant>,
    /// Of a thread.
    last_number: u64,
    /// The last thread could not be started; said once, not once a try.
    spawn_fails: bool,
    /// `None` once the queue is closed.
    open: Option<Open<B>>,
}

/// A queue, for requests that may still be pending in it.
trait Cancel: Send + Sync {
    /// False if the request has begun.
    fn cancel(&self, ticket: Ticket) -> bool;
}

impl<B: Backlog> Queue<B> {
    pub(crate) fn new(
        name: &'static str,
        limits: Threads,
        supervisor: &Supervisor,
        backlog: B,
        run: impl Fn(Vec<B::Request>, usize) -> Vec<B::Answer> + Send + Sync + 'static,
    ) -> Self {
        let open = Open { run: Arc::new(run), _alive: supervisor.alive() };
        let state = State {
            backlog,
            threads: 0,
            idle: 0,
            woken: 0,
            calls: BTreeMap::new(),
            last_number: 0,
            spawn_fails: false,
            open: Some(open),
        };
        let shared = Shared { name, limits, state: Monitor::new(state), alarm: supervisor.alarm() };
        Self { shared: Arc::new(shared) }
    }

    /// Has `request` answered, alone or together with others. `done` is called once, maybe before
    /// this returns, on a thread of the queue or by `Pending::give_up`.
    pub(crate) fn begin<F>(&self, request: B::Request, done: F) -> Pending
    where
        F: FnOnce(Result<B::Answer, Unanswered>) + Send + 'static,
    {
        let completion = Arc::new(Completion::new(done));
        let mut state = self.shared.state.lock();
        if state.open.is_none() || state.backlog.waiting() >= MAX_PENDING {
            drop(state);
            completion.complete(Err(Unanswered::NotStarted));
            return Pending::completed();
        }
        let ticket = state.backlog.add(request, completion.clone());
        if state.idle > 0 {
            state.idle -= 1;
            state.woken += 1;
            drop(state);
            self.shared.state.notify_one();
        } else if state.threads >= self.shared.limits.usual || !self.shared.spawn_worker(&mut state)
        {
            drop(state);
            self.shared.alarm.raise();
        }
        Pending::new(self.shared.clone(), ticket, completion)
    }

    /// Takes no more requests. The threads end once they have made the calls that are pending.
    pub(crate) fn close(&self) {
        let open = self.shared.state.lock().open.take();
        self.shared.state.notify_all();
        drop(open);
    }

    /// Completes what is still pending in a closed queue, since no thread has come to it: it never
    /// begins.
    pub(crate) fn abandon(&self) {
        let mut calls = Vec::new();
        let mut state = self.shared.state.lock();
        while let Some(call) = state.backlog.take() {
            calls.push(call);
        }
        drop(state);
        for call in calls {
            for (_, completion) in call.completions {
                completion.complete(Err(Unanswered::NotStarted));
            }
        }
    }

    pub(crate) fn supervised(&self) -> Arc<dyn Supervised> {
        self.shared.clone()
    }
}

impl<B: Backlog> Drop for Queue<B> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<B: Backlog> Cancel for Shared<B> {
    fn cancel(&self, ticket: Ticket) -> bool {
        let removed = self.state.lock().backlog.cancel(ticket);
        removed.is_some()
    }
}

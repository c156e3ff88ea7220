//! The threads of a queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::supervisor::{Alive, Supervised};
use super::{Backlog, LOST_AFTER, Run, SLOW_AFTER, Shared, SharedCall, State, Unanswered};
use crate::log;

/// What an open queue has, and each of its threads. The fields are dropped in this order: once
/// nothing is alive, nothing holds the store that `run` calls.
pub(super) struct Open<B: Backlog> {
    pub(super) run: Arc<Run<B::Request, B::Answer>>,
    pub(super) _alive: Alive,
}

impl<B: Backlog> Clone for Open<B> {
    fn clone(&self) -> Self {
        Self { run: self.run.clone(), _alive: self._alive.clone() }
    }
}

impl<B: Backlog> Shared<B> {
    /// Starts a thread, and says whether it could.
    pub(super) fn spawn_worker(self: &Arc<Self>, state: &mut State<B>) -> bool {
        let Some(open) = state.open.clone() else { return false };
        let number = state.last_number + 1;
        let shared = self.clone();
        let spawned = thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            shared.work(number, &open);
            // In this order: whoever closes the queue waits for `open` to be dropped.
            drop(shared);
            drop(open);
        });
        match spawned {
            Ok(_) => {
                state.last_number = number;
                state.threads += 1;
                state.spawn_fails = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut state.spawn_fails, true) {
                    log::error(format_args!("cannot start a thread for {}: {error}", self.name));
                }
                false
            }
        }
    }

    /// One thread: take what goes together, make the call, hand out the answers.
    fn work(&self, number: u64, open: &Open<B>) {
        let mut state = self.state.lock();
        loop {
            if let Some(call) = state.backlog.take() {
                let began = Instant::now();
                state.calls.insert(number, began);
                drop(state);
                call.make(&*open.run);
                state = self.state.lock();
                state.calls.remove(&number);
                if state.threads > self.limits.usual && self.is_unneeded(&state, began) {
                    break;
                }
            } else if state.open.is_none() || self.has_quick_threads(&state, Instant::now()) {
                break;
            } else {
                state.idle += 1;
                state =
                    self.state.wait_while(state, |state| state.woken == 0 && state.open.is_some());
                // Whoever wakes a thread counts it as woken, whichever that is; closing wakes all
                // of them.
                let counted = if state.woken > 0 { &mut state.woken } else { &mut state.idle };
                *counted -= 1;
            }
        }
        state.threads -= 1;
    }

    /// Whether a thread whose call `began` then can leave what is pending to others: things are
    /// quick again.
    fn is_unneeded(&self, state: &State<B>, began: Instant) -> bool {
        let now = Instant::now();
        let is_recent = |since: Instant| now.saturating_duration_since(since) < SLOW_AFTER;
        is_recent(began)
            && state.backlog.oldest().is_none_or(is_recent)
            && self.has_quick_threads(state, now)
    }

    /// Whether there are as many threads as usual beside the one that asks, without those whose
    /// call is slow.
    fn has_quick_threads(&self, state: &State<B>, now: Instant) -> bool {
        state.threads - 1 - state.calls_older_than(SLOW_AFTER, now) >= self.limits.usual
    }
}

impl<B: Backlog> State<B> {
    fn calls_older_than(&self, age: std::time::Duration, now: Instant) -> usize {
        self.calls.values().filter(|&&began| now.saturating_duration_since(began) >= age).count()
    }
}

impl<B: Backlog> Supervised for Shared<B> {
    fn supervise(self: Arc<Self>, now: Instant) -> bool {
        let mut state = self.state.lock();
        let Some(oldest) = state.backlog.oldest() else { return false };
        let is_late = now.saturating_duration_since(oldest) >= SLOW_AFTER || state.threads == 0;
        let is_helped = state.idle > 0 || state.woken > 0;
        let lost = state.calls_older_than(LOST_AFTER, now);
        let has_room = state.threads - lost < self.limits.slow && state.threads < self.limits.most;
        if is_late && !is_helped && has_room {
            self.spawn_worker(&mut state);
        }
        true
    }
}

impl<Q, A: Clone> SharedCall<Q, A> {
    fn make(self, run: &Run<Q, A>) {
        let Self { requests, completions } = self;
        let count = completions.len();
        // A panic has been logged by the hook; whoever waits for an answer must not wait longer for
        // it.
        let answers = catch_unwind(AssertUnwindSafe(|| run(requests, count))).unwrap_or_default();
        let mut answers: Vec<Option<A>> = answers.into_iter().map(Some).collect();
        let mut completions = completions.into_iter().peekable();
        while let Some((index, completion)) = completions.next() {
            let is_last = completions.peek().is_none_or(|(next, _)| *next != index);
            let answer = answers.get_mut(index);
            let answer =
                answer.and_then(|answer| if is_last { answer.take() } else { answer.clone() });
            completion.complete(answer.ok_or(Unanswered::Unknown));
        }
    }
}

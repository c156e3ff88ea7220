//! Where one caller of a group waits for its answer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) struct Slot<A> {
    outcome: Mutex<Option<Outcome<A>>>,
    answered: Condvar,
}

pub(super) enum Outcome<A> {
    Answer(A),
    /// The call panicked.
    Lost,
}

impl<A> Slot<A> {
    pub(super) fn new() -> Self {
        Self { outcome: Mutex::new(None), answered: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outcome<A>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, outcome: Outcome<A>) {
        *self.lock() = Some(outcome);
        self.answered.notify_one();
    }

    pub(super) fn is_answered(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn take(&self) -> Option<Outcome<A>> {
        self.lock().take()
    }

    /// Waits until there is an outcome or the time is over, and says whether there is one.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.answered.wait_timeout_while(self.lock(), left, |outcome| outcome.is_none());
        let (outcome, _) = waited.unwrap_or_else(PoisonError::into_inner);
        outcome.is_some()
    }
}

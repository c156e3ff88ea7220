//! What all requests together may hold: bytes that are taken, waited for and given back. Touches nothing else.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) struct Budget {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// Bytes taken from a budget, until it is dropped.
pub(crate) struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { free: Mutex::new(bytes), given_back: Condvar::new() }
    }

    /// Takes `bytes`, and waits until so many are free, but not beyond `deadline`: then there is none.
    pub(crate) fn take(&self, bytes: usize, deadline: Instant) -> Option<Share<'_>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.given_back.wait_timeout_while(self.lock(), left, |free| *free < bytes);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(bytes)?;
        Some(Share { budget: self, bytes })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        // Nothing under the lock can panic.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.lock() += self.bytes;
        self.budget.given_back.notify_all();
    }
}

//! The same calls for a thread that waits for the answer.

use std::sync::Arc;
use std::time::Instant;

use super::{Db, Pending, StoreError};
use crate::sync::Monitor;

/// An answer to wait for.
pub(super) struct Waiting<A> {
    answer: Arc<Monitor<Option<A>>>,
    pending: Pending,
}

impl<A: Send + 'static> Waiting<A> {
    pub(super) fn begin(begin: impl FnOnce(Box<dyn FnOnce(A) + Send>) -> Pending) -> Self {
        let answer = Arc::new(Monitor::new(None));
        let place = answer.clone();
        let pending = begin(Box::new(move |answer| {
            *place.lock() = Some(answer);
            place.notify_one();
        }));
        Self { answer, pending }
    }

    pub(super) fn wait(self, deadline: Instant) -> A {
        let mut answer =
            self.answer.wait_while_until(self.answer.lock(), deadline, |answer| answer.is_none());
        if answer.is_none() {
            drop(answer);
            self.pending.give_up();
            answer = self.answer.lock();
        }
        loop {
            match answer.take() {
                Some(answer) => return answer,
                // Another thread is about to put it there.
                None => answer = self.answer.wait_while(answer, |answer| answer.is_none()),
            }
        }
    }
}

impl Db {
    pub(super) fn begin_ping(&self) -> Waiting<Result<(), StoreError>> {
        Waiting::begin(|done| self.ping(done))
    }
}

//! What is called with the answer to a request: once, by whoever comes first.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use super::{Cancel, Ticket};
use crate::sync::lock;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unanswered {
    /// The request was never handed to the store, and never will be.
    NotStarted,
    /// It was handed over, and no answer came in time.
    Unknown,
}

/// A completion as its queue sees it.
pub(crate) trait Complete<A>: Send + Sync {
    /// Calls it, unless it has been called or dropped already.
    fn complete(&self, outcome: Result<A, Unanswered>);
}

/// A completion as whoever made the request sees it.
trait Settle: Send + Sync {
    fn fail(&self, reason: Unanswered);
    /// Drops it uncalled.
    fn forget(&self);
    fn is_settled(&self) -> bool;
}

pub(super) struct Completion<A, F> {
    done: Mutex<Option<F>>,
    answer: PhantomData<fn(A)>,
}

impl<A, F> Completion<A, F> {
    pub(super) fn new(done: F) -> Self {
        Self { done: Mutex::new(Some(done)), answer: PhantomData }
    }

    /// Only one gets it, and uses it without the lock.
    fn take(&self) -> Option<F> {
        lock(&self.done).take()
    }
}

impl<A, F: FnOnce(Result<A, Unanswered>) + Send> Complete<A> for Completion<A, F> {
    fn complete(&self, outcome: Result<A, Unanswered>) {
        if let Some(done) = self.take() {
            // The hook has logged the panic. Others' answers wait on this thread.
            let _ = catch_unwind(AssertUnwindSafe(|| done(outcome)));
        }
    }
}

impl<A, F: FnOnce(Result<A, Unanswered>) + Send> Settle for Completion<A, F> {
    fn fail(&self, reason: Unanswered) {
        self.complete(Err(reason));
    }

    fn forget(&self) {
        drop(self.take());
    }

    fn is_settled(&self) -> bool {
        lock(&self.done).is_none()
    }
}

/// A request that may not be answered yet. Dropped, it is cancelled and its completion is never
/// called.
#[must_use = "a request that is dropped is cancelled"]
pub(crate) struct Pending {
    request: Option<Request>,
}

struct Request {
    queue: Arc<dyn Cancel>,
    ticket: Ticket,
    completion: Arc<dyn Settle>,
}

impl Pending {
    pub(super) fn new<A, F>(
        queue: Arc<dyn Cancel>,
        ticket: Ticket,
        completion: Arc<Completion<A, F>>,
    ) -> Self
    where
        A: 'static,
        F: FnOnce(Result<A, Unanswered>) + Send + 'static,
    {
        Self { request: Some(Request { queue, ticket, completion }) }
    }

    /// Of a request that has been completed already.
    pub(super) fn completed() -> Self {
        Self { request: None }
    }

    /// Waits no longer: the completion is called now, unless it has been, or is being called on
    /// another thread. Never blocks.
    pub(crate) fn give_up(self) {
        let Some(request) = &self.request else { return };
        if request.completion.is_settled() {
            return;
        }
        let reason = if request.queue.cancel(request.ticket) {
            Unanswered::NotStarted
        } else {
            Unanswered::Unknown
        };
        request.completion.fail(reason);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        if !request.completion.is_settled() {
            request.queue.cancel(request.ticket);
            request.completion.forget();
        }
    }
}

//! What a request waits for while its connection is parked: an answer of the database's.

use std::sync::{Arc, Mutex};

use crate::db::Pending;
use crate::server::service::{Call, Step, Waker};
use crate::sync::lock;

/// An answer that will be there, and the call that brings it.
pub(super) struct Reply<A> {
    answer: Arc<Mutex<Option<A>>>,
    /// None once it has been given up.
    pending: Option<Pending>,
}

impl<A: Send + 'static> Reply<A> {
    /// Begins the call that `ask` makes; its answer wakes the connection.
    pub(super) fn ask(
        waker: &Waker,
        ask: impl FnOnce(Box<dyn FnOnce(A) + Send>) -> Pending,
    ) -> Self {
        let answer = Arc::new(Mutex::new(None));
        let (place, waker) = (answer.clone(), waker.clone());
        let pending = ask(Box::new(move |answer| {
            *lock(&place) = Some(answer);
            waker.wake();
        }));
        Self { answer, pending: Some(pending) }
    }

    /// The answer, once it is there; once only.
    pub(super) fn take(&mut self) -> Option<A> {
        lock(&self.answer).take()
    }

    /// From now on there is an answer, if only that there is none.
    pub(super) fn give_up(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.give_up();
        }
    }
}

/// A call of which one answer is made.
pub(super) struct StoreCall<A> {
    reply: Reply<A>,
    then: Option<Box<dyn FnOnce(A) -> Step + Send>>,
    /// Bytes of the documents on their way.
    held: usize,
}

impl<A: Send + 'static> StoreCall<A> {
    pub(super) fn new(
        reply: Reply<A>,
        held: usize,
        then: impl FnOnce(A) -> Step + Send + 'static,
    ) -> Self {
        Self { reply, then: Some(Box::new(then)), held }
    }
}

impl<A: Send + 'static> Call for StoreCall<A> {
    fn poll(&mut self) -> Option<Step> {
        let answer = self.reply.take()?;
        self.then.take().map(|then| then(answer))
    }

    fn give_up(&mut self) {
        self.reply.give_up();
    }

    fn held(&self) -> usize {
        self.held
    }
}

//! The same calls for a thread that waits for the answer.

use std::sync::Arc;
use std::time::Instant;

use super::{Db, Layout, Outcome, Page, PageQuery, Pending, StoreError};
use crate::document::{Document, DocumentId};
use crate::sync::Monitor;

/// An answer to wait for.
#[must_use = "a request that is dropped is cancelled"]
pub(crate) struct Waiting<A> {
    answer: Arc<Monitor<Option<A>>>,
    pending: Pending,
}

impl<A: Send + 'static> Waiting<A> {
    fn begin(begin: impl FnOnce(Box<dyn FnOnce(A) + Send>) -> Pending) -> Self {
        let answer = Arc::new(Monitor::new(None));
        let place = answer.clone();
        let pending = begin(Box::new(move |answer| {
            *place.lock() = Some(answer);
            place.notify_one();
        }));
        Self { answer, pending }
    }

    pub(crate) fn wait(self, deadline: Instant) -> A {
        let mut answer = self.answer.wait_while_until(self.answer.lock(), deadline, |answer| answer.is_none());
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
    pub(crate) fn begin_insert(&self, documents: Vec<Document>) -> Waiting<Vec<Outcome>> {
        Waiting::begin(|done| self.insert(documents, done))
    }

    pub(crate) fn begin_page(&self, query: PageQuery, layout: Layout) -> Waiting<Result<Arc<Page>, StoreError>> {
        Waiting::begin(|done| self.page(query, layout, done))
    }

    pub(crate) fn begin_get(&self, id: DocumentId) -> Waiting<Result<Option<Arc<[u8]>>, StoreError>> {
        Waiting::begin(|done| self.get(id, done))
    }

    pub(crate) fn begin_ping(&self) -> Waiting<Result<(), StoreError>> {
        Waiting::begin(|done| self.ping(done))
    }
}

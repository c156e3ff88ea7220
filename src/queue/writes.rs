//! Batching of writes: the oldest requests share a call, up to a weight.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Backlog, Complete, Removed, SharedCall, Ticket};

/// What a request adds to its call.
pub(crate) trait Weigh {
    fn weight(&self) -> usize;
}

pub(crate) struct BatchedWrites<Q, A> {
    /// Requests share a call up to this weight; one that weighs more goes alone.
    max_weight: usize,
    /// In the order in which they came.
    pending: BTreeMap<u64, Write<Q, A>>,
    last_number: u64,
}

struct Write<Q, A> {
    request: Q,
    weight: usize,
    since: Instant,
    completion: Arc<dyn Complete<A>>,
}

impl<Q, A> BatchedWrites<Q, A> {
    pub(crate) fn new(max_weight: usize) -> Self {
        Self { max_weight, pending: BTreeMap::new(), last_number: 0 }
    }
}

impl<Q: Weigh + Send + 'static, A: Clone + Send + 'static> Backlog for BatchedWrites<Q, A> {
    type Request = Q;
    type Answer = A;

    fn add(&mut self, request: Q, completion: Arc<dyn Complete<A>>) -> Ticket {
        self.last_number += 1;
        let weight = request.weight();
        self.pending
            .insert(self.last_number, Write { request, weight, since: Instant::now(), completion });
        Ticket { entry: self.last_number, waiter: 0 }
    }

    fn cancel(&mut self, ticket: Ticket) -> Option<Removed<Q, A>> {
        let write = self.pending.remove(&ticket.entry)?;
        Some(Removed { _request: Some(write.request), _completion: write.completion })
    }

    fn take(&mut self) -> Option<SharedCall<Q, A>> {
        let mut call = SharedCall { requests: Vec::new(), completions: Vec::new() };
        let mut weight = 0;
        while let Some(oldest) = self.pending.first_entry() {
            weight += oldest.get().weight;
            if weight > self.max_weight && !call.requests.is_empty() {
                break;
            }
            let write = oldest.remove();
            call.completions.push((call.requests.len(), write.completion));
            call.requests.push(write.request);
        }
        (!call.requests.is_empty()).then_some(call)
    }

    fn oldest(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(_, write)| write.since)
    }

    fn waiting(&self) -> usize {
        self.pending.len()
    }
}

//! Coalescing of reads: equal reads share one answer, and several reads may share one call.
//!
//! A request joins only a read that is pending, never one that has begun, so that it sees everything
//! that was acknowledged before it came.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use super::{Backlog, Complete, Removed, SharedCall, Ticket};

pub(crate) struct CoalescedReads<K, A> {
    /// Different reads in one call, at most.
    max_per_call: usize,
    /// Whether equal reads share one answer.
    coalesce: bool,
    /// In the order in which they were first asked for.
    pending: BTreeMap<u64, Read<K, A>>,
    /// The number of each in `pending`, if they coalesce.
    numbers: HashMap<K, u64>,
    /// Of reads and of requests.
    last_number: u64,
    waiting: usize,
}

struct Read<K, A> {
    key: K,
    since: Instant,
    completions: BTreeMap<u64, Arc<dyn Complete<A>>>,
}

impl<K, A> CoalescedReads<K, A> {
    pub(crate) fn new(max_per_call: usize, coalesce: bool) -> Self {
        Self {
            max_per_call,
            coalesce,
            pending: BTreeMap::new(),
            numbers: HashMap::new(),
            last_number: 0,
            waiting: 0,
        }
    }
}

impl<K, A> Backlog for CoalescedReads<K, A>
where
    K: Clone + Eq + Hash + Send + 'static,
    A: Clone + Send + 'static,
{
    type Request = K;
    type Answer = A;

    fn add(&mut self, key: K, completion: Arc<dyn Complete<A>>) -> Ticket {
        self.last_number += 1;
        self.waiting += 1;
        let number = self.last_number;
        if let Some(&entry) = self.numbers.get(&key)
            && let Some(read) = self.pending.get_mut(&entry)
        {
            read.completions.insert(number, completion);
            return Ticket { entry, waiter: number };
        }
        if self.coalesce {
            self.numbers.insert(key.clone(), number);
        }
        let completions = BTreeMap::from([(number, completion)]);
        self.pending.insert(number, Read { key, since: Instant::now(), completions });
        Ticket { entry: number, waiter: number }
    }

    fn cancel(&mut self, ticket: Ticket) -> Option<Removed<K, A>> {
        let read = self.pending.get_mut(&ticket.entry)?;
        let completion = read.completions.remove(&ticket.waiter)?;
        self.waiting -= 1;
        let is_last = read.completions.is_empty();
        let read = if is_last { self.pending.remove(&ticket.entry) } else { None };
        if let Some(read) = &read {
            self.numbers.remove(&read.key);
        }
        Some(Removed { _request: read.map(|read| read.key), _completion: completion })
    }

    fn take(&mut self) -> Option<SharedCall<K, A>> {
        let mut call = SharedCall { requests: Vec::new(), completions: Vec::new() };
        while call.requests.len() < self.max_per_call
            && let Some((_, read)) = self.pending.pop_first()
        {
            self.numbers.remove(&read.key);
            let index = call.requests.len();
            call.completions
                .extend(read.completions.into_values().map(|completion| (index, completion)));
            call.requests.push(read.key);
        }
        self.waiting -= call.completions.len();
        (!call.requests.is_empty()).then_some(call)
    }

    fn oldest(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(_, read)| read.since)
    }

    fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::completion::{Completion, Unanswered};

    #[test]
    fn reads_that_are_gone_leave_nothing() {
        let mut reads = CoalescedReads::<u32, u32>::new(1, true);
        let mut ask = |key| {
            let completion = Arc::new(Completion::new(|_: Result<u32, Unanswered>| ()));
            reads.add(key, completion)
        };
        let tickets = [1, 1, 2, 3].map(&mut ask);
        assert_eq!((reads.waiting(), reads.numbers.len()), (4, 3));
        assert_eq!(reads.take().unwrap().completions.len(), 2);
        assert!(reads.cancel(tickets[0]).is_none(), "it has begun");
        assert!(reads.cancel(tickets[2]).is_some());
        assert!(reads.cancel(tickets[2]).is_none(), "it is gone");
        assert_eq!((reads.waiting(), reads.numbers.len()), (1, 1));
        assert_eq!(reads.take().unwrap().requests, [3]);
        assert!(reads.take().is_none());
        assert_eq!((reads.waiting(), reads.numbers.len(), reads.pending.len()), (0, 0, 0));
    }
}

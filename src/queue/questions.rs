//! Coalescing of reads: equal questions share one answer, and several questions may share one call.
//!
//! A request joins only a question that is pending, never one that a call is being made for, so
//! that it sees everything that was acknowledged before it came.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use super::{Backlog, Call, Complete, Place, Removed};

pub(crate) struct Questions<K, A> {
    /// Different questions in one call, at most.
    max_per_call: usize,
    /// Whether equal questions share one answer.
    coalesce: bool,
    /// In the order in which they were first asked.
    pending: BTreeMap<u64, Question<K, A>>,
    /// The number of each in `pending`, if they coalesce.
    numbers: HashMap<K, u64>,
    /// Of questions and of requests.
    last_number: u64,
    waiting: usize,
}

struct Question<K, A> {
    key: K,
    since: Instant,
    completions: BTreeMap<u64, Arc<dyn Complete<A>>>,
}

impl<K, A> Questions<K, A> {
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

impl<K, A> Backlog for Questions<K, A>
where
    K: Clone + Eq + Hash + Send + 'static,
    A: Clone + Send + 'static,
{
    type Request = K;
    type Answer = A;

    fn add(&mut self, key: K, completion: Arc<dyn Complete<A>>) -> Place {
        self.last_number += 1;
        self.waiting += 1;
        let number = self.last_number;
        if let Some(&entry) = self.numbers.get(&key)
            && let Some(question) = self.pending.get_mut(&entry)
        {
            question.completions.insert(number, completion);
            return Place { entry, waiter: number };
        }
        if self.coalesce {
            self.numbers.insert(key.clone(), number);
        }
        let completions = BTreeMap::from([(number, completion)]);
        self.pending.insert(number, Question { key, since: Instant::now(), completions });
        Place { entry: number, waiter: number }
    }

    fn cancel(&mut self, place: Place) -> Option<Removed<K, A>> {
        let question = self.pending.get_mut(&place.entry)?;
        let completion = question.completions.remove(&place.waiter)?;
        self.waiting -= 1;
        let is_last = question.completions.is_empty();
        let question = if is_last { self.pending.remove(&place.entry) } else { None };
        if let Some(question) = &question {
            self.numbers.remove(&question.key);
        }
        Some(Removed { _request: question.map(|question| question.key), _completion: completion })
    }

    fn take(&mut self) -> Option<Call<K, A>> {
        let mut call = Call { requests: Vec::new(), completions: Vec::new() };
        while call.requests.len() < self.max_per_call
            && let Some((_, question)) = self.pending.pop_first()
        {
            self.numbers.remove(&question.key);
            let index = call.requests.len();
            call.completions
                .extend(question.completions.into_values().map(|completion| (index, completion)));
            call.requests.push(question.key);
        }
        self.waiting -= call.completions.len();
        (!call.requests.is_empty()).then_some(call)
    }

    fn oldest(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(_, question)| question.since)
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
    fn questions_that_are_gone_leave_nothing() {
        let mut questions = Questions::<u32, u32>::new(1, true);
        let mut ask = |key| {
            let completion = Arc::new(Completion::new(|_: Result<u32, Unanswered>| ()));
            questions.add(key, completion)
        };
        let places = [1, 1, 2, 3].map(&mut ask);
        assert_eq!((questions.waiting(), questions.numbers.len()), (4, 3));
        assert_eq!(questions.take().unwrap().completions.len(), 2);
        assert!(questions.cancel(places[0]).is_none(), "it has begun");
        assert!(questions.cancel(places[2]).is_some());
        assert!(questions.cancel(places[2]).is_none(), "it is gone");
        assert_eq!((questions.waiting(), questions.numbers.len()), (1, 1));
        assert_eq!(questions.take().unwrap().requests, [3]);
        assert!(questions.take().is_none());
        assert_eq!(
            (questions.waiting(), questions.numbers.len(), questions.pending.len()),
            (0, 0, 0)
        );
    }
}

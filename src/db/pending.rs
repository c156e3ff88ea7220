//! Requests on their way to the store and back.

use std::sync::{Arc, Mutex};

use super::health::Health;
use super::{Answers, Outcome, Refusal, StoreError};
use crate::queue::{self, Unanswered};
use crate::sync::lock;

/// A request that may not be answered yet. Dropped, it is cancelled if it has not begun, and what
/// was to be called with the answer never is.
#[must_use = "a request that is dropped is cancelled"]
pub(crate) struct Pending {
    first: Option<queue::Pending>,
    /// Further commands of one insert.
    others: Vec<queue::Pending>,
}

impl Pending {
    pub(super) fn of(commands: impl IntoIterator<Item = queue::Pending>) -> Self {
        let mut commands = commands.into_iter();
        Self { first: commands.next(), others: commands.collect() }
    }

    /// Waits no longer: whatever has no answer yet gets the one that there was none in time. What
    /// has not begun never will. Never blocks.
    pub(crate) fn give_up(self) {
        for request in self.first.into_iter().chain(self.others) {
            request.give_up();
        }
    }
}

impl From<Unanswered> for StoreError {
    /// Of a write.
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotStarted => StoreError::Unavailable(
                "The database did not get to it in time, and nothing was stored.".into(),
            ),
            Unanswered::Unknown => {
                StoreError::Unknown("The database did not answer in time.".into())
            }
        }
    }
}

/// What became of each of `documents` documents of one command.
pub(super) fn written(
    health: &Health,
    documents: usize,
    outcome: Result<Answers, Unanswered>,
) -> Vec<Outcome> {
    match health.note(outcome.unwrap_or_else(|unanswered| Err(unanswered.into()))) {
        Ok(answers) => answers,
        Err(error) => vec![Err(Refusal::Failed(error)); documents],
    }
}

/// A read that was not answered has changed nothing, whether it was started or not.
pub(super) fn read<A>(
    health: &Health,
    outcome: Result<Result<A, StoreError>, Unanswered>,
) -> Result<A, StoreError> {
    let unanswered = || StoreError::Unavailable("The database did not answer in time.".into());
    health.note(outcome.unwrap_or_else(|_| Err(health.reason().unwrap_or_else(unanswered))))
}

/// The answers to several commands of one insert, until all are there.
pub(super) struct Parts<F> {
    state: Mutex<Option<Missing<F>>>,
}

struct Missing<F> {
    /// By command; empty until it is answered.
    answers: Vec<Vec<Outcome>>,
    unanswered: usize,
    done: F,
}

impl<F: FnOnce(Vec<Outcome>)> Parts<F> {
    pub(super) fn new(commands: usize, done: F) -> Arc<Self> {
        let missing = Missing { answers: vec![Vec::new(); commands], unanswered: commands, done };
        Arc::new(Self { state: Mutex::new(Some(missing)) })
    }

    /// Adds the answers to one command. With the last one, `done` is called.
    pub(super) fn add(&self, index: usize, answers: Vec<Outcome>) {
        let mut state = lock(&self.state);
        if let Some(missing) = &mut *state {
            missing.answers[index] = answers;
            missing.unanswered -= 1;
        }
        let whole = state.take_if(|missing| missing.unanswered == 0);
        drop(state);
        if let Some(whole) = whole {
            (whole.done)(whole.answers.into_iter().flatten().collect());
        }
    }
}

//! Requests on their way to the store and back.

use std::sync::{Arc, Mutex};

use super::health::Health;
use super::{InsertOutcome, Refusal, StoreError, StoreErrorKind};
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
        let (kind, text) = match unanswered {
            Unanswered::NotStarted => (
                StoreErrorKind::Unavailable,
                "The database did not get to it in time, and nothing was stored.",
            ),
            Unanswered::Unknown => {
                (StoreErrorKind::Unknown, "The database did not answer in time.")
            }
        };
        StoreError::new(kind, text)
    }
}

/// What became of one command of an insert.
pub(super) fn written(
    health: &Health,
    outcome: Result<InsertOutcome, Unanswered>,
) -> InsertOutcome {
    health.note(outcome.unwrap_or_else(|unanswered| Err(unanswered.into())))
}

/// A read that was not answered has changed nothing, whether it was started or not.
pub(super) fn read<A>(
    health: &Health,
    outcome: Result<Result<A, StoreError>, Unanswered>,
) -> Result<A, StoreError> {
    let unanswered =
        || StoreError::new(StoreErrorKind::Unavailable, "The database did not answer in time.");
    health.note(outcome.unwrap_or_else(|_| Err(health.reason().unwrap_or_else(unanswered))))
}

/// The outcomes of several commands of one insert, until all are there.
pub(super) struct Parts<F> {
    state: Mutex<Option<Missing<F>>>,
}

struct Missing<F> {
    /// By command; none until it is answered.
    commands: Vec<Option<CommandOutcome>>,
    unanswered: usize,
    done: F,
}

pub(super) struct CommandOutcome {
    /// How many documents the command was to store.
    pub(super) documents: usize,
    pub(super) outcome: InsertOutcome,
}

impl<F: FnOnce(InsertOutcome)> Parts<F> {
    pub(super) fn new(commands: usize, done: F) -> Arc<Self> {
        let commands: Vec<_> = (0..commands).map(|_| None).collect();
        let missing = Missing { unanswered: commands.len(), commands, done };
        Arc::new(Self { state: Mutex::new(Some(missing)) })
    }

    /// Adds the outcome of one command. With the last one, `done` is called.
    pub(super) fn add(&self, index: usize, command: CommandOutcome) {
        let mut state = lock(&self.state);
        if let Some(missing) = &mut *state {
            missing.commands[index] = Some(command);
            missing.unanswered -= 1;
        }
        let whole = state.take_if(|missing| missing.unanswered == 0);
        drop(state);
        if let Some(whole) = whole {
            (whole.done)(join(whole.commands.into_iter().flatten().collect()));
        }
    }
}

/// The outcome of an insert. It failed as a whole if all its commands failed in the same way;
/// otherwise a command's failure is that of each of its documents.
fn join(commands: Vec<CommandOutcome>) -> InsertOutcome {
    let failure = |command: &CommandOutcome| command.outcome.as_ref().err().cloned();
    if let Some(first) = commands.first().and_then(failure)
        && commands.iter().all(|command| {
            command.outcome.as_ref().is_err_and(|error| error.kind() == first.kind())
        })
    {
        return Err(first);
    }
    let of_each = |CommandOutcome { documents, outcome }| {
        outcome.unwrap_or_else(|error| vec![Err(Refusal::Failed(error)); documents])
    };
    Ok(commands.into_iter().flat_map(of_each).collect())
}

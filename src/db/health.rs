//! Says in the log when the database begins to fail and when it works again: once a change, not
//! once a request.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{StoreError, StoreErrorKind};
use crate::log;
use crate::metrics::Metrics;
use crate::sync::lock;

/// Of one kind of call: a full disk fails writes while reads go on.
pub(super) struct Health {
    /// As in "cannot ... the database".
    action: &'static str,
    fails: AtomicBool,
    /// What the last failure was, while `fails`.
    reason: Mutex<Option<StoreError>>,
    /// Where failed requests are counted; `None` if the calls are not made for requests.
    metrics: Option<Arc<Metrics>>,
}

impl Health {
    pub(super) fn new(action: &'static str, metrics: Option<Arc<Metrics>>) -> Self {
        Self { action, fails: AtomicBool::new(false), reason: Mutex::new(None), metrics }
    }

    /// Why the database fails, for a caller that could not wait for its own answer.
    pub(super) fn reason(&self) -> Option<StoreError> {
        lock(&self.reason).clone().filter(|_| self.fails.load(Relaxed))
    }

    /// Takes note of what a call came to, and passes it on.
    pub(super) fn note<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match &outcome {
            Ok(_) => {
                if self.fails.load(Relaxed) && self.fails.swap(false, Relaxed) {
                    log::info(format_args!("can {} the database again", self.action));
                }
            }
            // The client's fault, not the database's.
            Err(error) if error.kind() == StoreErrorKind::Unsupported => {}
            Err(error) => {
                if let Some(metrics) = &self.metrics {
                    metrics.database_failed();
                }
                *lock(&self.reason) = Some(error.clone());
                if !self.fails.swap(true, Relaxed) {
                    log::error(format_args!("cannot {} the database: {error}", self.action));
                }
            }
        }
        outcome
    }
}

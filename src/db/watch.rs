//! Asks the database every few seconds whether it is there, so that its state is known though
//! nobody uses it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::pending::read;
use super::{Db, StoreError};
use crate::queue::Unanswered;

/// Between an answer and the next question.
const PERIOD: Duration = Duration::from_secs(2);
/// The same until the database has answered for the first time, for which the start of a server
/// waits.
const FIRST_PERIOD: Duration = Duration::from_millis(250);
/// How long an answer may take. The driver looks for a server for 3 s, and then says why it found
/// none.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Goes on until it is dropped.
pub(crate) struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    pub(crate) fn start(db: &Arc<Db>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        // Not a share in the database: that one is closed when nobody else has one.
        let db = Arc::downgrade(db);
        thread::Builder::new().name("watch".to_owned()).spawn(move || {
            while let Some(db) = db.upgrade() {
                db.look();
                let period = if db.was_reached() { PERIOD } else { FIRST_PERIOD };
                drop(db);
                if stopped.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

impl Db {
    fn look(&self) {
        let answer = self.pings.begin().recv_timeout(TIMEOUT);
        let outcome = read(&self.reach, answer.map_err(|_| Unanswered::Unknown));
        self.metrics.set_database_up(outcome.is_ok());
        if outcome.is_ok() {
            self.was_reached.store(true, Relaxed);
        }
    }

    /// Whether the database has answered since the start.
    pub(crate) fn was_reached(&self) -> bool {
        self.was_reached.load(Relaxed)
    }

    /// Why the database could not be reached when it was last asked.
    pub(crate) fn unreachable(&self) -> Option<StoreError> {
        self.reach.reason()
    }
}

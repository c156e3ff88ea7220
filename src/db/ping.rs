//! Pings: whether the database answers. Each is a call of its own on a thread of its own, so that
//! one that is stuck holds up nobody.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Store, StoreError};
use crate::metrics::{Call, Metrics};
use crate::queue::{Alive, MAX_THREADS, Supervisor};
use crate::sync::lock;

pub(super) struct Pings {
    /// `None` once closed.
    open: Mutex<Option<Open>>,
    /// Each running ping has a clone.
    running: Arc<()>,
}

/// The fields are dropped in this order: once nothing is alive, nothing holds the store.
#[derive(Clone)]
struct Open {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    _alive: Alive,
}

impl Pings {
    pub(super) fn new(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let open = Open { store, metrics, _alive: supervisor.alive() };
        Self { open: Mutex::new(Some(open)), running: Arc::new(()) }
    }

    /// Starts a ping, and returns where its answer will be. There will be none if too many are
    /// stuck, or if these are closed.
    pub(super) fn begin(&self) -> Receiver<Result<(), StoreError>> {
        let (answered, answer) = mpsc::sync_channel(1);
        let running = self.running.clone();
        let is_stuck = Arc::strong_count(&running) > 1 + MAX_THREADS;
        if let Some(open) = lock(&self.open).clone().filter(|_| !is_stuck) {
            // A thread that cannot be started answers as little as one that is stuck.
            let _ = thread::Builder::new().name("ping".to_owned()).spawn(move || {
                let _ = answered.send(open.metrics.counted(Call::Ping, open.store.ping()));
                drop(open);
                drop(running);
            });
        }
        answer
    }

    /// Takes no more pings.
    pub(super) fn close(&self) {
        drop(lock(&self.open).take());
    }
}

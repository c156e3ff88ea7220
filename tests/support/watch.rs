//! Time as the server had it.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// A watch that leaves out the time for which the machine was too busy to run anybody: a thread
/// that wakes up late has been kept waiting for as long.
pub struct Watch {
    started: Instant,
    lost: Duration,
}

static LOST_MILLIS: AtomicU64 = AtomicU64::new(0);

impl Watch {
    pub fn start() -> Self {
        static MEASURE: Once = Once::new();
        MEASURE.call_once(|| {
            thread::spawn(|| {
                const NAP: Duration = Duration::from_millis(20);
                loop {
                    let since = Instant::now();
                    thread::sleep(NAP);
                    let late = since.elapsed().saturating_sub(NAP).as_millis();
                    LOST_MILLIS.fetch_add(late as u64, SeqCst);
                }
            });
        });
        Self { started: Instant::now(), lost: Duration::from_millis(LOST_MILLIS.load(SeqCst)) }
    }

    pub fn elapsed(&self) -> Duration {
        let lost = Duration::from_millis(LOST_MILLIS.load(SeqCst)).saturating_sub(self.lost);
        self.started.elapsed().saturating_sub(lost)
    }
}

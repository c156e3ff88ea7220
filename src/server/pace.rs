//! Whether a client makes progress. A window is as long as the time-out; in each of them so many
//! bytes have to move that it comes to `MIN_RATE`. Nothing is asked of shorter times: a packet that
//! is lost on a phone is seconds of nothing, and a slow reader's kernel takes bytes in gulps.

use std::time::{Duration, Instant};

/// The least that a client has to send of a body, or take of an answer, in bytes per second.
const MIN_RATE: u64 = 1024;
/// The shortest window.
const MIN_WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    window: Duration,
    since: Instant,
    moved: u64,
}

impl Pace {
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self { window: timeout.max(MIN_WINDOW), since: now, moved: 0 }
    }

    /// Counts bytes that the client has moved.
    pub(super) fn moved(&mut self, bytes: usize, now: Instant) {
        self.moved += bytes as u64;
        if self.moved >= self.window.as_secs() * MIN_RATE {
            self.restart(now);
        }
    }

    /// The server itself was what the client waited for.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.moved = 0;
    }

    /// When the window began.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// When the client has to have made progress.
    pub(super) fn deadline(&self) -> Instant {
        self.since + self.window
    }

    pub(super) fn is_too_slow(&self, now: Instant) -> bool {
        now >= self.deadline()
    }
}

//! Whether a client makes progress. It has as much credit as the time-out says, in time; time uses
//! it up, and each byte that moves gives some back, as much as it takes at `MIN_RATE`. So pauses
//! within the time-out are fine, a stalled client ends after the time-out whatever it did before,
//! and one that is always slower than `MIN_RATE` ends in the end.

use std::time::{Duration, Instant};

/// The least that a client has to send of a body, or take of an answer, in bytes per second.
const MIN_RATE: u64 = 1024;
/// The least credit to begin with.
const MIN_CREDIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    full_credit: Duration,
    /// When the credit is used up.
    deadline: Instant,
}

impl Pace {
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        let full_credit = timeout.max(MIN_CREDIT);
        Self { full_credit, deadline: now + full_credit }
    }

    /// Counts bytes that the client has moved.
    pub(super) fn moved(&mut self, bytes: usize, now: Instant) {
        let earned = Duration::from_nanos(bytes as u64 * (1_000_000_000 / MIN_RATE));
        // It is not the client's fault if the server looks late.
        self.deadline = (self.deadline.max(now) + earned).min(now + self.full_credit);
    }

    /// The server itself was what the client waited for.
    pub(super) fn restart(&mut self, now: Instant) {
        self.deadline = now + self.full_credit;
    }

    /// When a client that has moved nothing since would have begun.
    pub(super) fn since(&self) -> Instant {
        self.deadline.checked_sub(self.full_credit).unwrap_or(self.deadline)
    }

    /// When the client has to have made progress.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_too_slow(&self, now: Instant) -> bool {
        now >= self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    /// How many seconds a client lasts that moves so many bytes each second, and at most 10,000.
    fn lasts(bytes_in_second: impl Fn(usize) -> usize) -> usize {
        let mut now = Instant::now();
        let mut pace = Pace::new(TIMEOUT, now);
        for second in 0..10_000 {
            now += SECOND;
            if pace.is_too_slow(now) {
                return second;
            }
            pace.moved(bytes_in_second(second), now);
        }
        10_000
    }

    #[test]
    fn stalled_client_ends_after_its_time() {
        assert_eq!(lasts(|_| 0), 9);
        assert_eq!(lasts(|_| 1), 10);
        assert_eq!(lasts(|second| if second < 500 { 1_000_000 } else { 0 }), 509);
    }

    #[test]
    fn slow_client_that_pauses_goes_on() {
        assert_eq!(lasts(|_| 1100), 10_000);
        assert_eq!(lasts(|second| if second % 18 < 10 { 2000 } else { 0 }), 10_000);
    }

    #[test]
    fn too_slow_client_ends_in_the_end() {
        let seconds = lasts(|_| 900);
        assert!((70..100).contains(&seconds), "{seconds}");
    }
}

//! So many lines per second and no more. Counts what it turns away; takes no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

pub(super) struct Rate {
    /// Lines per second at most.
    limit: u32,
    started: Instant,
    /// The current second since `started`, in the upper half, and how many lines it has admitted,
    /// in the lower.
    window: AtomicU64,
    left_out: AtomicU64,
    /// How many of `left_out` have been reported.
    reported: AtomicU64,
}

impl Rate {
    pub(super) fn new(limit: u32) -> Self {
        let zero = AtomicU64::new;
        Self {
            limit,
            started: Instant::now(),
            window: zero(0),
            left_out: zero(0),
            reported: zero(0),
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether another line may be written now; if not, it counts as left out.
    pub(super) fn admits(&self) -> bool {
        self.admits_in(self.started.elapsed().as_secs())
    }

    fn admits_in(&self, second: u64) -> bool {
        let next = |window: u64| {
            let (current, admitted) = (window >> 32, window & u64::from(u32::MAX));
            if second > current {
                // The shift keeps 136 years of seconds.
                return Some(second << 32 | 1);
            }
            (admitted < u64::from(self.limit)).then_some(window + 1)
        };
        let admits = self.window.try_update(Relaxed, Relaxed, next).is_ok();
        if !admits {
            self.left_out.fetch_add(1, Relaxed);
        }
        admits
    }

    /// Lines that were left out since the start.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }

    /// Lines that were left out since this was last called.
    pub(super) fn take_left_out(&self) -> u64 {
        let left_out = self.left_out();
        left_out.saturating_sub(self.reported.swap(left_out, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_admits_as_many_as_the_limit() {
        let rate = Rate::new(3);
        let admitted = |second| (0..10).filter(|_| rate.admits_in(second)).count();
        assert_eq!([admitted(0), admitted(1), admitted(1), admitted(7)], [3, 3, 0, 3]);
        assert_eq!((rate.left_out(), rate.take_left_out(), rate.take_left_out()), (31, 31, 0));
        // A thread that was late for its second takes from the one that there is.
        assert_eq!(admitted(6), 0);
    }
}

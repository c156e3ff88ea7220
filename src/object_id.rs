//! The `_id`s that this process gives to documents: ObjectIds of its own making.
//!
//! Each is greater than the one before, which keeps documents in the order in which they arrived.
//! So whoever has seen one can guess the next, and two clones of a machine make the same ones: a
//! store that finds such an `_id` taken calls `redraw`, and the document gets another one. bson's
//! own generator cannot be made to draw again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bson::oid::ObjectId;

/// The counter has three bytes.
const COUNTER_END: u32 = 1 << 24;

static GENERATOR: Mutex<Option<Generator>> = Mutex::new(None);

/// <https://www.mongodb.com/docs/manual/reference/bson-types/#objectid>: the time, the process, a
/// counter.
struct Generator {
    /// Since 1970.
    seconds: u32,
    process: [u8; 5],
    counter: u32,
}

pub(crate) fn generate() -> ObjectId {
    let mut generator = lock();
    generator.get_or_insert_with(Generator::new).next(now())
}

/// Draws new random bytes, if those in `taken` are still the current ones.
pub(crate) fn redraw(taken: ObjectId) {
    let mut generator = lock();
    if let Some(generator) = &mut *generator {
        generator.redraw(taken, random_bytes());
    }
}

fn lock() -> MutexGuard<'static, Option<Generator>> {
    // Whatever numbers it holds are good ones.
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Generator {
    fn new() -> Self {
        Self { seconds: 0, process: random_bytes(), counter: 0 }
    }

    fn next(&mut self, now: u32) -> ObjectId {
        // A clock that is set back must not put new documents before older ones.
        if now > self.seconds {
            self.seconds = now;
            self.counter = 0;
        } else if self.counter == COUNTER_END {
            self.begin_next_second();
        }
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[4..9].copy_from_slice(&self.process);
        bytes[9..].copy_from_slice(&self.counter.to_be_bytes()[1..]);
        self.counter += 1;
        ObjectId::from_bytes(bytes)
    }

    fn redraw(&mut self, taken: ObjectId, process: [u8; 5]) {
        if taken.bytes()[4..9] != self.process {
            return;
        }
        // In the same second a lower number would put new documents before older ones.
        if process <= self.process {
            self.begin_next_second();
        }
        self.process = process;
    }

    fn begin_next_second(&mut self) {
        self.seconds = self.seconds.saturating_add(1);
        self.counter = 0;
    }
}

fn now() -> u32 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since_1970.as_secs()).unwrap_or(u32::MAX)
}

/// From the kernel, whose generator knows of a clone of its machine; `RandomState` is seeded once a
/// thread, and both clones would draw the same.
fn random_bytes() -> [u8; 5] {
    let mut bytes = [0; 5];
    if getrandom::fill(&mut bytes).is_err() {
        // Only before the kernel has gathered any randomness. Bytes that are not random cost a
        // second try at worst.
        let nanoseconds =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        bytes[1..].copy_from_slice(&nanoseconds.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator() -> Generator {
        Generator { seconds: 0, process: [5; 5], counter: 0 }
    }

    #[test]
    fn object_ids_rise_while_clock_steps_back() {
        let mut generator = generator();
        let ids: Vec<ObjectId> = [10, 10, 9, 11, 3, 3].map(|now| generator.next(now)).into();
        assert!(ids.is_sorted_by(|one, other| one < other), "{ids:?}");
        assert_eq!(ids[0].bytes(), [0, 0, 0, 10, 5, 5, 5, 5, 5, 0, 0, 0]);
    }

    #[test]
    fn object_ids_rise_past_end_of_counter() {
        let mut generator = Generator { seconds: 10, counter: COUNTER_END - 1, ..generator() };
        let (last, next) = (generator.next(10), generator.next(10));
        assert!(last < next, "{last} {next}");
        assert_eq!(next.bytes(), [0, 0, 0, 11, 5, 5, 5, 5, 5, 0, 0, 0]);
    }

    #[test]
    fn object_ids_rise_when_drawn_again() {
        for process in [[4; 5], [5; 5], [6; 5]] {
            let mut generator = generator();
            let before = generator.next(10);
            generator.redraw(before, process);
            let after = generator.next(10);
            assert!(before < after, "{before} {after}");
            assert_eq!(after.bytes()[4..9], process);
        }
    }

    #[test]
    fn redraw_keeps_bytes_that_were_drawn_since() {
        let mut generator = generator();
        let taken = generator.next(10);
        generator.redraw(taken, [6; 5]);
        generator.redraw(taken, [7; 5]);
        assert_eq!(generator.next(10).bytes()[4..9], [6; 5]);
    }
}

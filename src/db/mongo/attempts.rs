//! How often a call may have sent its command. The driver's errors do not say whether it got that
//! far, and they tell only of the last time that it tried. But it sends on a connection that it has
//! checked out of its pool, and says so with an event, on the thread that makes the call.

use std::cell::Cell;

use mongodb::event::cmap::CmapEvent;

thread_local! {
    static CHECKED_OUT: Cell<u32> = const { Cell::new(0) };
}

/// For each event of the driver's.
pub(super) fn observe(event: &CmapEvent) {
    if let CmapEvent::ConnectionCheckedOut(_) = event {
        CHECKED_OUT.set(CHECKED_OUT.get().wrapping_add(1));
    }
}

/// Makes a call, and says how many times at most it sent its command.
pub(super) fn count<T>(call: impl FnOnce() -> T) -> (T, u32) {
    let before = CHECKED_OUT.get();
    let outcome = call();
    (outcome, CHECKED_OUT.get().wrapping_sub(before))
}

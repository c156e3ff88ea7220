//! A disk that is full after so many more changes, for the thread of one test. redb works on its
//! caller's thread.

use std::cell::Cell;
use std::io;

thread_local! {
    static CHANGES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

pub(in crate::db::local) fn disk_is_full_after(changes: Option<usize>) {
    CHANGES_LEFT.set(changes);
}

pub(super) fn check() -> io::Result<()> {
    match CHANGES_LEFT.get() {
        None => Ok(()),
        Some(0) => Err(io::ErrorKind::StorageFull.into()),
        Some(left) => {
            CHANGES_LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}

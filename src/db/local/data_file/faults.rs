//! What a test has happen to the changes of the data file: a full disk, or a disk that a test has
//! made of memory. For the thread of that test; redb works on its caller's thread.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;

thread_local! {
    static CHANGES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    static DISK: RefCell<Option<Box<dyn Disk>>> = const { RefCell::new(None) };
}

/// One change of the file, before it is made.
#[derive(Clone, Copy)]
pub(in crate::db::local) enum Change<'a> {
    Write(u64, &'a [u8]),
    SetLength(u64),
    Sync,
}

/// Is told of each change; the file stands for the page cache, and needs no syncs of its own.
pub(in crate::db::local) trait Disk {
    fn change(&mut self, file: &File, change: Change) -> io::Result<()>;
}

/// Takes the disk that was there before.
pub(in crate::db::local) fn use_disk(disk: Option<Box<dyn Disk>>) -> Option<Box<dyn Disk>> {
    DISK.replace(disk)
}

pub(in crate::db::local) fn disk_is_full_after(changes: Option<usize>) {
    CHANGES_LEFT.set(changes);
}

/// Whether the change is still to be made.
pub(super) fn check(file: &File, change: Change) -> io::Result<bool> {
    match CHANGES_LEFT.get() {
        None => {}
        Some(0) => return Err(io::ErrorKind::StorageFull.into()),
        Some(left) => CHANGES_LEFT.set(Some(left - 1)),
    }
    // What the disk opens meanwhile is not on this disk.
    let Some(mut disk) = DISK.take() else {
        return Ok(true);
    };
    let outcome = disk.change(file, change);
    DISK.replace(Some(disk));
    outcome.map(|()| !matches!(change, Change::Sync))
}

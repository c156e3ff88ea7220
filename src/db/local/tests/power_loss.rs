//! Power loss. A kill -9 keeps the page cache; this does not: the file stands for the page cache,
//! and the disk under it is what was synced last and a journal of what came after. At any moment the
//! power may go: of the journal, the disk then has an arbitrary part, in pieces of 512 or 4,096
//! bytes, with zeros where a file has grown without its content.
//!
//! After each loss the file opens; what was acknowledged is there, byte for byte; what was not is
//! there whole or not at all; what was reported as not stored is not there; and the order is right.
//! Work then goes on with the file that a loss has left, so that the next one may hit the recovery.
//!
//! The long form, some minutes of two processors for 100,000 losses:
//!   POWER_LOSSES=100000 cargo test --profile quick --lib power_loss_takes

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::*;
use crate::db::local::data_file::faults::{Change, Disk, use_disk};

/// Of the short form.
const LOSSES: usize = 400;
/// A mutation that is not caught in so many is not caught.
const LOSSES_FOR_MUTATION: usize = 20_000;
const SEED: u64 = 0x7477_6f2d_7469_6572;

/// What is wrong with the program, so that the test can be seen to find it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mutation {
    None,
    /// No sync does anything.
    NoSync,
    /// Of the two that end a commit.
    FirstSyncDropped,
    SecondSyncDropped,
    /// The sync between the pages that were held and the header, so that the header may be there
    /// before them.
    SyncOfReleaseDropped,
    /// An insert is acknowledged while it is under way.
    AnswerBeforeCommit,
}

/// A splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<const N: usize>(&mut self, values: [u64; N]) -> u64 {
        values[self.roll(N as u64) as usize]
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }
}

type Key = i32;
type Stored = BTreeMap<Key, Vec<u8>>;

/// What may be in the file.
#[derive(Default)]
struct Expected {
    acknowledged: Stored,
    /// Each whole or not at all.
    unknown: Vec<Stored>,
}

enum Pending {
    Write(u64, Vec<u8>),
    SetLength(u64),
}

struct CrashingDisk {
    dice: Dice,
    mutation: Mutation,
    synced: Vec<u8>,
    pending: Vec<Pending>,
    /// Since the insert under way began.
    syncs: usize,
    /// The insert under way has to write down first what was held.
    is_releasing: bool,
    /// How often changes fail, and then for how long, if they do.
    full_once_in: Option<u64>,
    full_for: u64,
    sync_fails_once_in: Option<u64>,
    expected: Rc<RefCell<Expected>>,
    losses: Rc<RefCell<Losses>>,
}

#[derive(Default)]
struct Losses {
    count: usize,
    failure: Option<String>,
    /// The file that the last one has left, and what is in it.
    left: Option<(Vec<u8>, Stored)>,
}

/// So that what is used by the store is still in the test's hands.
struct Shared(Rc<RefCell<CrashingDisk>>);

impl Disk for Shared {
    fn change(&mut self, file: &File, change: Change) -> io::Result<()> {
        self.0.borrow_mut().change(file, change)
    }
}

impl CrashingDisk {
    fn change(&mut self, file: &File, change: Change) -> io::Result<()> {
        if self.dice.once_in(2) {
            self.lose_power();
        }
        if self.full_for > 0 {
            self.full_for -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.full_once_in.is_some_and(|times| self.dice.once_in(times)) {
            self.full_for = self.dice.roll(8);
            return Err(io::ErrorKind::StorageFull.into());
        }
        match change {
            Change::Write(offset, data) => self.pending.push(Pending::Write(offset, data.to_vec())),
            Change::SetLength(length) => self.pending.push(Pending::SetLength(length)),
            Change::Sync => return self.sync(file),
        }
        Ok(())
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.syncs += 1;
        let number = if self.is_releasing { self.syncs.wrapping_sub(2) } else { self.syncs };
        let is_dropped = match self.mutation {
            Mutation::NoSync => true,
            Mutation::FirstSyncDropped => number == 1,
            Mutation::SecondSyncDropped => number == 2,
            Mutation::SyncOfReleaseDropped => self.is_releasing && self.syncs == 1,
            Mutation::None | Mutation::AnswerBeforeCommit => false,
        };
        if is_dropped {
            return Ok(());
        }
        if self.sync_fails_once_in.is_some_and(|times| self.dice.once_in(times)) {
            // What it has not written is never written: the kernel takes those pages for clean. They
            // stay in the page cache, or go. The length is the file system's affair, and does not.
            self.synced = self.after_loss();
            self.pending.clear();
            if self.dice.once_in(2) {
                file.set_len(self.synced.len() as u64)?;
                file.write_all_at(&self.synced, 0)?;
            } else {
                self.pending.push(Pending::SetLength(file.metadata()?.len()));
            }
            return Err(io::Error::other("the sync failed"));
        }
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.synced, &change);
        }
        Ok(())
    }

    /// What the disk may have if the power goes now.
    fn after_loss(&mut self) -> Vec<u8> {
        let mut image = self.synced.clone();
        let dice = &mut self.dice;
        let (kept_of_16, unit) = (dice.roll(17), dice.pick([512, 4096, u64::MAX]) as usize);
        // Or all that came first, and nothing of the rest.
        let end = dice.once_in(4).then(|| dice.roll(self.pending.len() as u64 + 1));
        for (number, change) in self.pending.iter().enumerate() {
            let is_kept = |dice: &mut Dice| match end {
                Some(end) => (number as u64) < end,
                None => dice.roll(16) < kept_of_16,
            };
            match change {
                Pending::SetLength(_) if is_kept(dice) => apply(&mut image, change),
                Pending::SetLength(_) => {}
                Pending::Write(offset, data) => {
                    let file_end = *offset as usize + data.len();
                    if file_end > image.len() && is_kept(dice) {
                        image.resize(file_end, 0);
                    }
                    let mut from = 0;
                    while from < data.len() {
                        let start = *offset as usize + from;
                        let length = (unit - start % unit).min(data.len() - from);
                        if is_kept(dice) {
                            image.resize(image.len().max(start + length), 0);
                            image[start..start + length]
                                .copy_from_slice(&data[from..from + length]);
                        }
                        from += length;
                    }
                }
            }
        }
        image
    }

    fn lose_power(&mut self) {
        if self.losses.borrow().failure.is_some() {
            return;
        }
        let image = self.after_loss();
        let outcome = check(&image, &self.expected.borrow());
        let mut losses = self.losses.borrow_mut();
        losses.count += 1;
        match outcome {
            Ok(stored) => losses.left = Some((image, stored)),
            Err(failure) => losses.failure = Some(failure),
        }
    }
}

fn apply(image: &mut Vec<u8>, change: &Pending) {
    match change {
        Pending::SetLength(length) => image.resize(*length as usize, 0),
        Pending::Write(offset, data) => {
            let start = *offset as usize;
            image.resize(image.len().max(start + data.len()), 0);
            image[start..start + data.len()].copy_from_slice(data);
        }
    }
}

/// Opens the file that is left, and returns what is in it.
fn check(image: &[u8], expected: &Expected) -> Result<Stored, String> {
    let (_directory, path) = new_file();
    fs::write(&path, image).unwrap();
    let store = try_open(&path).map_err(|error| error.to_string())?;
    let batch = store
        .page(&query(None, Order::Ascending, usize::MAX, usize::MAX))
        .map_err(|error| format!("{error:?}"))?;
    let (mut rest, mut found, mut last) = (batch.documents.as_slice(), Stored::new(), None);
    while !rest.is_empty() {
        let bytes = rest;
        let document = bson::Document::from_reader(&mut rest).map_err(|error| error.to_string())?;
        let key = document.get_i32("_id").map_err(|error| error.to_string())?;
        if last >= Some(key) {
            return Err(format!("{key} comes after {last:?}"));
        }
        last = Some(key);
        found.insert(key, bytes[..bytes.len() - rest.len()].to_vec());
    }
    let mut others = found.clone();
    for (key, bytes) in &expected.acknowledged {
        if others.remove(key).as_ref() != Some(bytes) {
            return Err(format!("{key} was acknowledged, and is not there as it was"));
        }
    }
    for unknown in &expected.unknown {
        let there =
            unknown.iter().filter(|(key, bytes)| others.remove(*key).as_ref() == Some(*bytes));
        let there = there.count();
        if there != 0 && there != unknown.len() {
            return Err(format!("{there} of {} documents of one insert are there", unknown.len()));
        }
    }
    match others.keys().next() {
        None => Ok(found),
        Some(key) => Err(format!("{key} should not be there, or not with this content")),
    }
}

/// Loses power so many times, or until something is wrong: then what, after how many.
fn run(losses: usize, seed: u64, mutation: Mutation) -> Result<(), (usize, String)> {
    let mut dice = Dice(seed);
    let counts = Rc::new(RefCell::new(Losses::default()));
    let mut beginning: Option<(Vec<u8>, Stored)> = None;
    while counts.borrow().count < losses {
        work(beginning.take(), &counts, Dice(dice.roll(u64::MAX)), mutation);
        let failure = counts.borrow_mut().failure.take();
        if let Some(failure) = failure {
            return Err((counts.borrow().count, failure));
        }
        // Now and then from the beginning, so that files do not only grow.
        beginning = counts.borrow_mut().left.take().filter(|_| !dice.once_in(4));
    }
    Ok(())
}

/// The life of one process: opens the file, stores, closes it, or is left by the power.
fn work(
    beginning: Option<(Vec<u8>, Stored)>,
    losses: &Rc<RefCell<Losses>>,
    mut dice: Dice,
    mutation: Mutation,
) {
    let (_directory, path) = new_file();
    let (image, stored) = beginning.unwrap_or_default();
    fs::write(&path, &image).unwrap();
    let mut next = stored.keys().next_back().map_or(0, |last| last + 1);
    let expected = Expected { acknowledged: stored, unknown: Vec::new() };
    let expected = Rc::new(RefCell::new(expected));
    let disk = CrashingDisk {
        dice: Dice(dice.roll(u64::MAX)),
        mutation,
        synced: image,
        pending: Vec::new(),
        syncs: 0,
        is_releasing: false,
        full_once_in: None,
        full_for: 0,
        sync_fails_once_in: None,
        expected: expected.clone(),
        losses: losses.clone(),
    };
    let disk = Rc::new(RefCell::new(disk));
    use_disk(Some(Box::new(Shared(disk.clone()))));
    let opened = try_open(&path);
    if let Ok(store) = opened {
        {
            let mut disk = disk.borrow_mut();
            disk.full_once_in = dice.once_in(3).then_some(40);
            disk.sync_fails_once_in = dice.once_in(3).then_some(10);
        }
        for number in 0..dice.roll(12) {
            if losses.borrow().failure.is_some() {
                break;
            }
            let (most, longest) = (dice.pick([1, 4, 40]), dice.pick([10, 1_000, 20_000]));
            let count = 1 + dice.roll(most) as i32;
            let documents: Vec<Document> = (next..next + count)
                .map(|key| {
                    let text = "x".repeat(dice.roll(longest) as usize);
                    Document::new(rawdoc! { "_id": key, "text": text }, false).unwrap()
                })
                .collect();
            next += count;
            let contents: Stored = (documents.iter())
                .map(|document| {
                    let raw = document.raw();
                    (raw.get_i32("_id").unwrap(), raw.as_bytes().to_vec())
                })
                .collect();
            match mutation {
                Mutation::AnswerBeforeCommit => {
                    expected.borrow_mut().acknowledged.extend(contents.clone());
                }
                _ => expected.borrow_mut().unknown.push(contents.clone()),
            }
            {
                let mut disk = disk.borrow_mut();
                disk.syncs = 0;
                disk.is_releasing = number == 0;
            }
            let outcome = store.insert(&documents);
            if mutation == Mutation::AnswerBeforeCommit {
                continue;
            }
            let mut expected = expected.borrow_mut();
            match outcome {
                Ok(_) => {
                    expected.unknown.pop();
                    expected.acknowledged.extend(contents);
                }
                Err(error) if error.kind() == StoreErrorKind::Unknown => {}
                // Nothing was stored, and nothing will be.
                Err(_) => drop(expected.unknown.pop()),
            }
        }
        drop(store);
    }
    disk.borrow_mut().lose_power();
    use_disk(None);
}

#[test]
fn power_loss_takes_nothing_that_was_acknowledged() {
    let losses = std::env::var("POWER_LOSSES").map_or(LOSSES, |losses| losses.parse().unwrap());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for number in 0..threads {
            scope.spawn(move || {
                let seed = SEED + number as u64;
                if let Err((count, failure)) = run(losses / threads, seed, Mutation::None) {
                    panic!("after {count} losses with seed {seed}: {failure}");
                }
            });
        }
    });
}

#[test]
fn power_loss_finds_what_is_wrong() {
    for mutation in [
        Mutation::NoSync,
        Mutation::FirstSyncDropped,
        Mutation::SecondSyncDropped,
        Mutation::SyncOfReleaseDropped,
        Mutation::AnswerBeforeCommit,
    ] {
        match run(LOSSES_FOR_MUTATION, SEED, mutation) {
            Ok(()) => panic!("{mutation:?} is not noticed"),
            Err((count, failure)) => println!("{mutation:?}: after {count} losses: {failure}"),
        }
    }
}

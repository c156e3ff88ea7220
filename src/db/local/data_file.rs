//! The data file as redb sees it. What redb writes is first held in memory, so that a file can be
//! opened, checked and read without a byte of it being changed; `release` writes that down and lets
//! all further writes through.
//!
//! That is what keeps a foreign or damaged file as it was, and what keeps the documents readable on
//! a disk that is so full (or so broken) that redb can't even note in its header that it has the
//! file open.
//!
//! A file is in one of three states: Held -> Released -> Abandoned, or Held -> Abandoned. There is
//! no way back: redb refuses all work after its first I/O error, so the store then abandons it and
//! opens the file afresh.

#[cfg(test)]
pub(super) mod faults;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::StorageBackend;

/// Stands at the beginning of a file that is being created, until its real header is written. A
/// start that finds it knows that the one before was cut off and that the file never held a
/// document.
pub(super) const BEING_CREATED: &[u8] =
    b"two-tier: this file is being created and holds nothing yet\n";

/// redb writes pages of 4 KiB, and its header at the beginning of the first.
const BLOCK_BYTES: u64 = 4096;

/// One opening of the file; clones are the same opening.
#[derive(Clone, Debug)]
pub(super) struct DataFile(Arc<Opening>);

#[derive(Debug)]
struct Opening {
    file: Arc<File>,
    /// Locked for reading while the file is read or written, so that `abandon` waits for that.
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    /// Nothing is written to the file.
    Held(Held),
    /// Everything goes to the file.
    Released,
    /// Nothing is read or written any more: another opening may be changing the file.
    Abandoned,
}

impl DataFile {
    pub(super) fn held(file: &Arc<File>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let held = Held { length, on_disk: length, blocks: BTreeMap::new() };
        let state = RwLock::new(State::Held(held));
        Ok(Self(Arc::new(Opening { file: Arc::clone(file), state })))
    }

    /// Writes what was held, durably, and lets later writes through. Where it fails, everything
    /// stays held.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut state = self.write_state();
        match &*state {
            State::Held(held) => held.write_to(&self.0.file)?,
            State::Released => return Ok(()),
            State::Abandoned => return Err(abandoned()),
        }
        *state = State::Released;
        Ok(())
    }

    /// Makes everything that redb still wants from this opening fail. On return none of it is under
    /// way.
    pub(super) fn abandon(&self) {
        *self.write_state() = State::Abandoned;
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what changes nothing while it is held, but would change the file.
    fn change(
        &self,
        held: impl FnOnce(&mut Held, &File) -> io::Result<()>,
        released: impl Fn(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        match &*self.read_state() {
            State::Released => return released(&self.0.file),
            State::Abandoned => return Err(abandoned()),
            State::Held(_) => {}
        }
        match &mut *self.write_state() {
            State::Held(state) => held(state, &self.0.file),
            State::Released => released(&self.0.file),
            State::Abandoned => Err(abandoned()),
        }
    }
}

/// The locks of the trait are left out: the store locks the file for as long as it lives, which is
/// longer than redb.
impl StorageBackend for DataFile {
    fn len(&self) -> io::Result<u64> {
        match &*self.read_state() {
            State::Held(held) => Ok(held.length),
            State::Released => Ok(self.0.file.metadata()?.len()),
            State::Abandoned => Err(abandoned()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.read_state() {
            State::Held(held) => held.read(&self.0.file, offset, out),
            State::Released => self.0.file.read_exact_at(out, offset),
            State::Abandoned => Err(abandoned()),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(
            |held, _| {
                held.set_length(length);
                Ok(())
            },
            |file| set_len(file, length),
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|_, _| Ok(()), sync_data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(
            |held, file| held.write(file, offset, data),
            |file| write_all_at(file, data, offset),
        )
    }
}

fn abandoned() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "it is being opened again after an error")
}

/// What would be in the file if the writes had gone through.
#[derive(Debug)]
struct Held {
    length: u64,
    /// How much of the file still counts: what lies after was cut off, even if the file has it.
    on_disk: u64,
    /// By their number in the file.
    blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES as usize]>>,
}

impl Held {
    fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from_disk = self.on_disk.saturating_sub(offset).min(out.len() as u64) as usize;
        let (on_disk, after) = out.split_at_mut(from_disk);
        file.read_exact_at(on_disk, offset)?;
        after.fill(0);
        for (&number, block) in self.blocks.range(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)) {
            let start = number * BLOCK_BYTES;
            let (from, to) = (offset.max(start), end.min(start + BLOCK_BYTES));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&block[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        self.length = self.length.max(end);
        for number in offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            let start = number * BLOCK_BYTES;
            let mut block = Box::new([0; BLOCK_BYTES as usize]);
            let known = (self.length - start).min(BLOCK_BYTES) as usize;
            self.read(file, start, &mut block[..known])?;
            let (from, to) = (offset.max(start), end.min(start + BLOCK_BYTES));
            block[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            self.blocks.insert(number, block);
        }
        Ok(())
    }

    fn set_length(&mut self, length: u64) {
        self.length = length;
        self.on_disk = self.on_disk.min(length);
        self.blocks.split_off(&length.div_ceil(BLOCK_BYTES));
        if let Some(last) = self.blocks.get_mut(&(length / BLOCK_BYTES)) {
            last[(length % BLOCK_BYTES) as usize..].fill(0);
        }
    }

    /// The header last and by itself: as long as it is not there, the file is what it was, or says
    /// that it is being created.
    fn write_to(&self, file: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        if self.on_disk < length {
            set_len(file, self.on_disk)?;
        }
        if self.on_disk == 0 {
            write_all_at(file, BEING_CREATED, 0)?;
            sync_data(file)?;
        }
        if self.on_disk != self.length {
            set_len(file, self.length)?;
        }
        for (&number, block) in self.blocks.range(1..) {
            self.write_block(file, number, &**block)?;
        }
        sync_data(file)?;
        if let Some(header) = self.blocks.get(&0) {
            self.write_block(file, 0, &**header)?;
            sync_data(file)?;
        }
        Ok(())
    }

    fn write_block(&self, file: &File, number: u64, block: &[u8]) -> io::Result<()> {
        let start = number * BLOCK_BYTES;
        let used = (self.length - start).min(BLOCK_BYTES) as usize;
        write_all_at(file, &block[..used], start)
    }
}

fn write_all_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(test)]
    faults::check(file, faults::Change::Write(offset, data))?;
    file.write_all_at(data, offset)
}

fn set_len(file: &File, length: u64) -> io::Result<()> {
    #[cfg(test)]
    faults::check(file, faults::Change::SetLength(length))?;
    file.set_len(length)
}

fn sync_data(file: &File) -> io::Result<()> {
    #[cfg(test)]
    if !faults::check(file, faults::Change::Sync)? {
        return Ok(());
    }
    file.sync_data()
}

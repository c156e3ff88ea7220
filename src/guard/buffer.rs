//! What has been received of a connection and not been handed on yet.

use std::ops::Range;

use super::head::MAX_HEAD;

/// Its first length in bytes; nearly every head fits.
const FIRST_LENGTH: usize = 2048;

#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where in `bytes` the unread ones are.
    filled: Range<usize>,
}

impl Buffer {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.filled.clone()]
    }

    /// Forgets the first `count` unread bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.filled.start += count;
    }

    /// Room for at least one more byte behind the unread ones, which are fewer than `MAX_HEAD`.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.filled.end == self.bytes.len() && self.filled.start > 0 {
            self.bytes.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        if self.filled.end == self.bytes.len() {
            let longer = (self.bytes.len() * 2).clamp(FIRST_LENGTH, MAX_HEAD);
            self.bytes.resize(longer, 0);
        }
        &mut self.bytes[self.filled.end..]
    }

    /// The first `count` bytes of the room have been filled.
    pub(super) fn add(&mut self, count: usize) {
        self.filled.end += count;
    }
}

//! What has been received of a connection and not been used yet. While a worker has the connection,
//! the bytes are in the worker's buffer; a parked connection keeps only those that are left.

use std::io;
use std::ops::Range;

use super::connection::Transport;
use crate::http::head::MAX_HEAD;

/// How much is received at once, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
// A whole head fits, and there is always room for more of one.
const _: () = assert!(BUFFER_BYTES > MAX_HEAD);

/// A worker's buffer. It is cleared once, not for each connection.
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(vec![0; BUFFER_BYTES])
    }
}

#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Where in `bytes` those are that have not been used.
    unread: Range<usize>,
}

impl Input {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.unread.clone()]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.unread.start += count;
    }

    /// Receives what has arrived, until at most `most` bytes are here; 0 is the end of what the
    /// client sends.
    pub(super) fn receive(&mut self, most: usize, socket: &mut dyn Transport) -> io::Result<usize> {
        if self.unread.start > 0 {
            self.bytes.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        // Always room for one byte, since no byte is the end.
        let end = most.max(self.unread.end + 1).min(self.bytes.len());
        let count = socket.receive(&mut self.bytes[self.unread.end..end])?;
        self.unread.end += count;
        Ok(count)
    }

    /// Moves into a worker's buffer.
    pub(super) fn borrow(&mut self, mut buffer: Buffer) {
        let left = self.unread.len();
        buffer.0[..left].copy_from_slice(self.unread());
        self.bytes = buffer.0;
        self.unread = 0..left;
    }

    /// Gives the worker's buffer back and keeps what is left in no more memory than it takes.
    pub(super) fn give_back(&mut self) -> Buffer {
        let left = self.unread().to_vec();
        self.unread = 0..left.len();
        Buffer(std::mem::replace(&mut self.bytes, left))
    }

    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }
}

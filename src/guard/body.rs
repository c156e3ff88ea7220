//! One request's body as the guard counts it: where it ends, whatever says so.

use std::io;

use super::chunks::Chunks;
use super::head::Framing;

/// The most of an unwanted body that is read so that the connection can be used again, in bytes.
const MAX_DISCARD: u64 = 64 * 1024;

/// What is left of one request's body.
pub(super) struct Body {
    left: Left,
    /// In bytes, framing included.
    pub(super) received: u64,
    /// Some route may still read it.
    pub(super) is_wanted: bool,
}

enum Left {
    Bytes(u64),
    Chunks(Chunks),
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunks(Chunks::default()),
        };
        Self { left, received: 0, is_wanted: true }
    }

    pub(super) fn unwanted(self) -> Self {
        Self { is_wanted: false, ..self }
    }

    pub(super) fn is_complete(&self) -> bool {
        match &self.left {
            Left::Bytes(left) => *left == 0,
            Left::Chunks(chunks) => chunks.is_at_end(),
        }
    }

    pub(super) fn is_chunked(&self) -> bool {
        matches!(self.left, Left::Chunks(_))
    }

    /// How many of the next `length` bytes can belong to this body.
    pub(super) fn left_of(&self, length: usize) -> usize {
        match self.left {
            Left::Bytes(left) => usize::try_from(left).map_or(length, |left| left.min(length)),
            Left::Chunks(_) => length,
        }
    }

    /// tiny_http may hold a piece of a chunked body, and a client that waits for `100 Continue` may never send one.
    pub(super) fn can_be_discarded(&self, expects_continue: bool) -> bool {
        match self.left {
            Left::Bytes(left) => left <= MAX_DISCARD && !(expects_continue && self.received == 0),
            Left::Chunks(_) => false,
        }
    }

    /// Counts the bytes at the beginning of `bytes` that belong to this body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.left {
            Left::Bytes(left) => {
                let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= count as u64;
                count
            }
            Left::Chunks(chunks) => {
                let malformed = |_| io::Error::from_raw_os_error(libc::EINVAL);
                chunks.follow(bytes).map_err(malformed)?
            }
        };
        self.received += count as u64;
        Ok(count)
    }
}

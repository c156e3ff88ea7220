//! The body of one request: where it ends, whatever says so, and what its bytes are.

use std::error::Error;
use std::fmt::{self, Display};

use super::chunked::Chunked;
use super::head::Framing;
use crate::response::Problem;

/// The most of an unwanted body that is read so that the connection can be used again, in bytes.
const MAX_DISCARD: u64 = 64 * 1024;

/// Why a body did not come whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum BodyError {
    /// Longer than whoever collects it takes.
    TooLarge,
    /// It made no progress for as long as a body may.
    TooSlow,
    /// The connection ended in the middle of it.
    Cut,
    NotChunked,
    /// The memory that it held was needed elsewhere.
    Evicted,
    /// The server is stopping.
    Stopped,
}

/// Reads one request's body out of the bytes of its connection.
#[derive(Debug)]
pub(crate) struct BodyReader {
    left: Left,
}

#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunks(Chunked),
}

impl BodyReader {
    pub(crate) fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunks(Chunked::default()),
        };
        Self { left }
    }

    pub(crate) fn is_complete(&self) -> bool {
        match &self.left {
            Left::Bytes(left) => *left == 0,
            Left::Chunks(chunks) => chunks.is_at_end(),
        }
    }

    /// Its length was announced.
    pub(crate) fn has_length(&self) -> bool {
        matches!(self.left, Left::Bytes(_))
    }

    /// How many bytes of data are known to come still: all that a length announced, or the rest of
    /// a chunk.
    pub(crate) fn announced(&self) -> u64 {
        match &self.left {
            Left::Bytes(left) => *left,
            Left::Chunks(chunks) => chunks.announced(),
        }
    }

    /// Whether it is worth reading what is left although nobody wants it. `may_not_come`: the
    /// client waits for a `100 Continue` that it will not get. How long a chunked body is shows
    /// only at its end.
    pub(crate) fn can_be_discarded(&self, may_not_come: bool) -> bool {
        match &self.left {
            Left::Bytes(left) => *left == 0 || (*left <= MAX_DISCARD && !may_not_come),
            Left::Chunks(chunks) => chunks.is_at_end(),
        }
    }

    /// Takes framing from the beginning of `bytes`, up to data or to the end of the body; returns
    /// how many bytes.
    pub(crate) fn take_framing(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        match &mut self.left {
            Left::Bytes(_) => Ok(0),
            Left::Chunks(chunks) => chunks.take_framing(bytes).map_err(|_| BodyError::NotChunked),
        }
    }

    /// How many of the next `length` bytes are data, after the framing has been taken.
    pub(crate) fn data_in(&self, length: usize) -> usize {
        usize::try_from(self.announced()).map_or(length, |announced| announced.min(length))
    }

    /// Takes so many bytes of data.
    pub(crate) fn take_data(&mut self, count: usize) {
        match &mut self.left {
            Left::Bytes(left) => *left -= count as u64,
            Left::Chunks(chunks) => chunks.take_data(count),
        }
    }
}

impl Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            BodyError::TooLarge => "The request's body is too long.",
            BodyError::TooSlow => "The request's body made too little progress.",
            BodyError::NotChunked => "The request's body is not in the chunked transfer coding.",
            BodyError::Cut => "The connection was closed in the middle of the request's body.",
            BodyError::Evicted => {
                "The server is short of memory for all that arrives at once, and this request made \
                 the least progress. Send it again later."
            }
            BodyError::Stopped => "The server is stopping, and the request had not arrived.",
        })
    }
}

impl Error for BodyError {}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let problem = |status| Problem::new(status, error.to_string());
        match error {
            BodyError::TooLarge => problem(413),
            BodyError::TooSlow => problem(408),
            BodyError::NotChunked | BodyError::Cut => problem(400),
            BodyError::Evicted | BodyError::Stopped => problem(503).with_header("Retry-After", "1"),
        }
    }
}

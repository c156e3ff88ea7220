//! Decodes the chunked transfer coding (RFC 9112, section 7.1), whatever pieces it comes in.

/// The longest size line in bytes: 16 hex digits and room for an extension.
const MAX_SIZE_LINE: usize = 256;
/// The most bytes of trailers, which are read and dropped.
const MAX_TRAILERS: usize = 4096;

/// Where in a chunked body the next byte belongs: Size -> (Extension) -> SizeLineFeed -> Data ->
/// DataReturn -> DataLineFeed -> Size … and, after a size of 0, TrailerStart -> (Trailer ->
/// TrailerLineFeed -> TrailerStart …) -> LastLineFeed -> End.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of trailers so far.
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// In a size line: the size so far, whether it has a digit yet, the bytes of the line.
    Size {
        size: u64,
        digits: bool,
        length: usize,
    },
    /// After the size, in an extension, which means nothing here.
    Extension {
        size: u64,
        length: usize,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataLineFeed,
    /// At the beginning of a trailer or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    End,
}

impl Default for State {
    fn default() -> Self {
        State::Size { size: 0, digits: false, length: 0 }
    }
}

/// The bytes are no chunked body.
#[derive(Debug, PartialEq)]
pub(super) struct NotChunked;

impl Chunked {
    pub(super) fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// How many bytes of data the chunk that has begun still brings.
    pub(super) fn announced(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Takes framing from the beginning of `bytes`, up to data or to the end of the body; returns
    /// how many bytes.
    pub(super) fn take_framing(&mut self, bytes: &[u8]) -> Result<usize, NotChunked> {
        for (at, &byte) in bytes.iter().enumerate() {
            match self.state {
                State::Data { .. } | State::End => return Ok(at),
                _ => self.step(byte)?,
            }
        }
        Ok(bytes.len())
    }

    /// Takes so many bytes of the chunk that has begun, no more than `announced`.
    pub(super) fn take_data(&mut self, count: usize) {
        if let State::Data { left } = &mut self.state {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                self.state = State::DataReturn;
            }
        }
    }

    /// One byte of anything but data.
    fn step(&mut self, byte: u8) -> Result<(), NotChunked> {
        self.state = match (self.state, byte) {
            (State::Size { length, .. } | State::Extension { length, .. }, _)
                if length >= MAX_SIZE_LINE =>
            {
                return Err(NotChunked);
            }
            (State::Size { size, length, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).ok_or(NotChunked)?;
                let size = size.checked_mul(16).ok_or(NotChunked)? + u64::from(digit);
                State::Size { size, digits: true, length: length + 1 }
            }
            (State::Size { size, digits: true, .. }, b'\r') => State::SizeLineFeed { size },
            (State::Size { size, digits: true, length }, b';') => {
                State::Extension { size, length: length + 1 }
            }
            (State::Extension { size, .. }, b'\r') => State::SizeLineFeed { size },
            (State::Extension { size, length }, b'\t' | b' '..=b'~' | 0x80..) => {
                State::Extension { size, length: length + 1 }
            }
            (State::SizeLineFeed { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLineFeed { size }, b'\n') => State::Data { left: size },
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::default(),
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::LastLineFeed, b'\n') => State::End,
            (State::Trailer, b'\r') => State::TrailerLineFeed,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            // A trailer is a line like a header (RFC 9112, section 7.1.2). Nothing is done with it.
            (State::TrailerStart, b'!'..=b'~') | (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailers += 1;
                if self.trailers > MAX_TRAILERS {
                    return Err(NotChunked);
                }
                State::Trailer
            }
            _ => return Err(NotChunked),
        };
        Ok(())
    }
}

//! Follows the chunked transfer coding (RFC 9112, section 7.1) without decoding it, so that the guard knows where a
//! body ends. Stricter than tiny_http's decoder, which reads a chunk's size line of any length into memory.

/// The longest size line in bytes: 16 hex digits and room for an extension.
const MAX_SIZE_LINE: usize = 256;

/// Where in a chunked body the next byte belongs.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
}

#[derive(Debug)]
enum State {
    /// In a size line: the size so far, whether it has a digit yet, the bytes of the line.
    Size {
        size: u64,
        digits: bool,
        length: usize,
    },
    /// Behind the size, in an extension, which means nothing here.
    Extension {
        size: u64,
        length: usize,
    },
    /// Behind the CR of a size line.
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// CR, then LF, behind a chunk's data or, where `last`, behind the last chunk.
    DataReturn {
        last: bool,
    },
    DataLineFeed {
        last: bool,
    },
    End,
}

impl Default for State {
    fn default() -> Self {
        State::Size { size: 0, digits: false, length: 0 }
    }
}

/// The bytes are no chunked body. Trailers are among the reasons: this server takes none.
#[derive(Debug, PartialEq)]
pub(crate) struct NotChunked;

impl Chunks {
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Follows `bytes`, which are not none, to the end of a chunk or of the body, and says how many they are.
    ///
    /// The last chunk never goes out together with another: once tiny_http has asked for it, it holds nothing back
    /// of those before it, which it would take for the next request if nobody read them.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, NotChunked> {
        let mut at = 0;
        while at < bytes.len() && !self.is_at_end() && !(at > 0 && self.is_at_chunk()) {
            if let State::Data { left } = &mut self.state {
                let step = (*left).min((bytes.len() - at) as u64);
                *left -= step;
                at += step as usize;
                if *left == 0 {
                    self.state = State::DataReturn { last: false };
                }
            } else {
                self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Whether the next byte is the first of a chunk.
    fn is_at_chunk(&self) -> bool {
        matches!(self.state, State::Size { length: 0, .. })
    }

    /// One byte of anything but data.
    fn step(&mut self, byte: u8) -> Result<(), NotChunked> {
        self.state = match (&self.state, byte) {
            (State::Size { length, .. } | State::Extension { length, .. }, _) if *length >= MAX_SIZE_LINE => {
                return Err(NotChunked);
            }
            (State::Size { size, length, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).ok_or(NotChunked)?;
                let size = size.checked_mul(16).ok_or(NotChunked)? + u64::from(digit);
                State::Size { size, digits: true, length: length + 1 }
            }
            (State::Size { size, digits: true, .. }, b'\r') => State::SizeLineFeed { size: *size },
            (State::Size { size, digits: true, length }, b';') => State::Extension { size: *size, length: length + 1 },
            (State::Extension { size, .. }, b'\r') => State::SizeLineFeed { size: *size },
            (State::Extension { size, length }, b'\t' | b' '..=b'~' | 0x80..) => {
                State::Extension { size: *size, length: length + 1 }
            }
            (State::SizeLineFeed { size: 0 }, b'\n') => State::DataReturn { last: true },
            (State::SizeLineFeed { size }, b'\n') => State::Data { left: *size },
            (State::DataReturn { last }, b'\r') => State::DataLineFeed { last: *last },
            (State::DataLineFeed { last: true }, b'\n') => State::End,
            (State::DataLineFeed { last: false }, b'\n') => State::default(),
            _ => return Err(NotChunked),
        };
        Ok(())
    }
}

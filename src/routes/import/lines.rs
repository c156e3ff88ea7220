//! Cuts a body into lines, of which one at most is kept.

/// A line longer than this, in bytes, is long work, and its memory is not kept for the next one.
const LONG_LINE: usize = 64 * 1024;

/// A line of bounded length that comes piece by piece.
pub(super) struct LineBuffer {
    /// The beginning of a line, or where `is_whole` all of it.
    bytes: Vec<u8>,
    /// The line is to be removed before more is taken.
    is_whole: bool,
    /// In bytes.
    max: usize,
}

/// What taking some data came to.
pub(super) enum Taken<'a> {
    /// The line is not whole.
    Part,
    /// A whole line, which did not have to be copied.
    Line(&'a [u8]),
    /// The line is whole, and is in the buffer.
    Buffered,
    /// It is longer than a line may be, and the buffer is empty.
    TooLong,
}

impl LineBuffer {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), is_whole: false, max }
    }

    /// Takes data to the end of a line at most, and says how many bytes.
    pub(super) fn take<'a>(&mut self, data: &'a [u8]) -> (usize, Taken<'a>) {
        let end = data.iter().position(|&byte| byte == b'\n');
        let piece = &data[..end.unwrap_or(data.len())];
        let length = piece.len() + usize::from(end.is_some());
        if self.bytes.len() + piece.len() > self.max {
            self.clear();
            return (length, Taken::TooLong);
        }
        if end.is_some() && self.bytes.is_empty() {
            return (length, Taken::Line(piece));
        }
        if self.bytes.capacity() - self.bytes.len() < piece.len() {
            // Doubled as it comes, but not beyond what a line may have.
            let most = self.max - self.bytes.len();
            self.bytes.reserve_exact(self.bytes.len().max(piece.len()).min(most));
        }
        self.bytes.extend_from_slice(piece);
        self.is_whole = end.is_some();
        (length, if self.is_whole { Taken::Buffered } else { Taken::Part })
    }

    /// Takes out what has come of the line.
    pub(super) fn remove(&mut self) -> Vec<u8> {
        self.is_whole = false;
        std::mem::take(&mut self.bytes)
    }

    /// Keeps the memory of a line that was removed, unless that is much.
    pub(super) fn reuse(&mut self, mut line: Vec<u8>) {
        line.clear();
        line.shrink_to(LONG_LINE);
        self.bytes = line;
    }

    pub(super) fn clear(&mut self) {
        self.bytes = Vec::new();
        self.is_whole = false;
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A line has come, and is in the buffer.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// It is to be read in a turn for long work.
    pub(super) fn is_long(&self) -> bool {
        self.bytes.len() > LONG_LINE
    }

    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }
}

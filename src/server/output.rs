//! An answer on its way out: its bytes in the order in which they go, and where the next ones come
//! from.

use std::time::Instant;

use super::connection::protect;
use crate::response::{Body, Delivery, Piece, Response, Stream, StreamState};

/// A body up to this many bytes is joined to its head, so that both go out in one write.
const MAX_JOINED: usize = 16 * 1024;

pub(super) struct Output {
    /// What is going out now: the head of the answer or of a chunk, the body or a piece of it, the
    /// end of a chunk.
    head: Vec<u8>,
    piece: Piece,
    tail: &'static [u8],
    /// How much of these three has been sent.
    sent: usize,
    /// How much of `head`, at its end, belongs to the body.
    joined: usize,
    /// Where the pieces after this one come from.
    stream: Option<Box<dyn Stream>>,
    /// It has panicked.
    is_broken: bool,
    is_chunked: bool,
    /// Bytes of the body that were sent before this piece.
    sent_before: u64,
}

/// What is to be done with an answer now.
pub(super) enum Next<'a> {
    /// These bytes are to be sent; whether others follow at once.
    Send(&'a [u8], bool),
    /// The next piece has to come from the store.
    Wait(Instant),
    Done,
    /// The store failed, and the answer cannot become whole any more.
    Broken,
}

impl Output {
    pub(super) fn new(response: Response, delivery: &Delivery) -> Self {
        let mut head = Vec::with_capacity(512);
        response.write_head(&mut head, delivery);
        let (mut piece, stream) = match response.body {
            _ if delivery.head_only => (Piece::default(), None),
            Body::Piece(piece) => (piece, None),
            Body::Stream(stream) => (Piece::default(), Some(stream)),
        };
        let mut joined = 0;
        if piece.bytes().len() <= MAX_JOINED {
            head.extend_from_slice(piece.bytes());
            joined = piece.bytes().len();
            piece = Piece::default();
        }
        Self {
            head,
            piece,
            tail: b"",
            sent: 0,
            joined,
            stream,
            is_broken: false,
            is_chunked: !delivery.http10,
            sent_before: 0,
        }
    }

    pub(super) fn next(&mut self) -> Next<'_> {
        while self.sent == self.length() {
            let Some(stream) = &mut self.stream else {
                return Next::Done;
            };
            if self.is_broken {
                return Next::Broken;
            }
            // A panic has been logged by the hook. The answer must not look whole.
            match protect(|| stream.poll()).unwrap_or(StreamState::Broken) {
                StreamState::Piece(piece) => self.load(piece),
                StreamState::Wait(until) => return Next::Wait(until),
                StreamState::Broken => return Next::Broken,
                StreamState::End => {
                    self.stream = None;
                    self.load(Piece::default());
                }
            }
        }
        let (head, piece) = (self.head.len(), self.piece.bytes().len());
        if self.sent < head {
            Next::Send(&self.head[self.sent..], piece > 0)
        } else if self.sent < head + piece {
            Next::Send(&self.piece.bytes()[self.sent - head..], !self.tail.is_empty())
        } else {
            Next::Send(&self.tail[self.sent - head - piece..], false)
        }
    }

    /// So many of the bytes that `next` named were sent. `may_read_ahead`: there is memory for the
    /// next piece.
    pub(super) fn advance(&mut self, count: usize, may_read_ahead: bool) {
        self.sent += count;
        // So that the next piece is there when it is its turn, and not long before.
        if may_read_ahead
            && self.sent >= self.length() / 2
            && let Some(stream) = &mut self.stream
        {
            self.is_broken |= protect(|| stream.read_ahead()).is_none();
        }
    }

    /// The time that `Next::Wait` named is over.
    pub(super) fn give_up(&mut self) {
        if let Some(stream) = &mut self.stream {
            self.is_broken |= protect(|| stream.give_up()).is_none();
        }
    }

    /// How many bytes of the body were sent.
    pub(super) fn body_sent(&self) -> u64 {
        let of_head = self.sent.min(self.head.len()).saturating_sub(self.head.len() - self.joined);
        let of_piece = self.sent.saturating_sub(self.head.len()).min(self.piece.bytes().len());
        self.sent_before + (of_head + of_piece) as u64
    }

    /// Bytes that only this answer holds.
    pub(super) fn held(&self) -> usize {
        self.head.capacity() + self.piece.held()
    }

    /// Bytes of what it holds together with others, for each of them.
    pub(super) fn share(&self) -> usize {
        self.piece.share()
    }

    fn length(&self) -> usize {
        self.head.len() + self.piece.bytes().len() + self.tail.len()
    }

    /// Begins to send a piece: as a chunk (RFC 9112, section 7.1), of which an empty one is the
    /// last, or for HTTP/1.0 as it is.
    fn load(&mut self, piece: Piece) {
        self.sent_before = self.body_sent();
        (self.sent, self.joined) = (0, 0);
        (self.head, self.tail) = match (self.is_chunked, self.stream.is_some()) {
            (false, _) => (Vec::new(), b"".as_slice()),
            (true, true) if piece.bytes().is_empty() => (Vec::new(), b"".as_slice()),
            (true, true) => {
                (format!("{:x}\r\n", piece.bytes().len()).into_bytes(), b"\r\n".as_slice())
            }
            (true, false) => (b"0\r\n\r\n".to_vec(), b"".as_slice()),
        };
        self.piece = piece;
    }
}

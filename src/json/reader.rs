//! Takes raw BSON apart and trusts nothing about it: every step is checked against the bytes that
//! are there.

use bson::spec::ElementType;

use super::InvalidBson;

pub(super) struct Reader<'a> {
    pub(super) bson: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    #[cold]
    pub(super) fn expected<T>(&self, expected: &'static str) -> Result<T, InvalidBson> {
        Err(InvalidBson { expected, at: self.at })
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], InvalidBson> {
        match self.bson.get(self.at..).and_then(|rest| rest.get(..length)) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => self.expected("more bytes"),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidBson> {
        match self.take(N)?.try_into() {
            Ok(bytes) => Ok(bytes),
            Err(_) => self.expected("more bytes"),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, InvalidBson> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn length(&mut self) -> Result<usize, InvalidBson> {
        match i32::from_le_bytes(self.array()?).try_into() {
            Ok(length) => Ok(length),
            Err(_) => self.expected("a length that is not negative"),
        }
    }

    pub(super) fn kind(&mut self) -> Result<ElementType, InvalidBson> {
        let kind = self.byte()?;
        self.known(kind)
    }

    pub(super) fn known(&self, kind: u8) -> Result<ElementType, InvalidBson> {
        ElementType::from(kind).map_or_else(|| self.expected("a known type"), Ok)
    }

    /// Without its final NUL.
    pub(super) fn c_string(&mut self) -> Result<&'a [u8], InvalidBson> {
        let rest = self.bson.get(self.at..).unwrap_or_default();
        match rest.iter().position(|&byte| byte == 0) {
            Some(length) => {
                self.at += length + 1;
                Ok(&rest[..length])
            }
            None => self.expected("a string that ends"),
        }
    }

    /// Without its final NUL.
    pub(super) fn string(&mut self) -> Result<&'a [u8], InvalidBson> {
        let length = self.length()?;
        match self.take(length)?.split_last() {
            Some((0, text)) => Ok(text),
            _ => self.expected("a string that ends where it says"),
        }
    }

    /// Reads the length of a document that begins here and returns where it says to end: to be
    /// checked at its end.
    pub(super) fn document_end(&mut self) -> Result<usize, InvalidBson> {
        let start = self.at;
        Ok(start.saturating_add(self.length()?))
    }
}

//! Percent-encoding (RFC 3986, section 2.1), as URLs of either kind have it: a client's and the
//! database's.

use std::error::Error;
use std::fmt::{self, Display, Write};

/// Why text cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DecodeError {
    NoDigits,
    NotUtf8,
}

impl Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            DecodeError::NoDigits => "it has a % without two hex digits after it",
            DecodeError::NotUtf8 => "it is not UTF-8 once it is percent-decoded",
        })
    }
}

impl Error for DecodeError {}

/// Encodes everything but what never needs it (section 2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// The text that was encoded.
pub(crate) fn decode(text: &str) -> Result<String, DecodeError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let byte = rest.first_chunk().and_then(from_hex);
        decoded.push(byte.ok_or(DecodeError::NoDigits)?);
        rest = &rest[2..];
    }
    String::from_utf8(decoded).map_err(|_| DecodeError::NotUtf8)
}

fn from_hex(digits: &[u8; 2]) -> Option<u8> {
    let high = char::from(digits[0]).to_digit(16)?;
    let low = char::from(digits[1]).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

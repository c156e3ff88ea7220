//! Why JSON was refused, in words for the person who sent it.

use std::error::Error;
use std::fmt;

use crate::document::Document;

/// Displays as a sentence for the client, with the position where there is one.
#[derive(Debug, PartialEq)]
pub(crate) struct JsonError {
    pub(crate) kind: JsonErrorKind,
    pub(crate) message: String,
    pub(crate) position: Option<Position>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum JsonErrorKind {
    /// It is not JSON.
    Syntax,
    /// It is JSON, but not what a document or an `_id` can be.
    Content,
    /// The document is larger than MongoDB takes, or there are too many.
    TooLarge,
}

/// Where the last byte is that was read. Lines and columns count from 1, columns in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl JsonError {
    pub(super) fn content(message: impl Into<String>) -> Self {
        Self { kind: JsonErrorKind::Content, message: message.into(), position: None }
    }

    fn too_large(message: String) -> Self {
        Self { kind: JsonErrorKind::TooLarge, message, position: None }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match self.position {
            Some(position) => write!(formatter, " at {position}"),
            None => Ok(()),
        }
    }
}

impl Error for JsonError {}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {} column {}", self.line, self.column)
    }
}

/// Puts serde_json's words for programmers into words for a client.
pub(super) fn explain(error: &serde_json::Error, json: &[u8]) -> JsonError {
    let position = Position { line: error.line(), column: error.column() };
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at {position}")).unwrap_or(&text);
    let is_json = error.is_data()
        || matches!(
            text,
            "number out of range"
                | "lone leading surrogate in hex escape"
                | "unexpected end of hex escape"
        );
    let message = match text {
        _ if json.trim_ascii().is_empty() => "there is no JSON, the text is empty".into(),
        _ if json.starts_with(b"\xef\xbb\xbf") => "JSON cannot begin with a byte order mark".into(),
        "EOF while parsing a list"
        | "EOF while parsing an object"
        | "EOF while parsing a string"
        | "EOF while parsing a value" => "the JSON ends too early".into(),
        "expected ident" => "expected true, false or null".into(),
        "expected value" => "expected a JSON value".into(),
        "invalid unicode code point" => "the text is not UTF-8".into(),
        "key must be a string" => "expected a key in double quotes".into(),
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            "a \\u escape is half of a surrogate pair without its other half".into()
        }
        "number out of range" => {
            "the number is too large for a double, send it as {\"$numberDecimal\":\"…\"}".into()
        }
        "trailing characters" => "more text follows the end of the JSON".into(),
        text => wrong_type(text).unwrap_or_else(|| text.into()),
    };
    let kind = if is_json { JsonErrorKind::Content } else { JsonErrorKind::Syntax };
    JsonError { kind, message, position: Some(position) }
}

/// serde's `invalid type: string "…", expected …` without the value, which may be long.
fn wrong_type(message: &str) -> Option<String> {
    let (found, expected) = message.strip_prefix("invalid type: ")?.rsplit_once(", expected ")?;
    let found = match found.split(['`', '"']).next()?.trim_end() {
        "integer" | "floating point" => "a number",
        "string" => "a string",
        "boolean" => "a boolean",
        "sequence" => "an array",
        _ => "null",
    };
    Some(format!("expected {expected}, not {found}"))
}

/// `index`: of the document in its array.
pub(super) fn too_large(bytes: usize, index: Option<usize>) -> JsonError {
    let limit = Document::MAX_BYTES;
    let which = index.map(|index| format!(" at index {index}")).unwrap_or_default();
    JsonError::too_large(format!(
        "the document{which} is {bytes} bytes of BSON, MongoDB takes at most {limit}"
    ))
}

pub(super) fn too_many_documents(limit: usize) -> JsonError {
    JsonError::too_large(format!(
        "the array has more than {limit} documents, \
         send so many as application/x-ndjson, one a line"
    ))
}

/// The first integer that no BSON integer holds. serde_json reads one beyond 64 bits as a double
/// and does not say so, so this looks at the text again. `json` is valid.
pub(super) fn find_large_integer(json: &[u8]) -> Option<JsonError> {
    let mut rest = json;
    while let Some(byte) = rest.first() {
        let length = match byte {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => number_length(rest),
            _ => 1,
        };
        let (token, after) = rest.split_at(length);
        let is_integer = token.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9'));
        let digits = String::from_utf8_lossy(if is_integer { token } else { b"0" });
        if digits.parse::<i64>().is_err() {
            let read = &json[..json.len() - after.len()];
            let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
            let column = read.iter().rev().take_while(|byte| **byte != b'\n').count();
            let position = Some(Position { line, column });
            return Some(JsonError { position, ..JsonError::content(large_integer(&digits)) });
        }
        rest = after;
    }
    None
}

fn string_length(json: &[u8]) -> usize {
    let mut is_escaped = false;
    let inside = json[1..].iter().take_while(|byte| {
        let ends = **byte == b'"' && !is_escaped;
        is_escaped = **byte == b'\\' && !is_escaped;
        !ends
    });
    (inside.count() + 2).min(json.len())
}

fn number_length(json: &[u8]) -> usize {
    json.iter()
        .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        .count()
}

pub(super) fn large_integer(digits: &str) -> String {
    let digits = shortened(digits);
    format!(
        "the integer {digits} is beyond 64 bits, \
         send it as {{\"$numberDecimal\":\"{digits}\"}} or as a double, {digits}.0"
    )
}

/// A piece of what the client sent, so that an answer stays short.
pub(super) fn shortened(text: &str) -> String {
    const MAX_CHARACTERS: usize = 60;
    let mut shortened: String = text.chars().take(MAX_CHARACTERS).collect();
    if shortened.len() < text.len() {
        shortened.push('…');
    }
    shortened
}

//! What is said to a person whose JSON was refused.

use super::{JsonError, MAX_DEPTH};
use crate::document::Document;

/// JSON that could not be read.
pub(super) struct Failure {
    pub(super) error: JsonError,
    /// The text is JSON by its grammar, only its content is refused.
    pub(super) is_json: bool,
}

/// Puts serde_json's words for programmers into words for a client. Its column is that of the last
/// byte it took.
pub(super) fn explain(error: &serde_json::Error, json: &[u8]) -> Failure {
    let text = error.to_string();
    let position = at(error.line(), error.column());
    let message = text.strip_suffix(&position).unwrap_or(&text);
    let is_json = error.is_data()
        || matches!(
            message,
            "number out of range"
                | "lone leading surrogate in hex escape"
                | "unexpected end of hex escape"
        );
    let detail = match message {
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
        message => wrong_type(message).unwrap_or_else(|| message.into()),
    };
    Failure { error: JsonError::Invalid(detail + &position), is_json }
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

pub(super) fn too_deep() -> String {
    format!("the document is nested deeper than {MAX_DEPTH} levels")
}

/// `index`: of the document in its array.
pub(super) fn too_large(bytes: usize, index: Option<usize>) -> JsonError {
    let limit = Document::MAX_BYTES;
    let which = index.map(|index| format!(" at index {index}")).unwrap_or_default();
    JsonError::TooLarge(format!(
        "the document{which} is {bytes} bytes of BSON, MongoDB takes at most {limit}"
    ))
}

pub(super) fn too_many_documents(limit: usize) -> JsonError {
    JsonError::TooLarge(format!(
        "the array has more than {limit} documents, send so many as application/x-ndjson, one a line"
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
            return Some(JsonError::Invalid(large_integer(&digits) + &at(line, column)));
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
        "the integer {digits} is beyond 64 bits, send it as {{\"$numberDecimal\":\"{digits}\"}} or as a double, {digits}.0"
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

fn at(line: usize, column: usize) -> String {
    format!(" at line {line} column {column}")
}

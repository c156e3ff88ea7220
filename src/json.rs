//! JSON <-> BSON: MongoDB Extended JSON v2, canonical and relaxed.
//!
//! ```text
//! json ──> read ──> builder ──> error
//!   │        │         │
//!   └────────┴─────────┴─────> write
//! ```
//!
//! `read` goes through the JSON once and has `builder` append raw BSON; `builder` also knows the
//! objects that stand for a BSON type. `write` goes through raw BSON once and appends JSON. May
//! use: `document`, `object_id`, `percent`, `bson`, `serde_json`.

mod builder;
mod error;
mod read;
#[cfg(test)]
mod tests;
mod write;

use bson::oid::ObjectId;
use bson::raw::cstr;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use crate::document::{Document, DocumentId};

pub(crate) use error::{JsonError, JsonErrorKind};
pub(crate) use read::Documents;
pub(crate) use write::{Format, InvalidBson};

/// Reads a body: one object, or an array of at least one.
pub(crate) fn parse_documents(body: &[u8]) -> Result<Documents, JsonError> {
    read::documents(body)
}

/// Reads one object, as it stands on a line of NDJSON.
pub(crate) fn parse_document(line: &[u8]) -> Result<Document, JsonError> {
    read::document(line)
}

/// Appends `document` as Extended JSON without spaces. If it fails, `out` is as it was before.
pub(crate) fn write_document(
    document: &RawDocument,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<(), InvalidBson> {
    write::document(document.as_bytes(), format, out)
}

/// Reads an `_id` from a URL, percent-decoded: 24 hexadecimal digits are an ObjectId, what is JSON
/// is Extended JSON, and anything else is a plain string.
pub(crate) fn parse_id(text: &str) -> Result<DocumentId, JsonError> {
    if text.is_empty() {
        return Err(JsonError::content("the _id is empty: an empty string is written as \"\""));
    }
    let value = match object_id(text) {
        Some(id) => RawBson::ObjectId(id),
        None => read::value(text.as_bytes())?.unwrap_or_else(|| RawBson::String(text.into())),
    };
    DocumentId::new(value).map_err(|error| JsonError::content(error.to_string()))
}

/// Writes what `parse_id` reads back as the same `_id`. Not percent-encoded.
pub(crate) fn write_id(id: &DocumentId) -> String {
    match id.as_raw() {
        RawBsonRef::ObjectId(id) => id.to_hex(),
        RawBsonRef::String(text) if is_plain(text) => text.into(),
        _ => {
            let mut json = Vec::new();
            write_id_json(id, &mut json);
            String::from_utf8_lossy(&json).into_owned()
        }
    }
}

/// Appends the `_id` as a value of relaxed Extended JSON.
pub(crate) fn write_id_json(id: &DocumentId, out: &mut Vec<u8>) {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), id.as_raw());
    if write::first_value(document.as_bytes(), out).is_err() {
        // Only where a damaged database had an object with broken BSON inside it as an `_id`.
        out.extend_from_slice(b"null");
    }
}

/// Whether a string in a URL reads back as itself, to this program and to a person. `.` and `..`
/// are steps of a path.
fn is_plain(text: &str) -> bool {
    let begins_like_json = text.trim_start().starts_with(['{', '[', '"']);
    text != "."
        && text != ".."
        && !begins_like_json
        && parse_id(text).is_ok_and(|id| id.as_raw() == RawBsonRef::String(text))
}

fn object_id(text: &str) -> Option<ObjectId> {
    let is_hex = text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { ObjectId::parse_str(text).ok() } else { None }
}

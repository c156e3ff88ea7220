//! Raw BSON -> Extended JSON, byte by byte into one buffer: the hot path of every page.
//!
//! It trusts nothing about the BSON: damaged bytes are an error, never a panic, and nesting takes
//! no stack.

use std::io::Write;

use bson::Decimal128;
use bson::spec::ElementType;

use super::reader::Reader;
use super::scalar::{
    binary, date, double, integer, number, object_id, sort_options, string, wrapped_string,
};
use super::{Format, InvalidBson};

/// Appends the document; leaves `out` as it was if the BSON is not valid.
pub(super) fn document(bson: &[u8], format: Format, out: &mut Vec<u8>) -> Result<(), InvalidBson> {
    undo_on_error(out, |out| {
        let mut reader = Reader { bson, at: 0 };
        let end = reader.document_end()?;
        if end != bson.len() {
            return reader.expected("the end of the document at the end of its bytes");
        }
        fields(&mut reader, Level::document(end), format, out)
    })
}

/// Appends the value of the document's first field, relaxed.
pub(super) fn first_value(bson: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidBson> {
    undo_on_error(out, |out| {
        let mut reader = Reader { bson, at: 4 };
        let kind = reader.kind()?;
        reader.c_string()?;
        match value(kind, &mut reader, Format::Relaxed, out)? {
            Some(level) => fields(&mut reader, level, Format::Relaxed, out),
            None => Ok(()),
        }
    })
}

/// All strings are checked to be UTF-8 here at once: one pass over the JSON is faster than one a
/// string, and says the same.
fn undo_on_error(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), InvalidBson>,
) -> Result<(), InvalidBson> {
    let start = out.len();
    let written = write(out).and_then(|()| match std::str::from_utf8(&out[start..]) {
        Ok(_) => Ok(()),
        Err(_) => Err(InvalidBson { expected: "UTF-8 in its strings, though not", at: 0 }),
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// A document or an array that is being written.
struct Level {
    end: usize,
    is_array: bool,
    is_empty: bool,
    close: &'static [u8],
}

impl Level {
    fn document(end: usize) -> Self {
        Self { end, is_array: false, is_empty: true, close: b"}" }
    }
}

/// Writes the fields of `level` and of all that is nested in it, to its end.
fn fields(
    reader: &mut Reader<'_>,
    mut level: Level,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<(), InvalidBson> {
    let mut outer = Vec::new();
    open(&level, out);
    loop {
        let kind = reader.byte()?;
        if kind == 0 {
            if reader.at != level.end {
                return reader.expected("more fields, as the length says");
            }
            out.extend_from_slice(level.close);
            match outer.pop() {
                Some(parent) => level = parent,
                None => return Ok(()),
            }
            continue;
        }
        let kind = reader.known(kind)?;
        let key = reader.c_string()?;
        if !level.is_empty {
            out.push(b',');
        }
        level.is_empty = false;
        if !level.is_array {
            string(key, out);
            out.push(b':');
        }
        if let Some(inner) = value(kind, reader, format, out)? {
            open(&inner, out);
            outer.push(std::mem::replace(&mut level, inner));
        }
    }
}

fn open(level: &Level, out: &mut Vec<u8>) {
    out.push(if level.is_array { b'[' } else { b'{' });
}

/// Writes one value, or returns the level that it opens.
fn value(
    kind: ElementType,
    reader: &mut Reader<'_>,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<Option<Level>, InvalidBson> {
    match kind {
        ElementType::EmbeddedDocument => {
            return Ok(Some(Level::document(reader.document_end()?)));
        }
        ElementType::Array => {
            let end = reader.document_end()?;
            return Ok(Some(Level { end, is_array: true, is_empty: true, close: b"]" }));
        }
        ElementType::JavaScriptCodeWithScope => {
            let whole = reader.at;
            let length = reader.length()?;
            out.extend_from_slice(b"{\"$code\":");
            string(reader.string()?, out);
            out.extend_from_slice(b",\"$scope\":");
            let end = reader.document_end()?;
            if end - whole != length {
                return reader.expected("code and scope as long as they say together");
            }
            return Ok(Some(Level { close: b"}}", ..Level::document(end) }));
        }
        ElementType::String => string(reader.string()?, out),
        ElementType::Int32 => {
            integer("$numberInt", i32::from_le_bytes(reader.array()?), format, out)
        }
        ElementType::Int64 => {
            integer("$numberLong", i64::from_le_bytes(reader.array()?), format, out)
        }
        ElementType::Double => double(f64::from_le_bytes(reader.array()?), format, out),
        ElementType::Boolean => match reader.byte()? {
            0 => out.extend_from_slice(b"false"),
            1 => out.extend_from_slice(b"true"),
            _ => return reader.expected("a boolean of 0 or 1"),
        },
        ElementType::Null => out.extend_from_slice(b"null"),
        ElementType::ObjectId => object_id(reader.array()?, out),
        ElementType::DateTime => date(i64::from_le_bytes(reader.array()?), format, out),
        ElementType::Binary => binary(reader, out)?,
        ElementType::Decimal128 => {
            // Writing into a Vec cannot fail.
            let _ = write!(
                out,
                "{{\"$numberDecimal\":\"{}\"}}",
                Decimal128::from_bytes(reader.array()?)
            );
        }
        ElementType::Timestamp => {
            let increment = u32::from_le_bytes(reader.array()?);
            let time = u32::from_le_bytes(reader.array()?);
            out.extend_from_slice(b"{\"$timestamp\":{\"t\":");
            number(time, out);
            out.extend_from_slice(b",\"i\":");
            number(increment, out);
            out.extend_from_slice(b"}}");
        }
        ElementType::RegularExpression => {
            out.extend_from_slice(b"{\"$regularExpression\":{\"pattern\":");
            string(reader.c_string()?, out);
            out.extend_from_slice(b",\"options\":");
            let mut options = reader.c_string()?.to_vec();
            sort_options(&mut options);
            string(&options, out);
            out.extend_from_slice(b"}}");
        }
        ElementType::JavaScriptCode => wrapped_string("$code", reader.string()?, out),
        ElementType::Symbol => wrapped_string("$symbol", reader.string()?, out),
        ElementType::DbPointer => {
            out.extend_from_slice(b"{\"$dbPointer\":{\"$ref\":");
            string(reader.string()?, out);
            out.extend_from_slice(b",\"$id\":");
            object_id(reader.array()?, out);
            out.extend_from_slice(b"}}");
        }
        ElementType::Undefined => out.extend_from_slice(b"{\"$undefined\":true}"),
        ElementType::MinKey => out.extend_from_slice(b"{\"$minKey\":1}"),
        ElementType::MaxKey => out.extend_from_slice(b"{\"$maxKey\":1}"),
    }
    Ok(None)
}

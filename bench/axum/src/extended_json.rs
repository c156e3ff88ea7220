//! Raw BSON -> relaxed Extended JSON without a tree in between. The types that most documents are
//! made of are written by hand, the others by the bson crate.

use bson::{Bson, RawArray, RawBsonRef, RawDocument};
use serde::Serialize;

use crate::Problem;

/// Appends `document` without spaces.
pub(crate) fn write_document(document: &RawDocument, out: &mut Vec<u8>) -> Result<(), Problem> {
    out.push(b'{');
    for (index, field) in document.iter().enumerate() {
        let (key, value) = field?;
        if index > 0 {
            out.push(b',');
        }
        write_json(key.as_str(), out)?;
        out.push(b':');
        write_value(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_array(array: &RawArray, out: &mut Vec<u8>) -> Result<(), Problem> {
    out.push(b'[');
    for (index, value) in array.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_value(value?, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_value(value: RawBsonRef, out: &mut Vec<u8>) -> Result<(), Problem> {
    match value {
        RawBsonRef::Document(document) => write_document(document, out),
        RawBsonRef::Array(array) => write_array(array, out),
        RawBsonRef::String(text) => write_json(text, out),
        RawBsonRef::Int32(number) => write_json(&number, out),
        RawBsonRef::Int64(number) => write_json(&number, out),
        RawBsonRef::Double(number) if number.is_finite() => write_json(&number, out),
        RawBsonRef::Boolean(value) => write_json(&value, out),
        RawBsonRef::Null => write_json(&(), out),
        RawBsonRef::ObjectId(id) => {
            out.extend_from_slice(b"{\"$oid\":\"");
            for byte in id.bytes() {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(&[
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                ]);
            }
            out.extend_from_slice(b"\"}");
            Ok(())
        }
        other => write_json(&Bson::try_from(other)?.into_relaxed_extjson(), out),
    }
}

fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) -> Result<(), Problem> {
    Ok(serde_json::to_writer(out, value)?)
}

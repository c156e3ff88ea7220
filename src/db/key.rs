//! The key of a document in the embedded store: its `_id` as bytes whose plain order is MongoDB's
//! order of the values. Touches nothing but the value.
//!
//! A value is one byte for its type (MongoDB's order of the types) and then its content:
//!
//! - a number: its class (NaN, negative, zero, positive), then the exponent and the 64 bits of a
//!   normalized mantissa, inverted where it is negative. int32, int64 and double all fit into that
//!   exactly, so equal numbers are equal keys.
//! - text: its bytes, where a 0 is written as `00 FF`, and `00 00` at the end.
//! - binary and DBPointer: the length first, since MongoDB compares that first.
//! - an object: for each field its type, name and content, then a 0. An array: the same, no names.
//! - what has a fixed width: big endian, with the sign bit inverted where it is signed.
//!
//! No key is the beginning of another one, and two keys are equal exactly where MongoDB holds the
//! values to be equal.

#[cfg(test)]
mod tests;

use std::fmt::{self, Display};

use bson::spec::BinarySubtype;
use bson::{RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, cstr};

use crate::document::DocumentId;

/// Ends an object or an array: below every type, so that the shorter one comes first.
const END: u8 = 0;

/// Where a type stands in MongoDB's order. Types with one place are compared with each other.
mod order {
    pub(super) const MIN_KEY: u8 = 1;
    pub(super) const UNDEFINED: u8 = 2;
    pub(super) const NULL: u8 = 5;
    pub(super) const NUMBER: u8 = 10;
    pub(super) const STRING: u8 = 15;
    pub(super) const OBJECT: u8 = 20;
    pub(super) const ARRAY: u8 = 25;
    pub(super) const BINARY: u8 = 30;
    pub(super) const OBJECT_ID: u8 = 35;
    pub(super) const BOOLEAN: u8 = 40;
    pub(super) const DATE: u8 = 45;
    pub(super) const TIMESTAMP: u8 = 47;
    pub(super) const REGULAR_EXPRESSION: u8 = 50;
    pub(super) const DB_POINTER: u8 = 55;
    pub(super) const CODE: u8 = 60;
    pub(super) const CODE_WITH_SCOPE: u8 = 65;
    pub(super) const MAX_KEY: u8 = 127;
}

/// An `_id` that this store has no key for, and why.
#[derive(Debug)]
pub(super) struct Unsupported(pub(super) String);

impl Display for Unsupported {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

pub(super) fn encode(id: &DocumentId) -> Result<Vec<u8>, Unsupported> {
    encode_value(id.as_raw())
}

/// The key of any value that can be part of an `_id`.
pub(super) fn encode_value(value: RawBsonRef<'_>) -> Result<Vec<u8>, Unsupported> {
    let mut key = Vec::with_capacity(32);
    key.push(type_order(value)?);
    encode_content(value, &mut key)?;
    Ok(key)
}

fn type_order(value: RawBsonRef<'_>) -> Result<u8, Unsupported> {
    Ok(match value {
        RawBsonRef::MinKey => order::MIN_KEY,
        RawBsonRef::Undefined => order::UNDEFINED,
        RawBsonRef::Null => order::NULL,
        RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_) => order::NUMBER,
        RawBsonRef::Decimal128(_) => {
            return Err(Unsupported(
                "The embedded store takes no decimal128 in an _id: send it as a string, or store it \
                 in MongoDB"
                    .to_owned(),
            ));
        }
        RawBsonRef::String(_) | RawBsonRef::Symbol(_) => order::STRING,
        RawBsonRef::Document(_) => order::OBJECT,
        RawBsonRef::Array(_) => order::ARRAY,
        RawBsonRef::Binary(_) => order::BINARY,
        RawBsonRef::ObjectId(_) => order::OBJECT_ID,
        RawBsonRef::Boolean(_) => order::BOOLEAN,
        RawBsonRef::DateTime(_) => order::DATE,
        RawBsonRef::Timestamp(_) => order::TIMESTAMP,
        RawBsonRef::RegularExpression(_) => order::REGULAR_EXPRESSION,
        RawBsonRef::DbPointer(_) => order::DB_POINTER,
        RawBsonRef::JavaScriptCode(_) => order::CODE,
        RawBsonRef::JavaScriptCodeWithScope(_) => order::CODE_WITH_SCOPE,
        RawBsonRef::MaxKey => order::MAX_KEY,
    })
}

fn encode_content(value: RawBsonRef<'_>, key: &mut Vec<u8>) -> Result<(), Unsupported> {
    match value {
        RawBsonRef::MinKey | RawBsonRef::Undefined | RawBsonRef::Null | RawBsonRef::MaxKey => {}
        RawBsonRef::Int32(number) => encode_integer(number.into(), key),
        RawBsonRef::Int64(number) => encode_integer(number, key),
        RawBsonRef::Double(number) => encode_double(number, key),
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) | RawBsonRef::JavaScriptCode(text) => {
            encode_text(text, key);
        }
        RawBsonRef::Document(object) => encode_object(object, key)?,
        RawBsonRef::Array(array) => {
            for element in array {
                let element = element.map_err(malformed)?;
                key.push(type_order(element)?);
                encode_content(element, key)?;
            }
            key.push(END);
        }
        RawBsonRef::Binary(binary) => encode_binary(binary, key),
        RawBsonRef::ObjectId(id) => key.extend(id.bytes()),
        RawBsonRef::Boolean(boolean) => key.push(boolean.into()),
        RawBsonRef::DateTime(date) => {
            key.extend((date.timestamp_millis() ^ i64::MIN).to_be_bytes())
        }
        RawBsonRef::Timestamp(timestamp) => {
            key.extend(timestamp.time.to_be_bytes());
            key.extend(timestamp.increment.to_be_bytes());
        }
        RawBsonRef::RegularExpression(expression) => {
            encode_text(expression.pattern.as_str(), key);
            encode_text(expression.options.as_str(), key);
        }
        RawBsonRef::DbPointer(_) => encode_db_pointer(value, key),
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            encode_text(code.code, key);
            encode_object(code.scope, key)?;
        }
        // type_order, which every value goes through first, has refused it.
        RawBsonRef::Decimal128(_) => {}
    }
    Ok(())
}

/// The type before the name: MongoDB compares the types of two fields, then their names, then
/// their values.
fn encode_object(object: &RawDocument, key: &mut Vec<u8>) -> Result<(), Unsupported> {
    for field in object {
        let (name, value) = field.map_err(malformed)?;
        key.push(type_order(value)?);
        encode_text(name.as_str(), key);
        encode_content(value, key)?;
    }
    key.push(END);
    Ok(())
}

fn encode_text(text: &str, key: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xFF);
        }
    }
    key.extend([0, 0]);
}

fn encode_binary(binary: RawBinaryRef<'_>, key: &mut Vec<u8>) {
    // The old subtype repeats the length inside of what MongoDB compares: 4 bytes more.
    let repeated_length = if binary.subtype == BinarySubtype::BinaryOld { 4 } else { 0 };
    key.extend((binary.bytes.len() as u64 + repeated_length).to_be_bytes());
    key.push(binary.subtype.into());
    key.extend(binary.bytes);
}

/// MongoDB compares the length and then the bytes of the BSON. The crate keeps a pointer's two
/// parts to itself, so the bytes are taken out of a document that is made of it.
fn encode_db_pointer(pointer: RawBsonRef<'_>, key: &mut Vec<u8>) {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("p"), pointer);
    let bytes = document.as_bytes();
    const BEFORE: usize = 4 + 1 + "p\0".len(); // the document's length, the type and the name
    let content = &bytes[BEFORE..bytes.len() - 1];
    key.extend((content.len() as u64).to_be_bytes());
    key.extend(content);
}

const NAN: u8 = 0;
const NEGATIVE: u8 = 1;
const ZERO: u8 = 2;
const POSITIVE: u8 = 3;

/// Above every exponent that a finite number has.
const INFINITE_EXPONENT: i16 = i16::MAX;

fn encode_integer(number: i64, key: &mut Vec<u8>) {
    encode_number(number < 0, number.unsigned_abs(), 0, key);
}

fn encode_double(number: f64, key: &mut Vec<u8>) {
    if number.is_nan() {
        return key.push(NAN);
    }
    let negative = number.is_sign_negative();
    if number.is_infinite() {
        return encode_normalized(negative, INFINITE_EXPONENT, 0, key);
    }
    let bits = number.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    // Exponent field 0 is a subnormal number: the scale of field 1, but no leading 1.
    match ((bits >> 52) & 0x7FF) as i16 {
        0 => encode_number(negative, fraction, -1074, key),
        exponent => encode_number(negative, fraction | (1 << 52), exponent - 1075, key),
    }
}

/// The number `magnitude * 2^scale`.
fn encode_number(negative: bool, magnitude: u64, scale: i16, key: &mut Vec<u8>) {
    if magnitude == 0 {
        return key.push(ZERO);
    }
    let leading_zeros = magnitude.leading_zeros();
    encode_normalized(negative, scale + 63 - leading_zeros as i16, magnitude << leading_zeros, key);
}

fn encode_normalized(negative: bool, exponent: i16, mantissa: u64, key: &mut Vec<u8>) {
    let exponent = exponent as u16 ^ 0x8000;
    if negative {
        key.push(NEGATIVE);
        key.extend((!exponent).to_be_bytes());
        key.extend((!mantissa).to_be_bytes());
    } else {
        key.push(POSITIVE);
        key.extend(exponent.to_be_bytes());
        key.extend(mantissa.to_be_bytes());
    }
}

fn malformed(error: bson::error::Error) -> Unsupported {
    Unsupported(format!("the _id is not valid BSON: {error}"))
}

//! The objects of Extended JSON that stand for a BSON type: `{"$oid":"…"}` and the others.
//!
//! Such an object is read like any other first, then this turns the document that came of it into
//! the value: so the order of its keys means nothing, as the specification demands.

use std::str::FromStr;

use bson::oid::ObjectId;
use bson::raw::CStr;
use bson::spec::{BinarySubtype, ElementType};
use bson::{Binary, DateTime, Decimal128, RawBsonRef, RawDocument, Uuid};

use super::builder::length;
use super::scalar::sort_options;

/// The keys that make an object a BSON type, and what each takes.
const TYPES: [(&str, &str); 17] = [
    ("$oid", "a string of 24 hexadecimal digits"),
    (
        "$date",
        "a string like \"2024-01-31T23:59:59.999Z\", or milliseconds since 1970 as {\"$numberLong\":\"…\"}",
    ),
    ("$numberLong", "a string with an integer of 64 bits"),
    ("$numberDecimal", "a string with a decimal of at most 34 digits"),
    ("$numberInt", "a string with an integer of 32 bits"),
    (
        "$numberDouble",
        "a string with a number that a double holds, \"Infinity\", \"-Infinity\" or \"NaN\"",
    ),
    (
        "$binary",
        "{\"base64\":\"…\",\"subType\":\"…\"} with padded base64 and two hexadecimal digits",
    ),
    ("$uuid", "a string like \"01234567-89ab-cdef-0123-456789abcdef\""),
    ("$timestamp", "{\"t\":…,\"i\":…} with two integers of 32 bits without sign"),
    ("$regularExpression", "{\"pattern\":\"…\",\"options\":\"…\"} without a NUL"),
    ("$code", "a string, and beside it at most \"$scope\""),
    ("$scope", "an object, and beside it \"$code\" with a string"),
    ("$symbol", "a string"),
    ("$dbPointer", "{\"$ref\":\"…\",\"$id\":{\"$oid\":\"…\"}}"),
    ("$undefined", "true"),
    ("$minKey", "1"),
    ("$maxKey", "1"),
];

/// Whether an object with this key is a BSON type or wrong.
pub(super) fn is_type_key(key: &str) -> bool {
    key.starts_with('$') && TYPES.iter().any(|(name, _)| *name == key)
}

/// Whether an object with this key may be a BSON type: `$regex` is also an operator of MongoDB's
/// queries.
pub(super) fn may_be_type_key(key: &str) -> bool {
    key == "$regex" || is_type_key(key)
}

/// Appends the value that `document` stands for to `out`. `None`: it is a document after all.
pub(super) fn convert(
    document: &RawDocument,
    out: &mut Vec<u8>,
) -> Result<Option<ElementType>, String> {
    let mut fields = document.iter().flatten().map(|(key, value)| (key.as_str(), value));
    let (first, second, third) = (fields.next(), fields.next(), fields.next());
    let Some(first) = first else {
        return Ok(None);
    };
    // The second key is the one that names the type in `{"$type":"00","$binary":"…"}` and the like.
    let ((key, value), other) = match second {
        Some(second) if !names_type(first.0) && names_type(second.0) => (second, Some(first)),
        second => (first, second),
    };
    let is_alone = third.is_none();
    if is_alone && let Some(kind) = append_value(key, value, other, out) {
        return Ok(Some(kind));
    }
    let mut keys = document.iter().flatten().map(|(key, _)| key.as_str());
    let Some((name, takes)) = keys.find_map(|key| TYPES.iter().find(|(name, _)| *name == key))
    else {
        return Ok(None);
    };
    Err(match (*name, other) {
        ("$code" | "$scope", Some((_, RawBsonRef::Document(_)))) if is_alone => {
            format!("{name} takes {takes}")
        }
        (_, None) => format!("{name} takes {takes}"),
        _ => format!("{name} takes {takes}; it stands beside keys that do not belong to it"),
    })
}

/// `$scope` only accompanies another key.
fn names_type(key: &str) -> bool {
    key != "$scope" && may_be_type_key(key)
}

type Field<'a> = (&'a str, RawBsonRef<'a>);

/// `None`: these are not the keys or values of a BSON type.
fn append_value(
    key: &str,
    value: RawBsonRef<'_>,
    other: Option<Field<'_>>,
    out: &mut Vec<u8>,
) -> Option<ElementType> {
    use RawBsonRef::{Boolean, Document, Int32, Int64, String};
    match (key, value, other) {
        ("$oid", String(hex), None) => {
            out.extend_from_slice(&ObjectId::parse_str(hex).ok()?.bytes());
            Some(ElementType::ObjectId)
        }
        // A number that came without `$numberLong` is the form of older tools.
        ("$date", Int64(millis), None) => {
            out.extend_from_slice(&millis.to_le_bytes());
            Some(ElementType::DateTime)
        }
        ("$date", Int32(millis), None) => {
            out.extend_from_slice(&i64::from(millis).to_le_bytes());
            Some(ElementType::DateTime)
        }
        ("$date", String(text), None) => {
            out.extend_from_slice(&date(text)?.timestamp_millis().to_le_bytes());
            Some(ElementType::DateTime)
        }
        ("$numberInt", String(digits), None) => {
            out.extend_from_slice(&i32::from_str(digits).ok()?.to_le_bytes());
            Some(ElementType::Int32)
        }
        ("$numberLong", String(digits), None) => {
            out.extend_from_slice(&i64::from_str(digits).ok()?.to_le_bytes());
            Some(ElementType::Int64)
        }
        ("$numberDouble", String(digits), None) => {
            out.extend_from_slice(&double(digits)?.to_le_bytes());
            Some(ElementType::Double)
        }
        ("$numberDecimal", String(digits), None) => {
            out.extend_from_slice(&decimal(digits)?.bytes());
            Some(ElementType::Decimal128)
        }
        ("$binary", Document(parts), None) => match pair(parts, "base64", "subType")? {
            (String(base64), String(subtype)) => append_binary(base64, subtype, out),
            _ => None,
        },
        ("$binary", String(base64), Some(("$type", String(subtype)))) => {
            append_binary(base64, subtype, out)
        }
        ("$uuid", String(text), None) => {
            let has_known_form = matches!(text.len(), 32 | 36);
            let uuid = Uuid::parse_str(text).ok().filter(|_| has_known_form)?;
            append_bytes(BinarySubtype::Uuid.into(), &uuid.bytes(), out);
            Some(ElementType::Binary)
        }
        ("$timestamp", Document(parts), None) => {
            let (time, increment) = pair(parts, "t", "i")?;
            out.extend_from_slice(&unsigned(increment)?.to_le_bytes());
            out.extend_from_slice(&unsigned(time)?.to_le_bytes());
            Some(ElementType::Timestamp)
        }
        ("$regularExpression", Document(parts), None) => match pair(parts, "pattern", "options")? {
            (String(pattern), String(options)) => append_regular_expression(pattern, options, out),
            _ => None,
        },
        ("$regex", String(pattern), Some(("$options", String(options)))) => {
            append_regular_expression(pattern, options, out)
        }
        ("$code", String(code), None) => {
            append_string(code, out);
            Some(ElementType::JavaScriptCode)
        }
        ("$code", String(code), Some(("$scope", Document(scope)))) => {
            // The length of the whole, the string with its length and NUL, the scope.
            let whole = 4 + 4 + code.len() + 1 + scope.as_bytes().len();
            out.extend_from_slice(&length(whole));
            append_string(code, out);
            out.extend_from_slice(scope.as_bytes());
            Some(ElementType::JavaScriptCodeWithScope)
        }
        ("$symbol", String(text), None) => {
            append_string(text, out);
            Some(ElementType::Symbol)
        }
        ("$dbPointer", Document(parts), None) => match pair(parts, "$ref", "$id")? {
            (String(namespace), RawBsonRef::ObjectId(id)) => {
                append_string(namespace, out);
                out.extend_from_slice(&id.bytes());
                Some(ElementType::DbPointer)
            }
            _ => None,
        },
        ("$undefined", Boolean(true), None) => Some(ElementType::Undefined),
        ("$minKey", Int32(1), None) => Some(ElementType::MinKey),
        ("$maxKey", Int32(1), None) => Some(ElementType::MaxKey),
        _ => None,
    }
}

/// The values of a document that has these two keys, in any order, and no other.
fn pair<'a>(
    parts: &'a RawDocument,
    left: &str,
    right: &str,
) -> Option<(RawBsonRef<'a>, RawBsonRef<'a>)> {
    let mut fields = parts.iter().flatten();
    let (first, second) = (fields.next()?, fields.next()?);
    let keys = |(a, b): (&CStr, &CStr)| a.as_str() == left && b.as_str() == right;
    match fields.next() {
        None if keys((first.0, second.0)) => Some((first.1, second.1)),
        None if keys((second.0, first.0)) => Some((second.1, first.1)),
        _ => None,
    }
}

fn unsigned(value: RawBsonRef<'_>) -> Option<u32> {
    match value {
        RawBsonRef::Int32(number) => number.try_into().ok(),
        RawBsonRef::Int64(number) => number.try_into().ok(),
        _ => None,
    }
}

/// RFC 3339, and its offset also without a colon, as older tools wrote it. What is finer than a
/// millisecond is cut off: of the text, since it counts forward, also before 1970.
fn date(text: &str) -> Option<DateTime> {
    if let Some((whole, rest)) = text.split_once('.') {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 3 {
            return date(&[whole, ".", &rest[..3], &rest[digits..]].concat());
        }
    }
    if let Some(hours) = text.len().checked_sub(5)
        && matches!(text.as_bytes()[hours], b'+' | b'-')
    {
        let minutes = hours + 3;
        return DateTime::parse_rfc3339_str(format!(
            "{}:{}",
            text.get(..minutes)?,
            text.get(minutes..)?
        ))
        .ok();
    }
    DateTime::parse_rfc3339_str(text).ok()
}

fn double(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // `f64` reads more names of infinity, and what overflows as infinity.
        _ => f64::from_str(text).ok().filter(|number| number.is_finite()),
    }
}

/// `Decimal128` also reads a second sign behind leading zeros, and "sNaN": neither is a decimal of
/// the specification.
fn decimal(text: &str) -> Option<Decimal128> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_special =
        ["nan", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
    let coefficient = unsigned.split(['e', 'E']).next().unwrap_or_default();
    let is_number = coefficient.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && coefficient.bytes().any(|byte| byte.is_ascii_digit());
    if is_number || is_special { Decimal128::from_str(text).ok() } else { None }
}

fn append_binary(base64: &str, subtype: &str, out: &mut Vec<u8>) -> Option<ElementType> {
    let is_hex =
        matches!(subtype.len(), 1 | 2) && subtype.bytes().all(|digit| digit.is_ascii_hexdigit());
    let subtype = u8::from_str_radix(subtype, 16).ok().filter(|_| is_hex)?;
    append_bytes(subtype, &Binary::from_base64(base64, None).ok()?.bytes, out);
    Some(ElementType::Binary)
}

fn append_bytes(subtype: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let is_old = subtype == u8::from(BinarySubtype::BinaryOld);
    let inner_length: &[u8] = if is_old { &length(bytes.len()) } else { &[] };
    out.extend_from_slice(&length(inner_length.len() + bytes.len()));
    out.push(subtype);
    out.extend_from_slice(inner_length);
    out.extend_from_slice(bytes);
}

fn append_regular_expression(
    pattern: &str,
    options: &str,
    out: &mut Vec<u8>,
) -> Option<ElementType> {
    if pattern.contains('\0') || options.contains('\0') {
        return None;
    }
    out.extend_from_slice(pattern.as_bytes());
    out.push(0);
    let start = out.len();
    out.extend_from_slice(options.as_bytes());
    sort_options(&mut out[start..]);
    out.push(0);
    Some(ElementType::RegularExpression)
}

pub(super) fn append_string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&length(text.len() + 1));
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

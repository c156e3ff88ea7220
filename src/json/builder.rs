//! The BSON that grows while JSON is read, and the objects of Extended JSON that stand for one of
//! its types: `{"$oid":"…"}` and the others.
//!
//! Such an object is read like any other first. Then the value replaces the document that came of
//! it, so that the order of its keys does not matter, as the specification demands.

use std::str::FromStr;

use bson::oid::ObjectId;
use bson::raw::CStr;
use bson::spec::{BinarySubtype, ElementType};
use bson::{Binary, DateTime, Decimal128, RawBsonRef, RawDocument, Uuid};
use serde::de::Error;

use super::error::{JsonError, shortened};
use super::write::sort_options;

/// The BSON so far, and what is known about it.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) bson: Vec<u8>,
    /// Where in `bson` the keys of the objects that are open begin, the innermost object's last. A
    /// body is shorter than 4 GiB.
    keys: Vec<u32>,
    converted: Vec<u8>,
    /// Of the next document: documents in an array are often of one kind.
    pub(super) expected_size: usize,
    pub(super) has_large_double: bool,
    /// serde's errors have no room for a kind.
    pub(super) too_large: Option<JsonError>,
}

impl Builder {
    pub(super) fn begin_document(&mut self) -> usize {
        self.bson.extend_from_slice(&[0; 4]);
        self.bson.len() - 4
    }

    pub(super) fn end_document(&mut self, start: usize) {
        self.bson.push(0);
        let length = length(self.bson.len() - start);
        self.bson[start..start + 4].copy_from_slice(&length);
    }

    /// Returns where the type byte stands: the value sets it.
    pub(super) fn begin_element(&mut self, key: &[u8]) -> usize {
        let tag = self.bson.len();
        self.bson.push(0);
        self.bson.extend_from_slice(key);
        self.bson.push(0);
        tag
    }

    /// Puts the BSON type in the place of the document from `start` that stands for it. `false`: it
    /// is just a document.
    pub(super) fn convert(&mut self, tag: usize, start: usize) -> Result<bool, String> {
        let document =
            RawDocument::from_bytes(&self.bson[start..]).map_err(|error| error.to_string())?;
        self.converted.clear();
        let Some(kind) = convert(document, &mut self.converted)? else {
            return Ok(false);
        };
        self.bson[tag] = kind as u8;
        self.bson.truncate(start);
        self.bson.extend_from_slice(&self.converted);
        Ok(true)
    }
}

/// A length as BSON has it. What is longer than 2 GiB is refused as too large in the end, whatever
/// stands here.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_le_bytes()
}

/// An object that is open: finds its duplicate keys. Few keys are compared as they come. Many are
/// sorted at the end: a set of them would take ten times the memory.
pub(super) struct Object {
    first_key: usize,
}

impl Object {
    const FEW: usize = 16;

    pub(super) fn new(builder: &Builder) -> Self {
        Self { first_key: builder.keys.len() }
    }

    pub(super) fn is_empty(&self, builder: &Builder) -> bool {
        builder.keys.len() == self.first_key
    }

    pub(super) fn begin_field<E: Error>(
        &self,
        builder: &mut Builder,
        key: &str,
    ) -> Result<usize, E> {
        if key.as_bytes().contains(&0) {
            return Err(E::custom(format_args!(
                "the key {:?} has a NUL, which BSON cannot hold",
                shortened(key)
            )));
        }
        let keys = &builder.keys[self.first_key..];
        if keys.len() < Self::FEW
            && keys.iter().any(|&other| key_at(&builder.bson, other) == key.as_bytes())
        {
            return Err(duplicate(key));
        }
        let tag = builder.begin_element(key.as_bytes());
        builder.keys.push(tag as u32 + 1);
        Ok(tag)
    }

    pub(super) fn end<E: Error>(self, builder: &mut Builder) -> Result<(), E> {
        let Builder { bson, keys, .. } = builder;
        if keys.len() - self.first_key > Self::FEW {
            let keys = &mut keys[self.first_key..];
            keys.sort_unstable_by_key(|&key| key_at(bson, key));
            let mut pairs =
                keys.windows(2).map(|pair| (key_at(bson, pair[0]), key_at(bson, pair[1])));
            if let Some((key, _)) = pairs.find(|(one, other)| one == other) {
                return Err(duplicate(&String::from_utf8_lossy(key)));
            }
        }
        keys.truncate(self.first_key);
        Ok(())
    }
}

/// The key that begins there, without the NUL that ends it.
fn key_at(bson: &[u8], start: u32) -> &[u8] {
    bson[start as usize..].split(|&byte| byte == 0).next().unwrap_or_default()
}

fn duplicate<E: Error>(key: &str) -> E {
    E::custom(format_args!("the key {:?} is there twice", shortened(key)))
}

/// The keys that make an object a BSON type, and what each takes.
const TYPES: [(&str, &str); 17] = [
    ("$oid", "a string of 24 hexadecimal digits"),
    (
        "$date",
        "a string like \"2024-01-31T23:59:59.999Z\", \
         or milliseconds since 1970 as {\"$numberLong\":\"…\"}",
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
fn convert(document: &RawDocument, out: &mut Vec<u8>) -> Result<Option<ElementType>, String> {
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

/// `Decimal128` also reads a second sign after leading zeros, and "sNaN": neither is a decimal of
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

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
        RawBsonRef::DateTime(date) => key.extend((date.timestamp_millis() ^ i64::MIN).to_be_bytes()),
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

/// MongoDB compares the length and then the bytes of the BSON. The crate keeps a pointer's two parts
/// to itself, so the bytes are taken out of a document that is made of it.
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

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use bson::oid::ObjectId;
    use bson::{
        Binary, Bson, DateTime, DbPointer, Decimal128, Document, JavaScriptCodeWithScope, RawBson, Regex, Timestamp,
        bson, doc,
    };
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::strategy::Union;

    use super::*;

    fn key(value: &Bson) -> Vec<u8> {
        try_key(value).unwrap()
    }

    fn try_key(value: &Bson) -> Result<Vec<u8>, Unsupported> {
        let raw = RawBson::try_from(value.clone()).unwrap();
        encode_value(raw.as_raw_bson_ref())
    }

    /// MongoDB's comparison, written from its documentation and not from the encoding above.
    fn compare(left: &Bson, right: &Bson) -> Ordering {
        bracket(left).cmp(&bracket(right)).then_with(|| compare_content(left, right))
    }

    fn bracket(value: &Bson) -> usize {
        const BRACKETS: [&[&str]; 17] = [
            &["MinKey"],
            &["Undefined"],
            &["Null"],
            &["Int32", "Int64", "Double"],
            &["String", "Symbol"],
            &["EmbeddedDocument"],
            &["Array"],
            &["Binary"],
            &["ObjectId"],
            &["Boolean"],
            &["DateTime"],
            &["Timestamp"],
            &["RegularExpression"],
            &["DbPointer"],
            &["JavaScriptCode"],
            &["JavaScriptCodeWithScope"],
            &["MaxKey"],
        ];
        let name = format!("{:?}", value.element_type());
        BRACKETS.iter().position(|names| names.contains(&name.as_str())).unwrap()
    }

    fn compare_content(left: &Bson, right: &Bson) -> Ordering {
        use Bson::*;
        match (left, right) {
            (String(l) | Symbol(l), String(r) | Symbol(r)) => l.as_bytes().cmp(r.as_bytes()),
            (Document(l), Document(r)) => compare_fields(l, r),
            (Array(l), Array(r)) => {
                let differing = l.iter().zip(r).map(|(l, r)| compare(l, r)).find(|o| o.is_ne());
                differing.unwrap_or(l.len().cmp(&r.len()))
            }
            (Binary(l), Binary(r)) => {
                let length = |b: &bson::Binary| b.bytes.len() + 4 * usize::from(b.subtype == BinarySubtype::BinaryOld);
                (length(l).cmp(&length(r)))
                    .then(u8::from(l.subtype).cmp(&u8::from(r.subtype)))
                    .then_with(|| l.bytes.cmp(&r.bytes))
            }
            (ObjectId(l), ObjectId(r)) => l.bytes().cmp(&r.bytes()),
            (Boolean(l), Boolean(r)) => l.cmp(r),
            (DateTime(l), DateTime(r)) => l.timestamp_millis().cmp(&r.timestamp_millis()),
            (Timestamp(l), Timestamp(r)) => (l.time, l.increment).cmp(&(r.time, r.increment)),
            (RegularExpression(l), RegularExpression(r)) => {
                let parts = |x: &Regex| (x.pattern.to_string(), x.options.to_string());
                parts(l).cmp(&parts(r))
            }
            (DbPointer(l), DbPointer(r)) => {
                // The namespace has one byte a character here, so that its length is the text's.
                let parts = |x: &bson::DbPointer| {
                    let text = format!("{x:?}");
                    let quoted: Vec<&str> = text.split('"').collect();
                    (quoted[1].len(), quoted[1].to_owned(), quoted[3].to_owned())
                };
                parts(l).cmp(&parts(r))
            }
            (JavaScriptCode(l), JavaScriptCode(r)) => l.as_bytes().cmp(r.as_bytes()),
            (JavaScriptCodeWithScope(l), JavaScriptCodeWithScope(r)) => {
                (l.code.as_bytes().cmp(r.code.as_bytes())).then_with(|| compare_fields(&l.scope, &r.scope))
            }
            _ if left.element_type() == right.element_type() && bracket(left) != 3 => Ordering::Equal,
            _ => compare_numbers(left, right),
        }
    }

    fn compare_fields(left: &Document, right: &Document) -> Ordering {
        for ((left_name, left), (right_name, right)) in left.iter().zip(right) {
            let ordering = (bracket(left).cmp(&bracket(right)))
                .then_with(|| left_name.as_bytes().cmp(right_name.as_bytes()))
                .then_with(|| compare_content(left, right));
            if ordering.is_ne() {
                return ordering;
            }
        }
        left.len().cmp(&right.len())
    }

    fn compare_numbers(left: &Bson, right: &Bson) -> Ordering {
        fn integer(value: &Bson) -> Option<i64> {
            value.as_i64().or(value.as_i32().map(i64::from))
        }
        match (integer(left), integer(right)) {
            (Some(left), Some(right)) => left.cmp(&right),
            (Some(left), None) => compare_integer_to_double(left, right.as_f64().unwrap()),
            (None, Some(right)) => compare_integer_to_double(right, left.as_f64().unwrap()).reverse(),
            (None, None) => {
                let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
                left.partial_cmp(&right).unwrap_or(right.is_nan().cmp(&left.is_nan()))
            }
        }
    }

    fn compare_integer_to_double(integer: i64, double: f64) -> Ordering {
        const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
        if double.is_nan() || double < -TWO_TO_63 {
            return Ordering::Greater;
        }
        if double >= TWO_TO_63 {
            return Ordering::Less;
        }
        let whole = double.trunc() as i64;
        integer.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap())
    }

    fn number() -> impl Strategy<Value = Bson> {
        let near_power = (0..64_u32, -2..3_i64, any::<bool>()).prop_map(|(power, offset, negative)| {
            let value = (1_i64.wrapping_shl(power)).wrapping_add(offset);
            if negative { value.wrapping_neg() } else { value }
        });
        prop_oneof![
            any::<i32>().prop_map(Bson::Int32),
            (-3..4_i32).prop_map(Bson::Int32),
            any::<i64>().prop_map(Bson::Int64),
            near_power.clone().prop_map(Bson::Int64),
            near_power.clone().prop_map(|integer| Bson::Double(integer as f64)),
            (near_power, -2..3_i64).prop_map(|(integer, steps)| {
                Bson::Double(f64::from_bits((integer as f64).to_bits().wrapping_add_signed(steps)))
            }),
            any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
            // The smallest numbers, where the exponent ends and the fraction goes on.
            (0..4_u64, 0..53_u32, any::<bool>()).prop_map(|(exponent, power, negative)| {
                let bits = exponent << 52 | (1 << power) >> 1 | u64::from(negative) << 63;
                Bson::Double(f64::from_bits(bits))
            }),
            (-8..9_i32).prop_map(|quarters| Bson::Double(f64::from(quarters) / 4.0)),
            proptest::sample::select(vec![
                -0.0,
                f64::NAN,
                -f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MIN_POSITIVE,
                f64::from_bits(1),
                -f64::from_bits(1),
                f64::MAX,
                f64::MIN,
            ])
            .prop_map(Bson::Double),
        ]
    }

    /// Short and of few characters, so that two of them often share a beginning.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a\u{0}\u{1}b\u{10FFFF}]{0,3}", ".{0,4}"]
    }

    fn name() -> impl Strategy<Value = String> {
        "[ab\u{1}\u{7F}]{0,2}"
    }

    fn object(value: impl Strategy<Value = Bson>) -> impl Strategy<Value = Document> {
        vec((name(), value), 0..4).prop_map(|fields| fields.into_iter().collect())
    }

    /// A strategy for each type that holds no others.
    fn scalars() -> Vec<BoxedStrategy<Bson>> {
        let byte = || proptest::sample::select(vec![0, 1, 2, 127, 128, 254, 255]);
        let binary = (byte(), vec(byte(), 0..6)).prop_map(|(subtype, bytes)| {
            let subtype = BinarySubtype::from(subtype);
            Bson::Binary(Binary { subtype, bytes })
        });
        let object_id = vec(byte(), 12).prop_map(|bytes| ObjectId::from_bytes(bytes.try_into().unwrap()));
        let unsigned = || prop_oneof![any::<u32>(), 0..2_u32];
        vec![
            number().boxed(),
            prop_oneof![text().prop_map(Bson::String), text().prop_map(Bson::Symbol)].boxed(),
            binary.boxed(),
            object_id.clone().prop_map(Bson::ObjectId).boxed(),
            any::<bool>().prop_map(Bson::Boolean).boxed(),
            prop_oneof![any::<i64>(), -2..3_i64, Just(i64::MIN), Just(i64::MAX)]
                .prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis)))
                .boxed(),
            (unsigned(), unsigned())
                .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment }))
                .boxed(),
            ("[ab]{0,2}", "[im]{0,2}")
                .prop_map(|(pattern, options)| {
                    let (pattern, options) = (pattern.try_into(), options.try_into());
                    Bson::RegularExpression(Regex { pattern: pattern.unwrap(), options: options.unwrap() })
                })
                .boxed(),
            ("[a-c]{1,2}", proptest::sample::select(vec![0, 1, 252, 253, 254, 509]), object_id)
                .prop_map(|(namespace, more, id)| Bson::DbPointer(db_pointer(&(namespace + &"x".repeat(more)), id)))
                .boxed(),
            text().prop_map(Bson::JavaScriptCode).boxed(),
            proptest::sample::select(vec![Bson::MinKey, Bson::Undefined, Bson::Null, Bson::MaxKey]).boxed(),
        ]
    }

    fn db_pointer(namespace: &str, id: ObjectId) -> DbPointer {
        let bytes = [&(namespace.len() as i32 + 1).to_le_bytes()[..], namespace.as_bytes(), &[0], &id.bytes()].concat();
        let document = [&(bytes.len() as i32 + 8).to_le_bytes()[..], &[0x0C], b"p\0", &bytes, &[0]].concat();
        let document = Document::from_reader(document.as_slice()).unwrap();
        match document.get("p") {
            Some(Bson::DbPointer(pointer)) => pointer.clone(),
            other => panic!("{other:?} is no DBPointer"),
        }
    }

    fn pair_of_one_type() -> impl Strategy<Value = (Bson, Bson)> {
        Union::new(scalars().into_iter().map(|scalar| (scalar.clone(), scalar)))
    }

    fn value() -> impl Strategy<Value = Bson> {
        Union::new(scalars()).prop_recursive(3, 24, 4, |value| {
            prop_oneof![
                3 => object(value.clone()).prop_map(Bson::Document),
                1 => vec(value.clone(), 0..4).prop_map(Bson::Array),
                1 => (text(), object(value)).prop_map(|(code, scope)| {
                    Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn keys_are_in_the_order_of_their_values(left in value(), right in value()) {
            check(&left, &right)?;
        }

        #[test]
        fn keys_of_one_type_are_in_the_order_of_its_values((left, right) in pair_of_one_type()) {
            check(&left, &right)?;
        }

        #[test]
        fn keys_of_objects_are_in_the_order_of_the_objects(
            left in object(value()),
            right in object(value()),
        ) {
            check(&Bson::Document(left), &Bson::Document(right))?;
        }

        #[test]
        fn a_change_of_one_field_is_seen_wherever_it_stands(
            fields in object(value()),
            field in name(),
            left in value(),
            right in value(),
        ) {
            let with = |value: Bson| {
                let mut object = fields.clone();
                object.insert(field.clone(), value);
                Bson::Document(object)
            };
            check(&with(left), &with(right))?;
        }
    }

    fn check(left: &Bson, right: &Bson) -> Result<(), TestCaseError> {
        let (left_key, right_key) = (key(left), key(right));
        prop_assert_eq!(left_key.cmp(&right_key), compare(left, right));
        let one_begins_the_other = left_key.starts_with(&right_key) || right_key.starts_with(&left_key);
        prop_assert_eq!(one_begins_the_other, left_key == right_key);
        Ok(())
    }

    #[test]
    fn the_types_are_in_the_order_of_mongodb() {
        let ascending = [
            Bson::MinKey,
            Bson::Null,
            Bson::Double(f64::NAN),
            Bson::Double(f64::NEG_INFINITY),
            Bson::Int64(i64::MIN),
            Bson::Int32(-1),
            Bson::Double(-f64::from_bits(1)),
            Bson::Int32(0),
            Bson::Double(f64::from_bits(1)),
            Bson::Double(0.5),
            Bson::Int64(1),
            Bson::Double(9_007_199_254_740_991.0),
            Bson::Int64(9_007_199_254_740_992),
            Bson::Int64(9_007_199_254_740_993),
            Bson::Double(9_007_199_254_740_994.0),
            Bson::Int64(i64::MAX),
            Bson::Double(9_223_372_036_854_775_808.0),
            Bson::Double(f64::INFINITY),
            bson!(""),
            bson!("a"),
            bson!("a\0"),
            bson!("a\0b"),
            bson!("a\u{1}"),
            bson!("b"),
            bson!({}),
            bson!({ "b": null }),
            bson!({ "a": 1 }),
            bson!({ "a": 1, "b": null }),
            bson!({ "a": 2 }),
            bson!({ "aa": 1 }),
            bson!({ "a": "" }),
            bson!({ "a": [] }),
            bson!({ "a": [1] }),
            bson!({ "a": [1, 1] }),
            bson!({ "a": [2] }),
            Bson::Binary(Binary { subtype: BinarySubtype::UserDefined(255), bytes: vec![255] }),
            Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 1] }),
            Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![0, 0] }),
            Bson::ObjectId(ObjectId::from_bytes([0; 12])),
            bson!(false),
            bson!(true),
            Bson::DateTime(DateTime::from_millis(-1)),
            Bson::DateTime(DateTime::from_millis(0)),
            Bson::Timestamp(Timestamp { time: 0, increment: u32::MAX }),
            Bson::Timestamp(Timestamp { time: u32::MAX, increment: 0 }),
            Bson::DbPointer(db_pointer("b", ObjectId::from_bytes([0; 12]))),
            Bson::DbPointer(db_pointer("aa", ObjectId::from_bytes([0; 12]))),
            Bson::JavaScriptCode("a".into()),
            Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "a".into(), scope: doc! {} }),
            Bson::MaxKey,
        ];
        for pair in ascending.windows(2) {
            assert!(key(&pair[0]) < key(&pair[1]), "{} is not below {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn numbers_that_are_equal_have_one_key_whatever_their_type() {
        for same in [
            [Bson::Int32(1), Bson::Int64(1), Bson::Double(1.0)],
            [Bson::Int32(0), Bson::Double(0.0), Bson::Double(-0.0)],
            [Bson::Int32(i32::MIN), Bson::Int64(i32::MIN.into()), Bson::Double(i32::MIN.into())],
            [Bson::Double(f64::NAN), Bson::Double(-f64::NAN), Bson::Double(f64::from_bits(u64::MAX))],
        ] {
            assert_eq!(key(&same[0]), key(&same[1]));
            assert_eq!(key(&same[0]), key(&same[2]));
        }
        assert_eq!(key(&bson!("a")), key(&Bson::Symbol("a".into())));
        assert_eq!(key(&bson!({ "a": 1 })), key(&bson!({ "a": 1.0 })));
    }

    #[test]
    fn a_decimal128_is_refused_wherever_it_stands() {
        let decimal: Decimal128 = "1.5".parse().unwrap();
        for value in
            [Bson::Decimal128(decimal), bson!({ "price": decimal }), bson!({ "prices": [1, { "price": decimal }] })]
        {
            let refused = try_key(&value);
            assert!(matches!(&refused, Err(Unsupported(text)) if text.contains("decimal128")), "{value}: {refused:?}");
        }
    }
}

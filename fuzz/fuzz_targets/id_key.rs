//! Two values as `_id`s: the order of their keys is MongoDB's order of the values, written here a
//! second time from its documentation
//! (<https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/>), and equal values
//! have equal keys. Keys are never decoded, so there is no way back to try.
#![no_main]

mod support {
    pub mod memory;
    pub mod value;
}

use std::cmp::Ordering::{self, Equal, Greater, Less};

use bson::RawDocument;
use libfuzzer_sys::fuzz_target;

use support::memory::bounded;
use support::value::Value::{self, *};
use support::value::{self, Fields, Source};
use two_tier::fuzzing::key_of;

/// A key for a byte of the value: a text of NULs doubles, and so does a buffer that grows.
const FACTOR: usize = 8;
const CONSTANT: usize = 1024;

fuzz_target!(|data: &[u8]| {
    keys_of_any_bytes(data);
    let mut source = Source(data);
    let left = source.value(0);
    let right = if source.byte() % 2 == 0 { source.value(0) } else { source.relative(&left) };
    let (left_key, right_key) = (key(&left), key(&right));
    let (Some(left_key), Some(right_key)) = (left_key, right_key) else {
        return;
    };
    let order = compare(&left, &right);
    assert_eq!(left_key.cmp(&right_key), order, "{left:?} {right:?}");
    assert_eq!(compare(&right, &left), order.reverse(), "{left:?} {right:?}");
    let is_beginning = left_key.starts_with(&right_key) || right_key.starts_with(&left_key);
    assert_eq!(is_beginning, order == Equal, "{left:?} {right:?}");
});

/// A damaged file may hold anything.
fn keys_of_any_bytes(data: &[u8]) {
    let length = i32::try_from(data.len() + 5).unwrap().to_le_bytes();
    let bytes = [&length, data, &[0]].concat();
    for (_, value) in RawDocument::from_bytes(&bytes).unwrap().iter().flatten() {
        bounded(bytes.len(), FACTOR, CONSTANT, || key_of(value));
    }
}

fn key(value: &Value) -> Option<Vec<u8>> {
    let bytes = value::document(vec![("_id".to_owned(), value.clone())]);
    let document = RawDocument::from_bytes(&bytes).unwrap();
    let id = document.get("_id").unwrap().unwrap();
    let key = bounded(bytes.len(), FACTOR, CONSTANT, || key_of(id));
    assert_eq!(key.is_none(), value.has_decimal(), "{value:?}");
    key
}

/// The place of its type in the documented order.
fn place(value: &Value) -> u8 {
    match value {
        MinKey => 1,
        Undefined => 2,
        Null => 3,
        Int32(_) => 4,
        Int64(_) => 4,
        Double(_) => 4,
        Decimal => 4,
        Text(_) => 5,
        Symbol(_) => 5,
        Object(_) => 6,
        Array(_) => 7,
        Binary(..) => 8,
        ObjectId(_) => 9,
        Boolean(_) => 10,
        Date(_) => 11,
        Timestamp(..) => 12,
        Regex(..) => 13,
        DbPointer(..) => 14,
        Code(_) => 15,
        CodeWithScope(..) => 16,
        MaxKey => 17,
    }
}

fn compare(left: &Value, right: &Value) -> Ordering {
    place(left).cmp(&place(right)).then_with(|| compare_content(left, right))
}

fn compare_content(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Text(l) | Symbol(l), Text(r) | Symbol(r)) | (Code(l), Code(r)) => {
            l.as_bytes().cmp(r.as_bytes())
        }
        (Object(l), Object(r)) => compare_fields(l, r),
        (Array(l), Array(r)) => {
            let first_difference =
                l.iter().zip(r).map(|(l, r)| compare(l, r)).find(|order| order.is_ne());
            first_difference.unwrap_or(l.len().cmp(&r.len()))
        }
        (Binary(l_subtype, l), Binary(r_subtype, r)) => binary_length(*l_subtype, l)
            .cmp(&binary_length(*r_subtype, r))
            .then((l_subtype, l).cmp(&(r_subtype, r))),
        (ObjectId(l), ObjectId(r)) => l.cmp(r),
        (Boolean(l), Boolean(r)) => l.cmp(r),
        (Date(l), Date(r)) => l.cmp(r),
        (Timestamp(l_time, l), Timestamp(r_time, r)) => (l_time, l).cmp(&(r_time, r)),
        (Regex(l, l_options), Regex(r, r_options)) => (l, l_options).cmp(&(r, r_options)),
        (DbPointer(l, l_id), DbPointer(r, r_id)) => {
            l.len().cmp(&r.len()).then_with(|| (l, l_id).cmp(&(r, r_id)))
        }
        (CodeWithScope(l, l_scope), CodeWithScope(r, r_scope)) => {
            l.as_bytes().cmp(r.as_bytes()).then_with(|| compare_fields(l_scope, r_scope))
        }
        _ => compare_numbers(left, right),
    }
}

/// The old subtype has its length a second time among its bytes.
fn binary_length(subtype: u8, bytes: &[u8]) -> usize {
    bytes.len() + if subtype == 2 { 4 } else { 0 }
}

/// Types, then names, then values, field by field; the object that ends first comes first.
fn compare_fields(left: &Fields, right: &Fields) -> Ordering {
    for ((left_name, left), (right_name, right)) in left.iter().zip(right) {
        let order = (place(left).cmp(&place(right)))
            .then_with(|| left_name.as_bytes().cmp(right_name.as_bytes()))
            .then_with(|| compare_content(left, right));
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

/// By value, whatever the type. NaN is equal to itself and below everything.
fn compare_numbers(left: &Value, right: &Value) -> Ordering {
    match (number(left), number(right)) {
        (Some(Number::Whole(l)), Some(Number::Whole(r))) => l.cmp(&r),
        (Some(Number::Real(l)), Some(Number::Real(r))) => compare_reals(l, r),
        (Some(Number::Whole(l)), Some(Number::Real(r))) => compare_mixed(l, r),
        (Some(Number::Real(l)), Some(Number::Whole(r))) => compare_mixed(r, l).reverse(),
        // A type of which there is one value.
        _ => Equal,
    }
}

enum Number {
    Whole(i128),
    Real(f64),
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Int32(integer) => Some(Number::Whole((*integer).into())),
        Int64(integer) => Some(Number::Whole((*integer).into())),
        Double(double) => Some(Number::Real(*double)),
        _ => None,
    }
}

fn compare_reals(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

fn compare_mixed(whole: i128, real: f64) -> Ordering {
    if real.is_nan() {
        return Greater;
    }
    // `as` keeps to the ends of i128, far outside of what an int64 is; in between a floor is exact.
    let below = real.floor();
    whole.cmp(&(below as i128)).then(if real > below { Less } else { Equal })
}

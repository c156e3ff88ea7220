//! What comes after an `_id` in MongoDB's order, as MongoDB's filters. A comparison finds values of
//! one bracket of types only (numbers with numbers, strings with strings); the brackets after it
//! have to be asked for by type. Each of the two filters is one scan of the `_id` index.

use bson::{Bson, Document as Filter, RawBsonRef, doc};

use crate::db::Order;
use crate::document::DocumentId;

/// The types that an `_id` can have, in MongoDB's comparison order; those on one line compare by
/// value with each other.
/// <https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/>
const TYPE_BRACKETS: [&[&str]; 14] = [
    &["minKey"],
    &["null"],
    &["double", "int", "long", "decimal"],
    &["string", "symbol"],
    &["object"],
    &["binData"],
    &["objectId"],
    &["bool"],
    &["date"],
    &["timestamp"],
    &["dbPointer"],
    &["javascript"],
    &["javascriptWithScope"],
    &["maxKey"],
];

/// Those of them that FerretDB 1 can store, and knows by name.
const FERRETDB_TYPES: [&str; 11] = [
    "null",
    "double",
    "int",
    "long",
    "string",
    "object",
    "binData",
    "objectId",
    "bool",
    "date",
    "timestamp",
];

/// What finds the documents after `after` whose `_id` is of the same bracket of types: MongoDB
/// compares within one bracket only. None where nothing else can be in it.
pub(super) fn bracket_filter(after: Option<&DocumentId>, order: Order) -> Option<Filter> {
    let Some(after) = after else {
        return Some(Filter::new());
    };
    let id = to_bson(after);
    let is_nan = is_nan(&id);
    match (order, &id) {
        // Nothing is beside it in its bracket, and a comparison with MinKey or MaxKey would leave
        // the bracket.
        (_, Bson::MinKey | Bson::Null | Bson::MaxKey) => None,
        // NaN is below every number in the index, but compares with none. The two types have one
        // NaN, one infinity each way and one zero between them: no two documents can have an `_id`
        // of these.
        (Order::Ascending, _) if is_nan => Some(doc! { "_id": { "$gte": f64::NEG_INFINITY } }),
        (Order::Descending, _) if is_nan => None,
        (
            Order::Descending,
            Bson::Double(_) | Bson::Int32(_) | Bson::Int64(_) | Bson::Decimal128(_),
        ) => {
            // `$lt` would leave out NaN.
            Some(doc! { "_id": { "$type": "number", "$not": { "$gte": id } } })
        }
        (Order::Ascending, _) => Some(doc! { "_id": { "$gt": id } }),
        (Order::Descending, _) => Some(doc! { "_id": { "$lt": id } }),
    }
}

fn is_nan(value: &Bson) -> bool {
    match value {
        Bson::Double(number) => number.is_nan(),
        // The five bits after the sign, whatever comes after them.
        Bson::Decimal128(number) => number.bytes()[15] & 0x7C == 0x7C,
        _ => false,
    }
}

/// The types of the brackets after that of `after`.
pub(super) fn types_after(after: &DocumentId, order: Order) -> Vec<&'static str> {
    let own = type_alias(after.as_raw());
    let bracket =
        TYPE_BRACKETS.iter().position(|types| types.contains(&own)).unwrap_or(TYPE_BRACKETS.len());
    let brackets = match order {
        Order::Ascending => TYPE_BRACKETS.get(bracket + 1..),
        Order::Descending => TYPE_BRACKETS.get(..bracket),
    };
    brackets.unwrap_or_default().concat()
}

pub(super) fn known_to_ferretdb<'a>(types: &[&'a str]) -> Vec<&'a str> {
    types.iter().copied().filter(|name| FERRETDB_TYPES.contains(name)).collect()
}

pub(super) fn to_bson(id: &DocumentId) -> Bson {
    // It was checked when it became an id.
    id.as_raw().try_into().unwrap_or(Bson::Null)
}

/// The alias by which `$type` knows the type of `id`.
fn type_alias(id: RawBsonRef) -> &'static str {
    match id {
        RawBsonRef::MinKey => "minKey",
        RawBsonRef::Null => "null",
        RawBsonRef::Double(_) => "double",
        RawBsonRef::Int32(_) => "int",
        RawBsonRef::Int64(_) => "long",
        RawBsonRef::Decimal128(_) => "decimal",
        RawBsonRef::String(_) => "string",
        RawBsonRef::Symbol(_) => "symbol",
        RawBsonRef::Document(_) => "object",
        RawBsonRef::Binary(_) => "binData",
        RawBsonRef::ObjectId(_) => "objectId",
        RawBsonRef::Boolean(_) => "bool",
        RawBsonRef::DateTime(_) => "date",
        RawBsonRef::Timestamp(_) => "timestamp",
        RawBsonRef::DbPointer(_) => "dbPointer",
        RawBsonRef::JavaScriptCode(_) => "javascript",
        RawBsonRef::JavaScriptCodeWithScope(_) => "javascriptWithScope",
        RawBsonRef::MaxKey => "maxKey",
        // No `_id` can be one of these.
        RawBsonRef::Array(_) | RawBsonRef::RegularExpression(_) | RawBsonRef::Undefined => "",
    }
}

#[cfg(test)]
mod tests {
    use bson::{Decimal128, RawBson};

    use super::*;

    fn decimal(text: &str) -> RawBson {
        RawBson::Decimal128(text.parse().unwrap())
    }

    fn filter(id: RawBson, order: Order) -> Option<Filter> {
        bracket_filter(Some(&DocumentId::new(id).unwrap()), order)
    }

    #[test]
    fn nothing_is_compared_with_nan() {
        let all_numbers = doc! { "_id": { "$gte": f64::NEG_INFINITY } };
        // NaN with a sign and a payload, quiet and signalling.
        let unusual = [0x7C, 0x7E, 0xFC, 0xFE].map(|top| {
            let mut bytes = [0x11; 16];
            bytes[15] = top;
            RawBson::Decimal128(Decimal128::from_bytes(bytes))
        });
        let nans = [RawBson::Double(f64::NAN), RawBson::Double(-f64::NAN), decimal("NaN")];
        for nan in nans.into_iter().chain(unusual) {
            assert_eq!(filter(nan.clone(), Order::Ascending), Some(all_numbers.clone()), "{nan:?}");
            assert_eq!(filter(nan.clone(), Order::Descending), None, "{nan:?}");
        }
    }

    #[test]
    fn other_numbers_are_compared_and_nan_is_below_them() {
        let doubles = [f64::INFINITY, f64::NEG_INFINITY, -0.0, 1.5].map(RawBson::Double);
        let decimals = ["Infinity", "-Infinity", "-0", "0E+6000", "1.5"].map(decimal);
        for id in doubles.into_iter().chain(decimals) {
            let number = Bson::try_from(id.clone()).unwrap();
            let above = doc! { "_id": { "$gt": &number } };
            let below = doc! { "_id": { "$type": "number", "$not": { "$gte": &number } } };
            assert_eq!(filter(id.clone(), Order::Ascending), Some(above));
            assert_eq!(filter(id, Order::Descending), Some(below));
        }
    }
}

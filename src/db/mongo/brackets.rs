//! What is behind an `_id` in MongoDB's order, in MongoDB's words. A comparison there finds values of one bracket of types
//! only (numbers with numbers, strings with strings); the brackets behind it have to be asked for by type. Each of the two
//! filters is one scan of the `_id` index.

use bson::{Bson, Document as Filter, RawBsonRef, doc};

use crate::db::Order;
use crate::document::DocumentId;

/// The types that an `_id` can have, in MongoDB's comparison order; those on one line compare by value with each other.
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

/// What finds the documents behind `after` whose `_id` is of the same bracket of types: MongoDB compares within one
/// bracket only. None where nothing else can be in it.
pub(super) fn bracket_filter(after: Option<&DocumentId>, order: Order) -> Option<Filter> {
    let Some(after) = after else {
        return Some(Filter::new());
    };
    let id = to_bson(after);
    let is_nan = matches!(id, Bson::Double(number) if number.is_nan());
    match (order, &id) {
        // Nothing is beside it in its bracket, and a comparison with MinKey or MaxKey would leave the bracket.
        (_, Bson::MinKey | Bson::Null | Bson::MaxKey) => None,
        // NaN is below every number in the index, but compares with none.
        (Order::Ascending, _) if is_nan => Some(doc! { "_id": { "$gte": f64::NEG_INFINITY } }),
        (Order::Descending, _) if is_nan => None,
        (Order::Descending, Bson::Double(_) | Bson::Int32(_) | Bson::Int64(_) | Bson::Decimal128(_)) => {
            // `$lt` would leave out NaN.
            Some(doc! { "_id": { "$type": "number", "$not": { "$gte": id } } })
        }
        (Order::Ascending, _) => Some(doc! { "_id": { "$gt": id } }),
        (Order::Descending, _) => Some(doc! { "_id": { "$lt": id } }),
    }
}

/// The types of the brackets behind that of `after`.
pub(super) fn types_behind(after: &DocumentId, order: Order) -> Vec<&'static str> {
    let own = type_alias(after.as_raw());
    let bracket = TYPE_BRACKETS.iter().position(|types| types.contains(&own)).unwrap_or(TYPE_BRACKETS.len());
    let behind = match order {
        Order::Ascending => TYPE_BRACKETS.get(bracket + 1..),
        Order::Descending => TYPE_BRACKETS.get(..bracket),
    };
    behind.unwrap_or_default().concat()
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

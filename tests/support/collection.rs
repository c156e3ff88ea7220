//! A collection as MongoDB would answer for it, for what FerretDB cannot store: decimals, MinKey
//! and such. It knows the queries that are made for pages and look-ups, and no others.

use std::cmp::Ordering;

use bson::{Bson, Document, doc};

/// Documents in MongoDB's order of their `_id`s.
pub struct Collection {
    documents: Vec<Document>,
    /// It has a collation that does.
    pub ignores_case: bool,
}

impl Collection {
    pub fn of_ids(ids: &[Bson]) -> Self {
        Self {
            documents: ids.iter().map(|id| doc! { "_id": id.clone() }).collect(),
            ignores_case: false,
        }
    }

    /// The answer to a `find`.
    pub fn find(&self, command: &Document) -> Document {
        let filter = command.get_document("filter").unwrap();
        let matches = |document: &&Document| match filter.get("_id") {
            None => filter.is_empty(),
            Some(Bson::Document(condition)) => self.holds(condition, &document["_id"]),
            other => panic!("{other:?}"),
        };
        let mut found: Vec<Document> = self.documents.iter().filter(matches).cloned().collect();
        if command.get_document("sort").is_ok_and(|sort| sort["_id"] == Bson::Int32(-1)) {
            found.reverse();
        }
        let number = |name: &str| command.get(name).and_then(number).map(|number| number as usize);
        let found = found
            .into_iter()
            .skip(number("skip").unwrap_or(0))
            .take(number("limit").unwrap_or(usize::MAX));
        let name =
            format!("{}.{}", command.get_str("$db").unwrap(), command.get_str("find").unwrap());
        let batch: Vec<_> = found.collect();
        doc! { "ok": 1, "cursor": { "id": 0_i64, "ns": name, "firstBatch": batch } }
    }

    fn holds(&self, condition: &Document, id: &Bson) -> bool {
        condition.iter().all(|(operator, operand)| match (operator.as_str(), operand) {
            ("$eq", other) => self.compare(id, other) == Some(Ordering::Equal),
            ("$gt", other) => self.compare(id, other) == Some(Ordering::Greater),
            ("$gte", other) => self.compare(id, other).is_some_and(Ordering::is_ge),
            ("$lt", other) => self.compare(id, other) == Some(Ordering::Less),
            ("$in", Bson::Array(others)) => {
                others.iter().any(|other| self.compare(id, other) == Some(Ordering::Equal))
            }
            ("$type", Bson::Array(names)) => {
                names.iter().any(|name| is_of_type(id, name.as_str().unwrap()))
            }
            ("$type", Bson::String(name)) => is_of_type(id, name),
            ("$not", Bson::Document(condition)) => !self.holds(condition, id),
            other => panic!("{other:?}"),
        })
    }

    /// As a query compares: only values of one bracket of types, and NaN only with itself.
    fn compare(&self, one: &Bson, other: &Bson) -> Option<Ordering> {
        match (one, other, number(one), number(other)) {
            (.., Some(one), Some(other)) if one.is_nan() && other.is_nan() => Some(Ordering::Equal),
            (.., Some(one), Some(other)) => one.partial_cmp(&other),
            (Bson::String(one), Bson::String(other), ..) if self.ignores_case => {
                Some(one.to_lowercase().cmp(&other.to_lowercase()))
            }
            (Bson::String(one), Bson::String(other), ..) => Some(one.cmp(other)),
            (Bson::Boolean(one), Bson::Boolean(other), ..) => Some(one.cmp(other)),
            (Bson::Document(_), Bson::Document(_), ..) => {
                // As text an int32 is an int64.
                let place = |id: &Bson| {
                    self.documents
                        .iter()
                        .position(|document| document["_id"].to_string() == id.to_string())
                };
                Some(place(one)?.cmp(&place(other)?))
            }
            _ if one == other => Some(Ordering::Equal),
            _ => None,
        }
    }
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        Bson::Decimal128(number) => Some(number.to_string().parse().unwrap()),
        _ => None,
    }
}

fn is_of_type(value: &Bson, name: &str) -> bool {
    match name {
        "number" | "double" | "int" | "long" | "decimal" => {
            number(value).is_some() && (name == "number" || name == type_of(value))
        }
        name => name == type_of(value),
    }
}

fn type_of(value: &Bson) -> &'static str {
    match value {
        Bson::MinKey => "minKey",
        Bson::Null => "null",
        Bson::Double(_) => "double",
        Bson::Int32(_) => "int",
        Bson::Int64(_) => "long",
        Bson::Decimal128(_) => "decimal",
        Bson::String(_) => "string",
        Bson::Document(_) => "object",
        Bson::Boolean(_) => "bool",
        Bson::MaxKey => "maxKey",
        other => panic!("{other:?}"),
    }
}

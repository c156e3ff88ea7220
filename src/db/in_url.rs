//! Whether a client can give an `_id` back in a URL. What others have stored can be too long for
//! that, and there are values that Extended JSON has no words for, such as an object that looks
//! like one of its types.

use bson::{RawBsonRef, RawDocument};

use crate::document::DocumentId;
use crate::{json, percent};

pub(super) fn fits(id: &DocumentId) -> bool {
    let text = json::write_id(id);
    percent::encode(&text).len() <= DocumentId::MAX_BYTES_IN_URL
        && json::parse_id(&text).is_ok_and(|read| is_same(read.as_raw(), id.as_raw()))
}

/// Whether `read` is `stored` but for what relaxed Extended JSON does not keep, and what means
/// nothing to the database: an int64 that fits into an int32, and the payload of a NaN.
fn is_same(read: RawBsonRef<'_>, stored: RawBsonRef<'_>) -> bool {
    match (read, stored) {
        (RawBsonRef::Int32(read), RawBsonRef::Int64(stored)) => i64::from(read) == stored,
        (RawBsonRef::Double(read), RawBsonRef::Double(stored)) => {
            read == stored || (read.is_nan() && stored.is_nan())
        }
        (RawBsonRef::Document(read), RawBsonRef::Document(stored)) => {
            have_same_fields(read, stored)
        }
        (RawBsonRef::Array(read), RawBsonRef::Array(stored)) => {
            let fields = (
                RawDocument::from_bytes(read.as_bytes()),
                RawDocument::from_bytes(stored.as_bytes()),
            );
            matches!(fields, (Ok(read), Ok(stored)) if have_same_fields(read, stored))
        }
        (
            RawBsonRef::JavaScriptCodeWithScope(read),
            RawBsonRef::JavaScriptCodeWithScope(stored),
        ) => read.code == stored.code && have_same_fields(read.scope, stored.scope),
        (read, stored) => read == stored,
    }
}

fn have_same_fields(read: &RawDocument, stored: &RawDocument) -> bool {
    let (mut read, mut stored) = (read.iter(), stored.iter());
    loop {
        match (read.next(), stored.next()) {
            (None, None) => return true,
            (Some(Ok((key, read))), Some(Ok((stored_key, stored))))
                if key == stored_key && is_same(read, stored) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, RawBson, rawdoc};

    use super::*;

    fn does_fit(id: RawBson) -> bool {
        fits(&DocumentId::stored(id.as_raw_bson_ref()))
    }

    #[test]
    fn what_reads_back_fits() {
        let decimal: bson::Decimal128 = "1.5".parse().unwrap();
        let date = DateTime::from_millis(0);
        for id in [
            RawBson::Int64(5),
            RawBson::Double(f64::NAN),
            RawBson::Double(-0.0),
            RawBson::Decimal128(decimal),
            RawBson::String("x".repeat(12_000)),
            RawBson::Document(
                rawdoc! { "long": 5_i64, "decimal": decimal, "a": [7_i64, { "b": f64::NAN }], "date": date },
            ),
        ] {
            assert!(does_fit(id.clone()), "{id:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_reads_back_as_something_else_does_not() {
        for id in [
            RawBson::String("x".repeat(13_000)),
            RawBson::String("/".repeat(5_000)),
            RawBson::Document(rawdoc! { "a": { "$date": "some day" } }),
            RawBson::Document(rawdoc! { "a": { "$date": "1970-01-01T00:00:00Z" } }),
            RawBson::Document(rawdoc! { "a": [{ "$numberInt": "5" }] }),
            RawBson::Document(rawdoc! { "a": 1, "$b": 1 }),
            RawBson::Array(bson::rawbson!([1]).as_array().unwrap().to_owned()),
        ] {
            assert!(!does_fit(id.clone()), "{id:?}");
        }
    }
}

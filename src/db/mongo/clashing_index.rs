//! Which unique index a duplicate key error is about: that of the `_id`, or another.

use crate::db::Refusal;
use crate::document::Document;

/// The index that a duplicate key error is about.
pub(super) enum ClashingIndex {
    Id,
    Named(String),
    /// The server does not say.
    Unknown,
}

impl ClashingIndex {
    /// Of the error's text, since the driver passes on no `keyPattern`: `E11000 duplicate key error
    /// collection: NAMESPACE index: NAME dup key: { KEY }`. Only what stands where the name does
    /// counts; a key may be any text.
    pub(super) fn of(message: &str, namespace: &str) -> Self {
        let rest = message
            .strip_prefix("E11000 duplicate key error collection: ")
            .and_then(|rest| rest.strip_prefix(namespace))
            .and_then(|rest| rest.strip_prefix(" index: "));
        let name = rest.and_then(|rest| rest.split(" dup key: ").next());
        // The index may have a collation, which stands between the two.
        let name = name.map(|name| name.split(" collation: ").next().unwrap_or(name));
        match name {
            Some("_id_") => Self::Id,
            Some(name) => Self::Named(name.to_owned()),
            None => Self::Unknown,
        }
    }

    pub(super) fn refusal(self, document: &Document) -> Refusal {
        match self {
            Self::Id => Refusal::Exists(document.id()),
            Self::Named(name) => Refusal::Conflict(format!(
                "The unique index {name} of the collection forbids it: another document has the same key."
            )),
            Self::Unknown => Refusal::Conflict(
                "A unique index of the collection forbids it: another document has the same key."
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clashing_index_is_read_from_its_place() {
        let of = |rest: &str| match ClashingIndex::of(
            &format!("E11000 duplicate key error collection: db.a index: b{rest}"),
            "db.a index: b",
        ) {
            ClashingIndex::Id => "the _id's".to_owned(),
            ClashingIndex::Named(name) => name,
            ClashingIndex::Unknown => "unknown".to_owned(),
        };
        for (rest, index) in [
            (" index: _id_ dup key: { _id: 1 }", "the _id's"),
            (" index: _id_ collation: { locale: \"de\" } dup key: { _id: \"0x1\" }", "the _id's"),
            (" index: email_1 dup key: { email: \" index: _id_ dup key: \" }", "email_1"),
            (" index: _id_1 dup key: { _id.a: 1 }", "_id_1"),
            // A clustered collection, FerretDB, and another collection.
            (" dup key: { _id: \" index: _id_ dup key: \" }", "unknown"),
            ("", "unknown"),
            ("c index: _id_ dup key: { _id: 1 }", "unknown"),
        ] {
            assert_eq!(of(rest), index, "{rest}");
        }
    }
}

//! A document and its `_id`, held as raw BSON: what travels between the routes and the stores.
//!
//! May touch: `bson` only. Knows neither JSON nor HTTP nor a store.

use std::fmt;
use std::hash::{Hash, Hasher};

use bson::oid::ObjectId;
use bson::raw::{RawElement, cstr};
use bson::spec::ElementType;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

/// The `_id` of a document: one BSON value that MongoDB takes as an `_id`. Two are equal if they
/// are the same BSON, byte by byte.
#[derive(Clone, Debug)]
pub(crate) struct DocumentId(RawBson);

impl DocumentId {
    /// Of the BSON value of an `_id` that is to be stored: it stands in `Location` and `after`, and
    /// a request's head is limited. What others have stored in the database may be longer.
    pub(crate) const MAX_BYTES: usize = 1024;
    /// Of what stands for it in a URL, percent-encoded: a request's head has 16 KiB, and more in it
    /// than that.
    pub(crate) const MAX_BYTES_IN_URL: usize = 12 * 1024;

    pub(crate) fn new(value: RawBson) -> Result<Self, InvalidId> {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), value.as_raw_bson_ref());
        check_first_element(&document)?;
        Ok(Self(value))
    }

    /// The `_id` of a document in a database, which whoever stored it there has chosen.
    pub(crate) fn stored(value: RawBsonRef<'_>) -> Self {
        Self(value.into())
    }

    pub(crate) fn as_raw(&self) -> RawBsonRef<'_> {
        self.0.as_raw_bson_ref()
    }

    fn encoded(&self) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!(""), self.as_raw());
        document
    }
}

impl PartialEq for DocumentId {
    fn eq(&self, other: &Self) -> bool {
        self.encoded().as_bytes() == other.encoded().as_bytes()
    }
}

impl Eq for DocumentId {}

impl Hash for DocumentId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.encoded().as_bytes().hash(state);
    }
}

impl From<ObjectId> for DocumentId {
    fn from(id: ObjectId) -> Self {
        Self(RawBson::ObjectId(id))
    }
}

/// Where the `_id`'s value is in a document: after the length, a type and the key.
const ID_VALUE: usize = 4 + 1 + b"_id\0".len();

/// Raw BSON whose first element is its `_id`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Document {
    raw: RawDocumentBuf,
    id_is_generated: bool,
}

impl Document {
    /// MongoDB's limit.
    pub(crate) const MAX_BYTES: usize = 16 * 1024 * 1024;

    /// `raw` begins with its `_id`; `id_is_generated`: the client gave none.
    pub(crate) fn new(raw: RawDocumentBuf, id_is_generated: bool) -> Result<Self, InvalidId> {
        match check_first_element(&raw)? {
            size if size > DocumentId::MAX_BYTES => Err(InvalidId::TooLong(size)),
            _ => Ok(Self { raw, id_is_generated }),
        }
    }

    pub(crate) fn id(&self) -> DocumentId {
        match self.raw.iter().next() {
            Some(Ok((_, id))) => DocumentId(id.into()),
            _ => unreachable!("Document::new has read the same bytes"),
        }
    }

    pub(crate) fn id_is_generated(&self) -> bool {
        self.id_is_generated
    }

    /// The `_id`, where it was generated.
    pub(crate) fn generated_id(&self) -> Option<ObjectId> {
        match self.id().as_raw() {
            RawBsonRef::ObjectId(id) if self.id_is_generated => Some(id),
            _ => None,
        }
    }

    /// The same document under another generated `_id`; none if it has one of the client's.
    pub(crate) fn with_generated_id(&self, id: ObjectId) -> Option<Self> {
        self.generated_id()?;
        let mut bytes = self.raw.as_bytes().to_vec();
        bytes[ID_VALUE..ID_VALUE + id.bytes().len()].copy_from_slice(&id.bytes());
        let raw = RawDocumentBuf::from_bytes(bytes).ok()?;
        Some(Self { raw, id_is_generated: true })
    }

    pub(crate) fn raw(&self) -> &RawDocumentBuf {
        &self.raw
    }
}

/// Why a value is no `_id`. Displays as a sentence for the client.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum InvalidId {
    Array,
    RegularExpression,
    Undefined,
    DollarKey,
    TooLong(usize),
    /// The document does not begin with an `_id` that can be read.
    Missing,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Array => "an _id cannot be an array",
            Self::RegularExpression => "an _id cannot be a regular expression",
            Self::Undefined => "an _id cannot be undefined",
            Self::DollarKey => "an _id that is an object cannot have a key that begins with $",
            Self::TooLong(bytes) => {
                let limit = DocumentId::MAX_BYTES;
                return write!(
                    formatter,
                    "an _id takes at most {limit} bytes of BSON, this one has {bytes}"
                );
            }
            Self::Missing => "the document does not begin with a valid _id",
        })
    }
}

/// The size of the `_id`.
fn check_first_element(document: &RawDocument) -> Result<usize, InvalidId> {
    match document.iter_elements().next() {
        Some(Ok(element)) if element.key().as_str() == "_id" => {
            check_id(&element).map(|()| element.size())
        }
        _ => Err(InvalidId::Missing),
    }
}

fn check_id(element: &RawElement<'_>) -> Result<(), InvalidId> {
    match element.element_type() {
        ElementType::ObjectId => return Ok(()),
        ElementType::Array => return Err(InvalidId::Array),
        ElementType::RegularExpression => return Err(InvalidId::RegularExpression),
        ElementType::Undefined => return Err(InvalidId::Undefined),
        _ => {}
    }
    let Ok(value) = element.value() else {
        return Err(InvalidId::Missing);
    };
    if let RawBsonRef::Document(object) = value {
        for field in object.iter_elements() {
            let field = field.map_err(|_| InvalidId::Missing)?;
            if field.key().as_str().starts_with('$') {
                return Err(InvalidId::DollarKey);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn what_mongodb_takes_as_an_id_is_one() {
        for id in [
            RawBson::Null,
            RawBson::Int32(1),
            RawBson::MinKey,
            RawBson::String(String::new()),
            RawBson::Document(rawdoc! { "a": { "$b": 1 } }),
        ] {
            assert_eq!(DocumentId::new(id.clone()).map(|id| id.0), Ok(id));
        }
    }

    #[test]
    fn what_mongodb_refuses_as_an_id_is_refused() {
        let regex = bson::Regex { pattern: cstr!("a").into(), options: cstr!("").into() };
        for (value, reason) in [
            (RawBson::Array(bson::RawArrayBuf::new()), InvalidId::Array),
            (RawBson::RegularExpression(regex), InvalidId::RegularExpression),
            (RawBson::Undefined, InvalidId::Undefined),
            (RawBson::Document(rawdoc! { "a": 1, "$b": 1 }), InvalidId::DollarKey),
        ] {
            assert_eq!(DocumentId::new(value), Err(reason));
        }
    }

    #[test]
    fn an_id_that_is_to_be_stored_has_at_most_1024_bytes() {
        // The length of a string takes 4 bytes, its end 1.
        let longest = "x".repeat(DocumentId::MAX_BYTES - 5);
        assert!(Document::new(rawdoc! { "_id": longest.as_str() }, false).is_ok());
        let longer = longest + "x";
        assert_eq!(
            Document::new(rawdoc! { "_id": longer.as_str() }, false),
            Err(InvalidId::TooLong(1025))
        );
        assert!(DocumentId::new(RawBson::String(longer)).is_ok());
    }

    #[test]
    fn generated_id_is_all_that_is_replaced() {
        let (taken, id) = (ObjectId::from_bytes([1; 12]), ObjectId::from_bytes([2; 12]));
        let document =
            Document::new(rawdoc! { "_id": taken, "a": { "b": [1, "c"] } }, true).unwrap();
        let renewed = document.with_generated_id(id).unwrap();
        assert_eq!(renewed.raw(), &rawdoc! { "_id": id, "a": { "b": [1, "c"] } });
        assert_eq!(renewed.generated_id(), Some(id));
        let own = Document::new(rawdoc! { "_id": taken }, false).unwrap();
        assert_eq!(own.with_generated_id(id), None);
    }

    #[test]
    fn a_document_begins_with_its_id() {
        let document = Document::new(rawdoc! { "_id": "a", "b": 1 }, false).unwrap();
        assert_eq!(document.id().as_raw(), RawBsonRef::String("a"));
        for raw in [rawdoc! {}, rawdoc! { "b": 1, "_id": "a" }] {
            assert_eq!(Document::new(raw, false), Err(InvalidId::Missing));
        }
        let damaged = RawDocumentBuf::from_bytes(b"\x0b\0\0\0\x08_id\0\x02\0".to_vec()).unwrap();
        assert_eq!(Document::new(damaged, false), Err(InvalidId::Missing));
    }
}

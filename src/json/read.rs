//! JSON -> raw BSON in one pass: serde_json calls the visitors, they append to one buffer and patch
//! lengths and types.

use std::fmt;

use bson::spec::ElementType;
use bson::{RawBson, RawDocument, RawDocumentBuf};
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::de::SliceRead;

use super::builder::{Builder, Object};
use super::error::{self, JsonErrorKind};
use super::extended;
use super::value::{Key, Value};
use super::{Documents, JsonError, write};
use crate::document::{Document, DocumentId};
use crate::object_id;
use crate::percent;

/// In one array. Documents can be as short as `{}`, and each costs far more memory than those two
/// bytes.
const MAX_DOCUMENTS: usize = 10_000;

type Json<'de> = serde_json::Deserializer<SliceRead<'de>>;

pub(super) fn documents(json: &[u8]) -> Result<Documents, JsonError> {
    read(json, |reader, builder| reader.deserialize_any(Body(builder)))
}

pub(super) fn document(json: &[u8]) -> Result<Document, JsonError> {
    read(json, |reader, builder| One { builder, index: None }.deserialize(reader))
}

/// A value of any type. `None`: this is not JSON at all.
pub(super) fn value(json: &[u8]) -> Result<Option<RawBson>, JsonError> {
    let result = read(json, |reader, builder| {
        let start = builder.begin_document();
        let tag = builder.begin_element(b"");
        Value { builder, tag, depth: 2, in_type: false }.deserialize(reader)?;
        builder.end_document(start);
        let document = RawDocument::from_bytes(&builder.bson).map_err(Error::custom)?;
        match document.iter().next() {
            Some(value) => value.map(|(_, value)| value.into()).map_err(Error::custom),
            None => Err(Error::custom("there is no value")),
        }
    });
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == JsonErrorKind::Syntax => Ok(None),
        Err(error) => Err(error),
    }
}

fn read<'de, T>(
    json: &'de [u8],
    parse: impl FnOnce(&mut Json<'de>, &mut Builder) -> serde_json::Result<T>,
) -> Result<T, JsonError> {
    let mut builder = Builder::default();
    builder.expected_size = json.len().min(512);
    let mut reader = Json::from_slice(json);
    let result = parse(&mut reader, &mut builder).and_then(|value| reader.end().map(|()| value));
    let value = result.map_err(|error| match builder.too_large.take() {
        Some(error) => error,
        None => error::explain(&error, json),
    })?;
    if builder.has_large_double
        && let Some(error) = error::find_large_integer(json)
    {
        return Err(error);
    }
    Ok(value)
}

/// A body: one document or an array of them.
struct Body<'b>(&'b mut Builder);

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Documents;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a document (a JSON object) or an array of documents")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Documents, A::Error> {
        One { builder: self.0, index: None }.visit_map(map).map(Documents::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Documents, A::Error> {
        let mut documents = Vec::new();
        while let Some(document) = elements
            .next_element_seed(One { builder: &mut *self.0, index: Some(documents.len()) })?
        {
            if documents.len() == MAX_DOCUMENTS {
                self.0.too_large = Some(error::too_many_documents(MAX_DOCUMENTS));
                return Err(Error::custom("too many documents"));
            }
            documents.push(document);
        }
        if documents.is_empty() {
            return Err(Error::custom("the array is empty, send at least one document"));
        }
        Ok(Documents::Many(documents))
    }
}

/// One document; `index`: where it stands in an array.
struct One<'b> {
    builder: &'b mut Builder,
    index: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Document;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Document, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Document;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a document (a JSON object)")?;
        match self.index {
            Some(index) => write!(formatter, " at index {index} of the array"),
            None => Ok(()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let Self { builder, index } = self;
        builder.bson.reserve(builder.expected_size + GENERATED_ID_SIZE);
        let start = builder.begin_document();
        let object = Object::new(builder);
        let mut id = None;
        while let Some(key) = map.next_key_seed(Key)? {
            if object.is_empty(builder) && extended::is_type_key(&key) {
                return Err(Error::custom(format_args!(
                    "the object is an Extended JSON {key}, not a document"
                )));
            }
            let is_id = key == "_id";
            let tag = object.begin_field(builder, &key)?;
            map.next_value_seed(Value { builder, tag, depth: 2, in_type: false })?;
            if is_id {
                id = Some(tag..builder.bson.len());
            }
        }
        object.end(builder)?;
        const FIRST: usize = 4;
        match &id {
            Some(id) => builder.bson[FIRST..id.end].rotate_right(id.len()),
            None => drop(builder.bson.splice(FIRST..FIRST, generated_id())),
        }
        builder.end_document(start);
        let bson = std::mem::take(&mut builder.bson);
        builder.expected_size = bson.len();
        if bson.len() > Document::MAX_BYTES {
            builder.too_large = Some(error::too_large(bson.len(), index));
            return Err(Error::custom("too large"));
        }
        let bson = RawDocumentBuf::from_bytes(bson).map_err(Error::custom)?;
        if let Some(ElementType::EmbeddedDocument | ElementType::JavaScriptCodeWithScope) =
            ElementType::from(bson.as_bytes()[FIRST])
        {
            check_id_in_url(&bson).map_err(Error::custom)?;
        }
        Document::new(bson, id.is_none()).map_err(Error::custom)
    }
}

/// An object or a scope can be so much longer in JSON than in BSON that no URL could name it; any
/// other `_id` that is short enough in BSON is short enough there as well.
fn check_id_in_url(document: &RawDocumentBuf) -> Result<(), String> {
    const MAX: usize = DocumentId::MAX_BYTES_IN_URL;
    let mut json = Vec::new();
    write::first_value(document.as_bytes(), &mut json).map_err(|error| error.to_string())?;
    match percent::encode(&String::from_utf8_lossy(&json)).len() {
        length if length > MAX => {
            Err(format!("an _id takes at most {MAX} bytes in a URL; this one has {length}"))
        }
        _ => Ok(()),
    }
}

const GENERATED_ID_SIZE: usize = 1 + 4 + 12;

fn generated_id() -> [u8; GENERATED_ID_SIZE] {
    let mut element = *b"\x07_id\0            ";
    element[5..].copy_from_slice(&object_id::generate().bytes());
    element
}

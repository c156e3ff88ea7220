//! JSON -> raw BSON in one pass: serde_json calls the visitors, they append to one buffer and patch
//! lengths and types.
//!
//! bson could do this through serde, but takes 1.6 to 3.8 times as long from JSON to raw BSON (as
//! long where one string or binary is all there is). It also keeps the last of two equal keys,
//! reads integers beyond 64 bits as doubles, and does not know the older forms of binary data and
//! regular expressions.

use std::borrow::Cow;
use std::fmt;

use bson::spec::ElementType;
use bson::{RawBson, RawDocument, RawDocumentBuf};
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::de::SliceRead;

use super::builder::{self, Builder, Object, append_string};
use super::error::{self, JsonError, JsonErrorKind};
use super::write;
use crate::document::{Document, DocumentId};
use crate::object_id;
use crate::percent;

/// What a request's body holds.
#[derive(Debug)]
pub(crate) enum Documents {
    One(Document),
    Many(Vec<Document>),
}

/// The most levels of documents and arrays in a document: MongoDB's own limit, and what a small
/// stack can hold.
const MAX_DEPTH: usize = 100;
/// `{"$dbPointer":{"$id":{"$oid":…}}}` is three objects in JSON and none in BSON. What is deeper
/// than that need not be read to be refused.
const LEVELS_IN_A_TYPE: usize = 3;
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
            if object.is_empty(builder) && builder::is_type_key(&key) {
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

/// A value of any type, for the element whose type byte is at `tag`.
struct Value<'b> {
    builder: &'b mut Builder,
    tag: usize,
    /// The level that a document or array here would have; the whole document's is 1.
    depth: usize,
    /// It stands inside an object that is a BSON type, so an object here makes no level of BSON.
    in_type: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.put(ElementType::Null, [])
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(ElementType::Boolean, [u8::from(value)])
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        match i32::try_from(value) {
            Ok(value) => self.put(ElementType::Int32, value.to_le_bytes()),
            Err(_) => self.put(ElementType::Int64, value.to_le_bytes()),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::custom(error::large_integer(&value.to_string()))),
        }
    }

    /// Also what serde_json makes of an integer beyond 64 bits, which is then found in the text;
    /// and of `-0`, which no BSON integer holds.
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        const BEYOND_64_BITS: f64 = i64::MAX as f64;
        if value.abs() >= BEYOND_64_BITS {
            self.builder.has_large_double = true;
        }
        self.put(ElementType::Double, value.to_le_bytes())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.builder.bson[self.tag] = ElementType::String as u8;
        append_string(value, &mut self.builder.bson);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { builder, tag, depth, in_type } = self;
        if depth > MAX_DEPTH + LEVELS_IN_A_TYPE {
            return Err(Error::custom(too_deep()));
        }
        builder.bson[tag] = ElementType::EmbeddedDocument as u8;
        let start = builder.begin_document();
        let object = Object::new(builder);
        let mut may_be_type = false;
        while let Some(key) = map.next_key_seed(Key)? {
            may_be_type |= builder::may_be_type_key(&key);
            // A scope is a document, and the object around it counts too: the types in it need room
            // below the limit.
            let in_type = builder::is_type_key(&key) && key != "$scope";
            let tag = object.begin_field(builder, &key)?;
            map.next_value_seed(Value { builder, tag, depth: depth + 1, in_type })?;
        }
        object.end(builder)?;
        builder.end_document(start);
        let is_type = may_be_type && builder.convert(tag, start).map_err(Error::custom)?;
        if depth > MAX_DEPTH && !is_type && !in_type {
            return Err(Error::custom(too_deep()));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { builder, tag, depth, .. } = self;
        if depth > MAX_DEPTH {
            return Err(Error::custom(too_deep()));
        }
        builder.bson[tag] = ElementType::Array as u8;
        let start = builder.begin_document();
        let mut index = 0;
        while elements
            .next_element_seed(ArrayElement { builder, index, depth: depth + 1 })?
            .is_some()
        {
            index += 1;
        }
        builder.end_document(start);
        Ok(())
    }
}

impl Value<'_> {
    fn put<const N: usize, E>(self, kind: ElementType, bytes: [u8; N]) -> Result<(), E> {
        self.builder.bson[self.tag] = kind as u8;
        self.builder.bson.extend_from_slice(&bytes);
        Ok(())
    }
}

fn too_deep() -> String {
    format!("the document is nested deeper than {MAX_DEPTH} levels")
}

/// A value in an array: its key can be written only when it is known that there is one more.
struct ArrayElement<'b> {
    builder: &'b mut Builder,
    index: usize,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for ArrayElement<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { builder, index, depth } = self;
        let tag = builder.bson.len();
        builder.bson.push(0);
        write::number(index, &mut builder.bson);
        builder.bson.push(0);
        deserializer.deserialize_any(Value { builder, tag, depth, in_type: false })
    }
}

/// A key, borrowed from the JSON unless it has escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.into()))
    }
}

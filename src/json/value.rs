//! One JSON value of any type -> one BSON element, and all that is nested in it.

use std::borrow::Cow;
use std::fmt;

use bson::spec::ElementType;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::builder::{Builder, Object};
use super::extended::{self, append_string};
use super::{MAX_DEPTH, error, scalar};

/// `{"$dbPointer":{"$id":{"$oid":…}}}` is three objects in JSON and none in BSON. What is deeper
/// than that need not be read to be refused.
const LEVELS_IN_A_TYPE: usize = 3;

/// A value of any type, for the element whose type byte is at `tag`.
pub(super) struct Value<'b> {
    pub(super) builder: &'b mut Builder,
    pub(super) tag: usize,
    /// The level that a document or array here would have; the whole document's is 1.
    pub(super) depth: usize,
    /// It stands inside an object that is a BSON type, so an object here makes no level of BSON.
    pub(super) in_type: bool,
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
            may_be_type |= extended::may_be_type_key(&key);
            // A scope is a document, and the object around it counts too: the types in it need room
            // below the limit.
            let in_type = extended::is_type_key(&key) && key != "$scope";
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
        scalar::number(index, &mut builder.bson);
        builder.bson.push(0);
        deserializer.deserialize_any(Value { builder, tag, depth, in_type: false })
    }
}

/// A key, borrowed from the JSON unless it has escapes.
pub(super) struct Key;

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

//! The BSON that grows while JSON is read.

use std::borrow::Cow;
use std::collections::HashSet;

use bson::RawDocument;
use serde::de::Error;

use super::failure::shortened;
use super::{JsonError, extended};

/// The BSON so far, and what is known about it.
#[derive(Default)]
pub(super) struct Builder<'de> {
    pub(super) bson: Vec<u8>,
    /// The keys of the objects that are open, the innermost object's last.
    keys: Vec<Cow<'de, str>>,
    converted: Vec<u8>,
    /// Of the next document: documents in an array are often of one kind.
    pub(super) expected_size: usize,
    pub(super) has_large_double: bool,
    /// serde's errors have no room for a kind.
    pub(super) too_large: Option<JsonError>,
}

impl Builder<'_> {
    pub(super) fn begin_document(&mut self) -> usize {
        self.bson.extend_from_slice(&[0; 4]);
        self.bson.len() - 4
    }

    pub(super) fn end_document(&mut self, start: usize) {
        self.bson.push(0);
        let length = length(self.bson.len() - start);
        self.bson[start..start + 4].copy_from_slice(&length);
    }

    /// Returns where the type byte stands: the value sets it.
    pub(super) fn begin_element(&mut self, key: &[u8]) -> usize {
        let tag = self.bson.len();
        self.bson.push(0);
        self.bson.extend_from_slice(key);
        self.bson.push(0);
        tag
    }

    /// Puts the BSON type in the place of the document from `start` that stands for it. `false`: it is just a document.
    pub(super) fn convert(&mut self, tag: usize, start: usize) -> Result<bool, String> {
        let document = RawDocument::from_bytes(&self.bson[start..]).map_err(|error| error.to_string())?;
        self.converted.clear();
        let Some(kind) = extended::convert(document, &mut self.converted)? else {
            return Ok(false);
        };
        self.bson[tag] = kind as u8;
        self.bson.truncate(start);
        self.bson.extend_from_slice(&self.converted);
        Ok(true)
    }
}

/// A length as BSON has it. What is longer than 2 GiB is refused as too large in the end, whatever stands here.
pub(super) fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_le_bytes()
}

/// An object that is open: finds its duplicate keys. Few keys are compared one by one, many have a set.
pub(super) struct Object<'de> {
    first_key: usize,
    set: Option<HashSet<Cow<'de, str>>>,
}

impl<'de> Object<'de> {
    const FEW: usize = 16;

    pub(super) fn new(builder: &Builder<'de>) -> Self {
        Self { first_key: builder.keys.len(), set: None }
    }

    pub(super) fn is_empty(&self, builder: &Builder<'de>) -> bool {
        builder.keys.len() == self.first_key
    }

    pub(super) fn begin_field<E: Error>(&mut self, builder: &mut Builder<'de>, key: Cow<'de, str>) -> Result<usize, E> {
        if key.as_bytes().contains(&0) {
            return Err(E::custom(format_args!("the key {:?} has a NUL, which BSON cannot hold", shortened(&key))));
        }
        let keys = &builder.keys[self.first_key..];
        let is_duplicate = if keys.len() < Self::FEW {
            keys.contains(&key)
        } else {
            let set = self.set.get_or_insert_with(|| keys.iter().cloned().collect());
            !set.insert(key.clone())
        };
        if is_duplicate {
            return Err(E::custom(format_args!("the key {:?} is there twice", shortened(&key))));
        }
        let tag = builder.begin_element(key.as_bytes());
        builder.keys.push(key);
        Ok(tag)
    }

    pub(super) fn end(self, builder: &mut Builder<'de>) {
        builder.keys.truncate(self.first_key);
    }
}

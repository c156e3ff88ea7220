//! The BSON that grows while JSON is read.

use bson::RawDocument;
use serde::de::Error;

use super::error::{JsonError, shortened};
use super::extended;

/// The BSON so far, and what is known about it.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) bson: Vec<u8>,
    /// Where in `bson` the keys of the objects that are open begin, the innermost object's last. A
    /// body is shorter than 4 GiB.
    keys: Vec<u32>,
    converted: Vec<u8>,
    /// Of the next document: documents in an array are often of one kind.
    pub(super) expected_size: usize,
    pub(super) has_large_double: bool,
    /// serde's errors have no room for a kind.
    pub(super) too_large: Option<JsonError>,
}

impl Builder {
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

    /// Puts the BSON type in the place of the document from `start` that stands for it. `false`: it
    /// is just a document.
    pub(super) fn convert(&mut self, tag: usize, start: usize) -> Result<bool, String> {
        let document =
            RawDocument::from_bytes(&self.bson[start..]).map_err(|error| error.to_string())?;
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

/// A length as BSON has it. What is longer than 2 GiB is refused as too large in the end, whatever
/// stands here.
pub(super) fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_le_bytes()
}

/// An object that is open: finds its duplicate keys. Few keys are compared as they come. Many are
/// sorted at the end: a set of them would take ten times the memory.
pub(super) struct Object {
    first_key: usize,
}

impl Object {
    const FEW: usize = 16;

    pub(super) fn new(builder: &Builder) -> Self {
        Self { first_key: builder.keys.len() }
    }

    pub(super) fn is_empty(&self, builder: &Builder) -> bool {
        builder.keys.len() == self.first_key
    }

    pub(super) fn begin_field<E: Error>(
        &self,
        builder: &mut Builder,
        key: &str,
    ) -> Result<usize, E> {
        if key.as_bytes().contains(&0) {
            return Err(E::custom(format_args!(
                "the key {:?} has a NUL, which BSON cannot hold",
                shortened(key)
            )));
        }
        let keys = &builder.keys[self.first_key..];
        if keys.len() < Self::FEW
            && keys.iter().any(|&other| key_at(&builder.bson, other) == key.as_bytes())
        {
            return Err(duplicate(key));
        }
        let tag = builder.begin_element(key.as_bytes());
        builder.keys.push(tag as u32 + 1);
        Ok(tag)
    }

    pub(super) fn end<E: Error>(self, builder: &mut Builder) -> Result<(), E> {
        let Builder { bson, keys, .. } = builder;
        if keys.len() - self.first_key > Self::FEW {
            let keys = &mut keys[self.first_key..];
            keys.sort_unstable_by_key(|&key| key_at(bson, key));
            let mut pairs =
                keys.windows(2).map(|pair| (key_at(bson, pair[0]), key_at(bson, pair[1])));
            if let Some((key, _)) = pairs.find(|(one, other)| one == other) {
                return Err(duplicate(&String::from_utf8_lossy(key)));
            }
        }
        keys.truncate(self.first_key);
        Ok(())
    }
}

/// The key that begins there, without the NUL that ends it.
fn key_at(bson: &[u8], start: u32) -> &[u8] {
    bson[start as usize..].split(|&byte| byte == 0).next().unwrap_or_default()
}

fn duplicate<E: Error>(key: &str) -> E {
    E::custom(format_args!("the key {:?} is there twice", shortened(key)))
}

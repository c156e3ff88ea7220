//! The same bytes as JSON and as BSON. What is read is written and read again, and must be the same
//! document; what the `bson` crate holds to be valid BSON must be written. Nothing panics, and
//! nothing costs more memory than a multiple of the input.
#![no_main]

mod support {
    pub mod memory;
}

use std::collections::HashSet;
use std::fmt::{Debug, Display};

use bson::raw::CStr;
use bson::{Decimal128, RawArray, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use libfuzzer_sys::fuzz_target;

use support::memory::bounded;
use two_tier::fuzzing::{self as program, Document, DocumentId, Format, MAX_ID_BYTES_IN_URL};

/// The most heap for a byte of JSON that is read: an array of the shortest documents comes nearest,
/// with 37.
const READ_FACTOR: usize = 40;
/// The most heap for a byte of BSON that is written: an array of `undefined` comes nearest, with
/// 18.
const WRITE_FACTOR: usize = 24;
/// Independent of the input: the first reservation for a document, an error's text.
const CONSTANT: usize = 4096;
/// The longest BSON whose `_id` is short enough whatever it is: each byte becomes 21 of a URL at
/// most.
const MAX_SHORT: usize = MAX_ID_BYTES_IN_URL / 24;
const MAX_DEPTH: usize = 100;

fuzz_target!(|data: &[u8]| {
    read_write_read(data);
    if let Ok(text) = std::str::from_utf8(data) {
        read_write_read_id(text);
    }
    write_read(data);
    // A length that is right more often than a mutation makes it.
    let length = i32::try_from(data.len() + 5).unwrap().to_le_bytes();
    write_read(&[&length, data, &[0]].concat());
});

fn read_write_read(json: &[u8]) {
    let documents =
        bounded(json.len(), READ_FACTOR, CONSTANT, || program::parse_documents(json).ok())
            .unwrap_or_default();
    for document in &documents {
        for format in [Format::Relaxed, Format::Canonical] {
            let json = write(document.raw(), format).expect("what was read is written");
            let again = read(&json).expect("what was written is read");
            let rules = Rules { is_foreign: false, format };
            let expected = rules.document(document.raw(), 1).expect("it was read");
            assert_eq!(again.raw(), &expected, "{}", String::from_utf8_lossy(&json));
        }
    }
    let one = bounded(json.len(), READ_FACTOR, CONSTANT, || program::parse_document(json));
    assert_eq!(one.is_ok(), documents.len() == 1 && json.trim_ascii_start().starts_with(b"{"));
}

fn read_write_read_id(text: &str) {
    let Ok(id) = bounded(text.len(), READ_FACTOR, CONSTANT, || program::parse_id(text)) else {
        return;
    };
    let written = program::write_id(&id);
    let again = program::parse_id(&written).expect("a written _id is read");
    let wrapped = |id: &DocumentId| {
        let mut document = RawDocumentBuf::new();
        document.append(bson::raw::cstr!("_id"), id.as_raw());
        document
    };
    let expected = Rules { is_foreign: false, format: Format::Relaxed }
        .document(&wrapped(&id), 1)
        .expect("it was read");
    assert_eq!(wrapped(&again), expected, "{written}");
}

fn write_read(bytes: &[u8]) {
    let Ok(raw) = RawDocument::from_bytes(bytes) else {
        return;
    };
    let Some(json) = write(raw, Format::Relaxed) else {
        assert!(bson::Document::from_reader(bytes).is_err(), "valid BSON is not written");
        return;
    };
    let document = read(&json);
    let Some(expected) = (Rules { is_foreign: true, format: Format::Relaxed }).document(raw, 1)
    else {
        return;
    };
    let id = raw.get("_id").ok().flatten();
    match document {
        Ok(document) if id.is_some() => assert_eq!(document.raw(), &expected),
        Ok(document) => {
            let mut fields = RawDocumentBuf::new();
            for field in document.raw().iter().skip(1) {
                let (key, value) = field.unwrap();
                fields.append(key, value);
            }
            assert_eq!(fields, expected);
        }
        Err(error) => {
            let id: RawBson = id.unwrap_or_else(|| panic!("{error}")).into();
            let is_long = bytes.len() > MAX_SHORT;
            assert!(
                is_long || DocumentId::new(id).is_none(),
                "{error}: {}",
                String::from_utf8_lossy(&json)
            );
        }
    }
}

fn write(raw: &RawDocument, format: Format) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    let is_written = bounded(raw.as_bytes().len(), WRITE_FACTOR, CONSTANT, || {
        program::write_document(raw, format, &mut json)
    });
    assert!(!json.contains(&b'\n'), "a document is one line of NDJSON");
    if !is_written {
        assert_eq!(json, b"");
        return None;
    }
    Some(json)
}

fn read(json: &[u8]) -> Result<Document, impl Display + Debug + use<>> {
    bounded(json.len(), READ_FACTOR, CONSTANT, || program::parse_document(json))
}

/// What a document is after it was written and read.
struct Rules {
    /// The bytes come from elsewhere: what has several forms gets the one that a reader gives it.
    is_foreign: bool,
    format: Format,
}

impl Rules {
    /// None if it has keys that no JSON can bring back: those of a BSON type, and the same one
    /// twice.
    fn document(&self, raw: &RawDocument, depth: usize) -> Option<RawDocumentBuf> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut keys = HashSet::new();
        let mut fields: Vec<(&CStr, RawBson)> = Vec::new();
        for field in raw {
            let (key, value) = field.ok()?;
            if (self.is_foreign && key.as_str().starts_with('$')) || !keys.insert(key.as_str()) {
                return None;
            }
            fields.push((key, self.value(value, depth)?));
        }
        if self.is_foreign
            && depth == 1
            && let Some(index) = fields.iter().position(|(key, _)| key.as_str() == "_id")
        {
            fields[..=index].rotate_right(1);
        }
        let mut document = RawDocumentBuf::new();
        for (key, value) in fields {
            document.append(key, value);
        }
        Some(document)
    }

    fn array(&self, raw: &RawArray, depth: usize) -> Option<RawBson> {
        let mut array = bson::RawArrayBuf::new();
        for element in raw {
            array.push(self.value(element.ok()?, depth)?);
        }
        (depth <= MAX_DEPTH).then_some(RawBson::Array(array))
    }

    fn value(&self, value: RawBsonRef<'_>, depth: usize) -> Option<RawBson> {
        Some(match value {
            RawBsonRef::Document(inner) => RawBson::Document(self.document(inner, depth + 1)?),
            RawBsonRef::Array(inner) => self.array(inner, depth + 1)?,
            RawBsonRef::JavaScriptCodeWithScope(code) => {
                // The object around it counts as a level too.
                let scope = self.document(code.scope, depth + 2)?;
                RawBson::JavaScriptCodeWithScope(bson::RawJavaScriptCodeWithScope {
                    code: code.code.into(),
                    scope,
                })
            }
            // The one thing that relaxed Extended JSON does not keep.
            RawBsonRef::Int64(long) if self.format == Format::Relaxed => {
                i32::try_from(long).map_or(RawBson::Int64(long), RawBson::Int32)
            }
            RawBsonRef::Double(double) if self.is_foreign && double.is_nan() => {
                RawBson::Double(f64::NAN)
            }
            RawBsonRef::Decimal128(decimal) if self.is_foreign => {
                RawBson::Decimal128(decimal.to_string().parse::<Decimal128>().ok()?)
            }
            // By hand, as `into` sorts the options whatever they are.
            RawBsonRef::RegularExpression(regex) => {
                let mut options = regex.options.as_str().to_owned();
                if options.is_ascii() && self.is_foreign {
                    let mut characters: Vec<char> = options.chars().collect();
                    characters.sort_unstable();
                    options = characters.into_iter().collect();
                }
                let (pattern, options) = (regex.pattern.into(), options.try_into().ok()?);
                RawBson::RegularExpression(bson::Regex { pattern, options })
            }
            other => other.into(),
        })
    }
}

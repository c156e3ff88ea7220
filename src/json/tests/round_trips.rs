//! Random documents and `_id`s come back the same, and no bytes make the module fail.

use bson::spec::BinarySubtype;
use bson::{
    Binary, Bson, DateTime, Decimal128, JavaScriptCodeWithScope, RawBson, RawDocument,
    RawDocumentBuf, Regex, Timestamp,
};
use proptest::prelude::*;

use super::super::*;
use super::json_of;

fn raw(document: &bson::Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).unwrap()
}

fn any_binary() -> impl Strategy<Value = Bson> {
    (any::<u8>(), any::<Vec<u8>>()).prop_map(|(subtype, bytes)| {
        Bson::Binary(Binary { subtype: BinarySubtype::from(subtype), bytes })
    })
}

fn any_decimal() -> impl Strategy<Value = Bson> {
    (any::<bool>(), 0..10u128.pow(34), -6176..=6111i32).prop_map(
        |(negative, coefficient, exponent)| {
            let sign = if negative { "-" } else { "" };
            let decimal: Decimal128 = format!("{sign}{coefficient}E{exponent}").parse().unwrap();
            Bson::Decimal128(decimal)
        },
    )
}

/// Every type that relaxed Extended JSON keeps: not an int64 that fits an int32, nor the payload of
/// a NaN.
fn any_leaf() -> impl Strategy<Value = Bson> {
    let text = any::<String>;
    let c_string = || "[^\\x00]{0,8}";
    prop_oneof![
        Just(Bson::Null),
        Just(Bson::Undefined),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        any::<bool>().prop_map(Bson::Boolean),
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>()
            .prop_filter("int32", |number| i32::try_from(*number).is_err())
            .prop_map(Bson::Int64),
        any::<f64>().prop_map(Bson::Double),
        Just(Bson::Double(f64::NAN)),
        Just(Bson::Double(f64::INFINITY)),
        Just(Bson::Double(f64::NEG_INFINITY)),
        any::<i32>().prop_map(|number| Bson::Double(number.into())),
        text().prop_map(Bson::String),
        "[0-9a-f]{24}|[0-9.eE+-]{1,6}|[{}\\[\\]\":,0-9 ]{1,6}|true|null".prop_map(Bson::String),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(bytes.into())),
        any::<i64>().prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
        (0..253_402_300_800_000i64)
            .prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
        any_binary(),
        any_decimal(),
        any::<(u32, u32)>()
            .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment })),
        (c_string(), "i?l?m?s?u?x?").prop_map(|(pattern, options)| Bson::RegularExpression(
            Regex { pattern: pattern.try_into().unwrap(), options: options.try_into().unwrap() }
        )),
        text().prop_map(Bson::JavaScriptCode),
        text().prop_map(Bson::Symbol),
    ]
}

fn any_key() -> impl Strategy<Value = String> {
    "[^\\x00]{0,6}|[a-c$._]{1,3}"
        .prop_filter("a key of Extended JSON", |key| !builder::may_be_type_key(key))
}

fn any_value() -> impl Strategy<Value = Bson> {
    any_leaf().prop_recursive(4, 32, 6, |inner| {
        let document = || {
            prop::collection::vec((any_key(), inner.clone()), 0..6)
                .prop_map(|fields| fields.into_iter().collect::<bson::Document>())
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Bson::Array),
            document().prop_map(Bson::Document),
            (any::<String>(), document()).prop_map(|(code, scope)| Bson::JavaScriptCodeWithScope(
                JavaScriptCodeWithScope { code, scope }
            )),
        ]
    })
}

fn any_document() -> impl Strategy<Value = RawDocumentBuf> {
    (any::<i32>(), prop::collection::vec((any_key(), any_value()), 0..8)).prop_map(
        |(id, fields)| {
            let mut document = bson::doc! { "_id": id };
            document.extend(fields.into_iter().filter(|(key, _)| key != "_id"));
            raw(&document)
        },
    )
}

/// One byte of `bytes` changed, or the rest cut off.
fn damaged(mut bytes: Vec<u8>, at: prop::sample::Index, byte: Option<u8>) -> Vec<u8> {
    let at = at.index(bytes.len());
    match byte {
        Some(byte) => bytes[at] = byte,
        None => bytes.truncate(at),
    }
    bytes
}

proptest! {
    #[test]
    fn relaxed_document_returns_unchanged(document in any_document()) {
        let json = json_of(&document);
        let back = parse_document(json.as_bytes());
        prop_assert!(back.is_ok(), "{} {:?}", json, back);
        let back = back.unwrap();
        prop_assert_eq!(back.raw().as_bytes(), document.as_bytes(), "{}", json);
    }

    #[test]
    fn canonical_document_returns_unchanged(
        mut document in any_document(),
        long in any::<i32>(),
    ) {
        document.append(cstr!("long"), i64::from(long));
        let mut json = Vec::new();
        prop_assert_eq!(write_document(&document, Format::Canonical, &mut json), Ok(()));
        let back = parse_document(&json);
        prop_assert!(back.is_ok(), "{} {:?}", String::from_utf8_lossy(&json), back);
        let back = back.unwrap();
        prop_assert_eq!(back.raw().as_bytes(), document.as_bytes());
    }

    #[test]
    fn id_returns_unchanged_from_url(value in any_value()) {
        let document = raw(&bson::doc! { "_id": value });
        let value: RawBson = document.get("_id").unwrap().unwrap().into();
        if let Ok(id) = DocumentId::new(value) {
            let text = write_id(&id);
            let back = parse_id(&text);
            prop_assert!(back.is_ok(), "{} {:?}", text, back);
            let mut again = RawDocumentBuf::new();
            again.append(cstr!("_id"), back.unwrap().as_raw());
            prop_assert_eq!(again.as_bytes(), document.as_bytes(), "{}", text);
        }
    }

    #[test]
    fn random_text_is_read_or_refused(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = parse_documents(&bytes);
        let _ = parse_documents(text.as_bytes());
        if let Ok(id) = parse_id(&text) {
            prop_assert_eq!(parse_id(&write_id(&id)), Ok(id));
        }
    }

    #[test]
    fn damaged_json_is_read_or_refused(
        document in any_document(),
        at: prop::sample::Index,
        byte: Option<u8>,
    ) {
        let json = damaged(json_of(&document).into_bytes(), at, byte);
        if let Ok(document) = parse_document(&json) {
            let mut out = Vec::new();
            prop_assert_eq!(write_document(document.raw(), Format::Relaxed, &mut out), Ok(()));
        }
    }

    #[test]
    fn damaged_bson_is_written_or_refused(
        document in any_document(),
        at: prop::sample::Index,
        byte: Option<u8>,
    ) {
        let mut bson = damaged(document.into_bytes(), at, byte);
        bson.resize(bson.len().max(5), 0);
        let length = bson.len() as i32;
        bson[..4].copy_from_slice(&length.to_le_bytes());
        *bson.last_mut().unwrap() = 0;
        let document = RawDocument::from_bytes(&bson).unwrap();
        let mut out = Vec::new();
        if write_document(document, Format::Relaxed, &mut out).is_ok() {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok());
        }
    }
}

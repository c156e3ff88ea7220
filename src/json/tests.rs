//! Types and their forms, what is refused and how it is said.

#[path = "../../tests/support/conversions.rs"]
mod conversions;
mod round_trips;

use bson::{RawBson, RawDocument};

use super::*;
use conversions::{WRONG, conversions};

#[test]
fn every_form_reads_as_its_type() {
    for conversion in conversions() {
        let written = format!(r#"{{"_id":1,"v":{}}}"#, conversion.relaxed);
        for form in conversion.forms {
            let json = format!(r#"{{"_id":1,"v":{form}}}"#);
            let document =
                parse_document(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
            let kind = document.raw().get("v").unwrap().unwrap().element_type();
            assert_eq!(format!("{kind:?}"), conversion.kind, "{json}");
            assert_eq!(json_of(document.raw()), written, "{json}");
        }
    }
}

/// Documents that are refused, and the sentence that says why.
const REFUSED: &[(&str, &str)] = &[
    ("", "there is no JSON, the text is empty at line 1 column 0"),
    (" \n", "there is no JSON, the text is empty at line 2 column 0"),
    ("\u{feff}{}", "JSON cannot begin with a byte order mark at line 1 column 1"),
    ("1", "expected a document (a JSON object), not a number at line 1 column 1"),
    ("[]", "expected a document (a JSON object), not an array at line 1 column 2"),
    ("nul", "the JSON ends too early at line 1 column 3"),
    ("nulL", "expected true, false or null at line 1 column 4"),
    ("{\"a\":\n 1,,}", "expected a key in double quotes at line 2 column 4"),
    ("{\"a\":", "the JSON ends too early at line 1 column 5"),
    ("{'a':1}", "expected a key in double quotes at line 1 column 2"),
    (r#"{"a":1} {"#, "more text follows the end of the JSON at line 1 column 9"),
    (r#"{"a":1,"b":{"c":1,"\u0063":2}}"#, r#"the key "c" is there twice at line 1 column 26"#),
    ("{\"a\\u0000\":1}", r#"the key "a\0" has a NUL, which BSON cannot hold at line 1 column 10"#),
    (
        r#"{"a":"\ud800"}"#,
        r"a \u escape is half of a surrogate pair without its other half at line 1 column 13",
    ),
    (
        r#"{"a":"\udc00"}"#,
        r"a \u escape is half of a surrogate pair without its other half at line 1 column 12",
    ),
    (
        r#"{"a":9223372036854775808}"#,
        r#"the integer 9223372036854775808 is beyond 64 bits, send it as {"$numberDecimal":"9223372036854775808"} or as a double, 9223372036854775808.0 at line 1 column 24"#,
    ),
    (
        r#"{"a":-9223372036854775809}"#,
        r#"the integer -9223372036854775809 is beyond 64 bits, send it as {"$numberDecimal":"-9223372036854775809"} or as a double, -9223372036854775809.0 at line 1 column 25"#,
    ),
    (
        "{\"\\\"1\":1e20,\n\"a\":[-100000000000000000000]}",
        r#"the integer -100000000000000000000 is beyond 64 bits, send it as {"$numberDecimal":"-100000000000000000000"} or as a double, -100000000000000000000.0 at line 2 column 27"#,
    ),
    (
        "{\"a\":1e400}",
        "the number is too large for a double, send it as {\"$numberDecimal\":\"…\"} at line 1 column 10",
    ),
    ("{\"a\":01}", "invalid number at line 1 column 7"),
    (
        "{\"a\":\"\n\"}",
        "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0",
    ),
    (
        r#"{"$oid":"57e193d7a9cc81b4027498b5"}"#,
        "the object is an Extended JSON $oid, not a document at line 1 column 7",
    ),
    (r#"{"a":{"$oid":"xyz"}}"#, "$oid takes a string of 24 hexadecimal digits at line 1 column 19"),
    (
        r#"{"a":{"b":1,"$oid":"57e193d7a9cc81b4027498b5"}}"#,
        "$oid takes a string of 24 hexadecimal digits; it stands beside keys that do not belong to it at line 1 column 46",
    ),
    (r#"{"_id":[1]}"#, "an _id cannot be an array at line 1 column 11"),
    (r#"{"_id":{"$undefined":true}}"#, "an _id cannot be undefined at line 1 column 27"),
    (
        r#"{"_id":{"$regularExpression":{"pattern":"","options":""}}}"#,
        "an _id cannot be a regular expression at line 1 column 58",
    ),
    (
        r#"{"_id":{"a":1,"$b":1}}"#,
        "an _id that is an object cannot have a key that begins with $ at line 1 column 22",
    ),
    (r#"{"_id":1,"a":2,"_id":3}"#, r#"the key "_id" is there twice at line 1 column 20"#),
];

#[test]
fn errors_name_problem_and_position() {
    for (json, detail) in REFUSED {
        let error = parse_document(json.as_bytes()).expect_err(json);
        assert_eq!(error.to_string(), *detail, "{json}");
    }
}

#[test]
fn wrong_forms_of_types_are_refused() {
    for value in WRONG.lines() {
        let error =
            parse_document(format!(r#"{{"v":{value}}}"#).as_bytes()).expect_err(value).to_string();
        assert!(error.contains(" takes "), "{value}: {error}");
    }
}

#[test]
fn top_level_type_key_is_field() {
    let json = r#"{"_id":1,"$oid":"x","$date":2}"#;
    assert_eq!(json_of(parse_document(json.as_bytes()).unwrap().raw()), json);
}

#[test]
fn body_is_object_or_array() {
    assert!(
        matches!(parse_documents(b"{}"), Ok(Documents::One(document)) if document.id_is_generated())
    );
    assert!(
        matches!(parse_documents(b" [ {} , {} ] "), Ok(Documents::Many(documents)) if documents.len() == 2)
    );
    let detail = |json: &str| parse_documents(json.as_bytes()).expect_err(json).to_string();
    assert_eq!(detail("[]"), "the array is empty, send at least one document at line 1 column 2");
    assert_eq!(
        detail(r#"[{},"long"]"#),
        "expected a document (a JSON object) at index 1 of the array, not a string at line 1 column 10"
    );
    assert_eq!(
        detail("null"),
        "expected a document (a JSON object) or an array of documents, not null at line 1 column 4"
    );
    assert!(
        parse_documents(b"{\"a\":\"\xff\"}")
            .unwrap_err()
            .to_string()
            .starts_with("the text is not UTF-8")
    );
    assert!(parse_documents(b"\xff").is_err());
}

#[test]
fn document_begins_with_id() {
    let document = parse_document(br#"{"a":[1],"_id":"x","b":2}"#).unwrap();
    assert_eq!(json_of(document.raw()), r#"{"_id":"x","a":[1],"b":2}"#);
    assert!(!document.id_is_generated());
    assert_eq!(document.id().as_raw(), RawBsonRef::String("x"));

    let document = parse_document(br#"{"a":1}"#).unwrap();
    let RawBsonRef::ObjectId(id) = document.id().as_raw() else { panic!("no ObjectId") };
    assert!(document.id_is_generated());
    assert_eq!(json_of(document.raw()), format!(r#"{{"_id":{{"$oid":"{id}"}},"a":1}}"#));
}

#[test]
fn duplicate_is_found_among_many_keys() {
    let keys = (0..5000).map(|key| format!("\"k{key}\":{{\"a\":0}},")).collect::<String>();
    assert!(parse_document(format!("{{{keys}\"k5000\":1}}").as_bytes()).is_ok());
    for duplicate in ["k0", "k15", "k16", "k17", "k4999"] {
        let json = format!("{{{keys}\"{duplicate}\":1}}");
        let error = parse_document(json.as_bytes()).expect_err(duplicate).to_string();
        assert!(error.starts_with(&format!("the key \"{duplicate}\" is there twice")), "{error}");
    }
}

#[test]
fn document_over_16_mib_is_refused() {
    // The header, the _id and the field "a" with its length and both ends.
    let rest = 4 + 17 + 3 + 4 + 1 + 1;
    let json = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - rest));
    let largest = parse_document(json(Document::MAX_BYTES).as_bytes()).unwrap();
    assert_eq!(largest.raw().as_bytes().len(), Document::MAX_BYTES);
    let error = parse_documents(format!("[{{}},{}]", json(Document::MAX_BYTES + 1)).as_bytes())
        .unwrap_err();
    assert_eq!(error.kind, JsonErrorKind::TooLarge);
    assert_eq!(
        error.to_string(),
        "the document at index 1 is 16777217 bytes of BSON, MongoDB takes at most 16777216"
    );
}

#[test]
fn nesting_limit_fits_small_stack() {
    let nested = |open: &str, leaf: &str, close: &str, levels: usize| {
        format!("{}{leaf}{}", open.repeat(levels), close.repeat(levels))
    };
    let check = move || {
        // A type is no level, however many objects it is written in.
        let binary = r#"{"$binary":{"base64":"","subType":"00"}}"#;
        let pointer = r#"{"$dbPointer":{"$ref":"b","$id":{"$oid":"0123456789abcdef01234567"}}}"#;
        for leaf in [binary, pointer] {
            let deepest = nested(r#"{"a":"#, leaf, "}", 100);
            let document = parse_documents(format!("[{deepest}]").as_bytes()).unwrap();
            let Documents::Many(documents) = document else { panic!("not an array") };
            assert!(json_of(documents[0].raw()).ends_with(&deepest[1..]));
        }
        for json in [
            nested(r#"{"a":"#, "{}", "}", 100),
            nested(r#"{"a":"#, "[]", "}", 100),
            nested(r#"{"a":"#, r#"{"$regex":{}}"#, "}", 100),
            // What GET would write for the older form could not be sent again.
            nested(
                r#"{"a":"#,
                r#"{"$code":"","$scope":{"b":{"$binary":"","$type":"00"}}}"#,
                "}",
                99,
            ),
            nested(r#"{"a":"#, binary, "}", 101),
            format!(r#"{{"a":{}}}"#, nested("[", "", "]", 100)),
            nested(r#"{"a":"#, "1", "}", 100_000),
            nested(r#"{"a":["#, "1", "]}", 100_000),
            nested(r#"{"a":{"$code":"","$scope":"#, "{}", "}}", 100_000),
        ] {
            let error = parse_document(json.as_bytes()).expect_err(&json).to_string();
            assert!(
                error.starts_with("the document is nested deeper than 100 levels at line 1"),
                "{error}"
            );
        }
        // MongoDB may hold what this program does not take: it is written all the same.
        let mut bson = b"\x05\0\0\0\0".to_vec();
        for _ in 0..10_000 {
            let length = (bson.len() as i32 + 8).to_le_bytes();
            bson = [&length[..], b"\x03a\0", &bson, b"\0"].concat();
        }
        assert_eq!(
            json_of(RawDocument::from_bytes(&bson).unwrap()),
            nested(r#"{"a":"#, "{}", "}", 10_000)
        );
    };
    // Half of what the server gives a thread.
    std::thread::Builder::new().stack_size(256 * 1024).spawn(check).unwrap().join().unwrap();
}

#[test]
fn damaged_bson_leaves_output_unchanged() {
    let document = |fields: &[u8]| {
        let length = (fields.len() as i32 + 5).to_le_bytes();
        [&length[..], fields, b"\0"].concat()
    };
    for fields in [
        &b"\x02a\0\x05\0\0\0ab\0"[..],
        b"\x02a\0\x00\0\0\0\0",
        b"\x02a\0\xff\xff\xff\xff\0",
        b"\x02a\0\x02\0\0\0\xc3\0",
        b"\x02\xc3\0\x01\0\0\0\0",
        b"\x02a\0\x02\0\0\0ab",
        b"\x08a\0\x02",
        b"\x10a\0\x01",
        b"\x80a\0",
        b"\x03a\0\x05\0\0\0",
        b"\x03a\0\x06\0\0\0\0",
        b"\x03a\0\x04\0\0\0\0",
        b"\x03a\0\x7f\0\0\0\0",
        b"\x05a\0\x06\0\0\0\x02\x03\0\0\0ab",
        b"\x05a\0\x06\0\0\0\x02\x01\0\0\0ab",
        b"\x0fa\0\x0f\0\0\0\x01\0\0\0\0\x05\0\0\0\0",
        b"\x0ba\0a\0",
        b"\x0a",
    ] {
        let bson = document(fields);
        let mut out = b"before".to_vec();
        let result =
            write_document(RawDocument::from_bytes(&bson).unwrap(), Format::Relaxed, &mut out);
        assert!(result.is_err(), "{fields:?} is {}", String::from_utf8_lossy(&out));
        assert_eq!(out, b"before");
    }
}

#[test]
fn ids_are_read_from_url() {
    let id = |text: &str| parse_id(text).unwrap().as_raw().into();
    assert!(matches!(id("57E193d7a9cc81b4027498b5"), RawBson::ObjectId(_)));
    assert_eq!(
        id("\"57e193d7a9cc81b4027498b5\""),
        RawBson::String("57e193d7a9cc81b4027498b5".into())
    );
    assert_eq!(id("42"), RawBson::Int32(42));
    assert_eq!(id(r#"{"$numberLong":"42"}"#), RawBson::Int64(42));
    assert_eq!(id("1.0"), RawBson::Double(1.0));
    assert_eq!(id("1e20"), RawBson::Double(1e20));
    assert_eq!(id("true"), RawBson::Boolean(true));
    assert_eq!(id("\"\""), RawBson::String(String::new()));
    for text in ["Ada", "007", "+1", "1.", "a b", "NaN", "{", "{\"a\"}", "1 2", "true story", "é"]
    {
        assert_eq!(id(text), RawBson::String(text.into()));
    }
    let too_deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    for text in [
        "",
        "[]",
        r#"{"$oid":"xyz"}"#,
        r#"{"a":1,"a":2}"#,
        "1e400",
        "100000000000000000000",
        "18446744073709551615",
        r#""\ud800""#,
        r#""\udc00""#,
        &too_deep,
    ] {
        assert!(parse_id(text).is_err(), "{text}");
    }
}

#[test]
fn ids_are_written_plain_where_unambiguous() {
    let written = |json: &str| {
        let document = parse_document(format!(r#"{{"_id":{json}}}"#).as_bytes()).unwrap();
        let text = write_id(&document.id());
        assert_eq!(parse_id(&text).unwrap(), document.id(), "{json}");
        text
    };
    assert_eq!(written(r#"{"$oid":"57e193d7a9cc81b4027498b5"}"#), "57e193d7a9cc81b4027498b5");
    assert_eq!(written("\"Ada & co/é\""), "Ada & co/é");
    for same in [
        "\"57e193d7a9cc81b4027498b5\"",
        "\"\"",
        "\".\"",
        "\"..\"",
        "\"42\"",
        "\" 42\"",
        "\"1e400\"",
        "\"true\"",
        "\"{\"",
        "\" [x\"",
        r#""\"a""#,
        r#""{\"$oid\":\"xyz\"}""#,
        "42",
        "1.0",
        "-0.0",
        "null",
        r#"{"$date":"2024-01-31T23:59:59.999Z"}"#,
        r#"{"b":1,"a":[2]}"#,
    ] {
        assert_eq!(written(same), same);
    }
}

fn json_of(document: &RawDocument) -> String {
    let mut out = Vec::new();
    write_document(document, Format::Relaxed, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

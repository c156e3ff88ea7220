//! Types times forms, what is refused and how it is said, and round trips of everything.

use bson::spec::{BinarySubtype, ElementType};
use bson::{
    Binary, Bson, DateTime, Decimal128, JavaScriptCodeWithScope, RawBson, RawDocument,
    RawDocumentBuf, Regex, Timestamp,
};
use proptest::prelude::*;

use super::*;

/// What a value is read as, and how it is written: `=` for unchanged.
const FORMS: &[(&str, ElementType, &str)] = &[
    ("null", ElementType::Null, "="),
    ("true", ElementType::Boolean, "="),
    ("\"\"", ElementType::String, "="),
    (
        r#""a\"\\\/\b\f\n\r\t\u0001\u00e9\ud83d\ude00""#,
        ElementType::String,
        r#""a\"\\/\b\f\n\r\t\u0001é😀""#,
    ),
    (r#""\u0000\u001f""#, ElementType::String, "="),
    ("0", ElementType::Int32, "="),
    ("2147483647", ElementType::Int32, "="),
    ("-2147483648", ElementType::Int32, "="),
    ("2147483648", ElementType::Int64, "="),
    ("-2147483649", ElementType::Int64, "="),
    ("9223372036854775807", ElementType::Int64, "="),
    ("-9223372036854775808", ElementType::Int64, "="),
    (r#"{"$numberInt":"-42"}"#, ElementType::Int32, "-42"),
    (r#"{"$numberLong":"42"}"#, ElementType::Int64, "42"),
    ("1.0", ElementType::Double, "="),
    ("-0.0", ElementType::Double, "="),
    ("-0", ElementType::Double, "-0.0"),
    ("1e2", ElementType::Double, "100.0"),
    ("1E20", ElementType::Double, "1e+20"),
    ("9223372036854775808.0", ElementType::Double, "9.223372036854776e+18"),
    ("1e308", ElementType::Double, "1e+308"),
    ("5e-324", ElementType::Double, "5e-324"),
    ("1e-400", ElementType::Double, "0.0"),
    ("0.1", ElementType::Double, "="),
    (r#"{"$numberDouble":"1"}"#, ElementType::Double, "1.0"),
    (r#"{"$numberDouble":"-0.0"}"#, ElementType::Double, "-0.0"),
    (r#"{"$numberDouble":"NaN"}"#, ElementType::Double, "="),
    (r#"{"$numberDouble":"Infinity"}"#, ElementType::Double, "="),
    (r#"{"$numberDouble":"-Infinity"}"#, ElementType::Double, "="),
    (r#"{"$numberDecimal":"0.10"}"#, ElementType::Decimal128, "="),
    (r#"{"$numberDecimal":"-0"}"#, ElementType::Decimal128, "="),
    (r#"{"$numberDecimal":"1e+3"}"#, ElementType::Decimal128, r#"{"$numberDecimal":"1E+3"}"#),
    (
        r#"{"$numberDecimal":"9.999999999999999999999999999999999E+6144"}"#,
        ElementType::Decimal128,
        "=",
    ),
    (r#"{"$numberDecimal":"NaN"}"#, ElementType::Decimal128, "="),
    (r#"{"$numberDecimal":"inf"}"#, ElementType::Decimal128, r#"{"$numberDecimal":"Infinity"}"#),
    (r#"{"$oid":"57e193d7a9cc81b4027498b5"}"#, ElementType::ObjectId, "="),
    (
        r#"{"$oid":"57E193D7A9CC81B4027498B5"}"#,
        ElementType::ObjectId,
        r#"{"$oid":"57e193d7a9cc81b4027498b5"}"#,
    ),
    (r#"{"$date":"1970-01-01T00:00:00Z"}"#, ElementType::DateTime, "="),
    (r#"{"$date":"2012-12-24T12:15:30.501Z"}"#, ElementType::DateTime, "="),
    (r#"{"$date":"2012-12-24T12:15:30.001Z"}"#, ElementType::DateTime, "="),
    (r#"{"$date":"2000-02-29T23:59:59.999Z"}"#, ElementType::DateTime, "="),
    (r#"{"$date":"2100-03-01T00:00:00Z"}"#, ElementType::DateTime, "="),
    (r#"{"$date":"9999-12-31T23:59:59.999Z"}"#, ElementType::DateTime, "="),
    (
        r#"{"$date":"2024-01-01T01:00:00.123456+01:00"}"#,
        ElementType::DateTime,
        r#"{"$date":"2024-01-01T00:00:00.123Z"}"#,
    ),
    (
        r#"{"$date":"2024-01-01T01:00:00.000+0100"}"#,
        ElementType::DateTime,
        r#"{"$date":"2024-01-01T00:00:00Z"}"#,
    ),
    (
        r#"{"$date":"1969-12-31T23:59:59.999Z"}"#,
        ElementType::DateTime,
        r#"{"$date":{"$numberLong":"-1"}}"#,
    ),
    (
        r#"{"$date":"1969-12-31T23:59:59.9999Z"}"#,
        ElementType::DateTime,
        r#"{"$date":{"$numberLong":"-1"}}"#,
    ),
    (
        r#"{"$date":"1969-12-31T23:59:59.9990000001Z"}"#,
        ElementType::DateTime,
        r#"{"$date":{"$numberLong":"-1"}}"#,
    ),
    (
        r#"{"$date":"1970-01-01T01:00:00.0009+0100"}"#,
        ElementType::DateTime,
        r#"{"$date":"1970-01-01T00:00:00Z"}"#,
    ),
    (
        r#"{"$date":"1969-12-31T18:59:59.9985-05:00"}"#,
        ElementType::DateTime,
        r#"{"$date":{"$numberLong":"-2"}}"#,
    ),
    (
        r#"{"$date":"1900-01-01T00:00:00.000000001Z"}"#,
        ElementType::DateTime,
        r#"{"$date":{"$numberLong":"-2208988800000"}}"#,
    ),
    (r#"{"$date":5}"#, ElementType::DateTime, r#"{"$date":"1970-01-01T00:00:00.005Z"}"#),
    (r#"{"$date":-5}"#, ElementType::DateTime, r#"{"$date":{"$numberLong":"-5"}}"#),
    (r#"{"$date":{"$numberLong":"-9223372036854775808"}}"#, ElementType::DateTime, "="),
    (r#"{"$date":{"$numberLong":"253402300800000"}}"#, ElementType::DateTime, "="),
    (
        r#"{"$date":{"$numberLong":"1356351330501"}}"#,
        ElementType::DateTime,
        r#"{"$date":"2012-12-24T12:15:30.501Z"}"#,
    ),
    (
        r#"{"$date":1356351330501}"#,
        ElementType::DateTime,
        r#"{"$date":"2012-12-24T12:15:30.501Z"}"#,
    ),
    (r#"{"$binary":{"base64":"","subType":"00"}}"#, ElementType::Binary, "="),
    (r#"{"$binary":{"base64":"//8=","subType":"02"}}"#, ElementType::Binary, "="),
    (
        r#"{"$binary":{"subType":"f","base64":"AQIDBA=="}}"#,
        ElementType::Binary,
        r#"{"$binary":{"base64":"AQIDBA==","subType":"0f"}}"#,
    ),
    (
        r#"{"$binary":"AQID","$type":"80"}"#,
        ElementType::Binary,
        r#"{"$binary":{"base64":"AQID","subType":"80"}}"#,
    ),
    (
        r#"{"$type":"80","$binary":"AQID"}"#,
        ElementType::Binary,
        r#"{"$binary":{"base64":"AQID","subType":"80"}}"#,
    ),
    (
        r#"{"$uuid":"c8edabc3-f738-4ca3-b68d-ab92a91478a3"}"#,
        ElementType::Binary,
        r#"{"$binary":{"base64":"yO2rw/c4TKO2jauSqRR4ow==","subType":"04"}}"#,
    ),
    (r#"{"$timestamp":{"t":4294967295,"i":1}}"#, ElementType::Timestamp, "="),
    (r#"{"$timestamp":{"i":1,"t":2}}"#, ElementType::Timestamp, r#"{"$timestamp":{"t":2,"i":1}}"#),
    (
        r#"{"$regularExpression":{"options":"xmi","pattern":"a\"/b"}}"#,
        ElementType::RegularExpression,
        r#"{"$regularExpression":{"pattern":"a\"/b","options":"imx"}}"#,
    ),
    (
        r#"{"$options":"i","$regex":"a"}"#,
        ElementType::RegularExpression,
        r#"{"$regularExpression":{"pattern":"a","options":"i"}}"#,
    ),
    (r#"{"$code":"f()"}"#, ElementType::JavaScriptCode, "="),
    (
        r#"{"$code":"f()","$scope":{"a":{"$code":"","$scope":{}}}}"#,
        ElementType::JavaScriptCodeWithScope,
        "=",
    ),
    (
        r#"{"$scope":{},"$code":"f()"}"#,
        ElementType::JavaScriptCodeWithScope,
        r#"{"$code":"f()","$scope":{}}"#,
    ),
    (r#"{"$symbol":"s"}"#, ElementType::Symbol, "="),
    (
        r#"{"$dbPointer":{"$ref":"b","$id":{"$oid":"56e1fc72e0c917e9c4714161"}}}"#,
        ElementType::DbPointer,
        "=",
    ),
    (r#"{"$undefined":true}"#, ElementType::Undefined, "="),
    (r#"{"$minKey":1}"#, ElementType::MinKey, "="),
    (r#"{"$maxKey":1}"#, ElementType::MaxKey, "="),
    ("[]", ElementType::Array, "="),
    (r#"[1,[null,{}],{"$oid":"57e193d7a9cc81b4027498b5"}]"#, ElementType::Array, "="),
    ("[0,1,2,3,4,5,6,7,8,9,10,11]", ElementType::Array, "="),
    ("{}", ElementType::EmbeddedDocument, "="),
    (r#"{"":0,"b":1,"a":{"a.b":2,"$":3,"$other":4}}"#, ElementType::EmbeddedDocument, "="),
    (
        r#"{"$ref":"c","$id":{"$oid":"57e193d7a9cc81b4027498b5"},"$db":"d","x":1}"#,
        ElementType::EmbeddedDocument,
        "=",
    ),
    (r#"{"$ref":1}"#, ElementType::EmbeddedDocument, "="),
    (r#"{"$type":"string"}"#, ElementType::EmbeddedDocument, "="),
    (r#"{"$regex":"a"}"#, ElementType::EmbeddedDocument, "="),
    (r#"{"$options":"i"}"#, ElementType::EmbeddedDocument, "="),
    (
        r#"{"$regex":{"$regularExpression":{"pattern":"a","options":""}},"$options":"i"}"#,
        ElementType::EmbeddedDocument,
        "=",
    ),
];

#[test]
fn every_form_is_read_as_its_type_and_written_relaxed() {
    for (form, kind, written) in FORMS {
        let json = format!(r#"{{"_id":1,"v":{form}}}"#);
        let document =
            parse_document(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
        let value = document.raw().get("v").unwrap().unwrap();
        assert_eq!(value.element_type(), *kind, "{json}");
        let written = if *written == "=" { form } else { written };
        assert_eq!(json_of(document.raw()), format!(r#"{{"_id":1,"v":{written}}}"#), "{json}");
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
fn what_is_wrong_is_said_with_its_place() {
    for (json, detail) in REFUSED {
        let error = parse_document(json.as_bytes()).expect_err(json);
        assert_eq!(error.to_string(), *detail, "{json}");
    }
}

#[test]
fn wrong_types_of_extended_json_are_refused() {
    for value in [
        r#"{"$oid":57}"#,
        r#"{"$oid":"57e193d7a9cc81b4027498b5","a":1}"#,
        r#"{"a":1,"$oid":"57e193d7a9cc81b4027498b5"}"#,
        r#"{"$numberInt":"2147483648"}"#,
        r#"{"$numberInt":"1.0"}"#,
        r#"{"$numberLong":42}"#,
        r#"{"$numberLong":"9223372036854775808"}"#,
        r#"{"$numberDouble":"1e400"}"#,
        r#"{"$numberDouble":"inf"}"#,
        r#"{"$numberDecimal":""}"#,
        r#"{"$numberDecimal":"0.+3"}"#,
        r#"{"$numberDecimal":"00+3"}"#,
        r#"{"$numberDecimal":"1E+7000"}"#,
        r#"{"$numberDecimal":"12345678901234567890123456789012345"}"#,
        r#"{"$binary":{"base64":"AQI","subType":"00"}}"#,
        r#"{"$binary":{"base64":"AQID","subType":"+1"}}"#,
        r#"{"$binary":{"base64":"AQID","subType":"100"}}"#,
        r#"{"$binary":{"base64":"AQID"}}"#,
        r#"{"$binary":"AQID"}"#,
        r#"{"$binary":{"base64":"AQID","subType":"00"},"$type":"00"}"#,
        r#"{"$uuid":"{c8edabc3-f738-4ca3-b68d-ab92a91478a3}"}"#,
        r#"{"$date":1.5}"#,
        r#"{"$date":"yesterday"}"#,
        r#"{"$date":"2023-02-29T00:00:00Z"}"#,
        r#"{"$date":"é0100"}"#,
        r#"{"$timestamp":{"t":-1,"i":0}}"#,
        r#"{"$timestamp":{"t":4294967296,"i":0}}"#,
        r#"{"$timestamp":{"t":1,"i":0,"x":0}}"#,
        r#"{"$regularExpression":{"pattern":"\u0000","options":""}}"#,
        r#"{"$regularExpression":{"pattern":""}}"#,
        r#"{"$code":1}"#,
        r#"{"$scope":{}}"#,
        r#"{"$code":"","$scope":[]}"#,
        r#"{"$code":"","$scope":{},"a":1}"#,
        r#"{"$symbol":1}"#,
        r#"{"$dbPointer":{"$ref":"b","$id":"56e1fc72e0c917e9c4714161"}}"#,
        r#"{"$undefined":false}"#,
        r#"{"$minKey":0}"#,
        r#"{"$maxKey":1.0}"#,
    ] {
        let error =
            parse_document(format!(r#"{{"v":{value}}}"#).as_bytes()).expect_err(value).to_string();
        assert!(error.contains(" takes "), "{value}: {error}");
    }
}

#[test]
fn a_special_key_behind_others_at_the_top_is_a_field() {
    let json = r#"{"_id":1,"$oid":"x","$date":2}"#;
    assert_eq!(json_of(parse_document(json.as_bytes()).unwrap().raw()), json);
}

#[test]
fn a_body_is_an_object_or_an_array_of_objects() {
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
fn the_id_comes_first() {
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
fn a_duplicate_among_many_keys_is_found() {
    let keys = (0..5000).map(|key| format!("\"k{key}\":{{\"a\":0}},")).collect::<String>();
    assert!(parse_document(format!("{{{keys}\"k5000\":1}}").as_bytes()).is_ok());
    for duplicate in ["k0", "k15", "k16", "k17", "k4999"] {
        let json = format!("{{{keys}\"{duplicate}\":1}}");
        let error = parse_document(json.as_bytes()).expect_err(duplicate).to_string();
        assert!(error.starts_with(&format!("the key \"{duplicate}\" is there twice")), "{error}");
    }
}

#[test]
fn a_document_over_16_mib_is_too_large() {
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
fn nesting_ends_at_100_levels_and_fits_a_small_stack() {
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
fn damaged_bson_is_an_error_and_leaves_the_output_alone() {
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
fn ids_read_from_a_url() {
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
fn ids_are_written_plain_where_they_read_back_the_same() {
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
    fn a_document_comes_back_the_same(document in any_document()) {
        let json = json_of(&document);
        let back = parse_document(json.as_bytes());
        prop_assert!(back.is_ok(), "{} {:?}", json, back);
        let back = back.unwrap();
        prop_assert_eq!(back.raw().as_bytes(), document.as_bytes(), "{}", json);
    }

    #[test]
    fn a_canonical_document_comes_back_the_same_and_tells_integers_apart(
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
    fn an_id_comes_back_the_same(value in any_value()) {
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
    fn any_text_is_read_or_refused(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = parse_documents(&bytes);
        let _ = parse_documents(text.as_bytes());
        if let Ok(id) = parse_id(&text) {
            prop_assert_eq!(parse_id(&write_id(&id)), Ok(id));
        }
    }

    #[test]
    fn damaged_json_is_read_or_refused(document in any_document(), at: prop::sample::Index, byte: Option<u8>) {
        let json = damaged(json_of(&document).into_bytes(), at, byte);
        if let Ok(document) = parse_document(&json) {
            let mut out = Vec::new();
            prop_assert_eq!(write_document(document.raw(), Format::Relaxed, &mut out), Ok(()));
        }
    }

    #[test]
    fn damaged_bson_is_written_as_json_or_refused(document in any_document(), at: prop::sample::Index, byte: Option<u8>) {
        let mut bson = damaged(document.into_bytes(), at, byte);
        bson.resize(bson.len().max(5), 0);
        let length = bson.len() as i32;
        bson[..4].copy_from_slice(&length.to_le_bytes());
        *bson.last_mut().unwrap() = 0;
        let mut out = Vec::new();
        if write_document(RawDocument::from_bytes(&bson).unwrap(), Format::Relaxed, &mut out).is_ok() {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok());
        }
    }
}

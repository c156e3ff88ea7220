//! JSON <-> BSON as MongoDB Extended JSON v2 has it: every type in each of its forms comes back in
//! its relaxed form. The cases are written from the specification and its conversion table.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Connection, Server, Store, base64, quoted};

stores![
    every_form_of_every_type_comes_back_in_its_relaxed_form,
    the_types_of_numbers_are_kept,
    a_wrong_form_of_a_type_is_refused,
    what_only_resembles_a_type_is_a_document,
    the_keys_of_a_type_may_come_in_any_order,
    every_value_comes_back_as_it_was,
    every_date_comes_back_in_the_form_for_its_year,
    every_double_comes_back_with_its_bits,
    no_text_makes_the_server_fail,
];

/// Forms that are read, the canonical one first, then the relaxed one and those of older tools; the
/// form that is written.
const TYPES: &[(&[&str], &str)] = &[
    // ObjectId
    (
        &[
            r#"{"$oid":"57e193d7a9cc81b4027498b5"}"#,
            r#"{"$oid":"57E193D7A9CC81B4027498B5"}"#,
            r#"{"\u0024oid":"57e193d7a9cc81b4027498b5"}"#,
        ],
        r#"{"$oid":"57e193d7a9cc81b4027498b5"}"#,
    ),
    (&[r#"{"$oid":"000000000000000000000000"}"#], r#"{"$oid":"000000000000000000000000"}"#),
    // Symbol
    (&[r#"{"$symbol":"symbol"}"#], r#"{"$symbol":"symbol"}"#),
    (&[r#"{"$symbol":""}"#], r#"{"$symbol":""}"#),
    (&[r#"{"$symbol":"\u0000é\""}"#], r#"{"$symbol":"\u0000é\""}"#),
    // String
    (&[r#""string""#], r#""string""#),
    (&[r#""""#], r#""""#),
    (&[r#""\u0041\u00e9\ud83d\ude00\/""#, r#""Aé😀/""#], r#""Aé😀/""#),
    (
        &[
            r#""\u0000\u0001\u0008\u0009\u000a\u000b\u000c\u000d\u001f""#,
            r#""\u0000\u0001\b\t\n\u000b\f\r\u001f""#,
        ],
        r#""\u0000\u0001\b\t\n\u000b\f\r\u001f""#,
    ),
    (&[r#""\"\\\u007f\u2028""#], "\"\\\"\\\\\u{7f}\u{2028}\""),
    (&[r#""{\"$oid\":1}""#], r#""{\"$oid\":1}""#),
    // Int32
    (&[r#"{"$numberInt":"42"}"#, "42"], "42"),
    (&[r#"{"$numberInt":"0"}"#, "0"], "0"),
    (&[r#"{"$numberInt":"-1"}"#, "-1"], "-1"),
    (&[r#"{"$numberInt":"2147483647"}"#, "2147483647"], "2147483647"),
    (&[r#"{"$numberInt":"-2147483648"}"#, "-2147483648"], "-2147483648"),
    // Int64
    (&[r#"{"$numberLong":"42"}"#], "42"),
    (&[r#"{"$numberLong":"2147483648"}"#, "2147483648"], "2147483648"),
    (&[r#"{"$numberLong":"-2147483649"}"#, "-2147483649"], "-2147483649"),
    (&[r#"{"$numberLong":"9007199254740993"}"#, "9007199254740993"], "9007199254740993"),
    (&[r#"{"$numberLong":"9223372036854775807"}"#, "9223372036854775807"], "9223372036854775807"),
    (
        &[r#"{"$numberLong":"-9223372036854775808"}"#, "-9223372036854775808"],
        "-9223372036854775808",
    ),
    // Double
    (&[r#"{"$numberDouble":"42.42"}"#, "42.42", "4242e-2", "0.4242E2"], "42.42"),
    (&[r#"{"$numberDouble":"1.0"}"#, r#"{"$numberDouble":"1"}"#, "1.0", "1e0", "10e-1"], "1.0"),
    (&[r#"{"$numberDouble":"0.0"}"#, "0.0", "0e5", "1e-400"], "0.0"),
    (
        &[
            r#"{"$numberDouble":"-0.0"}"#,
            r#"{"$numberDouble":"-0"}"#,
            "-0.0",
            "-0e0",
            "-1e-400",
            "-0",
        ],
        "-0.0",
    ),
    (&[r#"{"$numberDouble":"-1.0001220703125"}"#, "-1.0001220703125"], "-1.0001220703125"),
    (&[r#"{"$numberDouble":"5E-324"}"#, "5e-324", "4.9406564584124654e-324"], "5e-324"),
    (&[r#"{"$numberDouble":"0.1"}"#, "0.1", "0.1000000000000000055511151231257827"], "0.1"),
    (&[r#"{"$numberDouble":"9007199254740993.0"}"#, "9007199254740992.0"], "9007199254740992.0"),
    (&[r#"{"$numberDouble":"Infinity"}"#], r#"{"$numberDouble":"Infinity"}"#),
    (&[r#"{"$numberDouble":"-Infinity"}"#], r#"{"$numberDouble":"-Infinity"}"#),
    (&[r#"{"$numberDouble":"NaN"}"#], r#"{"$numberDouble":"NaN"}"#),
    // Decimal128
    (&[r#"{"$numberDecimal":"0.1"}"#], r#"{"$numberDecimal":"0.1"}"#),
    (&[r#"{"$numberDecimal":"1.10"}"#], r#"{"$numberDecimal":"1.10"}"#),
    (&[r#"{"$numberDecimal":"-0E+3"}"#], r#"{"$numberDecimal":"-0E+3"}"#),
    (
        &[
            r#"{"$numberDecimal":"1E+3"}"#,
            r#"{"$numberDecimal":"1e3"}"#,
            r#"{"$numberDecimal":"+1E3"}"#,
        ],
        r#"{"$numberDecimal":"1E+3"}"#,
    ),
    (
        &[r#"{"$numberDecimal":"9.999999999999999999999999999999999E+6144"}"#],
        r#"{"$numberDecimal":"9.999999999999999999999999999999999E+6144"}"#,
    ),
    (&[r#"{"$numberDecimal":"1E-6176"}"#], r#"{"$numberDecimal":"1E-6176"}"#),
    (
        &[r#"{"$numberDecimal":"123456789012345678901234567890.1234"}"#],
        r#"{"$numberDecimal":"123456789012345678901234567890.1234"}"#,
    ),
    (&[r#"{"$numberDecimal":"NaN"}"#], r#"{"$numberDecimal":"NaN"}"#),
    (&[r#"{"$numberDecimal":"Infinity"}"#], r#"{"$numberDecimal":"Infinity"}"#),
    (&[r#"{"$numberDecimal":"-Infinity"}"#], r#"{"$numberDecimal":"-Infinity"}"#),
    // Binary
    (
        &[
            r#"{"$binary":{"base64":"AQIDBAU=","subType":"80"}}"#,
            r#"{"$binary":"AQIDBAU=","$type":"80"}"#,
        ],
        r#"{"$binary":{"base64":"AQIDBAU=","subType":"80"}}"#,
    ),
    (
        &[
            r#"{"$binary":{"base64":"","subType":"00"}}"#,
            r#"{"$binary":{"base64":"","subType":"0"}}"#,
            r#"{"$binary":"","$type":"0"}"#,
        ],
        r#"{"$binary":{"base64":"","subType":"00"}}"#,
    ),
    (
        &[r#"{"$binary":{"base64":"//8=","subType":"02"}}"#, r#"{"$binary":"//8=","$type":"02"}"#],
        r#"{"$binary":{"base64":"//8=","subType":"02"}}"#,
    ),
    (
        &[r#"{"$binary":{"base64":"+/+/","subType":"fF"}}"#],
        r#"{"$binary":{"base64":"+/+/","subType":"ff"}}"#,
    ),
    (
        &[
            r#"{"$binary":{"base64":"c//SZESzTGmQ6OfR38A11A==","subType":"04"}}"#,
            r#"{"$uuid":"73ffd264-44b3-4c69-90e8-e7d1dfc035d4"}"#,
            r#"{"$uuid":"73FFD264-44B3-4C69-90E8-E7D1DFC035D4"}"#,
        ],
        r#"{"$binary":{"base64":"c//SZESzTGmQ6OfR38A11A==","subType":"04"}}"#,
    ),
    // Code, with and without scope
    (&[r#"{"$code":"function() {}"}"#], r#"{"$code":"function() {}"}"#),
    (&[r#"{"$code":""}"#], r#"{"$code":""}"#),
    (&[r#"{"$code":"f","$scope":{}}"#], r#"{"$code":"f","$scope":{}}"#),
    (
        &[
            r#"{"$code":"f","$scope":{"n":{"$numberInt":"1"},"o":{"$oid":"57e193d7a9cc81b4027498b5"}}}"#,
        ],
        r#"{"$code":"f","$scope":{"n":1,"o":{"$oid":"57e193d7a9cc81b4027498b5"}}}"#,
    ),
    // Document and array
    (&["{}"], "{}"),
    (&["[]"], "[]"),
    (&[r#"{"":{"":[]}}"#], r#"{"":{"":[]}}"#),
    (
        &[r#"[{"$numberInt":"1"},[{"$numberLong":"2"}],{"a":{"$numberDouble":"3"}}]"#],
        r#"[1,[2],{"a":3.0}]"#,
    ),
    (&["[0,1,2,3,4,5,6,7,8,9,10,11]"], "[0,1,2,3,4,5,6,7,8,9,10,11]"),
    (&[r#"{"10":1,"9":2,"b":3,"a":4}"#], r#"{"10":1,"9":2,"b":3,"a":4}"#),
    // Timestamp
    (&[r#"{"$timestamp":{"t":42,"i":1}}"#], r#"{"$timestamp":{"t":42,"i":1}}"#),
    (
        &[r#"{"$timestamp":{"t":4294967295,"i":4294967295}}"#],
        r#"{"$timestamp":{"t":4294967295,"i":4294967295}}"#,
    ),
    (&[r#"{"$timestamp":{"t":0,"i":0}}"#], r#"{"$timestamp":{"t":0,"i":0}}"#),
    // Regular expression
    (
        &[
            r#"{"$regularExpression":{"pattern":"foo*","options":""}}"#,
            r#"{"$regex":"foo*","$options":""}"#,
        ],
        r#"{"$regularExpression":{"pattern":"foo*","options":""}}"#,
    ),
    (
        &[
            r#"{"$regularExpression":{"pattern":"^[a-z]\"\\d$","options":"xim"}}"#,
            r#"{"$regex":"^[a-z]\"\\d$","$options":"mix"}"#,
        ],
        r#"{"$regularExpression":{"pattern":"^[a-z]\"\\d$","options":"imx"}}"#,
    ),
    (
        &[r#"{"$regularExpression":{"pattern":"","options":""}}"#],
        r#"{"$regularExpression":{"pattern":"","options":""}}"#,
    ),
    // DBPointer, and DBRef, which is only a document
    (
        &[r#"{"$dbPointer":{"$ref":"db.collection","$id":{"$oid":"57e193d7a9cc81b4027498b1"}}}"#],
        r#"{"$dbPointer":{"$ref":"db.collection","$id":{"$oid":"57e193d7a9cc81b4027498b1"}}}"#,
    ),
    (
        &[r#"{"$ref":"collection","$id":{"$oid":"57fd71e96e32ab4225b723fb"},"$db":"database"}"#],
        r#"{"$ref":"collection","$id":{"$oid":"57fd71e96e32ab4225b723fb"},"$db":"database"}"#,
    ),
    (&[r#"{"$ref":"collection","$id":1}"#], r#"{"$ref":"collection","$id":1}"#),
    // Datetime
    (
        &[
            r#"{"$date":{"$numberLong":"1356351330500"}}"#,
            r#"{"$date":"2012-12-24T12:15:30.5Z"}"#,
            r#"{"$date":"2012-12-24T12:15:30.500Z"}"#,
            r#"{"$date":"2012-12-24T13:15:30.500+01:00"}"#,
            r#"{"$date":"2012-12-24T06:45:30.500-0530"}"#,
        ],
        r#"{"$date":"2012-12-24T12:15:30.500Z"}"#,
    ),
    (
        &[
            r#"{"$date":{"$numberLong":"0"}}"#,
            r#"{"$date":"1970-01-01T00:00:00Z"}"#,
            r#"{"$date":"1970-01-01T00:00:00.0009Z"}"#,
            r#"{"$date":0}"#,
        ],
        r#"{"$date":"1970-01-01T00:00:00Z"}"#,
    ),
    (
        &[
            r#"{"$date":{"$numberLong":"253402300799999"}}"#,
            r#"{"$date":"9999-12-31T23:59:59.999Z"}"#,
        ],
        r#"{"$date":"9999-12-31T23:59:59.999Z"}"#,
    ),
    (
        &[r#"{"$date":{"$numberLong":"1700000000000"}}"#, r#"{"$date":1700000000000}"#],
        r#"{"$date":"2023-11-14T22:13:20Z"}"#,
    ),
    (
        &[r#"{"$date":{"$numberLong":"253402300800000"}}"#],
        r#"{"$date":{"$numberLong":"253402300800000"}}"#,
    ),
    (
        &[
            r#"{"$date":{"$numberLong":"-1"}}"#,
            r#"{"$date":"1969-12-31T23:59:59.999Z"}"#,
            r#"{"$date":"1969-12-31T23:59:59.9999Z"}"#,
            r#"{"$date":-1}"#,
        ],
        r#"{"$date":{"$numberLong":"-1"}}"#,
    ),
    (
        &[r#"{"$date":{"$numberLong":"-9223372036854775808"}}"#],
        r#"{"$date":{"$numberLong":"-9223372036854775808"}}"#,
    ),
    (
        &[r#"{"$date":{"$numberLong":"9223372036854775807"}}"#],
        r#"{"$date":{"$numberLong":"9223372036854775807"}}"#,
    ),
    (
        &[r#"{"$date":{"$numberLong":"951782400000"}}"#, r#"{"$date":"2000-02-29T00:00:00Z"}"#],
        r#"{"$date":"2000-02-29T00:00:00Z"}"#,
    ),
    // The rest
    (&[r#"{"$minKey":1}"#], r#"{"$minKey":1}"#),
    (&[r#"{"$maxKey":1}"#], r#"{"$maxKey":1}"#),
    (&[r#"{"$undefined":true}"#], r#"{"$undefined":true}"#),
    (&["true"], "true"),
    (&["false"], "false"),
    (&["null"], "null"),
];

/// What of an object that begins like a type is no such type.
const WRONG: &[&str] = &[
    r#"{"$oid":"57e193d7a9cc81b4027498b"}"#,
    r#"{"$oid":"57e193d7a9cc81b4027498b5a"}"#,
    r#"{"$oid":"57e193d7a9cc81b4027498bg"}"#,
    r#"{"$oid":""}"#,
    r#"{"$oid":42}"#,
    r#"{"$oid":null}"#,
    r#"{"$oid":"57e193d7a9cc81b4027498b5","x":1}"#,
    r#"{"x":1,"$oid":"57e193d7a9cc81b4027498b5"}"#,
    r#"{"$symbol":1}"#,
    r#"{"$symbol":"a","x":1}"#,
    r#"{"$numberInt":42}"#,
    r#"{"$numberInt":"42","x":1}"#,
    r#"{"$numberInt":""}"#,
    r#"{"$numberInt":"1.0"}"#,
    r#"{"$numberInt":" 1"}"#,
    r#"{"$numberInt":"0x1"}"#,
    r#"{"$numberInt":"2147483648"}"#,
    r#"{"$numberLong":42}"#,
    r#"{"$numberLong":"42","x":1}"#,
    r#"{"$numberLong":"9223372036854775808"}"#,
    r#"{"$numberLong":"1e3"}"#,
    r#"{"$numberDouble":42.5}"#,
    r#"{"$numberDouble":"42.5","x":1}"#,
    r#"{"$numberDouble":"one"}"#,
    r#"{"$numberDouble":""}"#,
    r#"{"$numberDouble":"1e400"}"#,
    r#"{"$numberDouble":"inf"}"#,
    r#"{"$numberDouble":"nan"}"#,
    r#"{"$numberDouble":"+Infinity"}"#,
    r#"{"$numberDecimal":42}"#,
    r#"{"$numberDecimal":"42","x":1}"#,
    r#"{"$numberDecimal":""}"#,
    r#"{"$numberDecimal":"."}"#,
    r#"{"$numberDecimal":"1e"}"#,
    r#"{"$numberDecimal":"--1"}"#,
    r#"{"$numberDecimal":"1,5"}"#,
    r#"{"$numberDecimal":"1E+6145"}"#,
    r#"{"$numberDecimal":"12345678901234567890123456789012345"}"#,
    r#"{"$binary":"AQ=="}"#,
    r#"{"$binary":{"base64":"AQ=="}}"#,
    r#"{"$binary":{"subType":"00"}}"#,
    r#"{"$binary":{"base64":1,"subType":"00"}}"#,
    r#"{"$binary":{"base64":"AQ==","subType":0}}"#,
    r#"{"$binary":{"base64":"AQ==","subType":"100"}}"#,
    r#"{"$binary":{"base64":"AQ==","subType":"gg"}}"#,
    r#"{"$binary":{"base64":"AQ==","subType":"+1"}}"#,
    r#"{"$binary":{"base64":"AQ==","subType":""}}"#,
    r#"{"$binary":{"base64":"AQ","subType":"00"}}"#,
    r#"{"$binary":{"base64":"A","subType":"00"}}"#,
    r#"{"$binary":{"base64":"A?==","subType":"00"}}"#,
    r#"{"$binary":{"base64":"AQ==","subType":"00","x":1}}"#,
    r#"{"$binary":{"base64":"AQ==","subType":"00"},"x":1}"#,
    r#"{"$binary":"AQ==","$type":0}"#,
    r#"{"$uuid":42}"#,
    r#"{"$uuid":"73ffd264-44b3-90e8-e7d1dfc035d4"}"#,
    r#"{"$uuid":"73ffd264-44b3-4c69-90e8-e7d1dfc035d4a"}"#,
    r#"{"$uuid":"73ffd264-44b3-4c69-90e8-e7d1dfc035dx"}"#,
    r#"{"$uuid":"73ffd26444b-34c6-990e8-e7d1-dfc035d4"}"#,
    r#"{"$uuid":"73ffd264-44b3-4c69-90e8-e7d1dfc035d4","x":1}"#,
    r#"{"$code":1}"#,
    r#"{"$code":"f","x":1}"#,
    r#"{"$code":"f","$scope":1}"#,
    r#"{"$code":"f","$scope":[]}"#,
    r#"{"$code":1,"$scope":{}}"#,
    r#"{"$code":"f","$scope":{},"x":1}"#,
    r#"{"$scope":{}}"#,
    r#"{"$timestamp":1}"#,
    r#"{"$timestamp":"1"}"#,
    r#"{"$timestamp":{"t":1}}"#,
    r#"{"$timestamp":{"i":1}}"#,
    r#"{"$timestamp":{"t":"1","i":1}}"#,
    r#"{"$timestamp":{"t":1,"i":"1"}}"#,
    r#"{"$timestamp":{"t":1.5,"i":1}}"#,
    r#"{"$timestamp":{"t":-1,"i":1}}"#,
    r#"{"$timestamp":{"t":4294967296,"i":1}}"#,
    r#"{"$timestamp":{"t":1,"i":1,"x":1}}"#,
    r#"{"$timestamp":{"t":1,"i":1},"x":1}"#,
    r#"{"$regularExpression":"a"}"#,
    r#"{"$regularExpression":{"pattern":"a"}}"#,
    r#"{"$regularExpression":{"options":""}}"#,
    r#"{"$regularExpression":{"pattern":1,"options":""}}"#,
    r#"{"$regularExpression":{"pattern":"a","options":1}}"#,
    r#"{"$regularExpression":{"pattern":"a","options":"","x":1}}"#,
    r#"{"$regularExpression":{"pattern":"a","options":""},"x":1}"#,
    r#"{"$regularExpression":{"pattern":"a\u0000b","options":""}}"#,
    r#"{"$regularExpression":{"pattern":"a","options":"i\u0000"}}"#,
    r#"{"$dbPointer":1}"#,
    r#"{"$dbPointer":{"$ref":"a"}}"#,
    r#"{"$dbPointer":{"$id":{"$oid":"57e193d7a9cc81b4027498b1"}}}"#,
    r#"{"$dbPointer":{"$ref":1,"$id":{"$oid":"57e193d7a9cc81b4027498b1"}}}"#,
    r#"{"$dbPointer":{"$ref":"a","$id":"57e193d7a9cc81b4027498b1"}}"#,
    r#"{"$dbPointer":{"$ref":"a","$id":{"$oid":"57e193d7a9cc81b4027498b1"},"x":1}}"#,
    r#"{"$dbPointer":{"$ref":"a","$id":{"$oid":"57e193d7a9cc81b4027498b1"}},"x":1}"#,
    r#"{"$date":1.5}"#,
    r#"{"$date":null}"#,
    r#"{"$date":""}"#,
    r#"{"$date":"today"}"#,
    r#"{"$date":"2012-12-24"}"#,
    r#"{"$date":"2012-13-24T12:15:30Z"}"#,
    r#"{"$date":"2013-02-29T12:15:30Z"}"#,
    r#"{"$date":"2012-12-24T12:15:30"}"#,
    r#"{"$date":{"$numberLong":"x"}}"#,
    r#"{"$date":{"$numberLong":"1"},"x":1}"#,
    r#"{"$minKey":true}"#,
    r#"{"$minKey":0}"#,
    r#"{"$minKey":"1"}"#,
    r#"{"$minKey":1,"x":1}"#,
    r#"{"$maxKey":true}"#,
    r#"{"$maxKey":2}"#,
    r#"{"$maxKey":1,"x":1}"#,
    r#"{"$undefined":false}"#,
    r#"{"$undefined":1}"#,
    r#"{"$undefined":true,"x":1}"#,
];

/// Stores `values`, each in a document of its own, and reads them back.
#[track_caller]
fn round_trip(server: &Server, values: &[String]) -> Vec<String> {
    let documents: Vec<String> =
        values.iter().map(|value| format!("{{\"v\":{value}}}\n")).collect();
    // Each batch goes behind the last one: the ids that the server makes rise.
    let last =
        server.get("/data?limit=1&order=desc").json()[0]["_id"]["$oid"].as_str().map(str::to_owned);
    let posted = server.import(&documents.concat());
    assert_eq!(posted.status, 201, "{}", posted.text());
    let target = last.map_or("/data".to_owned(), |id| format!("/data?after={id}"));
    let export = server.request("GET", &target, &[("Accept", "application/x-ndjson")], b"").text();
    let value = |line: &str| Some(line.split_once(r#","v":"#)?.1.strip_suffix('}')?.to_owned());
    let values: Vec<String> = export.lines().map(|line| value(line).unwrap()).collect();
    assert_eq!(values.len(), documents.len());
    values
}

fn every_form_of_every_type_comes_back_in_its_relaxed_form(store: Store) {
    if store.lacks("values of all types, and any key") {
        return;
    }
    let server = store.start(&[]);
    for (forms, written) in TYPES {
        // What was written is read as the same value once more.
        let mut values: Vec<String> = forms.iter().map(|form| (*form).to_owned()).collect();
        values.push((*written).to_owned());
        for (value, form) in round_trip(&server, &values).iter().zip(&values) {
            assert_eq!(value, written, "{form}");
        }
        // In arrays and documents it is no other value.
        let nested: Vec<String> =
            values.iter().map(|value| format!("[{{\"a\":{value}}},{value}]")).collect();
        for value in round_trip(&server, &nested) {
            assert_eq!(value, format!("[{{\"a\":{written}}},{written}]"));
        }
        // Space between tokens means nothing, and a quote before a colon ends a key everywhere but
        // in a string.
        if !written.starts_with('"') {
            let spaced: Vec<String> = values
                .iter()
                .map(|value| format!(" {} ", value.replace("\":", "\"\t: ")))
                .collect();
            assert!(
                round_trip(&server, &spaced).iter().all(|value| value == written),
                "{spaced:?}"
            );
        }
    }
}

/// The relaxed form does not tell int32, int64 and double apart where they are equal, but the size
/// in BSON does: an `_id` may have 1,024 bytes of it.
fn the_types_of_numbers_are_kept(store: Store) {
    let server = store.start(&[]);
    // An object's length, its end, and a field's type and name; a string's length and its end.
    const AROUND: usize = 4 + 1 + 2 * (1 + 2) + 4 + 1;
    for (number, size, letter) in [
        ("1", 4, "a"),
        (r#"{"$numberInt":"1"}"#, 4, "b"),
        (r#"{"$numberLong":"1"}"#, 8, "c"),
        ("2147483648", 8, "d"),
        ("1.0", 8, "e"),
        ("1e0", 8, "f"),
        (r#"{"$numberDouble":"1"}"#, 8, "g"),
    ] {
        let document = |length: usize| {
            format!("{{\"_id\":{{\"n\":{number},\"s\":\"{}\"}}}}", letter.repeat(length))
        };
        let longest = 1024 - AROUND - size;
        let statuses = [longest, longest + 1].map(|length| server.post(&document(length)).status);
        assert_eq!(statuses, [201, 400], "{number}");
    }
}

fn a_wrong_form_of_a_type_is_refused(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    for value in WRONG {
        for document in [
            format!("{{\"v\":{value}}}"),
            format!("{{\"v\":[1,{{\"a\":{value}}}]}}"),
            format!("{{\"_id\":{value}}}"),
        ] {
            let answer = connection.request(
                "POST",
                "/data",
                &[("Content-Type", "application/json")],
                document.as_bytes(),
            );
            assert_eq!(answer.status, 400, "{document}");
            let detail = answer.problem(400);
            let mut names = value.split('"').filter(|name| name.starts_with('$'));
            assert!(
                names.any(|name| detail.contains(name)) && detail.contains("line 1 column"),
                "{document}: {detail}"
            );
        }
    }
    assert_eq!(server.get("/data").text(), "[]\n");
}

fn what_only_resembles_a_type_is_a_document(store: Store) {
    if store.lacks("values of all types, and any key") {
        return;
    }
    let server = store.start(&[]);
    let documents = [
        r#"{"oid":"57e193d7a9cc81b4027498b5"}"#,
        r#"{"$oids":1}"#,
        r#"{"$":1}"#,
        r#"{"$type":"00"}"#,
        r#"{"$type":"string","x":1}"#,
        r#"{"$options":"i"}"#,
        r#"{"$regex":1}"#,
        r#"{"$regex":{"$regularExpression":{"pattern":"a","options":""}},"$options":"i"}"#,
        r#"{"$regex":"a"}"#,
        r#"{"$ref":1}"#,
        r#"{"$id":"a","$db":1}"#,
        r#"{"$set":{"a":1}}"#,
        r#"{"base64":"AQ==","subType":"00"}"#,
        r#"{"t":1,"i":1}"#,
    ];
    let values: Vec<String> = documents.map(str::to_owned).to_vec();
    assert_eq!(round_trip(&server, &values), values);
}

fn the_keys_of_a_type_may_come_in_any_order(store: Store) {
    if store.lacks("values of all types, and any key") {
        return;
    }
    let server = store.start(&[]);
    let forms = [
        (
            r#"{"$binary":{"subType":"80","base64":"AQ=="}}"#,
            r#"{"$binary":{"base64":"AQ==","subType":"80"}}"#,
        ),
        (r#"{"$type":"80","$binary":"AQ=="}"#, r#"{"$binary":{"base64":"AQ==","subType":"80"}}"#),
        (r#"{"$scope":{"a":1},"$code":"f"}"#, r#"{"$code":"f","$scope":{"a":1}}"#),
        (r#"{"$timestamp":{"i":1,"t":2}}"#, r#"{"$timestamp":{"t":2,"i":1}}"#),
        (
            r#"{"$regularExpression":{"options":"i","pattern":"a"}}"#,
            r#"{"$regularExpression":{"pattern":"a","options":"i"}}"#,
        ),
        (
            r#"{"$options":"i","$regex":"a"}"#,
            r#"{"$regularExpression":{"pattern":"a","options":"i"}}"#,
        ),
        (
            r#"{"$dbPointer":{"$id":{"$oid":"57e193d7a9cc81b4027498b1"},"$ref":"a"}}"#,
            r#"{"$dbPointer":{"$ref":"a","$id":{"$oid":"57e193d7a9cc81b4027498b1"}}}"#,
        ),
    ];
    let values: Vec<String> = forms.iter().map(|(form, _)| (*form).to_owned()).collect();
    for (value, (form, written)) in round_trip(&server, &values).iter().zip(forms) {
        assert_eq!(value, written, "{form}");
    }
}

/// A value in its canonical form and in the relaxed one that it is to come back in.
type Forms = (String, String);

/// Every character as an escape.
fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

fn same(form: String) -> Forms {
    (form.clone(), form)
}

fn scalar() -> impl Strategy<Value = Forms> {
    let double = any::<f64>().prop_filter("finite ones", |number| number.is_finite());
    // An options string has each of its letters once, in their order.
    let options = proptest::sample::subsequence(vec!['i', 'l', 'm', 's', 'u', 'x'], 0..=6);
    let without_nul = any::<String>().prop_map(|text| text.replace('\0', ""));
    prop_oneof![
        Just(same("null".into())),
        any::<bool>().prop_map(|boolean| same(boolean.to_string())),
        any::<i32>()
            .prop_map(|number| (format!("{{\"$numberInt\":\"{number}\"}}"), number.to_string())),
        any::<i64>()
            .prop_map(|number| (format!("{{\"$numberLong\":\"{number}\"}}"), number.to_string())),
        double.prop_map(|number| (
            format!("{{\"$numberDouble\":\"{number:?}\"}}"),
            serde_json::to_string(&number).unwrap()
        )),
        any::<String>().prop_map(|text| (escaped(&text), quoted(&text))),
        any::<String>().prop_map(|text| same(format!("{{\"$code\":{}}}", quoted(&text)))),
        any::<String>().prop_map(|text| same(format!("{{\"$symbol\":{}}}", quoted(&text)))),
        any::<[u8; 12]>().prop_map(|bytes| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            same(format!("{{\"$oid\":\"{hex}\"}}"))
        }),
        (vec(any::<u8>(), 0..40), any::<u8>()).prop_map(|(bytes, subtype)| {
            same(format!(
                "{{\"$binary\":{{\"base64\":\"{}\",\"subType\":\"{subtype:02x}\"}}}}",
                base64(&bytes)
            ))
        }),
        any::<(u32, u32)>()
            .prop_map(|(t, i)| same(format!("{{\"$timestamp\":{{\"t\":{t},\"i\":{i}}}}}"))),
        (without_nul, options).prop_map(|(pattern, options)| {
            let options: String = options.into_iter().collect();
            let pattern = quoted(&pattern);
            same(format!(
                "{{\"$regularExpression\":{{\"pattern\":{pattern},\"options\":\"{options}\"}}}}"
            ))
        }),
        // Coefficients and exponents that are written as they are: with an exponent only where it
        // is above 0.
        (any::<u64>(), 1..6000, any::<bool>()).prop_map(|(coefficient, exponent, negative)| {
            let sign = if negative { "-" } else { "" };
            let digits = coefficient.to_string();
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let exponent = exponent + rest.len() as i32;
            same(format!("{{\"$numberDecimal\":\"{sign}{first}{point}{rest}E+{exponent}\"}}"))
        }),
        Just(same(r#"{"$minKey":1}"#.into())),
        Just(same(r#"{"$maxKey":1}"#.into())),
    ]
}

/// Scalars in documents, arrays and scopes; keys may be anything but a type's.
fn value() -> impl Strategy<Value = Forms> {
    let key =
        any::<String>().prop_map(|key| key.replace('\0', "").trim_start_matches('$').to_owned());
    scalar().prop_recursive(4, 24, 6, move |inner| {
        let document =
            proptest::collection::hash_map(key.clone(), inner.clone(), 0..6).prop_map(|fields| {
                let join = |form: fn(&Forms) -> &str, write_key: fn(&str) -> String| {
                    let fields = fields
                        .iter()
                        .map(|(key, value)| format!("{}:{}", write_key(key), form(value)));
                    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
                };
                (join(|(canonical, _)| canonical, escaped), join(|(_, relaxed)| relaxed, quoted))
            });
        let array = vec(inner, 0..6).prop_map(|values| {
            let (canonical, relaxed): (Vec<_>, Vec<_>) = values.into_iter().unzip();
            (format!("[{}]", canonical.join(",")), format!("[{}]", relaxed.join(",")))
        });
        let code = (any::<String>(), document.clone()).prop_map(|(code, (canonical, relaxed))| {
            let around = |scope| format!("{{\"$code\":{},\"$scope\":{scope}}}", quoted(&code));
            (around(canonical), around(relaxed))
        });
        prop_oneof![3 => document, 2 => array, 1 => code]
    })
}

/// Runs `check` over batches of values: a request a value would take minutes.
fn in_batches<S: Strategy>(
    batches: u32,
    strategy: S,
    check: impl Fn(Vec<S::Value>) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases: batches,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    TestRunner::new(config).run(&vec(strategy, 200), check).unwrap();
}

fn every_value_comes_back_as_it_was(store: Store) {
    if store.lacks("values of all types, and any key") {
        return;
    }
    let server = store.start(&[("LOG", "off")]);
    in_batches(10, value(), |values| {
        let (canonical, relaxed): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        prop_assert_eq!(&round_trip(&server, &canonical), &relaxed);
        prop_assert_eq!(&round_trip(&server, &relaxed), &relaxed);
        Ok(())
    });
}

fn every_date_comes_back_in_the_form_for_its_year(store: Store) {
    const YEAR_10_000: i64 = 253_402_300_800_000;
    let server = store.start(&[("LOG", "off")]);
    let millis = prop_oneof![0..YEAR_10_000, any::<i64>(), -100_000_000..100_000_000_i64];
    in_batches(5, millis, |dates| {
        let canonical = |millis: &i64| format!("{{\"$date\":{{\"$numberLong\":\"{millis}\"}}}}");
        let canonical: Vec<String> = dates.iter().map(canonical).collect();
        let expected =
            |(millis, canonical): (&i64, &String)| match chrono::DateTime::from_timestamp_millis(
                *millis,
            ) {
                Some(date) if (0..YEAR_10_000).contains(millis) => {
                    let format = if millis % 1000 == 0 {
                        "%Y-%m-%dT%H:%M:%SZ"
                    } else {
                        "%Y-%m-%dT%H:%M:%S%.3fZ"
                    };
                    format!("{{\"$date\":\"{}\"}}", date.format(format))
                }
                _ => canonical.clone(),
            };
        let expected: Vec<String> = dates.iter().zip(&canonical).map(expected).collect();
        prop_assert_eq!(&round_trip(&server, &canonical), &expected);
        prop_assert_eq!(&round_trip(&server, &expected), &expected);
        Ok(())
    });
}

fn every_double_comes_back_with_its_bits(store: Store) {
    let server = store.start(&[("LOG", "off")]);
    let bits = any::<u64>().prop_filter("finite ones", |bits| f64::from_bits(*bits).is_finite());
    in_batches(5, bits, |bits| {
        // Written with all of its digits, as no program would.
        let long: Vec<String> =
            bits.iter().map(|bits| format!("{:.20e}", f64::from_bits(*bits))).collect();
        for (text, bits) in round_trip(&server, &long).iter().zip(&bits) {
            prop_assert!(text.contains(['.', 'e']), "{} would be read as an integer", text);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), *bits, "{}", text);
        }
        Ok(())
    });
}

fn no_text_makes_the_server_fail(store: Store) {
    let server = store.start(&[("LOG", "off")]);
    let pieces = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "d800",
        "\"a\"",
        "\"$oid\"",
        "\"$date\"",
        "\"$numberLong\"",
        "\"$binary\"",
        "\"base64\"",
        "\"$code\"",
        "\"$scope\"",
        "\"_id\"",
        "1",
        "-",
        ".",
        "e",
        "9",
        "true",
        "null",
        "57e193d7a9cc81b4027498b5",
        "\u{0}",
        "é",
        " ",
        "\n",
    ]);
    let text = vec(pieces, 0..20).prop_map(|pieces| pieces.concat());
    in_batches(5, text, |texts| {
        let mut connection = Connection::open(server.address);
        for text in texts {
            for body in [text.clone(), format!("{{\"a\":{text}}}"), format!("[{{\"_id\":{text}}}]")]
            {
                let headers = [("Content-Type", "application/json"), ("Content-Length", "0")];
                let headers = if body.is_empty() { &headers[..] } else { &headers[..1] };
                let status = connection.request("POST", "/data", headers, body.as_bytes()).status;
                prop_assert!(matches!(status, 201 | 400 | 409), "{:?}: {}", body, status);
            }
        }
        Ok(())
    });
}

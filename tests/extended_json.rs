//! JSON <-> BSON as MongoDB Extended JSON v2 has it: every type in each of its forms comes back in
//! its relaxed form, whatever the store.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::conversions::{WRONG, conversions};
use support::{Connection, Server, Store, base64, quoted};

stores![
    every_form_returns_in_relaxed_form,
    numbers_keep_their_bson_types,
    post_refuses_wrong_forms_of_types,
    random_values_return_unchanged,
    dates_return_in_form_of_year,
    doubles_return_with_same_bits,
    random_text_never_fails_server,
];

/// Stores `values`, each in a document of its own, and reads them back.
#[track_caller]
fn round_trip(server: &Server, values: &[String]) -> Vec<String> {
    let documents: Vec<String> =
        values.iter().map(|value| format!("{{\"v\":{value}}}\n")).collect();
    // Each batch goes after the last one: the ids that the server makes rise.
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

fn every_form_returns_in_relaxed_form(store: Store) {
    if store.lacks("values of all types, and any key") {
        return;
    }
    let server = store.start(&[]);
    for conversion in conversions() {
        let written = conversion.relaxed;
        let values: Vec<String> = conversion.forms.iter().map(|form| form.to_string()).collect();
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
fn numbers_keep_their_bson_types(store: Store) {
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

fn post_refuses_wrong_forms_of_types(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    for value in WRONG.lines() {
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

fn random_values_return_unchanged(store: Store) {
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

fn dates_return_in_form_of_year(store: Store) {
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

fn doubles_return_with_same_bits(store: Store) {
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

fn random_text_never_fails_server(store: Store) {
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

//! The order of documents is MongoDB's order of their `_id`s, and so is what makes two of them the
//! same. The comparison here is written from MongoDB's documentation and knows nothing of how a
//! store does it.

mod support;

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Store, base64, quoted};

stores![
    ids_sort_by_order_of_types,
    random_ids_sort_and_equals_are_refused,
    numbers_compare_across_types,
];

/// The embedded store has no key for a decimal128; MongoDB takes it.
mod embedded_only {
    use super::support::Store;

    #[test]
    fn embedded_store_refuses_decimal_in_id() {
        let server = Store::Embedded.start(&[]);
        for id in [r#"{"$numberDecimal":"1"}"#, r#"{"a":[{"$numberDecimal":"1"}]}"#] {
            let detail = server.post(&format!("{{\"_id\":{id}}}")).problem(400);
            assert!(detail.contains("decimal128") && detail.contains("MongoDB"), "{detail}");
            let answer = server.post(&format!("[{{\"_id\":1}},{{\"_id\":{id}}}]"));
            assert!(matches!(answer.status, 400 | 409), "{}", answer.text());
        }
        let id = "%7B%22%24numberDecimal%22%3A%221%22%7D";
        server.get(&format!("/data/{id}")).problem(404);
        let detail = server.get(&format!("/data?after={id}")).problem(400);
        assert!(detail.contains("decimal128"), "{detail}");
        assert_eq!(server.get("/data").text(), "[{\"_id\":1}]\n");
    }
}

/// What an `_id` can be, down to what its order depends on.
#[derive(Debug, Clone)]
enum Id {
    MinKey,
    Null,
    Int(i32),
    Long(i64),
    Double(f64),
    /// Compared by its bytes; a symbol is compared with strings.
    Text {
        text: String,
        is_symbol: bool,
    },
    Object(Vec<(String, Id)>),
    /// Only inside an object.
    Array(Vec<Id>),
    Binary {
        subtype: u8,
        bytes: Vec<u8>,
    },
    Oid([u8; 12]),
    Bool(bool),
    Date(i64),
    Timestamp(u32, u32),
    Code(String),
    MaxKey,
}

impl Id {
    /// As canonical Extended JSON.
    fn json(&self) -> String {
        match self {
            Id::MinKey => r#"{"$minKey":1}"#.into(),
            Id::Null => "null".into(),
            Id::Int(number) => number.to_string(),
            Id::Long(number) => format!("{{\"$numberLong\":\"{number}\"}}"),
            Id::Double(number) if number.is_nan() => r#"{"$numberDouble":"NaN"}"#.into(),
            Id::Double(number) if *number == f64::INFINITY => {
                r#"{"$numberDouble":"Infinity"}"#.into()
            }
            Id::Double(number) if *number == f64::NEG_INFINITY => {
                r#"{"$numberDouble":"-Infinity"}"#.into()
            }
            Id::Double(number) => format!("{{\"$numberDouble\":\"{number:e}\"}}"),
            Id::Text { text, is_symbol: false } => quoted(text),
            Id::Text { text, is_symbol: true } => format!("{{\"$symbol\":{}}}", quoted(text)),
            Id::Object(fields) => {
                let fields =
                    fields.iter().map(|(key, value)| format!("{}:{}", quoted(key), value.json()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
            Id::Array(values) => {
                format!("[{}]", values.iter().map(Id::json).collect::<Vec<_>>().join(","))
            }
            Id::Binary { subtype, bytes } => {
                format!(
                    "{{\"$binary\":{{\"base64\":\"{}\",\"subType\":\"{subtype:02x}\"}}}}",
                    base64(bytes)
                )
            }
            Id::Oid(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{{\"$oid\":\"{hex}\"}}")
            }
            Id::Bool(boolean) => boolean.to_string(),
            Id::Date(millis) => format!("{{\"$date\":{{\"$numberLong\":\"{millis}\"}}}}"),
            Id::Timestamp(time, increment) => {
                format!("{{\"$timestamp\":{{\"t\":{time},\"i\":{increment}}}}}")
            }
            Id::Code(code) => format!("{{\"$code\":{}}}", quoted(code)),
            Id::MaxKey => r#"{"$maxKey":1}"#.into(),
        }
    }

    /// Where its type stands among the types.
    fn rank(&self) -> u8 {
        match self {
            Id::MinKey => 0,
            Id::Null => 1,
            Id::Int(_) | Id::Long(_) | Id::Double(_) => 2,
            Id::Text { .. } => 3,
            Id::Object(_) => 4,
            Id::Array(_) => 5,
            Id::Binary { .. } => 6,
            Id::Oid(_) => 7,
            Id::Bool(_) => 8,
            Id::Date(_) => 9,
            Id::Timestamp(..) => 10,
            Id::Code(_) => 11,
            Id::MaxKey => 12,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Id::Text { text: one, .. }, Id::Text { text: other, .. })
            | (Id::Code(one), Id::Code(other)) => one.as_bytes().cmp(other.as_bytes()),
            (Id::Object(one), Id::Object(other)) => {
                compare_each(one, other, |(one_key, one), (other_key, other)| {
                    // A field's type counts before its name, and that before its value.
                    let types = one.rank().cmp(&other.rank());
                    types
                        .then_with(|| one_key.as_bytes().cmp(other_key.as_bytes()))
                        .then_with(|| one.compare(other))
                })
            }
            (Id::Array(one), Id::Array(other)) => compare_each(one, other, Id::compare),
            (
                Id::Binary { subtype, bytes },
                Id::Binary { subtype: other_subtype, bytes: other },
            ) => {
                let lengths = bytes.len().cmp(&other.len());
                lengths.then(subtype.cmp(other_subtype)).then_with(|| bytes.cmp(other))
            }
            (Id::Oid(one), Id::Oid(other)) => one.cmp(other),
            (Id::Bool(one), Id::Bool(other)) => one.cmp(other),
            (Id::Date(one), Id::Date(other)) => one.cmp(other),
            (Id::Timestamp(one, one_i), Id::Timestamp(other, other_i)) => {
                (one, one_i).cmp(&(other, other_i))
            }
            _ => {
                self.rank().cmp(&other.rank()).then_with(|| match (self.number(), other.number()) {
                    (Some(one), Some(other)) => one.compare(&other),
                    _ => Ordering::Equal,
                })
            }
        }
    }

    fn number(&self) -> Option<Number> {
        match *self {
            Id::Int(number) => Some(Number::Integer(number.into())),
            Id::Long(number) => Some(Number::Integer(number)),
            Id::Double(number) => Some(Number::Double(number)),
            _ => None,
        }
    }
}

/// In the order of the first pair that differs; the beginning of another one comes before it.
fn compare_each<T>(one: &[T], other: &[T], compare: impl Fn(&T, &T) -> Ordering) -> Ordering {
    let first = one
        .iter()
        .zip(other)
        .map(|(one, other)| compare(one, other))
        .find(|ordering| ordering.is_ne());
    first.unwrap_or(one.len().cmp(&other.len()))
}

enum Number {
    Integer(i64),
    Double(f64),
}

impl Number {
    /// By their values, exactly; NaN is equal to itself and comes before all others.
    fn compare(&self, other: &Self) -> Ordering {
        use Number::{Double, Integer};
        match (self, other) {
            (Integer(one), Integer(other)) => one.cmp(other),
            (Double(one), Double(other)) => {
                one.partial_cmp(other).unwrap_or_else(|| other.is_nan().cmp(&one.is_nan()))
            }
            (Double(_), Integer(_)) => other.compare(self).reverse(),
            (Integer(_), Double(double)) if double.is_nan() => Ordering::Greater,
            // No integer is beyond these, and all that is between them fits into an i128.
            (Integer(_), Double(double)) if *double > 1e19 => Ordering::Less,
            (Integer(_), Double(double)) if *double < -1e19 => Ordering::Greater,
            (Integer(integer), Double(double)) => {
                let whole = double.floor();
                i128::from(*integer).cmp(&(whole as i128)).then(match *double > whole {
                    true => Ordering::Less,
                    false => Ordering::Equal,
                })
            }
        }
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn number() -> impl Strategy<Value = Id> {
    // Near the powers of two the types of numbers are easily mistaken for each other.
    let near_a_power =
        (0..63_u32, -2..3_i64, any::<bool>()).prop_map(|(power, offset, negative)| {
            let number = (1_i64 << power).wrapping_add(offset);
            if negative { number.wrapping_neg() } else { number }
        });
    let limits = proptest::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX]);
    let integer = prop_oneof![-3..4_i64, near_a_power, limits, any::<i64>()];
    let special = proptest::sample::select(vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        0.5,
        -0.5,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        f64::MAX,
        f64::MIN,
        9_223_372_036_854_775_808.0,
        -9_223_372_036_854_775_808.0,
        18_446_744_073_709_551_616.0,
    ]);
    prop_oneof![
        integer.clone().prop_map(|number| Id::Int(number as i32)),
        integer.clone().prop_map(Id::Long),
        integer.prop_map(|number| Id::Double(number as f64)),
        special.prop_map(Id::Double),
        any::<f64>().prop_map(Id::Double),
    ]
}

/// Few letters, so that many ids are equal, or the beginning of others.
fn text() -> impl Strategy<Value = String> {
    let letter =
        proptest::sample::select(vec!['a', 'b', '\0', '\u{1}', 'é', '\u{ffff}', '😀', '"', '/']);
    prop_oneof![4 => vec(letter, 0..4).prop_map(String::from_iter), 1 => any::<String>().prop_map(|text| {
        text.chars().take(30).collect()
    })]
}

fn scalar() -> impl Strategy<Value = Id> {
    // Subtype 2 repeats its length inside; how that counts is the stores' own affair.
    let subtype = proptest::sample::select(vec![0, 1, 4, 5, 0x80, 0xff]);
    let few = |max: u8| prop_oneof![0..=max, Just(0xff)];
    prop_oneof![
        1 => Just(Id::MinKey),
        1 => Just(Id::Null),
        6 => number(),
        4 => (text(), any::<bool>()).prop_map(|(text, is_symbol)| Id::Text { text, is_symbol }),
        2 => (subtype, vec(few(1), 0..4)).prop_map(|(subtype, bytes)| Id::Binary { subtype, bytes }),
        2 => [few(0), few(0), few(0), few(0), few(0), few(0), few(0), few(0), few(0), few(0), few(0), few(1)]
            .prop_map(Id::Oid),
        1 => any::<bool>().prop_map(Id::Bool),
        2 => prop_oneof![-2..3_i64, any::<i64>()].prop_map(Id::Date),
        2 => (0..3_u32, 0..3_u32).prop_map(|(time, increment)| Id::Timestamp(time, increment)),
        1 => any::<(u32, u32)>().prop_map(|(time, increment)| Id::Timestamp(time, increment)),
        1 => text().prop_map(Id::Code),
        1 => Just(Id::MaxKey),
    ]
}

fn object(value: impl Strategy<Value = Id>) -> impl Strategy<Value = Id> {
    let key = proptest::sample::select(vec!["", "a", "aa", "b", "é"]);
    vec((key, value), 0..4).prop_map(|mut fields: Vec<(&str, Id)>| {
        let mut seen = Vec::new();
        fields.retain(|(key, _)| {
            !seen.contains(key) && {
                seen.push(*key);
                true
            }
        });
        Id::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

fn id() -> impl Strategy<Value = Id> {
    let nested = scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![object(inner.clone()), vec(inner, 0..3).prop_map(Id::Array)]
    });
    prop_oneof![4 => scalar(), 1 => object(nested)]
}

fn ids_sort_by_order_of_types(store: Store) {
    if store.lacks("the order of all types") {
        return;
    }
    let server = store.start(&[]);
    let ids = [
        Id::MinKey,
        Id::Null,
        Id::Double(f64::NAN),
        Id::Double(f64::NEG_INFINITY),
        Id::Long(i64::MIN),
        Id::Int(-1),
        Id::Double(0.0),
        Id::Double(0.5),
        Id::Int(1),
        Id::Double(1.5),
        Id::Long(2),
        Id::Text { text: String::new(), is_symbol: false },
        Id::Text { text: "\0".into(), is_symbol: false },
        Id::Text { text: "a".into(), is_symbol: true },
        Id::Text { text: "b".into(), is_symbol: false },
        Id::Object(vec![]),
        Id::Object(vec![("b".into(), Id::Null)]),
        Id::Object(vec![("a".into(), Id::Int(1))]),
        Id::Object(vec![("a".into(), Id::Int(1)), ("".into(), Id::MinKey)]),
        Id::Binary { subtype: 0x80, bytes: vec![0xff] },
        Id::Binary { subtype: 0, bytes: vec![0, 0] },
        Id::Oid([0; 12]),
        Id::Oid([0xff; 12]),
        Id::Bool(false),
        Id::Bool(true),
        Id::Date(-1),
        Id::Date(0),
        Id::Timestamp(0, u32::MAX),
        Id::Timestamp(1, 0),
        Id::Timestamp(u32::MAX, 0),
        Id::Code("a".into()),
        Id::MaxKey,
    ];
    for (one, other) in ids.iter().zip(&ids[1..]) {
        assert_eq!(one.compare(other), Ordering::Less, "{one:?} {other:?}");
    }
    let documents: Vec<String> = ids
        .iter()
        .enumerate()
        .rev()
        .map(|(n, id)| format!("{{\"_id\":{},\"n\":{n}}}", id.json()))
        .collect();
    assert_eq!(server.post(&format!("[{}]", documents.join(","))).status, 201);
    let documents = server.get("/data").json();
    let seen: Vec<u64> = documents
        .as_array()
        .unwrap()
        .iter()
        .map(|document| document["n"].as_u64().unwrap())
        .collect();
    assert_eq!(seen, (0..ids.len() as u64).collect::<Vec<_>>());
}

/// Stores documents with these ids and checks what is refused, how it is ordered, and what comes
/// after `after`.
fn check_order(store: Store, ids: &[Id], after: &[Id], limit: usize) -> Result<(), TestCaseError> {
    let server = store.start(&[("LOG", "off")]);
    let documents: Vec<String> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| format!("{{\"_id\":{},\"n\":{n}}}", id.json()))
        .collect();
    let posted = server.post(&format!("[{}]", documents.join(",")));

    let mut expected: Vec<usize> = Vec::new();
    let mut refused: Vec<u64> = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        match expected.iter().any(|&other| ids[other].compare(id).is_eq()) {
            true => refused.push(n as u64),
            false => expected.push(n),
        }
    }
    let answer = posted.json();
    prop_assert_eq!(posted.status, if refused.is_empty() { 201 } else { 409 }, "{}", answer);
    let errors = answer["errors"].as_array().into_iter().flatten();
    prop_assert_eq!(
        errors.map(|error| error["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        refused
    );
    expected.sort_by(|&one, &other| ids[one].compare(&ids[other]));

    let walk = |target: String| -> Vec<usize> {
        let pages = server.pages(&target, ids.len() + 2);
        pages.iter().flatten().map(|document| document["n"].as_u64().unwrap() as usize).collect()
    };
    prop_assert_eq!(&walk(format!("/data?limit={limit}")), &expected);
    let backwards: Vec<usize> = expected.iter().copied().rev().collect();
    prop_assert_eq!(&walk(format!("/data?limit={limit}&order=desc")), &backwards);
    for after in after {
        let name = percent_encoded(&after.json());
        let behind = |order: &[usize], side: Ordering| -> Vec<usize> {
            order.iter().copied().filter(|&n| ids[n].compare(after) == side).collect()
        };
        let ascending = walk(format!("/data?limit=1000&after={name}"));
        prop_assert_eq!(ascending, behind(&expected, Ordering::Greater), "{:?}", after);
        let descending = walk(format!("/data?limit=1000&order=desc&after={name}"));
        prop_assert_eq!(descending, behind(&backwards, Ordering::Less), "{:?}", after);
    }
    Ok(())
}

fn random_ids_sort_and_equals_are_refused(store: Store) {
    if store.lacks("the order of all types") {
        return;
    }
    let config =
        Config { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new(config)
        .run(&(vec(id(), 1..150), vec(id(), 10), 1..20_usize), |(ids, after, limit)| {
            check_order(store, &ids, &after, limit)
        })
        .unwrap();
}

fn numbers_compare_across_types(store: Store) {
    if store.lacks("the order of all types") {
        return;
    }
    let config =
        Config { cases: 12, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new(config)
        .run(&(vec(number(), 1..200), vec(number(), 10)), |(ids, after)| {
            check_order(store, &ids, &after, 50)
        })
        .unwrap();
}

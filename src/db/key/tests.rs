use std::cmp::Ordering;

use bson::oid::ObjectId;
use bson::{
    Binary, Bson, DateTime, DbPointer, Decimal128, Document, JavaScriptCodeWithScope, RawBson,
    Regex, Timestamp, bson, doc,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;

use super::*;

fn key(value: &Bson) -> Vec<u8> {
    try_key(value).unwrap()
}

fn try_key(value: &Bson) -> Result<Vec<u8>, Unsupported> {
    let raw = RawBson::try_from(value.clone()).unwrap();
    encode_value(raw.as_raw_bson_ref())
}

/// MongoDB's comparison, written from its documentation and not from the encoding above.
fn compare(left: &Bson, right: &Bson) -> Ordering {
    bracket(left).cmp(&bracket(right)).then_with(|| compare_content(left, right))
}

fn bracket(value: &Bson) -> usize {
    const BRACKETS: [&[&str]; 17] = [
        &["MinKey"],
        &["Undefined"],
        &["Null"],
        &["Int32", "Int64", "Double"],
        &["String", "Symbol"],
        &["EmbeddedDocument"],
        &["Array"],
        &["Binary"],
        &["ObjectId"],
        &["Boolean"],
        &["DateTime"],
        &["Timestamp"],
        &["RegularExpression"],
        &["DbPointer"],
        &["JavaScriptCode"],
        &["JavaScriptCodeWithScope"],
        &["MaxKey"],
    ];
    let name = format!("{:?}", value.element_type());
    BRACKETS.iter().position(|names| names.contains(&name.as_str())).unwrap()
}

fn compare_content(left: &Bson, right: &Bson) -> Ordering {
    use Bson::*;
    match (left, right) {
        (String(l) | Symbol(l), String(r) | Symbol(r)) => l.as_bytes().cmp(r.as_bytes()),
        (Document(l), Document(r)) => compare_fields(l, r),
        (Array(l), Array(r)) => {
            let differing = l.iter().zip(r).map(|(l, r)| compare(l, r)).find(|o| o.is_ne());
            differing.unwrap_or(l.len().cmp(&r.len()))
        }
        (Binary(l), Binary(r)) => {
            let length = |b: &bson::Binary| {
                b.bytes.len() + 4 * usize::from(b.subtype == BinarySubtype::BinaryOld)
            };
            (length(l).cmp(&length(r)))
                .then(u8::from(l.subtype).cmp(&u8::from(r.subtype)))
                .then_with(|| l.bytes.cmp(&r.bytes))
        }
        (ObjectId(l), ObjectId(r)) => l.bytes().cmp(&r.bytes()),
        (Boolean(l), Boolean(r)) => l.cmp(r),
        (DateTime(l), DateTime(r)) => l.timestamp_millis().cmp(&r.timestamp_millis()),
        (Timestamp(l), Timestamp(r)) => (l.time, l.increment).cmp(&(r.time, r.increment)),
        (RegularExpression(l), RegularExpression(r)) => {
            let parts = |x: &Regex| (x.pattern.to_string(), x.options.to_string());
            parts(l).cmp(&parts(r))
        }
        (DbPointer(l), DbPointer(r)) => {
            // The namespace has one byte a character here, so that its length is the text's.
            let parts = |x: &bson::DbPointer| {
                let text = format!("{x:?}");
                let quoted: Vec<&str> = text.split('"').collect();
                (quoted[1].len(), quoted[1].to_owned(), quoted[3].to_owned())
            };
            parts(l).cmp(&parts(r))
        }
        (JavaScriptCode(l), JavaScriptCode(r)) => l.as_bytes().cmp(r.as_bytes()),
        (JavaScriptCodeWithScope(l), JavaScriptCodeWithScope(r)) => {
            (l.code.as_bytes().cmp(r.code.as_bytes()))
                .then_with(|| compare_fields(&l.scope, &r.scope))
        }
        _ if left.element_type() == right.element_type() && bracket(left) != 3 => Ordering::Equal,
        _ => compare_numbers(left, right),
    }
}

fn compare_fields(left: &Document, right: &Document) -> Ordering {
    for ((left_name, left), (right_name, right)) in left.iter().zip(right) {
        let ordering = (bracket(left).cmp(&bracket(right)))
            .then_with(|| left_name.as_bytes().cmp(right_name.as_bytes()))
            .then_with(|| compare_content(left, right));
        if ordering.is_ne() {
            return ordering;
        }
    }
    left.len().cmp(&right.len())
}

fn compare_numbers(left: &Bson, right: &Bson) -> Ordering {
    fn integer(value: &Bson) -> Option<i64> {
        value.as_i64().or(value.as_i32().map(i64::from))
    }
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(left), None) => compare_integer_to_double(left, right.as_f64().unwrap()),
        (None, Some(right)) => compare_integer_to_double(right, left.as_f64().unwrap()).reverse(),
        (None, None) => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            left.partial_cmp(&right).unwrap_or(right.is_nan().cmp(&left.is_nan()))
        }
    }
}

fn compare_integer_to_double(integer: i64, double: f64) -> Ordering {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() || double < -TWO_TO_63 {
        return Ordering::Greater;
    }
    if double >= TWO_TO_63 {
        return Ordering::Less;
    }
    let whole = double.trunc() as i64;
    integer.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap())
}

fn number() -> impl Strategy<Value = Bson> {
    let near_power = (0..64_u32, -2..3_i64, any::<bool>()).prop_map(|(power, offset, negative)| {
        let value = (1_i64.wrapping_shl(power)).wrapping_add(offset);
        if negative { value.wrapping_neg() } else { value }
    });
    prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        (-3..4_i32).prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        near_power.clone().prop_map(Bson::Int64),
        near_power.clone().prop_map(|integer| Bson::Double(integer as f64)),
        (near_power, -2..3_i64).prop_map(|(integer, steps)| {
            Bson::Double(f64::from_bits((integer as f64).to_bits().wrapping_add_signed(steps)))
        }),
        any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
        // The smallest numbers, where the exponent ends and the fraction goes on.
        (0..4_u64, 0..53_u32, any::<bool>()).prop_map(|(exponent, power, negative)| {
            let bits = exponent << 52 | (1 << power) >> 1 | u64::from(negative) << 63;
            Bson::Double(f64::from_bits(bits))
        }),
        (-8..9_i32).prop_map(|quarters| Bson::Double(f64::from(quarters) / 4.0)),
        proptest::sample::select(vec![
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            -f64::from_bits(1),
            f64::MAX,
            f64::MIN,
        ])
        .prop_map(Bson::Double),
    ]
}

/// Short and of few characters, so that two of them often share a beginning.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a\u{0}\u{1}b\u{10FFFF}]{0,3}", ".{0,4}"]
}

fn name() -> impl Strategy<Value = String> {
    "[ab\u{1}\u{7F}]{0,2}"
}

fn object(value: impl Strategy<Value = Bson>) -> impl Strategy<Value = Document> {
    vec((name(), value), 0..4).prop_map(|fields| fields.into_iter().collect())
}

/// A strategy for each type that holds no others.
fn scalars() -> Vec<BoxedStrategy<Bson>> {
    let byte = || proptest::sample::select(vec![0, 1, 2, 127, 128, 254, 255]);
    let binary = (byte(), vec(byte(), 0..6)).prop_map(|(subtype, bytes)| {
        let subtype = BinarySubtype::from(subtype);
        Bson::Binary(Binary { subtype, bytes })
    });
    let object_id =
        vec(byte(), 12).prop_map(|bytes| ObjectId::from_bytes(bytes.try_into().unwrap()));
    let unsigned = || prop_oneof![any::<u32>(), 0..2_u32];
    vec![
        number().boxed(),
        prop_oneof![text().prop_map(Bson::String), text().prop_map(Bson::Symbol)].boxed(),
        binary.boxed(),
        object_id.clone().prop_map(Bson::ObjectId).boxed(),
        any::<bool>().prop_map(Bson::Boolean).boxed(),
        prop_oneof![any::<i64>(), -2..3_i64, Just(i64::MIN), Just(i64::MAX)]
            .prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis)))
            .boxed(),
        (unsigned(), unsigned())
            .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment }))
            .boxed(),
        ("[ab]{0,2}", "[im]{0,2}")
            .prop_map(|(pattern, options)| {
                let (pattern, options) = (pattern.try_into(), options.try_into());
                Bson::RegularExpression(Regex {
                    pattern: pattern.unwrap(),
                    options: options.unwrap(),
                })
            })
            .boxed(),
        ("[a-c]{1,2}", proptest::sample::select(vec![0, 1, 252, 253, 254, 509]), object_id)
            .prop_map(|(namespace, more, id)| {
                Bson::DbPointer(db_pointer(&(namespace + &"x".repeat(more)), id))
            })
            .boxed(),
        text().prop_map(Bson::JavaScriptCode).boxed(),
        proptest::sample::select(vec![Bson::MinKey, Bson::Undefined, Bson::Null, Bson::MaxKey])
            .boxed(),
    ]
}

fn db_pointer(namespace: &str, id: ObjectId) -> DbPointer {
    let bytes =
        [&(namespace.len() as i32 + 1).to_le_bytes()[..], namespace.as_bytes(), &[0], &id.bytes()]
            .concat();
    let document =
        [&(bytes.len() as i32 + 8).to_le_bytes()[..], &[0x0C], b"p\0", &bytes, &[0]].concat();
    let document = Document::from_reader(document.as_slice()).unwrap();
    match document.get("p") {
        Some(Bson::DbPointer(pointer)) => pointer.clone(),
        other => panic!("{other:?} is no DBPointer"),
    }
}

fn pair_of_one_type() -> impl Strategy<Value = (Bson, Bson)> {
    Union::new(scalars().into_iter().map(|scalar| (scalar.clone(), scalar)))
}

fn value() -> impl Strategy<Value = Bson> {
    Union::new(scalars()).prop_recursive(3, 24, 4, |value| {
        prop_oneof![
            3 => object(value.clone()).prop_map(Bson::Document),
            1 => vec(value.clone(), 0..4).prop_map(Bson::Array),
            1 => (text(), object(value)).prop_map(|(code, scope)| {
                Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn keys_are_in_the_order_of_their_values(left in value(), right in value()) {
        check(&left, &right)?;
    }

    #[test]
    fn keys_of_one_type_are_in_the_order_of_its_values((left, right) in pair_of_one_type()) {
        check(&left, &right)?;
    }

    #[test]
    fn keys_of_objects_are_in_the_order_of_the_objects(
        left in object(value()),
        right in object(value()),
    ) {
        check(&Bson::Document(left), &Bson::Document(right))?;
    }

    #[test]
    fn a_change_of_one_field_is_seen_wherever_it_stands(
        fields in object(value()),
        field in name(),
        left in value(),
        right in value(),
    ) {
        let with = |value: Bson| {
            let mut object = fields.clone();
            object.insert(field.clone(), value);
            Bson::Document(object)
        };
        check(&with(left), &with(right))?;
    }
}

fn check(left: &Bson, right: &Bson) -> Result<(), TestCaseError> {
    let (left_key, right_key) = (key(left), key(right));
    prop_assert_eq!(left_key.cmp(&right_key), compare(left, right));
    let one_begins_the_other = left_key.starts_with(&right_key) || right_key.starts_with(&left_key);
    prop_assert_eq!(one_begins_the_other, left_key == right_key);
    Ok(())
}

#[test]
fn the_types_are_in_the_order_of_mongodb() {
    let ascending = [
        Bson::MinKey,
        Bson::Null,
        Bson::Double(f64::NAN),
        Bson::Double(f64::NEG_INFINITY),
        Bson::Int64(i64::MIN),
        Bson::Int32(-1),
        Bson::Double(-f64::from_bits(1)),
        Bson::Int32(0),
        Bson::Double(f64::from_bits(1)),
        Bson::Double(0.5),
        Bson::Int64(1),
        Bson::Double(9_007_199_254_740_991.0),
        Bson::Int64(9_007_199_254_740_992),
        Bson::Int64(9_007_199_254_740_993),
        Bson::Double(9_007_199_254_740_994.0),
        Bson::Int64(i64::MAX),
        Bson::Double(9_223_372_036_854_775_808.0),
        Bson::Double(f64::INFINITY),
        bson!(""),
        bson!("a"),
        bson!("a\0"),
        bson!("a\0b"),
        bson!("a\u{1}"),
        bson!("b"),
        bson!({}),
        bson!({ "b": null }),
        bson!({ "a": 1 }),
        bson!({ "a": 1, "b": null }),
        bson!({ "a": 2 }),
        bson!({ "aa": 1 }),
        bson!({ "a": "" }),
        bson!({ "a": [] }),
        bson!({ "a": [1] }),
        bson!({ "a": [1, 1] }),
        bson!({ "a": [2] }),
        Bson::Binary(Binary { subtype: BinarySubtype::UserDefined(255), bytes: vec![255] }),
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 1] }),
        Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![0, 0] }),
        Bson::ObjectId(ObjectId::from_bytes([0; 12])),
        bson!(false),
        bson!(true),
        Bson::DateTime(DateTime::from_millis(-1)),
        Bson::DateTime(DateTime::from_millis(0)),
        Bson::Timestamp(Timestamp { time: 0, increment: u32::MAX }),
        Bson::Timestamp(Timestamp { time: u32::MAX, increment: 0 }),
        Bson::DbPointer(db_pointer("b", ObjectId::from_bytes([0; 12]))),
        Bson::DbPointer(db_pointer("aa", ObjectId::from_bytes([0; 12]))),
        Bson::JavaScriptCode("a".into()),
        Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "a".into(), scope: doc! {} }),
        Bson::MaxKey,
    ];
    for pair in ascending.windows(2) {
        assert!(key(&pair[0]) < key(&pair[1]), "{} is not below {}", pair[0], pair[1]);
    }
}

#[test]
fn numbers_that_are_equal_have_one_key_whatever_their_type() {
    for same in [
        [Bson::Int32(1), Bson::Int64(1), Bson::Double(1.0)],
        [Bson::Int32(0), Bson::Double(0.0), Bson::Double(-0.0)],
        [Bson::Int32(i32::MIN), Bson::Int64(i32::MIN.into()), Bson::Double(i32::MIN.into())],
        [Bson::Double(f64::NAN), Bson::Double(-f64::NAN), Bson::Double(f64::from_bits(u64::MAX))],
    ] {
        assert_eq!(key(&same[0]), key(&same[1]));
        assert_eq!(key(&same[0]), key(&same[2]));
    }
    assert_eq!(key(&bson!("a")), key(&Bson::Symbol("a".into())));
    assert_eq!(key(&bson!({ "a": 1 })), key(&bson!({ "a": 1.0 })));
}

#[test]
fn a_decimal128_is_refused_wherever_it_stands() {
    let decimal: Decimal128 = "1.5".parse().unwrap();
    for value in [
        Bson::Decimal128(decimal),
        bson!({ "price": decimal }),
        bson!({ "prices": [1, { "price": decimal }] }),
    ] {
        let refused = try_key(&value);
        assert!(
            matches!(&refused, Err(Unsupported(text)) if text.contains("decimal128")),
            "{value}: {refused:?}"
        );
    }
}

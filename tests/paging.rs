//! Pages of documents: following `Link` visits every document once, and what `Location` and `after`
//! name is the document that was meant, whatever its `_id`. The order itself is order.rs's subject.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use support::{Connection, Server, Store};

stores![
    links_visit_every_document_once,
    page_has_100_documents_by_default,
    full_last_page_has_no_link,
    page_ends_at_4_mib,
    concurrent_inserts_do_not_disturb_paging,
    after_takes_id_of_no_document,
    location_leads_to_every_id_type,
    location_leads_to_hostile_string,
    location_leads_to_random_string,
    location_leads_to_long_json_id,
    every_accepted_id_can_end_page,
    object_id_is_found_by_each_form,
];

/// An `_id` of every type that one can have, in the order of the types, as canonical Extended JSON.
const IDS: [&str; 21] = [
    r#"{"$minKey":1}"#,
    "null",
    r#"{"$numberDouble":"NaN"}"#,
    r#"{"$numberDouble":"-Infinity"}"#,
    r#"{"$numberLong":"-9223372036854775808"}"#,
    r#"{"$numberInt":"-1"}"#,
    r#"{"$numberDouble":"0.5"}"#,
    r#"{"$numberInt":"7"}"#,
    r#"{"$numberDouble":"1e300"}"#,
    r#""a""#,
    r#"{"$symbol":"b"}"#,
    r#"{"a":{"$numberInt":"1"},"":[{"$minKey":1}]}"#,
    r#"{"$binary":{"base64":"/+8=","subType":"80"}}"#,
    r#"{"$binary":{"base64":"ASNFZ4mrze8BI0VniavN7w==","subType":"04"}}"#,
    r#"{"$oid":"0123456789abcdef01234567"}"#,
    "false",
    "true",
    r#"{"$date":{"$numberLong":"-1"}}"#,
    r#"{"$date":{"$numberLong":"1700000000123"}}"#,
    r#"{"$timestamp":{"t":4294967295,"i":1}}"#,
    r#"{"$maxKey":1}"#,
];

/// Those of `IDS` that the store can hold beside the others.
fn held_ids(store: Store) -> Vec<&'static str> {
    IDS.into_iter().filter(|id| store.holds(id)).collect()
}

/// Stores a document with each of the ids, the last one first; `n` counts them from 0.
fn fill(server: &Server, ids: &[&str]) {
    let documents =
        ids.iter().enumerate().rev().map(|(n, id)| format!("{{\"_id\":{id},\"n\":{n}}}"));
    let posted = server.post(&format!("[{}]", documents.collect::<Vec<_>>().join(",")));
    assert_eq!(posted.status, 201, "{}", posted.text());
}

/// What `n` is in each document of each page, from `target` along the links.
fn walk(server: &Server, target: &str) -> Vec<Vec<u64>> {
    let numbers =
        |page: &Vec<Value>| page.iter().map(|document| document["n"].as_u64().unwrap()).collect();
    server.pages(target, 5000).iter().map(numbers).collect()
}

fn links_visit_every_document_once(store: Store) {
    let server = store.start(&[]);
    let ids = held_ids(store);
    fill(&server, &ids);
    let ascending: Vec<u64> = (0..ids.len() as u64).collect();
    let descending: Vec<u64> = ascending.iter().copied().rev().collect();
    for limit in 1..=ids.len() + 1 {
        for (order, expected) in [("asc", &ascending), ("desc", &descending)] {
            let pages = walk(&server, &format!("/data?limit={limit}&order={order}"));
            let expected: Vec<Vec<u64>> = expected.chunks(limit).map(<[u64]>::to_vec).collect();
            assert_eq!(pages, expected, "limit={limit} order={order}");
        }
    }
}

fn page_has_100_documents_by_default(store: Store) {
    let server = store.start(&[]);
    let ids: Vec<String> = (0..1234).map(|n| n.to_string()).collect();
    fill(&server, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let lengths = |target| walk(&server, target).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths("/data"), [[100; 12].as_slice(), &[34]].concat());
    assert_eq!(lengths("/data?limit=1000"), [1000, 234]);
    assert_eq!(lengths("/data?order=desc&limit=1000"), [1000, 234]);
    assert_eq!(lengths("/data?limit=1000&after=233"), [1000]);
}

fn full_last_page_has_no_link(store: Store) {
    let server = store.start(&[]);
    fill(&server, &["1", "2", "3"]);
    assert!(server.get("/data?limit=2").next_link().is_some());
    assert_eq!(server.get("/data?limit=3").next_link(), None);
    assert_eq!(server.get("/data?limit=1&after=2").next_link(), None);
    let behind = server.get("/data?after=3");
    assert_eq!((behind.text().as_str(), behind.next_link()), ("[]\n", None));
}

fn page_ends_at_4_mib(store: Store) {
    let server = store.start(&[("MAX_BODY", "6MiB")]);
    let padding = "x".repeat(1_000_000);
    for n in 0..6 {
        assert_eq!(
            server.post(&format!("{{\"_id\":{n},\"n\":{n},\"padding\":\"{padding}\"}}")).status,
            201
        );
    }
    assert_eq!(walk(&server, "/data"), [vec![0, 1, 2, 3], vec![4, 5]]);
    assert_eq!(walk(&server, "/data?order=desc"), [vec![5, 4, 3, 2], vec![1, 0]]);

    // One that is longer than a page is a page of its own.
    let padding = "x".repeat(5_000_000);
    assert_eq!(
        server.post(&format!("{{\"_id\":2.5,\"n\":25,\"padding\":\"{padding}\"}}")).status,
        201
    );
    assert_eq!(walk(&server, "/data?after=1.5"), [vec![2], vec![25], vec![3, 4, 5]]);
    assert_eq!(walk(&server, "/data?after=2"), [vec![25], vec![3, 4, 5]]);
}

fn concurrent_inserts_do_not_disturb_paging(store: Store) {
    let server = store.start(&[]);
    let even: Vec<String> = (0..50).map(|n| (n * 2).to_string()).collect();
    let documents: Vec<String> =
        even.iter().map(|id| format!("{{\"_id\":{id},\"n\":{id}}}")).collect();
    assert_eq!(server.post(&format!("[{}]", documents.join(","))).status, 201);

    let mut seen = Vec::new();
    let mut next = Some("/data?limit=7".to_owned());
    let mut odd = (0..50).map(|n| n * 2 + 1);
    while let Some(target) = next {
        let answer = server.get(&target);
        let documents = answer.json();
        seen.extend(
            documents.as_array().unwrap().iter().map(|document| document["n"].as_u64().unwrap()),
        );
        next = answer.next_link();
        for n in odd.by_ref().take(10) {
            assert_eq!(server.post(&format!("{{\"_id\":{n},\"n\":{n}}}")).status, 201);
        }
    }
    assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
    for n in (0..50).map(|n| n * 2) {
        assert!(seen.contains(&n), "{n} is not in {seen:?}");
    }
}

fn after_takes_id_of_no_document(store: Store) {
    let server = store.start(&[]);
    let ids = held_ids(store);
    fill(&server, &ids);
    let held: Vec<usize> = (0..IDS.len()).filter(|&n| ids.contains(&IDS[n])).collect();
    // By their places in `IDS`.
    for (after, ascending, descending) in [
        ("6", 7, Some(6)),
        ("-0.5", 6, Some(5)),
        ("zebra", 11, Some(10)),
        ("%22zebra%22", 11, Some(10)),
        ("%22%22", 9, Some(8)),
        ("a+b", 10, Some(9)),
        ("a%20b", 10, Some(9)),
        ("ffffffffffffffffffffffff", 15, Some(14)),
        ("%7B%22%24date%22%3A%222000-01-01T00%3A00%3A00Z%22%7D", 18, Some(17)),
        ("{}", 11, Some(10)),
    ] {
        let first = |order: &str| {
            let answer = server.get(&format!("/data?limit=1&order={order}&after={after}"));
            answer.json()[0]["n"].as_u64()
        };
        let ascending = held.iter().position(|&n| n >= ascending).map(|n| n as u64);
        let descending =
            descending.and_then(|last| held.iter().rposition(|&n| n <= last)).map(|n| n as u64);
        assert_eq!((first("asc"), first("desc")), (ascending, descending), "{after}");
    }
}

/// Stores `document`, and reads it where its `Location` says, and behind what comes before it.
#[track_caller]
fn assert_location_is_its_document(connection: &mut Connection, id: &str) {
    let document = format!("{{\"_id\":{id}}}");
    let posted = connection.request(
        "POST",
        "/data",
        &[("Content-Type", "application/json")],
        document.as_bytes(),
    );
    assert_eq!(posted.status, 201, "{document}: {}", posted.text());
    let location = posted.header("location").unwrap();
    assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location}");
    let got = connection.request("GET", location, &[], b"");
    assert_eq!(got.status, 200, "{document} at {location}: {}", got.text());
    // The answer to POST names the id as GET writes it.
    let written = posted.text();
    let written = written
        .trim_end()
        .strip_prefix("{\"inserted\":1,\"ids\":[")
        .unwrap()
        .strip_suffix("]}")
        .unwrap();
    assert_eq!(got.text(), format!("{{\"_id\":{written}}}\n"), "{location}");
    // A second one is refused, so the location is no other document's.
    let again = connection.request(
        "POST",
        "/data",
        &[("Content-Type", "application/json")],
        document.as_bytes(),
    );
    assert_eq!(again.status, 409, "{document}: {}", again.text());
}

fn location_leads_to_every_id_type(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    for id in held_ids(store) {
        assert_location_is_its_document(&mut connection, id);
    }
    let more = [
        r#"{"$code":"f()"}"#,
        r#"{"$code":"f()","$scope":{"a":1}}"#,
        r#"{"$dbPointer":{"$ref":"a.b","$id":{"$oid":"0123456789abcdef01234567"}}}"#,
        r#"{"$numberDouble":"1e-310"}"#,
        r#"{"$numberDouble":"3.0"}"#,
        r#"{"$numberLong":"9223372036854775807"}"#,
        r#"{"$date":{"$numberLong":"9223372036854775807"}}"#,
        r#"{"$date":"2024-02-29T00:00:00Z"}"#,
        r#"{"$uuid":"01234567-89ab-cdef-0123-456789abcdee"}"#,
        r#"{"$binary":{"base64":"AQ==","subType":"02"}}"#,
        r#"{"":null}"#,
        "{}",
        r#"{"a b":"/?#%","c":{"$d":1}}"#,
    ];
    for id in more.into_iter().filter(|id| store.holds(id)) {
        assert_location_is_its_document(&mut connection, id);
    }
}

/// Strings that look like something else: to a URL, to a path, to Extended JSON, to a shell, to a
/// person.
const HOSTILE: [&str; 77] = [
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "a\0b",
    ".",
    "..",
    "...",
    "/",
    "//",
    "a/b",
    "../data",
    "%",
    "%%",
    "%41",
    "%2F",
    "%00",
    "%zz",
    "+",
    "a+b",
    "a b",
    " a",
    "a ",
    "&",
    "=",
    "a=b&c=d",
    "?",
    "?limit=1",
    "#",
    "#a",
    ";",
    ":",
    "@",
    "*",
    "~",
    "-",
    "_",
    "'",
    "\"",
    "\"\"",
    "\"a\"",
    "\"a",
    "\\",
    "\\u0041",
    "<script>",
    "{",
    "}",
    "{}",
    "[",
    "]",
    "[1]",
    "1",
    "-1",
    "+1",
    "01",
    "1.0",
    "1e5",
    "1e400",
    "99999999999999999999",
    "NaN",
    "null",
    "true",
    " 1",
    "1 ",
    "\u{feff}1",
    "{\"$oid\":\"xyz\"}",
    "{\"$oid\":\"0123456789abcdef01234567\"}",
    "0123456789abcdef01234567",
    "0123456789ABCDEF01234567",
    "0123456789abcdef0123456",
    "0123456789abcdef012345678",
    "é",
    "😀",
    "\u{2028}",
    "\u{7f}",
];

fn location_leads_to_hostile_string(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    for text in HOSTILE {
        assert_location_is_its_document(&mut connection, &serde_json::to_string(text).unwrap());
    }
    let mut sorted = HOSTILE.to_vec();
    sorted.sort_by_key(|text| text.as_bytes());
    let mut next = Some("/data?limit=1".to_owned());
    let mut seen = Vec::new();
    while let Some(target) = next {
        let answer = connection.request("GET", &target, &[], b"");
        seen.push(answer.json()[0]["_id"].as_str().unwrap().to_owned());
        next = answer.next_link();
    }
    assert_eq!(seen, sorted);
}

fn location_leads_to_random_string(store: Store) {
    let server = store.start(&[]);
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(any::<String>(), 0..u64::MAX), |(text, unlike_others)| {
            let text = format!("{text}{unlike_others:x}");
            let mut connection = Connection::open(server.address);
            assert_location_is_its_document(
                &mut connection,
                &serde_json::to_string(&text).unwrap(),
            );
            Ok(())
        })
        .unwrap();
}

fn location_leads_to_long_json_id(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    // 1,019 control characters are 6 bytes each in JSON, and 8 in a URL.
    assert_location_is_its_document(&mut connection, &format!("\"{}\"", "\\u0001".repeat(1019)));
    // A URL has room for some values that are short in BSON, but not for all: then the document is
    // refused.
    for value in [
        r#"{"$undefined":true}"#,
        r#"{"$minKey":1}"#,
        r#"{"$regularExpression":{"pattern":"","options":""}}"#,
    ] {
        for count in [50, 100, 126, 170, 200] {
            let fields: Vec<String> = (1..=count)
                .filter(|n| *n != u32::from(b'$'))
                .map(|n| format!("\"{}\":{value}", escaped_key(n)))
                .collect();
            let id = format!("{{{}}}", fields.join(","));
            let document = format!("{{\"_id\":{id}}}");
            if server.post(&document).status == 201 {
                let fields = fields.iter().rev().cloned().collect::<Vec<_>>();
                assert_location_is_its_document(
                    &mut connection,
                    &format!("{{{}}}", fields.join(",")),
                );
            }
        }
    }
}

/// The shortest keys there are, written as long as possible.
fn escaped_key(n: u32) -> String {
    char::from_u32(n)
        .unwrap()
        .to_string()
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect()
}

/// What a client stores never makes a page longer or shorter for others: an `_id` that is taken
/// fits into a URL.
fn every_accepted_id_can_end_page(store: Store) {
    if store.lacks("undefined") {
        return;
    }
    let server = store.start(&[]);
    // No values are longer in a URL for their bytes of BSON.
    let object = |n: u32, count: u32| {
        let fields: Vec<String> =
            (0..count).map(|key| format!("\"\\\"{key:x}\":{{\"$undefined\":true}}")).collect();
        format!("{{\"n\":{n},{}}}", fields.join(","))
    };
    let mut taken = 0;
    for count in (1..200).step_by(3) {
        match server.post(&format!("{{\"_id\":{}}}", object(count, count))) {
            answer if answer.status == 201 => taken += 1,
            answer => {
                let detail = answer.problem(400);
                assert!(detail.contains("in a URL") || detail.contains("1024"), "{detail}");
            }
        }
    }
    assert!(taken > 50, "{taken}");
    let mut next = Some("/data?limit=1".to_owned());
    let mut pages = 0;
    while let Some(target) = next {
        let answer = server.get(&target);
        assert_eq!(answer.json().as_array().unwrap().len(), 1, "{target}");
        (pages, next) = (pages + 1, answer.next_link());
    }
    assert_eq!(pages, taken);
}

fn object_id_is_found_by_each_form(store: Store) {
    if store.lacks("an ObjectId and a string of the same digits") {
        return;
    }
    let server = store.start(&[]);
    server.post(r#"[{"_id":{"$oid":"0123456789abcdef01234567"},"n":1},{"_id":"0123456789abcdef01234567","n":2}]"#);
    for (segment, n) in [
        ("0123456789abcdef01234567", 1),
        ("0123456789ABCDEF01234567", 1),
        ("%7B%22%24oid%22%3A%220123456789abcdef01234567%22%7D", 1),
        ("{\"$oid\":\"0123456789abcdef01234567\"}", 1),
        ("%22%30123456789abcdef01234567%22", 2),
    ] {
        assert_eq!(server.get(&format!("/data/{segment}")).json()["n"], n, "{segment}");
    }
}

//! `format=canonical`: documents as canonical Extended JSON, in which an int64 stays one whatever
//! its size.

mod support;

use std::thread;

use support::{Answer, Connection, Server, Store};

stores![
    every_get_takes_format_parameter,
    canonical_export_imports_without_loss,
    next_link_keeps_format,
    shared_page_is_written_per_format,
    import_takes_largest_canonical_document,
];

const RELAXED: &str = r#"{"_id":1,"long":5,"int":-5,"whole":3.0,"when":{"$date":"2024-02-29T00:00:00Z"},"a":[1,{"b":1e+20}]}"#;
const CANONICAL: &str = r#"{"_id":{"$numberInt":"1"},"long":{"$numberLong":"5"},"int":{"$numberInt":"-5"},"whole":{"$numberDouble":"3.0"},"when":{"$date":{"$numberLong":"1709164800000"}},"a":[{"$numberInt":"1"},{"b":{"$numberDouble":"1e+20"}}]}"#;

fn export(server: &Server, query: &str) -> Answer {
    server.request("GET", &format!("/data{query}"), &[("Accept", "application/x-ndjson")], b"")
}

fn every_get_takes_format_parameter(store: Store) {
    let server = store.start(&[]);
    assert_eq!(server.post(CANONICAL).status, 201);
    for (query, text) in
        [("", RELAXED), ("?format=relaxed", RELAXED), ("?format=canonical", CANONICAL)]
    {
        assert_eq!(server.get(&format!("/data{query}")).text(), format!("[{text}]\n"));
        assert_eq!(server.get(&format!("/data/1{query}")).text(), format!("{text}\n"));
        assert_eq!(export(&server, query).text(), format!("{text}\n"));
    }
    for target in ["/data?format=bson", "/data?format=", "/data/1?format=Canonical", "/data/1?x=1"]
    {
        let detail = server.get(target).problem(400);
        assert!(detail.contains("format"), "{target}: {detail}");
    }
    server.get("/data/none?format=canonical").problem(404);
}

fn canonical_export_imports_without_loss(store: Store) {
    let (server, other) = (store.start(&[]), store.start(&[]));
    let lines: String =
        (0..2500).map(|n| format!("{{\"_id\":{{\"$numberLong\":\"{n}\"}},\"n\":{n}}}\n")).collect();
    assert_eq!(server.import(&lines).status, 201);
    let text = export(&server, "?format=canonical").text();
    assert_eq!(other.import(&text).status, 201);
    assert_eq!(export(&other, "?format=canonical").text(), text);
    assert!(
        text.starts_with("{\"_id\":{\"$numberLong\":\"0\"},\"n\":{\"$numberInt\":\"0\"}}\n"),
        "{}",
        &text[..80]
    );
}

fn next_link_keeps_format(store: Store) {
    let server = store.start(&[]);
    assert_eq!(server.import("{\"_id\":1}\n{\"_id\":2}\n{\"_id\":3}\n").status, 201);
    let mut next = Some("/data?limit=1&format=canonical".to_owned());
    let mut pages = String::new();
    while let Some(target) = next {
        let answer = server.get(&target);
        pages.push_str(&answer.text());
        next = answer.next_link();
    }
    let page = |n: u32| format!("[{{\"_id\":{{\"$numberInt\":\"{n}\"}}}}]\n");
    assert_eq!(pages, [page(1), page(2), page(3)].concat());
    assert!(!server.get("/data?limit=1&format=relaxed").next_link().unwrap().contains("canonical"));
}

fn shared_page_is_written_per_format(store: Store) {
    let server = store.start(&[]);
    assert_eq!(server.post(CANONICAL).status, 201);
    thread::scope(|scope| {
        for client in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let mut connection = Connection::open(server.address);
                for turn in 0..50 {
                    let (query, text) =
                        [("", RELAXED), ("?format=canonical", CANONICAL)][(client + turn) % 2];
                    let mut get = |target: &str| connection.request("GET", target, &[], b"").text();
                    assert_eq!(get(&format!("/data{query}")), format!("[{text}]\n"));
                    assert_eq!(get(&format!("/data/1{query}")), format!("{text}\n"));
                }
            });
        }
    });
}

/// An array of the shortest numbers is what grows most.
fn import_takes_largest_canonical_document(store: Store) {
    let settings = [("MAX_BODY", "16KiB")];
    let (server, other) = (store.start(&settings), store.start(&settings));
    let head = "{\"_id\":1,\"a\":[";
    let count = (16 * 1024 - head.len() - 1) / 2;
    let body = format!("{head}{}]}}", vec!["0"; count].join(","));
    assert_eq!(server.post(&body).status, 201);
    let text = export(&server, "?format=canonical").text();
    assert!(text.len() > 6 * 16 * 1024);
    assert_eq!(other.import(&text).text(), "{\"inserted\":1}\n");
}

//! Imports and exports: one document per line, of any number, in constant memory, and nothing lost
//! on the way.

mod support;

use std::io::Write;
use std::net::Shutdown;

use support::{Answer, Connection, Server, Store, wait_for};

stores![
    import_stores_every_line,
    import_stops_at_bad_line,
    import_error_quotes_key_unchanged,
    import_stores_all_before_bad_line,
    import_stops_at_existing_id,
    import_skips_and_counts_existing_ids,
    truncated_import_can_be_repeated,
    import_line_may_exceed_max_body,
    interrupted_import_keeps_whole_lines,
    import_takes_chunks_of_any_size,
    export_imports_without_loss,
    export_takes_page_parameters,
    export_over_http_1_0_closes_connection,
    import_and_export_use_constant_memory,
];

const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");

fn import_stores_every_line(store: Store) {
    let server = store.start(&[]);
    let answer = server.import(
        "{\"_id\":1}\n\n  \r\n{\"_id\":2}\r\n\t{ \"_id\" : 3 } \n{\"name\":\"Ada\"}\n{\"_id\":4}",
    );
    assert_eq!((answer.status, answer.header("content-type")), (201, Some("application/json")));
    assert_eq!((answer.text().as_str(), answer.header("location")), ("{\"inserted\":5}\n", None));
    assert_eq!(server.export().lines().count(), 5);
    // Nothing at all is the export of an empty collection.
    for nothing in ["\n", "\r\n \n"] {
        assert_eq!(server.import(nothing).text(), "{\"inserted\":0}\n");
    }
    let headers =
        [("Content-Type", "Application/X-NDJSON; charset=utf-8"), ("Content-Length", "0")];
    assert_eq!(server.request("POST", "/data", &headers, b"").text(), "{\"inserted\":0}\n");
}

/// Checks the problem that an import ended with, and that just as many documents were stored as it
/// says.
#[track_caller]
fn assert_stopped(
    server: &Server,
    answer: &Answer,
    status: u16,
    line: u64,
    inserted: u64,
) -> String {
    let detail = answer.problem(status);
    let problem = answer.json();
    assert_eq!(
        (&problem["line"], &problem["inserted"]),
        (&line.into(), &inserted.into()),
        "{detail}"
    );
    assert!(
        detail.contains(&format!("Line {line}:")) && detail.contains(&inserted.to_string()),
        "{detail}"
    );
    assert_eq!(server.export().lines().count() as u64, inserted);
    detail
}

fn import_stops_at_bad_line(store: Store) {
    for (bad, named) in [
        ("{\"_id\":3", "ends too early"),
        ("[{\"_id\":3}]", "not an array"),
        ("5", "not a number"),
        ("{\"_id\":3} {}", "more text"),
        ("{\"_id\":3,\"_id\":4}", "twice"),
        ("{\"_id\":3,\"a\":{\"$oid\":\"xyz\"}}", "$oid"),
        ("\u{feff}{}", "byte order mark"),
    ] {
        let server = store.start(&[]);
        let answer =
            server.import(&format!("{{\"_id\":1}}\n\n{{\"_id\":2}}\n{bad}\n{{\"_id\":5}}\n"));
        let detail = assert_stopped(&server, &answer, 400, 4, 2);
        assert!(detail.contains(named), "{detail}");
        // One line is named, the import's; and sentences end.
        assert!(
            !detail.contains(" at line") && detail.contains(". The import ends here"),
            "{detail}"
        );
    }
}

fn import_error_quotes_key_unchanged(store: Store) {
    let server = store.start(&[]);
    let key = "\"a at line 1 column 2\"";
    let answer = server.import(&format!("{{\"_id\":1}}\n{{{key}:1,{key}:2}}\n"));
    let detail = assert_stopped(&server, &answer, 400, 2, 1);
    assert!(detail.contains(key), "{detail}");
}

fn import_stores_all_before_bad_line(store: Store) {
    let server = store.start(&[]);
    let mut lines: Vec<String> = (1..=3000).map(|n| format!("{{\"_id\":{n}}}")).collect();
    lines[2345] = "{".to_owned();
    let answer = server.import(&lines.join("\n"));
    assert_stopped(&server, &answer, 400, 2346, 2345);
}

fn import_stops_at_existing_id(store: Store) {
    let server = store.start(&[]);
    assert_eq!(server.post("{\"_id\":1500,\"old\":true}").status, 201);
    let lines: String = (1..=5000).map(|n| format!("{{\"_id\":{n}}}\n")).collect();
    let answer = server.import(&lines);
    let detail = answer.problem(409);
    let problem = answer.json();
    assert!(detail.contains("Line 1500:"), "{detail}");
    assert_eq!(problem["line"], 1500);
    // It ends with the lines that were read together with that one.
    let inserted = problem["inserted"].as_u64().unwrap();
    assert!((1499..5000).contains(&inserted), "{detail}");
    let export = server.export();
    assert_eq!(export.lines().count() as u64, inserted + 1);
    assert_eq!(export.lines().nth(1499), Some("{\"_id\":1500,\"old\":true}"));
}

fn import_beside(server: &Server, existing: &str, lines: &str) -> Answer {
    server.request("POST", &format!("/data?existing={existing}"), &[NDJSON], lines.as_bytes())
}

fn import_skips_and_counts_existing_ids(store: Store) {
    let server = store.start(&[]);
    let old: Vec<String> =
        (0..100).map(|n| format!("{{\"_id\":{},\"old\":true}}", n * 30)).collect();
    assert_eq!(server.post(&format!("[{}]", old.join(","))).status, 201);
    let lines: String = (0..3000).map(|n| format!("{{\"_id\":{n}}}\n")).collect();
    import_beside(&server, "stop", &lines).problem(409);
    server.import(&lines).problem(409);
    assert_eq!(server.export().lines().filter(|line| line.contains("old")).count(), 100);

    // The rest of what those two have stored, and once more.
    let stored = server.export().lines().count();
    let expected = format!("{{\"inserted\":{},\"existing\":{stored}}}\n", 3000 - stored);
    let answer = import_beside(&server, "skip", &lines);
    assert_eq!((answer.status, answer.text()), (201, expected));
    assert_eq!(
        import_beside(&server, "skip", &lines).text(),
        "{\"inserted\":0,\"existing\":3000}\n"
    );
    assert_eq!(server.export().lines().filter(|line| line.contains("old")).count(), 100);

    // One without an _id of its own is always a new one; one that is there twice exists the second
    // time.
    let answer = import_beside(
        &server,
        "skip",
        "{\"n\":1}\n{\"_id\":1}\n{\"_id\":\"new\"}\n{\"_id\":\"new\"}\n{\"n\":1}\n",
    );
    assert_eq!(answer.text(), "{\"inserted\":3,\"existing\":2}\n");

    // Anything else still ends it.
    let answer =
        import_beside(&server, "skip", "{\"_id\":1}\n{\"_id\":\"newer\"}\n{\n{\"_id\":2}\n");
    let detail = answer.problem(400);
    let problem = answer.json();
    assert_eq!(
        (&problem["line"], &problem["inserted"], &problem["existing"]),
        (&3.into(), &1.into(), &1.into())
    );
    assert!(detail.contains("Line 3:"), "{detail}");
    let detail = import_beside(&server, "replace", "{}\n").problem(400);
    assert!(detail.contains("skip or stop"), "{detail}");
}

fn truncated_import_can_be_repeated(store: Store) {
    let server = store.start(&[]);
    let lines: String =
        (0..5000).map(|n| format!("{{\"_id\":{n},\"text\":\"some text\"}}\n")).collect();
    let mut connection = Connection::open(server.address);
    let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n";
    connection.send(
        format!("{head}Content-Length: {}\r\n\r\n{}", lines.len(), &lines[..lines.len() / 2])
            .as_bytes(),
    );
    connection.stream().shutdown(Shutdown::Write).unwrap();
    let inserted = connection.read_answer().unwrap().json()["inserted"].as_u64().unwrap();
    assert!((1..5000).contains(&inserted), "{inserted}");
    let expected = format!("{{\"inserted\":{},\"existing\":{inserted}}}\n", 5000 - inserted);
    assert_eq!(import_beside(&server, "skip", &lines).text(), expected);
    assert_eq!(server.export(), lines);
}

fn import_line_may_exceed_max_body(store: Store) {
    let server = store.start(&[("MAX_BODY", "1KiB")]);
    let line = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    assert_eq!(
        server.import(&format!("{}\n{}\n", line(10 * 1024 - 1), line(10 * 1024))).status,
        201
    );
    let before = server.export().lines().count() as u64;
    let answer = server.import(&format!("{}\n{{}}\n", line(10 * 1024 + 1)));
    let detail = answer.problem(413);
    assert!(detail.contains("Line 1:") && detail.contains("MAX_BODY"), "{detail}");
    assert_eq!(server.export().lines().count() as u64, before);
}

fn interrupted_import_keeps_whole_lines(store: Store) {
    let server = store.start(&[]);
    for (framing, n) in [("Content-Length: 1000000", 0), ("Transfer-Encoding: chunked", 10)] {
        let mut connection = Connection::open(server.address);
        connection.send(
            format!("POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n{framing}\r\n\r\n")
                .as_bytes(),
        );
        let lines = format!("{{\"_id\":{n}}}\n{{\"_id\":{}}}\n{{\"_id\":{}}}", n + 1, n + 2);
        let chunk = if n == 0 { lines } else { format!("{:x}\r\n{lines}\r\n", lines.len()) };
        connection.send(chunk.as_bytes());
        connection.stream().shutdown(Shutdown::Write).unwrap();
        let answer = connection.read_answer().unwrap();
        let detail = answer.problem(400);
        assert!(detail.contains("closed"), "{detail}");
        assert_eq!(answer.json()["inserted"], 2);
    }
    // The last line may have been cut off anywhere, also where what came of it is a document.
    assert_eq!(server.export(), "{\"_id\":0}\n{\"_id\":1}\n{\"_id\":10}\n{\"_id\":11}\n");
}

fn import_takes_chunks_of_any_size(store: Store) {
    let server = store.start(&[]);
    let lines: String = (0..500).map(|n| format!("{{\"_id\":{n},\"text\":\"é😀\"}}\n")).collect();
    let mut body = Vec::new();
    let (mut rest, mut size) = (lines.as_bytes(), 1);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(size.min(rest.len()));
        write!(body, "{:X}\r\n", chunk.len()).unwrap();
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
        (rest, size) = (behind, size % 97 + 1);
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut connection = Connection::open(server.address);
    connection.send(
        b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n\
          Transfer-Encoding: chunked\r\n\r\n",
    );
    connection.send(&body);
    assert_eq!(connection.read_answer().unwrap().text(), "{\"inserted\":500}\n");
    assert_eq!(server.export(), lines);
}

/// Documents with a value of every type, and of those that are easily lost.
const DOCUMENTS: [&str; 14] = [
    r#"{"_id":null,"z":1,"a":2,"":{"$numberDouble":"-0.0"},"nan":{"$numberDouble":"NaN"}}"#,
    r#"{"_id":1,"int":2147483647,"long":2147483648,"min":-9223372036854775808,"infinite":{"$numberDouble":"-Infinity"}}"#,
    r#"{"_id":2.5,"double":3.0,"tiny":5e-324,"huge":1.7976931348623157e+308,"third":0.3333333333333333}"#,
    r#"{"_id":"a","decimal":[{"$numberDecimal":"1.10"},{"$numberDecimal":"-0E+3"},{"$numberDecimal":"NaN"}]}"#,
    r#"{"_id":{"$symbol":"b"},"decimal":{"$numberDecimal":"9.999999999999999999999999999999999E+6144"}}"#,
    r#"{"_id":{"a":{"$minKey":1}},"text":"\u0000\u001f\"\\/é😀","nested":{"a":{"b":[[],{},[{}]]}}}"#,
    r#"{"_id":{"$binary":{"base64":"/+8=","subType":"80"}},"old":{"$binary":{"base64":"AQID","subType":"02"}}}"#,
    r#"{"_id":{"$binary":{"base64":"ASNFZ4mrze8BI0VniavN7w==","subType":"04"}},"empty":{"$binary":{"base64":"","subType":"00"}}}"#,
    r#"{"_id":{"$oid":"0123456789abcdef01234567"},"code":{"$code":"f()"},"scoped":{"$code":"g","$scope":{"x":1}}}"#,
    r#"{"_id":true,"regex":{"$regularExpression":{"pattern":"^\\d\"","options":"ix"}},"undefined":{"$undefined":true}}"#,
    r#"{"_id":{"$date":{"$numberLong":"-1"}},"first":{"$date":{"$numberLong":"-9223372036854775808"}}}"#,
    r#"{"_id":{"$date":"9999-12-31T23:59:59.999Z"},"next":{"$date":{"$numberLong":"253402300800000"}}}"#,
    r#"{"_id":{"$timestamp":{"t":4294967295,"i":4294967295}},"max":{"$maxKey":1},"ref":{"$ref":"a","$id":1,"$db":"b"}}"#,
    r#"{"_id":{"$maxKey":1},"pointer":{"$dbPointer":{"$ref":"a.b","$id":{"$oid":"0123456789abcdef01234567"}}}}"#,
];

fn export_imports_without_loss(store: Store) {
    let (server, other) = (store.start(&[]), store.start(&[]));
    let documents: Vec<&str> =
        DOCUMENTS.into_iter().filter(|document| store.holds(document)).collect();
    let mut lines = documents.join("\n") + "\n";
    lines.extend((2..2500).map(|n| format!("{{\"_id\":{n},\"n\":{}}}\n", n as f64 / 3.0)));
    let answer = server.import(&lines);
    assert_eq!(answer.text(), format!("{{\"inserted\":{}}}\n", documents.len() + 2498));

    let answer = server.request("GET", "/data", &[("Accept", "application/x-ndjson")], b"");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let export = answer.text();
    assert_eq!(other.import(&export).status, 201);
    assert_eq!(other.export(), export);
    for document in documents {
        let written = document.replace(r#"{"$numberDouble":"-0.0"}"#, "-0.0");
        assert!(export.lines().any(|line| line == written), "{written} is not in the export");
    }
}

fn export_takes_page_parameters(store: Store) {
    let server = store.start(&[]);
    let lines: String = (0..3500).map(|n| format!("{{\"_id\":{n}}}\n")).collect();
    assert_eq!(server.import(&lines).status, 201);
    let ids = |query: &str| -> Vec<u64> {
        let answer = server.request(
            "GET",
            &format!("/data?{query}"),
            &[("Accept", "application/x-ndjson")],
            b"",
        );
        assert_eq!((answer.status, answer.next_link()), (200, None));
        let id = |line: &str| line.strip_prefix("{\"_id\":")?.strip_suffix('}')?.parse().ok();
        answer.text().lines().map(|line| id(line).unwrap()).collect()
    };
    assert_eq!(ids(""), (0..3500).collect::<Vec<_>>());
    assert_eq!(ids("order=desc"), (0..3500).rev().collect::<Vec<_>>());
    for limit in [1, 999, 1000, 1001, 2500, 3500, 100_000] {
        assert_eq!(ids(&format!("limit={limit}")), (0..3500.min(limit)).collect::<Vec<_>>());
    }
    assert_eq!(ids("limit=2000&after=1234&order=desc"), (0..1234).rev().collect::<Vec<_>>());
    assert_eq!(ids("limit=2000&after=1234"), (1235..3235).collect::<Vec<_>>());
    assert!(ids("after=%22a%22").is_empty());
}

fn export_over_http_1_0_closes_connection(store: Store) {
    let server = store.start(&[]);
    let lines: String = (0..2500).map(|n| format!("{{\"_id\":{n}}}\n")).collect();
    assert_eq!(server.import(&lines).status, 201);
    let mut connection = Connection::open(server.address);
    connection.send(
        b"GET /data HTTP/1.0\r\nConnection: keep-alive\r\nAccept: application/x-ndjson\r\n\r\n",
    );
    let answer = connection.read_answer().unwrap();
    assert_eq!(
        (answer.header("transfer-encoding"), answer.header("connection")),
        (None, Some("close"))
    );
    assert_eq!(answer.text(), lines);
}

fn import_and_export_use_constant_memory(store: Store) {
    const LINE: usize = 100_000;
    const LINES: usize = 400;
    if store.lacks("an answer ends at 16 MiB and goes on in the next") {
        return;
    }
    let server = store.start(&[]);
    let padding = "x".repeat(LINE - 20);
    let mut connection = Connection::open(server.address);
    connection.send(
        b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n\
          Transfer-Encoding: chunked\r\n\r\n",
    );
    for n in 0..LINES {
        let line = format!("{{\"_id\":{n},\"a\":\"{padding}\"}}\n");
        connection.send(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.read_answer().unwrap().text(), format!("{{\"inserted\":{LINES}}}\n"));
    let after_import = server.peak_kib();
    assert!(
        after_import < 40_000,
        "{after_import} KiB after an import of {} MB",
        LINE * LINES / 1_000_000
    );

    // A client that takes its time makes the server wait, not fill up.
    connection.send(b"GET /data HTTP/1.1\r\nHost: test\r\nAccept: application/x-ndjson\r\n\r\n");
    wait_for("the export to begin", || {
        (connection.stream().peek(&mut [0]).unwrap() > 0).then_some(())
    });
    assert_eq!(connection.read_answer().unwrap().text().lines().count(), LINES);
    let after_export = server.peak_kib();
    assert!(
        after_export < 60_000,
        "{after_export} KiB after an export of {} MB",
        LINE * LINES / 1_000_000
    );
    let headers = [NDJSON];
    assert_eq!(connection.request("POST", "/data", &headers, b"{}").status, 201);
}

//! The HTTP contract: what is refused, with which status, and how the answer says what was wrong.

mod support;

use support::{Connection, Store, wait_for};

stores![
    post_refuses_body_without_documents,
    post_stores_nothing_of_invalid_array,
    post_limits_nesting_to_100_levels,
    id_takes_at_most_1024_bytes,
    unknown_path_gets_404,
    unreadable_id_gets_400,
    wrong_method_gets_405_with_allow,
    unknown_parameter_gets_400_listing_known,
    invalid_parameter_gets_400_naming_it,
    wrong_content_type_gets_415,
    content_encoding_gets_415,
    large_body_gets_413_before_reading,
    large_chunked_body_gets_413,
    data_requires_bearer_token,
];

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn post_refuses_body_without_documents(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    for (body, details) in [
        (" ", ["empty", ""]),
        ("{", ["ends too early", "line 1 column 1"]),
        ("{\"a\":\n  nope}", ["line 2 column 4", ""]),
        ("{\"a\":1,}", ["line 1 column 8", ""]),
        ("{'a':1}", ["double quotes", "line 1 column 2"]),
        ("{\"a\":01}", ["line 1 column", ""]),
        ("{\"a\":NaN}", ["line 1 column", ""]),
        ("{} {}", ["more text", "line 1 column 4"]),
        ("\u{feff}{}", ["byte order mark", ""]),
        ("{\"a\":\"\\ud800\"}", ["surrogate", ""]),
        ("5", ["a document", "not a number"]),
        ("\"x\"", ["a document", "not a string"]),
        ("null", ["a document", "not null"]),
        ("[]", ["empty", ""]),
        ("[1]", ["index 0", ""]),
        ("[{},[]]", ["index 1", "not an array"]),
        ("{\"a\":1,\"b\":2,\"a\":3}", ["\"a\"", "twice"]),
        ("{\"o\":{\"a\":1,\"\\u0061\":3}}", ["\"a\"", "twice"]),
        ("{\"n\":9223372036854775808}", ["9223372036854775808", "$numberDecimal"]),
        ("{\"n\":-9223372036854775809}", ["-9223372036854775809", "$numberDecimal"]),
        (
            "{\"n\":123456789012345678901234567890}",
            ["123456789012345678901234567890", "$numberDecimal"],
        ),
        ("{\"n\":1e400}", ["too large for a double", "$numberDecimal"]),
        ("{\"a\\u0000b\":1}", ["NUL", ""]),
        ("{\"_id\":[1]}", ["_id", "array"]),
        (
            "{\"_id\":{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}}}",
            ["_id", "regular expression"],
        ),
        ("{\"_id\":{\"$undefined\":true}}", ["_id", "undefined"]),
        ("{\"_id\":{\"a\":1,\"$b\":1}}", ["_id", "begins with $"]),
        ("{\"$oid\":\"xyz\"}", ["$oid", ""]),
        ("{\"$oid\":\"0123456789abcdef01234567\"}", ["$oid", "not a document"]),
        ("{\"a\":{\"$oid\":\"xyz\"}}", ["$oid", "24 hexadecimal digits"]),
    ] {
        let detail = connection.request("POST", "/data", &[JSON], body.as_bytes()).problem(400);
        for expected in details {
            assert!(detail.contains(expected), "{body} -> {detail:?} without {expected:?}");
        }
    }
    let detail =
        connection.request("POST", "/data", &[JSON, ("Content-Length", "0")], b"").problem(400);
    assert!(detail.contains("empty"), "{detail}");
    let detail = connection.request("POST", "/data", &[JSON], b"{\"a\":\"\xff\"}").problem(400);
    assert!(detail.contains("UTF-8"), "{detail}");
    assert_eq!(server.get("/data").text(), "[]\n");
}

fn post_stores_nothing_of_invalid_array(store: Store) {
    let server = store.start(&[]);
    let good: String = (0..1500).map(|n| format!("{{\"_id\":{n}}},")).collect();
    let detail = server.post(&format!("[{good}{{\"_id\":[]}}]")).problem(400);
    assert!(detail.contains("array"), "{detail}");
    assert_eq!(server.get("/data").text(), "[]\n");
}

fn post_limits_nesting_to_100_levels(store: Store) {
    let server = store.start(&[]);
    let nested = |levels: usize, open: &str, close: &str| {
        format!("{{\"_id\":1,\"v\":{}1{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for (open, close) in [("{\"a\":", "}"), ("[", "]")] {
        for levels in [101, 102, 1000, 100_000] {
            let detail = server.post(&nested(levels, open, close)).problem(400);
            assert!(detail.contains("deeper than 100"), "{detail}");
        }
    }
    let deepest = nested(100, "{\"a\":", "}");
    assert_eq!(server.post(&deepest).status, 201);
    assert_eq!(server.get("/data/1").text().trim_end(), deepest);
}

fn id_takes_at_most_1024_bytes(store: Store) {
    let server = store.start(&[]);
    // A string's length and NUL are counted in.
    let longest = "x".repeat(1024 - 4 - 1);
    let posted = server.post(&format!("{{\"_id\":\"{longest}\"}}"));
    assert_eq!(posted.status, 201, "{}", posted.text());
    assert_eq!(server.get(posted.header("location").unwrap()).status, 200);
    let detail = server.post(&format!("{{\"_id\":\"{longest}x\"}}")).problem(400);
    assert!(detail.contains("1024"), "{detail}");
}

fn unknown_path_gets_404(store: Store) {
    let server = store.start(&[]);
    for target in
        ["/nothing", "/data/", "/data/a/b", "/database", "/Data", "//", "/healthz", "/?/data/1/2"]
    {
        let answer = server.get(target);
        if target.starts_with("/?") {
            answer.problem(400);
            continue;
        }
        let detail = answer.problem(404);
        assert!(detail.contains("/data/<id>"), "{target}: {detail}");
    }
    let detail = server.get("/data/0123456789abcdef01234567").problem(404);
    assert!(detail.contains("_id"), "{detail}");
    // The method does not matter to a path that is not there.
    server.request("DELETE", "/nothing", &[], b"").problem(404);
}

fn unreadable_id_gets_400(store: Store) {
    let server = store.start(&[]);
    for (segment, named) in [
        ("%", "%"),
        ("%4", "%"),
        ("%zz", "%"),
        ("%FF", "UTF-8"),
        ("%7B%22%24oid%22%3A%22xyz%22%7D", "$oid"),
        ("%5B1%5D", "array"),
        ("%7B%22%24a%22%3A1%7D", "$"),
        ("99999999999999999999", "99999999999999999999"),
    ] {
        let detail = server.get(&format!("/data/{segment}")).problem(400);
        assert!(detail.contains(named), "{segment}: {detail}");
        let detail = server.get(&format!("/data?after={segment}")).problem(400);
        assert!(detail.contains(named), "{segment}: {detail}");
    }
    // Longer than it may be to be stored here, but others may have stored it.
    server.get(&format!("/data/{}", "x".repeat(10_000))).problem(404);
}

fn wrong_method_gets_405_with_allow(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    for (target, methods, allowed) in [
        ("/", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"], "GET, HEAD"),
        (
            "/data",
            ["PATCH", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "post"],
            "GET, HEAD, POST",
        ),
        (
            "/data/1",
            ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"],
            "GET, HEAD",
        ),
    ] {
        for method in methods {
            let answer = connection.request(method, target, &[JSON], b"{}");
            let detail = answer.problem(405);
            assert_eq!(answer.header("allow"), Some(allowed), "{method} {target}");
            assert!(detail.contains(allowed), "{detail}");
        }
    }
    assert_eq!(server.get("/data").text(), "[]\n");
}

fn unknown_parameter_gets_400_listing_known(store: Store) {
    let server = store.start(&[]);
    for target in
        ["/data?limt=5", "/data?limit=5&page=2", "/data?Limit=1", "/data?x", "/data?%6Cimits=1"]
    {
        let detail = server.get(target).problem(400);
        assert!(detail.contains("limit, order, after"), "{target}: {detail}");
    }
    for (target, known) in [("/?limit=1", "takes none"), ("/data/1?limit=1", "takes only format")] {
        let detail = server.get(target).problem(400);
        assert!(detail.contains("\"limit\"") && detail.contains(known), "{target}: {detail}");
    }
    let detail = server.request("POST", "/data?limit=1", &[JSON], b"{}").problem(400);
    assert!(detail.contains("takes only existing"), "{detail}");
    let detail = server.request("POST", "/data?existing=skip", &[JSON], b"{}").problem(400);
    assert!(detail.contains("application/x-ndjson"), "{detail}");
    // A query of nothing is none, and a name may be percent-encoded.
    for target in ["/?", "/data?", "/data?&", "/data?%6Cimit=1"] {
        assert_eq!(server.get(target).status, 200, "{target}");
    }
}

fn invalid_parameter_gets_400_naming_it(store: Store) {
    let server = store.start(&[]);
    for (query, details) in [
        ("limit=0", ["limit", "1 to 1000"]),
        ("limit=1001", ["limit", "1 to 1000"]),
        ("limit=-1", ["limit", "1 to 1000"]),
        ("limit=", ["limit", "1 to 1000"]),
        ("limit", ["limit", "1 to 1000"]),
        ("limit=ten", ["limit", "1 to 1000"]),
        ("limit=1.0", ["limit", "1 to 1000"]),
        ("limit=99999999999999999999999", ["limit", "1 to 1000"]),
        ("order=", ["order", "asc or desc"]),
        ("order=ASC", ["order", "asc or desc"]),
        ("after=", ["after", "_id"]),
        ("limit=1&limit=1", ["limit", "twice"]),
        ("limit=%", ["%", ""]),
    ] {
        let detail = server.get(&format!("/data?{query}")).problem(400);
        assert!(details.iter().all(|expected| detail.contains(expected)), "{query}: {detail}");
    }
    let detail = server
        .request("GET", "/data?limit=0", &[("Accept", "application/x-ndjson")], b"")
        .problem(400);
    assert!(detail.contains("limit"), "{detail}");
}

fn wrong_content_type_gets_415(store: Store) {
    let server = store.start(&[]);
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=iso-8859-1",
        "application/x-ndjson; charset=utf-16",
        "application/jsonx",
        "",
    ] {
        let answer = server.request("POST", "/data", &[("Content-Type", content_type)], b"{}");
        let detail = answer.problem(415);
        assert!(
            detail.contains("curl --json") && detail.contains("application/x-ndjson"),
            "{detail}"
        );
    }
    server.request("POST", "/data", &[], b"{}").problem(415);
    assert_eq!(server.get("/data").text(), "[]\n");
}

fn content_encoding_gets_415(store: Store) {
    let server = store.start(&[]);
    for (coding, status) in [("gzip", 415), ("br, gzip", 415), ("identity", 201), ("Identity", 201)]
    {
        for content_type in ["application/json", "application/x-ndjson"] {
            let headers = [("Content-Type", content_type), ("Content-Encoding", coding)];
            let answer = server.request("POST", "/data", &headers, b"{}");
            assert_eq!(answer.status, status, "{coding}");
            if status == 415 {
                assert!(answer.problem(415).contains("Content-Encoding"));
            }
        }
    }
}

fn large_body_gets_413_before_reading(store: Store) {
    let server = store.start(&[("MAX_BODY", "2KiB")]);
    let body = |length: usize| format!("{{\"_id\":1,\"a\":\"{}\"}}", "x".repeat(length - 16));
    let posted = server.post(&body(2048));
    assert_eq!(posted.status, 201, "{}", posted.text());

    let mut connection = Connection::open(server.address);
    connection
        .send(b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 2049\r\n\r\n");
    let detail = connection.read_answer().unwrap().problem(413);
    assert!(
        detail.contains("2048 bytes") && detail.contains("MAX_BODY") && detail.contains("ndjson"),
        "{detail}"
    );
}

fn large_chunked_body_gets_413(store: Store) {
    let server = store.start(&[("MAX_BODY", "2KiB")]);
    let mut connection = Connection::open(server.address);
    connection.send(
        b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    connection.send(format!("801\r\n{}\r\n", " ".repeat(0x801)).as_bytes());
    connection.read_answer().unwrap().problem(413);
}

fn data_requires_bearer_token(store: Store) {
    let server = store.start(&[("API_TOKEN", "open-sesame")]);
    for target in ["/data", "/data/1"] {
        for authorization in [
            "",
            "open-sesame",
            "Bearer",
            "Bearer ",
            "Bearer open",
            "Bearer open-sesame2",
            "Bearer Open-sesame",
            "Bearer open-sesamf",
            "Basic open-sesame",
        ] {
            let answer = server.request("GET", target, &[("Authorization", authorization)], b"");
            let detail = answer.problem(401);
            assert!(detail.contains("token") && !detail.contains("sesame"), "{detail}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        server.request("GET", target, &[], b"").problem(401);
    }
    server.post("{}").problem(401);
    server.import("{}").problem(401);
    server.request("DELETE", "/data", &[], b"").problem(401);

    let given = ("Authorization", "Bearer open-sesame");
    assert_eq!(server.request("POST", "/data", &[JSON, given], b"{\"_id\":1}").status, 201);
    assert_eq!(server.request("GET", "/data/1", &[given], b"").status, 200);
    let given = ("authorization", "bearer   open-sesame");
    assert_eq!(server.request("GET", "/data", &[given], b"").status, 200);
    // Nothing is behind these that one would have to protect.
    assert_eq!(server.get("/").status, 200);
    server.get("/nothing").problem(404);
    wait_for("/readyz", || (server.ops("/readyz").status == 200).then_some(()));
}

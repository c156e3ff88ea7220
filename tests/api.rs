//! The HTTP contract: what each route answers, and in which form. What is refused is in
//! api_errors.rs, pages are in paging.rs, imports and exports in import.rs.

mod support;

use support::{Answer, Connection, Store};

stores![
    welcome_gives_utc_time_with_milliseconds,
    welcome_negotiates_json_or_html,
    post_returns_location_of_document,
    document_keeps_key_order_after_id,
    post_stores_array_in_order,
    post_stores_array_longer_than_command,
    array_takes_at_most_10000_documents,
    empty_page_is_empty_array,
    get_negotiates_form_of_documents,
    post_takes_spellings_of_json_type,
    post_takes_chunked_body,
    request_takes_absolute_target,
    answer_has_date_and_length,
    head_answers_as_get_without_body,
    post_names_existing_id_in_conflict,
    post_stores_array_without_existing_ids,
    array_refused_for_one_reason_lists_each_document,
    post_replaces_taken_generated_id,
    request_id_reveals_no_object_ids,
    expect_header_gets_100_continue,
    refused_expectation_gets_only_refusal,
];

fn welcome_gives_utc_time_with_milliseconds(store: Store) {
    let server = store.start(&[]);
    let before = chrono::Utc::now();
    let answer = server.get("/");
    let after = chrono::Utc::now();

    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/plain; charset=utf-8"))
    );
    let text = answer.text();
    let time =
        text.strip_prefix("Welcome to the two-tier app! The current time is: ").unwrap().trim_end();
    assert_eq!(
        (time.len(), &time[19..20], &time[23..]),
        ("2024-01-31T23:59:59.999Z".len(), ".", "Z"),
        "{time}"
    );
    let time = chrono::DateTime::parse_from_rfc3339(time).unwrap();
    // It is cut to the millisecond.
    assert!(
        (before.timestamp_millis()..=after.timestamp_millis()).contains(&time.timestamp_millis()),
        "{time}"
    );
}

fn welcome_negotiates_json_or_html(store: Store) {
    let server = store.start(&[]);
    for (accept, content_type) in [
        ("*/*", "text/plain; charset=utf-8"),
        ("text/*", "text/plain; charset=utf-8"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "text/html; charset=utf-8"),
        ("TEXT/HTML", "text/html; charset=utf-8"),
        ("text/plain;q=0.5, text/html;q=0.6", "text/html; charset=utf-8"),
        ("text/plain, text/html", "text/plain; charset=utf-8"),
        ("text/html, application/json", "application/json"),
        ("text/html;q=0, */*", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("application/*", "application/json"),
        ("text/plain;q=0.5, application/json", "application/json"),
        ("text/plain, application/json;q=0.9", "text/plain; charset=utf-8"),
        ("application/json;q=0, */*", "text/plain; charset=utf-8"),
        // What neither offer satisfies is answered with the first one rather than refused.
        ("image/png", "text/plain; charset=utf-8"),
    ] {
        let answer = server.request("GET", "/", &[("Accept", accept)], b"");
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(content_type)),
            "{accept}"
        );
        assert_eq!(answer.header("vary"), Some("Accept"));
        if content_type == "application/json" {
            let welcome = answer.json();
            assert_eq!(welcome["message"], "Welcome to the two-tier app!");
            chrono::DateTime::parse_from_rfc3339(welcome["time"].as_str().unwrap()).unwrap();
        }
    }
}

fn post_returns_location_of_document(store: Store) {
    let server = store.start(&[]);
    let posted = server.post(r#"{"name":"Ada"}"#);
    assert_eq!((posted.status, posted.header("content-type")), (201, Some("application/json")));
    let id = posted.json()["ids"][0]["$oid"].as_str().unwrap().to_owned();
    assert_eq!(posted.text(), format!("{{\"inserted\":1,\"ids\":[{{\"$oid\":\"{id}\"}}]}}\n"));
    assert_eq!(posted.header("location"), Some(format!("/data/{id}").as_str()));

    let got = server.get(&format!("/data/{id}"));
    assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")));
    assert_eq!(got.text(), format!("{{\"_id\":{{\"$oid\":\"{id}\"}},\"name\":\"Ada\"}}\n"));
    assert_eq!(server.get("/data").text().trim_end(), format!("[{}]", got.text().trim_end()));
}

fn document_keeps_key_order_after_id(store: Store) {
    let server = store.start(&[]);
    let posted =
        server.post(r#" { "z" : 1 , "a":{"y":[true,null],"b":"x"}, "_id" : 7, "":0, "m":2.50 } "#);
    assert_eq!(posted.header("location"), Some("/data/7"));
    assert_eq!(
        server.get("/data/7").text(),
        "{\"_id\":7,\"z\":1,\"a\":{\"y\":[true,null],\"b\":\"x\"},\"\":0,\"m\":2.5}\n"
    );
}

fn post_stores_array_in_order(store: Store) {
    let server = store.start(&[]);
    let posted = server
        .post(r#"[{"_id":"b"},{"_id":3},{"n":1},{"_id":{"$oid":"0123456789abcdef01234567"}}]"#);
    assert_eq!((posted.status, posted.header("location")), (201, None));
    let answer = posted.json();
    assert_eq!((&answer["inserted"], answer["ids"].as_array().unwrap().len()), (&4.into(), 4));
    assert_eq!((&answer["ids"][0], &answer["ids"][1]), (&"b".into(), &3.into()));
    assert_eq!(answer["ids"][3]["$oid"], "0123456789abcdef01234567");
    assert_eq!(server.get("/data").json().as_array().unwrap().len(), 4);

    // An array of one is still an array.
    let posted = server.post(r#"[{"_id":"c"}]"#);
    assert_eq!(
        (posted.header("location"), posted.text().as_str()),
        (None, "{\"inserted\":1,\"ids\":[\"c\"]}\n")
    );
}

fn post_stores_array_longer_than_command(store: Store) {
    let server = store.start(&[]);
    let documents: Vec<String> = (0..2500).map(|n| format!("{{\"_id\":{n}}}")).collect();
    let answer = server.post(&format!("[{}]", documents.join(","))).json();
    assert_eq!(answer["inserted"], 2500);
    assert!(answer["ids"].as_array().unwrap().iter().enumerate().all(|(n, id)| *id == n));
    assert_eq!(server.export().lines().count(), 2500);
}

fn array_takes_at_most_10000_documents(store: Store) {
    let server = store.start(&[]);
    let array = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    let detail = server.post(&array(10_001)).problem(413);
    assert!(detail.contains("10000") && detail.contains("x-ndjson"), "{detail}");
    assert_eq!(server.get("/data").text(), "[]\n");
    assert_eq!(server.post(&array(10_000)).json()["inserted"], 10_000);
}

fn empty_page_is_empty_array(store: Store) {
    let answer = store.start(&[]).get("/data");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!((answer.text().as_str(), answer.next_link()), ("[]\n", None));
}

fn get_negotiates_form_of_documents(store: Store) {
    let server = store.start(&[]);
    server.post(r#"[{"_id":1},{"_id":2}]"#);
    for (accept, content_type, body) in [
        ("*/*", "application/json", "[{\"_id\":1},{\"_id\":2}]\n"),
        ("text/html", "application/json", "[{\"_id\":1},{\"_id\":2}]\n"),
        (
            "application/json;q=0.5, application/x-ndjson",
            "application/x-ndjson",
            "{\"_id\":1}\n{\"_id\":2}\n",
        ),
        (
            "application/x-ndjson;q=0.9, application/*",
            "application/json",
            "[{\"_id\":1},{\"_id\":2}]\n",
        ),
        ("Application/X-NDJSON", "application/x-ndjson", "{\"_id\":1}\n{\"_id\":2}\n"),
    ] {
        let answer = server.request("GET", "/data", &[("Accept", accept)], b"");
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(content_type)),
            "{accept}"
        );
        assert_eq!(
            (answer.text().as_str(), answer.header("vary")),
            (body, Some("Accept")),
            "{accept}"
        );
    }
}

fn post_takes_spellings_of_json_type(store: Store) {
    let server = store.start(&[]);
    for content_type in [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json ; profile=x; Charset=UTF-8",
    ] {
        let answer = server.request("POST", "/data", &[("Content-Type", content_type)], b"{}");
        assert_eq!(answer.status, 201, "{content_type}: {}", answer.text());
    }
}

fn post_takes_chunked_body(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    connection.send(
        b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
          5\r\n{\"_id\r\n3;extension\r\n\":1\r\n1\r\n}\r\n0\r\n\r\n",
    );
    assert_eq!(connection.read_answer().unwrap().status, 201);
    assert_eq!(connection.request("GET", "/data/1", &[], b"").text(), "{\"_id\":1}\n");
}

fn request_takes_absolute_target(store: Store) {
    let server = store.start(&[]);
    server.post(r#"{"_id":1}"#);
    assert_eq!(server.get("http://two-tier.example/data/1").text(), "{\"_id\":1}\n");
    assert_eq!(server.get("http://two-tier.example/data?limit=1").text(), "[{\"_id\":1}]\n");
    assert!(server.get("http://two-tier.example").text().starts_with("Welcome"));
}

fn answer_has_date_and_length(store: Store) {
    let server = store.start(&[]);
    for answer in [
        server.get("/"),
        server.get("/data"),
        server.get("/nothing"),
        server.post("{}"),
        server.post("{"),
    ] {
        let date = answer.header("date").unwrap();
        let date = chrono::DateTime::parse_from_rfc2822(date).unwrap().to_utc();
        assert!((chrono::Utc::now() - date).num_seconds() < 10, "{date}");
        assert!(answer.header("date").unwrap().ends_with(" GMT"));
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    }
}

fn head_answers_as_get_without_body(store: Store) {
    let server = store.start(&[]);
    server.post(r#"[{"_id":1},{"_id":2}]"#);
    // One connection: a body behind an answer to HEAD would be taken for the next answer.
    let mut connection = Connection::open(server.address);
    for (target, accept) in [
        ("/", "*/*"),
        ("/", "application/json"),
        ("/data?limit=1", "*/*"),
        ("/data", "application/x-ndjson"),
        ("/data/1", "*/*"),
        ("/data/3", "*/*"),
        ("/data?nothing=1", "*/*"),
        ("/nothing", "*/*"),
    ] {
        let head = connection.request("HEAD", target, &[("Accept", accept)], b"");
        let get = connection.request("GET", target, &[("Accept", accept)], b"");
        let comparable = |answer: &Answer| {
            let headers =
                answer.headers.iter().filter(|(name, _)| name != "date" && name != "x-request-id");
            (answer.status, headers.cloned().collect::<Vec<_>>())
        };
        assert_eq!(comparable(&head), comparable(&get), "{target} {accept}");
        assert!(!get.body.is_empty());
    }
}

fn post_names_existing_id_in_conflict(store: Store) {
    let server = store.start(&[]);
    for (first, again, named) in [
        ("\"a\"", "\"a\"", "\"a\""),
        ("1", "1.0", "1.0"),
        ("{\"$numberLong\":\"2\"}", "2", "2"),
        (
            "{\"$oid\":\"0123456789abcdef01234567\"}",
            "{\"$oid\":\"0123456789ABCDEF01234567\"}",
            "0123456789abcdef01234567",
        ),
        ("{\"a\":1}", "{\"a\":1}", "{\"a\":1}"),
    ] {
        assert_eq!(server.post(&format!("{{\"_id\":{first},\"n\":1}}")).status, 201);
        let answer = server.post(&format!("{{\"_id\":{again},\"n\":2}}"));
        let detail = answer.problem(409);
        assert!(detail.contains(named), "{detail}");
    }
    let documents = server.get("/data").json();
    assert!(documents.as_array().unwrap().iter().all(|document| document["n"] == 1), "{documents}");
}

fn post_stores_array_without_existing_ids(store: Store) {
    let server = store.start(&[]);
    server.post(r#"[{"_id":2,"old":true},{"_id":"x"}]"#);
    let answer = server.post(r#"[{"_id":1},{"_id":2},{"_id":3},{"_id":"x"},{"_id":3}]"#);
    answer.problem(409);
    let problem = answer.json();
    assert_eq!((&problem["inserted"], &problem["ids"]), (&2.into(), &serde_json::json!([1, 3])));
    let errors = problem["errors"].as_array().unwrap();
    let indices: Vec<_> = errors.iter().map(|error| error["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [1, 3, 4]);
    for (error, named) in errors.iter().zip(["2", "\"x\"", "3"]) {
        assert!(error["detail"].as_str().unwrap().contains(named), "{error}");
    }
    assert_eq!(
        server.get("/data").text(),
        "[{\"_id\":1},{\"_id\":2,\"old\":true},{\"_id\":3},{\"_id\":\"x\"}]\n"
    );

    let answer = server.post(r#"[{"_id":1},{"_id":2}]"#);
    answer.problem(409);
    assert_eq!(
        (&answer.json()["inserted"], &answer.json()["ids"]),
        (&0.into(), &serde_json::json!([]))
    );

    // Also where it is more than one command.
    let documents: Vec<String> = (0..2500).map(|n| format!("{{\"_id\":{n}}}")).collect();
    let answer = server.post(&format!("[{}]", documents.join(",")));
    answer.problem(409);
    let problem = answer.json();
    assert_eq!(
        (&problem["inserted"], problem["ids"].as_array().unwrap().len()),
        (&2497.into(), 2497)
    );
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3);
}

fn array_refused_for_one_reason_lists_each_document(store: Store) {
    let server = store.start(&[]);
    assert_eq!(server.post("{\"_id\":1}").status, 201);
    let answer = server.post("[{\"_id\":1},{\"_id\":1}]");
    assert!(answer.problem(409).starts_with("2 of 2 documents were not stored"));
    let problem = answer.json();
    let indices: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| &error["index"]).collect();
    assert_eq!(indices, [0, 1]);
    // Of one document there is nothing to list.
    let answer = server.post("[{\"_id\":1}]");
    assert!(answer.problem(409).contains("with _id 1 "));
    let problem = answer.json();
    assert_eq!((&problem["errors"], &problem["inserted"]), (&serde_json::Value::Null, &0.into()));
}

/// Who has seen an ObjectId can guess the next ones, and take them.
fn post_replaces_taken_generated_id(store: Store) {
    let server = store.start(&[]);
    let seen = server.post("{}").json()["ids"][0]["$oid"].as_str().unwrap().to_owned();
    let (second, process) = (u32::from_str_radix(&seen[..8], 16).unwrap(), &seen[8..18]);
    let count = u32::from_str_radix(&seen[18..], 16).unwrap();
    let counts: Vec<u32> =
        (0..60).chain(count + 1..count + 60).map(|count| count % (1 << 24)).collect();
    let guesses = (0..60).flat_map(|later| counts.iter().map(move |count| (second + later, count)));
    let guesses: Vec<String> =
        guesses.map(|(second, count)| format!("{second:08x}{process}{count:06x}")).collect();
    let guesses: std::collections::BTreeSet<&String> =
        guesses.iter().filter(|guess| **guess != seen).collect();
    let guesses: Vec<&String> = guesses.into_iter().collect();
    for guesses in guesses.chunks(2000) {
        let lines: String = guesses
            .iter()
            .map(|guess| format!("{{\"_id\":{{\"$oid\":\"{guess}\"}},\"by\":\"attacker\"}}\n"))
            .collect();
        let answer = server.import(&lines);
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    for number in 0..3 {
        let one = server.post(&format!("{{\"by\":{number}}}"));
        assert_eq!(one.status, 201, "{}", one.text());
        let id = one.json()["ids"][0]["$oid"].as_str().unwrap().to_owned();
        assert_eq!(one.header("location").unwrap(), format!("/data/{id}"));
        assert_eq!(server.get(&format!("/data/{id}")).json()["by"], number);
        assert_ne!(&id[8..18], process, "the process has other bytes by now");
    }
    let many = server.post("[{\"by\":10},{\"by\":11},{\"by\":12}]").json();
    for (number, id) in many["ids"].as_array().unwrap().iter().enumerate() {
        let id = id["$oid"].as_str().unwrap();
        assert_eq!(server.get(&format!("/data/{id}")).json()["by"], 10 + number);
    }
    // In the order of insertion.
    let export = server.export();
    let documents =
        export.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let by: Vec<u64> = documents.filter_map(|document| document["by"].as_u64()).collect();
    assert_eq!(by.iter().filter(|by| **by >= 10).collect::<Vec<_>>(), [&10, &11, &12]);
    assert_eq!(by.iter().filter(|by| **by < 10).collect::<Vec<_>>(), [&0, &1, &2]);
}

fn request_id_reveals_no_object_ids(store: Store) {
    let server = store.start(&[]);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let answer = server.post("{}");
        let id = answer.json()["ids"][0]["$oid"].as_str().unwrap().to_owned();
        let request_id = answer.header("x-request-id").unwrap();
        assert_eq!(request_id.len(), 24, "{request_id}");
        assert!(
            !request_id.contains(&id[8..18]) && !request_id.contains(&id[..8]),
            "{request_id} for {id}"
        );
        assert!(seen.insert(request_id.to_owned()), "{request_id} comes twice");
    }
}

/// A POST of two bytes whose client waits for leave to send them.
const WAITING_POST: &[u8] =
    b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
                              Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";

fn expect_header_gets_100_continue(store: Store) {
    let server = store.start(&[]);
    let mut connection = Connection::open(server.address);
    for _ in 0..3 {
        connection.send(WAITING_POST);
        assert_eq!(connection.read_answer().unwrap().status, 100);
        connection.send(b"{}");
        assert_eq!(connection.read_answer().unwrap().status, 201);
    }
}

fn refused_expectation_gets_only_refusal(store: Store) {
    let server = store.start(&[("MAX_BODY", "1KiB"), ("API_TOKEN", "secret")]);
    for (request_line, headers, status) in [
        (
            "POST /data",
            "Content-Type: application/json\r\nAuthorization: Bearer secret\r\nContent-Length: 1025",
            413,
        ),
        (
            "POST /data",
            "Content-Type: text/plain\r\nAuthorization: Bearer secret\r\nContent-Length: 2",
            415,
        ),
        (
            "POST /data?a=b",
            "Content-Type: application/json\r\nAuthorization: Bearer secret\r\nContent-Length: 2",
            400,
        ),
        ("POST /data", "Content-Type: application/json\r\nContent-Length: 2", 401),
        (
            "PUT /data",
            "Content-Type: application/json\r\nAuthorization: Bearer secret\r\nContent-Length: 2",
            405,
        ),
        ("POST /nothing", "Content-Type: application/json\r\nContent-Length: 2", 404),
    ] {
        let mut connection = Connection::open(server.address);
        connection.send(
            format!(
                "{request_line} HTTP/1.1\r\nHost: test\r\n{headers}\r\nExpect: 100-continue\r\n\r\n"
            )
            .as_bytes(),
        );
        connection.read_answer().unwrap().problem(status);
    }
    let mut connection = Connection::open(server.address);
    connection.send(
        b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nExpect: a-miracle\r\n\r\n",
    );
    connection.read_answer().unwrap().problem(417);
}

//! What operators see: probes, metrics, `healthcheck`, and the log.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use support::{Connection, Server, run, two_tier, wait_for};

#[test]
fn probes_report_alive_and_ready() {
    let server = Server::start(&[]);
    let mut connection = Connection::open(server.ops_address);
    for (target, body) in
        [("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/readyz?verbose", "ready\n")]
    {
        let answer = connection.request("GET", target, &[], b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let answer = connection.request("HEAD", target, &[], b"");
        assert_eq!(
            (answer.status, answer.header("content-length")),
            (200, Some(body.len().to_string().as_str()))
        );
    }
}

#[test]
fn operations_port_serves_nothing_else() {
    let server = Server::start(&[]);
    for target in ["/", "/data", "/metrics/", "/healthz/live"] {
        let detail = server.ops(target).problem(404);
        assert!(detail.contains("/healthz, /readyz and /metrics"), "{detail}");
    }
    for (method, target) in [("POST", "/healthz"), ("DELETE", "/readyz"), ("PUT", "/metrics")] {
        let answer = Connection::open(server.ops_address).request(method, target, &[], b"");
        answer.problem(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    for target in ["/healthz", "/readyz", "/metrics"] {
        server.get(target).problem(404);
    }
}

#[test]
fn draining_server_is_alive_not_ready() {
    let server = Server::start(&[("SHUTDOWN_DELAY", "30s")]);
    server.signal("TERM");
    let answer = wait_for("/readyz to fail", || {
        Some(server.ops("/readyz")).filter(|answer| answer.status != 200)
    });
    assert_eq!((answer.status, answer.text().as_str()), (503, "the server is shutting down\n"));
    assert_eq!(server.ops("/healthz").status, 200);
    assert_eq!(server.ops("/metrics").status, 200);
    // It goes on answering until those who send requests here have noticed.
    assert_eq!(server.get("/").status, 200);
    let (code, says) = healthcheck(&server, &[]);
    assert_eq!(code, Some(1));
    assert!(says.contains("shutting down"), "{says}");
}

#[test]
fn probes_answer_when_connections_are_taken() {
    let server = Server::start(&[("MAX_CONNECTIONS", "2"), ("HEAD_TIMEOUT", "60s")]);
    // Half a head holds its connection, where an idle one would give way.
    let mut holders: Vec<Connection> = (0..2).map(|_| Connection::open(server.address)).collect();
    for holder in &mut holders {
        holder.send(b"GET / HTTP/1.1\r\nHost:");
    }
    wait_for("the connections", || {
        (sample(&metrics(&server), "two_tier_connections") == 2.0).then_some(())
    });
    let mut waiting = Connection::open(server.address);
    waiting.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");

    for _ in 0..20 {
        assert_eq!(server.ops("/healthz").status, 200);
        assert_eq!(server.ops("/readyz").status, 200);
        assert_eq!(sample(&metrics(&server), "two_tier_connections"), 2.0);
    }
    assert_eq!(healthcheck(&server, &[]).0, Some(0));
    waiting.stream().set_nonblocking(true).unwrap();
    assert!(waiting.stream().peek(&mut [0]).is_err(), "a third connection was served");
    waiting.stream().set_nonblocking(false).unwrap();

    holders[0].send(b" test\r\nConnection: close\r\n\r\n");
    assert_eq!(holders[0].read_answer().unwrap().status, 200);
    assert_eq!(waiting.read_answer().unwrap().status, 200);
}

/// Runs `two-tier healthcheck` against the server.
fn healthcheck(server: &Server, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = two_tier();
    command
        .arg("healthcheck")
        .env("OPS_PORT", server.ops_address.port().to_string())
        .envs(settings.iter().copied());
    let output = run(command);
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn healthcheck_command_asks_readyz() {
    let server = Server::start(&[]);
    assert_eq!(healthcheck(&server, &[]), (Some(0), String::new()));
    // Where the server listens on every address, the loopback is one of them.
    let everywhere = Server::start(&[("HOST", "::")]);
    assert_eq!(healthcheck(&everywhere, &[("HOST", "::")]), (Some(0), String::new()));
    assert_eq!(healthcheck(&everywhere, &[("HOST", "0.0.0.0")]), (Some(0), String::new()));

    let (code, says) = healthcheck(&server, &[("OPS_PORT", &server.address.port().to_string())]);
    assert_eq!((code, says.lines().count()), (Some(1), 1), "{says}");
    let ops_port = server.ops_address.port().to_string();
    server.kill();
    let mut command = two_tier();
    command.arg("healthcheck").env("OPS_PORT", ops_port);
    let output = run(command);
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), says.lines().count()), (Some(1), 1), "{says}");
    assert!(says.contains("no answer"), "{says}");
}

/// The samples at /metrics, by name and labels.
fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let page = server.ops("/metrics").text();
    let samples = page.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}

#[track_caller]
fn sample(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    *metrics.get(name).unwrap_or_else(|| panic!("no {name} in {metrics:#?}"))
}

#[test]
fn metrics_count_requests_by_route_and_status() {
    let server = Server::start(&[]);
    server.get("/");
    server.get("/");
    server.request("HEAD", "/", &[], b"");
    server.post("{\"_id\":1}");
    server.post("{\"_id\":1}");
    server.post("{");
    server.get("/data?limit=1");
    server.get("/data/1");
    server.get("/data/2");
    server.get("/nothing/at/all");
    server.request("BREW", "/data", &[], b"");
    let mut connection = Connection::open(server.address);
    connection.send(b"nonsense\r\n\r\n");
    connection.read_answer().unwrap().problem(400);

    let expected = [
        ("/", "GET", 200, 2.0),
        ("/", "HEAD", 200, 1.0),
        ("/data", "POST", 201, 1.0),
        ("/data", "POST", 409, 1.0),
        ("/data", "POST", 400, 1.0),
        ("/data", "GET", 200, 1.0),
        ("/data", "other", 405, 1.0),
        ("/data/{id}", "GET", 200, 1.0),
        ("/data/{id}", "GET", 404, 1.0),
        ("other", "GET", 404, 1.0),
        ("other", "other", 400, 1.0),
    ];
    let name = |(route, method, status, _): (&str, &str, u16, f64)| {
        format!(
            "two_tier_http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}"
        )
    };
    // An answer is counted once it is sent, so a client can be faster.
    let metrics = wait_for("all requests to be counted", || {
        let metrics = metrics(&server);
        expected.iter().all(|case| metrics.get(&name(*case)) == Some(&case.3)).then_some(metrics)
    });
    let counts =
        metrics.iter().filter(|(name, _)| name.starts_with("two_tier_http_requests_total"));
    assert_eq!(counts.map(|(_, count)| count).sum::<f64>(), 12.0);
    for (route, count) in [("/", 3.0), ("/data", 5.0), ("/data/{id}", 2.0), ("other", 2.0)] {
        let duration = "two_tier_http_request_duration_seconds";
        assert_eq!(sample(&metrics, &format!("{duration}_count{{route=\"{route}\"}}")), count);
        assert_eq!(
            sample(&metrics, &format!("{duration}_bucket{{le=\"+Inf\",route=\"{route}\"}}")),
            count
        );
        assert!(sample(&metrics, &format!("{duration}_sum{{route=\"{route}\"}}")) > 0.0);
    }
}

#[test]
fn metrics_count_database_commands() {
    let server = Server::start(&[]);
    server.post("{}");
    server.post("[{},{},{}]");
    server.import(&"{}\n".repeat(1500));
    server.get("/data");
    server.request("GET", "/data", &[("Accept", "application/x-ndjson")], b"");
    let metrics = metrics(&server);
    assert_eq!(sample(&metrics, "two_tier_insert_documents_count"), 4.0);
    assert_eq!(sample(&metrics, "two_tier_insert_documents_sum"), 1504.0);
    assert_eq!(sample(&metrics, "two_tier_insert_documents_bucket{le=\"1\"}"), 1.0);
    assert_eq!(sample(&metrics, "two_tier_insert_documents_bucket{le=\"5\"}"), 2.0);
    assert_eq!(sample(&metrics, "two_tier_insert_documents_bucket{le=\"1000\"}"), 4.0);
    // A page, and an export in batches of 1,000.
    assert_eq!(sample(&metrics, "two_tier_query_readers_count"), 3.0);
    assert_eq!(sample(&metrics, "two_tier_query_readers_sum"), 3.0);
    assert_eq!(sample(&metrics, "two_tier_database_errors_total"), 0.0);
}

#[test]
fn metrics_gauge_connections_and_requests() {
    let server = Server::start(&[]);
    let gauges = || {
        let metrics = metrics(&server);
        (sample(&metrics, "two_tier_connections"), sample(&metrics, "two_tier_requests_in_flight"))
    };
    assert_eq!(gauges(), (0.0, 0.0));
    let mut idle = Connection::open(server.address);
    assert_eq!(idle.request("GET", "/", &[], b"").status, 200);
    wait_for("a connection and no request", || (gauges() == (1.0, 0.0)).then_some(()));
    // A request is one from the end of its head on; tiny_http waits for short bodies too, up to
    // 1,024 bytes.
    let mut busy = Connection::open(server.address);
    busy.send(b"POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n\r\n{");
    wait_for("two connections and a request", || (gauges() == (2.0, 1.0)).then_some(()));
    busy.send(format!("}}{}", " ".repeat(1998)).as_bytes());
    assert_eq!(busy.read_answer().unwrap().status, 201);
    wait_for("two connections and no request", || (gauges() == (2.0, 0.0)).then_some(()));
    drop((busy, idle));
    wait_for("no connection", || (gauges() == (0.0, 0.0)).then_some(()));
}

#[test]
fn metrics_describe_process_and_build() {
    let server = Server::start(&[]);
    let metrics = metrics(&server);
    let build = concat!("two_tier_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(
        metrics.iter().any(|(name, value)| name.starts_with(build) && *value == 1.0),
        "{metrics:#?}"
    );
    let resident = sample(&metrics, "process_resident_memory_bytes");
    assert!((0.5..2.0).contains(&(resident / 1024.0 / server.resident_kib() as f64)), "{resident}");
    let started = sample(&metrics, "process_start_time_seconds");
    assert!((chrono::Utc::now().timestamp() as f64 - started).abs() < 60.0, "{started}");
    assert!(sample(&metrics, "process_open_fds") > 3.0);
}

#[test]
fn metrics_pass_promtool_check() {
    let server = Server::start(&[]);
    server.post("[{},{}]");
    server.get("/data");
    server.get("/nothing");
    let answer = server.ops("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut check = match check {
        Ok(check) => check,
        // A developer may do without Debian's `prometheus` package; CI may not.
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "promtool: {error}");
            return eprintln!("skipped: promtool is not here ({error})");
        }
    };
    check.stdin.take().unwrap().write_all(&answer.body).unwrap();
    let output = check.wait_with_output().unwrap();
    let says = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && says.trim().is_empty(), "{says}");
}

#[test]
fn log_line_describes_request_and_outcome() {
    let server = Server::start(&[]);
    let answer = server.request("GET", "/data/1?x=%0A", &[("X-Request-Id", "request-7")], b"");
    let line = server.wait_for_line("id=request-7");
    let (time, rest) = line.split_once(' ').unwrap();
    chrono::DateTime::parse_from_rfc3339(time).unwrap();
    assert!(time.ends_with('Z'), "{time}");
    let expected =
        format!("info request method=GET path=/data/1 status=400 bytes={} us=", answer.body.len());
    let microseconds =
        rest.strip_prefix(&expected).and_then(|rest| rest.strip_suffix(" id=request-7"));
    microseconds.unwrap_or_else(|| panic!("{line}")).parse::<u64>().unwrap();
}

#[test]
fn json_log_has_one_object_per_line() {
    let server = Server::start(&[("LOG", "json")]);
    let got = server.request("GET", "/", &[("X-Request-Id", "first")], b"");
    // The line comes behind the answer, and the next request may be on another thread.
    server.wait_for_line("\"first\"");
    server.request(
        "BREW",
        "/data/%22%0a?secret=1",
        &[("X-Request-Id", "quote\"back\\slash{}")],
        b"",
    );
    server.wait_for_line("BREW");
    let mut connection = Connection::open(server.address);
    connection.send(b"nonsense\r\n\r\n");
    connection.read_answer().unwrap().problem(400);
    server.wait_for_line("\"method\":\"\"");
    let log = server.log();
    let lines: Vec<serde_json::Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    for line in &lines {
        chrono::DateTime::parse_from_rfc3339(line["time"].as_str().unwrap()).unwrap();
        assert_eq!(line["level"], "info");
    }
    assert!(lines[0]["message"].as_str().unwrap().contains("listens on"), "{}", lines[0]);
    let [_, first, second, third] = lines.as_slice() else { panic!("{log:#?}") };
    let expected = |method: &str, path: &str, status: u16, id: &str| {
        let (method, path, id) = (method.to_owned(), path.to_owned(), id.to_owned());
        move |line: &serde_json::Value| {
            assert_eq!(line["message"], "request");
            assert_eq!(line["method"], method.as_str());
            assert_eq!(line["path"], path.as_str());
            assert_eq!(line["status"], status);
            assert_eq!(line["id"], id.as_str());
            assert!(line["bytes"].is_u64() && line["us"].is_u64(), "{line}");
        }
    };
    expected("GET", "/", 200, "first")(first);
    assert_eq!(first["bytes"], got.body.len());
    expected("BREW", "/data/%22%0a", 405, "quote\"back\\slash{}")(second);
    expected("", "", 400, "")(third);
}

#[test]
fn log_off_omits_only_requests() {
    let server = Server::start(&[("LOG", "off"), ("SHUTDOWN_DELAY", "30s")]);
    server.get("/");
    server.post("{}");
    server.signal("TERM");
    server.wait_for_line("shutting down");
    assert!(server.log().iter().all(|line| !line.contains("request")), "{:#?}", server.log());
}

#[test]
fn log_lines_of_threads_never_mix() {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 50;
    let server = Server::start(&[("LOG", "json")]);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let address = server.address;
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                for n in 0..REQUESTS {
                    let id = format!("client-{client}-{n}");
                    let answer = connection.request("GET", "/", &[("X-Request-Id", &id)], b"");
                    assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
                }
            });
        }
    });
    let ids = || -> BTreeSet<String> {
        let log = server.log();
        let lines = log.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter_map(|line| line["id"].as_str().map(str::to_owned)).collect()
    };
    wait_for("a line for each request", || (ids().len() == CLIENTS * REQUESTS).then_some(()));
}

#[test]
fn request_id_is_taken_or_generated() {
    let server = Server::start(&[]);
    let id_for = |given: &str| {
        let answer = server.request("GET", "/nothing", &[("X-Request-Id", given)], b"");
        answer.header("x-request-id").unwrap().to_owned()
    };
    let longest = "x".repeat(128);
    for plain in
        ["7", "a-b_c.d:e/f", "550e8400-e29b-41d4-a716-446655440000", "\"quoted\"\\", &longest]
    {
        assert_eq!(id_for(plain), plain);
    }
    let made: Vec<String> = ["", "two words", "tab\there", "ümlaut", &format!("{longest}x")]
        .iter()
        .map(|given| id_for(given))
        .collect();
    let without = server.get("/").header("x-request-id").unwrap().to_owned();
    let all: BTreeSet<&String> = made.iter().chain([&without]).collect();
    assert_eq!(all.len(), made.len() + 1, "{all:?}");
    for id in all {
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{id}");
        server.wait_for_line(&format!("id={id}"));
    }
    // One that is given twice is none.
    let mut connection = Connection::open(server.address);
    connection.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-Request-Id: a\r\nX-Request-Id: b\r\n\r\n");
    let answer = connection.read_answer().unwrap();
    assert!(!["a", "b"].contains(&answer.header("x-request-id").unwrap()));
    // The operations port has it too.
    assert!(server.ops("/healthz").header("x-request-id").is_some());
}

#[test]
fn secrets_never_appear_in_log() {
    for log in ["text", "json"] {
        let server = Server::start(&[("LOG", log), ("API_TOKEN", "open-sesame")]);
        let json = ("Content-Type", "application/json");
        let document = b"{\"_id\":1,\"name\":\"forty-thieves\"}";
        for authorization in
            ["Bearer open-sesame", "Bearer open-sesam", "Basic open-sesame", "open-sesame"]
        {
            let given = ("Authorization", authorization);
            server.request("GET", "/data?token=open-sesame", &[given], b"");
            server.request("POST", "/data", &[json, given], document);
            server.request("POST", "/data", &[json, given], &document[..document.len() - 1]);
            server.request("GET", "/data", &[given, ("Cookie", "open-sesame")], b"");
        }
        server.request(
            "GET",
            "/nothing",
            &[("Authorization", "Bearer open-sesame"), ("X-Request-Id", "last")],
            b"",
        );
        server.wait_for_line("last");
        server.signal("TERM");
        server.wait_for_line("shutting down");
        let log = server.log().join("\n");
        assert!(!log.contains("sesam") && !log.contains("thieves"), "{log}");
    }
}

//! The log is for operators, and no client's business: nobody waits for whoever reads it, and
//! nobody outside decides how much is written.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Connection, Directory, PATIENCE, Server, two_tier, wait_for};

/// A server whose standard error is read up to the line of its start, and then left alone.
struct Unread {
    child: Child,
    log: BufReader<ChildStderr>,
    address: std::net::SocketAddr,
    ops_address: std::net::SocketAddr,
    _directory: Directory,
}

impl Unread {
    fn start(settings: &[(&str, &str)]) -> Self {
        let directory = Directory::new();
        let mut command = two_tier();
        command.envs([("PORT", "0"), ("OPS_PORT", "0")]).envs(settings.iter().copied());
        let mut child =
            command.current_dir(directory.path()).stderr(Stdio::piped()).spawn().unwrap();
        // Reads no further ahead than a line.
        let mut log = BufReader::with_capacity(1, child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = |nth: usize| {
            let rest = line.split("http://").nth(nth).unwrap_or_else(|| panic!("{line:?}"));
            rest[..rest.find([',', ';', '/']).unwrap()].parse().unwrap()
        };
        Self { address: address(1), ops_address: address(2), child, log, _directory: directory }
    }

    fn dropped(&self, reason: &str) -> u64 {
        let page = Connection::open(self.ops_address).request("GET", "/metrics", &[], b"").text();
        dropped(&page, reason)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dropped(metrics: &str, reason: &str) -> u64 {
    let name = format!("two_tier_log_lines_dropped_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

/// Asks until more lines were lost than the pipe and the queue hold; each request has to be
/// answered.
fn fill(server: &Unread) -> u64 {
    let path = format!("/{}", "a".repeat(200));
    let until = Instant::now() + PATIENCE;
    let mut connection = Connection::open(server.address);
    let mut asked = 0;
    while asked < 2000 || server.dropped("unwritten") < 100 {
        for _ in 0..100 {
            connection.stream().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let answer = connection.try_request("GET", &path, &[], b"");
            assert_eq!(
                answer.expect("an answer, whoever reads the log").status,
                404,
                "after {asked} requests"
            );
            asked += 1;
        }
        assert!(Instant::now() < until, "nothing is lost after {asked} requests");
    }
    asked
}

#[test]
fn unread_log_blocks_no_request_or_stop() {
    for signals in [1, 2] {
        let mut server = Unread::start(&[("LOG_RATE", "1000000"), ("SHUTDOWN_DELAY", "100ms")]);
        fill(&server);
        let since = Instant::now();
        for _ in 0..signals {
            let id = server.child.id().to_string();
            assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
            thread::sleep(Duration::from_millis(20));
        }
        let status = wait_for("the server's end", || server.child.try_wait().unwrap());
        assert!(matches!(status.code(), Some(0 | 130)), "{status}");
        assert!(since.elapsed() < Duration::from_secs(4), "stopping took {:?}", since.elapsed());
    }
}

#[test]
fn log_reports_lost_lines_when_read() {
    let mut server = Unread::start(&[("LOG_RATE", "1000000")]);
    let asked = fill(&server);
    let lost = server.dropped("unwritten");
    let mut requests = 0;
    let mut line = String::new();
    let said: u64 = loop {
        line.clear();
        assert!(server.log.read_line(&mut line).unwrap() > 0, "the log ends");
        if line.contains("method=GET") {
            requests += 1;
        } else if let Some((count, _)) = line.split_once(" lines of this log were lost") {
            break count.rsplit(' ').next().unwrap().parse().unwrap();
        }
    };
    assert_eq!((said, requests + said), (lost, asked), "written, or lost and counted");
    // And then it goes on.
    let answer = Connection::open(server.address).request(
        "GET",
        "/",
        &[("X-Request-Id", "afterwards")],
        b"",
    );
    assert_eq!(answer.status, 200);
    while !line.contains("id=afterwards") {
        line.clear();
        assert!(server.log.read_line(&mut line).unwrap() > 0, "the log ends");
    }
}

#[test]
fn last_lines_are_written_before_exit() {
    for _ in 0..3 {
        let mut server = Unread::start(&[]);
        let id = server.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        let mut rest = String::new();
        server.log.read_to_string(&mut rest).unwrap();
        assert!(rest.trim_end().ends_with("info stopped"), "{rest}");
    }
}

#[test]
fn log_truncates_text_from_clients() {
    for log in ["text", "json"] {
        let server = Server::start(&[("LOG", log)]);
        let long = "a".repeat(15_000);
        server.get(&format!("/{long}"));
        server.request(&"B".repeat(15_000), "/", &[], b"").problem(405);
        // A quotation mark takes two bytes in JSON.
        server.get(&format!("/{}", "\"".repeat(15_000)));
        server.request("GET", "/last", &[("X-Request-Id", "last")], b"");
        server.wait_for_line("last");
        let lines: Vec<String> = wait_for("the lines", || {
            let lines: Vec<String> =
                server.log().into_iter().filter(|line| line.contains("status")).collect();
            (lines.len() == 4).then_some(lines)
        });
        assert_eq!(lines.iter().filter(|line| line.contains('…')).count(), 3, "{lines:#?}");
        assert!(lines.iter().all(|line| line.len() < 800), "{lines:#?}");
        let path = format!("/{}…", "a".repeat(255));
        assert!(lines.iter().any(|line| line.contains(&path)), "{lines:#?}");
    }
    // What fits is left alone.
    let server = Server::start(&[]);
    let path = format!("/{}", "a".repeat(255));
    server.get(&path);
    server.wait_for_line(&format!("path={path} status"));
}

#[test]
fn log_rate_limits_request_lines() {
    const REQUESTS: u64 = 500;
    let server = Server::start(&[("LOG_RATE", "20")]);
    let since = Instant::now();
    let mut connection = Connection::open(server.address);
    for _ in 0..REQUESTS {
        assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
    }
    let seconds = since.elapsed().as_secs() + 2;
    let left_out = || -> (u64, usize) {
        let counts: Vec<u64> = server
            .log()
            .iter()
            .filter_map(|line| {
                line.split_once(" lines were left out")?.0.rsplit(' ').next()?.parse().ok()
            })
            .collect();
        (counts.iter().sum(), counts.len())
    };
    let written = || server.log().iter().filter(|line| line.contains("method=GET")).count() as u64;
    wait_for("a line about those that were left out", || {
        (written() + left_out().0 == REQUESTS).then_some(())
    });
    assert!(written() >= 20 && written() <= 20 * seconds, "{} lines in {seconds} s", written());
    assert!(left_out().1 as u64 <= seconds + 1, "{:#?}", server.log());
    assert_eq!(dropped(&server.ops("/metrics").text(), "rate"), left_out().0);
    // What is not about a request is written all the same.
    server.signal("TERM");
    server.wait_for_line("shutting down");
}

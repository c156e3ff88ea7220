//! A running server: the real binary, what is asked of it, and what it writes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::{Answer, Connection, Directory, PATIENCE, two_tier, wait_for};

/// A running server.
pub struct Server {
    child: Child,
    /// Where the application listens.
    pub address: SocketAddr,
    /// Where /healthz, /readyz and /metrics are.
    pub ops_address: SocketAddr,
    output: Arc<Lines>,
    directory: Arc<Directory>,
}

/// What the server writes to standard error.
#[derive(Default)]
struct Lines {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Server {
    /// Starts a server with a store of its own.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(Directory::new()), settings)
    }

    /// Starts a server over the store in `directory`.
    pub fn start_in(directory: Arc<Directory>, settings: &[(&str, &str)]) -> Self {
        let mut command = two_tier();
        command.envs([("PORT", "0"), ("OPS_PORT", "0"), ("DATA_FILE", "two-tier.redb")]);
        command.envs(settings.iter().copied()).current_dir(directory.path());
        Self::spawn(command, directory)
    }

    /// Starts a server from a command that is complete but for its standard error.
    pub fn spawn(mut command: Command, directory: Arc<Directory>) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Lines::default());
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let writer = output.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writer.lines.lock().unwrap().0.push(line);
                writer.changed.notify_all();
            }
            writer.lines.lock().unwrap().1 = true;
            writer.changed.notify_all();
        });
        let start = output.wait_for_line("listens on http://");
        let mut addresses = start.split("http://").skip(1).map(|rest| {
            let end = rest.find([',', ';', '/', ' ']).unwrap_or(rest.len());
            rest[..end].parse().unwrap()
        });
        let (address, ops_address) = (addresses.next().unwrap(), addresses.next().unwrap());
        Self { child, address, ops_address, output, directory }
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        Connection::open(self.address).request(method, target, headers, body)
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// Every answer to these bytes on a connection of their own, until the server closes it.
    #[track_caller]
    pub fn exchange(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut connection = Connection::open(self.address);
        // A server that refuses the beginning need not take the rest.
        let _ = connection.stream().write_all(bytes);
        connection.read_answers()
    }

    /// `POST /data` with a JSON body, as `curl --json` does.
    #[track_caller]
    pub fn post(&self, json: &str) -> Answer {
        self.request("POST", "/data", &[("Content-Type", "application/json")], json.as_bytes())
    }

    /// `POST /data` with a document a line.
    #[track_caller]
    pub fn import(&self, lines: &str) -> Answer {
        self.request("POST", "/data", &[("Content-Type", "application/x-ndjson")], lines.as_bytes())
    }

    /// The documents in each page, from `target` along the links, which have to end before there
    /// are `limit` pages.
    #[track_caller]
    pub fn pages(&self, target: &str, limit: usize) -> Vec<Vec<Value>> {
        let mut connection = Connection::open(self.address);
        let mut next = Some(target.to_owned());
        let mut pages = Vec::new();
        while let Some(target) = next {
            let answer = connection.request("GET", &target, &[], b"");
            assert_eq!(answer.status, 200, "{target}: {}", answer.text());
            pages.push(answer.json().as_array().unwrap().clone());
            assert!(pages.len() < limit, "the links do not come to an end: {target}");
            next = answer.next_link();
        }
        pages
    }

    /// The whole collection, a document a line.
    #[track_caller]
    pub fn export(&self) -> String {
        self.request("GET", "/data", &[("Accept", "application/x-ndjson")], b"").text()
    }

    /// A GET on the operations port.
    #[track_caller]
    pub fn ops(&self, target: &str) -> Answer {
        Connection::open(self.ops_address).request("GET", target, &[], b"")
    }

    /// The value of a metric without labels, or with these.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.ops("/metrics").text();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    #[track_caller]
    pub fn expect_no_panic(&self) {
        let panics: Vec<String> =
            self.log().into_iter().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "{panics:#?}");
    }

    pub fn directory(&self) -> Arc<Directory> {
        self.directory.clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.process_status("VmRSS:")
    }

    /// The most resident memory so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.process_status("VmHWM:")
    }

    pub fn threads(&self) -> u64 {
        self.process_status("Threads:")
    }

    /// A number from proc_pid_status(5).
    fn process_status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Sends a signal, by its name as kill(1) knows it.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Kills the server (SIGKILL) and waits until it is gone.
    pub fn kill(mut self) -> Arc<Directory> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.directory.clone()
    }

    /// Asks the server to stop (SIGTERM) and waits for it.
    pub fn terminate(mut self) -> (ExitStatus, Arc<Directory>) {
        self.signal("TERM");
        (self.wait_for_exit(), self.directory.clone())
    }

    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }

    /// Waits for a line on standard error that contains `text`.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        self.output.wait_for_line(text)
    }

    /// What the server has written to standard error so far.
    pub fn log(&self) -> Vec<String> {
        // A test that failed while it looked at the lines still wants to print them.
        self.output.lines.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Lines {
    #[track_caller]
    fn wait_for_line(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!lines.1 && !left.is_zero(), "no line with {text:?}, but {:#?}", lines.0);
            lines = self.changed.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server's output: {:#?}", self.log());
        }
    }
}

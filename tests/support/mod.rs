//! What the tests share: the real binary on ports that the system picks, in a directory of its own,
//! gone with the test.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub mod collection;
pub mod conversions;
pub mod http;
pub mod mongodb;
pub mod proxy;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use http::{Answer, Connection};
pub use mongodb::Mongodb;

/// The longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something, looking again every few milliseconds.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A directory that is removed with everything in it.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("two-tier-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        mongodb::drop_database_of(self);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where the server under test keeps its documents.
#[derive(Clone, Copy)]
pub enum Store {
    Embedded,
    Mongodb(&'static Mongodb),
}

impl Store {
    /// MongoDB, if there is one.
    pub fn mongodb() -> Option<Self> {
        Mongodb::shared().map(Self::Mongodb)
    }

    /// Whether the store cannot do `what`, which is then counted among what the tests leave out.
    pub fn lacks(self, what: &str) -> bool {
        matches!(self, Self::Mongodb(server) if server.lacks(what))
    }

    /// Whether the store can hold the value; one that it cannot is counted among what the tests
    /// leave out.
    pub fn holds(self, json: &str) -> bool {
        !matches!(self, Self::Mongodb(server) if server.lacks_value(json))
    }

    /// Starts a server with no documents.
    pub fn start(self, settings: &[(&str, &str)]) -> Server {
        self.start_in(Arc::new(Directory::new()), settings)
    }

    /// Starts a server over the documents that belong to `directory`.
    pub fn start_in(self, directory: Arc<Directory>, settings: &[(&str, &str)]) -> Server {
        match self {
            Self::Embedded => Server::start_in(directory, settings),
            Self::Mongodb(server) => {
                let uri = server.uri(&mongodb::database_of(&directory));
                Server::start_in(directory, &[&[("MONGODB_URI", uri.as_str())], settings].concat())
            }
        }
    }
}

/// Runs each of the functions, `fn name(store: Store)`, as a test over each store. One that is left
/// out is dead code, which clippy denies.
#[macro_export]
macro_rules! stores {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::support::Store::Embedded);
                }
            )+
        }
        mod mongodb {
            $(
                #[test]
                fn $name() {
                    if let Some(store) = $crate::support::Store::mongodb() {
                        super::$name(store);
                    }
                }
            )+
        }
    };
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let sextets = bits.as_bytes().chunks(6).map(|sextet| {
        let sextet = format!("{:0<6}", std::str::from_utf8(sextet).unwrap());
        char::from(DIGITS[usize::from_str_radix(&sextet, 2).unwrap()])
    });
    let mut text: String = sextets.collect();
    text.push_str(["", "==", "="][bytes.len() % 3]);
    text
}

/// The binary as a user would start it, with none of this process's settings.
pub fn two_tier() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_two-tier"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs a command that is to end by itself; one that does not is killed.
#[track_caller]
pub fn run(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    let ended = child.try_wait().unwrap().is_some();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    assert!(ended, "{command:?} does not end; so far: {output:?}");
    output
}

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

    /// Resident memory in KiB, from proc_pid_status(5).
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
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

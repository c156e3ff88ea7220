//! What the tests share: the real binary on ports that the system picks, in a directory of its own,
//! gone with the test.
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses a part of this")]

pub mod collection;
pub mod conversions;
pub mod http;
pub mod mongodb;
pub mod proxy;
pub mod server;
pub mod tools;
pub mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use http::{Answer, Connection};
pub use mongodb::Mongodb;
pub use server::Server;

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

/// Runs `client` for each number below `count`, all of them at once.
pub fn at_once(count: usize, client: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for number in 0..count {
            let client = &client;
            scope.spawn(move || client(number));
        }
    });
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

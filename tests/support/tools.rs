//! Programs that the tests need and get for themselves, and what they say to the terminal.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::{env, thread};

/// `mongosh`, installed from npm unless that was done before; none without npm, which it says.
pub fn mongosh() -> Option<Command> {
    const PACKAGE: &str = "mongosh@2.12.0";
    let _lock = lock_tools("mongosh");
    let directory = tools().join(PACKAGE);
    let program = directory.join("node_modules/.bin/mongosh");
    if !program.exists() {
        say("installing mongosh for the tests, once");
        let prefix = directory.display().to_string();
        let install = [
            "install",
            "--prefix",
            &prefix,
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            PACKAGE,
        ];
        if let Err(reason) = succeeds("npm", install) {
            let missing = format!(
                "the tests find no mongosh ({reason}). To run those that need it: install npm"
            );
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
            say_once(&missing);
            say(&format!("skipped, as there is no mongosh: {}", test_name()));
            return None;
        }
    }
    Some(Command::new(program))
}

/// Where programs are kept between runs of the tests.
pub fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    fs::create_dir_all(&tools).unwrap();
    tools
}

/// Holds off the other test binaries while one gets a program; the lock ends with the file.
pub fn lock_tools(name: &str) -> File {
    let lock = File::create(tools().join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    lock
}

/// Runs a program without input and output; the error is the last line of what it says.
pub fn succeeds<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Result<(), String> {
    let output = Command::new(&program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", Path::new(&program).display()))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed").to_owned())
}

/// To the terminal, past libtest, which shows what a test prints only if it fails.
pub fn say(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

pub fn say_once(text: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().unwrap();
    if !said.iter().any(|other| other == text) {
        said.push(text.to_owned());
        say(text);
    }
}

/// libtest runs each test on a thread of its name.
pub fn test_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

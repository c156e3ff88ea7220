//! Ends a database server when the process that started it is gone, however that ended.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A shell that ends a server and removes its directory when this process is gone, since nothing of
/// this process can be relied upon to do that.
pub struct Keeper {
    shell: Child,
    /// Its end is what the shell waits for.
    order: ChildStdin,
    pub server: u32,
}

impl Keeper {
    const SCRIPT: &str = r#"
directory=$1 engine=$2 container=$3
shift 3
"$@" </dev/null >"$directory/log" 2>&1 &
server=$!
echo $server
read -r order
if [ "$engine" ]
then "$engine" rm --force "$container"
else kill -s KILL $server
fi >/dev/null 2>&1
wait $server
[ "$order" ] || rm -rf "$directory"
"#;

    pub fn start(command: &[String], directory: &Path, container: Option<(&str, String)>) -> Self {
        let (engine, container) = container.unwrap_or_default();
        let mut shell = Command::new("sh")
            .args(["-c", Self::SCRIPT, "sh"])
            .arg(directory)
            .args([engine, &container])
            .args(command)
            // Out of reach of the terminal's Ctrl-C, which ends the tests first.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let order = shell.stdin.take().unwrap();
        Self { shell, order, server: line.trim().parse().unwrap() }
    }

    pub fn server_has_ended(&self) -> bool {
        // proc_pid_stat(5): the state is what comes after the name.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server)).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
    }

    pub fn end_server(mut self, order: &str) {
        let _ = writeln!(self.order, "{order}");
        let _ = self.shell.wait();
    }
}

//! A database server that this process started: how it is run, stopped, killed and started again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;

use bson::doc;
use mongodb::sync::Client;

use super::super::tools::say;
use super::super::{Directory, wait_for};
use super::keeper::Keeper;
use super::program::{IMAGE, Program};
use super::{PASSWORD, USER};

/// A server that this process started.
pub struct Own {
    program: &'static Program,
    pub port: u16,
    directory: Directory,
    keeper: Mutex<Option<Keeper>>,
}

impl Own {
    /// A new server with the tests' user; none if there is nothing to run one.
    pub fn start_new() -> Option<Self> {
        static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
        let program = PROGRAM.get_or_init(Program::find).as_ref()?;
        // Another process may take the port in between.
        for _ in 0..5 {
            let own = Self {
                program,
                port: free_port(),
                directory: Directory::new(),
                keeper: Mutex::new(None),
            };
            if own.start() {
                own.make_user();
                return Some(own);
            }
        }
        panic!("the database server of the tests does not start; its last words are above");
    }

    /// Sends a signal, by its name as kill(1) knows it. One that is to stop has stopped then.
    pub fn signal(&self, name: &str) {
        let server = match self.program {
            Program::Container(engine) => {
                let inspect = ["inspect", "--format", "{{.State.Pid}}", &self.container()];
                let output = Command::new(engine).args(inspect).output().unwrap();
                let kill = ["kill", "--signal", name, &self.container()];
                assert!(
                    Command::new(engine)
                        .args(kill)
                        .stdout(Stdio::null())
                        .status()
                        .unwrap()
                        .success()
                );
                String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
            }
            _ => {
                let server = self.keeper().as_ref().expect("it runs").server;
                assert!(
                    Command::new("kill")
                        .args(["-s", name, &server.to_string()])
                        .status()
                        .unwrap()
                        .success()
                );
                server
            }
        };
        if name == "STOP" {
            // Each of its threads goes on until it is its turn to hear of it.
            wait_for("the database server to stop", || {
                threads(server).all(|state| state == 'T').then_some(())
            });
        }
    }

    /// Kills the server (SIGKILL); its documents stay.
    pub fn kill(&self) {
        let keeper = self.keeper().take();
        keeper.expect("it runs").end_server("keep");
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap()
    }

    /// Starts the server and waits for its port; false if it ends before that.
    pub fn start(&self) -> bool {
        let container = match self.program {
            Program::Container(engine) => Some((*engine, self.container())),
            _ => None,
        };
        let keeper = Keeper::start(&self.command(), self.directory.path(), container);
        let listens = wait_for("the database server to listen or to end", || {
            let listens = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            (listens || keeper.server_has_ended()).then_some(listens)
        });
        if listens {
            *self.keeper() = Some(keeper);
        } else {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            say(&format!("the database server ended at its start:\n{log}"));
        }
        listens
    }

    fn command(&self) -> Vec<String> {
        let (port, directory) =
            (self.port.to_string(), self.directory.path().display().to_string());
        let mongod = |database_path: &str| {
            [
                "mongod",
                "--auth",
                "--bind_ip",
                "127.0.0.1",
                "--nounixsocket",
                "--wiredTigerCacheSizeGB",
                "0.25",
            ]
            .into_iter()
            .chain(["--port", &port, "--dbpath", database_path])
            .map(String::from)
            .collect::<Vec<_>>()
        };
        match self.program {
            Program::Mongod => mongod(&directory),
            Program::Container(engine) => {
                // On the host's network, so that it is the database that holds a connection and no
                // proxy before it.
                let mut run = vec![engine.to_string(), "run".to_owned(), "--rm".to_owned()];
                run.extend(["--name", &self.container(), "--network", "host"].map(String::from));
                let owner = fs::metadata(self.directory.path()).unwrap();
                run.extend(["--user".to_owned(), format!("{}:{}", owner.uid(), owner.gid())]);
                if *engine == "podman" && owner.uid() != 0 {
                    run.push("--userns=keep-id".to_owned());
                }
                run.extend(["--volume".to_owned(), format!("{directory}:/data/db:z")]);
                run.extend(["--entrypoint", "mongod", IMAGE].map(String::from));
                run.extend(mongod("/data/db").into_iter().skip(1));
                run
            }
            Program::Ferretdb(path) => [
                path.display().to_string(),
                "--handler=sqlite".to_owned(),
                // The tests kill servers, not machines, and need not wait for the disk.
                format!("--sqlite-url=file:{directory}/?_pragma=synchronous(off)"),
                format!("--state-dir={directory}"),
                format!("--listen-addr=127.0.0.1:{port}"),
                "--debug-addr=-".to_owned(),
                "--telemetry=disable".to_owned(),
                "--test-enable-new-auth".to_owned(),
                "--setup-database=admin".to_owned(),
                format!("--setup-username={USER}"),
                format!("--setup-password={PASSWORD}"),
            ]
            .to_vec(),
        }
    }

    fn container(&self) -> String {
        format!("{}-{}", self.directory.path().file_name().unwrap().display(), self.port)
    }

    /// A new MongoDB lets anybody on its machine make the first user.
    fn make_user(&self) {
        if let Program::Ferretdb(_) = self.program {
            return;
        }
        let client = Client::with_uri_str(format!("mongodb://127.0.0.1:{}/", self.port)).unwrap();
        let user = doc! { "createUser": USER, "pwd": PASSWORD, "roles": ["root"] };
        client.database("admin").run_command(user).run().unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("the database server's output: {log}");
        }
        if let Some(keeper) = self.keeper().take() {
            keeper.end_server("");
        }
    }
}

/// The state of each thread of a process, from proc_pid_stat(5): it comes after the name.
fn threads(process: u32) -> impl Iterator<Item = char> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    })
}

/// A port below those that the system gives to clients: one of theirs could be taken by a client
/// while the server is down, or a client that calls it could reach itself.
fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let end: u32 = range.split_whitespace().next().unwrap().parse().unwrap();
    let start = 10_000.min(end / 2);
    wait_for("a free port", || {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let port = start + (std::process::id() * 101 + count) % (end - start);
        let port = u16::try_from(port).unwrap();
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    })
}

//! The MongoDB that the tests use: a real server with authentication on, found in this order: the
//! one at `TEST_MONGODB_URI`; `mongod` on PATH; docker or podman with `mongo:8`; else FerretDB,
//! built once through Go. One server serves all tests of a test binary, each with a database of its
//! own; a test that stops or kills its server starts another for itself. Servers end with the
//! process that started them, however that ends.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, thread};

use bson::doc;
use mongodb::sync::Client;

use super::proxy::Proxy;
use super::{Directory, Server, wait_for};

const USER: &str = "tests";
/// With every character that a URI has to encode.
pub const PASSWORD: &str = "hush:/?#[]@%41 hush";
pub const ENCODED_PASSWORD: &str = "hush%3A%2F%3F%23%5B%5D%40%2541%20hush";
const IMAGE: &str = "mongo:8";

/// For all tests of this process.
static SHARED: OnceLock<Option<Mongodb>> = OnceLock::new();

/// A server.
pub struct Mongodb {
    /// None: it is somebody else's, at `TEST_MONGODB_URI`.
    own: Option<Own>,
    /// Up to the name of the database, and from behind it.
    uri: (String, String),
    is_ferretdb: bool,
}

/// A server that this process started.
struct Own {
    program: &'static Program,
    port: u16,
    directory: Directory,
    keeper: Mutex<Option<Keeper>>,
}

/// What runs a server.
enum Program {
    Mongod,
    /// In a container; docker or podman.
    Container(&'static str),
    Ferretdb(PathBuf),
}

impl Mongodb {
    /// The server for all tests of this process; none if there is nothing to run one, which it
    /// says.
    pub fn shared() -> Option<&'static Self> {
        let shared = SHARED.get_or_init(|| match env::var("TEST_MONGODB_URI") {
            Ok(uri) if !uri.is_empty() => Some(Self::at(&uri)),
            _ => Self::start_own(),
        });
        if shared.is_none() {
            say(&format!("skipped, as there is no MongoDB: {}", test_name()));
        }
        shared.as_ref()
    }

    /// A server that the caller may stop and kill.
    pub fn start() -> Option<Self> {
        let own = Self::start_own();
        if own.is_none() {
            say(&format!("skipped, as there is no MongoDB: {}", test_name()));
        }
        own
    }

    /// A server of this process, though not of one test's: what a proxy is put before.
    pub fn shared_own() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Mongodb>> = OnceLock::new();
        let shared = Self::shared()?;
        match shared.own {
            Some(_) => Some(shared),
            None => SHARED.get_or_init(Self::start).as_ref(),
        }
    }

    fn at(uri: &str) -> Self {
        say_once("the tests use the MongoDB at TEST_MONGODB_URI");
        let start = uri.find("://").expect("TEST_MONGODB_URI is a URI") + 3;
        let end = uri[start..].find(['/', '?']).map_or(uri.len(), |index| start + index);
        let (path, query) = uri[end..].split_once('?').unwrap_or((&uri[end..], ""));
        let mut options: Vec<String> =
            query.split('&').filter(|option| !option.is_empty()).map(String::from).collect();
        if uri[..end].contains('@') && !query.contains("authSource=") {
            let source = path.trim_start_matches('/');
            options
                .push(format!("authSource={}", if source.is_empty() { "admin" } else { source }));
        }
        let mut server = Self {
            own: None,
            uri: (format!("{}/", &uri[..end]), format!("?{}", options.join("&"))),
            is_ferretdb: false,
        };
        server.is_ferretdb = server.asks_for_ferretdb();
        server
    }

    fn start_own() -> Option<Self> {
        static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
        let program = PROGRAM.get_or_init(Program::find).as_ref()?;
        // Another process may take the port in between.
        for _ in 0..5 {
            let own = Own {
                program,
                port: free_port(),
                directory: Directory::new(),
                keeper: Mutex::new(None),
            };
            if !own.start() {
                continue;
            }
            let uri = format!("mongodb://{USER}:{ENCODED_PASSWORD}@127.0.0.1:{}/", own.port);
            let mut server = Self {
                own: Some(own),
                uri: (uri, "?authSource=admin".to_owned()),
                is_ferretdb: false,
            };
            server.own().make_user();
            server.wait_until_it_answers();
            server.is_ferretdb = server.asks_for_ferretdb();
            return Some(server);
        }
        panic!("the database server of the tests does not start; its last words are above");
    }

    /// What MONGODB_URI takes, with everything that it needs.
    pub fn uri(&self, database: &str) -> String {
        format!("{}{database}{}", self.uri.0, self.uri.1)
    }

    /// As `uri`, through a proxy.
    pub fn uri_through(&self, proxy: &Proxy, database: &str) -> String {
        let own = format!("@127.0.0.1:{}/", self.port());
        self.uri(database).replace(&own, &format!("@{}/", proxy.address))
    }

    /// Starts a two-tier that reaches this database through a proxy; `options` go at the end of its
    /// URI.
    pub fn start_behind(&self, proxy: &Proxy, options: &str, settings: &[(&str, &str)]) -> Server {
        let directory = Arc::new(Directory::new());
        let uri = self.uri_through(proxy, &database_of(&directory)) + options;
        Server::start_in(directory, &[&[("MONGODB_URI", uri.as_str())], settings].concat())
    }

    /// The port on 127.0.0.1 of a server of one's own.
    pub fn port(&self) -> u16 {
        self.own().port
    }

    /// The ecosystem's own view of the server.
    pub fn client(&self) -> Client {
        Client::with_uri_str(self.uri("admin")).unwrap()
    }

    /// Whether it is FerretDB, and so cannot do `what`. Then that is counted among what the tests
    /// leave out.
    pub fn lacks(&self, what: &str) -> bool {
        static SKIPPED: AtomicU32 = AtomicU32::new(0);
        if self.is_ferretdb {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            say(&format!("skipped on FerretDB ({count}): {what}, in {}", test_name()));
        }
        self.is_ferretdb
    }

    /// As `lacks`, for a value in JSON.
    pub fn lacks_value(&self, json: &str) -> bool {
        const UNKNOWN_TO_FERRETDB: [&str; 15] = [
            "\"$minKey\"",
            "\"$maxKey\"",
            "\"$symbol\"",
            "\"$code\"",
            "\"$dbPointer\"",
            "\"$undefined\"",
            "\"$numberDecimal\"",
            "NaN",
            "Infinity",
            "\"-0.0\"",
            "[[",
            // Keys, not types.
            "\"$ref\"",
            "\"$d\"",
            // The same _id as the number there.
            "{\"$date\":{\"$numberLong\":\"-1\"}}",
            "{\"$date\":{\"$numberLong\":\"9223372036854775807\"}}",
        ];
        UNKNOWN_TO_FERRETDB.iter().any(|text| json.contains(text)) && self.lacks(json)
    }

    /// Sends a signal to a server of one's own, by its name as kill(1) knows it. One that is to
    /// stop has stopped then.
    pub fn signal(&self, name: &str) {
        let own = self.own();
        let server = match own.program {
            Program::Container(engine) => {
                let inspect = ["inspect", "--format", "{{.State.Pid}}", &own.container()];
                let output = Command::new(engine).args(inspect).output().unwrap();
                let kill = ["kill", "--signal", name, &own.container()];
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
                let server = own.keeper().as_ref().expect("it runs").server;
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

    /// Kills a server of one's own (SIGKILL); its documents stay.
    pub fn kill(&self) {
        let keeper = self.own().keeper().take();
        keeper.expect("it runs").end_server("keep");
    }

    /// Starts a server of one's own again over its documents, and waits until it answers.
    pub fn restart(&self) {
        assert!(self.own().start(), "the database server does not start again");
        self.wait_until_it_answers();
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a server of one's own")
    }

    fn wait_until_it_answers(&self) {
        self.client().database("admin").run_command(doc! { "ping": 1 }).run().unwrap();
    }

    fn asks_for_ferretdb(&self) -> bool {
        let answer =
            self.client().database("admin").run_command(doc! { "buildInfo": 1 }).run().unwrap();
        answer.keys().any(|key| key.starts_with("ferretdb"))
    }
}

impl Own {
    fn keeper(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap()
    }

    /// Starts the server and waits for its port; false if it ends before that.
    fn start(&self) -> bool {
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

impl Program {
    fn find() -> Option<Self> {
        let mut reasons = Vec::new();
        let mut found = None;
        if succeeds("mongod", ["--version"]).is_ok() {
            found = Some((Self::Mongod, "the mongod on PATH".to_owned()));
        } else {
            reasons.push("no mongod on PATH".to_owned());
        }
        for engine in ["docker", "podman"] {
            if found.is_some() {
                break;
            }
            let _lock = lock_tools("image");
            let has_image = succeeds(engine, ["image", "inspect", IMAGE])
                .or_else(|_| succeeds(engine, ["pull", &format!("docker.io/library/{IMAGE}")]));
            match has_image {
                Ok(()) => found = Some((Self::Container(engine), format!("{IMAGE} in {engine}"))),
                Err(reason) => reasons.push(format!("no {IMAGE} in {engine} ({reason})")),
            }
        }
        if found.is_none() {
            match ferretdb() {
                Ok(path) => {
                    let name = format!("FerretDB, as there is {}", reasons.join(", "));
                    found = Some((Self::Ferretdb(path), name));
                }
                Err(reason) => reasons.push(format!("no FerretDB ({reason})")),
            }
        }
        match found {
            Some((program, name)) => {
                say_once(&format!("the tests use {name}"));
                Some(program)
            }
            None => {
                let missing = format!(
                    "the tests find no MongoDB: {}. To run those that need it: set TEST_MONGODB_URI, or install \
                     mongod, docker, podman or Go (https://go.dev/dl/)",
                    reasons.join(", ")
                );
                assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
                say_once(&missing);
                None
            }
        }
    }
}

/// Builds FerretDB unless that was done before; about a minute.
fn ferretdb() -> Result<PathBuf, String> {
    let sources: [&[u8]; 4] = [
        include_bytes!("../ferretdb/build.sh"),
        include_bytes!("../ferretdb/go.mod"),
        include_bytes!("../ferretdb/go.sum"),
        include_bytes!("../ferretdb/tools.go"),
    ];
    let mut hasher = DefaultHasher::new();
    sources.iter().for_each(|source| hasher.write(source));
    let _lock = lock_tools("ferretdb");
    let path = tools().join(format!("ferretdb-{:016x}", hasher.finish()));
    if path.exists() {
        return Ok(path);
    }
    succeeds("go", ["version"])?;
    say("building FerretDB for the tests, once");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ferretdb/build.sh");
    succeeds(script, [&path]).map(|()| path)
}

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
fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    fs::create_dir_all(&tools).unwrap();
    tools
}

/// Holds off the other test binaries while one gets a program; the lock ends with the file.
fn lock_tools(name: &str) -> File {
    let lock = File::create(tools().join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    lock
}

/// Runs a program without input and output; the error is the last line of what it says.
fn succeeds<A: AsRef<OsStr>>(
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

/// A shell that ends a server and removes its directory when this process is gone, since nothing of
/// this process can be relied upon to do that.
struct Keeper {
    shell: Child,
    /// Its end is what the shell waits for.
    order: ChildStdin,
    server: u32,
}

impl Keeper {
    const SCRIPT: &str = r#"
directory=$1 engine=$2 container=$3
shift 3
"$@" </dev/null >"$directory/log" 2>&1 &
server=$!
echo $server
read -r order
if [ "$engine" ]; then "$engine" rm --force "$container"; else kill -s KILL $server; fi >/dev/null 2>&1
wait $server
[ "$order" ] || rm -rf "$directory"
"#;

    fn start(command: &[String], directory: &Path, container: Option<(&str, String)>) -> Self {
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

    fn server_has_ended(&self) -> bool {
        // proc_pid_stat(5): the state is what comes behind the name.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server)).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
    }

    fn end_server(mut self, order: &str) {
        let _ = writeln!(self.order, "{order}");
        let _ = self.shell.wait();
    }
}

impl Drop for Mongodb {
    fn drop(&mut self) {
        let Some(own) = &self.own else { return };
        if thread::panicking() {
            let log = fs::read_to_string(own.directory.join("log")).unwrap_or_default();
            eprintln!("the database server's output: {log}");
        }
        if let Some(keeper) = own.keeper().take() {
            keeper.end_server("");
        }
    }
}

/// The state of each thread of a process, from proc_pid_stat(5): it comes behind the name.
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

/// The database for the documents that belong to `directory`.
pub fn database_of(directory: &Directory) -> String {
    // A server outlives the tests, and process ids come again.
    static START: OnceLock<u64> = OnceLock::new();
    let start =
        START.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    format!("{}-{start}", directory.path().file_name().unwrap().display())
}

/// Leaves nothing behind on a server that stays.
pub fn drop_database_of(directory: &Directory) {
    if let Some(Some(server)) = SHARED.get()
        && server.own.is_none()
    {
        let _ = server.client().database(&database_of(directory)).drop().run();
    }
}

/// To the terminal, past libtest, which shows what a test prints only if it fails.
fn say(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn say_once(text: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().unwrap();
    if !said.iter().any(|other| other == text) {
        said.push(text.to_owned());
        say(text);
    }
}

/// libtest runs each test on a thread of its name.
fn test_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

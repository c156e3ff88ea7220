//! Starts everything, waits for a signal, and stops everything. The only module that knows the
//! settings and all others.

mod error;

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::config::settings::{
    DATA_FILE, HOST, LOG, MAX_CONNECTIONS, OPS_PORT, PORT, SHUTDOWN_TIMEOUT,
};
use crate::config::{self, Config, Setting, SettingError};
use crate::db::{Db, OpenError, Watch};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::ops::{self, Ops};
use crate::routes::App;
use crate::server::service::Service;
use crate::server::{self, Limits, Server};
use crate::{log, system};
pub use error::{StartError, SystemError};

/// A second signal ended the process while it was stopping.
const EXIT_IMPATIENT: i32 = 130;
/// Probes and scrapes at once.
const OPS_CONNECTIONS: usize = 16;
const OPS_WORKERS: usize = 2;
/// Workers of the application for each processor, and beside them: those that short work is kept
/// for.
const EXTRA_WORKERS: usize = 2;
/// What clients may make the server hold, in bytes: incomplete bodies and answers on their way.
const MAX_HELD: usize = 32 * 1024 * 1024;
/// The same where MAX_BODY is large, in bodies: a line of an import may be 10 of them.
const MAX_BODIES_HELD: usize = 24;
/// How long the last steps of stopping may take where requests have left less of SHUTDOWN_TIMEOUT.
/// Together with the log's last lines they take less than 2 s.
const LAST_STEPS: Duration = Duration::from_secs(1);
/// How long calls to the database may go on after the last request was answered: nobody waits for
/// them any more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a probe or a scrape may go on after that.
const OPS_TIMEOUT: Duration = Duration::from_millis(250);
/// Descriptors that are not a connection's: the listeners, the store, standard streams, probes, and
/// a database connection for each call that can be stuck. Where there are few, half of them.
const OTHER_FILES: u64 = 336;

/// Runs the server until SIGTERM or SIGINT.
pub fn run() -> Result<(), StartError> {
    let outcome = serve();
    // What was logged before an error comes before it, and the last lines before the end.
    log::flush();
    outcome
}

fn serve() -> Result<(), StartError> {
    system::keep_less_memory();
    let config = Config::from_environment()?;
    log::start(config.log)
        .map_err(|error| LOG.error(SystemError::new("cannot be written")(error)))?;
    log_panics();
    let mut signals = watch_signals()?;
    let limits = limits(&config)?;
    let metrics = Arc::new(Metrics::new());
    // Both ports are bound before the store is opened, so that a port that is taken leaves no new
    // file behind.
    let listener = listen(&PORT, config.address, &config)?;
    // Few descriptors are few for both, or probes could use up those that the application's
    // connections need.
    let ops_limits = Limits {
        connections: OPS_CONNECTIONS.min(limits.connections),
        workers: OPS_WORKERS,
        ..limits
    };
    let ops_listener = listen(&OPS_PORT, config.ops_address, &config)?;
    let memory =
        Arc::new(Memory::new(MAX_HELD.max(config.routes.max_body.value * MAX_BODIES_HELD)));
    let db = Arc::new(open_database(&config, &metrics, &memory)?);
    let _watch = Watch::start(&db).map_err(SystemError::new("threads: cannot be started"))?;
    let app = Arc::new(App::new(config.routes.clone(), db.clone(), metrics.clone()));
    let ops = Arc::new(Ops {
        db: db.clone(),
        metrics,
        memory: memory.clone(),
        draining: AtomicBool::new(false),
    });

    let (address, ops_address) = (listener.local_addr(), ops_listener.local_addr());
    let server = start("application", listener, limits, memory.clone(), app)?;
    let ops_server = start("operations", ops_listener, ops_limits, memory, ops.clone())?;
    if let (Ok(address), Ok(ops_address)) = (address, ops_address) {
        log::info(format_args!(
            "two-tier {} listens on http://{address}, its operations port on \
             http://{ops_address}; documents are in {}. Try: curl http://{address}/",
            env!("CARGO_PKG_VERSION"),
            db.location(),
        ));
    }

    let signal = signals.forever().next();
    exit_on_next_signal(signals);
    log::info(format_args!("{}: shutting down", signal_name(signal)));
    stop(&config, &server, &ops_server, &ops);
    Ok(())
}

/// Fails /readyz first, so that no new requests are sent here, then lets the ones in progress
/// finish. Takes no longer than SHUTDOWN_DELAY, SHUTDOWN_TIMEOUT and 2 s, whatever the database
/// does.
fn stop(config: &Config, server: &Server, ops_server: &Server, ops: &Ops) {
    ops.draining.store(true, Relaxed);
    server.drain();
    thread::sleep(config.shutdown_delay);
    let deadline = Instant::now() + config.shutdown_timeout;
    if !server.stop(deadline) {
        let name = SHUTDOWN_TIMEOUT.name;
        log::warning(format_args!("requests were still in progress after {name}"));
    }
    let answered = Instant::now();
    let end = deadline.min(answered + CLOSE_TIMEOUT).max(answered + LAST_STEPS);
    ops.db.close(end);
    ops_server.stop(Instant::now() + OPS_TIMEOUT);
    log::info(format_args!("stopped"));
}

pub(crate) fn open_database(
    config: &Config,
    metrics: &Arc<Metrics>,
    memory: &Arc<Memory>,
) -> Result<Db, StartError> {
    let db = Db::open(&config.db, metrics, memory).map_err(|error| match error {
        OpenError::Uri(error) => config.uri_setting.error(error).into(),
        OpenError::DataFile(error) => DATA_FILE.error(error).into(),
        OpenError::Threads(error) => {
            StartError::from(SystemError::new("database: cannot start its threads")(error))
        }
    })?;
    if config.db.store.has_placeholder_password() {
        let name = config.uri_setting.name;
        log::warning(format_args!(
            "the password in {name} is a placeholder that everybody knows; set one of your own"
        ));
    }
    Ok(db)
}

fn start(
    name: &'static str,
    listener: TcpListener,
    limits: Limits,
    memory: Arc<Memory>,
    service: Arc<dyn Service>,
) -> Result<Server, SystemError> {
    Server::start(name, listener, limits, memory, service)
        .map_err(SystemError::new(format!("{name}: cannot start its threads")))
}

fn listen(
    port: &Setting<u16>,
    address: SocketAddr,
    config: &Config,
) -> Result<TcpListener, SettingError> {
    server::listen(address, config.timeouts.send).map_err(|error| {
        let kind = error.kind();
        let error = SystemError::new(format!("cannot listen on {address}"))(error);
        match kind {
            // That is no fault of the port's.
            ErrorKind::AddrNotAvailable => HOST.error(error),
            _ => port.error(error),
        }
    })
}

/// The limits of the application's server: as many connections as there can be descriptors for.
fn limits(config: &Config) -> Result<Limits, SettingError> {
    let files = system::raise_open_files()
        .map_err(SystemError::new("cannot read the limit of open files"))
        .map_err(|error| MAX_CONNECTIONS.error(error))?;
    let most = usize::try_from(files - OTHER_FILES.min(files / 2)).unwrap_or(usize::MAX).max(1);
    let mut connections = config.connections;
    if connections > most {
        let name = MAX_CONNECTIONS.name;
        log::warning(format_args!(
            "{name} is {most} here, not {connections}: this process may open {files} files \
             (ulimit -n)"
        ));
        connections = most;
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Ok(Limits {
        connections,
        workers: processors + EXTRA_WORKERS,
        processors,
        timeouts: config.timeouts,
    })
}

/// From here on SIGTERM and SIGINT are told to `run` instead of ending the process.
fn watch_signals() -> Result<Signals, SystemError> {
    let problem = "signals: cannot be handled";
    // A file that grows past a limit (ulimit -f) is then an error of the write, as a full disk is.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .map_err(SystemError::new(problem))?;
    Signals::new([SIGTERM, SIGINT]).map_err(SystemError::new(problem))
}

fn exit_on_next_signal(mut signals: Signals) {
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            log::warning(format_args!("a second signal: ending at once"));
            log::flush();
            std::process::exit(EXIT_IMPATIENT);
        }
    });
}

fn signal_name(signal: Option<i32>) -> &'static str {
    match signal {
        Some(SIGTERM) => "SIGTERM",
        Some(SIGINT) => "SIGINT",
        _ => "signal",
    }
}

/// A panic costs one connection or one call to the store; the log says where it was.
fn log_panics() {
    panic::set_hook(Box::new(|panic| log::error(format_args!("{panic}"))));
}

/// Asks the server that runs with these settings whether it is ready. The error says why it is not.
pub fn healthcheck() -> Result<(), Box<dyn Error>> {
    let config = Config::from_environment()?;
    Ok(ops::healthcheck(config.ops_address)?)
}

/// The program's name, its version, and the commit that it was built from.
pub fn version() -> String {
    format!("two-tier {} ({})", env!("CARGO_PKG_VERSION"), env!("TWO_TIER_COMMIT"))
}

/// What `--help` prints: how to call the program, and its settings.
pub fn help() -> String {
    format!(
        "{}\n\n\
         Stores and retrieves JSON documents over HTTP.\n\n\
         Usage: two-tier              run the server until SIGTERM or SIGINT\n       \
         two-tier healthcheck  ask the server's /readyz; exit 0 if it is ready, else 1\n       \
         two-tier --help | --version\n\n\
         Settings (environment variables; NAME[_FILE] is also read from the file that NAME_FILE \
         names):\n\n{}",
        version(),
        config::table(),
    )
}

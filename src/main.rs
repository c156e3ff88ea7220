//! two-tier: stores and retrieves JSON documents over HTTP. Start, wait for a signal, stop.
//!
//! A request goes socket -> `server` -> `routes` -> `db` (through `queue`) -> the store. No thread waits for its
//! answer, which comes back as the call of a completion and has the connection driven again.
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("two-tier runs on Linux; elsewhere run its container image");

mod clock;
mod config;
mod db;
mod document;
mod http;
mod json;
mod log;
mod memory;
mod metrics;
mod object_id;
mod ops;
mod percent;
mod queue;
mod request_id;
mod response;
mod routes;
mod server;
mod sync;
mod system;

use std::env;
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use config::{Config, SettingError};
use db::{Db, Watch};
use memory::Memory;
use metrics::Metrics;
use ops::Ops;
use routes::App;
use server::service::Service;
use server::{Limits, Server};

/// A setting or an argument cannot be used.
const EXIT_USAGE: u8 = 2;
/// A second signal ended the process while it was stopping.
const EXIT_IMPATIENT: i32 = 130;
/// Probes and scrapes at once.
const OPS_CONNECTIONS: usize = 16;
const OPS_WORKERS: usize = 2;
/// Workers of the application for each processor, and beside them: those that short work is kept for.
const EXTRA_WORKERS: usize = 2;
/// What clients may make the server hold, in bytes: incomplete bodies and answers on their way.
const MAX_HELD: usize = 32 * 1024 * 1024;
/// The same where MAX_BODY is large, in bodies: a line of an import may be 10 of them.
const MAX_BODIES_HELD: usize = 24;
/// How long the last steps of stopping may take where requests have left less of SHUTDOWN_TIMEOUT. Together with the
/// log's last lines they take less than 2 s.
const LAST_STEPS: Duration = Duration::from_secs(1);
/// How long calls to the database may go on after the last request was answered: nobody waits for them any more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a probe or a scrape may go on after that.
const OPS_TIMEOUT: Duration = Duration::from_millis(250);
/// Descriptors that are not a connection's: the listeners, the store, standard streams, probes, and a database connection
/// for each call that can be stuck. Where there are few, half of them.
const OTHER_FILES: u64 = 336;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => run(),
        ["--help" | "-h"] => {
            print!("{}", help());
            return ExitCode::SUCCESS;
        }
        ["--version" | "-V"] => {
            println!("{}", version());
            return ExitCode::SUCCESS;
        }
        ["healthcheck"] => return healthcheck(),
        _ => Err(SettingError::new(
            "arguments",
            "two-tier takes --help, --version or healthcheck; its settings are environment variables",
        )),
    };
    // What was logged before comes first, and the last lines before the end.
    log::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("two-tier: {}", log::Escaped(&error.to_string()));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run() -> Result<(), SettingError> {
    system::keep_less_memory();
    let config = Config::from_environment()?;
    log::start(config.log).map_err(|error| SettingError::new("LOG", format!("cannot be written: {error}")))?;
    log_panics();
    let mut signals = watch_signals()?;
    let limits = limits(&config)?;
    let metrics = Arc::new(Metrics::new());
    // Both ports are bound before the store is opened, so that a port that is taken leaves no new file behind.
    let listener = listen("PORT", config.address, &config)?;
    // Few descriptors are few for both, or probes could use up those that the application's connections need.
    let ops_limits = Limits { connections: OPS_CONNECTIONS.min(limits.connections), workers: OPS_WORKERS, ..limits };
    let ops_listener = listen("OPS_PORT", config.ops_address, &config)?;
    let memory = Arc::new(Memory::new(MAX_HELD.max(config.max_body * MAX_BODIES_HELD)));
    let db = Arc::new(Db::open(&config, &metrics, &memory)?);
    let _watch =
        Watch::start(&db).map_err(|error| SettingError::new("threads", format!("cannot be started: {error}")))?;
    let app = Arc::new(App::new(&config, db.clone(), metrics.clone()));
    let ops = Arc::new(Ops { db: db.clone(), metrics, memory: memory.clone(), draining: AtomicBool::new(false) });

    let (address, ops_address) = (listener.local_addr(), ops_listener.local_addr());
    let server = start("application", listener, limits, memory.clone(), app)?;
    let ops_server = start("operations", ops_listener, ops_limits, memory, ops.clone())?;
    if let (Ok(address), Ok(ops_address)) = (address, ops_address) {
        log::info(format_args!(
            "two-tier {} listens on http://{address}, its operations port on http://{ops_address}; documents are in \
             {}. Try: curl http://{address}/",
            env!("CARGO_PKG_VERSION"),
            db.place(),
        ));
    }

    let signal = signals.forever().next();
    exit_on_next_signal(signals);
    log::info(format_args!("{}: shutting down", signal_name(signal)));
    stop(&config, &server, &ops_server, &ops);
    Ok(())
}

/// Fails /readyz first, so that no new requests are sent here, then lets the ones in progress finish. Takes no longer than
/// SHUTDOWN_DELAY, SHUTDOWN_TIMEOUT and 2 s, whatever the database does.
fn stop(config: &Config, server: &Server, ops_server: &Server, ops: &Ops) {
    ops.draining.store(true, Relaxed);
    server.drain();
    thread::sleep(config.shutdown_delay);
    let deadline = Instant::now() + config.shutdown_timeout;
    if !server.stop(deadline) {
        log::warning(format_args!("requests were still in progress after SHUTDOWN_TIMEOUT"));
    }
    let answered = Instant::now();
    let end = deadline.min(answered + CLOSE_TIMEOUT).max(answered + LAST_STEPS);
    ops.db.close(end);
    ops_server.stop(Instant::now() + OPS_TIMEOUT);
    log::info(format_args!("stopped"));
}

fn start(
    name: &'static str,
    listener: std::net::TcpListener,
    limits: Limits,
    memory: Arc<Memory>,
    service: Arc<dyn Service>,
) -> Result<Server, SettingError> {
    Server::start(name, listener, limits, memory, service)
        .map_err(|error| SettingError::new(name, format!("cannot start its threads: {error}")))
}

fn listen(
    setting: &str,
    address: std::net::SocketAddr,
    config: &Config,
) -> Result<std::net::TcpListener, SettingError> {
    server::listen(address, config.timeouts.send).map_err(|error| {
        // That is no fault of the port's.
        let setting = if error.kind() == std::io::ErrorKind::AddrNotAvailable { "HOST" } else { setting };
        SettingError::new(setting, format!("cannot listen on {address}: {error}"))
    })
}

/// The limits of the application's server: as many connections as there can be descriptors for.
fn limits(config: &Config) -> Result<Limits, SettingError> {
    let files = system::raise_open_files().map_err(|error| {
        SettingError::new("MAX_CONNECTIONS", format!("cannot read the limit of open files: {error}"))
    })?;
    let most = usize::try_from(files - OTHER_FILES.min(files / 2)).unwrap_or(usize::MAX).max(1);
    let mut connections = config.connections;
    if connections > most {
        log::warning(format_args!(
            "MAX_CONNECTIONS is {most} here, not {connections}: this process may open {files} files (ulimit -n)"
        ));
        connections = most;
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Ok(Limits { connections, workers: processors + EXTRA_WORKERS, processors, timeouts: config.timeouts })
}

/// From here on SIGTERM and SIGINT are told to `run` instead of ending the process.
fn watch_signals() -> Result<Signals, SettingError> {
    let cannot = |error| SettingError::new("signals", format!("cannot be handled: {error}"));
    // A file that grows past a limit (ulimit -f) is then an error of the write, as a full disk is.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(cannot)?;
    Signals::new([SIGTERM, SIGINT]).map_err(cannot)
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

fn healthcheck() -> ExitCode {
    let outcome = Config::from_environment()
        .map_err(|error| error.to_string())
        .and_then(|config| ops::healthcheck(config.ops_address));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("two-tier: not ready: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> String {
    format!("two-tier {} ({})", env!("CARGO_PKG_VERSION"), env!("TWO_TIER_COMMIT"))
}

fn help() -> String {
    format!(
        "{}\n\n\
         Stores and retrieves JSON documents over HTTP.\n\n\
         Usage: two-tier              run the server until SIGTERM or SIGINT\n       \
         two-tier healthcheck  ask the server's /readyz; exit 0 if it is ready, else 1\n       \
         two-tier --help | --version\n\n\
         Settings (environment variables; NAME[_FILE] is also read from the file that NAME_FILE names):\n\n{}",
        version(),
        config::table(),
    )
}

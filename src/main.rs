//! two-tier: stores and retrieves JSON documents over HTTP. Start, wait for a signal, stop.
//!
//! A request goes socket -> `server` (inside `guard`) -> `routes` -> `db` (through `group`) -> the store, and its
//! answer comes back along the same calls.
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("two-tier runs on Linux; elsewhere run its container image");

mod budget;
mod clock;
mod config;
mod db;
mod document;
mod group;
mod guard;
mod json;
mod log;
mod metrics;
mod object_id;
mod ops;
mod percent;
mod request_id;
mod response;
mod routes;
mod server;

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
use db::Db;
use metrics::Metrics;
use ops::Ops;
use routes::App;
use server::{Limits, Server};

/// A setting or an argument cannot be used.
const EXIT_USAGE: u8 = 2;
/// A second signal ended the process while it was stopping.
const EXIT_IMPATIENT: i32 = 130;
/// Probes and scrapes at once.
const OPS_CONNECTIONS: usize = 16;
/// Descriptors that are not a connection's: the listeners, the store, standard streams, the database's connections.
const OTHER_FILES: u64 = 64;

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
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("two-tier: {}", log::Escaped(&error.to_string()));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run() -> Result<(), SettingError> {
    guard::keep_less_memory();
    let config = Config::from_environment()?;
    log::set_format(config.log);
    log_panics();
    let mut signals = watch_signals()?;
    let limits = limits(&config)?;
    let metrics = Arc::new(Metrics::new());
    // Both ports are bound before the store is opened, so that a port that is taken leaves no new file behind.
    let listener = listen("PORT", config.address, &limits)?;
    // Few descriptors are few for both, or probes could use up those that the application's connections need.
    let ops_limits = Limits { connections: OPS_CONNECTIONS.min(limits.connections), ..limits };
    let ops_listener = listen("OPS_PORT", config.ops_address, &ops_limits)?;
    let db = Arc::new(Db::open(&config, &metrics)?);
    let app = Arc::new(App::new(&config, db.clone(), metrics.clone()));
    let ops = Arc::new(Ops { db: db.clone(), metrics, draining: AtomicBool::new(false) });

    let (address, ops_address) = (listener.local_addr(), ops_listener.local_addr());
    let server = start("application", listener, limits, app)?;
    let ops_server = start("operations", ops_listener, ops_limits, ops.clone())?;
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

/// Fails /readyz first, so that no new requests are sent here, then lets the ones in progress finish.
fn stop(config: &Config, server: &Server, ops_server: &Server, ops: &Ops) {
    ops.draining.store(true, Relaxed);
    server.drain();
    thread::sleep(config.shutdown_delay);
    let deadline = Instant::now() + config.shutdown_timeout;
    if !server.stop(deadline) {
        log::warning(format_args!("requests were still in progress after SHUTDOWN_TIMEOUT"));
    }
    ops_server.stop(Instant::now() + Duration::from_secs(1));
    log::info(format_args!("stopped"));
}

fn start(
    name: &'static str,
    listener: std::net::TcpListener,
    limits: Limits,
    service: Arc<dyn server::Service>,
) -> Result<Server, SettingError> {
    Server::start(name, listener, limits, service)
        .map_err(|error| SettingError::new(name, format!("cannot start its threads: {error}")))
}

fn listen(
    setting: &str,
    address: std::net::SocketAddr,
    limits: &Limits,
) -> Result<std::net::TcpListener, SettingError> {
    server::listen(address, limits).map_err(|error| {
        // That is no fault of the port's.
        let setting = if error.kind() == std::io::ErrorKind::AddrNotAvailable { "HOST" } else { setting };
        SettingError::new(setting, format!("cannot listen on {address}: {error}"))
    })
}

/// The limits of the application's server: as many connections as there can be descriptors for.
fn limits(config: &Config) -> Result<Limits, SettingError> {
    let files = guard::raise_open_files().map_err(|error| {
        SettingError::new("MAX_CONNECTIONS", format!("cannot read the limit of open files: {error}"))
    })?;
    // tiny_http duplicates each connection's descriptor.
    let most = usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX);
    let mut limits = config.limits;
    if limits.connections > most {
        log::warning(format_args!(
            "MAX_CONNECTIONS is {} here: this process may open {files} files (ulimit -n), and each connection takes 2",
            most.max(1),
        ));
        limits.connections = most.max(1);
    }
    Ok(limits)
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

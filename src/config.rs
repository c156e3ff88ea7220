//! The settings: environment variables -> `Config`. Each setting, its default and its meaning stand
//! in one table, which `--help` prints and the README repeats.

use std::env::{self, VarError};
use std::fmt::{self, Debug, Display};
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::{self, Escaped, Format};
use crate::server::Timeouts;

/// What the environment says, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the application listens.
    pub(crate) address: SocketAddr,
    /// Where the operations port listens.
    pub(crate) ops_address: SocketAddr,
    pub(crate) store: StoreConfig,
    pub(crate) api_token: Option<Secret>,
    pub(crate) connections: usize,
    pub(crate) timeouts: Timeouts,
    /// In bytes.
    pub(crate) max_body: usize,
    pub(crate) shutdown_delay: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) grouping: bool,
    pub(crate) log: log::Options,
}

/// Where documents are stored.
#[derive(Debug)]
pub(crate) enum StoreConfig {
    /// `setting` is where the URI was found.
    Mongo {
        setting: &'static str,
        uri: Secret,
        /// The file that it is in, which may have another one later.
        file: Option<PathBuf>,
        collection: String,
    },
    Local {
        file: PathBuf,
    },
}

/// Text that is never printed.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

/// A setting that cannot be used: which one, and what it takes.
#[derive(Debug, PartialEq)]
pub struct SettingError {
    name: String,
    problem: String,
}

impl SettingError {
    pub(crate) fn new(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { name: name.into(), problem: problem.into() }
    }
}

impl Display for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, Escaped(&self.problem))
    }
}

/// One line of the table.
struct Setting {
    name: &'static str,
    /// As one would write it; empty where the setting is not set unless somebody sets it.
    default: &'static str,
    meaning: &'static str,
    /// Also read from the file that `NAME_FILE` names.
    secret: bool,
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning, secret: false }
}

const fn secret(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default: "", meaning, secret: true }
}

const SETTINGS: [Setting; 19] = [
    setting("HOST", "127.0.0.1", "address to listen on; :: is every address, IPv4 and IPv6"),
    setting("PORT", "8080", "port of the application; 0 lets the system choose"),
    setting("OPS_PORT", "9090", "port of /healthz, /readyz and /metrics"),
    secret(MONGODB_URI, "MongoDB to store documents in, mongodb://USER:PASSWORD@HOST/DATABASE"),
    setting("COLLECTION", "data", "collection of that database"),
    setting(
        "DATA_FILE",
        "two-tier.redb",
        "file to store documents in where MONGODB_URI is not set",
    ),
    secret("API_TOKEN", "bearer token that /data asks for; unset, it asks for none"),
    setting("MAX_CONNECTIONS", "10000", "connections served at once; more wait"),
    setting("MAX_CONNECTION_AGE", "60s", "time after which a connection ends with its next answer"),
    setting("MAX_BODY", "1MiB", "longest JSON body; a line of an import may be 10 times as long"),
    setting("HEAD_TIMEOUT", "10s", "time for the head of a request to arrive"),
    setting("BODY_TIMEOUT", "10s", "time in which a body must make progress, at 1 KiB/s"),
    setting("IDLE_TIMEOUT", "60s", "time that a connection may be silent between requests"),
    setting("SEND_TIMEOUT", "30s", "time in which a client must take of its answer, at 1 KiB/s"),
    setting("SHUTDOWN_DELAY", "0s", "time from failing /readyz to accepting no more"),
    setting("SHUTDOWN_TIMEOUT", "30s", "time for requests in progress to finish after that"),
    setting("GROUPING", "on", "on: concurrent calls to the store share one; off: to compare"),
    setting("LOG", "text", "text or json: a line a request; off: only other events"),
    setting(
        "LOG_RATE",
        "1000",
        "lines of requests a second at most; how many are left out is said",
    ),
];

/// Looks a variable up. An empty one counts as not set, unless it is a secret.
type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<String>, SettingError>;

impl Config {
    pub(crate) fn from_environment() -> Result<Self, SettingError> {
        Self::read(&|name| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(SettingError::new(name, "it is not UTF-8 text")),
        })
    }

    fn read(lookup: Lookup) -> Result<Self, SettingError> {
        let host = value("HOST", lookup)?;
        let duration =
            |name| parse(name, lookup, "a time such as 500ms, 10s or 2min", parse_duration);
        // To a socket, and to a client, no time at all is no limit or no service.
        let limit = |name| {
            parse(name, lookup, "a time such as 500ms, 10s or 2min, and not 0", |text| {
                parse_duration(text).filter(|duration| !duration.is_zero())
            })
        };
        Ok(Self {
            address: resolve(&host, parse("PORT", lookup, PORT, |text| text.parse().ok())?)?,
            ops_address: resolve(
                &host,
                parse("OPS_PORT", lookup, PORT, |text| text.parse().ok())?,
            )?,
            store: store(lookup)?,
            api_token: api_token(lookup)?,
            connections: parse("MAX_CONNECTIONS", lookup, "a number from 1 to 100000", |text| {
                text.parse().ok().filter(|count| (1..=100_000).contains(count))
            })?,
            timeouts: Timeouts {
                head: limit("HEAD_TIMEOUT")?,
                body: duration("BODY_TIMEOUT")?,
                idle: limit("IDLE_TIMEOUT")?,
                send: limit("SEND_TIMEOUT")?,
                age: limit("MAX_CONNECTION_AGE")?,
            },
            max_body: parse(
                "MAX_BODY",
                lookup,
                "a size from 1KiB to 16MiB, such as 65536, 512KiB or 4MiB",
                |text| parse_size(text).filter(|size| (1 << 10..=16 << 20).contains(size)),
            )?,
            shutdown_delay: duration("SHUTDOWN_DELAY")?,
            shutdown_timeout: duration("SHUTDOWN_TIMEOUT")?,
            grouping: parse("GROUPING", lookup, "on or off", |text| match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            })?,
            log: log::Options {
                format: parse("LOG", lookup, "text, json or off", |text| match text {
                    "text" => Some(Format::Text),
                    "json" => Some(Format::Json),
                    "off" => Some(Format::Off),
                    _ => None,
                })?,
                max_requests_per_second: parse(
                    "LOG_RATE",
                    lookup,
                    "a number from 1 to 1000000",
                    |text| text.parse().ok().filter(|count| (1..=1_000_000).contains(count)),
                )?,
            },
        })
    }
}

/// The table of settings, a line each, as `--help` prints it.
pub(crate) fn table() -> String {
    SETTINGS
        .iter()
        .map(|setting| {
            let name = if setting.secret {
                format!("{}[_FILE]", setting.name)
            } else {
                setting.name.to_owned()
            };
            let default = if setting.default.is_empty() { "-" } else { setting.default };
            format!("  {name:<18} {default:<14} {}\n", setting.meaning)
        })
        .collect()
}

const MONGODB_URI: &str = "MONGODB_URI";
/// A slip of the pen that older deployments have come to depend on.
const OLDER_MONGODB_URI: &str = "MONOGODB_URI";
const PORT: &str = "a port, a number from 0 to 65535";

/// The variable's value, else its default from the table.
fn value(name: &str, lookup: Lookup) -> Result<String, SettingError> {
    let default =
        SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default);
    Ok(lookup(name)?.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned()))
}

fn parse<T>(
    name: &str,
    lookup: Lookup,
    takes: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, SettingError> {
    let text = value(name, lookup)?;
    parse(&text).ok_or_else(|| SettingError::new(name, format!("{text:?} is not {takes}")))
}

/// A secret from the variable, or from the file that `NAME_FILE` names, without the newline at its
/// end. One that is set but empty is a mistake (a variable of a script that was never filled in),
/// and to go on without it would be to leave `/data` open, or to store documents elsewhere.
fn secret_value(name: &str, lookup: Lookup) -> Result<Option<Secret>, SettingError> {
    let file_name = format!("{name}_FILE");
    let look_up = |name: &str| match lookup(name)? {
        Some(text) if text.is_empty() => {
            Err(SettingError::new(name, "it is set, but empty; set it to something or unset it"))
        }
        found => Ok(found),
    };
    match (look_up(name)?, look_up(&file_name)?) {
        (Some(_), Some(_)) => {
            Err(SettingError::new(name, format!("{file_name} is set as well; set one of them")))
        }
        (Some(text), None) => Ok(Some(Secret(text))),
        (None, Some(path)) => {
            let secret = read_secret(Path::new(&path))
                .map_err(|problem| SettingError::new(&file_name, problem))?;
            Ok(Some(secret))
        }
        (None, None) => Ok(None),
    }
}

pub(crate) fn read_secret(path: &Path) -> Result<Secret, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(Secret(text.to_owned()))
}

fn store(lookup: Lookup) -> Result<StoreConfig, SettingError> {
    for setting in [MONGODB_URI, OLDER_MONGODB_URI] {
        if let Some(uri) = secret_value(setting, lookup)? {
            let file = lookup(&format!("{setting}_FILE"))?.map(PathBuf::from);
            return Ok(StoreConfig::Mongo {
                setting,
                uri,
                file,
                collection: value("COLLECTION", lookup)?,
            });
        }
    }
    Ok(StoreConfig::Local { file: value("DATA_FILE", lookup)?.into() })
}

fn api_token(lookup: Lookup) -> Result<Option<Secret>, SettingError> {
    let token = secret_value("API_TOKEN", lookup)?;
    match token {
        // What a header can carry and curl can be given without quoting surprises.
        Some(token) if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(SettingError::new("API_TOKEN", "it has characters other than visible ASCII ones"))
        }
        token => Ok(token),
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, SettingError> {
    let takes = || format!("{host:?} is not an address of this machine, such as 127.0.0.1 or ::");
    (host, port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| SettingError::new("HOST", takes()))
}

/// `10` and `10s` are seconds; also `500ms` and `2min`. At most a day: whoever writes more means
/// another unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "min" => 60_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(milliseconds)?);
    (duration <= Duration::from_secs(24 * 60 * 60)).then_some(duration)
}

/// `65536` is bytes; also `64KiB` and `1MiB`.
fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text);
    let bytes: usize = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(bytes)
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

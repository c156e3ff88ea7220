//! The settings: environment variables -> the options of each part. Only `program` knows this
//! module: it passes the options down, and says which setting an error is about.

mod parse;
mod setting;
pub(crate) mod settings;

use std::env;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::db::{self, MongoOptions, StoreOptions};
use crate::log;
use crate::routes;
use crate::server::Timeouts;
pub use setting::SettingError;
pub(crate) use setting::{Lookup, SecretSetting, Setting};
use settings::{
    API_TOKEN, BODY_TIMEOUT, COLLECTION, DATA_FILE, GROUPING, HEAD_TIMEOUT, HOST, IDLE_TIMEOUT,
    LOG, LOG_RATE, MAX_BODY, MAX_CONNECTION_AGE, MAX_CONNECTIONS, MONGODB_URI, OLDER_MONGODB_URI,
    OPS_PORT, PORT, SEND_TIMEOUT, SHUTDOWN_DELAY, SHUTDOWN_TIMEOUT, TABLE,
};

/// What the environment says, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the application listens.
    pub(crate) address: SocketAddr,
    /// Where the operations port listens.
    pub(crate) ops_address: SocketAddr,
    pub(crate) db: db::Options,
    /// Where the URI in `db` was found, if there is one.
    pub(crate) uri_setting: SecretSetting,
    pub(crate) routes: routes::Options,
    pub(crate) connections: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) shutdown_delay: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) log: log::Options,
}

impl Config {
    pub(crate) fn from_environment() -> Result<Self, SettingError> {
        Self::read(&|name| env::var_os(name))
    }

    /// Touches nothing but what `lookup` finds, the files of secrets, and the names of hosts.
    pub(crate) fn read(lookup: Lookup) -> Result<Self, SettingError> {
        let host = HOST.read(lookup)?;
        let address = resolve(&host, PORT.read(lookup)?)?;
        let ops_address = resolve(&host, OPS_PORT.read(lookup)?)?;
        let (uri_setting, store) = store(lookup)?;
        Ok(Self {
            address,
            ops_address,
            db: db::Options { store, grouping: GROUPING.read(lookup)? },
            uri_setting,
            routes: routes::Options {
                api_token: API_TOKEN.read(lookup)?.map(|found| found.secret),
                max_body: MAX_BODY.read_limit(lookup)?,
            },
            connections: MAX_CONNECTIONS.read(lookup)?,
            timeouts: Timeouts {
                head: HEAD_TIMEOUT.read(lookup)?,
                body: BODY_TIMEOUT.read(lookup)?,
                idle: IDLE_TIMEOUT.read(lookup)?,
                send: SEND_TIMEOUT.read(lookup)?,
                age: MAX_CONNECTION_AGE.read(lookup)?,
            },
            shutdown_delay: SHUTDOWN_DELAY.read(lookup)?,
            shutdown_timeout: SHUTDOWN_TIMEOUT.read(lookup)?,
            log: log::Options {
                format: LOG.read(lookup)?,
                max_requests_per_second: LOG_RATE.read_limit(lookup)?,
            },
        })
    }
}

fn store(lookup: Lookup) -> Result<(SecretSetting, StoreOptions), SettingError> {
    for setting in [MONGODB_URI, OLDER_MONGODB_URI] {
        if let Some(found) = setting.read(lookup)? {
            let options = MongoOptions {
                uri: found.secret,
                uri_file: found.file,
                collection: COLLECTION.read(lookup)?,
            };
            return Ok((setting, StoreOptions::Mongo(options)));
        }
    }
    Ok((MONGODB_URI, StoreOptions::Local { file: DATA_FILE.read(lookup)? }))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, SettingError> {
    let mut addresses = (host, port).to_socket_addrs().map_err(|_| HOST.refuse(host))?;
    addresses.next().ok_or_else(|| HOST.refuse(host))
}

/// The table of settings, a line each, as `--help` prints it.
pub(crate) fn table() -> String {
    TABLE
        .iter()
        .map(|row| {
            let suffix = if row.is_secret { "[_FILE]" } else { "" };
            let name = [row.name, suffix].concat();
            let default = if row.default.is_empty() { "-" } else { row.default };
            format!("  {name:<18} {default:<14} {}\n", row.meaning)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::error::Error;
    use std::io;

    use super::*;
    use crate::error::one_line;

    fn read(settings: &[(&str, &str)]) -> Result<Config, SettingError> {
        let settings: HashMap<&str, &str> = settings.iter().copied().collect();
        Config::read(&|name| settings.get(name).map(Into::into))
    }

    #[test]
    fn defaults_are_what_their_settings_take() {
        let config = read(&[]).unwrap();
        let limit = config.routes.max_body;
        assert_eq!((limit.value, limit.name), (1 << 20, "MAX_BODY"));
    }

    #[test]
    fn error_keeps_its_source_and_says_it_once() {
        let error = read(&[("API_TOKEN_FILE", "/nowhere/token")]).unwrap_err();
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::NotFound));
        let line = one_line(&error);
        assert!(line.starts_with("API_TOKEN_FILE: cannot read /nowhere/token: No such"), "{line}");
        assert_eq!(line.matches("No such").count(), 1, "{line}");
    }
}

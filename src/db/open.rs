//! Opens the database: which store, and the calls to it.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::local::{DataFileError, LocalStore};
use super::mongo::{MongoOptions, MongoStore, UriError};
use super::{Db, Store, calls};
use crate::memory::Memory;
use crate::metrics::Metrics;

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) store: StoreOptions,
    /// Whether calls that arrive together share one.
    pub(crate) grouping: bool,
}

/// Where documents are stored.
#[derive(Debug)]
pub(crate) enum StoreOptions {
    Mongo(MongoOptions),
    Local { file: PathBuf },
}

impl StoreOptions {
    /// Whether the password is one of those that k8s.yaml and compose.yaml come with.
    pub(crate) fn has_placeholder_password(&self) -> bool {
        matches!(self, StoreOptions::Mongo(options) if options.has_placeholder_password())
    }
}

/// Why there is no database.
#[derive(Debug)]
pub(crate) enum OpenError {
    Uri(UriError),
    DataFile(DataFileError),
    /// Its threads cannot be started.
    Threads(io::Error),
}

/// A store, and what is known of it before it was asked anything.
struct Opened {
    store: Arc<dyn Store>,
    location: String,
    name: String,
    was_reached: bool,
}

impl Db {
    pub(crate) fn open(
        options: &Options,
        metrics: &Arc<Metrics>,
        memory: &Arc<Memory>,
    ) -> Result<Self, OpenError> {
        let opened = match &options.store {
            StoreOptions::Mongo(options) => open_mongo(options, metrics)?,
            StoreOptions::Local { file } => open_local(file)?,
        };
        let Opened { store, location, name, was_reached } = opened;
        let grouping = if options.grouping { calls::ON } else { calls::OFF };
        Self::over(store, location, name, grouping, was_reached, metrics, memory)
            .map_err(OpenError::Threads)
    }
}

fn open_mongo(options: &MongoOptions, metrics: &Arc<Metrics>) -> Result<Opened, OpenError> {
    let store = MongoStore::new(options, metrics.clone()).map_err(OpenError::Uri)?;
    Ok(Opened {
        location: store.location(),
        name: store.name(),
        // Nothing is known of a server yet.
        was_reached: false,
        store: Arc::new(store),
    })
}

fn open_local(file: &Path) -> Result<Opened, OpenError> {
    let store = LocalStore::open(file).map_err(OpenError::DataFile)?;
    Ok(Opened {
        location: format!("the file {}", file.display()),
        name: format!("the file {}", file.file_name().unwrap_or_default().display()),
        was_reached: true,
        store: Arc::new(store),
    })
}

impl Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            OpenError::Uri(error) => error.fmt(formatter),
            OpenError::DataFile(error) => error.fmt(formatter),
            OpenError::Threads(_) => formatter.write_str("cannot start its threads"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OpenError::Uri(error) => error.source(),
            OpenError::DataFile(error) => error.source(),
            OpenError::Threads(error) => Some(error),
        }
    }
}

//! What the fuzz targets (fuzz/) link: thin layers over parts of the program that are private to
//! it. Exists only with `--cfg fuzzing`, which cargo-fuzz sets.

use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use crate::config::{self, Config};
use crate::db::{self, StoreOptions};
use crate::error::one_line;
use crate::json::{self, Documents};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::{document, program, server};

/// As `DocumentId`'s.
pub const MAX_ID_BYTES_IN_URL: usize = document::DocumentId::MAX_BYTES_IN_URL;

/// A document that the program accepts.
pub struct Document(document::Document);

impl Document {
    pub fn raw(&self) -> &RawDocumentBuf {
        self.0.raw()
    }
}

/// An `_id` that the program accepts.
pub struct DocumentId(document::DocumentId);

impl DocumentId {
    pub fn new(value: RawBson) -> Option<Self> {
        document::DocumentId::new(value).ok().map(Self)
    }

    pub fn as_raw(&self) -> RawBsonRef<'_> {
        self.0.as_raw()
    }
}

/// The two forms of Extended JSON.
#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    Relaxed,
    Canonical,
}

pub fn parse_documents(json: &[u8]) -> Result<Vec<Document>, impl Display + Debug + use<>> {
    json::parse_documents(json).map(|documents| match documents {
        Documents::One(document) => vec![Document(document)],
        Documents::Many(documents) => documents.into_iter().map(Document).collect(),
    })
}

pub fn parse_document(json: &[u8]) -> Result<Document, impl Display + Debug + use<>> {
    json::parse_document(json).map(Document)
}

pub fn parse_id(text: &str) -> Result<DocumentId, impl Display + Debug + use<>> {
    json::parse_id(text).map(DocumentId)
}

pub fn write_id(id: &DocumentId) -> String {
    json::write_id(&id.0)
}

/// Appends the document's JSON, and says whether the document could be written.
pub fn write_document(raw: &RawDocument, format: Format, out: &mut Vec<u8>) -> bool {
    let format = match format {
        Format::Relaxed => json::Format::Relaxed,
        Format::Canonical => json::Format::Canonical,
    };
    json::write_document(raw, format, out).is_ok()
}

/// The embedded store's key of an `_id`; none: it stores no such value.
pub fn key_of(id: RawBsonRef<'_>) -> Option<Vec<u8>> {
    db::key_of(id)
}

/// What a client of one connection is answered, and the same without what differs between two
/// runs. See `Session::run` for what the arguments mean.
pub fn answers(pieces: &[&[u8]], takes: &[u8], noise: &[u8]) -> (Vec<u8>, Vec<u8>) {
    server::answers(pieces, takes, noise)
}

/// The table of settings, as `--help` prints it.
pub fn settings_table() -> String {
    config::table()
}

/// What the environment says.
pub struct Settings {
    pub address: SocketAddr,
    pub ops_address: SocketAddr,
    pub durations: [(&'static str, Duration); 7],
    pub max_body: usize,
    pub connections: usize,
    pub log_rate: u32,
    pub grouping: bool,
    pub api_token: Option<String>,
    /// None: the embedded store.
    pub mongodb: Option<Mongodb>,
    /// What a panic's message could contain of the settings.
    pub debug: String,
}

pub struct Mongodb {
    pub uri: String,
    pub collection: String,
    /// As the log tells it.
    pub location: String,
}

/// Reads the settings and opens MongoDB, but no data file. The error is what the program prints.
pub fn read_settings() -> Result<Settings, String> {
    let config =
        Config::from_environment().map_err(|error| format!("two-tier: {}", one_line(&error)))?;
    let mongodb = match &config.db.store {
        StoreOptions::Mongo(options) => {
            let db = program::open_database(
                &config,
                &Arc::new(Metrics::new()),
                &Arc::new(Memory::new(usize::MAX)),
            );
            let db = db.map_err(|error| format!("two-tier: {}", one_line(&error)))?;
            Some(Mongodb {
                uri: options.uri.expose().to_owned(),
                collection: options.collection.clone(),
                location: db.location().to_owned(),
            })
        }
        StoreOptions::Local { .. } => None,
    };
    let timeouts = &config.timeouts;
    Ok(Settings {
        address: config.address,
        ops_address: config.ops_address,
        durations: [
            ("HEAD_TIMEOUT", timeouts.head),
            ("BODY_TIMEOUT", timeouts.body),
            ("IDLE_TIMEOUT", timeouts.idle),
            ("SEND_TIMEOUT", timeouts.send),
            ("MAX_CONNECTION_AGE", timeouts.age),
            ("SHUTDOWN_DELAY", config.shutdown_delay),
            ("SHUTDOWN_TIMEOUT", config.shutdown_timeout),
        ],
        max_body: config.routes.max_body.value,
        connections: config.connections,
        log_rate: config.log.max_requests_per_second.value,
        grouping: config.db.grouping,
        api_token: config.routes.api_token.as_ref().map(|token| token.expose().to_owned()),
        mongodb,
        debug: format!("{config:?}"),
    })
}

//! MongoDB through the driver's sync API. A document is raw BSON all the way between the wire and
//! here.
//!
//! The driver's calls have no time-out of their own on a silent server. No request waits on one:
//! threads of `queue.rs` make them, and the driver's monitor breaks them off, which asks each
//! server every `client::HEARTBEAT` and gives up on one after `client::CONNECT_TIMEOUT`.

mod attempts;
mod brackets;
mod clashing_index;
mod client;
mod failure;
mod find;
mod insert;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bson::{RawDocumentBuf, doc};
use mongodb::error::Result as MongoResult;
use mongodb::options::{ConnectionString, HostInfo};
use mongodb::sync::Collection;

use super::{Batch, InsertOutcome, PageQuery, Store, StoreError};
use crate::document::{Document, DocumentId};
use crate::metrics::Metrics;
use crate::secret::Secret;
use client::Connector;
pub(crate) use client::UriError;
use failure::Failure;

#[derive(Debug, Clone)]
pub(crate) struct MongoOptions {
    pub(crate) uri: Secret,
    /// Where the URI was read from; read again when the server refuses the login.
    pub(crate) uri_file: Option<PathBuf>,
    pub(crate) collection: String,
}

impl MongoOptions {
    pub(super) fn has_placeholder_password(&self) -> bool {
        let credential = client::parse(self.uri.expose()).and_then(|address| address.credential);
        let password = credential.and_then(|credential| credential.password);
        password.is_some_and(|password| password.starts_with("change-me"))
    }
}

pub(super) struct MongoStore {
    /// As the program found it at its start.
    address: ConnectionString,
    database: String,
    collection: String,
    client: Connector,
    failure: Failure,
    /// What a document of the last page was long, on average.
    document_bytes: AtomicUsize,
}

impl MongoStore {
    /// Checks the URI; nothing is sent yet.
    pub(super) fn new(options: &MongoOptions, metrics: Arc<Metrics>) -> Result<Self, UriError> {
        let MongoOptions { uri, uri_file, collection } = options.clone();
        let failure = Failure::default();
        failure.redact_password_of(uri.expose());
        let (address, database) = client::parse_uri(&uri, &failure)?;
        Ok(Self {
            client: Connector::new(uri, uri_file, address.clone(), metrics),
            address,
            database,
            collection,
            failure,
            document_bytes: AtomicUsize::new(1024),
        })
    }

    /// The database and the collection, for people.
    pub(super) fn name(&self) -> String {
        format!("MongoDB, {}.{}", self.database, self.collection)
    }

    /// As `name`, with the servers.
    pub(super) fn location(&self) -> String {
        let servers = match &self.address.host_info {
            HostInfo::HostIdentifiers(servers) => {
                servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            HostInfo::DnsRecord(name) => name.clone(),
            _ => "unknown servers".to_owned(),
        };
        format!("{} on {servers}", self.name())
    }

    fn collection(&self) -> MongoResult<Collection<RawDocumentBuf>> {
        Ok(self.client.client()?.database(&self.database).collection(&self.collection))
    }

    /// Makes a call that changes nothing.
    fn read<T>(&self, call: impl Fn() -> MongoResult<T>) -> Result<T, StoreError> {
        self.client.read(&self.failure, call).map_err(|error| self.failure.classify_read(&error))
    }
}

impl Store for MongoStore {
    fn insert(&self, documents: &[Document]) -> InsertOutcome<()> {
        self.insert_documents(documents)
    }

    fn page(&self, query: &PageQuery) -> Result<Batch, StoreError> {
        self.read(|| self.find_page(query))
    }

    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError> {
        self.read(|| self.find_all(ids))
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.read(|| {
            self.client
                .client()?
                .database(&self.database)
                .run_command(doc! { "ping": 1 })
                .run()
                .map(drop)
        })
    }
}

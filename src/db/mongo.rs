//! MongoDB through the driver's sync API. A document is raw BSON all the way between the wire and here.
//!
//! The driver's calls have no time-out of their own on a silent server. No request waits on one: threads of `queue.rs`
//! make them, and the driver's monitor breaks them off, which asks each server every `HEARTBEAT` and gives up on one
//! after `CONNECT_TIMEOUT`.

mod brackets;
mod failure;
mod find;

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use mongodb::error::{ErrorKind, Result as MongoResult};
use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::options::{Acknowledgment, ClientOptions, ConnectionString, HostInfo, WriteConcern};
use mongodb::results::InsertManyResult;
use mongodb::sync::{Client, Collection};

use super::{Batch, PageQuery, Refusal, Store, StoreError};
use crate::config::Secret;
use crate::document::{Document, DocumentId};
use crate::metrics::Metrics;
use crate::percent;
use crate::queue::MAX_THREADS;
use failure::Failure;

/// How long to look for a server where the URI does not say: within the 5 s that a request has.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Connections at most: one for each thread that can make a call. Only those that are needed are opened, and a call that
/// is never answered keeps its own.
const MAX_POOL_SIZE: u32 = 4 * MAX_THREADS as u32;
/// Names this program in the server's log and in `currentOp`.
const APP_NAME: &str = "two-tier";

pub(super) struct MongoStore {
    address: ConnectionString,
    database: String,
    collection: String,
    failure: Failure,
    metrics: Arc<Metrics>,
    /// What a document of the last page was long, on average.
    document_bytes: AtomicUsize,
    /// Types that the server does not know by name.
    unknown_types: Mutex<HashSet<String>>,
    /// Made at the first call that can: a name in a `mongodb+srv://` URI may not be known when the program starts.
    client: Mutex<Option<Client>>,
}

/// The driver (3.9.1) panics on a user or password with a % before some characters beyond ASCII, and quotes it then.
fn parse_uri(uri: &str) -> Option<ConnectionString> {
    let (_, rest) = uri.split_once("://")?;
    let before_options = rest.split('?').next().unwrap_or_default();
    let user_and_password = before_options.rsplit_once('@').map_or("", |(user_and_password, _)| user_and_password);
    percent::decode(user_and_password).ok()?;
    ConnectionString::parse(uri).ok()
}

impl MongoStore {
    /// Checks the URI; nothing is sent yet. The error says what is wrong with it and has no password in it.
    pub(super) fn new(uri: &Secret, collection: &str, metrics: Arc<Metrics>) -> Result<Self, String> {
        let failure = Failure::hiding_password_of(uri.expose());
        let address = parse_uri(uri.expose()).ok_or_else(|| failure.uri_problem(uri.expose()))?;
        let Some(database) = address.default_database.clone().filter(|name| !name.is_empty()) else {
            return Err("the URI names no database; add one, as in mongodb://HOST:27017/DATABASE".to_owned());
        };
        Ok(Self {
            address,
            database,
            collection: collection.to_owned(),
            failure,
            metrics,
            document_bytes: AtomicUsize::new(1024),
            unknown_types: Mutex::default(),
            client: Mutex::new(None),
        })
    }

    /// The database and the collection, for people.
    pub(super) fn name(&self) -> String {
        format!("MongoDB, {}.{}", self.database, self.collection)
    }

    /// As `name`, with the servers.
    pub(super) fn place(&self) -> String {
        let servers = match &self.address.host_info {
            HostInfo::HostIdentifiers(servers) => {
                servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            HostInfo::DnsRecord(name) => name.clone(),
            _ => "unknown servers".to_owned(),
        };
        format!("{} on {servers}", self.name())
    }

    /// Whether the password is one of those that k8s.yaml and compose.yaml come with.
    pub(super) fn has_placeholder_password(&self) -> bool {
        let password = self.address.credential.as_ref().and_then(|credential| credential.password.as_deref());
        password.is_some_and(|password| password.starts_with("change-me"))
    }

    fn client(&self) -> MongoResult<Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let mut options = ClientOptions::parse(self.address.clone()).run()?;
        options.app_name.get_or_insert_with(|| APP_NAME.to_owned());
        options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        options.max_pool_size.get_or_insert(MAX_POOL_SIZE);
        // What was answered 201 must survive the end of any one server.
        options
            .write_concern
            .get_or_insert_with(|| WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
        let metrics = self.metrics.clone();
        options.cmap_event_handler = Some(EventHandler::callback(move |event| match event {
            CmapEvent::ConnectionCreated(_) => metrics.add_database_connections(1),
            CmapEvent::ConnectionClosed(_) => metrics.add_database_connections(-1),
            _ => {}
        }));
        Ok(client.insert(Client::with_options(options)?).clone())
    }

    fn collection(&self) -> MongoResult<Collection<RawDocumentBuf>> {
        Ok(self.client()?.database(&self.database).collection(&self.collection))
    }

    /// A server by itself has no retryable writes. But where every `_id` is of our own making, a second command can store
    /// nothing twice, and so an idle connection that somebody has cut costs nobody an answer.
    fn insert_twice_if_broken_off(&self, documents: &[Document]) -> MongoResult<InsertManyResult> {
        let first = self.insert_once(documents);
        let is_broken_off = matches!(&first, Err(error) if matches!(*error.kind, ErrorKind::Io(_)));
        if !is_broken_off || !documents.iter().all(Document::id_is_generated) {
            return first;
        }
        match self.insert_once(documents) {
            Err(error) if matches!(*error.kind, ErrorKind::InsertMany(_)) => Err(error),
            // Whatever befell the second command, the first one may have arrived.
            Err(_) => first,
            stored => stored,
        }
    }

    fn insert_once(&self, documents: &[Document]) -> MongoResult<InsertManyResult> {
        self.collection()?.insert_many(documents.iter().map(Document::raw)).ordered(false).run()
    }
}

impl Store for MongoStore {
    fn insert(&self, documents: &[Document]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let mut answers = vec![Ok(()); documents.len()];
        let Err(error) = self.insert_twice_if_broken_off(documents) else {
            return Ok(answers);
        };
        let ErrorKind::InsertMany(failures) = &*error.kind else {
            return Err(self.failure.of_write(&error));
        };
        if let Some(error) = &failures.write_concern_error {
            return Err(self.failure.of_write_concern(error));
        }
        for error in failures.write_errors.iter().flatten() {
            let Some(document) = documents.get(error.index) else { continue };
            answers[error.index] = match self.failure.of_document(error) {
                // The driver has sent the command a second time, and the first one had arrived.
                Refusal::Exists if document.id_is_generated() => Ok(()),
                refusal => Err(refusal),
            };
        }
        Ok(answers)
    }

    fn page(&self, query: &PageQuery) -> Result<Batch, StoreError> {
        self.find_page(query).map_err(|error| self.failure.of_read(&error))
    }

    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError> {
        self.find_all(ids).map_err(|error| self.failure.of_read(&error))
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.client()
            .and_then(|client| client.database(&self.database).run_command(doc! { "ping": 1 }).run())
            .map(drop)
            .map_err(|error| self.failure.of_read(&error))
    }
}

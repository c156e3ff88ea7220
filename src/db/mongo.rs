//! MongoDB through the driver's sync API. A document is raw BSON all the way between the wire and here.
//!
//! The driver's calls have no time-out of their own on a silent server. No request waits on one: threads of `group.rs`
//! make them, and the driver's monitor breaks them off, which asks each server every `client::HEARTBEAT` and gives up on
//! one after `client::CONNECT_TIMEOUT`.

mod attempts;
mod brackets;
mod clashing_index;
mod client;
mod failure;
mod insert;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bson::{Bson, Document as Filter, RawDocumentBuf, doc};
use mongodb::error::Result as MongoResult;
use mongodb::options::{ConnectionString, HostInfo};
use mongodb::sync::Collection;

use super::{Batch, Order, PageQuery, Refusal, Store, StoreError, key};
use crate::document::{Document, DocumentId};
use crate::metrics::Metrics;
use brackets::{bracket_filter, to_bson, types_behind};
use client::Connector;
pub(super) use client::UriSource;
use failure::Failure;

pub(super) struct MongoStore {
    /// As the program found it at its start.
    address: ConnectionString,
    database: String,
    collection: String,
    client: Connector,
    failure: Failure,
    /// What a document of the last page was long, on average.
    document_bytes: AtomicUsize,
    /// Types that the server does not know by name.
    unknown_types: Mutex<HashSet<String>>,
}

impl MongoStore {
    /// Checks the URI; nothing is sent yet. The error says what is wrong with it and has no password in it.
    pub(super) fn new(source: UriSource, collection: &str, metrics: Arc<Metrics>) -> Result<Self, String> {
        let failure = Failure::default();
        failure.hide_password_of(source.uri.expose());
        let (address, database) = client::parse_uri(&source.uri, &failure)?;
        Ok(Self {
            client: Connector::new(source, address.clone(), metrics),
            address,
            database,
            collection: collection.to_owned(),
            failure,
            document_bytes: AtomicUsize::new(1024),
            unknown_types: Mutex::default(),
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

    fn collection(&self) -> MongoResult<Collection<RawDocumentBuf>> {
        Ok(self.client.client()?.database(&self.database).collection(&self.collection))
    }

    /// Makes a call that changes nothing.
    fn read<T>(&self, call: impl Fn() -> MongoResult<T>) -> Result<T, StoreError> {
        self.client.read(&self.failure, call).map_err(|error| self.failure.of_read(&error))
    }

    /// Appends what `filter` finds to `batch` until it is full by `query`'s limits; says how many documents it holds.
    fn find(&self, filter: Filter, query: &PageQuery, held: usize, batch: &mut Batch) -> MongoResult<usize> {
        let direction = match query.order {
            Order::Ascending => 1,
            Order::Descending => -1,
        };
        // One more than wanted tells whether there is more.
        let limit = query.limit - held + 1;
        // A batch longer than the limit lets the server close the cursor with it, which saves most of the work. Where
        // documents are so large that the page ends before, a batch need not be longer than the page.
        let fits = query.max_bytes / self.document_bytes.load(Relaxed).max(1);
        let batch_size = u32::try_from((limit + 1).min(fits + 2)).unwrap_or(u32::MAX);
        let collection = self.collection()?;
        let find = collection.find(filter).sort(doc! { "_id": direction });
        let mut cursor = find.limit(i64::try_from(limit).unwrap_or(i64::MAX)).batch_size(batch_size).run()?;
        let mut held = held;
        while cursor.advance()? {
            let document = cursor.current().as_bytes();
            let is_full = held > 0 && batch.documents.len() + document.len() > query.max_bytes;
            if held == query.limit || is_full {
                batch.more = true;
                break;
            }
            batch.documents.extend_from_slice(document);
            held += 1;
        }
        if let Some(average) = batch.documents.len().checked_div(held) {
            self.document_bytes.store(average, Relaxed);
        }
        Ok(held)
    }

    /// Asks for all at once. Which document belongs to which `_id` is told by the embedded store's keys, which are equal
    /// where MongoDB finds two `_id`s equal; the few that have none are asked for one by one.
    fn find_all(&self, ids: &[DocumentId]) -> MongoResult<Vec<Option<RawDocumentBuf>>> {
        let collection = self.collection()?;
        let find_one = |id: &DocumentId| collection.find_one(doc! { "_id": { "$eq": to_bson(id) } }).run();
        if let [id] = ids {
            return Ok(vec![find_one(id)?]);
        }
        let keys: Vec<Option<Vec<u8>>> = ids.iter().map(|id| key::encode(id).ok()).collect();
        let with_key = ids.iter().zip(&keys).filter(|(_, key)| key.is_some());
        let wanted: Vec<Bson> = with_key.map(|(id, _)| to_bson(id)).collect();
        let mut found = HashMap::new();
        if !wanted.is_empty() {
            let mut cursor = collection.find(doc! { "_id": { "$in": wanted } }).run()?;
            while cursor.advance()? {
                let document = cursor.current();
                if let Ok(Some(id)) = document.get("_id") {
                    found.insert(key::encode_value(id).ok(), document.to_owned());
                }
            }
        }
        let place = |(id, key): (&DocumentId, &Option<Vec<u8>>)| match key {
            Some(_) => Ok(found.get(key).cloned()),
            None => find_one(id),
        };
        ids.iter().zip(&keys).map(place).collect()
    }

    fn find_page(&self, query: &PageQuery) -> MongoResult<Batch> {
        let mut batch = Batch { documents: Vec::new(), more: false };
        let mut held = 0;
        if let Some(filter) = bracket_filter(query) {
            held = self.find(filter, query, held, &mut batch)?;
        }
        if let Some(after) = &query.after
            && !batch.more
        {
            self.find_by_types(types_behind(after, query.order), query, held, &mut batch)?;
        }
        Ok(batch)
    }

    /// Appends the documents whose `_id` is of one of `types`. A server that does not know a type by name (FerretDB
    /// knows few) holds no `_id` of it, so it is asked again without.
    fn find_by_types(&self, types: Vec<&str>, query: &PageQuery, held: usize, batch: &mut Batch) -> MongoResult<()> {
        let mut types = types;
        loop {
            {
                let unknown = self.unknown_types.lock().unwrap_or_else(PoisonError::into_inner);
                types.retain(|name| !unknown.contains(*name));
            }
            if types.is_empty() {
                return Ok(());
            }
            match self.find(doc! { "_id": { "$type": &types } }, query, held, batch) {
                Ok(_) => return Ok(()),
                Err(error) => match failure::unknown_type(&error).filter(|name| types.contains(name)) {
                    Some(name) => {
                        let mut unknown = self.unknown_types.lock().unwrap_or_else(PoisonError::into_inner);
                        unknown.insert(name.to_owned());
                    }
                    None => return Err(error),
                },
            }
        }
    }
}

impl Store for MongoStore {
    fn insert(&self, documents: &[Document]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        self.insert_documents(documents)
    }

    fn page(&self, query: &PageQuery) -> Result<Batch, StoreError> {
        self.read(|| self.find_page(query))
    }

    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError> {
        self.read(|| self.find_all(ids))
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.read(|| self.client.client()?.database(&self.database).run_command(doc! { "ping": 1 }).run().map(drop))
    }
}

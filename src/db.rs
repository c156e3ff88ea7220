//! The database as the routes see it: insert documents, read a page, get one. Picks the store, and has calls that
//! arrive together share one (`group.rs`). Knows documents, but no HTTP and no socket.

mod calls;
mod health;
mod key;
mod local;
mod mongo;
mod page;

use std::sync::Arc;
use std::time::Instant;

use bson::RawDocumentBuf;

use crate::config::{Config, MONGODB_URI, SettingError, StoreConfig};
use crate::document::{Document, DocumentId};
use crate::group::Unanswered;
use crate::log;
use crate::metrics::Metrics;
use calls::{Inserts, Lookups, Pages, Pings};
use health::Health;
use local::LocalStore;
use mongo::MongoStore;
pub(crate) use page::{Layout, Page};

/// A page ends at this many bytes of BSON.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// One of the two places that documents live in. Its calls block: threads of `group.rs` make them, never those of a
/// connection.
trait Store: Send + Sync {
    /// Stores each document or says why not, one answer a document, in their order. What is answered `Ok` is durable.
    fn insert(&self, documents: &[Document]) -> Result<Vec<Result<(), Refusal>>, StoreError>;

    /// The documents after `query.after` in the order of `_id`, up to about the limits, but one if there is one.
    fn page(&self, query: &PageQuery) -> Result<Batch, StoreError>;

    fn get(&self, id: &DocumentId) -> Result<Option<RawDocumentBuf>, StoreError>;

    fn ping(&self) -> Result<(), StoreError>;
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PageQuery {
    pub(crate) after: Option<DocumentId>,
    pub(crate) order: Order,
    /// In documents, at least 1.
    pub(crate) limit: usize,
    /// In bytes of BSON.
    max_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Raw BSON documents one behind the other; `more` if the collection has further ones behind them.
struct Batch {
    documents: Vec<u8>,
    more: bool,
}

/// Why one document was not stored, though others of the same call may have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// Its `_id` is taken.
    Exists,
    /// It breaks a rule of the collection beside that of the `_id`; says which.
    Conflict(String),
    /// The store cannot hold it; says what in it.
    Unsupported(String),
    /// The store failed on it.
    Failed(StoreError),
}

/// Why a whole call failed. The text is for the client and has no secret in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoreError {
    /// Nothing was stored, and it may work later.
    Unavailable(String),
    /// The documents may have been stored or not.
    Unknown(String),
    /// Nothing was stored, as there is no room.
    Full(String),
    /// The store cannot hold such a document, nor be asked for one.
    Unsupported(String),
    /// Waiting does not help.
    Failed(String),
}

/// What came of inserting documents.
pub(crate) struct Inserted {
    /// For each document that the store was asked to take, in their order.
    pub(crate) answers: Vec<Result<(), Refusal>>,
    /// Why the store was not asked, or did not answer, for those behind them.
    pub(crate) failure: Option<StoreError>,
}

type Answers = Result<Vec<Result<(), Refusal>>, StoreError>;

/// A handle on the database; one for the whole program.
pub(crate) struct Db {
    inserts: Inserts,
    pages: Pages,
    lookups: Lookups,
    pings: Pings,
    writes: Health,
    reads: Health,
    /// Where the documents are, for people.
    place: String,
}

impl Db {
    pub(crate) fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, SettingError> {
        let (store, place): (Arc<dyn Store>, String) = match &config.store {
            StoreConfig::Mongo { uri, collection } => {
                let store = MongoStore::new(uri, collection, metrics.clone())
                    .map_err(|problem| SettingError::new(MONGODB_URI, problem))?;
                if store.has_placeholder_password() {
                    log::warning(format_args!(
                        "the password in {MONGODB_URI} is a placeholder that everybody knows; set one of your own"
                    ));
                }
                let place = store.place();
                (Arc::new(store), place)
            }
            StoreConfig::Local { file } => {
                let store =
                    LocalStore::open(file).map_err(|error| SettingError::new("DATA_FILE", error.to_string()))?;
                (Arc::new(store), format!("the file {}", file.display()))
            }
        };
        Ok(Self::over(store, place, !config.grouping, metrics))
    }

    fn over(store: Arc<dyn Store>, place: String, ungrouped: bool, metrics: &Arc<Metrics>) -> Self {
        Self {
            inserts: calls::inserts(store.clone(), ungrouped, metrics.clone()),
            pages: calls::pages(store.clone(), ungrouped, metrics.clone()),
            lookups: calls::lookups(store.clone(), ungrouped, metrics.clone()),
            pings: calls::pings(store, ungrouped, metrics.clone()),
            writes: Health::new("write to", metrics.clone()),
            reads: Health::new("read from", metrics.clone()),
            place,
        }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Stores each of the documents or says why not.
    pub(crate) fn insert(&self, documents: Vec<Document>, deadline: Instant) -> Inserted {
        let mut inserted = Inserted { answers: Vec::with_capacity(documents.len()), failure: None };
        let mut documents = documents.into_iter().peekable();
        while documents.peek().is_some() {
            match self.insert_some(calls::take_command(&mut documents), deadline) {
                Ok(answers) => inserted.answers.extend(answers),
                Err(error) => {
                    inserted.failure = Some(error);
                    break;
                }
            }
        }
        inserted
    }

    fn insert_some(&self, documents: Vec<Document>, deadline: Instant) -> Answers {
        let answers = match self.inserts.call(documents, deadline) {
            Ok(answers) => answers,
            Err(Unanswered::NotStarted) => Err(StoreError::Unavailable(
                "The database did not get to it in time, and nothing was stored.".to_owned(),
            )),
            Err(Unanswered::Unknown) => Err(StoreError::Unknown("The database did not answer in time.".to_owned())),
        };
        self.writes.note(answers)
    }

    pub(crate) fn page(&self, query: PageQuery, layout: Layout, deadline: Instant) -> Result<Arc<Page>, StoreError> {
        self.read(self.pages.call((query, layout), deadline))
    }

    /// One document as Extended JSON.
    pub(crate) fn get(&self, id: DocumentId, deadline: Instant) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.read(self.lookups.call(id, deadline))
    }

    pub(crate) fn ping(&self, deadline: Instant) -> Result<(), StoreError> {
        self.read(self.pings.call((), deadline))
    }

    /// A read that was not answered has changed nothing, whether it was started or not.
    fn read<A>(&self, answer: Result<Result<A, StoreError>, Unanswered>) -> Result<A, StoreError> {
        let unanswered = || StoreError::Unavailable("The database did not answer in time.".to_owned());
        self.reads.note(answer.unwrap_or_else(|_| Err(self.reads.reason().unwrap_or_else(unanswered))))
    }
}

impl PageQuery {
    pub(crate) fn new(after: Option<DocumentId>, order: Order, limit: usize) -> Self {
        Self { after, order, limit, max_bytes: MAX_PAGE_BYTES }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            StoreError::Unavailable(detail)
            | StoreError::Unknown(detail)
            | StoreError::Full(detail)
            | StoreError::Unsupported(detail)
            | StoreError::Failed(detail) => formatter.write_str(detail),
        }
    }
}

//! The database as the routes see it: insert documents, read a page, get one. Picks the store, and has calls that
//! arrive together share one (`group.rs`). Knows documents, but no HTTP and no socket.

mod calls;
mod health;
mod in_url;
mod key;
mod local;
mod mongo;
mod page;

use std::sync::Arc;
use std::time::Instant;

use bson::RawDocumentBuf;

use crate::config::{Config, SettingError, StoreConfig};
use crate::document::{Document, DocumentId};
use crate::group::{Ticket, Unanswered};
use crate::json::Format;
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

    /// The documents with these `_id`s, each at the place of its own.
    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError>;

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

/// Why a document was not stored, though others of the same call may have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// Its `_id` is taken.
    Exists,
    /// It breaks a rule of the collection beside that of the `_id`; says which.
    Conflict(String),
    /// The store cannot hold it; says what in it.
    Unsupported(String),
    /// The store failed, on it or on the whole command.
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

type Answers = Result<Vec<Result<(), Refusal>>, StoreError>;

/// A handle on the database; one for the whole program.
pub(crate) struct Db {
    inserts: Inserts,
    pages: Pages,
    lookups: Lookups,
    pings: Pings,
    writes: Health,
    reads: Health,
    /// Where the documents are, for the people who run this.
    place: String,
    /// As much of that as every client may see: no server and no directory.
    name: String,
}

impl Db {
    pub(crate) fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, SettingError> {
        let (store, place, name): (Arc<dyn Store>, String, String) = match &config.store {
            StoreConfig::Mongo { setting, uri, collection } => {
                let store = MongoStore::new(uri, collection, metrics.clone())
                    .map_err(|problem| SettingError::new(*setting, problem))?;
                if store.has_placeholder_password() {
                    log::warning(format_args!(
                        "the password in {setting} is a placeholder that everybody knows; set one of your own"
                    ));
                }
                let (place, name) = (store.place(), store.name());
                (Arc::new(store), place, name)
            }
            StoreConfig::Local { file } => {
                let store =
                    LocalStore::open(file).map_err(|error| SettingError::new("DATA_FILE", error.to_string()))?;
                let name = file.file_name().unwrap_or_default();
                (Arc::new(store), format!("the file {}", file.display()), format!("the file {}", name.display()))
            }
        };
        Ok(Self::over(store, place, name, !config.grouping, metrics))
    }

    fn over(store: Arc<dyn Store>, place: String, name: String, ungrouped: bool, metrics: &Arc<Metrics>) -> Self {
        Self {
            inserts: calls::inserts(store.clone(), ungrouped, metrics.clone()),
            pages: calls::pages(store.clone(), ungrouped, metrics.clone()),
            lookups: calls::lookups(store.clone(), ungrouped, metrics.clone()),
            pings: calls::pings(store, ungrouped, metrics.clone()),
            writes: Health::new("write to", metrics.clone()),
            reads: Health::new("read from", metrics.clone()),
            place,
            name,
        }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Begins to store the documents, in as many commands as it takes.
    pub(crate) fn begin_insert(&self, documents: Vec<Document>) -> PendingInsert<'_> {
        let mut documents = documents.into_iter().peekable();
        let mut commands = Vec::new();
        while documents.peek().is_some() {
            let command = calls::take_command(&mut documents);
            commands.push((command.len(), self.inserts.begin(command)));
        }
        PendingInsert { commands, health: &self.writes }
    }

    /// Begins to read a page.
    pub(crate) fn begin_page(&self, query: PageQuery, layout: Layout, format: Format) -> PendingPage<'_> {
        PendingPage { ticket: self.pages.begin((query, layout, format)), health: &self.reads }
    }

    /// One document as Extended JSON.
    pub(crate) fn get(
        &self,
        id: DocumentId,
        format: Format,
        deadline: Instant,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        read(&self.reads, self.lookups.call((id, format), deadline))
    }

    pub(crate) fn ping(&self, deadline: Instant) -> Result<(), StoreError> {
        read(&self.reads, self.pings.call((), deadline))
    }
}

/// Documents on their way into the store.
pub(crate) struct PendingInsert<'a> {
    /// How many documents each has, and the ticket for what becomes of them.
    commands: Vec<(usize, Ticket<Vec<Document>, Answers>)>,
    health: &'a Health,
}

impl PendingInsert<'_> {
    /// What became of each document, in their order.
    pub(crate) fn wait(self, deadline: Instant) -> Vec<Result<(), Refusal>> {
        let mut answers = Vec::new();
        for (length, ticket) in self.commands {
            let outcome = ticket.wait(deadline).unwrap_or_else(|unanswered| Err(unanswered.into()));
            match self.health.note(outcome) {
                Ok(command) => answers.extend(command),
                Err(error) => answers.extend(vec![Err(Refusal::Failed(error)); length]),
            }
        }
        answers
    }
}

impl From<Unanswered> for StoreError {
    /// Of a write.
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotStarted => {
                StoreError::Unavailable("The database did not get to it in time, and nothing was stored.".to_owned())
            }
            Unanswered::Unknown => StoreError::Unknown("The database did not answer in time.".to_owned()),
        }
    }
}

/// A page on its way out of the store.
pub(crate) struct PendingPage<'a> {
    ticket: Ticket<(PageQuery, Layout, Format), Result<Arc<Page>, StoreError>>,
    health: &'a Health,
}

impl PendingPage<'_> {
    pub(crate) fn wait(self, deadline: Instant) -> Result<Arc<Page>, StoreError> {
        read(self.health, self.ticket.wait(deadline))
    }
}

/// A read that was not answered has changed nothing, whether it was started or not.
fn read<A>(health: &Health, answer: Result<Result<A, StoreError>, Unanswered>) -> Result<A, StoreError> {
    let unanswered = || StoreError::Unavailable("The database did not answer in time.".to_owned());
    health.note(answer.unwrap_or_else(|_| Err(health.reason().unwrap_or_else(unanswered))))
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

//! The database as the routes see it: insert documents, read a page, get one. Picks the store, and has calls that
//! arrive together share one (`group.rs`). Knows documents, but no HTTP and no socket.

mod calls;
mod health;
mod insert;
mod key;
mod local;
mod mongo;
mod page;

use std::sync::Arc;
use std::time::Instant;

use bson::RawDocumentBuf;
use bson::oid::ObjectId;

use crate::config::{Config, SettingError, StoreConfig};
use crate::document::{Document, DocumentId};
use crate::group::{Ticket, Unanswered};
use crate::log;
use crate::metrics::Metrics;
use calls::{Inserts, Lookups, Pages, Pings};
use health::Health;
use local::LocalStore;
use mongo::{MongoStore, UriSource};
pub(crate) use page::{Layout, Page};

/// A page ends at this many bytes of BSON.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// One of the two places that documents live in. Its calls block: threads of `group.rs` make them, never those of a
/// connection.
trait Store: Send + Sync {
    /// Stores each document or says why not, one answer a document, in their order. What is answered `Ok` is durable.
    /// `Exists` means that another document has the `_id`: a store that may have sent one twice has compared them.
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

/// Under which `_id` a document was stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stored {
    AsGiven,
    /// A new one, since the one that was generated for it was taken.
    Under(ObjectId),
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

/// Why a whole call failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoreError {
    /// Nothing was stored, and it may work later.
    Unavailable(Reason),
    /// The documents may have been stored or not.
    Unknown(Reason),
    /// Nothing was stored, as there is no room.
    Full(Reason),
    /// The store cannot hold such a document, nor be asked for one.
    Unsupported(Reason),
    /// Waiting does not help.
    Failed(Reason),
}

/// Why a call failed, for clients and for the people who run this.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reason {
    /// Names no server, port or user.
    text: String,
    /// What the database or its driver said, for the log and the operations port. It may name servers, but no password.
    cause: Option<String>,
}

impl Reason {
    fn with_cause(text: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { text: text.into(), cause: Some(cause.into()) }
    }

    /// What a client may know.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

impl<T: Into<String>> From<T> for Reason {
    fn from(text: T) -> Self {
        Self { text: text.into(), cause: None }
    }
}

type Answers = Result<Vec<Result<Stored, Refusal>>, StoreError>;

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
            StoreConfig::Mongo { setting, uri, file, collection } => {
                let source = UriSource { uri: uri.clone(), file: file.clone() };
                let store = MongoStore::new(source, collection, metrics.clone())
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
    pub(crate) fn begin_page(&self, query: PageQuery, layout: Layout) -> PendingPage<'_> {
        PendingPage { ticket: self.pages.begin((query, layout)), health: &self.reads }
    }

    /// One document as Extended JSON.
    pub(crate) fn get(&self, id: DocumentId, deadline: Instant) -> Result<Option<Arc<[u8]>>, StoreError> {
        read(&self.reads, self.lookups.call(id, deadline))
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
    pub(crate) fn wait(self, deadline: Instant) -> Vec<Result<Stored, Refusal>> {
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
                StoreError::Unavailable("The database did not get to it in time, and nothing was stored.".into())
            }
            Unanswered::Unknown => StoreError::Unknown("The database did not answer in time.".into()),
        }
    }
}

/// A page on its way out of the store.
pub(crate) struct PendingPage<'a> {
    ticket: Ticket<(PageQuery, Layout), Result<Arc<Page>, StoreError>>,
    health: &'a Health,
}

impl PendingPage<'_> {
    pub(crate) fn wait(self, deadline: Instant) -> Result<Arc<Page>, StoreError> {
        read(self.health, self.ticket.wait(deadline))
    }
}

/// A read that was not answered has changed nothing, whether it was started or not.
fn read<A>(health: &Health, answer: Result<Result<A, StoreError>, Unanswered>) -> Result<A, StoreError> {
    let unanswered = || StoreError::Unavailable("The database did not answer in time.".into());
    health.note(answer.unwrap_or_else(|_| Err(health.reason().unwrap_or_else(unanswered))))
}

impl PageQuery {
    pub(crate) fn new(after: Option<DocumentId>, order: Order, limit: usize) -> Self {
        Self { after, order, limit, max_bytes: MAX_PAGE_BYTES }
    }
}

impl StoreError {
    fn reason(&self) -> &Reason {
        let (Self::Unavailable(reason)
        | Self::Unknown(reason)
        | Self::Full(reason)
        | Self::Unsupported(reason)
        | Self::Failed(reason)) = self;
        reason
    }

    fn into_reason(self) -> Reason {
        let (Self::Unavailable(reason)
        | Self::Unknown(reason)
        | Self::Full(reason)
        | Self::Unsupported(reason)
        | Self::Failed(reason)) = self;
        reason
    }
}

impl std::fmt::Display for StoreError {
    /// For the people who run this, not for clients.
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let reason = self.reason();
        match &reason.cause {
            Some(cause) => write!(formatter, "{} ({cause})", reason.text),
            None => formatter.write_str(&reason.text),
        }
    }
}

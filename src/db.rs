//! The database as the routes see it: insert documents, read a page, get one. Picks the store, and has calls that
//! arrive together share one (`group.rs`). Knows documents, but no HTTP and no socket.

mod health;
mod key;
mod local;
mod mongo;

use std::sync::Arc;
use std::time::Instant;

use bson::{RawDocument, RawDocumentBuf};

use crate::config::{Config, MONGODB_URI, SettingError, StoreConfig};
use crate::document::{Document, DocumentId};
use crate::group::{Group, Rules, Unanswered};
use crate::json;
use crate::log;
use crate::metrics::{Call, Metrics};
use health::Health;
use local::LocalStore;
use mongo::MongoStore;

/// The most documents in one insert command.
const MAX_INSERT: usize = 1000;
/// The most bytes of documents in one insert command, far below what MongoDB takes (48 MB).
const MAX_INSERT_BYTES: usize = 8 * 1024 * 1024;
/// The most documents that one call looks up by `_id`.
const MAX_LOOKUPS: usize = 100;
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

/// Documents as Extended JSON, ready to be sent.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) text: Arc<[u8]>,
    pub(crate) documents: usize,
    /// Where the next page begins; none behind the last document.
    pub(crate) next: Option<DocumentId>,
}

/// How the documents of a page are put together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Layout {
    /// One JSON array.
    Array,
    /// A line a document.
    Lines,
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
    inserts: Group<Vec<Document>, Answers>,
    pages: Group<(PageQuery, Layout), Result<Arc<Page>, StoreError>>,
    lookups: Group<DocumentId, Result<Option<Arc<[u8]>>, StoreError>>,
    pings: Group<(), Result<(), StoreError>>,
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
            inserts: inserts(store.clone(), ungrouped, metrics.clone()),
            pages: pages(store.clone(), ungrouped, metrics.clone()),
            lookups: lookups(store.clone(), ungrouped, metrics.clone()),
            pings: pings(store, ungrouped, metrics.clone()),
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
            match self.insert_some(take_command(&mut documents), deadline) {
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
        self.reads.note(
            answer.unwrap_or_else(|_| Err(StoreError::Unavailable("The database did not answer in time.".to_owned()))),
        )
    }
}

impl PageQuery {
    pub(crate) fn new(after: Option<DocumentId>, order: Order, limit: usize) -> Self {
        Self { after, order, limit, max_bytes: MAX_PAGE_BYTES }
    }
}

/// A document counts for its bytes, and at least for so many that `MAX_INSERT` of them are `MAX_INSERT_BYTES`.
fn weight(document: &Document) -> usize {
    document.raw().as_bytes().len().max(MAX_INSERT_BYTES / MAX_INSERT)
}

/// Takes as many documents as fit into one command, and at least one.
fn take_command(documents: &mut std::iter::Peekable<std::vec::IntoIter<Document>>) -> Vec<Document> {
    let mut total = 0;
    let mut command = Vec::new();
    while let Some(document) = documents.next_if(|document| {
        total += weight(document);
        total <= MAX_INSERT_BYTES || command.is_empty()
    }) {
        command.push(document);
    }
    command
}

fn inserts(store: Arc<dyn Store>, ungrouped: bool, metrics: Arc<Metrics>) -> Group<Vec<Document>, Answers> {
    let rules = Rules {
        is_same: |_, _| false,
        weight: |documents: &Vec<Document>| documents.iter().map(weight).sum(),
        full: MAX_INSERT_BYTES,
    };
    let run = move |requests: Vec<Vec<Document>>, _| -> Vec<Answers> {
        let lengths: Vec<usize> = requests.iter().map(Vec::len).collect();
        let documents: Vec<Document> = requests.into_iter().flatten().collect();
        metrics.insert_called(documents.len());
        match metrics.counted(Call::Insert, store.insert(&documents)) {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                lengths.iter().map(|&length| Ok(answers.by_ref().take(length).collect())).collect()
            }
            Err(error) => vec![Err(error); lengths.len()],
        }
    };
    Group::new("insert", ungrouped, rules, Box::new(run))
}

fn pages(
    store: Arc<dyn Store>,
    ungrouped: bool,
    metrics: Arc<Metrics>,
) -> Group<(PageQuery, Layout), Result<Arc<Page>, StoreError>> {
    // Each query is a call of its own: what they share is its answer.
    let rules = Rules { is_same: |one, other| one == other, weight: |_| 1, full: 1 };
    let run = move |requests: Vec<(PageQuery, Layout)>, readers| {
        metrics.query_called(readers);
        let page = |(query, layout): &(PageQuery, Layout)| {
            let batch = metrics.counted(Call::Page, store.page(query))?;
            Ok(Arc::new(write_page(&batch, *layout)?))
        };
        requests.iter().map(page).collect()
    };
    Group::new("page", ungrouped, rules, Box::new(run))
}

fn lookups(
    store: Arc<dyn Store>,
    ungrouped: bool,
    metrics: Arc<Metrics>,
) -> Group<DocumentId, Result<Option<Arc<[u8]>>, StoreError>> {
    let rules = Rules { is_same: |one, other| one == other, weight: |_| 1, full: MAX_LOOKUPS };
    let run = move |ids: Vec<DocumentId>, _| {
        let lookup = |id: &DocumentId| match metrics.counted(Call::Lookup, store.get(id))? {
            Some(document) => {
                let mut text = Vec::with_capacity(document.as_bytes().len() * 2);
                write_document(&document, &mut text)?;
                text.push(b'\n');
                Ok(Some(text.into()))
            }
            None => Ok(None),
        };
        ids.iter().map(lookup).collect()
    };
    Group::new("lookup", ungrouped, rules, Box::new(run))
}

fn pings(store: Arc<dyn Store>, ungrouped: bool, metrics: Arc<Metrics>) -> Group<(), Result<(), StoreError>> {
    let rules = Rules { is_same: |(), ()| true, weight: |()| 1, full: 1 };
    let run = move |_: Vec<()>, _| vec![metrics.counted(Call::Ping, store.ping())];
    Group::new("ping", ungrouped, rules, Box::new(run))
}

/// Writes a batch as text, from raw BSON without a tree in between.
fn write_page(batch: &Batch, layout: Layout) -> Result<Page, StoreError> {
    let mut text = Vec::with_capacity(batch.documents.len() * 3 / 2 + 16);
    let mut documents = 0;
    let mut last = None;
    let mut rest = batch.documents.as_slice();
    while !rest.is_empty() {
        let (document, behind) = split_document(rest)?;
        match layout {
            Layout::Array => text.push(if documents == 0 { b'[' } else { b',' }),
            Layout::Lines => {}
        }
        write_document(document, &mut text)?;
        if layout == Layout::Lines {
            text.push(b'\n');
        }
        documents += 1;
        last = Some(document);
        rest = behind;
    }
    if layout == Layout::Array {
        text.extend_from_slice(if documents == 0 { b"[]\n" } else { b"]\n" });
    }
    let next = match last {
        Some(document) if batch.more => Some(id_of(document)?),
        _ => None,
    };
    Ok(Page { text: text.into(), documents, next })
}

/// The first of `documents`, and what is behind it.
fn split_document(documents: &[u8]) -> Result<(&RawDocument, &[u8]), StoreError> {
    let length = documents.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let (document, behind) = length.and_then(|length| documents.split_at_checked(length)).ok_or_else(corrupt)?;
    let document = RawDocument::from_bytes(document).map_err(|_| corrupt())?;
    Ok((document, behind))
}

fn write_document(document: &RawDocument, text: &mut Vec<u8>) -> Result<(), StoreError> {
    json::write_document(document, text).map_err(|_| corrupt())
}

fn id_of(document: &RawDocument) -> Result<DocumentId, StoreError> {
    let id = document.get("_id").ok().flatten().ok_or_else(corrupt)?;
    DocumentId::new(id.into()).map_err(|_| corrupt())
}

fn corrupt() -> StoreError {
    StoreError::Failed("The database holds a document that is not valid BSON.".to_owned())
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

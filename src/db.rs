//! The database as the routes see it: insert documents, read a page, get one. Picks the store, and
//! has calls that arrive together share one (`queue.rs`). Knows documents, but no HTTP and no
//! socket.

mod calls;
mod health;
mod in_url;
mod insert;
mod key;
mod local;
mod mongo;
mod open;
mod outcome;
mod page;
mod pending;
mod ping;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;

use crate::document::{Document, DocumentId};
use crate::json::Format;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::queue::{self, Supervisor};
use calls::{Context, Grouping, Inserts, Lookups, Pages};
use health::Health;
pub(crate) use mongo::MongoOptions;
pub(crate) use open::{OpenError, Options, StoreOptions};
pub(crate) use outcome::{InsertOutcome, Refusal, StoreError, StoreErrorKind};
pub(crate) use page::{Layout, Page, Text};
pub(crate) use pending::Pending;
use pending::{CommandOutcome, Parts, read, written};
use ping::Pings;
pub(crate) use watch::Watch;

/// A page ends at this many bytes of BSON.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How long the end of the program waits for calls in progress, where nobody has closed the
/// database before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// One of the two places that documents live in. Its calls block: threads of `queue.rs` make them,
/// never a worker of the server.
trait Store: Send + Sync {
    /// Stores each document or says why not, one answer a document, in their order. What is
    /// answered `Ok` is durable. `Exists` means that another document has the `_id`: a store that
    /// may have sent one twice has compared them.
    fn insert(&self, documents: &[Document]) -> InsertOutcome<()>;

    /// The documents after `query.after` in the order of `_id`, up to about the limits, but one if
    /// there is one.
    fn page(&self, query: &PageQuery) -> Result<Batch, StoreError>;

    /// The documents with these `_id`s, each at the place of its own.
    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError>;

    fn ping(&self) -> Result<(), StoreError>;
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PageQuery {
    pub(crate) after: Option<DocumentId>,
    pub(crate) order: Order,
    /// In documents, at least 1.
    pub(crate) limit: usize,
    /// In bytes of BSON.
    max_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Raw BSON documents one after the other; `more` if the collection has further ones after them.
struct Batch {
    documents: Vec<u8>,
    more: bool,
}

/// A handle on the database; one for the whole program.
pub(crate) struct Db {
    inserts: Inserts,
    pages: Pages,
    lookups: Lookups,
    pings: Pings,
    supervisor: Supervisor,
    writes: Arc<Health>,
    reads: Arc<Health>,
    /// Whether it answers at all, as `Watch` finds it.
    reach: Arc<Health>,
    was_reached: AtomicBool,
    metrics: Arc<Metrics>,
    /// Where the documents are, for the people who run this.
    location: String,
    /// As much of that as every client may see: no server and no directory.
    name: String,
}

impl Db {
    fn over(
        store: Arc<dyn Store>,
        location: String,
        name: String,
        grouping: Grouping,
        was_reached: bool,
        metrics: &Arc<Metrics>,
        memory: &Arc<Memory>,
    ) -> io::Result<Self> {
        metrics.set_database_up(was_reached);
        let supervisor = Supervisor::new();
        let pings = Pings::new(store.clone(), metrics.clone(), &supervisor);
        let context = Context {
            store,
            metrics: metrics.clone(),
            memory: memory.clone(),
            supervisor: &supervisor,
            grouping,
        };
        let (inserts, pages, lookups) = (context.inserts(), context.pages(), context.lookups());
        supervisor.start(vec![inserts.supervised(), pages.supervised(), lookups.supervised()])?;
        Ok(Self {
            inserts,
            pages,
            lookups,
            pings,
            supervisor,
            writes: Arc::new(Health::new("write to", Some(metrics.clone()))),
            reads: Arc::new(Health::new("read from", Some(metrics.clone()))),
            reach: Arc::new(Health::new("reach", None)),
            was_reached: AtomicBool::new(was_reached),
            metrics: metrics.clone(),
            location,
            name,
        })
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Stores the documents, in as many commands as it takes, and calls `done` with what became of
    /// them. `Refusal::Exists` is only about an `_id` that the client has chosen: a generated one
    /// that is taken is replaced.
    ///
    /// As with the other calls, `done` is called once: with the answer, on a thread of the
    /// database's, or by `Pending::give_up`. It may be called before this returns. It must not
    /// block, since others' answers wait on the same thread.
    pub(crate) fn insert(
        &self,
        documents: Vec<Document>,
        done: impl FnOnce(InsertOutcome) + Send + 'static,
    ) -> Pending {
        let mut commands = calls::into_commands(documents);
        match commands.len() {
            0 => {
                done(Ok(Vec::new()));
                Pending::of([])
            }
            1 => Pending::of(commands.pop().map(|command| self.begin_command(command, done))),
            count => {
                let parts = Parts::new(count, done);
                let begin = |(index, command): (usize, Vec<Document>)| {
                    let (parts, documents) = (parts.clone(), command.len());
                    let done =
                        move |outcome| parts.add(index, CommandOutcome { documents, outcome });
                    self.begin_command(command, done)
                };
                Pending::of(commands.into_iter().enumerate().map(begin))
            }
        }
    }

    fn begin_command(
        &self,
        command: Vec<Document>,
        done: impl FnOnce(InsertOutcome) + Send + 'static,
    ) -> queue::Pending {
        let health = self.writes.clone();
        self.inserts.begin(command, move |outcome| done(written(&health, outcome)))
    }

    /// Reads a page and calls `done` with it.
    pub(crate) fn page(
        &self,
        query: PageQuery,
        layout: Layout,
        format: Format,
        done: impl FnOnce(Result<Arc<Page>, StoreError>) + Send + 'static,
    ) -> Pending {
        let health = self.reads.clone();
        Pending::of([self
            .pages
            .begin((query, layout, format), move |outcome| done(read(&health, outcome)))])
    }

    /// Calls `done` with one document as Extended JSON, if there is one.
    pub(crate) fn get(
        &self,
        id: DocumentId,
        format: Format,
        done: impl FnOnce(Result<Option<Arc<Text>>, StoreError>) + Send + 'static,
    ) -> Pending {
        let health = self.reads.clone();
        Pending::of([self.lookups.begin((id, format), move |outcome| done(read(&health, outcome)))])
    }

    /// Takes no more requests, and waits until the calls that are pending or running are over, but
    /// not beyond `deadline`. Then what has not begun never will, and threads that are stuck are
    /// left behind.
    pub(crate) fn close(&self, deadline: Instant) {
        self.inserts.close();
        self.pages.close();
        self.lookups.close();
        self.pings.close();
        self.supervisor.close(deadline);
        self.inserts.abandon();
        self.pages.abandon();
        self.lookups.abandon();
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.close(Instant::now() + CLOSE_TIMEOUT);
    }
}

/// The embedded store's key of an `_id`; none: it stores no such value.
#[cfg(fuzzing)]
pub(crate) fn key_of(id: bson::RawBsonRef<'_>) -> Option<Vec<u8>> {
    key::encode_value(id).ok()
}

impl PageQuery {
    pub(crate) fn new(after: Option<DocumentId>, order: Order, limit: usize) -> Self {
        Self { after, order, limit, max_bytes: MAX_PAGE_BYTES }
    }
}

//! The calls to a store that requests make, and what of each may go out together.

use std::sync::Arc;

use bson::RawDocumentBuf;

use super::page::{Layout, Page, Text, read_page, write_alone, write_page};
use super::{InsertOutcome, PageQuery, Store, StoreError, insert};
use crate::document::{Document, DocumentId};
use crate::json::Format;
use crate::memory::Memory;
use crate::metrics::{Call, Metrics};
use crate::queue::{BatchedWrites, CoalescedReads, MAX_THREADS, Queue, Supervisor, Threads, Weigh};

/// The most documents in one insert command.
const MAX_INSERT: usize = 1000;
/// The most bytes of documents in one insert command, far below what MongoDB takes (48 MB).
const MAX_INSERT_BYTES: usize = 8 * 1024 * 1024;
/// The most documents that one call looks up by `_id`.
const MAX_LOOKUPS: usize = 100;

/// How requests are put together into calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grouping {
    /// Whether requests share calls, or each is a call of its own.
    pub(super) shares_calls: bool,
    pub(super) threads: Threads,
}

/// One call in flight is usually best: more make the groups smaller.
pub(super) const ON: Grouping =
    Grouping { shares_calls: true, threads: Threads { usual: 1, slow: 4, most: MAX_THREADS } };
pub(super) const OFF: Grouping = Grouping {
    shares_calls: false,
    threads: Threads { usual: MAX_THREADS, slow: MAX_THREADS, most: MAX_THREADS },
};

pub(super) type Inserts = Queue<BatchedWrites<Vec<Document>, InsertOutcome>>;
pub(super) type Pages =
    Queue<CoalescedReads<(PageQuery, Layout, Format), Result<Arc<Page>, StoreError>>>;
pub(super) type Lookups = Queue<CoalescedReads<(DocumentId, Format), Lookup>>;

/// One document as Extended JSON, if there is one.
pub(super) type Lookup = Result<Option<Arc<Text>>, StoreError>;

/// What all calls need.
pub(super) struct Context<'a> {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) memory: Arc<Memory>,
    pub(super) supervisor: &'a Supervisor,
    pub(super) grouping: Grouping,
}

impl Context<'_> {
    pub(super) fn inserts(&self) -> Inserts {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let run = move |requests: Vec<Vec<Document>>, _| -> Vec<InsertOutcome> {
            let lengths: Vec<usize> = requests.iter().map(Vec::len).collect();
            let documents: Vec<Document> = requests.into_iter().flatten().collect();
            metrics.insert_called(documents.len());
            match metrics.counted(Call::Insert, insert::insert(&*store, documents)) {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    lengths
                        .iter()
                        .map(|&length| Ok(answers.by_ref().take(length).collect()))
                        .collect()
                }
                Err(error) => vec![Err(error); lengths.len()],
            }
        };
        let max_weight = if self.grouping.shares_calls { MAX_INSERT_BYTES } else { 0 };
        let backlog = BatchedWrites::new(max_weight);
        Queue::new("insert", self.grouping.threads, self.supervisor, backlog, run)
    }

    pub(super) fn pages(&self) -> Pages {
        let (store, metrics, memory) =
            (self.store.clone(), self.metrics.clone(), self.memory.clone());
        let run = move |requests: Vec<(PageQuery, Layout, Format)>, readers| {
            metrics.query_called(readers);
            let page = |(query, layout, format): &(PageQuery, Layout, Format)| {
                let read = |query: &PageQuery| metrics.counted(Call::Page, store.page(query));
                let batch = match layout {
                    Layout::Array => read_page(query, read)?,
                    // An export goes on by itself, and no `_id` passes through a URL.
                    Layout::Lines => read(query)?,
                };
                Ok(Arc::new(write_page(&batch, *layout, *format, &memory)?))
            };
            requests.iter().map(page).collect()
        };
        // Each query is a call of its own: what they share is its answer.
        let backlog = CoalescedReads::new(1, self.grouping.shares_calls);
        Queue::new("page", self.grouping.threads, self.supervisor, backlog, run)
    }

    pub(super) fn lookups(&self) -> Lookups {
        let (store, metrics, memory) =
            (self.store.clone(), self.metrics.clone(), self.memory.clone());
        let run = move |requests: Vec<(DocumentId, Format)>, _| {
            let (ids, formats): (Vec<DocumentId>, Vec<Format>) = requests.into_iter().unzip();
            match metrics.counted(Call::Lookup, store.get(&ids)) {
                Ok(documents) => {
                    let write = |(document, format): (Option<RawDocumentBuf>, Format)| {
                        document.map(|document| write_alone(&document, format, &memory)).transpose()
                    };
                    documents.into_iter().zip(formats).map(write).collect()
                }
                Err(error) => vec![Err(error); ids.len()],
            }
        };
        let coalesce = self.grouping.shares_calls;
        let backlog = CoalescedReads::new(if coalesce { MAX_LOOKUPS } else { 1 }, coalesce);
        Queue::new("lookup", self.grouping.threads, self.supervisor, backlog, run)
    }
}

/// A document counts for its bytes, and at least for so many that `MAX_INSERT` of them are
/// `MAX_INSERT_BYTES`.
impl Weigh for Document {
    fn weight(&self) -> usize {
        self.raw().as_bytes().len().max(MAX_INSERT_BYTES / MAX_INSERT)
    }
}

impl Weigh for Vec<Document> {
    fn weight(&self) -> usize {
        self.iter().map(Document::weight).sum()
    }
}

/// Divides documents into as few commands as they fit into, each with at least one.
pub(super) fn into_commands(documents: Vec<Document>) -> Vec<Vec<Document>> {
    if documents.weight() <= MAX_INSERT_BYTES {
        return if documents.is_empty() { Vec::new() } else { vec![documents] };
    }
    let mut commands = Vec::new();
    let (mut command, mut weight) = (Vec::new(), 0);
    for document in documents {
        weight += document.weight();
        if weight > MAX_INSERT_BYTES && !command.is_empty() {
            weight = document.weight();
            commands.push(std::mem::take(&mut command));
        }
        command.push(document);
    }
    commands.push(command);
    commands
}

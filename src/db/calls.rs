//! The four calls to a store, and what of each may go out together.

use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::page::{Layout, Page, write_alone, write_page};
use super::{Answers, PageQuery, Store, StoreError, insert};
use crate::document::{Document, DocumentId};
use crate::group::{Group, Rules};
use crate::metrics::{Call, Metrics};

/// The most documents in one insert command.
const MAX_INSERT: usize = 1000;
/// The most bytes of documents in one insert command, far below what MongoDB takes (48 MB).
const MAX_INSERT_BYTES: usize = 8 * 1024 * 1024;
/// The most documents that one call looks up by `_id`.
const MAX_LOOKUPS: usize = 100;

pub(super) type Inserts = Group<Vec<Document>, Answers>;
pub(super) type Pages = Group<(PageQuery, Layout), Result<Arc<Page>, StoreError>>;
pub(super) type Lookups = Group<DocumentId, Lookup>;
pub(super) type Pings = Group<(), Result<(), StoreError>>;

/// One document as Extended JSON, if there is one.
pub(super) type Lookup = Result<Option<Arc<[u8]>>, StoreError>;

/// A document counts for its bytes, and at least for so many that `MAX_INSERT` of them are `MAX_INSERT_BYTES`.
fn weight(document: &Document) -> usize {
    document.raw().as_bytes().len().max(MAX_INSERT_BYTES / MAX_INSERT)
}

/// Takes as many documents as fit into one command, and at least one.
pub(super) fn take_command(documents: &mut Peekable<IntoIter<Document>>) -> Vec<Document> {
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

pub(super) fn inserts(store: Arc<dyn Store>, ungrouped: bool, metrics: Arc<Metrics>) -> Inserts {
    let rules = Rules {
        is_same: |_, _| false,
        weight: |documents: &Vec<Document>| documents.iter().map(weight).sum(),
        full: MAX_INSERT_BYTES,
    };
    let run = move |requests: Vec<Vec<Document>>, _| -> Vec<Answers> {
        let lengths: Vec<usize> = requests.iter().map(Vec::len).collect();
        let documents: Vec<Document> = requests.into_iter().flatten().collect();
        metrics.insert_called(documents.len());
        match metrics.counted(Call::Insert, insert::insert(&*store, documents)) {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                lengths.iter().map(|&length| Ok(answers.by_ref().take(length).collect())).collect()
            }
            Err(error) => vec![Err(error); lengths.len()],
        }
    };
    Group::new("insert", ungrouped, rules, Box::new(run))
}

pub(super) fn pages(store: Arc<dyn Store>, ungrouped: bool, metrics: Arc<Metrics>) -> Pages {
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

pub(super) fn lookups(store: Arc<dyn Store>, ungrouped: bool, metrics: Arc<Metrics>) -> Lookups {
    let rules = Rules { is_same: |one, other| one == other, weight: |_| 1, full: MAX_LOOKUPS };
    let run = move |ids: Vec<DocumentId>, _| match metrics.counted(Call::Lookup, store.get(&ids)) {
        Ok(documents) => documents.iter().map(|document| document.as_deref().map(write_alone).transpose()).collect(),
        Err(error) => vec![Err(error); ids.len()],
    };
    Group::new("lookup", ungrouped, rules, Box::new(run))
}

pub(super) fn pings(store: Arc<dyn Store>, ungrouped: bool, metrics: Arc<Metrics>) -> Pings {
    let rules = Rules { is_same: |(), ()| true, weight: |()| 1, full: 1 };
    let run = move |_: Vec<()>, _| vec![metrics.counted(Call::Ping, store.ping())];
    Group::new("ping", ungrouped, rules, Box::new(run))
}

//! Documents of an import that are stored together.

use std::sync::Arc;
use std::time::Instant;

use crate::db::{Db, InsertOutcome};
use crate::document::Document;
use crate::routes::deadline;
use crate::routes::reply::Reply;
use crate::server::service::Waker;

/// A batch is stored once it has this many documents, or bytes of BSON.
const MAX_DOCUMENTS: usize = 1000;
const MAX_BYTES: usize = 1024 * 1024;

/// Documents, and the number of the line of each.
#[derive(Default)]
pub(super) struct Batch {
    lines: Vec<u64>,
    documents: Vec<Document>,
    /// Of BSON.
    bytes: usize,
}

/// A batch on its way into the store.
pub(super) struct Storing {
    /// The numbers of its lines.
    pub(super) lines: Vec<u64>,
    /// Of BSON.
    pub(super) bytes: usize,
    pub(super) reply: Reply<InsertOutcome>,
    pub(super) until: Instant,
}

impl Batch {
    pub(super) fn push(&mut self, line: u64, document: Document) {
        self.bytes += document.raw().as_bytes().len();
        self.lines.push(line);
        self.documents.push(document);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.documents.len() >= MAX_DOCUMENTS || self.bytes >= MAX_BYTES
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn store(self, db: &Arc<Db>, waker: &Waker) -> Storing {
        let reply = Reply::ask(waker, |done| db.insert(self.documents, done));
        Storing { lines: self.lines, bytes: self.bytes, reply, until: deadline() }
    }
}

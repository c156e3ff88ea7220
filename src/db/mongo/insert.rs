//! Inserts, and what became of each document.
//!
//! The driver sends a command again when the connection breaks, and so does this, so that a
//! document can meet itself. A duplicate of a generated `_id` is therefore read, and is a success
//! only if it is the very same document.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use bson::oid::ObjectId;
use bson::spec::ElementType;
use bson::{Bson, RawBsonRef, RawDocumentBuf, doc};
use mongodb::error::{ErrorKind, IndexedWriteError, Result as MongoResult};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};

use super::MongoStore;
use super::clashing_index::ClashingIndex;
use super::failure::code;
use crate::db::{InsertOutcome, Refusal};
use crate::document::{Document, DocumentId};

type Raw<'a> = Cow<'a, RawDocumentBuf>;

/// A document that a unique index refused.
struct Duplicate {
    /// Of the document among those of the command.
    position: usize,
    index: ClashingIndex,
}

impl MongoStore {
    pub(super) fn insert_documents(&self, documents: &[Document]) -> InsertOutcome<()> {
        let raw: Vec<Raw> = documents.iter().map(with_timestamps).collect();
        let (outcome, attempts) = self.send(documents, &raw);
        let Err(error) = outcome else {
            return Ok(vec![Ok(()); documents.len()]);
        };
        let ErrorKind::InsertMany(failures) = &*error.kind else {
            return Err(self.failure.classify_write(&error, attempts));
        };
        let write_errors = failures.write_errors.as_deref().unwrap_or_default();
        let unconfirmed = failures
            .write_concern_error
            .as_ref()
            .map(|error| self.failure.classify_write_concern(error));
        if let Some(error) = unconfirmed.clone().filter(|_| write_errors.is_empty()) {
            return Err(error);
        }
        let mut answers =
            vec![unconfirmed.map_or(Ok(()), |error| Err(Refusal::Failed(error))); documents.len()];
        for error in write_errors {
            let Some(answer) = answers.get_mut(error.index) else {
                return Err(self.failure.senseless(&error.message));
            };
            *answer = Err(self.failure.classify_document(error, attempts));
        }
        self.judge_duplicates(documents, &raw, write_errors, attempts, &mut answers);
        Ok(answers)
    }

    /// Sends the insert. A server by itself has no retryable writes. But where every `_id` is of
    /// our own making, a second command can store nothing twice, and so an idle connection that
    /// somebody has cut costs nobody an answer.
    fn send(&self, documents: &[Document], raw: &[Raw]) -> (MongoResult<()>, u32) {
        let insert = || {
            self.collection()?
                .insert_many(raw.iter().map(|raw| &**raw))
                .ordered(false)
                .run()
                .map(drop)
        };
        let (first, attempts) = self.client.write(&self.failure, insert);
        let is_broken_off = matches!(&first, Err(error) if matches!(*error.kind, ErrorKind::Io(_)));
        if !is_broken_off || (attempts > 0 && !documents.iter().all(Document::id_is_generated)) {
            return (first, attempts);
        }
        let (second, more) = self.client.write(&self.failure, insert);
        let attempts = attempts + more;
        match second {
            Err(error) if matches!(*error.kind, ErrorKind::InsertMany(_)) => (Err(error), attempts),
            // Whatever befell the second command, the first one may have arrived.
            Err(_) => (first, attempts),
            Ok(()) => (Ok(()), attempts),
        }
    }

    /// Puts into `answers` what the duplicates among `errors` mean.
    fn judge_duplicates(
        &self,
        documents: &[Document],
        raw: &[Raw],
        errors: &[IndexedWriteError],
        attempts: u32,
        answers: &mut [Result<(), Refusal>],
    ) {
        let namespace = format!("{}.{}", self.database, self.collection);
        let duplicates =
            errors.iter().filter(|error| error.code == code::DUPLICATE_KEY).map(|error| {
                Duplicate {
                    position: error.index,
                    index: ClashingIndex::of(&error.message, &namespace),
                }
            });
        let (generated, own): (Vec<_>, Vec<_>) =
            duplicates.partition(|duplicate| documents[duplicate.position].id_is_generated());
        self.judge_generated(documents, raw, generated, attempts, answers);
        self.judge_own(documents, own, answers);
    }

    /// Those with a generated `_id`: what is stored under it tells whether it is the document
    /// itself.
    fn judge_generated(
        &self,
        documents: &[Document],
        raw: &[Raw],
        duplicates: Vec<Duplicate>,
        attempts: u32,
        answers: &mut [Result<(), Refusal>],
    ) {
        // What was sent once has met another document; of another index there is then nothing to
        // find out.
        let may_be_itself = |duplicate: &Duplicate| {
            attempts > 1 || !matches!(duplicate.index, ClashingIndex::Named(_))
        };
        let ids = duplicates.iter().filter(|duplicate| may_be_itself(duplicate));
        let ids: Vec<ObjectId> =
            ids.filter_map(|duplicate| documents[duplicate.position].generated_id()).collect();
        let stored = match self.read_stored(ids) {
            Ok(stored) => stored,
            Err(error) => {
                let unknown = self.failure.unknown_duplicate(&error);
                for duplicate in duplicates {
                    answers[duplicate.position] = Err(Refusal::Failed(unknown.clone()));
                }
                return;
            }
        };
        for Duplicate { position, index } in duplicates {
            let document = &documents[position];
            let found = document.generated_id().and_then(|id| stored.get(&id));
            answers[position] = match (found, index) {
                (Some(found), _) if found.as_bytes() == raw[position].as_bytes() => Ok(()),
                (Some(_), _) => Err(Refusal::Exists(document.id())),
                (None, ClashingIndex::Id) if attempts <= 1 => Err(Refusal::Exists(document.id())),
                // It may be there and not be confirmed by the majority yet.
                (None, ClashingIndex::Id) => {
                    Err(Refusal::Failed(self.failure.unconfirmed_duplicate()))
                }
                (None, index) => Err(index.refusal(document)),
            };
        }
    }

    /// Those with an `_id` of the client's: where the server does not say which index it was, a
    /// look tells.
    fn judge_own(
        &self,
        documents: &[Document],
        duplicates: Vec<Duplicate>,
        answers: &mut [Result<(), Refusal>],
    ) {
        let (unnamed, named): (Vec<_>, Vec<_>) = duplicates
            .into_iter()
            .partition(|duplicate| matches!(duplicate.index, ClashingIndex::Unknown));
        for Duplicate { position, index } in named {
            answers[position] = Err(index.refusal(&documents[position]));
        }
        if unnamed.is_empty() {
            return;
        }
        let ids: Vec<DocumentId> =
            unnamed.iter().map(|duplicate| documents[duplicate.position].id()).collect();
        let found = self.client.read(&self.failure, || self.find_all(&ids));
        for (number, (id, Duplicate { position, index })) in
            ids.into_iter().zip(unnamed).enumerate()
        {
            answers[position] = Err(match &found {
                Ok(found) if found.get(number).is_some_and(Option::is_some) => Refusal::Exists(id),
                _ => index.refusal(&documents[position]),
            });
        }
    }

    /// What the majority has under these `_id`s.
    fn read_stored(&self, ids: Vec<ObjectId>) -> MongoResult<HashMap<ObjectId, RawDocumentBuf>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let wanted: Vec<Bson> = ids.into_iter().map(Bson::ObjectId).collect();
        let find = || {
            let mut cursor = self
                .collection()?
                .find(doc! { "_id": { "$in": &wanted } })
                .read_concern(ReadConcern::majority())
                .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
                .run()?;
            let mut stored = HashMap::new();
            while cursor.advance()? {
                let document = cursor.current();
                if let Ok(Some(RawBsonRef::ObjectId(id))) = document.get("_id") {
                    stored.insert(id, document.to_owned());
                }
            }
            Ok(stored)
        };
        self.client.read(&self.failure, find)
    }
}

/// The document as it is to be stored. MongoDB puts the time into a top-level `Timestamp(0, 0)`;
/// where the stored document may have to be compared with the one that was sent, that is done
/// before sending.
fn with_timestamps(document: &Document) -> Raw<'_> {
    let raw = document.raw();
    if !document.id_is_generated() {
        return Cow::Borrowed(raw);
    }
    let mut filled: Option<Vec<u8>> = None;
    let mut at = 4;
    for element in raw.iter_elements().flatten() {
        let value = at + 1 + element.key().as_str().len() + 1;
        at = value + element.size();
        if element.element_type() == ElementType::Timestamp {
            let bytes = filled.get_or_insert_with(|| raw.as_bytes().to_vec());
            if let Some(timestamp) =
                bytes.get_mut(value..at).filter(|timestamp| **timestamp == [0; 8])
            {
                timestamp.copy_from_slice(&next_timestamp());
            }
        }
    }
    match filled.map(RawDocumentBuf::from_bytes) {
        Some(Ok(filled)) => Cow::Owned(filled),
        _ => Cow::Borrowed(raw),
    }
}

/// A BSON timestamp, unlike those before: the increment, then the seconds.
fn next_timestamp() -> [u8; 8] {
    static INCREMENT: AtomicU32 = AtomicU32::new(1);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = u64::from(u32::try_from(seconds).unwrap_or(u32::MAX));
    (seconds << 32 | u64::from(INCREMENT.fetch_add(1, Relaxed))).to_le_bytes()
}

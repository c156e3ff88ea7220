//! The embedded store: one redb file, an `_id`'s key -> the document's BSON. Touches that file and
//! nothing else.
//!
//! Each insert is one transaction that is on the disk when it returns. It is committed in two
//! phases (pages, then the header) and writes down which pages are free, so that a start after a
//! crash takes milliseconds at any size and a failed commit leaves no doubt about what it stored.
//!
//! redb refuses all work, reads too, after its first I/O error, and a full disk is one. So whoever
//! meets an error opens the file afresh (`reopen`), which reads but changes nothing: reads go on at
//! once, and the next insert tries the disk.

mod data_file;
mod open;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bson::RawDocumentBuf;
use redb::{Database, Entry, Error, ReadOnlyTable, ReadableDatabase};

use crate::db::{
    Batch, InsertOutcome, Order, PageQuery, Refusal, Store, StoreError, StoreErrorKind, key,
};
use crate::document::{Document, DocumentId};
use crate::sync::lock;

pub(crate) use open::DataFileError;
use open::{DOCUMENTS, Handle, catch_panic};

type Key = Result<Vec<u8>, key::Unsupported>;

pub(crate) struct LocalStore {
    /// Locked as long as the store lives, so that no other process gets it between two handles.
    file: Arc<File>,
    /// Locked to take the handle or to exchange it, never for the work on it.
    handle: Mutex<Arc<Handle>>,
}

impl LocalStore {
    pub(crate) fn open(path: &Path) -> Result<Self, DataFileError> {
        let (file, handle) = open::open(path)?;
        Ok(Self { file, handle: Mutex::new(Arc::new(handle)) })
    }

    fn handle(&self) -> Arc<Handle> {
        Arc::clone(&lock(&self.handle))
    }

    /// A handle to go on with after `failed` has failed; the one that another caller has opened
    /// since, if there is one.
    fn reopen(&self, failed: &Arc<Handle>) -> Result<Arc<Handle>, Error> {
        let mut handle = lock(&self.handle);
        if Arc::ptr_eq(&handle, failed) {
            // First: a reader of the old handle would not see that the new one writes over its
            // pages.
            failed.file.abandon();
            *handle = Arc::new(Handle::open(&self.file)?);
        }
        Ok(Arc::clone(&handle))
    }

    fn read<T>(&self, work: impl Fn(&Database) -> Result<T, Error>) -> Result<T, StoreError> {
        let handle = self.handle();
        catch_panic(|| work(&handle.database))
            .or_else(|_| {
                let handle = self.reopen(&handle)?;
                catch_panic(|| work(&handle.database))
            })
            .map_err(|error| store_error(&error))
    }

    /// What to answer where an insert has failed. `first` is the key of the first document that it
    /// was to store.
    fn failed_insert(
        &self,
        handle: &Arc<Handle>,
        error: &Error,
        first: Option<&[u8]>,
    ) -> StoreError {
        let stored = self.reopen(handle).and_then(|handle| {
            catch_panic(|| match first {
                Some(first) => Ok(documents(&handle.database)?.get_owned(first)?.is_some()),
                None => Ok(false),
            })
        });
        match stored {
            Ok(false) => store_error(error),
            Ok(true) => StoreError::new(
                StoreErrorKind::Unknown,
                format!(
                    "the documents were written, but the disk did not confirm it: {}",
                    describe(error)
                ),
            ),
            Err(_) => StoreError::new(
                StoreErrorKind::Unknown,
                format!("the data file failed: {}", describe(error)),
            ),
        }
    }
}

impl Store for LocalStore {
    fn insert(&self, documents: &[Document]) -> InsertOutcome<()> {
        let keys: Vec<Key> = documents.iter().map(|document| key::encode(&document.id())).collect();
        let handle = self.handle();
        let mut first = None;
        catch_panic(|| insert(&handle, documents, &keys, &mut first))
            .map_err(|error| self.failed_insert(&handle, &error, first))
    }

    fn page(&self, query: &PageQuery) -> Result<Batch, StoreError> {
        let after = query.after.as_ref().map(key::encode).transpose();
        let after = after.map_err(|key::Unsupported(detail)| {
            StoreError::new(StoreErrorKind::Unsupported, detail)
        })?;
        self.read(|database| page(database, query, after.as_deref()))
    }

    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError> {
        self.read(|database| {
            let documents = documents(database)?;
            ids.iter().map(|id| get(&documents, id)).collect()
        })
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.read(|database| documents(database).map(drop))
    }
}

fn get(
    documents: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    id: &DocumentId,
) -> Result<Option<RawDocumentBuf>, Error> {
    // What can't be a key is not stored.
    let Ok(key) = key::encode(id) else {
        return Ok(None);
    };
    let Some(value) = documents.get_owned(key.as_slice())? else {
        return Ok(None);
    };
    let document = RawDocumentBuf::from_bytes(value.value().to_vec());
    document.map(Some).map_err(|error| Error::Corrupted(error.to_string()))
}

fn documents(database: &Database) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, Error> {
    Ok(database.begin_read()?.open_table(DOCUMENTS)?)
}

/// `first` is set before anything is stored.
fn insert<'a>(
    handle: &Handle,
    documents: &[Document],
    keys: &'a [Key],
    first: &mut Option<&'a [u8]>,
) -> Result<Vec<Result<(), Refusal>>, Error> {
    handle.file.release()?;
    let mut transaction = handle.database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut results = Vec::with_capacity(documents.len());
    {
        let mut table = transaction.open_table(DOCUMENTS)?;
        for (document, key) in documents.iter().zip(keys) {
            results.push(match key {
                Err(key::Unsupported(detail)) => Err(Refusal::Unsupported(detail.clone())),
                Ok(key) => match table.entry(key.as_slice())? {
                    Entry::Occupied(_) => Err(Refusal::Exists(document.id())),
                    Entry::Vacant(entry) => {
                        first.get_or_insert(key.as_slice());
                        entry.insert(document.raw().as_bytes())?;
                        Ok(())
                    }
                },
            });
        }
    }
    if first.is_some() {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(results)
}

fn page(database: &Database, query: &PageQuery, after: Option<&[u8]>) -> Result<Batch, Error> {
    let beyond = after.map_or(Bound::Unbounded, Bound::Excluded);
    let range = match query.order {
        Order::Ascending => (beyond, Bound::Unbounded),
        Order::Descending => (Bound::Unbounded, beyond),
    };
    let mut range = documents(database)?.range_owned::<&[u8]>(range)?;
    let (mut documents, mut count) = (Vec::new(), 0);
    loop {
        let next = match query.order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        let Some(entry) = next.transpose()? else {
            return Ok(Batch { documents, more: false });
        };
        let document = entry.1.value();
        let too_long = count > 0 && documents.len() + document.len() > query.max_bytes;
        if count == query.limit || too_long {
            return Ok(Batch { documents, more: true });
        }
        if !has_its_length(document) {
            return Err(Error::Corrupted("a document does not have its length".to_owned()));
        }
        documents.extend_from_slice(document);
        count += 1;
    }
}

/// A batch is cut into documents by the lengths that these begin with, so a wrong one would spoil
/// all that follow.
fn has_its_length(document: &[u8]) -> bool {
    let length = document.first_chunk().map(|bytes| i32::from_le_bytes(*bytes));
    length.is_some_and(|length| usize::try_from(length) == Ok(document.len()))
}

fn store_error(error: &Error) -> StoreError {
    let kind = match error {
        Error::Io(error) if is_full(error) => StoreErrorKind::Full,
        // An error that another call has met: the next one finds the file opened afresh.
        Error::PreviousIo | Error::DatabaseClosed => StoreErrorKind::Unavailable,
        Error::Io(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            StoreErrorKind::Unavailable
        }
        _ => StoreErrorKind::Failed,
    };
    StoreError::new(kind, describe(error))
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn describe(error: &Error) -> String {
    match error {
        Error::Io(error) if is_full(error) => {
            format!("the disk has no room for the data file: {error}")
        }
        Error::Io(error) => format!("the data file can't be read or written: {error}"),
        Error::PreviousIo | Error::DatabaseClosed => {
            "the data file is being opened again after an error".to_owned()
        }
        Error::Corrupted(what) => format!("the data file is damaged: {what}"),
        error => format!("the data file failed: {error}"),
    }
}

//! Batches of raw BSON become text, without a tree in between.

use std::sync::Arc;

use bson::RawDocument;

use super::{Batch, PageQuery, StoreError, StoreErrorKind, in_url};
use crate::document::{Document, DocumentId};
use crate::json::{self, Format};
use crate::memory::{Charge, Memory};

/// Where a page that cannot end yet is given up, in bytes of BSON.
const MAX_UNENDING_BYTES: usize = Document::MAX_BYTES;

/// Extended JSON, ready to be sent. It counts as held for as long as any answer has it, once.
pub(crate) struct Text {
    bytes: Box<[u8]>,
    _charge: Charge,
}

impl Text {
    fn new(bytes: Vec<u8>, memory: &Arc<Memory>) -> Self {
        let charge = memory.charge(bytes.len());
        Self { bytes: bytes.into_boxed_slice(), _charge: charge }
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Documents as Extended JSON.
pub(crate) struct Page {
    text: Text,
    pub(crate) documents: usize,
    /// Where the next page begins; none after the last document.
    pub(crate) next: Option<DocumentId>,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.text.as_ref()
    }
}

/// How the documents of a page are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// One JSON array.
    Array,
    /// A line a document.
    Lines,
}

/// Reads a page that a client can go on from: where there is more, its last document has an `_id`
/// that fits into a URL. So it ends at an earlier document than it might, or at a later one if none
/// of them has such an `_id`.
pub(super) fn read_page(
    query: &PageQuery,
    read: impl Fn(&PageQuery) -> Result<Batch, StoreError>,
) -> Result<Batch, StoreError> {
    let mut page = read(query)?;
    let mut from = 0;
    while page.more {
        let documents = split_documents(&page.documents[from..])?;
        let fits = |(_, document): &&(usize, &RawDocument)| {
            id_of(document).is_ok_and(|id| in_url::fits(&id))
        };
        let end =
            if from == 0 { documents.iter().rev().find(fits) } else { documents.iter().find(fits) };
        if let Some((end, _)) = end {
            let end = from + end;
            page.documents.truncate(end);
            break;
        }
        if page.documents.len() > MAX_UNENDING_BYTES {
            return Err(StoreError::new(
                StoreErrorKind::Failed,
                format!(
                    "More than {MAX_UNENDING_BYTES} bytes of documents in a row have an _id that no URL \
                     has room for. An export (\"Accept: application/x-ndjson\") has them all."
                ),
            ));
        }
        let (_, last) = documents.last().ok_or_else(corrupt)?;
        let next = read(&PageQuery { after: Some(id_of(last)?), ..query.clone() })?;
        from = page.documents.len();
        page.documents.extend_from_slice(&next.documents);
        page.more = next.more;
    }
    Ok(page)
}

/// Each document, and where it ends.
fn split_documents(documents: &[u8]) -> Result<Vec<(usize, &RawDocument)>, StoreError> {
    let mut split = Vec::new();
    let mut rest = documents;
    while !rest.is_empty() {
        let (document, after) = split_document(rest)?;
        rest = after;
        split.push((documents.len() - rest.len(), document));
    }
    Ok(split)
}

/// Writes a document as a text of its own.
pub(super) fn write_alone(
    document: &RawDocument,
    format: Format,
    memory: &Arc<Memory>,
) -> Result<Arc<Text>, StoreError> {
    let mut text = Vec::with_capacity(document.as_bytes().len() * 2);
    write_document(document, format, &mut text)?;
    text.push(b'\n');
    Ok(Arc::new(Text::new(text, memory)))
}

/// Writes a batch as text, from raw BSON without a tree in between.
pub(super) fn write_page(
    batch: &Batch,
    layout: Layout,
    format: Format,
    memory: &Arc<Memory>,
) -> Result<Page, StoreError> {
    let mut text = Vec::with_capacity(batch.documents.len() * 3 / 2 + 16);
    let mut documents = 0;
    let mut last = None;
    let mut rest = batch.documents.as_slice();
    while !rest.is_empty() {
        let (document, after) = split_document(rest)?;
        match layout {
            Layout::Array => text.push(if documents == 0 { b'[' } else { b',' }),
            Layout::Lines => {}
        }
        write_document(document, format, &mut text)?;
        if layout == Layout::Lines {
            text.push(b'\n');
        }
        documents += 1;
        last = Some(document);
        rest = after;
    }
    if layout == Layout::Array {
        text.extend_from_slice(if documents == 0 { b"[]\n" } else { b"]\n" });
    }
    let next = match last {
        Some(document) if batch.more => Some(id_of(document)?),
        _ => None,
    };
    Ok(Page { text: Text::new(text, memory), documents, next })
}

/// The first of `documents`, and what is after it.
fn split_document(documents: &[u8]) -> Result<(&RawDocument, &[u8]), StoreError> {
    let length = documents.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let (document, after) =
        length.and_then(|length| documents.split_at_checked(length)).ok_or_else(corrupt)?;
    let document = RawDocument::from_bytes(document).map_err(|_| corrupt())?;
    Ok((document, after))
}

fn write_document(
    document: &RawDocument,
    format: Format,
    text: &mut Vec<u8>,
) -> Result<(), StoreError> {
    json::write_document(document, format, text).map_err(|_| corrupt())
}

fn id_of(document: &RawDocument) -> Result<DocumentId, StoreError> {
    document.get("_id").ok().flatten().map(DocumentId::stored).ok_or_else(corrupt)
}

fn corrupt() -> StoreError {
    StoreError::new(StoreErrorKind::Failed, "The database holds a document that is not valid BSON.")
}

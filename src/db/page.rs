//! Batches of raw BSON become text, without a tree in between.

use std::sync::Arc;

use bson::RawDocument;

use super::{Batch, StoreError};
use crate::document::DocumentId;
use crate::json;

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

/// Writes a document as a text of its own.
pub(super) fn write_alone(document: &RawDocument) -> Result<Arc<[u8]>, StoreError> {
    let mut text = Vec::with_capacity(document.as_bytes().len() * 2);
    write_document(document, &mut text)?;
    text.push(b'\n');
    Ok(text.into())
}

/// Writes a batch as text, from raw BSON without a tree in between.
pub(super) fn write_page(batch: &Batch, layout: Layout) -> Result<Page, StoreError> {
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
    StoreError::Failed("The database holds a document that is not valid BSON.".into())
}

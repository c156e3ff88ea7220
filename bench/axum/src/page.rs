//! `GET /data` in two ways: as most people write it, and tuned by hand.

use std::env;

use axum::body::Bytes;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt;
use mongodb::Collection;
use serde_json::Value;

use crate::{Problem, extended_json};

/// Documents in a page.
const LIMIT: usize = 100;

/// PAGE in the environment.
#[derive(Clone, Copy)]
pub(crate) enum PageStyle {
    /// `cursor`, the default: a cursor with a limit, collected and turned into JSON by the
    /// libraries.
    Cursor,
    /// `single-batch`: a negative limit, so that the server keeps no cursor, and raw BSON written
    /// as JSON by hand.
    SingleBatch,
}

impl PageStyle {
    pub(crate) fn from_environment() -> Result<Self, String> {
        match env::var("PAGE").as_deref() {
            Err(_) | Ok("cursor") => Ok(Self::Cursor),
            Ok("single-batch") => Ok(Self::SingleBatch),
            Ok(other) => Err(format!("PAGE is cursor or single-batch, not {other}")),
        }
    }
}

/// The first page in the order of `_id`.
pub(crate) async fn read(
    collection: &Collection<Document>,
    style: PageStyle,
) -> Result<Bytes, Problem> {
    match style {
        PageStyle::Cursor => read_cursor(collection).await,
        PageStyle::SingleBatch => read_single_batch(&collection.clone_with_type()).await,
    }
}

async fn read_cursor(collection: &Collection<Document>) -> Result<Bytes, Problem> {
    let cursor = collection.find(doc! {}).sort(doc! { "_id": 1 }).limit(LIMIT as i64).await?;
    let documents: Vec<Document> = cursor.try_collect().await?;
    let values: Vec<Value> = documents
        .into_iter()
        .map(|document| Bson::Document(document).into_relaxed_extjson())
        .collect();
    let mut text = serde_json::to_vec(&values)?;
    text.push(b'\n');
    Ok(text.into())
}

async fn read_single_batch(collection: &Collection<RawDocumentBuf>) -> Result<Bytes, Problem> {
    let mut cursor =
        collection.find(doc! {}).sort(doc! { "_id": 1 }).limit(-(LIMIT as i64)).await?;
    let mut text = Vec::with_capacity(16 * 1024);
    text.push(b'[');
    while cursor.advance().await? {
        if text.len() > 1 {
            text.push(b',');
        }
        extended_json::write_document(cursor.current(), &mut text)?;
    }
    text.extend_from_slice(b"]\n");
    Ok(text.into())
}

//! What a page or a look-up asks of MongoDB, and what its replies mean.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use bson::{Bson, Document as Filter, RawDocument, RawDocumentBuf, doc};
use mongodb::action::Find;
use mongodb::error::Result as MongoResult;

use super::MongoStore;
use super::brackets::{bracket_filter, known_to_ferretdb, to_bson, types_after};
use super::failure;
use crate::db::{Batch, Order, PageQuery, key};
use crate::document::DocumentId;

/// A page that is being filled.
struct Filling<'a> {
    query: &'a PageQuery,
    batch: Batch,
    /// Documents in it so far.
    held: usize,
}

impl Filling<'_> {
    /// Takes one more document, unless the page is full: then there is more.
    fn take(&mut self, document: &RawDocument) {
        let document = document.as_bytes();
        let is_too_long =
            self.held > 0 && self.batch.documents.len() + document.len() > self.query.max_bytes;
        if self.held == self.query.limit || is_too_long {
            self.batch.more = true;
        } else {
            self.batch.documents.extend_from_slice(document);
            self.held += 1;
        }
    }
}

impl MongoStore {
    pub(super) fn find_page(&self, query: &PageQuery) -> MongoResult<Batch> {
        let mut page =
            Filling { query, batch: Batch { documents: Vec::new(), more: false }, held: 0 };
        let mut after = query.after.clone();
        while let Some(last) = self.find_after(after.as_ref(), &mut page)? {
            after = Some(last);
        }
        Ok(page.batch)
    }

    /// Fills the page with what is after `after`, or gives the `_id` to go on after.
    fn find_after(
        &self,
        after: Option<&DocumentId>,
        page: &mut Filling,
    ) -> MongoResult<Option<DocumentId>> {
        if let Some(filter) = bracket_filter(after, page.query.order)
            && let Some(last) = self.find(&filter, page)?
        {
            return Ok(Some(last));
        }
        match after {
            Some(after) if !page.batch.more => {
                self.find_by_types(&types_after(after, page.query.order), page)
            }
            _ => Ok(None),
        }
    }

    /// Finds the documents whose `_id` is of one of `types`. FerretDB 1 refuses a query that names a
    /// type which it cannot store; it is asked again without those.
    fn find_by_types(&self, types: &[&str], page: &mut Filling) -> MongoResult<Option<DocumentId>> {
        if types.is_empty() {
            return Ok(None);
        }
        match self.find(&doc! { "_id": { "$type": types } }, page) {
            Err(error) if failure::is_unknown_type(&error) => {
                let types = known_to_ferretdb(types);
                if types.is_empty() {
                    return Ok(None);
                }
                self.find(&doc! { "_id": { "$type": types } }, page)
            }
            found => found,
        }
    }

    /// Takes what `filter` finds into the page, from one reply. Where that was asked for too few
    /// documents, gives the `_id` to go on after.
    ///
    /// A reply may end too early, where a document is so large that it does not go into the same one
    /// (MongoDB's end at about 16 MiB). Then the page ends too: it is not filled up, since whoever
    /// asks for what has come meanwhile may never be done while others store.
    fn find(&self, filter: &Filter, page: &mut Filling) -> MongoResult<Option<DocumentId>> {
        // One more than the page still takes tells whether there is more. Where documents are so
        // large that the page ends before, the reply need not be longer than the page.
        let fits = page.query.max_bytes / self.document_bytes.load(Relaxed).max(1);
        let asked = (page.query.limit - page.held + 1).min(fits + 2);
        let collection = self.collection()?;
        let mut cursor =
            single_batch(collection.find(filter.clone()), page.query.order, asked).run()?;
        let mut received = 0;
        let mut last = None;
        while !page.batch.more && cursor.advance()? {
            let document = cursor.current();
            page.take(document);
            received += 1;
            last = document.get("_id").ok().flatten().map(DocumentId::stored);
        }
        if let Some(average) = page.batch.documents.len().checked_div(page.held) {
            self.document_bytes.store(average, Relaxed);
        }
        let Some(last) = last.filter(|_| !page.batch.more) else {
            return Ok(None);
        };
        if received == asked {
            return Ok(Some(last));
        }
        page.batch.more = !self.is_last(filter, page.query.order, received, &last)?;
        Ok(None)
    }

    /// Whether what `filter` finds ends with this `_id`, as the `place`th document, from 1. It is
    /// not known to if others were stored or removed meanwhile.
    fn is_last(
        &self,
        filter: &Filter,
        order: Order,
        place: usize,
        id: &DocumentId,
    ) -> MongoResult<bool> {
        let collection = self.collection()?;
        let find = collection.find(filter.clone()).projection(doc! { "_id": 1 });
        let mut cursor = single_batch(find, order, 2).skip(place as u64 - 1).run()?;
        // As bytes, for NaN equals nothing.
        let found = cursor.advance()?.then(|| cursor.current().get("_id").ok().flatten());
        let is_there = found.flatten().map(DocumentId::stored).as_ref() == Some(id);
        Ok(is_there && !cursor.advance()?)
    }

    /// Asks for all at once. Which document belongs to which `_id` is told by the embedded store's
    /// keys, which are equal where MongoDB finds two `_id`s equal; but a decimal128 has none, and a
    /// collation finds more of them equal. So an `_id` is missing only where a reply has no
    /// document at all, or where it was asked for by itself.
    pub(super) fn find_all(&self, ids: &[DocumentId]) -> MongoResult<Vec<Option<RawDocumentBuf>>> {
        let mut documents = vec![None; ids.len()];
        let mut missing: Vec<usize> = (0..ids.len()).collect();
        let keys: Vec<Option<Vec<u8>>> = ids.iter().map(|id| key::encode(id).ok()).collect();
        while missing.len() > 1 {
            let found = self.find_by_key(missing.iter().map(|&place| &ids[place]))?;
            if found.is_empty() {
                return Ok(documents);
            }
            let before = missing.len();
            missing.retain(|&place| {
                documents[place] =
                    keys[place].as_ref().and_then(|_| found.get(&keys[place])).cloned();
                documents[place].is_none()
            });
            if missing.len() == before {
                break;
            }
        }
        let collection = self.collection()?;
        for place in missing {
            documents[place] =
                collection.find_one(doc! { "_id": { "$eq": to_bson(&ids[place]) } }).run()?;
        }
        Ok(documents)
    }

    /// The documents with these `_id`s by their keys; those that have none share one place.
    fn find_by_key<'a>(
        &self,
        ids: impl Iterator<Item = &'a DocumentId>,
    ) -> MongoResult<HashMap<Option<Vec<u8>>, RawDocumentBuf>> {
        let ids: Vec<Bson> = ids.map(to_bson).collect();
        let mut cursor = self.collection()?.find(doc! { "_id": { "$in": ids } }).run()?;
        let mut found = HashMap::new();
        while cursor.advance()? {
            let document = cursor.current();
            let key = document.get("_id").ok().flatten().and_then(|id| key::encode_value(id).ok());
            found.insert(key, document.to_owned());
        }
        Ok(found)
    }
}

/// A query with one reply of up to `length` documents, and no cursor beside it, which is most of
/// the work for some servers. Without the batch size as well it would silently end at 101.
fn single_batch<'a>(
    find: Find<'a, RawDocumentBuf>,
    order: Order,
    length: usize,
) -> Find<'a, RawDocumentBuf> {
    let direction = match order {
        Order::Ascending => 1,
        Order::Descending => -1,
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    find.sort(doc! { "_id": direction }).limit(-i64::from(length)).batch_size(length)
}

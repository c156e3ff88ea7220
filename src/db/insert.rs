//! Stores documents. One whose generated `_id` another document has gets a new one: the client
//! never chose it.

use super::{InsertOutcome, Refusal, Store, StoreError, StoreErrorKind};
use crate::document::Document;
use crate::object_id;

/// New `_id`s for one document at most. Each comes from fresh random bytes, so not even the second
/// is ever needed.
const MAX_NEW_IDS: usize = 3;

pub(super) fn insert(store: &dyn Store, mut documents: Vec<Document>) -> InsertOutcome {
    let mut outcomes = store.insert(&documents)?;
    for _ in 0..MAX_NEW_IDS {
        let again = with_taken_id(&documents, &outcomes);
        if again.is_empty() {
            break;
        }
        let mut renewed = Vec::with_capacity(again.len());
        for &index in &again {
            documents[index] = renew(&documents[index]);
            renewed.push(documents[index].clone());
        }
        // A failure is about these documents only.
        let second = store
            .insert(&renewed)
            .unwrap_or_else(|error| vec![Err(Refusal::Failed(error)); renewed.len()]);
        for (index, outcome) in again.into_iter().zip(second) {
            outcomes[index] = outcome;
        }
    }
    for index in with_taken_id(&documents, &outcomes) {
        let text = "No free _id was found for it, and it was not stored.";
        let error = StoreError::new(StoreErrorKind::Unavailable, text);
        outcomes[index] = Err(Refusal::Failed(error));
    }
    let both = documents.iter().zip(outcomes);
    Ok(both.map(|(document, outcome)| outcome.map(|()| document.id())).collect())
}

/// Under an `_id` that nobody can have guessed.
fn renew(document: &Document) -> Document {
    document.generated_id().inspect(|taken| object_id::redraw(*taken));
    document.with_generated_id(object_id::generate()).unwrap_or_else(|| document.clone())
}

fn with_taken_id(documents: &[Document], outcomes: &[Result<(), Refusal>]) -> Vec<usize> {
    let both = documents.iter().zip(outcomes).enumerate();
    both.filter(|(_, (document, outcome))| {
        document.id_is_generated() && matches!(outcome, Err(Refusal::Exists(_)))
    })
    .map(|(index, _)| index)
    .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bson::{RawDocumentBuf, rawdoc};

    use super::*;
    use crate::db::{Batch, PageQuery};
    use crate::document::DocumentId;

    /// Holds `_id`s in memory, and refuses as many inserts as it is told to.
    #[derive(Default)]
    struct Memory {
        ids: Mutex<Vec<DocumentId>>,
        refuses: usize,
        fails_again: bool,
        calls: Mutex<Vec<usize>>,
    }

    impl Store for Memory {
        fn insert(&self, documents: &[Document]) -> InsertOutcome<()> {
            let mut calls = self.calls.lock().unwrap();
            calls.push(documents.len());
            if self.fails_again && calls.len() > 1 {
                return Err(StoreError::new(StoreErrorKind::Unknown, "gone"));
            }
            let mut ids = self.ids.lock().unwrap();
            let outcomes = documents.iter().map(|document| {
                let id = document.id();
                if ids.contains(&id) || calls.len() <= self.refuses {
                    return Err(Refusal::Exists(id));
                }
                ids.push(id);
                Ok(())
            });
            Ok(outcomes.collect())
        }

        fn page(&self, _: &PageQuery) -> Result<Batch, StoreError> {
            unimplemented!()
        }

        fn get(&self, _: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError> {
            unimplemented!()
        }

        fn ping(&self) -> Result<(), StoreError> {
            unimplemented!()
        }
    }

    fn generated() -> Document {
        Document::new(rawdoc! { "_id": object_id::generate(), "a": 1 }, true).unwrap()
    }

    fn own(id: &str) -> Document {
        Document::new(rawdoc! { "_id": id }, false).unwrap()
    }

    #[test]
    fn insert_renews_only_generated_ids_that_are_taken() {
        let store = Memory::default();
        let (taken, other) = (generated(), generated());
        insert(&store, vec![taken.clone(), own("a")]).unwrap();
        let answers =
            insert(&store, vec![own("a"), taken.clone(), other.clone(), own("b")]).unwrap();
        let [Err(Refusal::Exists(a)), Ok(new_id), Ok(as_given), Ok(b)] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!([a, as_given, b], [&own("a").id(), &other.id(), &own("b").id()]);
        assert_ne!(*new_id, taken.id());
        let ids = store.ids.lock().unwrap();
        assert!(ids.contains(new_id) && ids.contains(&other.id()), "{ids:?}");
        assert_eq!(*store.calls.lock().unwrap(), [2, 4, 1]);
    }

    #[test]
    fn insert_gives_up_after_some_new_ids() {
        let store = Memory { refuses: usize::MAX, ..Memory::default() };
        let answers = insert(&store, vec![generated()]).unwrap();
        let [Err(Refusal::Failed(error))] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(store.calls.lock().unwrap().len(), 1 + MAX_NEW_IDS);
    }

    #[test]
    fn insert_that_fails_with_new_id_keeps_other_answers() {
        let store = Memory { fails_again: true, ..Memory::default() };
        let taken = generated();
        store.ids.lock().unwrap().push(taken.id());
        let answers = insert(&store, vec![own("a"), taken]).unwrap();
        let [Ok(stored), Err(Refusal::Failed(error))] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((stored, error.kind()), (&own("a").id(), StoreErrorKind::Unknown));
    }
}

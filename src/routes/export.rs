//! An export: the whole collection, one document per line, a batch at a time, so that memory does
//! not grow with it.

use std::sync::Arc;
use std::time::Instant;

use super::{deadline, reply::Reply};
use crate::db::{Db, Layout, Page, PageQuery, StoreError};
use crate::json::Format;
use crate::response::{Piece, Stream, StreamState};
use crate::server::service::Waker;

/// Documents that are read at once.
pub(super) const BATCH: usize = 1000;

pub(super) struct Export {
    db: Arc<Db>,
    waker: Waker,
    /// What to ask for next; none after the last batch.
    query: Option<PageQuery>,
    /// How many documents are still wanted.
    left: usize,
    format: Format,
    state: State,
}

enum State {
    /// A batch that is to be sent.
    Here(Arc<Page>),
    /// A batch was sent, and the next one has not been asked for.
    Sent,
    /// A batch was asked for, and is to be there by then.
    Asked(Reply<Result<Arc<Page>, StoreError>>, Instant),
}

impl Export {
    /// From its first batch on, which `query` has found.
    pub(super) fn new(
        db: Arc<Db>,
        waker: Waker,
        query: PageQuery,
        limit: usize,
        format: Format,
        first: Arc<Page>,
    ) -> Self {
        let mut export = Self { db, waker, query: None, left: limit, format, state: State::Sent };
        export.take(query, first);
        export
    }

    fn take(&mut self, mut query: PageQuery, page: Arc<Page>) {
        self.left -= page.documents.min(self.left);
        query.after = page.next.clone();
        query.limit = self.left.min(BATCH);
        self.query = (query.after.is_some() && self.left > 0).then_some(query);
        self.state = State::Here(page);
    }
}

impl Stream for Export {
    fn poll(&mut self) -> StreamState {
        self.read_ahead();
        match std::mem::replace(&mut self.state, State::Sent) {
            State::Here(page) => StreamState::Piece(Piece::Shared(page)),
            State::Sent => StreamState::End,
            State::Asked(mut reply, until) => match (reply.take(), self.query.take()) {
                (Some(Ok(page)), Some(query)) => {
                    self.take(query, page);
                    self.poll()
                }
                (None, query) => {
                    self.query = query;
                    self.state = State::Asked(reply, until);
                    StreamState::Wait(until)
                }
                // The answer has begun, so all that is left to say is that it is not whole.
                _ => StreamState::Broken,
            },
        }
    }

    fn read_ahead(&mut self) {
        if let (State::Sent, Some(query)) = (&self.state, &self.query) {
            let query = query.clone();
            let reply = Reply::ask(&self.waker, |done| {
                self.db.page(query, Layout::Lines, self.format, done)
            });
            self.state = State::Asked(reply, deadline());
        }
    }

    fn give_up(&mut self) {
        if let State::Asked(reply, _) = &mut self.state {
            reply.give_up();
        }
    }
}

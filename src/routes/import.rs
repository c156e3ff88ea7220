//! An import: one document per line, any number of them, in constant memory. Lines are stored in
//! batches as they come in: one batch is in the store while the next one fills.
//!
//! An import takes lines until its body ends or a line cannot be stored. Then it stores what came
//! before, waits for it, and answers how many documents were stored.

mod batch;
mod lines;

use std::sync::Arc;

use crate::db::{Db, InsertOutcome, Refusal};
use crate::http::body::BodyError;
use crate::json;
use crate::limit::NamedLimit;
use crate::response::{JSON, Problem, Response};
use crate::server::service::{self, ImportState, Waker};
use batch::{Batch, Storing};
use lines::{LineBuffer, Taken};

/// The beginning of a line that is shorter is taken to be most of it, in bytes.
const SHORT_LINE: usize = 4 * 1024;
/// How much longer than a body of JSON a line may be. What GET writes for a document that POST took
/// can be longer than what was sent (`0,` comes back as `{"$numberInt":"0"},` in the canonical
/// format), but never so much.
const LINE_FACTOR: usize = 10;

/// What becomes of a line whose `_id` exists already.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Existing {
    /// The import ends there.
    Stop,
    /// It is passed over and counted.
    Skip,
}

impl Existing {
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("stop") => Ok(Self::Stop),
            Some("skip") => Ok(Self::Skip),
            Some(_) => Err(Problem::new(400, "The parameter existing takes skip or stop.")),
        }
    }
}

pub(super) struct Import {
    db: Arc<Db>,
    waker: Waker,
    existing: Existing,
    line: LineBuffer,
    /// The name of the setting that bounds a line.
    limit_name: &'static str,
    /// The number of that line.
    number: u64,
    /// Documents to be stored next.
    batch: Batch,
    /// The batch that is being stored while the next one is being read.
    in_flight: Option<Storing>,
    /// What there is goes into the store before more is taken.
    stores_early: bool,
    /// Bytes of BSON that have been in the store.
    bytes_stored: usize,
    /// Documents that are stored.
    stored: u64,
    /// Documents whose `_id` was there already, where those are passed over.
    passed_over: u64,
    end: End,
}

/// Whether there is more to come.
enum End {
    /// Lines are taken.
    Open,
    /// What has come is stored, and then this is the outcome.
    Storing(Result<(), Stop>),
    /// The store failed: what is in flight is waited for, and then this is the answer.
    Failed(Problem),
}

/// Why an import ends before its body does.
enum Stop {
    /// The line cannot be stored.
    Line {
        status: u16,
        number: u64,
        detail: String,
    },
    Body(BodyError),
}

impl Import {
    pub(super) fn new(
        db: Arc<Db>,
        waker: Waker,
        max_body: NamedLimit<usize>,
        existing: Existing,
    ) -> Self {
        Self {
            db,
            waker,
            existing,
            line: LineBuffer::new(max_body.value * LINE_FACTOR),
            limit_name: max_body.name,
            number: 1,
            batch: Batch::default(),
            in_flight: None,
            stores_early: false,
            bytes_stored: 0,
            stored: 0,
            passed_over: 0,
            end: End::Open,
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }

    fn take_line(&mut self, line: &[u8]) {
        let number = self.number;
        self.number += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        match json::parse_document(line.trim_ascii_end()) {
            Ok(document) => {
                self.batch.push(number, document);
                if self.batch.is_full() && self.in_flight.is_none() {
                    self.store_batch();
                }
            }
            Err(error) => {
                // What was parsed is one line; its number is the import's.
                let detail = match error.position {
                    Some(position) => format!("{} at column {}", error.message, position.column),
                    None => error.message.clone(),
                };
                self.stop(Problem::from(error).status, number, detail);
            }
        }
    }

    fn stop_at_long_line(&mut self) {
        let (most, name) = (self.line.max(), self.limit_name);
        let detail = format!("it is longer than {most} bytes ({LINE_FACTOR} times {name}).");
        self.stop(413, self.number, detail);
    }

    fn stop(&mut self, status: u16, number: u64, detail: String) {
        self.end = End::Storing(Err(Stop::Line { status, number, detail }));
    }

    fn store_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.in_flight = Some(batch.store(&self.db, &self.waker));
    }

    /// Takes note of what became of a batch, of which these are the lines.
    fn note(&mut self, lines: &[u64], outcome: InsertOutcome) {
        let mut refused = Vec::new();
        match outcome {
            Ok(documents) => {
                for (&line, document) in lines.iter().zip(documents) {
                    match document {
                        Ok(_) => self.stored += 1,
                        Err(Refusal::Exists(_)) if self.existing == Existing::Skip => {
                            self.passed_over += 1;
                        }
                        Err(refusal) => refused.push((line, refusal)),
                    }
                }
            }
            Err(error) => {
                let failed = lines.iter().map(|&line| (line, Refusal::Failed(error.clone())));
                refused.extend(failed);
            }
        }
        let count = refused.len();
        if let Some((line, refusal)) = refused.into_iter().next()
            && !matches!(self.end, End::Failed(_))
        {
            self.end = End::Failed(refused_at(line, refusal, count));
        }
    }

    fn answer(&mut self) -> Response {
        let problem = match std::mem::replace(&mut self.end, End::Open) {
            End::Open | End::Storing(Ok(())) => {
                let body = match self.existing {
                    Existing::Stop => format!("{{\"inserted\":{}}}\n", self.stored),
                    Existing::Skip => {
                        format!(
                            "{{\"inserted\":{},\"existing\":{}}}\n",
                            self.stored, self.passed_over
                        )
                    }
                };
                return Response::new(201, JSON, body);
            }
            End::Storing(Err(Stop::Body(error))) => Problem::from(error),
            End::Storing(Err(Stop::Line { status, number, detail })) => Problem::new(
                status,
                format!(
                    "Line {number}: {}. The import ends here; {} documents before it were stored.",
                    detail.trim_end_matches('.'),
                    self.stored
                ),
            )
            .with_member("line", &number.to_string()),
            End::Failed(problem) => problem,
        };
        let problem = problem.with_member("inserted", &self.stored.to_string());
        match self.existing {
            Existing::Stop => problem.into(),
            Existing::Skip => problem.with_member("existing", &self.passed_over.to_string()).into(),
        }
    }
}

impl service::Import for Import {
    fn take(&mut self, data: &[u8]) -> usize {
        let mut taken = 0;
        while self.is_open() && taken < data.len() {
            let (length, line) = self.line.take(&data[taken..]);
            taken += length;
            match line {
                Taken::Part => {}
                Taken::Line(line) => self.take_line(line),
                Taken::Buffered if self.line.is_long() => break,
                Taken::Buffered => self.work(),
                Taken::TooLong => self.stop_at_long_line(),
            }
        }
        if self.is_open() { taken } else { data.len() }
    }

    fn work(&mut self) {
        let line = self.line.remove();
        self.take_line(&line);
        self.line.reuse(line);
    }

    fn end(&mut self, outcome: Result<(), BodyError>) {
        if !self.is_open() {
            return;
        }
        if outcome.is_ok() && !self.line.is_empty() {
            // The last line may end with the body.
            self.work();
        }
        self.line.clear();
        if self.is_open() {
            // What had come whole is stored, as before a bad line.
            self.end = End::Storing(outcome.map_err(Stop::Body));
        }
    }

    fn poll(&mut self) -> ImportState {
        if let Some(mut batch) = self.in_flight.take() {
            match batch.reply.take() {
                Some(outcome) => {
                    self.bytes_stored += batch.bytes;
                    self.stores_early = false;
                    self.note(&batch.lines, outcome);
                }
                None => self.in_flight = Some(batch),
            }
        }
        let must_store = match self.end {
            End::Open => self.batch.is_full() || (self.stores_early && !self.batch.is_empty()),
            End::Storing(_) => !self.batch.is_empty(),
            End::Failed(_) => false,
        };
        if must_store && self.in_flight.is_none() {
            self.store_batch();
            return self.poll();
        }
        match &self.in_flight {
            Some(batch) if must_store || self.stores_early || !self.is_open() => {
                ImportState::Store { until: batch.until }
            }
            _ if self.line.is_whole() && self.is_open() => ImportState::Work,
            None if !self.is_open() => ImportState::Done(self.answer()),
            _ => ImportState::Data,
        }
    }

    fn give_up(&mut self) {
        if let Some(batch) = &mut self.in_flight {
            batch.reply.give_up();
        }
    }

    fn store_early(&mut self) -> bool {
        self.stores_early = self.in_flight.is_some() || !self.batch.is_empty();
        if self.line.is_empty() {
            self.line.clear();
        }
        self.stores_early
    }

    fn held(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, |batch| batch.bytes);
        self.line.held() + self.batch.bytes() + in_flight
    }

    fn stored(&self) -> usize {
        self.bytes_stored
    }

    fn to_go(&self) -> usize {
        let is_short = self.line.len() < SHORT_LINE;
        if is_short { 0 } else { self.line.max().saturating_sub(self.line.held()) }
    }
}

fn refused_at(line: u64, refusal: Refusal, count: usize) -> Problem {
    let problem = Problem::from(refusal);
    let detail = format!(
        "Line {line}: {} The import ends with the lines that were read together with this one; \
         {count} of those could not be stored.",
        problem.detail(),
    );
    problem.with_detail(detail).with_member("line", &line.to_string())
}

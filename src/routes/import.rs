//! An import: one document a line, of any number, in constant memory. Lines are stored in batches as they come in.

use std::io::{BufRead, BufReader, Read};

use tiny_http::Request;

use super::data::problem_of_refusal;
use super::{App, deadline};
use crate::db::{PendingInsert, Refusal};
use crate::document::{Document, DocumentId};
use crate::guard;
use crate::json;
use crate::response::{JSON, Problem, Response};

/// A batch is stored once it has this many documents, or bytes of BSON.
const BATCH_DOCUMENTS: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;
/// What is read from the connection at once, in bytes.
const READ_BUFFER: usize = 64 * 1024;
/// How much longer than `MAX_BODY` a line may be. What GET writes for a document that POST took can be longer than
/// what was sent (`0,` comes back as `{"$numberInt":"0"},` in the canonical format), but never so much.
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

impl App {
    pub(super) fn import(&self, request: &mut Request, existing: Existing) -> Result<Response, Problem> {
        let mut import =
            Import { app: self, existing, batch: Batch::default(), in_flight: None, stored: 0, passed_over: 0 };
        let outcome = import.run(request);
        let (stored, passed_over) = (import.stored.to_string(), import.passed_over.to_string());
        match (outcome, existing) {
            (Ok(()), Existing::Stop) => Ok(Response::new(201, JSON, format!("{{\"inserted\":{stored}}}\n"))),
            (Ok(()), Existing::Skip) => {
                let body = format!("{{\"inserted\":{stored},\"existing\":{passed_over}}}\n");
                Ok(Response::new(201, JSON, body))
            }
            (Err(problem), Existing::Stop) => Err(problem.with_member("inserted", &stored)),
            (Err(problem), Existing::Skip) => {
                Err(problem.with_member("inserted", &stored).with_member("existing", &passed_over))
            }
        }
    }
}

struct Import<'a> {
    app: &'a App,
    existing: Existing,
    /// Documents to be stored next.
    batch: Batch,
    /// The batch that is being stored while the next one is being read.
    in_flight: Option<(Lines, PendingInsert<'a>)>,
    /// Documents that are stored.
    stored: u64,
    /// Documents whose `_id` was there already, where those are passed over.
    passed_over: u64,
}

/// Documents, and the line of each.
#[derive(Default)]
struct Batch {
    lines: Lines,
    documents: Vec<Document>,
    /// Of BSON.
    bytes: usize,
}

type Lines = Vec<Line>;

struct Line {
    number: u64,
    id: DocumentId,
    id_is_generated: bool,
}

impl Import<'_> {
    fn run(&mut self, request: &mut Request) -> Result<(), Problem> {
        let max_line = self.app.max_body * LINE_FACTOR;
        let mut reader = BufReader::with_capacity(READ_BUFFER, request.as_reader());
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            // One byte more than a line may have tells one that is too long from one that just fits.
            let count = (&mut reader).take(max_line as u64 + 1).read_until(b'\n', &mut line);
            match count {
                Ok(0) => break,
                Ok(_) if line.len() > max_line && !line.ends_with(b"\n") => {
                    let detail = format!("it is longer than {max_line} bytes ({LINE_FACTOR} times MAX_BODY).");
                    return Err(self.stop(413, number, &detail));
                }
                Ok(_) => self.take_line(number, &line)?,
                // What had come whole is stored, as after a bad line.
                Err(error) => return Err(self.store_all().err().unwrap_or_else(|| guard::body_problem(&error))),
            }
            line.shrink_to(READ_BUFFER);
        }
        self.store_all()
    }

    fn take_line(&mut self, number: u64, line: &[u8]) -> Result<(), Problem> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let document = match json::parse_document(line.trim_ascii_end()) {
            Ok(document) => document,
            Err(error) => {
                // The line of the import is what counts, and this one line is all that was parsed.
                let detail = error.to_string().replace(" at line 1 column ", " at column ");
                return Err(self.stop(Problem::from(error).status, number, &detail));
            }
        };
        self.batch.bytes += document.raw().as_bytes().len();
        let id_is_generated = document.id_is_generated();
        self.batch.lines.push(Line { number, id: document.id(), id_is_generated });
        self.batch.documents.push(document);
        if self.batch.documents.len() >= BATCH_DOCUMENTS || self.batch.bytes >= BATCH_BYTES {
            self.send_batch()?;
        }
        Ok(())
    }

    /// Stores what came before a line that cannot be stored, and says so.
    fn stop(&mut self, status: u16, number: u64, detail: &str) -> Problem {
        if let Err(problem) = self.store_all() {
            return problem;
        }
        let stored = self.stored;
        Problem::new(
            status,
            format!(
                "Line {number}: {}. The import ends here; {stored} documents before it were stored.",
                detail.trim_end_matches('.')
            ),
        )
        .with_member("line", &number.to_string())
    }

    fn store_all(&mut self) -> Result<(), Problem> {
        self.send_batch()?;
        self.await_batch()
    }

    /// Begins to store the batch, and waits for the one before it.
    fn send_batch(&mut self) -> Result<(), Problem> {
        let batch = std::mem::take(&mut self.batch);
        let next = (!batch.documents.is_empty()).then(|| (batch.lines, self.app.db.begin_insert(batch.documents)));
        let outcome = self.await_batch();
        self.in_flight = next;
        match outcome {
            Ok(()) => Ok(()),
            // The import ends, but not before it is known what else was stored.
            Err(problem) => {
                let _ = self.await_batch();
                Err(problem)
            }
        }
    }

    fn await_batch(&mut self) -> Result<(), Problem> {
        let Some((lines, insert)) = self.in_flight.take() else {
            return Ok(());
        };
        let answers = insert.wait(deadline());
        let mut refused = Vec::new();
        for (line, answer) in lines.iter().zip(&answers) {
            match answer {
                Ok(()) => self.stored += 1,
                Err(Refusal::Exists) if self.existing == Existing::Skip && !line.id_is_generated => {
                    self.passed_over += 1;
                }
                Err(refusal) => refused.push((line, refusal)),
            }
        }
        match refused.first() {
            None => Ok(()),
            Some((line, refusal)) => Err(refused_at(line, refusal, refused.len())),
        }
    }
}

fn refused_at(line: &Line, refusal: &Refusal, count: usize) -> Problem {
    let problem = problem_of_refusal(refusal, &line.id);
    let line = line.number;
    let detail = format!(
        "Line {line}: {} The import ends with the lines that were read together with this one; {count} of those could \
         not be stored.",
        problem.detail(),
    );
    problem.with_detail(detail).with_member("line", &line.to_string())
}

//! An import: one document a line, of any number, in constant memory. Lines are stored in batches as they come in.

use std::io::{BufRead, BufReader, Read};
use std::time::Instant;

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
/// what was sent (`1e9` comes back as `1000000000.0`), but never so much.
const LINE_FACTOR: usize = 6;

impl App {
    pub(super) fn import(&self, request: &mut Request) -> Result<Response, Problem> {
        let mut import = Import { app: self, batch: Batch::default(), in_flight: None, stored: 0 };
        match import.run(request) {
            Ok(()) => {
                let body = format!("{{\"inserted\":{}}}\n", import.stored);
                Ok(Response::new(201, JSON, body))
            }
            Err(problem) => Err(problem.with_member("inserted", &import.stored.to_string())),
        }
    }
}

struct Import<'a> {
    app: &'a App,
    /// Documents to be stored next.
    batch: Batch,
    /// The batch that is being stored while the next one is being read.
    in_flight: Option<InFlight<'a>>,
    /// Documents that are stored.
    stored: u64,
}

struct InFlight<'a> {
    lines: Lines,
    insert: PendingInsert<'a>,
    /// From when the batch was handed over, not from when it is waited for: the waits for two batches do not add up.
    deadline: Instant,
}

/// Documents, and the line and the `_id` of each.
#[derive(Default)]
struct Batch {
    lines: Lines,
    documents: Vec<Document>,
    /// Of BSON.
    bytes: usize,
}

type Lines = Vec<(u64, DocumentId)>;

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
        self.batch.lines.push((number, document.id()));
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
        let next = (!batch.documents.is_empty()).then(|| InFlight {
            lines: batch.lines,
            insert: self.app.db.begin_insert(batch.documents),
            deadline: deadline(),
        });
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
        let Some(InFlight { lines, insert, deadline }) = self.in_flight.take() else {
            return Ok(());
        };
        let answers = insert.wait(deadline);
        let refused: Vec<(&(u64, DocumentId), &Refusal)> =
            lines.iter().zip(&answers).filter_map(|(line, answer)| Some((line, answer.as_ref().err()?))).collect();
        self.stored += (answers.len() - refused.len()) as u64;
        match refused.first() {
            None => Ok(()),
            Some(((line, id), refusal)) => Err(refused_at(*line, refusal, id, refused.len())),
        }
    }
}

fn refused_at(line: u64, refusal: &Refusal, id: &DocumentId, count: usize) -> Problem {
    let problem = problem_of_refusal(refusal, id);
    let detail = format!(
        "Line {line}: {} The import ends with the lines that were read together with this one; {count} of those could \
         not be stored.",
        problem.detail(),
    );
    problem.with_detail(detail).with_member("line", &line.to_string())
}

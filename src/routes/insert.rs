//! `POST /data`: storing one JSON document or an array of them. An import is in `import.rs`.

use std::sync::Arc;

use super::import::{Existing, Import};
use super::reply::{Reply, StoreCall};
use super::target::{Target, encode_id};
use super::{App, negotiation};
use crate::db::{Db, InsertOutcome, Refusal};
use crate::document::{Document, DocumentId};
use crate::http::body::BodyError;
use crate::http::request::Request;
use crate::json::{self, Documents, JsonError, JsonErrorKind};
use crate::limit::NamedLimit;
use crate::response::{JSON, NDJSON, Problem, Response, json_string};
use crate::server::service::{Call, Step, Waker};

/// Errors that one answer lists at most.
const MAX_ERRORS: usize = 1000;

impl App {
    pub(super) fn insert(
        &self,
        request: &Request,
        target: &Target,
        waker: &Waker,
    ) -> Result<Step, Problem> {
        let [existing] = target.parameters(["existing"])?;
        if let Some(coding) = request.headers().get("Content-Encoding")
            && !coding.as_str().eq_ignore_ascii_case("identity")
        {
            return Err(unsupported("Send the body without a Content-Encoding."));
        }
        match negotiation::content_type(request).as_deref() {
            Some(JSON) if existing.is_some() => Err(Problem::new(
                400,
                "The parameter existing goes with \"Content-Type: application/x-ndjson\" only.",
            )),
            Some(JSON) => self.collect_documents(request, waker),
            Some(NDJSON) => {
                let existing = Existing::parse(existing.as_deref())?;
                let import =
                    Import::new(self.db.clone(), waker.clone(), self.options.max_body, existing);
                Ok(Step::Import(Box::new(import)))
            }
            _ => Err(unsupported(
                "Send JSON with \"Content-Type: application/json\" (curl --json does), or one \
                 document a line with \"Content-Type: application/x-ndjson\", both in UTF-8.",
            )),
        }
    }

    fn collect_documents(&self, request: &Request, waker: &Waker) -> Result<Step, Problem> {
        let max_body = self.options.max_body;
        if request.content_length() > Some(max_body.value as u64) {
            return Err(too_large(max_body));
        }
        let (db, waker) = (self.db.clone(), waker.clone());
        let then = move |body: Result<Vec<u8>, BodyError>| {
            let documents = match body {
                Ok(body) => json::parse_documents(&body).map_err(Problem::from),
                Err(BodyError::TooLarge) => Err(too_large(max_body)),
                Err(error) => Err(error.into()),
            };
            match documents {
                Ok(Documents::One(document)) => {
                    store_documents(db, vec![document], waker, answer_to_one)
                }
                Ok(Documents::Many(documents)) => {
                    store_documents(db, documents, waker, answer_to_many)
                }
                Err(problem) => Step::Respond(problem.into()),
            }
        };
        Ok(Step::Collect { limit: max_body.value, then: Box::new(then) })
    }
}

fn too_large(max_body: NamedLimit<usize>) -> Problem {
    let NamedLimit { value, name } = max_body;
    let detail = format!(
        "The body is longer than {value} bytes ({name}). Send many documents as \
         application/x-ndjson, which may be of any length.",
    );
    Problem::new(413, detail)
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(415, detail)
}

fn store_documents(
    db: Arc<Db>,
    documents: Vec<Document>,
    waker: Waker,
    answer: fn(InsertOutcome) -> Response,
) -> Step {
    let held: usize = documents.iter().map(|document| document.raw().as_bytes().len()).sum();
    let then = move |outcome| Step::Respond(answer(outcome));
    let begin = move || -> Box<dyn Call> {
        Box::new(StoreCall::new(Reply::ask(&waker, |done| db.insert(documents, done)), held, then))
    };
    Step::Call { begin: Box::new(begin), held, needs: 0 }
}

fn answer_to_one(outcome: InsertOutcome) -> Response {
    match outcome.map(|documents| documents.into_iter().next()) {
        Ok(Some(Ok(id))) => {
            let location = format!("/data/{}", encode_id(&id));
            inserted(&[id]).with_header("Location", location)
        }
        Ok(Some(Err(refusal))) => Problem::from(refusal).into(),
        Ok(None) => inserted(&[]),
        Err(error) => Problem::from(error).into(),
    }
}

fn answer_to_many(outcome: InsertOutcome) -> Response {
    let (mut ids, mut refused, mut count) = (Vec::new(), Vec::new(), 0);
    let problem = match outcome {
        Err(error) => error.into(),
        Ok(documents) => {
            for (index, document) in documents.into_iter().enumerate() {
                count += 1;
                match document {
                    Ok(id) => ids.push(id),
                    Err(refusal) => refused.push((index, Problem::from(refusal))),
                }
            }
            match partial_failure(refused, count) {
                Some(problem) => problem,
                None => return inserted(&ids),
            }
        }
    };
    problem
        .with_member("inserted", &ids.len().to_string())
        .with_member("ids", &ids_as_json(&ids))
        .into()
}

fn inserted(ids: &[DocumentId]) -> Response {
    let body = format!("{{\"inserted\":{},\"ids\":{}}}\n", ids.len(), ids_as_json(ids));
    Response::new(201, JSON, body)
}

/// What to say of an array of `count` documents of which these were refused, each with its index;
/// nothing if none was.
fn partial_failure(refused: Vec<(usize, Problem)>, count: usize) -> Option<Problem> {
    // A failure of the database weighs most, then a conflict: the answer has one status.
    let (_, worst) = refused.iter().max_by_key(|(_, problem)| problem.status)?;
    if count == 1 {
        return Some(worst.clone());
    }
    let the_others = if refused.len() < count { "; the others were" } else { "" };
    let detail = format!(
        "{} of {count} documents were not stored, or not for certain, for the reasons under \
         errors{the_others}.",
        refused.len()
    );
    let errors: Vec<String> = refused
        .iter()
        .take(MAX_ERRORS)
        .map(|(index, problem)| {
            format!("{{\"index\":{index},\"detail\":{}}}", json_string(problem.detail()))
        })
        .collect();
    let errors = format!("[{}]", errors.join(","));
    Some(worst.clone().with_detail(detail).with_member("errors", &errors))
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let status = match error.kind {
            JsonErrorKind::Syntax | JsonErrorKind::Content => 400,
            JsonErrorKind::TooLarge => 413,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exists(id) => Problem::new(
                409,
                format!("A document with _id {} already exists.", id_as_json(&id)),
            ),
            Refusal::Conflict(detail) => Problem::new(409, detail),
            Refusal::Unsupported(detail) => Problem::new(400, detail),
            Refusal::Failed(error) => error.into(),
        }
    }
}

fn ids_as_json(ids: &[DocumentId]) -> String {
    let ids: Vec<String> = ids.iter().map(id_as_json).collect();
    format!("[{}]", ids.join(","))
}

fn id_as_json(id: &DocumentId) -> String {
    let mut text = Vec::new();
    json::write_id_json(id, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

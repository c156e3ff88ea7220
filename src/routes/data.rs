//! `/data` and `/data/<id>`: storing JSON documents, reading them in pages, one by one, or all of
//! them as a stream.

use std::sync::Arc;

use super::export::{self, Export};
use super::import::{Existing, Import};
use super::reply::{Reply, StoreCall};
use super::target::{Target, decode_id, encode_id};
use super::{App, negotiation};
use crate::db::{Db, Layout, Order, Outcome, Page, PageQuery, Refusal, StoreError, Stored, Text};
use crate::document::{Document, DocumentId};
use crate::http::body::BodyError;
use crate::http::request::Request;
use crate::json::{self, Documents, Format, JsonError, JsonErrorKind};
use crate::response::{JSON, NDJSON, Problem, Response, Stream, json_string};
use crate::server::service::{Call, Step, Waker};

/// Documents in a page unless the client says otherwise, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// Documents up to so many bytes are stored although memory is short.
const SMALL_INSERT: usize = 1024;
/// What a page or an export is taken to hold until it is there, in bytes, so that not all that wait
/// begin at once.
const PAGE_HELD: usize = 16 * 1024;
/// Errors that one answer lists at most.
const MAX_ERRORS: usize = 1000;

impl App {
    /// `GET /data`
    pub(super) fn list(
        &self,
        request: &Request,
        target: &Target,
        waker: &Waker,
    ) -> Result<Step, Problem> {
        let [limit, order, after, format] =
            target.parameters(["limit", "order", "after", "format"])?;
        let order = parse_order(order.as_deref())?;
        let format = parse_format(format.as_deref())?;
        let after = after.map(|text| parse_after(&text)).transpose()?;
        Ok(match negotiation::preferred(request, [JSON, NDJSON]) {
            NDJSON => {
                let limit = parse_limit(limit.as_deref(), usize::MAX, usize::MAX)?;
                self.export(
                    PageQuery::new(after, order, limit.min(export::BATCH)),
                    limit,
                    format,
                    waker,
                )
            }
            _ => {
                let limit = parse_limit(limit.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
                self.page(PageQuery::new(after, order, limit), format, waker)
            }
        })
    }

    fn page(&self, query: PageQuery, format: Format, waker: &Waker) -> Step {
        let (limit, order) = (query.limit, query.order);
        self.ask_for_page(query, Layout::Array, format, waker, move |page| {
            let response = Response::new(200, JSON, page.clone());
            let Some(id) = &page.next else { return response };
            let order = match order {
                Order::Ascending => "asc",
                Order::Descending => "desc",
            };
            let format = match format {
                Format::Relaxed => "",
                Format::Canonical => "&format=canonical",
            };
            let after = encode_id(id);
            let link =
                format!("</data?limit={limit}&order={order}{format}&after={after}>; rel=\"next\"");
            response.with_header("Link", link)
        })
    }

    /// The first batch is read before the answer begins: a database that is down is a 503, not a
    /// broken stream.
    fn export(&self, query: PageQuery, limit: usize, format: Format, waker: &Waker) -> Step {
        let (db, of_export, first) = (self.db.clone(), waker.clone(), query.clone());
        self.ask_for_page(first, Layout::Lines, format, waker, move |page| {
            let stream: Box<dyn Stream> =
                Box::new(Export::new(db, of_export, query, limit, format, page));
            Response::new(200, NDJSON, stream)
        })
    }

    fn ask_for_page(
        &self,
        query: PageQuery,
        layout: Layout,
        format: Format,
        waker: &Waker,
        respond: impl FnOnce(Arc<Page>) -> Response + Send + 'static,
    ) -> Step {
        let (db, waker) = (self.db.clone(), waker.clone());
        let then = |page: Result<Arc<Page>, StoreError>| match page {
            Ok(page) => Step::Respond(respond(page).with_header("Vary", "Accept")),
            Err(error) => Step::Respond(Problem::from(error).into()),
        };
        let begin = move || -> Box<dyn Call> {
            Box::new(StoreCall::new(
                Reply::ask(&waker, |done| db.page(query, layout, format, done)),
                PAGE_HELD,
                then,
            ))
        };
        Step::Call { begin: Box::new(begin), held: 0, needs_memory: true }
    }

    /// `GET /data/<id>`
    pub(super) fn get(
        &self,
        segment: &str,
        target: &Target,
        waker: &Waker,
    ) -> Result<Step, Problem> {
        let [format] = target.parameters(["format"])?;
        let format = parse_format(format.as_deref())?;
        let id = decode_id(segment)?;
        let (db, waker) = (self.db.clone(), waker.clone());
        let then = |document: Result<Option<Arc<Text>>, StoreError>| {
            Step::Respond(match document {
                Ok(Some(text)) => Response::new(200, JSON, text),
                Ok(None) => Problem::new(404, "There is no document with this _id.").into(),
                Err(error) => Problem::from(error).into(),
            })
        };
        let begin = move || -> Box<dyn Call> {
            Box::new(StoreCall::new(Reply::ask(&waker, |done| db.get(id, format, done)), 0, then))
        };
        Ok(Step::Call { begin: Box::new(begin), held: 0, needs_memory: false })
    }

    /// `POST /data`
    pub(super) fn store(
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
                let import = Import::new(self.db.clone(), waker.clone(), self.max_body, existing);
                Ok(Step::Import(Box::new(import)))
            }
            _ => Err(unsupported(
                "Send JSON with \"Content-Type: application/json\" (curl --json does), or one document a line with \
                 \"Content-Type: application/x-ndjson\", both in UTF-8.",
            )),
        }
    }

    fn collect_documents(&self, request: &Request, waker: &Waker) -> Result<Step, Problem> {
        let max_body = self.max_body;
        if request.content_length() > Some(max_body as u64) {
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
                Ok(documents) => store_documents(db, documents, waker),
                Err(problem) => Step::Respond(problem.into()),
            }
        };
        Ok(Step::Collect { limit: max_body, then: Box::new(then) })
    }
}

fn too_large(max_body: usize) -> Problem {
    let detail = format!(
        "The body is longer than {max_body} bytes (MAX_BODY). Send many documents as application/x-ndjson, which may be \
         of any length.",
    );
    Problem::new(413, detail)
}

fn store_documents(db: Arc<Db>, documents: Documents, waker: Waker) -> Step {
    let (documents, is_single) = match documents {
        Documents::One(document) => (vec![document], true),
        Documents::Many(documents) => (documents, false),
    };
    let mut ids: Vec<DocumentId> = documents.iter().map(Document::id).collect();
    let held: usize = documents.iter().map(|document| document.raw().as_bytes().len()).sum();
    let then = move |answers: Vec<Outcome>| {
        for (id, answer) in ids.iter_mut().zip(&answers) {
            if let Ok(Stored::Under(new_id)) = answer {
                *id = (*new_id).into();
            }
        }
        Step::Respond(stored(&ids, &answers, is_single))
    };
    let begin = move || -> Box<dyn Call> {
        Box::new(StoreCall::new(Reply::ask(&waker, |done| db.insert(documents, done)), held, then))
    };
    Step::Call { begin: Box::new(begin), held, needs_memory: held > SMALL_INSERT }
}

/// What to say of documents that were to be stored.
fn stored(ids: &[DocumentId], answers: &[Outcome], is_single: bool) -> Response {
    if is_single && let (Some(Err(refusal)), [id]) = (answers.first(), ids) {
        return problem_of_refusal(refusal, id).into();
    }
    let stored: Vec<&DocumentId> =
        ids.iter().zip(answers).filter_map(|(id, answer)| answer.is_ok().then_some(id)).collect();
    if let Some(problem) = problem_of_some(answers, ids) {
        return problem
            .with_member("inserted", &stored.len().to_string())
            .with_member("ids", &ids_as_json(&stored))
            .into();
    }
    let body = format!("{{\"inserted\":{},\"ids\":{}}}\n", stored.len(), ids_as_json(&stored));
    let response = Response::new(201, JSON, body);
    match ids {
        [id] if is_single => response.with_header("Location", format!("/data/{}", encode_id(id))),
        _ => response,
    }
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

/// What to say of an array of which some documents were not stored; nothing if all were.
fn problem_of_some(answers: &[Outcome], ids: &[DocumentId]) -> Option<Problem> {
    let problems: Vec<(usize, Problem)> = answers
        .iter()
        .zip(ids)
        .enumerate()
        .filter_map(|(index, (answer, id))| {
            Some((index, problem_of_refusal(answer.as_ref().err()?, id)))
        })
        .collect();
    // A failure of the database weighs most, then a conflict: the answer has one status.
    let (_, worst) = problems.iter().max_by_key(|(_, problem)| problem.status)?;
    // What befell the whole command is said once.
    if problems.len() == ids.len()
        && problems.iter().all(|(_, problem)| problem.detail() == worst.detail())
    {
        return Some(worst.clone());
    }
    let detail = format!(
        "{} of {} documents were not stored, or not for certain, for the reasons under errors; the others were.",
        problems.len(),
        ids.len()
    );
    let errors: Vec<String> = problems
        .iter()
        .take(MAX_ERRORS)
        .map(|(index, problem)| {
            format!("{{\"index\":{index},\"detail\":{}}}", json_string(problem.detail()))
        })
        .collect();
    Some(
        worst.clone().with_detail(detail).with_member("errors", &format!("[{}]", errors.join(","))),
    )
}

pub(super) fn problem_of_refusal(refusal: &Refusal, id: &DocumentId) -> Problem {
    match refusal {
        Refusal::Exists => Problem::new(
            409,
            format!("There is a document with the _id {} already.", id_as_json(id)),
        ),
        Refusal::Conflict(detail) => Problem::new(409, detail.clone()),
        Refusal::Unsupported(detail) => Problem::new(400, detail.clone()),
        Refusal::Failed(error) => error.clone().into(),
    }
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(415, detail)
}

fn ids_as_json(ids: &[&DocumentId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| id_as_json(id)).collect();
    format!("[{}]", ids.join(","))
}

fn id_as_json(id: &DocumentId) -> String {
    let mut text = Vec::new();
    json::write_id_json(id, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn parse_order(text: Option<&str>) -> Result<Order, Problem> {
    match text {
        None | Some("asc") => Ok(Order::Ascending),
        Some("desc") => Ok(Order::Descending),
        Some(_) => Err(Problem::new(400, "The parameter order takes asc or desc.")),
    }
}

fn parse_format(text: Option<&str>) -> Result<Format, Problem> {
    match text {
        None | Some("relaxed") => Ok(Format::Relaxed),
        Some("canonical") => Ok(Format::Canonical),
        Some(_) => Err(Problem::new(400, "The parameter format takes relaxed or canonical.")),
    }
}

fn parse_limit(text: Option<&str>, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = text else {
        return Ok(default);
    };
    match text.parse() {
        Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
        _ if max == usize::MAX => {
            Err(Problem::new(400, "The parameter limit takes a number of 1 or more."))
        }
        _ => Err(Problem::new(
            400,
            format!(
                "The parameter limit takes a number from 1 to {max}. For all documents, follow the Link header or \
                 ask for \"Accept: application/x-ndjson\"."
            ),
        )),
    }
}

fn parse_after(text: &str) -> Result<DocumentId, Problem> {
    json::parse_id(text)
        .map_err(|error| Problem::new(400, format!("The parameter after is not an _id: {error}")))
}

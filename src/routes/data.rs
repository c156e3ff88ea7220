//! `/data` and `/data/<id>`: storing JSON documents, reading them in pages, one by one, or all of them as a stream.

use std::io::{self, Read, Write};
use std::sync::Arc;

use tiny_http::Request;

use super::target::{Target, decode_id, encode_id};
use super::{App, deadline, negotiation, unavailable};
use crate::budget::Share;
use crate::db::{Db, Layout, Order, Page, PageQuery, Refusal, Stored};
use crate::document::{Document, DocumentId};
use crate::guard;
use crate::json::{self, Documents, JsonError};
use crate::response::{Body, JSON, NDJSON, Problem, Response, json_string};

/// Documents in a page unless the client says otherwise, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// Documents that an export reads at once.
const EXPORT_BATCH: usize = 1000;
/// What a body may be long, in bytes, without counting among the large ones.
const SMALL_BODY: usize = 16 * 1024;
/// Errors that one answer lists at most.
const MAX_ERRORS: usize = 1000;

impl App {
    /// `GET /data`
    pub(super) fn list(&self, request: &Request, target: &Target) -> Result<Response, Problem> {
        let [limit, order, after] = target.parameters(["limit", "order", "after"])?;
        let order = parse_order(order.as_deref())?;
        let after = after.map(|text| parse_after(&text)).transpose()?;
        let response = match negotiation::preferred(request, [JSON, NDJSON]) {
            NDJSON => {
                let limit = parse_limit(limit.as_deref(), usize::MAX, usize::MAX)?;
                self.export(PageQuery::new(after, order, limit.min(EXPORT_BATCH)), limit)
            }
            _ => {
                let limit = parse_limit(limit.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
                self.page(PageQuery::new(after, order, limit))
            }
        };
        response.map(|response| response.with_header("Vary", "Accept"))
    }

    fn page(&self, query: PageQuery) -> Result<Response, Problem> {
        let (limit, order) = (query.limit, query.order);
        let page = self.db.begin_page(query, Layout::Array).wait(deadline())?;
        let response = Response::new(200, JSON, page.text.clone());
        Ok(match &page.next {
            Some(id) => {
                let order = match order {
                    Order::Ascending => "asc",
                    Order::Descending => "desc",
                };
                let after = encode_id(id);
                let link = format!("</data?limit={limit}&order={order}&after={after}>; rel=\"next\"");
                response.with_header("Link", link)
            }
            None => response,
        })
    }

    /// The documents as lines, a batch at a time, so that memory does not grow with the collection. The first batch is
    /// read before the answer begins: a database that is down is a 503, not a broken stream.
    fn export(&self, query: PageQuery, limit: usize) -> Result<Response, Problem> {
        let first = self.db.begin_page(query.clone(), Layout::Lines).wait(deadline())?;
        let db = self.db.clone();
        let write_body = move |out: &mut dyn Write| write_export(&db, query, limit, first, out);
        Ok(Response::new(200, NDJSON, Body::Stream(Box::new(write_body))))
    }

    /// `GET /data/<id>`
    pub(super) fn get(&self, segment: &str) -> Result<Response, Problem> {
        let id = decode_id(segment)?;
        match self.db.get(id, deadline())? {
            Some(text) => Ok(Response::new(200, JSON, text)),
            None => Err(Problem::new(404, "There is no document with this _id.")),
        }
    }

    /// `POST /data`
    pub(super) fn store(&self, request: &mut Request) -> Result<Response, Problem> {
        if let Some(coding) = request.headers().get("Content-Encoding")
            && !coding.as_str().eq_ignore_ascii_case("identity")
        {
            return Err(unsupported("Send the body without a Content-Encoding."));
        }
        match negotiation::content_type(request).as_deref() {
            Some(JSON) => {
                let (body, _share) = self.read_body(request)?;
                let documents = json::parse_documents(&body)?;
                drop(body);
                self.store_documents(documents)
            }
            Some(NDJSON) => self.import(request),
            _ => Err(unsupported(
                "Send JSON with \"Content-Type: application/json\" (curl --json does), or one document a line with \
                 \"Content-Type: application/x-ndjson\", both in UTF-8.",
            )),
        }
    }

    /// A body, and its share of what all of them may hold.
    fn read_body(&self, request: &mut Request) -> Result<(Vec<u8>, Option<Share<'_>>), Problem> {
        let length = request.body_length();
        if length > Some(self.max_body) {
            return Err(self.too_large());
        }
        let share = self.share_for_body(length.unwrap_or(self.max_body))?;
        let mut body = Vec::with_capacity(length.unwrap_or(0));
        let mut limited = request.as_reader().take(self.max_body as u64 + 1);
        limited.read_to_end(&mut body).map_err(|error| guard::body_problem(&error))?;
        if body.len() > self.max_body {
            return Err(self.too_large());
        }
        Ok((body, share))
    }

    /// Until the documents of a body are stored they take about four times its length, so large bodies wait for each
    /// other. A small one does not: there are never more of them than connections.
    fn share_for_body(&self, length: usize) -> Result<Option<Share<'_>>, Problem> {
        if length <= SMALL_BODY {
            return Ok(None);
        }
        let too_many = || {
            unavailable(
                "Too many large bodies arrive at once. Nothing was stored. Send it again later, or as \
                 application/x-ndjson, which takes less memory.",
            )
        };
        self.bodies.take(length, deadline()).map(Some).ok_or_else(too_many)
    }

    fn too_large(&self) -> Problem {
        let detail = format!(
            "The body is longer than {} bytes (MAX_BODY). Send many documents as application/x-ndjson, which may be \
             of any length.",
            self.max_body
        );
        Problem::new(413, detail)
    }

    fn store_documents(&self, documents: Documents) -> Result<Response, Problem> {
        let (documents, is_single) = match documents {
            Documents::One(document) => (vec![document], true),
            Documents::Many(documents) => (documents, false),
        };
        let mut ids: Vec<DocumentId> = documents.iter().map(Document::id).collect();
        let answers = self.db.begin_insert(documents).wait(deadline());
        for (id, answer) in ids.iter_mut().zip(&answers) {
            if let Ok(Stored::Under(new_id)) = answer {
                *id = (*new_id).into();
            }
        }
        if is_single && let (Some(Err(refusal)), [id]) = (answers.first(), ids.as_slice()) {
            return Err(problem_of_refusal(refusal, id));
        }
        let stored: Vec<&DocumentId> =
            ids.iter().zip(&answers).filter_map(|(id, answer)| answer.is_ok().then_some(id)).collect();
        if let Some(problem) = problem_of_some(&answers, &ids) {
            return Err(problem
                .with_member("inserted", &stored.len().to_string())
                .with_member("ids", &ids_as_json(&stored)));
        }
        let body = format!("{{\"inserted\":{},\"ids\":{}}}\n", stored.len(), ids_as_json(&stored));
        let response = Response::new(201, JSON, body);
        Ok(match ids.as_slice() {
            [id] if is_single => response.with_header("Location", format!("/data/{}", encode_id(id))),
            _ => response,
        })
    }
}

/// Writes an export from its first batch on. While one batch is being sent the next one is being read.
fn write_export(db: &Db, mut query: PageQuery, limit: usize, first: Arc<Page>, out: &mut dyn Write) -> io::Result<()> {
    let mut left = limit;
    let mut page = first;
    loop {
        left -= page.documents.min(left);
        query.after = page.next.clone();
        query.limit = left.min(EXPORT_BATCH);
        let is_last = query.after.is_none() || left == 0;
        let ahead = (!is_last).then(|| db.begin_page(query.clone(), Layout::Lines));
        out.write_all(&page.text)?;
        page = match ahead {
            // The answer has begun, so all that is left to say is that it is not whole.
            Some(ahead) => ahead.wait(deadline()).map_err(|_| io::ErrorKind::Other)?,
            None => return Ok(()),
        };
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Invalid(detail) => Problem::new(400, detail),
            JsonError::TooLarge(detail) => Problem::new(413, detail),
        }
    }
}

/// What to say of an array of which some documents were not stored; nothing if all were.
fn problem_of_some(answers: &[Result<Stored, Refusal>], ids: &[DocumentId]) -> Option<Problem> {
    let problems: Vec<(usize, Problem)> = answers
        .iter()
        .zip(ids)
        .enumerate()
        .filter_map(|(index, (answer, id))| Some((index, problem_of_refusal(answer.as_ref().err()?, id))))
        .collect();
    // A failure of the database weighs most, then a conflict: the answer has one status.
    let (_, worst) = problems.iter().max_by_key(|(_, problem)| problem.status)?;
    // What befell the whole command is said once.
    if problems.len() == ids.len() && problems.iter().all(|(_, problem)| problem.detail() == worst.detail()) {
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
        .map(|(index, problem)| format!("{{\"index\":{index},\"detail\":{}}}", json_string(problem.detail())))
        .collect();
    Some(worst.clone().with_detail(detail).with_member("errors", &format!("[{}]", errors.join(","))))
}

pub(super) fn problem_of_refusal(refusal: &Refusal, id: &DocumentId) -> Problem {
    match refusal {
        Refusal::Exists => Problem::new(409, format!("There is a document with the _id {} already.", id_as_json(id))),
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

fn parse_limit(text: Option<&str>, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = text else {
        return Ok(default);
    };
    match text.parse() {
        Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
        _ if max == usize::MAX => Err(Problem::new(400, "The parameter limit takes a number of 1 or more.")),
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
    json::parse_id(text).map_err(|error| Problem::new(400, format!("The parameter after is not an _id: {error}")))
}

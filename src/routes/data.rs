//! `GET /data` and `GET /data/<id>`: documents in pages, all of them as a stream, or one.

use std::sync::Arc;

use super::export::{self, Export};
use super::reply::{Reply, StoreCall};
use super::target::{Target, decode_id, encode_id};
use super::{App, negotiation};
use crate::db::{Layout, Order, Page, PageQuery, StoreError, Text};
use crate::document::DocumentId;
use crate::http::request::Request;
use crate::json::{self, Format};
use crate::response::{JSON, NDJSON, Problem, Response, Stream};
use crate::server::service::{Call, Step, Waker};

/// Documents in a page unless the client says otherwise, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// What a page or an export is taken to hold until it is there, in bytes, so that not all that wait
/// begin at once.
const PAGE_HELD: usize = 16 * 1024;
/// What it is taken to need where memory is short, with the buffers of its socket.
const PAGE_NEEDS: usize = 64 * 1024;

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
        Step::Call { begin: Box::new(begin), held: 0, needs: PAGE_NEEDS }
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
                Ok(None) => Problem::new(404, "No document with this _id.").into(),
                Err(error) => Problem::from(error).into(),
            })
        };
        let begin = move || -> Box<dyn Call> {
            Box::new(StoreCall::new(Reply::ask(&waker, |done| db.get(id, format, done)), 0, then))
        };
        Ok(Step::Call { begin: Box::new(begin), held: 0, needs: 0 })
    }
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

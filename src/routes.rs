//! `/` and `/data`: a request becomes calls to the database, their outcome an answer. Every error
//! is a `Problem`.

mod data;
mod export;
mod import;
mod insert;
mod negotiation;
mod page;
mod reply;
mod target;

use std::sync::Arc;
use std::time::Instant;

use tiny_http::Method;

use crate::clock;
use crate::db::{Db, StoreError, StoreErrorKind};
use crate::http::request::Request;
use crate::limit::NamedLimit;
use crate::log;
use crate::metrics::{Metrics, Route};
use crate::response::{HTML, JSON, Problem, Response, TEXT, json_string};
use crate::secret::Secret;
use crate::server::ANSWER_WITHIN;
use crate::server::service::{Begun, Exchange, RouteId, Service, Step, Waker};
use page::Page;
use target::{Resource, Target};

/// What a client is asked to wait before it tries again, in seconds.
const RETRY_AFTER: &str = "1";

#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What `/data` asks for, if anything.
    pub(crate) api_token: Option<Secret>,
    /// In bytes.
    pub(crate) max_body: NamedLimit<usize>,
}

/// The application.
pub(crate) struct App {
    db: Arc<Db>,
    metrics: Arc<Metrics>,
    options: Options,
    page: Page,
}

impl App {
    pub(crate) fn new(options: Options, db: Arc<Db>, metrics: Arc<Metrics>) -> Self {
        let page = Page::new(db.name());
        Self { db, metrics, options, page }
    }

    fn route(&self, request: &Request, target: &Target, waker: &Waker) -> Result<Step, Problem> {
        if !matches!(target.resource, Resource::Root) {
            self.authorize(request)?;
        }
        match (&target.resource, request.method()) {
            (Resource::Root, Method::Get | Method::Head) => {
                target.no_query()?;
                Ok(Step::Respond(self.welcome(request)))
            }
            (Resource::Root, _) => Err(method_not_allowed("GET, HEAD")),
            (Resource::Data, Method::Get | Method::Head) => self.list(request, target, waker),
            (Resource::Data, Method::Post) => self.insert(request, target, waker),
            (Resource::Data, _) => Err(method_not_allowed("GET, HEAD, POST")),
            (Resource::Document(id), Method::Get | Method::Head) => self.get(id, target, waker),
            (Resource::Document(_), _) => Err(method_not_allowed("GET, HEAD")),
        }
    }

    fn welcome(&self, request: &Request) -> Response {
        let time = clock::timestamp();
        let message = "Welcome to the two-tier app!";
        match negotiation::preferred(request, [TEXT, JSON, HTML]) {
            JSON => Response::new(
                200,
                JSON,
                format!("{{\"message\":{},\"time\":\"{time}\"}}\n", json_string(message)),
            ),
            HTML => self.page.at(&time),
            _ => {
                Response::new(200, TEXT, [message, " The current time is: ", &time, "\n"].concat())
            }
        }
        .with_header("Vary", "Accept")
    }

    /// Checks the bearer token (RFC 6750, section 2.1) where one is set.
    fn authorize(&self, request: &Request) -> Result<(), Problem> {
        let Some(token) = &self.options.api_token else {
            return Ok(());
        };
        let given = request
            .headers()
            .get("Authorization")
            .and_then(|value| value.as_str().split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
            .map(|(_, given)| given.trim());
        match given {
            Some(given) if equal_in_constant_time(given, token.expose()) => Ok(()),
            Some(_) => Err(unauthorized("The bearer token is not the one that is set here.")),
            None => Err(unauthorized(
                "This needs the header \"Authorization: Bearer TOKEN\" with the token that is set here.",
            )),
        }
    }
}

impl Service for App {
    fn begin(&self, request: &Request, waker: &Waker) -> Begun {
        let (route, step) = match Target::parse(request.url()) {
            Ok(target) => {
                let route = match target.resource {
                    Resource::Root => Route::Root,
                    Resource::Data => Route::Data,
                    Resource::Document(_) => Route::Document,
                };
                (route, self.route(request, &target, waker))
            }
            Err(problem) => (Route::Other, Err(problem)),
        };
        Begun {
            route: Some(RouteId(route as usize)),
            step: step.unwrap_or_else(|problem| Step::Respond(problem.into())),
        }
    }

    fn finished(&self, exchange: &Exchange) {
        let route = exchange.route.map_or(Route::Other, |RouteId(number)| Route::of(number));
        self.metrics.request(route, exchange.method, exchange.status, exchange.took);
        log::request(exchange);
    }

    fn count(&self, connections: i64, requests: i64) {
        self.metrics.add_connections(connections);
        self.metrics.add_in_flight(requests);
    }
}

fn method_not_allowed(allowed: &'static str) -> Problem {
    Problem::new(405, format!("Method not allowed; use {allowed}.")).with_header("Allow", allowed)
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(401, detail).with_header("WWW-Authenticate", "Bearer")
}

/// Nothing was done for good, or nobody knows; it may work later.
fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(503, detail).with_header("Retry-After", RETRY_AFTER)
}

/// Takes as long for a token that is wrong in its first byte as for one that is wrong in its last.
fn equal_in_constant_time(one: &str, other: &str) -> bool {
    let differences = one
        .bytes()
        .zip(other.bytes())
        .fold(0, |differences, (one, other)| differences | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

fn deadline() -> Instant {
    Instant::now() + ANSWER_WITHIN
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let message = error.message();
        match error.kind() {
            StoreErrorKind::Unavailable => unavailable(message),
            StoreErrorKind::Unknown => unavailable(format!(
                "{message} What was sent may have been stored. To find out, or to send it again \
                 without storing it twice, give each document an _id of your own: a 409 then says \
                 that it is there."
            )),
            StoreErrorKind::Full => Problem::new(507, message),
            StoreErrorKind::Unsupported => Problem::new(400, message),
            StoreErrorKind::Failed => Problem::new(500, message),
        }
    }
}

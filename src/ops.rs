//! The operations port: /healthz, /readyz and /metrics, on threads of its own, so that a full
//! application still answers its probes. Also the other end of it, `two-tier healthcheck`.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tiny_http::Method;

use crate::db::Db;
use crate::http::request::Request;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::response::{Problem, Response, TEXT};
use crate::server::service::{Begun, Exchange, Service, Step, Waker};

/// The content type of the text format that /metrics is in.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long `two-tier healthcheck` waits.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Ops {
    pub(crate) db: Arc<Db>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Arc<Memory>,
    /// The server was asked to stop.
    pub(crate) draining: AtomicBool,
}

impl Ops {
    fn route(&self, method: &Method, target: &str) -> Result<Response, Problem> {
        let path = target.split('?').next().unwrap_or_default();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            let detail = "No such resource. The resources are /healthz, /readyz and /metrics.";
            return Err(Problem::new(404, detail));
        }
        if !matches!(method, Method::Get | Method::Head) {
            return Err(Problem::new(405, "Method not allowed; use GET, HEAD.")
                .with_header("Allow", "GET, HEAD"));
        }
        Ok(match path {
            "/healthz" => Response::new(200, TEXT, "ok\n"),
            "/readyz" => self.readiness(),
            _ => Response::new(200, METRICS, self.metrics.page(&self.memory)),
        })
    }

    /// A server is ready once it has reached its database, and stays so though that fails: what
    /// needs no database is answered as before, and the rest is told why. All servers share one
    /// database, so to take those out that miss it would leave clients with nobody to ask.
    fn readiness(&self) -> Response {
        if self.draining.load(Relaxed) {
            return Response::new(503, TEXT, "the server is shutting down\n");
        }
        match (self.db.was_reached(), self.db.unreachable()) {
            (true, None) => Response::new(200, TEXT, "ready\n"),
            (true, Some(reason)) => {
                Response::new(200, TEXT, format!("ready, but without the database: {reason}\n"))
            }
            (false, None) => Response::new(503, TEXT, "the database has not answered yet\n"),
            (false, Some(reason)) => {
                Response::new(503, TEXT, format!("not ready without the database: {reason}\n"))
            }
        }
    }
}

impl Service for Ops {
    fn begin(&self, request: &Request, _: &Waker) -> Begun {
        let answer = self.route(request.method(), request.url());
        // Nobody counts these by their routes.
        Begun { route: None, step: Step::Respond(answer.unwrap_or_else(Response::from)) }
    }

    /// Probes and scrapes would only hide the application's own requests.
    fn finished(&self, _: &Exchange) {}

    fn count(&self, _: i64, _: i64) {}
}

/// Why a server is not ready.
#[derive(Debug)]
pub(crate) enum NotReady {
    NoAnswer(io::Error),
    /// What it says itself.
    Answer(String),
}

impl Display for NotReady {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            NotReady::NoAnswer(_) => "no answer",
            NotReady::Answer(text) => text,
        })
    }
}

impl Error for NotReady {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            NotReady::NoAnswer(error) => Some(error),
            NotReady::Answer(_) => None,
        }
    }
}

/// Asks /readyz of the server at `address`.
pub(crate) fn healthcheck(address: SocketAddr) -> Result<(), NotReady> {
    let host = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        // A server on every address answers on IPv4's loopback too, and IPv6 may be switched off.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        host => host,
    };
    let answer = ask((host, address.port()).into()).map_err(NotReady::NoAnswer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(NotReady::Answer(body.trim().to_owned())),
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTHCHECK_TIMEOUT)?;
    stream.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

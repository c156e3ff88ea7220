//! The tiny_http loop: a pool of threads that each accept one connection, serve its requests one after another, and
//! accept the next. No queue and no hand-over between threads. Knows sockets (through `guard`), but not what a
//! request means: that is its `Service`'s.

mod pool;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tiny_http::{HTTPVersion, Method, Request};

use crate::guard;
use crate::request_id::RequestId;
use crate::response::{Delivery, Problem, Response};
pub(crate) use pool::Server;

/// Connections that wait for a thread in the kernel.
const BACKLOG: i32 = 1024;
/// When a silent peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// The least a client must take of an answer once the send time-out is over, in bytes a second.
const MIN_SEND_RATE: u64 = 1024;

/// What a server answers with.
pub(crate) trait Service: Send + Sync {
    /// `target` is the request's, which cannot be borrowed while the body is read.
    fn respond(&self, request: &mut Request, target: &str) -> Response;
    /// An answer has gone out, or could not.
    fn finished(&self, exchange: &Exchange);
    /// A connection was opened (`1`) or closed (`-1`), or a request begins or ends.
    fn count(&self, connections: i64, requests: i64);
}

/// One request and its answer, for the log and the metrics.
pub(crate) struct Exchange<'a> {
    /// Empty, as is `target`, where the request's head was refused.
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) status: u16,
    /// Of the body that was sent.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// The answer went out whole.
    pub(crate) complete: bool,
}

/// What a server may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) incoming: guard::Limits,
    pub(crate) send: Duration,
}

/// Binds a listening socket whose options every accepted connection inherits.
pub(crate) fn listen(address: SocketAddr, limits: &Limits) -> io::Result<TcpListener> {
    let listener = match bind(address, limits) {
        // A machine without IPv6 has no `::`, but the same is meant: every address.
        Err(_) if address.ip() == IpAddr::from([0u16; 8]) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into(), limits)?
        }
        outcome => outcome?,
    };
    listener.listen(BACKLOG)?;
    Ok(listener.into())
}

fn bind(address: SocketAddr, limits: &Limits) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(guard::TICK))?;
    socket.set_write_timeout(Some(limits.send))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Serves one connection to its end.
fn serve(mut requests: impl Iterator<Item = Request>, shared: &Arc<pool::Shared>) {
    guard::enter(shared.limits.incoming, shared.clone());
    let opened = Instant::now();
    for request in requests.by_ref() {
        guard::begin_request();
        if !answer(request, shared, opened) {
            break;
        }
        guard::end_request();
    }
    if let Some(status) = guard::refused() {
        shared.service.finished(&Exchange {
            method: "",
            target: "",
            request_id: "",
            status,
            bytes: 0,
            took: opened.elapsed(),
            complete: true,
        });
    }
    guard::linger();
    drop(requests);
    guard::leave();
}

/// Answers one request and says whether the connection goes on.
fn answer(mut request: Request, shared: &pool::Shared, opened: Instant) -> bool {
    let started = Instant::now();
    shared.service.count(0, 1);
    let request_id = RequestId::of(&request);
    let (method, target) = (request.method().clone(), request.url().to_owned());
    let http10 = *request.http_version() <= HTTPVersion(1, 0);

    let respond = AssertUnwindSafe(|| shared.service.respond(&mut request, &target));
    let (response, panicked) = match catch_unwind(respond) {
        Ok(response) => (response, false),
        Err(_) => {
            let detail = "The server failed on this request. Its log says where.";
            (Problem::new(500, detail).into(), true)
        }
    };
    let status = response.status;
    let streams_until_close = http10 && response.is_stream();
    let goes_on = guard::end_body() && !panicked && !streams_until_close && !shared.must_close(opened);
    let reset = streams_until_close.then(guard::reset_unless_whole);
    let mut writer =
        PacedWriter { inner: request.into_writer(), started: Instant::now(), written: 0, grace: shared.limits.send };
    let sent = response.send(
        &mut writer,
        &Delivery { close: !goes_on, http10, head_only: method == Method::Head, request_id: request_id.as_str() },
    );
    match reset {
        Some(reset) if sent.is_ok() => reset.whole(),
        unfinished => drop(unfinished),
    }
    shared.service.count(0, -1);
    shared.service.finished(&Exchange {
        method: method.as_str(),
        target: &target,
        request_id: request_id.as_str(),
        status,
        bytes: sent.as_ref().map_or(writer.written, |&bytes| bytes),
        took: started.elapsed(),
        complete: sent.is_ok(),
    });
    goes_on && sent.is_ok()
}

/// Gives up on a client that takes its answer slower than `MIN_SEND_RATE` once `grace` is over. One that takes nothing
/// at all is the send time-out's.
struct PacedWriter {
    inner: Box<dyn Write + Send>,
    started: Instant,
    written: u64,
    grace: Duration,
}

impl Write for PacedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.written += count as u64;
        let late = self.started.elapsed().saturating_sub(self.grace);
        if late.as_secs() * MIN_SEND_RATE > self.written {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

//! One request in progress, from the end of its head to the end of its answer: what the log and the
//! metrics are told, whatever way it ends.

use std::sync::Arc;
use std::time::Instant;

use tiny_http::Method;

use super::service::{Exchange, RouteId, Service};
use crate::http::head::{Head, Version};
use crate::http::request::Request;
use crate::request_id::RequestId;

/// Its drop reports it, so that no way out (eviction, a panic, the end of the process) can forget
/// to.
pub(super) struct InFlight {
    service: Arc<dyn Service>,
    /// None where the head was refused.
    asked: Option<Asked>,
    /// The answer is one to a HEAD.
    is_head: bool,
    started: Instant,
    pub(super) route: Option<RouteId>,
    pub(super) status: u16,
    /// Of the answer's body that were sent.
    pub(super) bytes: u64,
    pub(super) is_complete: bool,
}

struct Asked {
    request: Request,
    id: RequestId,
    version: Version,
    keep_alive: bool,
    expects_continue: bool,
}

impl InFlight {
    pub(super) fn begin(service: &Arc<dyn Service>, head: Head, now: Instant) -> Box<Self> {
        let id = RequestId::of(&head.request);
        service.count(0, 1);
        let Head { request, version, keep_alive, expects_continue, .. } = head;
        let is_head = *request.method() == Method::Head;
        Self::new(
            service,
            Some(Asked { request, id, version, keep_alive, expects_continue }),
            is_head,
            now,
        )
    }

    /// Of a head that was refused: there is an answer, but no request.
    pub(super) fn refused(service: &Arc<dyn Service>, is_head: bool, now: Instant) -> Box<Self> {
        Self::new(service, None, is_head, now)
    }

    fn new(
        service: &Arc<dyn Service>,
        asked: Option<Asked>,
        is_head: bool,
        started: Instant,
    ) -> Box<Self> {
        // A status that stays is that of a request which ended without an answer.
        Box::new(Self {
            service: service.clone(),
            asked,
            is_head,
            started,
            route: None,
            status: 500,
            bytes: 0,
            is_complete: false,
        })
    }

    pub(super) fn request(&self) -> Option<&Request> {
        self.asked.as_ref().map(|asked| &asked.request)
    }

    pub(super) fn id(&self) -> &str {
        self.asked.as_ref().map_or("", |asked| asked.id.as_str())
    }

    pub(super) fn is_head(&self) -> bool {
        self.is_head
    }

    pub(super) fn is_http10(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.version == Version::Http10)
    }

    pub(super) fn keep_alive(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.keep_alive)
    }

    /// The client has been told to send its body, and will.
    pub(super) fn expects_no_more(&mut self) {
        if let Some(asked) = &mut self.asked {
            asked.expects_continue = false;
        }
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.expects_continue)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.asked.is_some() {
            self.service.count(0, -1);
        }
        self.service.finished(&Exchange {
            method: self.request().map_or("", |request| request.method().as_str()),
            target: self.request().map_or("", |request| request.url()),
            route: self.route,
            request_id: self.id(),
            status: self.status,
            bytes: self.bytes,
            took: self.started.elapsed(),
            complete: self.is_complete,
        });
    }
}

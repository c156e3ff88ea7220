//! The request as routes see it: a `tiny_http::Request`, built from a head that was judged here.
//!
//! tiny_http offers one public way to a `Request` without a socket of its own: `TestRequest`. This
//! file is the only place that knows of it. Only the headers that routes read go in;
//! Content-Length, Transfer-Encoding, Expect and Connection never do, since `From<TestRequest>`
//! panics on some of their values.

use std::ops::Deref;

use tiny_http::{HTTPVersion, Header, TestRequest};

use super::head::Version;
use crate::response::Problem;

/// A request without its body.
pub(crate) struct Request {
    /// Always there until the drop.
    inner: Option<tiny_http::Request>,
    /// Of the body in bytes, as the client announced it; none where it did not.
    content_length: Option<u64>,
}

impl Request {
    /// A head that has what tiny_http refuses is a 400.
    pub(super) fn new(
        method: &str,
        target: &str,
        version: Version,
        headers: impl Iterator<Item = (&'static str, String)>,
        content_length: Option<u64>,
    ) -> Result<Self, Problem> {
        let unreadable =
            || Problem::new(400, "The request's head has something that this server cannot read.");
        let version = match version {
            Version::Http10 => HTTPVersion(1, 0),
            Version::Http11 => HTTPVersion(1, 1),
        };
        let method = method.parse().map_err(|()| unreadable())?;
        let mut request =
            TestRequest::new().with_method(method).with_path(target).with_http_version(version);
        for (name, value) in headers {
            request = request.with_header(Header::from_str(name, value).map_err(|_| unreadable())?);
        }
        Ok(Self { inner: Some(request.into()), content_length })
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

impl Deref for Request {
    type Target = tiny_http::Request;

    fn deref(&self) -> &tiny_http::Request {
        match &self.inner {
            Some(request) => request,
            None => unreachable!("only the drop takes it"),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // A tiny_http::Request that is dropped as it is formats an answer of its own.
        if let Some(request) = self.inner.take() {
            drop(request.into_writer());
        }
    }
}

//! HTTP/1.1 as bytes: the head of a request, its body, and the request that routes see. No socket,
//! no clock, no store.

pub(crate) mod body;
mod chunked;
pub(crate) mod head;
pub(crate) mod request;

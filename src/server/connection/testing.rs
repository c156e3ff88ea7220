//! What drives a connection in its tests and in its fuzz target: a client and a service that are
//! told what to do.
#![allow(dead_code, reason = "the tests and the fuzz target use a part each")]

pub(super) mod service;
pub(super) mod session;

/// What the client is answered, and the same without what differs from one run to the next: the
/// whole life of a connection (`Session::run`) of which no request fails on purpose.
#[cfg(fuzzing)]
pub(crate) fn answers(pieces: &[&[u8]], takes: &[u8], noise: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let session = session::Session::new();
    session.fake.become_sound();
    let outcome = session.run(pieces, takes, noise);
    (outcome.received, outcome.answers)
}

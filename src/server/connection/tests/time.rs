//! What ends each state when its time is over, or when others need what it holds.

use std::time::Duration;

use crate::server::connection::testing::service::STORE_TIME;
use crate::server::connection::testing::session::{Outcome, Session};
use crate::server::connection::{ANSWER_WITHIN, GIVE_UP_WITHIN, LINGER, SHORT_IDLE, Wait};

const MOMENT: Duration = Duration::from_millis(1);
const HALF_A_HEAD: &[u8] = b"GET / HTTP/1.1\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const COLLECT: &[u8] = b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
const IMPORT: &[u8] = b"POST /import HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n";

/// A connection on which something came.
fn session(bytes: &[u8]) -> Session {
    let mut session = Session::new();
    session.send(bytes);
    session
}

/// The statuses of all answers, of which the last one is broken off if `finished` says so.
fn statuses(outcome: &Outcome) -> Vec<(u16, bool)> {
    outcome.finished.iter().map(|finished| (finished.status, finished.complete)).collect()
}

/// The last answer is out, and the rest of the connection's time is that of `Closing`.
fn check_closing(mut session: Session, status: u16) -> Outcome {
    assert!(session.client.is_shut);
    let last = Wait::Readable(session.now + LINGER);
    assert_eq!(session.settle(), last);
    session.send(b"more");
    assert_eq!(session.settle(), last);
    assert_eq!(session.pass(LINGER), Wait::Nothing);
    let outcome = session.outcome();
    assert_eq!(statuses(&outcome), [(status, true)]);
    assert!(
        String::from_utf8_lossy(&outcome.answers).contains("\r\nConnection: close\r\n"),
        "{outcome:?}"
    );
    outcome
}

#[test]
fn idle_connection_ends_without_a_word() {
    let mut session = session(b"\r\n");
    let idle = session.timeouts.idle;
    assert_eq!(session.settle(), Wait::Readable(session.now + idle));
    assert_ne!(session.pass(idle - MOMENT), Wait::Nothing);
    assert_eq!(session.pass(MOMENT), Wait::Nothing);
    let outcome = session.outcome();
    assert!(outcome.answers.is_empty() && outcome.finished.is_empty());
}

#[test]
fn kept_connection_ends_without_a_word() {
    let mut session = session(GET);
    let idle = session.timeouts.idle;
    session.now += Duration::from_secs(30);
    assert_eq!(session.settle(), Wait::Readable(session.now + idle));
    assert_eq!(session.pass(idle), Wait::Nothing);
    assert_eq!(statuses(&session.outcome()), [(200, true)]);
}

#[test]
fn slow_head_is_408_from_its_first_byte() {
    let mut session = session(b"");
    let head = session.timeouts.head;
    session.settle();
    session.now += Duration::from_secs(20);
    session.send(HALF_A_HEAD);
    assert_eq!(session.settle(), Wait::Readable(session.now + head));
    session.send(b"A");
    assert_ne!(session.pass(head - MOMENT), Wait::Nothing);
    // What dribbles in does not move the deadline.
    session.send(b"B");
    session.pass(MOMENT);
    check_closing(session, 408);
}

#[test]
fn stalled_body_is_408() {
    let mut session = session(COLLECT);
    let body = session.timeouts.body;
    assert_eq!(session.settle(), Wait::Readable(session.now + body));
    session.send(b"dribble");
    assert_ne!(session.pass(body - MOMENT), Wait::Nothing);
    // Those bytes have earned it some milliseconds.
    session.pass(MOMENT * 10);
    check_closing(session, 408);
}

#[test]
fn body_that_makes_progress_goes_on() {
    let mut session =
        session(b"POST /import HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    let body = session.timeouts.body;
    session.settle();
    for _ in 0..5 {
        session.send(&b"x".repeat(1024 * body.as_secs() as usize));
        assert_eq!(session.pass(body - MOMENT), Wait::Readable(session.now + body));
    }
}

#[test]
fn pause_within_the_time_is_fine() {
    let mut session =
        session(b"POST /import HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    let body = session.timeouts.body;
    session.settle();
    for _ in 0..3 {
        // At 2 KB/s for as long as the time-out is, and then nothing for 8 tenths of it.
        for _ in 0..20 {
            session.send(&b"x".repeat(100 * body.as_secs() as usize));
            assert_ne!(session.pass(body / 20), Wait::Nothing);
        }
        assert_ne!(session.pass(body * 8 / 10), Wait::Nothing);
    }
}

#[test]
fn stalled_import_stores_what_came() {
    let mut session = session(IMPORT);
    session.send(b"a\nb\n");
    let body = session.timeouts.body;
    session.settle();
    assert_eq!(session.pass(body), Wait::Store(session.now + STORE_TIME));
    assert!(session.fake.answer_one());
    session.settle();
    let outcome = check_closing(session, 408);
    assert!(outcome.answers.ends_with(b"TooSlow, stored 2\n"), "{outcome:?}");
}

#[test]
fn import_whose_store_is_silent_ends() {
    let mut session = session(IMPORT);
    session.send(b"a\nb\nc\n");
    session.settle();
    session.send(b"d\ne\nf\n");
    assert_eq!(session.settle(), Wait::Store(session.now + STORE_TIME));
    session.pass(STORE_TIME);
    assert!(session.client.received.ends_with(b"late, stored 0\n"));
}

#[test]
fn interim_that_is_not_taken_ends() {
    let mut session = session(
        b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    );
    session.client.is_full = true;
    let body = session.timeouts.body;
    assert_eq!(session.settle(), Wait::Writable(session.now + body));
    assert_eq!(session.pass(body), Wait::Nothing);
    assert_eq!(statuses(&session.outcome()), [(500, false)]);
}

#[test]
fn call_without_answer_is_given_up() {
    let mut session = session(b"GET /call HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(session.settle(), Wait::Store(session.now + ANSWER_WITHIN));
    assert_ne!(session.pass(ANSWER_WITHIN - MOMENT), Wait::Nothing);
    session.pass(MOMENT);
    assert_eq!(statuses(&session.outcome()), [(503, true)]);
}

#[test]
fn stream_whose_store_is_silent_breaks_off() {
    for (version, is_reset) in [("1.1", false), ("1.0", true)] {
        let mut session =
            session(format!("GET /stream HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(session.settle(), Wait::Store(session.now + STORE_TIME));
        assert_eq!(session.pass(STORE_TIME), Wait::Nothing);
        let outcome = session.outcome();
        assert_eq!((statuses(&outcome), outcome.is_reset), (vec![(200, false)], is_reset));
        assert!(!outcome.answers.ends_with(b"0\r\n\r\n"));
    }
}

#[test]
fn answer_that_is_not_taken_is_cut_and_reset() {
    let mut session = session(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    session.client.is_full = true;
    let send = session.timeouts.send;
    assert_eq!(session.settle(), Wait::Writable(session.now + send));
    session.now += send - MOMENT;
    assert_eq!(session.settle(), Wait::Writable(session.now + MOMENT));
    assert_eq!(session.pass(MOMENT), Wait::Nothing);
    let outcome = session.outcome();
    assert_eq!((statuses(&outcome), outcome.is_reset), (vec![(200, false)], true));
}

#[test]
fn rest_of_unwanted_body_is_not_awaited_for_ever() {
    let mut session = session(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    let body = session.timeouts.body;
    assert_eq!(session.settle(), Wait::Readable(session.now + body));
    assert_eq!(session.pass(body), Wait::Readable(session.now + LINGER));
    assert_eq!(session.pass(LINGER), Wait::Nothing);
}

#[test]
fn sender_without_pause_does_not_keep_a_worker() {
    for request in
        [&b"x\r\n\r\n"[..], COLLECT, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"]
    {
        let mut session = session(&request.repeat(50));
        session.send(&b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".repeat(10_000));
        let before = session.left();
        session.drive();
        assert!(
            before - session.left() <= 3 * 64 * 1024,
            "{} bytes in one turn",
            before - session.left()
        );
        assert!(
            session.fake.finished.lock().unwrap().len() <= 1,
            "more than one request in one turn"
        );
    }
}

#[test]
fn old_connection_ends_with_its_next_answer() {
    let mut session = session(GET);
    session.now += session.timeouts.age;
    session.settle();
    assert!(
        session.client.is_shut,
        "the client may have sent its next request, so the connection is not closed at once"
    );
    check_closing(session, 200);
}

#[test]
fn idle_connection_gives_up_its_place() {
    let mut session = session(GET);
    session.settle();
    session.end_if_idle = true;
    assert_ne!(session.pass(SHORT_IDLE - MOMENT), Wait::Nothing);
    session.send(GET);
    assert_ne!(session.pass(MOMENT), Wait::Nothing, "a request that had come is answered");
    assert_eq!(session.pass(SHORT_IDLE), Wait::Nothing);
    assert_eq!(statuses(&session.outcome()), [(200, true), (200, true)]);
}

#[test]
fn closing_connection_gives_up_its_place() {
    let mut session = session(b"x\r\n\r\n");
    session.settle();
    session.end_if_idle = true;
    assert_ne!(session.pass(SHORT_IDLE - MOMENT), Wait::Nothing);
    assert_eq!(session.pass(MOMENT), Wait::Nothing);
}

#[test]
fn eviction_ends_what_holds_memory() {
    for (request, status) in
        [(HALF_A_HEAD, Some(503)), (COLLECT, Some(503)), (IMPORT, Some(503)), (GET, None)]
    {
        let mut session = session(request);
        session.settle();
        session.evict = true;
        session.settle();
        match status {
            Some(status) => drop(check_closing(session, status)),
            None => assert_eq!(statuses(&session.outcome()), [(200, true)]),
        }
    }
    let mut session = session(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    session.client.is_full = true;
    session.settle();
    session.evict = true;
    assert_eq!(session.settle(), Wait::Nothing);
    assert!(session.outcome().is_reset);
}

#[test]
fn stop_does_not_wait_for_bodies() {
    let mut session = session(IMPORT);
    session.send(b"a\n");
    session.settle();
    session.end_bodies = true;
    assert_eq!(session.settle(), Wait::Store(session.now + STORE_TIME));
    assert!(session.fake.answer_one());
    session.settle();
    let outcome = check_closing(session, 503);
    assert!(outcome.answers.ends_with(b"Stopped, stored 1\n"), "{outcome:?}");
}

#[test]
fn large_call_waits_for_memory() {
    let mut session = session(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    session.is_memory_short = true;
    let until = session.now + ANSWER_WITHIN;
    assert_eq!(session.settle(), Wait::Memory(until));
    session.is_memory_short = false;
    assert_eq!(session.settle(), Wait::Store(until));
    assert!(session.fake.answer_one());
    session.settle();
    assert_eq!(statuses(&session.outcome()), [(200, true)]);
}

#[test]
fn late_answer_is_awaited_a_little_longer() {
    let mut session = session(b"GET /call HTTP/1.1\r\nHost: a\r\n\r\n");
    session.settle();
    session.fake.ignore_give_up();
    assert_eq!(session.pass(ANSWER_WITHIN), Wait::Store(session.now + GIVE_UP_WITHIN));
    assert!(session.fake.answer_one());
    session.settle();
    assert_eq!(statuses(&session.outcome()), [(200, true)]);
}

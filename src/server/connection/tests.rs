//! The connection as a whole, bytes in and bytes out: whatever pieces a conversation comes in, the
//! answers are the same.

mod answers;
mod requests;
mod time;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::testing::service::PIECES;
use super::testing::session::{Event, Outcome, Session};
use requests::{Sent, conversation};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_do_not_depend_on_how_requests_are_cut(
        requests in conversation(),
        cuts in vec(any::<Index>(), 0..20),
        takes in vec(prop_oneof![1 => Just(0u8), 2 => any::<u8>()], 0..60),
        noise in vec(0u8..4, 0..40),
    ) {
        let sent: Vec<u8> = requests.iter().flat_map(|sent| sent.bytes.clone()).collect();
        let whole = Session::new().run(&[&sent], &[], &[]);
        check(&requests, &whole);
        let cut = Session::new().run(&pieces(&sent, &cuts), &takes, &noise);
        // Where an answer breaks off, how much of it came before that is chance.
        if answered(&requests).last().is_none_or(|last| !last.is_broken) {
            prop_assert_eq!(String::from_utf8_lossy(&cut.answers), String::from_utf8_lossy(&whole.answers));
        }
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn whatever_happens_it_ends(
        requests in conversation(),
        cuts in vec(any::<Index>(), 0..20),
        takes in vec(prop_oneof![1 => Just(0u8), 2 => any::<u8>()], 0..60),
        events in vec(event(), 0..60),
    ) {
        let sent: Vec<u8> = requests.iter().flat_map(|sent| sent.bytes.clone()).collect();
        let outcome = Session::new().storm(&pieces(&sent, &cuts), &takes, &events);
        // What was answered is understood up to where an answer breaks off.
        let mut rest = outcome.answers.as_slice();
        for finished in outcome.finished.iter().take_while(|finished| finished.complete) {
            let is_head = finished.method == "HEAD" || (finished.method.is_empty() && finished.bytes == 0);
            let (answer, others) = answers::read(rest, is_head).map_err(TestCaseError::fail)?;
            prop_assert_eq!((answer.status, answer.body.len() as u64), (finished.status, finished.bytes));
            rest = others;
        }
        prop_assert!(rest.is_empty() || outcome.finished.last().is_some_and(|last| !last.complete));
    }

    #[test]
    fn answers_do_not_depend_on_single_bytes(requests in conversation()) {
        let sent: Vec<u8> = requests.iter().flat_map(|sent| sent.bytes.clone()).collect();
        if sent.len() > 3000 {
            return Ok(());
        }
        let whole = Session::new().run(&[&sent], &[], &[]);
        let bytes: Vec<&[u8]> = sent.chunks(1).collect();
        prop_assert_eq!(Session::new().run(&bytes, &[], &[]), whole);
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Bytes),
        2 => (0u64..3000).prop_map(Event::Time),
        1 => (0u64..40_000).prop_map(Event::Time),
        3 => Just(Event::Answer),
        1 => any::<bool>().prop_map(Event::Full),
        1 => any::<bool>().prop_map(Event::Close),
        1 => any::<bool>().prop_map(Event::EndIdle),
        1 => Just(Event::EndBodies),
        1 => Just(Event::Evict),
        2 => any::<bool>().prop_map(Event::Short),
        1 => any::<bool>().prop_map(Event::Long),
    ]
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    let mut pieces = Vec::new();
    for end in ends {
        if end > start {
            pieces.push(&bytes[start..end]);
        }
        start = end;
    }
    pieces
}

/// Those that have an answer: up to the one that ends the connection.
fn answered(requests: &[Sent]) -> &[Sent] {
    let count =
        requests.iter().position(|sent| sent.closes).map_or(requests.len(), |last| last + 1);
    &requests[..count]
}

/// Each request has the answer that it must have, and is told of once.
fn check(requests: &[Sent], outcome: &Outcome) {
    let requests = answered(requests);
    let mut rest = outcome.answers.as_slice();
    for (sent, finished) in requests.iter().zip(&outcome.finished) {
        assert_eq!(
            (finished.status, finished.complete),
            (sent.status, !sent.is_broken),
            "{sent:?}"
        );
        if sent.is_broken {
            let is_until_close = sent.bytes.windows(8).any(|eight| eight == b"HTTP/1.0");
            assert_eq!(outcome.is_reset, is_until_close, "{sent:?}");
            assert!(is_until_close || answers::read(rest, false) == Err("cut off".to_owned()));
            assert_eq!(finished.bytes, (PIECES[0] + PIECES[1]) as u64);
            return;
        }
        let (answer, others) =
            answers::read(rest, sent.is_head).unwrap_or_else(|error| panic!("{error}: {sent:?}"));
        assert_eq!(
            (answer.status, answer.closes, answer.interims, answer.body.len() as u64),
            (sent.status, sent.closes, sent.interims, finished.bytes),
            "{:?} {answer:?}",
            String::from_utf8_lossy(&sent.bytes),
        );
        rest = others;
    }
    assert_eq!(outcome.finished.len(), requests.len(), "{:?}", outcome.finished);
    assert!(rest.is_empty(), "an answer to nothing: {:?}", String::from_utf8_lossy(rest));
}

//! A whole connection, without sockets: the input's bytes go into the state machine of
//! ../../src/server/connection.rs, with the client and the service of its tests. What comes out
//! must be answers, strictly: one to each request that the strict reader in support/http.rs
//! understands, in their order, one error at most to what it does not, and nothing else. They must
//! be the same if all bytes come at once. It comes to its end in a bounded number of turns, holds
//! little, and every request is told of once (testing/session.rs).
//!
//! A byte FF in the input is not sent: what follows it arrives on its own.
#![no_main]

mod support {
    pub mod http;
}

use libfuzzer_sys::fuzz_target;

use support::http::{self as strict, Incoming, Request};
use two_tier::fuzzing::answers;

const PAUSE: u8 = 0xFF;
/// Longer than this, what is left of an unwanted body is not read.
const MAX_INPUT: usize = 60 * 1024;

fuzz_target!(|data: &[u8]| {
    if data.len() > MAX_INPUT {
        return;
    }
    let pieces: Vec<&[u8]> =
        data.split(|&byte| byte == PAUSE).filter(|piece| !piece.is_empty()).collect();
    let sent = pieces.concat();
    let (received, whole) = answers(&[&sent], &[], &[]);
    check(&sent, &received);
    // How the client takes its answers, and what happens for nothing, is as good as chance.
    let takes: Vec<u8> =
        data.iter().rev().take(200).map(|byte| if byte % 3 == 0 { 0 } else { *byte }).collect();
    let noise: Vec<u8> = data.iter().map(|byte| byte % 4).collect();
    let (_, cut) = answers(&pieces, &takes, &noise);
    assert!(
        cut == whole,
        "{:?}\n{:?}",
        String::from_utf8_lossy(&cut),
        String::from_utf8_lossy(&whole)
    );
});

fn check(sent: &[u8], mut answers: &[u8]) {
    let mut rest = sent;
    loop {
        match strict::request(rest) {
            Incoming::Nothing => break,
            Incoming::Understood(request, behind) => {
                let (answer, others) = strict::answer(answers, request.is_head)
                    .or_else(|error| {
                        if request.body_is_whole {
                            Err(error)
                        } else {
                            strict::answer(answers, false)
                        }
                    })
                    .unwrap_or_else(|error| {
                        panic!("{error}: {request:?} {:?}", String::from_utf8_lossy(answers))
                    });
                check_answer(&request, &answer);
                answers = others;
                rest = behind;
                if answer.closes {
                    break;
                }
            }
            Incoming::Broken => {
                let head = rest.strip_prefix(b"\r\n").unwrap_or(rest);
                let (answer, others) =
                    strict::answer(answers, head.starts_with(b"HEAD ")).expect("an error");
                assert!((400..=505).contains(&answer.status) && answer.closes, "{answer:?}");
                answers = others;
                break;
            }
            Incoming::Unsure => return check_count(rest, answers),
        }
    }
    assert!(answers.is_empty(), "an answer to nothing: {:?}", String::from_utf8_lossy(answers));
}

fn check_answer(request: &Request, answer: &strict::Answer) {
    assert!(![500, 503].contains(&answer.status), "{request:?} {answer:?}");
    if request.is_welcome && request.body_is_whole {
        assert_eq!(answer.status, 200, "{request:?}");
    }
    if let Some(id) = &request.id
        && answer.id.is_some()
    {
        assert_eq!(Some(id), answer.id.as_ref(), "{request:?}");
    }
    // Only a request that the server itself refuses has none.
    assert!(answer.id.is_some() || !request.body_is_whole, "{request:?} {answer:?}");
    assert!(answer.interims <= usize::from(request.expects_continue), "{request:?} {answer:?}");
    let must_close = !request.keep_alive || !request.body_is_whole;
    let may_close =
        must_close || request.is_chunked || request.expects_continue || request.is_http10;
    assert!(may_close || !answer.closes, "{request:?} {answer:?}");
}

/// Of what the strict reader leaves open, each head may have an answer, and so may what is behind
/// the last one.
fn check_count(sent: &[u8], answers: &[u8]) {
    let most = sent.windows(4).filter(|window| *window == b"\r\n\r\n").count() + 1;
    assert!(
        are_answers(answers, most),
        "not answers, or too many: {:?}",
        String::from_utf8_lossy(answers)
    );
}

/// Whether these are at most so many answers, each to a GET or to a HEAD.
fn are_answers(answers: &[u8], most: usize) -> bool {
    let is_one = |to_head| {
        strict::answer(answers, to_head).is_ok_and(|(_, others)| are_answers(others, most - 1))
    };
    answers.is_empty() || (most > 0 && (is_one(false) || is_one(true)))
}

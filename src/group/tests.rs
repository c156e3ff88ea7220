use std::sync::mpsc::{self, Receiver, Sender};

use super::*;

const LATER: Duration = Duration::from_secs(20);

type Gated = (Arc<Group<u32, u32>>, Receiver<Vec<u32>>, Sender<()>);

/// A group whose calls report what they were asked and then wait to be let go.
fn gated(full: usize) -> Gated {
    let (report, calls) = mpsc::channel();
    let (let_go, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let rules = Rules { is_same: |one, other| one == other, weight: |_| 1, full };
    let run = Box::new(move |requests: Vec<u32>, _| {
        report.send(requests.clone()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        requests.iter().map(|request| request * 10).collect()
    });
    (Arc::new(Group::new("test", false, rules, run)), calls, let_go)
}

fn call(group: &Arc<Group<u32, u32>>, request: u32) -> thread::JoinHandle<Result<u32, Unanswered>> {
    let group = group.clone();
    thread::spawn(move || group.call(request, Instant::now() + LATER))
}

fn wait_for_slots(group: &Arc<Group<u32, u32>>, count: usize) {
    let until = Instant::now() + LATER;
    let slots = || -> usize { group.shared.lock().pending.iter().map(|pending| pending.slots.len()).sum() };
    while slots() != count {
        assert!(Instant::now() < until, "{} slots, not {count}", slots());
        thread::yield_now();
    }
}

#[test]
fn requests_that_wait_share_the_next_call() {
    let (group, calls, let_go) = gated(2);
    let first = call(&group, 1);
    assert_eq!(calls.recv().unwrap(), [1]);
    let mut others = Vec::new();
    for (index, request) in [2, 3, 2, 4].into_iter().enumerate() {
        others.push((request, call(&group, request)));
        wait_for_slots(&group, index + 1);
    }
    let_go.send(()).unwrap();
    assert_eq!(calls.recv().unwrap(), [2, 3], "the two that fit, and one 2 for both");
    let_go.send(()).unwrap();
    assert_eq!(calls.recv().unwrap(), [4]);
    let_go.send(()).unwrap();
    assert_eq!(first.join().unwrap(), Ok(10));
    for (request, other) in others {
        assert_eq!(other.join().unwrap(), Ok(request * 10));
    }
}

#[test]
fn a_request_never_joins_a_call_that_has_started() {
    let (group, calls, let_go) = gated(10);
    let first = call(&group, 7);
    assert_eq!(calls.recv().unwrap(), [7]);
    let second = call(&group, 7);
    wait_for_slots(&group, 1);
    let_go.send(()).unwrap();
    assert_eq!(calls.recv().unwrap(), [7], "the same question, asked again");
    let_go.send(()).unwrap();
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (Ok(70), Ok(70)));
}

#[test]
fn who_gives_up_while_pending_is_not_started_and_while_running_unknown() {
    let (group, calls, let_go) = gated(10);
    let running = group.clone();
    let running = thread::spawn(move || running.call(1, Instant::now() + Duration::from_millis(300)));
    assert_eq!(calls.recv().unwrap(), [1]);
    let soon = Instant::now() + Duration::from_millis(10);
    assert_eq!(group.call(2, soon), Err(Unanswered::NotStarted));
    assert_eq!(running.join().unwrap(), Err(Unanswered::Unknown));
    let_go.send(()).unwrap();
    assert_eq!(group.shared.lock().pending.len(), 0);
}

#[test]
fn a_stuck_call_does_not_hold_up_the_others() {
    let (group, calls, let_go) = gated(10);
    let stuck = call(&group, 1);
    assert_eq!(calls.recv().unwrap(), [1]);
    let next = call(&group, 2);
    assert_eq!(calls.recv_timeout(LATER).unwrap(), [2], "on a second thread");
    let_go.send(()).unwrap();
    let_go.send(()).unwrap();
    assert_eq!((stuck.join().unwrap(), next.join().unwrap()), (Ok(10), Ok(20)));
    let until = Instant::now() + LATER;
    while group.shared.lock().threads != 1 {
        assert!(Instant::now() < until, "the second thread did not end");
        thread::yield_now();
    }
}

#[test]
fn a_panic_in_a_call_is_unknown_and_the_next_call_works() {
    let rules = Rules { is_same: |_, _| false, weight: |_| 1, full: 1 };
    let run = Box::new(|requests: Vec<u32>, _| {
        assert_ne!(requests, [13]);
        requests
    });
    let group = Group::new("test", false, rules, run);
    assert_eq!(group.call(13, Instant::now() + LATER), Err(Unanswered::Unknown));
    assert_eq!(group.call(14, Instant::now() + LATER), Ok(14));
}

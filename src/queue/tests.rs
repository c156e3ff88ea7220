//! The queue with calls that a test holds back.

mod races;

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::*;
use crate::sync::lock;

/// For what must happen.
const LATER: Duration = Duration::from_secs(20);
/// Without further threads when the machine, and so the test, is slow.
const ONE: Threads = Threads { usual: 1, slow: 1, most: 1 };
const USUAL: Threads = Threads { usual: 1, slow: 4, most: 8 };
const EACH: Threads = Threads { usual: 8, slow: 8, most: 8 };

impl Weigh for u32 {
    fn weight(&self) -> usize {
        1
    }
}

type Answered = Result<u32, Unanswered>;

/// A queue whose calls report what they were asked, and then wait to be let go. Its answers are ten
/// times the requests.
struct Gated<B: Backlog<Request = u32, Answer = u32>> {
    queue: Queue<B>,
    supervisor: Supervisor,
    calls: Receiver<(Vec<u32>, usize)>,
    let_go: Sender<()>,
    answers: Receiver<(u32, Answered)>,
    answered: Sender<(u32, Answered)>,
}

impl<B: Backlog<Request = u32, Answer = u32>> Gated<B> {
    fn new(limits: Threads, backlog: B) -> Self {
        let (report, calls) = mpsc::channel();
        let (let_go, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let supervisor = Supervisor::new();
        let run = move |requests: Vec<u32>, waiting| {
            report.send((requests.clone(), waiting)).unwrap();
            // A test that has ended lets go of all.
            let _ = lock(&gate).recv();
            requests.iter().map(|request| request * 10).collect()
        };
        let queue = Queue::new("test", limits, &supervisor, backlog, run);
        supervisor.start(vec![queue.supervised()]).unwrap();
        let (answered, answers) = mpsc::channel();
        Self { queue, supervisor, calls, let_go, answers, answered }
    }

    fn begin(&self, request: u32) -> Pending {
        let answered = self.answered.clone();
        self.queue.begin(request, move |answer| answered.send((request, answer)).unwrap())
    }

    #[track_caller]
    fn next_call(&self) -> (Vec<u32>, usize) {
        self.calls.recv_timeout(LATER).unwrap()
    }

    #[track_caller]
    fn next_answer(&self) -> (u32, Answered) {
        self.answers.recv_timeout(LATER).unwrap()
    }

    #[track_caller]
    fn assert_no_answer(&self) {
        assert_eq!(self.answers.try_recv().ok(), None);
    }

    #[track_caller]
    fn wait_for_state(&self, what: &str, holds: impl Fn(&State<B>) -> bool) {
        let until = Instant::now() + LATER;
        while !holds(&self.queue.shared.state.lock()) {
            assert!(Instant::now() < until, "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn writes(max_weight: usize) -> Gated<BatchedWrites<u32, u32>> {
    Gated::new(ONE, BatchedWrites::new(max_weight))
}

fn reads(max_per_call: usize) -> Gated<CoalescedReads<u32, u32>> {
    Gated::new(ONE, CoalescedReads::new(max_per_call, true))
}

#[test]
fn pending_writes_share_call_up_to_weight() {
    let test = writes(2);
    let mut pending = vec![test.begin(1)];
    assert_eq!(test.next_call(), (vec![1], 1));
    pending.extend([2, 2, 3].map(|request| test.begin(request)));
    for call in [vec![2, 2], vec![3]] {
        test.let_go.send(()).unwrap();
        let count = call.len();
        assert_eq!(test.next_call(), (call, count));
    }
    test.let_go.send(()).unwrap();
    let answers: Vec<_> = (0..4).map(|_| test.next_answer()).collect();
    assert_eq!(answers, [(1, Ok(10)), (2, Ok(20)), (2, Ok(20)), (3, Ok(30))]);
    drop(pending);
    test.assert_no_answer();
}

#[test]
fn equal_reads_share_answer() {
    let test = reads(2);
    let _pending = [1, 2, 3, 2, 4].map(|request| {
        let pending = test.begin(request);
        if request == 1 {
            assert_eq!(test.next_call(), (vec![1], 1));
        }
        pending
    });
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_call(), (vec![2, 3], 3), "one 2 for both");
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_call(), (vec![4], 1));
    test.let_go.send(()).unwrap();
    let answers: Vec<_> = (0..5).map(|_| test.next_answer()).collect();
    assert_eq!(answers, [(1, Ok(10)), (2, Ok(20)), (2, Ok(20)), (3, Ok(30)), (4, Ok(40))]);
}

#[test]
fn read_never_joins_running_call() {
    let test = reads(10);
    let _first = test.begin(7);
    assert_eq!(test.next_call(), (vec![7], 1));
    let _second = test.begin(7);
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_call(), (vec![7], 1), "asked again");
    test.let_go.send(()).unwrap();
    assert_eq!((test.next_answer(), test.next_answer()), ((7, Ok(70)), (7, Ok(70))));
}

#[test]
fn giving_up_pending_request_cancels_it() {
    let test = writes(10);
    let _running = test.begin(1);
    assert_eq!(test.next_call(), (vec![1], 1));
    let (given_up, _kept, dropped) = (test.begin(2), test.begin(3), test.begin(4));
    given_up.give_up();
    assert_eq!(test.next_answer(), (2, Err(Unanswered::NotStarted)));
    drop(dropped);
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_call(), (vec![3], 1));
    test.let_go.send(()).unwrap();
    assert_eq!((test.next_answer(), test.next_answer()), ((1, Ok(10)), (3, Ok(30))));
    test.wait_for_state("a request is left", |state| {
        state.backlog.waiting() == 0 && state.calls.is_empty()
    });
    test.assert_no_answer();
}

#[test]
fn giving_up_running_request_ignores_its_answer() {
    let test = writes(10);
    let (given_up, dropped) = (test.begin(1), test.begin(2));
    let first = test.next_call().0.len();
    given_up.give_up();
    assert_eq!(test.next_answer(), (1, Err(Unanswered::Unknown)));
    test.let_go.send(()).unwrap();
    if first == 1 {
        assert_eq!(test.next_call(), (vec![2], 1));
        test.let_go.send(()).unwrap();
        assert_eq!(test.next_answer(), (2, Ok(20)));
    }
    drop(dropped);
    test.wait_for_state("a call is left", |state| state.calls.is_empty());
}

#[test]
fn cancelling_one_reader_leaves_the_others() {
    let test = reads(10);
    let _running = test.begin(1);
    assert_eq!(test.next_call(), (vec![1], 1));
    let (first, _second, alone) = (test.begin(2), test.begin(2), test.begin(3));
    first.give_up();
    alone.give_up();
    assert_eq!(test.next_answer(), (2, Err(Unanswered::NotStarted)));
    assert_eq!(test.next_answer(), (3, Err(Unanswered::NotStarted)));
    // A read that everybody has left can be asked for again.
    let _again = test.begin(3);
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_call(), (vec![2, 3], 2));
    test.let_go.send(()).unwrap();
    let answers: Vec<_> = (0..3).map(|_| test.next_answer()).collect();
    assert_eq!(answers, [(1, Ok(10)), (2, Ok(20)), (3, Ok(30))]);
}

#[test]
fn stuck_call_gets_extra_thread_that_ends_again() {
    let test = Gated::new(USUAL, BatchedWrites::new(10));
    let _stuck = test.begin(1);
    assert_eq!(test.next_call(), (vec![1], 1));
    let _next = test.begin(2);
    assert_eq!(test.next_call(), (vec![2], 1), "on a second thread");
    // Then both calls are slow, and whichever returns last must find that the other thread is
    // enough.
    thread::sleep(SLOW_AFTER);
    test.let_go.send(()).unwrap();
    test.let_go.send(()).unwrap();
    let mut answers = [test.next_answer(), test.next_answer()];
    answers.sort_by_key(|(request, _)| *request);
    assert_eq!(answers, [(1, Ok(10)), (2, Ok(20))]);
    test.wait_for_state("the second thread did not end", |state| {
        state.threads == 1 && state.idle == 1
    });
    // Nothing is pending, so the supervisor sleeps, and wakes when it is needed again.
    let _stuck = test.begin(3);
    assert_eq!(test.next_call(), (vec![3], 1));
    let _next = test.begin(4);
    assert_eq!(test.next_call(), (vec![4], 1));
    drop(test.let_go);
}

#[test]
fn stuck_calls_get_as_many_threads_as_there_may_be() {
    let test = Gated::new(USUAL, BatchedWrites::new(1));
    let _stuck: Vec<_> = (0..6).map(|request| test.begin(request)).collect();
    let mut begun: Vec<u32> = (0..USUAL.slow).flat_map(|_| test.next_call().0).collect();
    begun.sort_unstable();
    assert_eq!(begun, [0, 1, 2, 3]);
    assert!(
        test.calls.recv_timeout(SLOW_AFTER * 3).is_err(),
        "no more threads until a call is lost"
    );
    assert_eq!(test.next_call().0, [4], "after {LOST_AFTER:?}");
    drop(test.let_go);
}

#[test]
fn ungrouped_requests_are_calls_of_their_own() {
    let test = Gated::new(EACH, CoalescedReads::new(1, false));
    let _pending = [7, 7, 7].map(|request| test.begin(request));
    let calls: Vec<_> = (0..3).map(|_| test.next_call()).collect();
    assert_eq!(calls, vec![(vec![7], 1); 3]);
    for _ in 0..3 {
        test.let_go.send(()).unwrap();
        assert_eq!(test.next_answer(), (7, Ok(70)));
    }
}

#[test]
fn panics_harm_nobody_else() {
    let supervisor = Supervisor::new();
    let run = |requests: Vec<u32>, _| {
        assert_ne!(requests, [13]);
        requests
    };
    let queue = Queue::new("test", USUAL, &supervisor, BatchedWrites::new(1), run);
    let (answered, answers) = mpsc::channel();
    let in_done = queue.begin(1, |_| panic!("in done"));
    let _pending = [13, 14].map(|request| {
        let answered = answered.clone();
        queue.begin(request, move |answer| answered.send(answer).unwrap())
    });
    assert_eq!(answers.recv_timeout(LATER).unwrap(), Err(Unanswered::Unknown));
    assert_eq!(answers.recv_timeout(LATER).unwrap(), Ok(14));
    in_done.give_up();
    queue.close();
    queue.begin(15, |_| panic!("in done, of a closed queue")).give_up();
}

#[test]
fn closing_makes_pending_calls_and_leaves_stuck_ones() {
    let test = writes(1);
    let _pending = [1, 2, 3].map(|request| test.begin(request));
    assert_eq!(test.next_call().0, [1]);
    test.queue.close();
    let _refused = test.begin(4);
    assert_eq!(test.next_answer(), (4, Err(Unanswered::NotStarted)));
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_call().0, [2]);
    let since = Instant::now();
    test.supervisor.close(since + Duration::from_millis(50));
    assert!(since.elapsed() < LATER / 2);
    test.queue.abandon();
    assert_eq!(test.next_answer(), (1, Ok(10)));
    assert_eq!(test.next_answer(), (3, Err(Unanswered::NotStarted)));
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_answer(), (2, Ok(20)), "still answered, if it comes");
}

#[test]
fn closing_drops_store_though_requests_are_kept() {
    let store = Arc::new(());
    let supervisor = Supervisor::new();
    let held = store.clone();
    let run = move |requests: Vec<u32>, _| {
        let _ = &held;
        requests
    };
    let queue = Queue::new("test", USUAL, &supervisor, BatchedWrites::new(1), run);
    supervisor.start(vec![queue.supervised()]).unwrap();
    let _pending: Vec<_> = (0..10).map(|request| queue.begin(request, |_| ())).collect();
    queue.close();
    supervisor.close(Instant::now() + LATER);
    assert_eq!(Arc::strong_count(&store), 1);
}

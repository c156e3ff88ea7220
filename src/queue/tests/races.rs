use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;

/// Many threads ask, give up and drop at any moment, and each completion is called as often as it
/// should.
fn assert_exactly_once<B: Backlog<Request = u32, Answer = u32>>(limits: Threads, backlog: B) {
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 3000;
    let supervisor = Supervisor::new();
    let queue = Queue::new("test", limits, &supervisor, backlog, |requests: Vec<u32>, _| requests);
    supervisor.start(vec![queue.supervised()]).unwrap();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let queue = &queue;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let request = round % 5;
                    let count = Arc::new(AtomicUsize::new(0));
                    let counted = count.clone();
                    let pending = queue.begin(request, move |answer: Answered| {
                        assert!(answer.is_err() || answer == Ok(request), "{answer:?}");
                        counted.fetch_add(1, SeqCst);
                    });
                    for _ in 0..(round * number) % 64 {
                        std::hint::spin_loop();
                    }
                    let is_dropped = round % 3 == 0;
                    if is_dropped {
                        drop(pending)
                    } else {
                        pending.give_up()
                    }
                    // The last one to hold the count may be just about to call.
                    let until = Instant::now() + LATER;
                    while Arc::strong_count(&count) > 1 {
                        assert!(Instant::now() < until, "a completion is never dropped");
                        thread::yield_now();
                    }
                    let calls = count.load(SeqCst);
                    assert!(calls == 1 || is_dropped && calls == 0, "{calls} calls");
                }
            });
        }
    });
    let state = queue.shared.state.lock();
    assert_eq!(state.backlog.waiting(), 0);
    drop(state);
    queue.close();
    supervisor.close(Instant::now() + LATER);
    let state = queue.shared.state.lock();
    assert_eq!((state.threads, state.idle, state.woken, state.calls.len()), (0, 0, 0, 0));
}

#[test]
fn completion_is_called_exactly_once_in_races() {
    for limits in [USUAL, EACH] {
        assert_exactly_once(limits, BatchedWrites::new(3));
        assert_exactly_once(limits, CoalescedReads::new(2, true));
        assert_exactly_once(limits, CoalescedReads::new(1, false));
    }
}

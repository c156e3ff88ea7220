//! The queue of connections that can go on, short work and long, and what the workers do meanwhile.
//!
//! A worker is driving a connection, polling, or asleep. One worker at a time polls: it waits in
//! epoll, and takes what has come while it was driving the last ones all at once, with no other
//! thread woken for it: waking one for each event costs more than the work on a small request. Only
//! where more comes than it can take, and there are processors for it, is another one woken to
//! poll. An eventfd in epoll tells the one that polls that the queue has grown, where nobody is
//! asleep.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io;

use super::service::Token;
use crate::sync::Monitor;

/// Every so many turns long work goes first, so that short work cannot keep it waiting for ever.
const LONG_FIRST_EVERY: u64 = 8;
/// Short work that one worker does before another is woken for it.
const WORK_FOR_ONE: usize = 16;

pub(super) struct Ready {
    state: Monitor<State>,
    wakeup: OwnedFd,
    workers: usize,
    /// Workers that may do long work at once.
    max_long: usize,
    /// Workers that are awake for what comes from clients: half of the processors, since the
    /// kernel, the database's calls and the database want some as well.
    max_polling: usize,
}

#[derive(Default)]
struct State {
    short: VecDeque<Token>,
    long: VecDeque<Token>,
    /// Workers that do long work now.
    doing_long: usize,
    asleep: usize,
    /// Were asleep, and have been told to look.
    woken: usize,
    /// A worker waits in epoll, or is on its way there.
    is_polled: bool,
    /// It has been told that the queue has grown.
    is_told: bool,
    turns: u64,
    has_ended: bool,
}

/// What a worker does next.
pub(super) enum Task {
    Drive(Turn),
    /// Wait in epoll, and call `polled` when that is over.
    Poll,
    End,
}

/// A connection that can go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn {
    pub(super) token: Token,
    pub(super) is_long: bool,
}

impl Ready {
    pub(super) fn new(workers: usize, processors: usize) -> io::Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let max_long = workers.saturating_sub(2).max(1);
        let max_polling = (processors / 2).max(1);
        Ok(Self { state: Monitor::default(), wakeup, workers, max_long, max_polling })
    }

    pub(super) fn wakeup(&self) -> &OwnedFd {
        &self.wakeup
    }

    pub(super) fn push(&self, turn: Turn) {
        let mut state = self.state.lock();
        if turn.is_long { &mut state.long } else { &mut state.short }.push_back(turn.token);
        // One that is on its way takes this as well.
        if state.woken > 0 && state.short.len() <= WORK_FOR_ONE {
            return;
        }
        if state.asleep > 0 {
            self.wake(&mut state);
        } else if state.is_polled && !state.is_told {
            state.is_told = true;
            drop(state);
            self.interrupt();
        }
    }

    /// Sleeps until there is something to do.
    pub(super) fn next(&self) -> Task {
        let mut state = self.state.lock();
        loop {
            if state.has_ended {
                return Task::End;
            }
            if let Some(turn) = self.pop(&mut state) {
                // Somebody has to look after what comes during long work.
                let needs_help =
                    (turn.is_long && !state.is_polled) || state.short.len() > WORK_FOR_ONE;
                if needs_help && state.woken == 0 && state.asleep > 0 {
                    self.wake(&mut state);
                }
                return Task::Drive(turn);
            }
            if !state.is_polled {
                state.is_polled = true;
                return Task::Poll;
            }
            state.asleep += 1;
            state = self.state.wait_while(state, |state| state.woken == 0 && !state.has_ended);
            // Whoever wakes a worker counts it as woken, whichever that is; the end wakes all of
            // them.
            let counted = if state.woken > 0 { &mut state.woken } else { &mut state.asleep };
            *counted -= 1;
        }
    }

    /// Whether the caller may look into epoll, without waiting there.
    pub(super) fn may_peek(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().is_polled, true)
    }

    /// A worker has come back from epoll; `has_more`: there may be more than it took.
    pub(super) fn polled(&self, has_more: bool) {
        let mut state = self.state.lock();
        state.is_polled = false;
        state.is_told = false;
        let awake = self.workers - state.asleep;
        if has_more && state.asleep > 0 && awake < self.max_polling {
            self.wake(&mut state);
        }
    }

    pub(super) fn end_long(&self) {
        self.state.lock().doing_long -= 1;
    }

    /// Has all workers end when they have done what they are at.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.state.notify_all();
        self.interrupt();
    }

    fn wake(&self, state: &mut State) {
        state.asleep -= 1;
        state.woken += 1;
        self.state.notify_one();
    }

    fn interrupt(&self) {
        // It fails only when it has been written to so often that it is readable anyhow.
        let _ = io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    fn pop(&self, state: &mut State) -> Option<Turn> {
        state.turns += 1;
        let may_take_long = state.doing_long < self.max_long && !state.long.is_empty();
        if may_take_long && (state.short.is_empty() || state.turns.is_multiple_of(LONG_FIRST_EVERY))
        {
            state.doing_long += 1;
            return state.long.pop_front().map(|token| Turn { token, is_long: true });
        }
        state.short.pop_front().map(|token| Turn { token, is_long: false })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    const LATER: Duration = Duration::from_secs(20);

    /// A worker that waits on the eventfd alone, as long as it takes.
    fn work(ready: &Ready, driven: &AtomicUsize) {
        loop {
            match ready.next() {
                Task::Drive(turn) => {
                    driven.fetch_add(1, SeqCst);
                    if turn.is_long {
                        thread::yield_now();
                        ready.end_long();
                    }
                }
                Task::Poll => {
                    let mut descriptors = [PollFd::new(ready.wakeup(), PollFlags::IN)];
                    let _ = poll(&mut descriptors, None);
                    let _ = io::read(ready.wakeup(), &mut [0; 8]);
                    ready.polled(driven.load(SeqCst).is_multiple_of(3));
                }
                Task::End => return,
            }
        }
    }

    #[test]
    fn nothing_that_is_pushed_is_forgotten() {
        const PUSHES: u32 = 20_000;
        let ready = Arc::new(Ready::new(4, 4).unwrap());
        let driven = Arc::new(AtomicUsize::new(0));
        let workers = [(); 4].map(|()| {
            let (ready, driven) = (ready.clone(), driven.clone());
            thread::spawn(move || work(&ready, &driven))
        });
        let pushing = [0, 1].map(|pusher| {
            let ready = ready.clone();
            thread::spawn(move || {
                for place in 0..PUSHES {
                    ready.push(Turn {
                        token: Token { place, generation: pusher },
                        is_long: place % 7 == 0,
                    });
                    // So that the workers fall asleep now and then.
                    if place % 64 == 0 {
                        thread::sleep(Duration::from_micros(50));
                    }
                }
            })
        });
        pushing.into_iter().for_each(|pusher| pusher.join().unwrap());
        let until = Instant::now() + LATER;
        while driven.load(SeqCst) < 2 * PUSHES as usize {
            assert!(
                Instant::now() < until,
                "{} of {} turns were taken",
                driven.load(SeqCst),
                2 * PUSHES
            );
            thread::yield_now();
        }
        ready.end();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(driven.load(SeqCst), 2 * PUSHES as usize);
    }

    #[test]
    fn long_work_leaves_two_workers_to_short_work() {
        let ready = Ready::new(4, 2).unwrap();
        let turn = |place, is_long| Turn { token: Token { place, generation: 0 }, is_long };
        (0..3).for_each(|place| ready.push(turn(place, true)));
        ready.push(turn(3, false));
        let next = || match ready.next() {
            Task::Drive(turn) => Some((turn.token.place, turn.is_long)),
            _ => None,
        };
        assert_eq!(
            [next(), next(), next(), next()],
            [Some((3, false)), Some((0, true)), Some((1, true)), None]
        );
        ready.end_long();
        assert_eq!(next(), Some((2, true)));
    }
}

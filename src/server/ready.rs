//! The queue of connections that can go on, short work and long, and the workers that wait for it. A worker waits in epoll,
//! so that it has one place to wait in: an eventfd there says that the queue has grown.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io;

use super::service::Token;

/// Every so many turns long work goes first, so that short work cannot keep it waiting for ever.
const LONG_FIRST_EVERY: u64 = 8;

pub(super) struct Ready {
    state: Mutex<State>,
    wakeup: OwnedFd,
    /// Workers that may do long work at once.
    max_long: usize,
}

#[derive(Default)]
struct State {
    short: VecDeque<Token>,
    long: VecDeque<Token>,
    /// Workers that do long work now.
    doing_long: usize,
    /// Workers in epoll, or on their way there.
    waiting: usize,
    /// One of them has been told, and has not looked yet.
    is_told: bool,
    turns: u64,
}

/// A connection that can go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn {
    pub(super) token: Token,
    pub(super) is_long: bool,
}

impl Ready {
    pub(super) fn new(workers: usize) -> io::Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let max_long = workers.saturating_sub(2).max(1);
        Ok(Self { state: Mutex::default(), wakeup, max_long })
    }

    pub(super) fn wakeup(&self) -> &OwnedFd {
        &self.wakeup
    }

    pub(super) fn push(&self, turn: Turn) {
        let mut state = self.lock();
        if turn.is_long { &mut state.long } else { &mut state.short }.push_back(turn.token);
        self.tell(&mut state);
    }

    /// The next turn. None: there is nothing to do now, and the caller counts as waiting until `stop_waiting`.
    pub(super) fn pop_or_wait(&self) -> Option<Turn> {
        let mut state = self.lock();
        state.is_told = false;
        let turn = self.pop(&mut state);
        match turn {
            // Where there is more to do than one worker does, it tells the next one.
            Some(_) => self.tell(&mut state),
            None => state.waiting += 1,
        }
        turn
    }

    pub(super) fn stop_waiting(&self) {
        self.lock().waiting -= 1;
    }

    pub(super) fn end_long(&self) {
        self.lock().doing_long -= 1;
    }

    /// Wakes a worker, whether there is something to do or not.
    pub(super) fn interrupt(&self) {
        // It fails only when it has been written to so often that every worker is awake.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    fn pop(&self, state: &mut State) -> Option<Turn> {
        state.turns += 1;
        let may_take_long = state.doing_long < self.max_long && !state.long.is_empty();
        if may_take_long && (state.short.is_empty() || state.turns.is_multiple_of(LONG_FIRST_EVERY)) {
            state.doing_long += 1;
            return state.long.pop_front().map(|token| Turn { token, is_long: true });
        }
        state.short.pop_front().map(|token| Turn { token, is_long: false })
    }

    fn tell(&self, state: &mut State) {
        let has_work = !state.short.is_empty() || (!state.long.is_empty() && state.doing_long < self.max_long);
        if has_work && state.waiting > 0 && !state.is_told {
            state.is_told = true;
            self.interrupt();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections in the order in which they began to wait for something. Most of the time nobody does, which is seen without
/// the lock.
#[derive(Default)]
pub(super) struct Waiters {
    count: AtomicUsize,
    tokens: Mutex<VecDeque<Token>>,
}

impl Waiters {
    pub(super) fn push(&self, token: Token) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push_back(token);
        self.count.store(tokens.len(), Relaxed);
    }

    pub(super) fn pop(&self) -> Option<Token> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let first = tokens.pop_front();
        self.count.store(tokens.len(), Relaxed);
        first
    }
}

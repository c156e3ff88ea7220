//! Lines on their way to standard error. Adding one never waits: where there is no room for it, it
//! is lost and counted.
//!
//! A line is queued, then being written (the writer took all that was queued), then written. One
//! lock.

use std::io::{ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::Monitor;

/// Room for lines, in bytes: some thousands of them, while whoever reads them is held up.
const ROOM: usize = 256 * 1024;
/// What of it the lines of requests may fill. An event finds room though requests do not.
const ROOM_FOR_REQUESTS: usize = ROOM / 4 * 3;
/// How much of its buffers an idle queue keeps, in bytes.
const KEPT: usize = 16 * 1024;
/// How long the writer leaves a standard error alone that somebody has made non-blocking, and that
/// is full.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Queue {
    /// Changes when something was queued, and when all that was taken is written, or lost.
    state: Monitor<State>,
    /// Lines lost since the start.
    lost: AtomicU64,
}

struct State {
    /// Whole lines, one after another.
    queued: Vec<u8>,
    is_writing: bool,
    /// Lines lost since the writer last said so.
    lost: u64,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Monitor::new(State { queued: Vec::new(), is_writing: false, lost: 0 }),
            lost: AtomicU64::new(0),
        }
    }

    pub(super) fn add_request(&self, line: &[u8]) {
        self.add(line, ROOM_FOR_REQUESTS);
    }

    pub(super) fn add_event(&self, line: &[u8]) {
        self.add(line, ROOM);
    }

    /// A line of the writer's own about lines that are missing: there is always room for it, and it
    /// is rare.
    pub(super) fn add_report(&self, line: &[u8]) {
        self.add(line, usize::MAX);
    }

    fn add(&self, line: &[u8], room: usize) {
        let mut state = self.state.lock();
        if state.queued.len() + line.len() > room {
            state.lost += 1;
            drop(state);
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        state.queued.extend_from_slice(line);
        drop(state);
        // Whoever waits for the end of the writing may be waiting beside the writer.
        self.state.notify_all();
    }

    /// Lines lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Waits until there are no lines left to write, or `deadline`.
    pub(super) fn wait_until_written(&self, deadline: Instant) {
        let is_busy = |state: &mut State| state.is_writing || !state.queued.is_empty();
        drop(self.state.wait_while_until(self.state.lock(), deadline, is_busy));
    }

    /// Writes what is queued, or waits for that for as long as `patience`. Returns how many lines
    /// were lost that nobody has been told of, once they can be told. One thread calls this.
    pub(super) fn write_next(&self, out: &mut impl Write, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        let mut state = self
            .state
            .wait_while_until(self.state.lock(), deadline, |state| state.queued.is_empty());
        let mut lines = mem::take(&mut state.queued);
        state.is_writing = true;
        drop(state);
        let lost = write_all(out, &lines);
        self.lost.fetch_add(lost, Relaxed);
        lines.clear();
        lines.shrink_to(KEPT);

        let mut state = self.state.lock();
        state.is_writing = false;
        state.lost += lost;
        // What is queued by now came before the loss, so the report stands where the lines are
        // missing.
        let reported = if lost == 0 { mem::take(&mut state.lost) } else { 0 };
        if state.queued.is_empty() {
            state.queued = lines;
            self.state.notify_all();
        }
        reported
    }
}

/// Writes whole lines, for as long as that takes, and says how many could not be.
fn write_all(out: &mut impl Write, lines: &[u8]) -> u64 {
    let mut rest = lines;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(count) if count > 0 => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            // The disk is full, or whoever read is gone: what comes later may fare better.
            Ok(_) | Err(_) => return rest.iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
    0
}

//! The workers: each takes connections that can go on, from the queue or from epoll, drives one
//! after another, and parks it again.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use super::Shared;
use super::connection::{self, Transport, Wait};
use super::input::Buffer;
use super::places::{Notes, Occupant, Place, Seat};
use super::ready::{Task, Turn};
use super::service::{Token, Waker};

/// What the events of the eventfd and of the listener carry in place of a token.
pub(super) const WAKEUP: u64 = u64::MAX;
pub(super) const NEWCOMERS: u64 = u64::MAX - 1;
/// Events that one worker takes at once. Where there are more, another one may be woken for them.
const EVENTS: usize = 32;
/// Turns of the queue that a worker takes before it looks at epoll again.
const TURNS: usize = 8;
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// How long a connection may go on when others wait for its place.
const SHARED_TURN: Duration = Duration::from_secs(1);
/// What the kernel holds for a client that does not take its answer, in bytes: measured for the
/// socket's buffers as `listener` sets them.
const KERNEL_HOLDS: usize = 32 * 1024;

/// What a worker lends to the connection that it drives.
struct Tools {
    buffer: Option<Buffer>,
    waker: Waker,
}

impl Shared {
    /// One worker, until the server has ended.
    pub(super) fn work(self: Arc<Self>) {
        let nobody = Token { place: u32::MAX, generation: 0 };
        let mut tools = Tools { buffer: None, waker: Waker::new(self.clone(), nobody) };
        let mut turns: usize = 0;
        loop {
            match self.ready.next() {
                Task::Drive(turn) => {
                    self.drive_protected(turn, &mut tools);
                    turns += 1;
                    // What comes from clients must not wait for the end of a queue that others
                    // fill.
                    if turns.is_multiple_of(TURNS) && self.ready.may_peek() {
                        self.poll(Some(NO_TIME), &mut tools);
                    }
                }
                Task::Poll => self.poll(None, &mut tools),
                Task::End => return,
            }
        }
    }

    /// Takes what has come in epoll, and drives those connections.
    fn poll(&self, timeout: Option<Timespec>, tools: &mut Tools) {
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
        let came = epoll::wait(&self.epoll, &mut events, timeout.as_ref());
        let events = came.map_or(&mut [][..], |(events, _)| events);
        self.ready.polled(events.len() == EVENTS);
        for event in events {
            match event.data.u64() {
                WAKEUP => {}
                NEWCOMERS => self.accept(),
                data => {
                    let token = Token { place: (data >> 32) as u32, generation: data as u32 };
                    self.drive_protected(Turn { token, is_long: false }, tools);
                }
            }
        }
    }

    fn drive_protected(&self, turn: Turn, tools: &mut Tools) {
        // The panic was logged by the hook; it costs this connection and nothing else.
        if catch_unwind(AssertUnwindSafe(|| self.drive(turn, tools))).is_err() {
            self.end(turn.token);
        }
        if turn.is_long {
            self.ready.end_long();
        }
    }

    /// Lets a connection do what it can, and parks it.
    fn drive(&self, turn: Turn, tools: &mut Tools) {
        let Some((mut seat, notes)) = self.places.take(turn.token) else { return };
        tools.waker.rename(turn.token);
        let now = Instant::now();
        let newcomers_wait = self.newcomers_wait.load(Relaxed);
        let is_stopping = self.is_stopping.load(Relaxed);
        let has_had_its_turn = now.duration_since(seat.connection.opened()) > SHARED_TURN;
        let wait = seat.connection.drive(
            &mut seat.socket,
            &mut tools.buffer,
            &connection::Turn {
                service: &self.service,
                timeouts: &self.limits.timeouts,
                waker: &tools.waker,
                now,
                close_after_answer: self.is_draining.load(Relaxed)
                    || (newcomers_wait && has_had_its_turn),
                end_if_idle: newcomers_wait || is_stopping,
                end_bodies: self.ends_bodies.load(Relaxed),
                evict: notes.evict,
                is_memory_short: !notes.goes_on && self.memory.is_short(),
                may_take_long: turn.is_long,
            },
        );
        self.park(turn.token, seat, wait, now);
    }

    fn park(&self, token: Token, mut seat: Box<Seat>, wait: Wait, now: Instant) {
        if wait == Wait::Nothing || self.has_ended.load(Relaxed) {
            // Before the place is given away: the next connection must not meet this one's memory
            // or descriptor.
            drop(seat);
            return self.end(token);
        }
        let held = match wait {
            Wait::Writable(_) => seat.connection.held() + KERNEL_HOLDS,
            _ => seat.connection.held(),
        };
        seat.charge.set(held);
        let Some(mut place) = self.places.lock(token) else { return };
        let Place { occupant, notes, .. } = &mut *place;
        // Nor is it judged by the time for which the server has kept it waiting.
        if notes.held == 0 || matches!(wait, Wait::Store(_)) {
            notes.held_since = now;
        }
        notes.held = held + seat.connection.share();
        // What has come of a body that is paused is the kernel's for now: it keeps nobody else
        // waiting.
        notes.in_kernel = if matches!(wait, Wait::Memory(_)) { seat.socket.waiting() } else { 0 };
        notes.to_go = seat.connection.to_go();
        notes.waits_since =
            matches!(wait, Wait::Memory(_)).then(|| notes.waits_since.unwrap_or(now));
        notes.moved = seat.connection.moved();
        notes.idle_since = seat.connection.idle_since();
        let was_woken = matches!(occupant, Occupant::Driven { woken: true });
        let interest = match wait {
            _ if was_woken => None,
            Wait::Readable(_) => Some(EventFlags::IN),
            Wait::Writable(_) => Some(EventFlags::OUT),
            _ => None,
        };
        if let Some(interest) = interest {
            // While the place is locked, so that the event finds the connection in it. An error
            // would mean that the socket is not in the set, where it stays until it is closed.
            let _ = epoll::modify(
                &self.epoll,
                &seat.socket,
                event_data(token),
                interest | EventFlags::ONESHOT,
            );
        }
        match wait {
            Wait::ShortTurn | Wait::LongTurn => *occupant = Occupant::Queued(seat),
            _ if was_woken => *occupant = Occupant::Queued(seat),
            _ => *occupant = Occupant::Parked(seat, wait),
        }
        drop(place);
        match wait {
            Wait::LongTurn => self.ready.push(Turn { token, is_long: true }),
            Wait::ShortTurn => self.ready.push(Turn { token, is_long: false }),
            _ if was_woken => self.ready.push(Turn { token, is_long: false }),
            Wait::Memory(_) => self.memory_is_awaited.store(true, Relaxed),
            _ => {}
        }
        self.tell_of_memory();
    }

    /// Has the sweep look where memory is short, or somebody waits for what may have become free.
    fn tell_of_memory(&self) {
        if self.memory_is_awaited.load(Relaxed) || self.memory.is_short() {
            self.sweep.notify();
        }
    }

    /// Has a parked connection driven soon; `note` what for.
    pub(super) fn queue(&self, token: Token, note: impl FnOnce(&mut Notes)) {
        let Some(mut place) = self.places.lock(token) else { return };
        note(&mut place.notes);
        match std::mem::replace(&mut place.occupant, Occupant::Driven { woken: true }) {
            Occupant::Parked(seat, _) => {
                place.occupant = Occupant::Queued(seat);
                drop(place);
                self.ready.push(Turn { token, is_long: false });
            }
            Occupant::Driven { .. } => {}
            occupant => place.occupant = occupant,
        }
    }

    /// A connection has ended, and its place is free.
    pub(super) fn end(&self, token: Token) {
        self.service.count(-1, 0);
        self.places.release(token);
        self.tell_of_memory();
        if self.newcomers_wait.swap(false, Relaxed) {
            self.await_newcomers();
        }
        if self.is_stopping.load(Relaxed) && self.places.taken() == 0 {
            // With the lock, so that it is not missed between a look and the wait.
            drop(self.all_ended.lock());
            self.all_ended.notify_all();
        }
    }
}

pub(super) fn event_data(token: Token) -> EventData {
    EventData::new_u64(u64::from(token.place) << 32 | u64::from(token.generation))
}

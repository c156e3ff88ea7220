//! New connections: accepted as long as there are places, and given one.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{SocketFlags, accept_with};

use super::connection::{Connection, Wait};
use super::places::{Occupant, Seat};
use super::service::Token;
use super::socket::Socket;
use super::worker::{NEWCOMERS, event_data};
use super::{Shared, listener};
use crate::log;

/// Connections that are accepted in one go.
const MAX_ACCEPTED: usize = 64;

impl Shared {
    /// Has a worker told of the next newcomer.
    pub(super) fn await_newcomers(&self) {
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        let _ = epoll::modify(&self.epoll, &self.listener, EventData::new_u64(NEWCOMERS), flags);
    }

    /// Accepts waiting connections as long as there are places. The others stay in the kernel's
    /// backlog.
    pub(super) fn accept(&self) {
        for _ in 0..MAX_ACCEPTED {
            let Some(token) = self.places.reserve() else {
                if !listener::has_newcomer(&self.listener) {
                    break;
                }
                self.newcomers_wait.store(true, Relaxed);
                self.sweep.notify();
                // A place that became free in between saw nobody waiting.
                if !self.places.is_full() && self.newcomers_wait.swap(false, Relaxed) {
                    self.await_newcomers();
                }
                return;
            };
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(descriptor) => {
                    if self.accept_fails.swap(false, Relaxed) {
                        log::info(format_args!("{}: accepting connections again", self.name));
                    }
                    self.seat(token, Socket::new(descriptor));
                }
                Err(error) => {
                    self.places.release(token);
                    if self.may_go_on_after(error.into()) {
                        continue;
                    }
                    return;
                }
            }
        }
        self.await_newcomers();
    }

    /// Whether another `accept` makes sense at once.
    fn may_go_on_after(&self, error: io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => true,
            io::ErrorKind::WouldBlock => {
                self.await_newcomers();
                false
            }
            _ if self.is_refusing.load(Relaxed) => false,
            // Out of descriptors or memory, most likely. The sweep tries again.
            _ => {
                if !self.accept_fails.swap(true, Relaxed) {
                    log::error(format_args!("{}: cannot accept connections: {error}", self.name));
                }
                false
            }
        }
    }

    /// Gives a new connection its place, where it waits for its first request.
    fn seat(&self, token: Token, socket: Socket) {
        self.service.count(1, 0);
        let now = Instant::now();
        let retires = now + self.age_of(token);
        let seat = Box::new(Seat {
            connection: Connection::new(now, retires),
            socket,
            charge: self.memory.charge(0),
        });
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        let Some(mut place) = self.places.lock(token) else { return };
        if epoll::add(&self.epoll, &seat.socket, event_data(token), flags).is_err() {
            // The system has no memory for it.
            drop((place, seat));
            return self.end(token);
        }
        place.notes.idle_since = Some(now);
        place.occupant = Occupant::Parked(seat, Wait::Readable(now + self.limits.timeouts.idle));
    }

    /// Ages differ by a fifth, so that connections that came together do not go together.
    fn age_of(&self, token: Token) -> Duration {
        let spread =
            token.place.wrapping_mul(7).wrapping_add(token.generation.wrapping_mul(13)) % 21;
        self.limits.timeouts.age * (90 + spread) / 100
    }
}

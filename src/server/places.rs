//! The table of connections. A place is free, or its connection is being driven by a worker,
//! parked, or in the queue of those that can go on.
//!
//! Exactly one thread takes a connection out of its place (`take`), and only that thread may end
//! it. What happens to a connection while it is being driven is noted (`woken`), and it is driven
//! again. A token names a place and the generation of its connection, so that what comes late for
//! one connection never reaches the next.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::connection::{Connection, Wait};
use super::service::Token;
use super::socket::Socket;
use crate::memory::Charge;
use crate::sync::lock;

/// A connection and its socket.
pub(super) struct Seat {
    pub(super) connection: Connection,
    pub(super) socket: Socket,
    pub(super) charge: Charge,
}

/// One place of the table.
pub(super) struct Place {
    generation: u32,
    pub(super) occupant: Occupant,
    /// What the sweep knows of a parked connection without opening it.
    pub(super) notes: Notes,
}

pub(super) enum Occupant {
    None,
    Driven { woken: bool },
    Parked(Box<Seat>, Wait),
    Queued(Box<Seat>),
}

/// Renewed whenever the connection is parked.
#[derive(Clone, Copy)]
pub(super) struct Notes {
    /// Bytes of memory.
    pub(super) held: usize,
    /// Bytes that wait in its socket, where it is paused.
    pub(super) in_kernel: usize,
    /// How many bytes of memory it may take yet.
    pub(super) to_go: usize,
    /// Since when it has held any.
    pub(super) held_since: Instant,
    /// Since when it has waited for memory, if it does.
    pub(super) waits_since: Option<Instant>,
    /// Bytes in both directions, and how many they were at the last two looks of the sweep.
    pub(super) moved: u64,
    pub(super) moved_before: [u64; 2],
    /// Since when it has been idle, if it is.
    pub(super) idle_since: Option<Instant>,
    /// Its memory is needed elsewhere.
    pub(super) evict: bool,
    /// It goes on although memory is short, until it has to wait for its client.
    pub(super) goes_on: bool,
}

pub(super) struct Places {
    places: Box<[Mutex<Place>]>,
    free: Mutex<Vec<u32>>,
    taken: AtomicUsize,
    /// So many of them, from the first on, have ever been taken.
    used: AtomicUsize,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let now = Instant::now();
        let empty = || Place { generation: 0, occupant: Occupant::None, notes: Notes::new(now) };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            places: (0..count).map(|_| Mutex::new(empty())).collect(),
            // The first ones are used first, so that a look at all that were ever used is short.
            free: Mutex::new((0..count).rev().collect()),
            taken: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken() >= self.places.len()
    }

    /// Takes a free place for a connection that is to be parked there.
    pub(super) fn reserve(&self) -> Option<Token> {
        let number = lock(&self.free).pop()?;
        self.taken.fetch_add(1, Relaxed);
        self.used.fetch_max(number as usize + 1, Relaxed);
        let mut place = lock(&self.places[number as usize]);
        place.generation = place.generation.wrapping_add(1);
        place.occupant = Occupant::Driven { woken: false };
        place.notes = Notes::new(Instant::now());
        Some(Token { place: number, generation: place.generation })
    }

    /// Gives back the place of a connection that has ended.
    pub(super) fn release(&self, token: Token) {
        if let Some(mut place) = self.lock(token) {
            place.occupant = Occupant::None;
            place.generation = place.generation.wrapping_add(1);
            drop(place);
            lock(&self.free).push(token.place);
            self.taken.fetch_sub(1, Relaxed);
        }
    }

    /// The place, as long as it is that connection's.
    pub(super) fn lock(&self, token: Token) -> Option<MutexGuard<'_, Place>> {
        let place = lock(self.places.get(token.place as usize)?);
        (place.generation == token.generation).then_some(place)
    }

    /// Takes a connection out to drive it; none if somebody else has it, who will then drive it
    /// once more.
    pub(super) fn take(&self, token: Token) -> Option<(Box<Seat>, Notes)> {
        let mut place = self.lock(token)?;
        match std::mem::replace(&mut place.occupant, Occupant::Driven { woken: true }) {
            Occupant::Parked(seat, _) | Occupant::Queued(seat) => {
                place.occupant = Occupant::Driven { woken: false };
                let notes = place.notes;
                place.notes.evict = false;
                Some((seat, notes))
            }
            Occupant::Driven { .. } => None,
            Occupant::None => {
                place.occupant = Occupant::None;
                None
            }
        }
    }

    /// Ends every connection that nobody drives.
    pub(super) fn clear(&self) {
        for place in &self.places {
            let mut place = lock(place);
            if !matches!(place.occupant, Occupant::Driven { .. }) {
                let occupant = std::mem::replace(&mut place.occupant, Occupant::None);
                drop(place);
                drop(occupant);
            }
        }
    }

    /// Looks at every place that is taken.
    pub(super) fn for_each(&self, mut look: impl FnMut(Token, &mut Place)) {
        for (number, place) in self.places.iter().enumerate().take(self.used.load(Relaxed)) {
            let mut place = lock(place);
            if !matches!(place.occupant, Occupant::None) {
                let token = Token { place: number as u32, generation: place.generation };
                look(token, &mut place);
            }
        }
    }
}

impl Notes {
    fn new(now: Instant) -> Self {
        Self {
            held: 0,
            in_kernel: 0,
            to_go: 0,
            held_since: now,
            waits_since: None,
            moved: 0,
            moved_before: [0; 2],
            idle_since: None,
            evict: false,
            goes_on: false,
        }
    }
}

//! What the process holds because of its clients: bodies that are coming in, answers that are going
//! out. One number with one bound. Counting is all that happens here; what to do about a shortage
//! is the server's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

pub(crate) struct Memory {
    held: AtomicUsize,
    /// In bytes.
    bound: usize,
    evicted: [AtomicU64; EVICTIONS.len()],
}

/// Why a request was given up for the sake of others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Eviction {
    /// It held the most for the least progress.
    Stalled,
    /// It was the largest.
    Flood,
    /// It waited for memory as long as it may.
    Waited,
}

/// As the metrics name them.
const EVICTIONS: [(Eviction, &str); 3] =
    [(Eviction::Stalled, "stalled"), (Eviction::Flood, "flood"), (Eviction::Waited, "waited")];
const _: () = assert!(EVICTIONS.len() == Eviction::Waited as usize + 1);

/// Bytes that count as held until this is dropped.
pub(crate) struct Charge {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(bound: usize) -> Self {
        Self { held: AtomicUsize::new(0), bound, evicted: Default::default() }
    }

    pub(crate) fn count(&self, eviction: Eviction) {
        self.evicted[eviction as usize].fetch_add(1, Relaxed);
    }

    /// How many requests were given up, by the reason.
    pub(crate) fn evicted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        EVICTIONS.iter().zip(&self.evicted).map(|((_, name), count)| (*name, count.load(Relaxed)))
    }

    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.held.fetch_add(bytes, Relaxed);
        Charge { memory: self.clone(), bytes }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// More is held than should be.
    pub(crate) fn is_short(&self) -> bool {
        self.held.load(Relaxed) > self.bound
    }

    /// How many bytes have to be given back until a shortage is over for a while.
    pub(crate) fn shortage(&self) -> usize {
        self.held().saturating_sub(self.bound - self.bound / 8)
    }

    /// How many bytes there are for those who wait: so that they do not wait for each other, an
    /// eighth more than others may have.
    pub(crate) fn room(&self) -> usize {
        (self.bound + self.bound / 8).saturating_sub(self.held())
    }

    /// By how many bytes more is held than there is room for, with those that wait in sockets.
    pub(crate) fn flood(&self, in_kernel: usize) -> usize {
        (self.held() + in_kernel).saturating_sub(self.bound + self.bound / 4)
    }
}

impl Charge {
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.memory.held.fetch_add(bytes.wrapping_sub(self.bytes), Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Relaxed);
    }
}

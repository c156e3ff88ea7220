//! The text format 0.0.4 that Prometheus reads, and the histograms in it.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A page of samples.
pub(super) struct Exposition(pub(super) String);

impl Exposition {
    pub(super) fn describe(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn sample(&mut self, name_and_labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name_and_labels} {value}");
    }
}

/// Counts by upper bound; the last bucket has none.
pub(super) struct Histogram<const BOUNDS: usize> {
    bounds: &'static [u64; BOUNDS],
    buckets: [AtomicU64; BOUNDS],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    pub(super) fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; BOUNDS],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, value: u64) {
        let index = self.bounds.partition_point(|&bound| bound < value);
        self.buckets.get(index).unwrap_or(&self.above).fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// `labels` begins with a comma where it is not empty; values are divided by `unit`.
    pub(super) fn write(&self, page: &mut Exposition, name: &str, labels: &str, unit: f64) {
        let mut count = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            count += bucket.load(Relaxed);
            let bound = *bound as f64 / unit;
            page.sample(&format!("{name}_bucket{{le=\"{bound}\"{labels}}}"), count);
        }
        count += self.above.load(Relaxed);
        page.sample(&format!("{name}_bucket{{le=\"+Inf\"{labels}}}"), count);
        let own = match labels.strip_prefix(',') {
            Some(labels) => format!("{{{labels}}}"),
            None => String::new(),
        };
        page.sample(&format!("{name}_sum{own}"), self.sum.load(Relaxed) as f64 / unit);
        page.sample(&format!("{name}_count{own}"), count);
    }
}

//! What the program counts, and the page that Prometheus reads it from.

mod exposition;
mod requests;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::log;
use crate::memory::Memory;
use exposition::{Exposition, Histogram};
use requests::Requests;
pub(crate) use requests::Route;

/// What a call to the database is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Insert,
    Page,
    Lookup,
    Ping,
}

const CALLS: [(Call, &str); 4] = [
    (Call::Insert, "insert"),
    (Call::Page, "page"),
    (Call::Lookup, "lookup"),
    (Call::Ping, "ping"),
];
const _: () = assert!(CALLS.len() == Call::Ping as usize + 1);
const OUTCOMES: [&str; 2] = ["ok", "error"];
/// Upper bounds of the histograms of how many share one call.
const SHARERS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

pub(crate) struct Metrics {
    started: SystemTime,
    requests: Requests,
    connections: AtomicI64,
    in_flight: AtomicI64,
    documents_per_insert: Histogram<{ SHARERS.len() }>,
    readers_per_query: Histogram<{ SHARERS.len() }>,
    calls: [[AtomicU64; OUTCOMES.len()]; CALLS.len()],
    database_errors: AtomicU64,
    database_connections: AtomicI64,
    database_up: AtomicBool,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: SystemTime::now(),
            requests: Requests::new(),
            connections: AtomicI64::new(0),
            in_flight: AtomicI64::new(0),
            documents_per_insert: Histogram::new(&SHARERS),
            readers_per_query: Histogram::new(&SHARERS),
            calls: [const { [const { AtomicU64::new(0) }; OUTCOMES.len()] }; CALLS.len()],
            database_errors: AtomicU64::new(0),
            database_connections: AtomicI64::new(0),
            database_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn request(&self, route: Route, method: &str, status: u16, took: Duration) {
        self.requests.count(route, method, status, took);
    }

    pub(crate) fn add_connections(&self, change: i64) {
        self.connections.fetch_add(change, Relaxed);
    }

    pub(crate) fn set_database_up(&self, is_up: bool) {
        self.database_up.store(is_up, Relaxed);
    }

    pub(crate) fn add_in_flight(&self, change: i64) {
        self.in_flight.fetch_add(change, Relaxed);
    }

    pub(crate) fn insert_called(&self, documents: usize) {
        self.documents_per_insert.observe(documents as u64);
    }

    pub(crate) fn query_called(&self, readers: usize) {
        self.readers_per_query.observe(readers as u64);
    }

    /// Counts a call by what it came to, and passes that on.
    pub(crate) fn counted<T, E>(&self, call: Call, outcome: Result<T, E>) -> Result<T, E> {
        self.calls[call as usize][usize::from(outcome.is_err())].fetch_add(1, Relaxed);
        outcome
    }

    pub(crate) fn add_database_connections(&self, change: i64) {
        self.database_connections.fetch_add(change, Relaxed);
    }

    pub(crate) fn database_failed(&self) {
        self.database_errors.fetch_add(1, Relaxed);
    }

    /// The page at /metrics.
    pub(crate) fn page(&self, memory: &Memory) -> String {
        let mut page = Exposition(String::with_capacity(8192));
        page.describe("two_tier_build_info", "gauge", "The version of this program.");
        page.sample(
            &format!("two_tier_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")),
            1,
        );
        self.requests.write(&mut page);
        let gauges = [
            ("two_tier_connections", "Open connections.", &self.connections),
            ("two_tier_requests_in_flight", "Requests being answered.", &self.in_flight),
        ];
        for (name, help, value) in gauges {
            page.describe(name, "gauge", help);
            page.sample(name, value.load(Relaxed));
        }
        let name = "two_tier_held_bytes";
        page.describe(
            name,
            "gauge",
            "Memory held for clients: bodies that come in, answers that go out.",
        );
        page.sample(name, memory.held());
        let name = "two_tier_evicted_total";
        page.describe(
            name,
            "counter",
            "Requests and answers given up for want of memory: those that held the most for the least progress, that \
             were the largest, or that waited too long.",
        );
        for (reason, count) in memory.evicted() {
            page.sample(&format!("{name}{{reason=\"{reason}\"}}"), count);
        }
        let name = "two_tier_insert_documents";
        page.describe(name, "histogram", "Documents that one insert command carried.");
        self.documents_per_insert.write(&mut page, name, "", 1.0);
        let name = "two_tier_query_readers";
        page.describe(name, "histogram", "Requests that one query for a page answered.");
        self.readers_per_query.write(&mut page, name, "", 1.0);
        self.write_database(&mut page);
        write_log(&mut page);
        self.write_process(&mut page);
        page.0
    }

    fn write_database(&self, page: &mut Exposition) {
        let name = "two_tier_database_calls_total";
        page.describe(name, "counter", "Calls to the database; many requests can share one.");
        for (call, call_name) in CALLS {
            for (outcome, count) in OUTCOMES.iter().zip(&self.calls[call as usize]) {
                let labels = format!("call=\"{call_name}\",outcome=\"{outcome}\"");
                page.sample(&format!("{name}{{{labels}}}"), count.load(Relaxed));
            }
        }
        let name = "two_tier_database_errors_total";
        page.describe(
            name,
            "counter",
            "Requests that the database failed or did not answer in time.",
        );
        page.sample(name, self.database_errors.load(Relaxed));
        let name = "two_tier_database_up";
        page.describe(
            name,
            "gauge",
            "1 if the database answered when it was last asked, every few seconds; else 0.",
        );
        page.sample(name, u8::from(self.database_up.load(Relaxed)));
        let name = "two_tier_database_connections";
        page.describe(name, "gauge", "Connections to MongoDB that requests can use.");
        page.sample(name, self.database_connections.load(Relaxed));
    }

    /// What every Prometheus client library reports of its process, where Linux says it.
    fn write_process(&self, page: &mut Exposition) {
        if let Ok(started) = self.started.duration_since(UNIX_EPOCH) {
            let name = "process_start_time_seconds";
            page.describe(name, "gauge", "When the process started, in seconds since 1970.");
            page.sample(name, started.as_secs_f64());
        }
        if let Some(bytes) = resident_bytes() {
            let name = "process_resident_memory_bytes";
            page.describe(name, "gauge", "Resident memory.");
            page.sample(name, bytes);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            let name = "process_open_fds";
            page.describe(name, "gauge", "Open file descriptors.");
            page.sample(name, files.count());
        }
    }
}

fn write_log(page: &mut Exposition) {
    let name = "two_tier_log_lines_dropped_total";
    page.describe(
        name,
        "counter",
        "Lines of the log that were not written: too many in a second, or standard error could not \
         be written.",
    );
    let dropped = log::dropped();
    page.sample(&format!("{name}{{reason=\"rate\"}}"), dropped.over_rate);
    page.sample(&format!("{name}{{reason=\"unwritten\"}}"), dropped.unwritten);
}

/// From proc_pid_status(5), which counts in KiB.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

//! Requests by their route, method and status. Whatever these are, a request is counted: what is
//! not listed here is counted as `other`.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::exposition::{Exposition, Histogram};

/// Routes as the metrics name them: few and fixed, whatever clients ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Route {
    Root,
    Data,
    Document,
    Other,
}

const ROUTES: [(Route, &str); 4] = [
    (Route::Root, "/"),
    (Route::Data, "/data"),
    (Route::Document, "/data/{id}"),
    (Route::Other, "other"),
];
// A route without its row would be counted beyond the end.
const _: () = assert!(ROUTES.len() == Route::Other as usize + 1);

impl Route {
    /// The one of this number, which is `route as usize`.
    pub(crate) fn of(number: usize) -> Self {
        let known = ROUTES.iter().find(|(route, _)| *route as usize == number);
        known.map_or(Route::Other, |(route, _)| *route)
    }
}

const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "other"];
/// Statuses by which requests are counted. One that is not here is counted as `other`.
const STATUSES: [u16; 18] =
    [200, 201, 400, 401, 404, 405, 408, 409, 413, 414, 415, 417, 431, 500, 501, 503, 505, 507];
/// Those and `other`.
const STATUS_COUNTS: usize = STATUSES.len() + 1;
/// Upper bounds of the latency histograms, in microseconds.
const LATENCIES: [u64; 11] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

pub(super) struct Requests {
    counts: [[[AtomicU64; STATUS_COUNTS]; METHODS.len()]; ROUTES.len()],
    latencies: [Histogram<{ LATENCIES.len() }>; ROUTES.len()],
}

impl Requests {
    pub(super) fn new() -> Self {
        let counts = |_| array::from_fn(|_| AtomicU64::new(0));
        Self {
            counts: array::from_fn(|_| array::from_fn(counts)),
            latencies: ROUTES.map(|_| Histogram::new(&LATENCIES)),
        }
    }

    pub(super) fn count(&self, route: Route, method: &str, status: u16, took: Duration) {
        let other = METHODS.len() - 1;
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(other);
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        self.counts[route as usize][method][status].fetch_add(1, Relaxed);
        self.latencies[route as usize].observe(took.as_micros() as u64);
    }

    pub(super) fn write(&self, page: &mut Exposition) {
        let name = "two_tier_http_requests_total";
        page.describe(name, "counter", "Requests answered.");
        for (route, route_name) in ROUTES {
            for (method, counts) in METHODS.iter().zip(&self.counts[route as usize]) {
                for (index, count) in counts.iter().enumerate() {
                    let count = count.load(Relaxed);
                    if count > 0 {
                        let status = STATUSES.get(index).map_or("other".into(), u16::to_string);
                        let labels = format!(
                            "route=\"{route_name}\",method=\"{method}\",status=\"{status}\""
                        );
                        page.sample(&format!("{name}{{{labels}}}"), count);
                    }
                }
            }
        }
        let name = "two_tier_http_request_duration_seconds";
        page.describe(
            name,
            "histogram",
            "Time from the end of a request's head to the end of its answer.",
        );
        for (route, route_name) in ROUTES {
            let labels = format!(",route=\"{route_name}\"");
            self.latencies[route as usize].write(page, name, &labels, 1e6);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_counted_somewhere() {
        let requests = Requests::new();
        for status in 100..=999 {
            requests.count(Route::Data, "GET", status, Duration::ZERO);
        }
        let mut page = Exposition(String::new());
        requests.write(&mut page);
        let samples = page.0.lines().filter(|line| line.starts_with("two_tier_http_requests_"));
        let counts: Vec<u64> =
            samples.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (STATUS_COUNTS, 900));
        assert!(page.0.contains("status=\"other\"} 882"), "{}", page.0);
    }

    #[test]
    fn routes_are_found_by_number() {
        for (route, _) in ROUTES {
            assert_eq!(Route::of(route as usize), route);
        }
        assert_eq!(Route::of(ROUTES.len()), Route::Other);
    }
}

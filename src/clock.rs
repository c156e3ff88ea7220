//! The current time as text. A thread formats a second once, and then only counts its milliseconds.

use std::cell::RefCell;

use chrono::{DateTime, SecondsFormat, Utc};

/// One second in the forms it is written in.
struct Second {
    /// Since 1970; none yet where this is `None`.
    number: Option<i64>,
    http_date: String,
    /// RFC 3339 up to the seconds.
    start_of_timestamp: String,
}

impl Second {
    fn of(time: DateTime<Utc>) -> Self {
        let mut start_of_timestamp = time.to_rfc3339_opts(SecondsFormat::Secs, true);
        start_of_timestamp.truncate(start_of_timestamp.len() - "Z".len());
        Self {
            number: Some(time.timestamp()),
            http_date: time.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            start_of_timestamp,
        }
    }
}

thread_local! {
    static SECOND: RefCell<Second> =
        const { RefCell::new(Second { number: None, http_date: String::new(), start_of_timestamp: String::new() }) };
}

/// Calls `action` with the current second and the milliseconds since its start.
fn with_now<T>(action: impl FnOnce(&Second, u32) -> T) -> T {
    let now = Utc::now();
    SECOND.with_borrow_mut(|second| {
        if second.number != Some(now.timestamp()) {
            *second = Second::of(now);
        }
        action(second, now.timestamp_subsec_millis())
    })
}

/// The current time as an HTTP date (RFC 9110, section 5.6.7).
pub(crate) fn http_date() -> String {
    with_now(|second, _| second.http_date.clone())
}

/// The current time in UTC, with milliseconds (RFC 3339).
pub(crate) fn timestamp() -> String {
    with_now(|second, milliseconds| {
        // The digit in front keeps the zeros after it.
        let milliseconds = (1000 + milliseconds).to_string();
        [&second.start_of_timestamp, ".", &milliseconds[1..], "Z"].concat()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_what_chrono_says() {
        for _ in 0..10_000 {
            let (before, text, after) = (Utc::now(), timestamp(), Utc::now());
            let time = DateTime::parse_from_rfc3339(&text).expect("RFC 3339");
            assert_eq!(time.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true), text);
            assert!(
                before.timestamp_millis() <= time.timestamp_millis() && time <= after,
                "{text}"
            );
        }
    }

    #[test]
    fn an_http_date_is_this_second() {
        let before = Utc::now().timestamp();
        let text = http_date();
        let after = Utc::now().timestamp();
        let form = |second| {
            DateTime::from_timestamp(second, 0)
                .map(|time| time.format("%a, %d %b %Y %T GMT").to_string())
        };
        assert!((before..=after).any(|second| form(second).as_deref() == Some(&text)), "{text}");
    }
}

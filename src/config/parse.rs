//! What stands in settings: numbers, times, sizes.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// The longest time: whoever writes more means another unit.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn number<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

pub(super) fn on_or_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// `10` and `10s` are seconds; also `500ms` and `2min`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "min" => 60_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(milliseconds)?);
    (duration <= MAX_DURATION).then_some(duration)
}

/// To a socket, and to a client, no time at all is no limit or no service.
pub(super) fn duration_above_zero(text: &str) -> Option<Duration> {
    duration(text).filter(|duration| !duration.is_zero())
}

/// `65536` is bytes; also `64KiB` and `1MiB`.
pub(super) fn size(text: &str, range: RangeInclusive<usize>) -> Option<usize> {
    let (number, unit) = split_unit(text);
    let bytes: usize = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    let size = number.parse::<usize>().ok()?.checked_mul(bytes)?;
    range.contains(&size).then_some(size)
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

//! Single values as Extended JSON, appended to a buffer without a detour over a `String`.

use bson::spec::BinarySubtype;
use serde::Serialize;

use super::reader::Reader;
use super::{Format, InvalidBson};

/// The first millisecond of the year 10000, which has no RFC 3339 form.
const END_OF_YEAR_9999: i64 = 253_402_300_800_000;
const MILLIS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// Numbers in their shortest form; a double always with a point or an exponent, so that it reads
/// back as a double.
pub(super) fn number(number: impl Serialize, out: &mut Vec<u8>) {
    // Writing a number into a Vec cannot fail.
    let _ = serde_json::to_writer(out, &number);
}

/// The specification wants them in alphabetical order. All real ones are ASCII; sorting would tear
/// anything else apart.
pub(super) fn sort_options(options: &mut [u8]) {
    if options.is_ascii() {
        options.sort_unstable();
    }
}

pub(super) fn wrapped_string(key: &str, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    string(text, out);
    out.push(b'}');
}

pub(super) fn integer(key: &str, value: impl Serialize, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Relaxed => number(value, out),
        Format::Canonical => wrapped_number(key, value, out),
    }
}

fn wrapped_number(key: &str, value: impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    number(value, out);
    out.extend_from_slice(b"\"}");
}

pub(super) fn double(value: f64, format: Format, out: &mut Vec<u8>) {
    if value.is_finite() {
        return match format {
            Format::Relaxed => number(value, out),
            Format::Canonical => wrapped_number("$numberDouble", value, out),
        };
    }
    out.extend_from_slice(if value.is_nan() {
        b"{\"$numberDouble\":\"NaN\"}"
    } else if value > 0.0 {
        b"{\"$numberDouble\":\"Infinity\"}"
    } else {
        b"{\"$numberDouble\":\"-Infinity\"}"
    });
}

pub(super) fn object_id(bytes: [u8; 12], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"$oid\":\"");
    for byte in bytes {
        hex(byte, out);
    }
    out.extend_from_slice(b"\"}");
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

pub(super) fn date(millis: i64, format: Format, out: &mut Vec<u8>) {
    if format == Format::Canonical || !(0..END_OF_YEAR_9999).contains(&millis) {
        out.extend_from_slice(b"{\"$date\":");
        wrapped_number("$numberLong", millis, out);
        return out.push(b'}');
    }
    let (year, month, day) = civil_date(millis / MILLIS_PER_DAY);
    let millis = millis % MILLIS_PER_DAY;
    out.extend_from_slice(b"{\"$date\":\"");
    two_digits(year / 100, out);
    two_digits(year % 100, out);
    for (separator, number) in [
        (b'-', month),
        (b'-', day),
        (b'T', millis / 3_600_000),
        (b':', millis / 60_000 % 60),
        (b':', millis / 1000 % 60),
    ] {
        out.push(separator);
        two_digits(number, out);
    }
    if millis % 1000 != 0 {
        out.extend_from_slice(&[b'.', b'0' + (millis % 1000 / 100) as u8]);
        two_digits(millis % 100, out);
    }
    out.extend_from_slice(b"Z\"}");
}

fn two_digits(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. It counts in years
/// that begin in March, so that the leap day is the last one, and in eras of 400 years, which all
/// have the same number of days.
fn civil_date(days_since_1970: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    const DAYS_FROM_YEAR_0_TO_1970: i64 = 719_468;
    let days = days_since_1970 + DAYS_FROM_YEAR_0_TO_1970;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = days / DAYS_PER_ERA * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

pub(super) fn binary(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), InvalidBson> {
    let length = reader.length()?;
    let subtype = reader.byte()?;
    let mut bytes = reader.take(length)?;
    if subtype == u8::from(BinarySubtype::BinaryOld) {
        // This subtype has the length a second time, inside.
        let mut inner = Reader { bson: bytes, at: 0 };
        let length = inner.length()?;
        bytes = inner.take(length)?;
        if inner.at != inner.bson.len() {
            return reader.expected("an old binary as long as it says inside");
        }
    }
    out.extend_from_slice(b"{\"$binary\":{\"base64\":\"");
    base64(bytes, out);
    out.extend_from_slice(b"\",\"subType\":\"");
    hex(subtype, out);
    out.extend_from_slice(b"\"}}");
    Ok(())
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        let mut digits = [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift & 63) as usize]);
        digits[chunk.len() + 1..].fill(b'=');
        out.extend_from_slice(&digits);
    }
}

/// What stands behind the backslash for each byte that JSON escapes; 0 for the others.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[0x09] = b't';
    escapes[0x0a] = b'n';
    escapes[0x0c] = b'f';
    escapes[0x0d] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

pub(super) fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut written = 0;
    for (at, &byte) in text.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&text[written..at]);
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            out.extend_from_slice(b"00");
            hex(byte, out);
        }
        written = at + 1;
    }
    out.extend_from_slice(&text[written..]);
    out.push(b'"');
}

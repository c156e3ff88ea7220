//! One line an event on standard error, for people (`text`) or for machines (`json`).

use std::fmt::{self, Arguments, Display};
use std::io::Write;
use std::sync::OnceLock;

use crate::clock;
use crate::response::json_string;
use crate::server::service::Exchange;

/// How lines look, and whether each request gets one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Format {
    Text,
    Json,
    /// As text, without the lines of requests.
    Off,
}

static FORMAT: OnceLock<Format> = OnceLock::new();

/// Sets the format, once; before that it is `Text`.
pub(crate) fn set_format(format: Format) {
    let _ = FORMAT.set(format);
}

pub(crate) fn info(message: Arguments) {
    event("info", message);
}

pub(crate) fn warning(message: Arguments) {
    event("warning", message);
}

pub(crate) fn error(message: Arguments) {
    event("error", message);
}

/// Writes the line of one request, at level info.
pub(crate) fn request(exchange: &Exchange) {
    let (method, path) = (exchange.method, path_of(exchange.target));
    let outcome = if exchange.complete { "" } else { " (cut off)" };
    let (status, bytes, id) = (exchange.status, exchange.bytes, exchange.request_id);
    let microseconds = exchange.took.as_micros();
    match format() {
        Format::Off => {}
        Format::Text => line(format_args!(
            "{} info request method={} path={} status={status} bytes={bytes} us={microseconds} id={}{outcome}",
            Time,
            Escaped(method),
            Escaped(path),
            Escaped(id),
        )),
        Format::Json => line(format_args!(
            "{{\"time\":\"{}\",\"level\":\"info\",\"message\":\"request{outcome}\",\"method\":{},\"path\":{},\
             \"status\":{status},\"bytes\":{bytes},\"us\":{microseconds},\"id\":{}}}",
            Time,
            json_string(method),
            json_string(path),
            json_string(id),
        )),
    }
}

/// The target without its query, which is the client's data rather than the request's name.
fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

fn event(level: &str, message: Arguments) {
    match format() {
        Format::Json => line(format_args!(
            "{{\"time\":\"{Time}\",\"level\":\"{level}\",\"message\":{}}}",
            json_string(&message.to_string()),
        )),
        Format::Text | Format::Off => {
            line(format_args!("{Time} {level} {}", Escaped(&message.to_string())));
        }
    }
}

fn format() -> Format {
    *FORMAT.get().unwrap_or(&Format::Text)
}

/// Writes `text` and a newline in one piece, so that lines of several threads never mix.
fn line(text: Arguments) {
    let mut bytes = Vec::with_capacity(256);
    let _ = writeln!(bytes, "{text}");
    // Nobody is left to be told that standard error is gone.
    let _ = std::io::stderr().lock().write_all(&bytes);
}

struct Time;

impl Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&clock::timestamp())
    }
}

/// Text without control characters: a line in the log stays one line, whatever a client sends.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("-");
        }
        for character in self.0.chars() {
            if character.is_control() {
                write!(formatter, "{}", character.escape_default())?;
            } else {
                write!(formatter, "{character}")?;
            }
        }
        Ok(())
    }
}

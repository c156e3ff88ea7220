//! One line per event on standard error, for people (`text`) or for machines (`json`).
//!
//! Nobody waits for the log. Lines go into a bounded queue that a thread of its own writes out
//! (`queue.rs`), and only so many are admitted per second (`rate.rs`); what is lost or left out is
//! counted and said later. What a client chooses is cut to `MAX_CLIENT_TEXT`, so that no client
//! decides how much is written.

mod queue;
mod rate;

use std::borrow::Cow;
use std::fmt::{self, Arguments, Display};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::limit::NamedLimit;
use crate::response::json_string;
use crate::server::service::Exchange;
use queue::Queue;
use rate::Rate;

/// What a client chooses (a method, a path, an id) is cut to so many bytes.
const MAX_CLIENT_TEXT: usize = 256;
/// The text of any other line is cut to so many bytes: the database's words may repeat a client's.
const MAX_MESSAGE: usize = 2048;
/// Stands where text was cut. No method, path or id from a client can contain it, since they are
/// ASCII.
const CUT_MARK: &str = "…";
/// Lines per second that are not about a request. Far more than there are reasons for, unless a
/// client finds one.
const MAX_EVENTS_PER_SECOND: u32 = 100;
/// How long the end of the process waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the writer looks for lines that were left out.
const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// How lines look, and whether each request gets one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Format {
    Text,
    Json,
    /// As text, without the lines of requests.
    Off,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) format: Format,
    /// Lines of requests per second at most.
    pub(crate) max_requests_per_second: NamedLimit<u32>,
}

/// Lines that were never written.
pub(crate) struct Dropped {
    /// More came in a second than may.
    pub(crate) over_rate: u64,
    /// Nobody read standard error, or it could not be written.
    pub(crate) unwritten: u64,
}

struct Log {
    format: Format,
    requests: Rate,
    /// What the limit of `requests` is called.
    requests_limit: &'static str,
    events: Rate,
    queue: Queue,
}

/// Unset until `start`: until then lines are written at once, as text.
static LOG: OnceLock<Log> = OnceLock::new();

/// Starts the thread that writes lines out.
pub(crate) fn start(options: Options) -> io::Result<()> {
    // A descriptor of its own: a write that blocks must not hold the lock of `std::io::stderr`.
    let mut out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let log = LOG.get_or_init(|| Log {
        format: options.format,
        requests: Rate::new(options.max_requests_per_second.value),
        requests_limit: options.max_requests_per_second.name,
        events: Rate::new(MAX_EVENTS_PER_SECOND),
        queue: Queue::new(),
    });
    thread::Builder::new().name("log".to_owned()).spawn(move || log.write_out(&mut out))?;
    Ok(())
}

/// Waits until what was logged is written, but never longer than `FLUSH_TIMEOUT`.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        log.report_left_out();
        log.queue.wait_until_written(Instant::now() + FLUSH_TIMEOUT);
    }
}

pub(crate) fn dropped() -> Dropped {
    LOG.get().map_or(Dropped { over_rate: 0, unwritten: 0 }, |log| Dropped {
        over_rate: log.requests.left_out() + log.events.left_out(),
        unwritten: log.queue.lost(),
    })
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
    let Some(log) = LOG.get() else { return };
    if log.format == Format::Off || !log.requests.admits() {
        return;
    }
    let (method, path, id) =
        (cut(exchange.method), cut(path_of(exchange.target)), cut(exchange.request_id));
    let outcome = if exchange.complete { "" } else { " (cut off)" };
    let (status, bytes, microseconds) =
        (exchange.status, exchange.bytes, exchange.took.as_micros());
    let line = match log.format {
        Format::Json => line(format_args!(
            "{{\"time\":\"{Time}\",\"level\":\"info\",\"message\":\"request{outcome}\",\"method\":{},\"path\":{},\
             \"status\":{status},\"bytes\":{bytes},\"us\":{microseconds},\"id\":{}}}",
            json_string(&method),
            json_string(&path),
            json_string(&id),
        )),
        Format::Text | Format::Off => line(format_args!(
            "{Time} info request method={} path={} status={status} bytes={bytes} us={microseconds} id={}{outcome}",
            Escaped(&method),
            Escaped(&path),
            Escaped(&id),
        )),
    };
    log.queue.add_request(&line);
}

/// The target without its query, which is the client's data rather than the request's name.
fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// At most `MAX_CLIENT_TEXT` bytes of `text`, and a mark if that is not all of it.
fn cut(text: &str) -> Cow<'_, str> {
    cut_to(MAX_CLIENT_TEXT, text)
}

fn cut_to(length: usize, text: &str) -> Cow<'_, str> {
    if text.len() <= length {
        return text.into();
    }
    [&text[..text.floor_char_boundary(length)], CUT_MARK].concat().into()
}

fn event(level: &str, message: Arguments) {
    match LOG.get() {
        Some(log) if log.events.admits() => log.queue.add_event(&log.event_line(level, message)),
        Some(_) => {}
        None => {
            let line = event_line(Format::Text, level, message);
            // Nobody is left to be told that standard error is gone.
            let _ = io::stderr().lock().write_all(&line);
        }
    }
}

impl Log {
    fn event_line(&self, level: &str, message: Arguments) -> Vec<u8> {
        event_line(self.format, level, message)
    }

    /// The writer's thread.
    fn write_out(&self, out: &mut impl Write) {
        let mut reported = Instant::now();
        loop {
            let lost = self.queue.write_next(out, REPORT_PERIOD);
            if lost > 0 {
                let line = self.event_line(
                    "warning",
                    format_args!("{lost} lines of this log were lost here: standard error could not be written"),
                );
                self.queue.add_report(&line);
            }
            if reported.elapsed() >= REPORT_PERIOD {
                self.report_left_out();
                reported = Instant::now();
            }
        }
    }

    /// Says how many lines there would have been, had they been admitted.
    fn report_left_out(&self) {
        for (rate, what, most) in [
            (&self.requests, "requests", self.requests_limit),
            (&self.events, "events", "it takes"),
        ] {
            let count = rate.take_left_out();
            if count > 0 {
                let limit = rate.limit();
                self.queue.add_report(&self.event_line(
                    "warning",
                    format_args!(
                        "{count} lines were left out of this log: more {what} than {most}, \
                         {limit} a second"
                    ),
                ));
            }
        }
    }
}

fn event_line(format: Format, level: &str, message: Arguments) -> Vec<u8> {
    let message = message.to_string();
    let message = cut_to(MAX_MESSAGE, &message);
    match format {
        Format::Json => line(format_args!(
            "{{\"time\":\"{Time}\",\"level\":\"{level}\",\"message\":{}}}",
            json_string(&message)
        )),
        Format::Text | Format::Off => line(format_args!("{Time} {level} {}", Escaped(&message))),
    }
}

fn line(text: Arguments) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    // Writing to a Vec cannot fail.
    let _ = writeln!(bytes, "{text}");
    bytes
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

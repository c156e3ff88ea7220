//! Every setting once: its name, its default, its meaning, and what it takes. `--help` prints the
//! table, and the README repeats it.

use std::path::PathBuf;
use std::time::Duration;

use super::parse;
use super::setting::{Row, SecretSetting, Setting};
use crate::log::Format;

const A_PORT: &str = "a port, a number from 0 to 65535";
const A_TIME: &str = "a time such as 500ms, 10s or 2min";
const A_TIME_ABOVE_ZERO: &str = "a time such as 500ms, 10s or 2min, and not 0";

/// Declares each setting as a constant, named as its variable is, and puts all of them into the
/// table in this order: none can be left out of it.
macro_rules! settings {
    ($($name:ident: $kind:ident $(<$value:ty>)? { $($field:tt)* })*) => {
        $(pub(crate) const $name: $kind $(<$value>)? =
            $kind { name: stringify!($name), $($field)* };)*

        pub(super) const TABLE: &[Row] = &[$($name.row()),*];
    };
}

settings! {
    HOST: Setting<String> {
        default: "127.0.0.1",
        meaning: "address to listen on; :: is every address, IPv4 and IPv6",
        takes: "an address of this machine, such as 127.0.0.1 or ::",
        parse: |text| Some(text.to_owned()),
    }
    PORT: Setting<u16> {
        default: "8080",
        meaning: "port of the application; 0 lets the system choose",
        takes: A_PORT,
        parse: |text| text.parse().ok(),
    }
    OPS_PORT: Setting<u16> {
        default: "9090",
        meaning: "port of /healthz, /readyz and /metrics",
        takes: A_PORT,
        parse: |text| text.parse().ok(),
    }
    MONGODB_URI: SecretSetting {
        file: "MONGODB_URI_FILE",
        meaning: "MongoDB to store documents in, mongodb://USER:PASSWORD@HOST/DATABASE",
        // Whoever connects knows more about it.
        check: |_| Ok(()),
    }
    COLLECTION: Setting<String> {
        default: "data",
        meaning: "collection of that database",
        takes: "the name of a collection",
        parse: |text| Some(text.to_owned()),
    }
    DATA_FILE: Setting<PathBuf> {
        default: "two-tier.redb",
        meaning: "file to store documents in where MONGODB_URI is not set",
        takes: "the path of a file",
        parse: |text| Some(text.into()),
    }
    API_TOKEN: SecretSetting {
        file: "API_TOKEN_FILE",
        meaning: "bearer token that /data asks for; unset, it asks for none",
        // What a header can carry and curl can be given without quoting surprises.
        check: |token| match token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(()),
            false => Err("it has characters other than visible ASCII ones"),
        },
    }
    MAX_CONNECTIONS: Setting<usize> {
        default: "10000",
        meaning: "connections served at once; more wait",
        takes: "a number from 1 to 100000",
        parse: |text| parse::number(text, 1..=100_000),
    }
    MAX_CONNECTION_AGE: Setting<Duration> {
        default: "60s",
        meaning: "time after which a connection ends with its next answer",
        takes: A_TIME_ABOVE_ZERO,
        parse: parse::duration_above_zero,
    }
    MAX_BODY: Setting<usize> {
        default: "1MiB",
        meaning: "longest JSON body; a line of an import may be 10 times as long",
        takes: "a size from 1KiB to 16MiB, such as 65536, 512KiB or 4MiB",
        parse: |text| parse::size(text, 1 << 10..=16 << 20),
    }
    HEAD_TIMEOUT: Setting<Duration> {
        default: "10s",
        meaning: "time for the head of a request to arrive",
        takes: A_TIME_ABOVE_ZERO,
        parse: parse::duration_above_zero,
    }
    BODY_TIMEOUT: Setting<Duration> {
        default: "10s",
        meaning: "longest pause in a body; 1 KiB/s on average",
        takes: A_TIME,
        parse: parse::duration,
    }
    IDLE_TIMEOUT: Setting<Duration> {
        default: "60s",
        meaning: "time that a connection may be silent between requests",
        takes: A_TIME_ABOVE_ZERO,
        parse: parse::duration_above_zero,
    }
    SEND_TIMEOUT: Setting<Duration> {
        default: "2min",
        meaning: "longest pause in taking an answer; 1 KiB/s on average",
        takes: A_TIME_ABOVE_ZERO,
        parse: parse::duration_above_zero,
    }
    SHUTDOWN_DELAY: Setting<Duration> {
        default: "0s",
        meaning: "time from failing /readyz to accepting no more",
        takes: A_TIME,
        parse: parse::duration,
    }
    SHUTDOWN_TIMEOUT: Setting<Duration> {
        default: "30s",
        meaning: "time for requests in progress to finish after that",
        takes: A_TIME,
        parse: parse::duration,
    }
    GROUPING: Setting<bool> {
        default: "on",
        meaning: "on: concurrent calls to the store share one; off: to compare",
        takes: "on or off",
        parse: parse::on_or_off,
    }
    LOG: Setting<Format> {
        default: "text",
        meaning: "text or json: a line a request; off: only other events",
        takes: "text, json or off",
        parse: |text| match text {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            "off" => Some(Format::Off),
            _ => None,
        },
    }
    LOG_RATE: Setting<u32> {
        default: "1000",
        meaning: "lines of requests a second at most; how many are left out is said",
        takes: "a number from 1 to 1000000",
        parse: |text| parse::number(text, 1..=1_000_000),
    }
}

/// A slip of the pen that older deployments have come to depend on.
pub(crate) const OLDER_MONGODB_URI: SecretSetting =
    SecretSetting { name: "MONOGODB_URI", file: "MONOGODB_URI_FILE", ..MONGODB_URI };

//! Settings: each line of the input, NAME=VALUE, is one; NAME_FILE is the content of that file.
//! What cannot be used is one line that names a setting, what is used means what was written, and
//! no secret is in either.
//!
//! Left out, since they would reach beyond the process: a HOST that would be looked up in DNS, and
//! the opening of DATA_FILE. A MONGODB_URI is only read; nothing connects.
#![no_main]

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

use two_tier::fuzzing::{Settings, read_settings, settings_table};

/// Stands in the seeds and in the dictionary, where a secret stands.
const SECRET: &str = "s3cr3tW0rd";

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));
static NAMES: LazyLock<Vec<String>> = LazyLock::new(names);

/// All that the table has, those of files too, and the older name of the URI.
fn names() -> Vec<String> {
    let table = settings_table();
    let mut names = Vec::new();
    for name in table
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .chain(["MONOGODB_URI[_FILE]"])
    {
        match name.strip_suffix("[_FILE]") {
            Some(name) => names.extend([name.to_owned(), format!("{name}_FILE")]),
            None => names.push(name.to_owned()),
        }
    }
    names
}

fuzz_target!(|data: &[u8]| {
    let settings = settings(data);
    set(&settings);
    match read_settings() {
        Ok(read) => {
            check_secrets(&settings, &read);
            check_meaning(&settings, &read);
        }
        Err(error) => check_error(&settings, &error),
    }
});

fn settings(data: &[u8]) -> BTreeMap<&str, &[u8]> {
    let mut settings = BTreeMap::new();
    for line in data.split(|&byte| byte == b'\n') {
        let Some(equals) = line.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (name, value) = (&line[..equals], &line[equals + 1..]);
        let Some(name) = NAMES.iter().find(|known| known.as_bytes() == name) else {
            continue;
        };
        let is_lookup = name == "HOST" && !is_address(value);
        if !value.contains(&0) && !is_lookup {
            settings.insert(name.as_str(), value);
        }
    }
    settings
}

fn is_address(host: &[u8]) -> bool {
    let text = str::from_utf8(host);
    text.is_err() || text.is_ok_and(|text| text.is_empty() || text.parse::<IpAddr>().is_ok())
}

/// In the environment of this process, which has one thread that reads it.
fn set(settings: &BTreeMap<&str, &[u8]>) {
    for name in NAMES.iter() {
        let value = settings.get(name.as_str());
        if let (Some(content), true) = (value, name.ends_with("_FILE") && name != "DATA_FILE") {
            let path = DIRECTORY.path().join(name);
            fs::write(&path, content).expect("a file");
            unsafe { env::set_var(name, path) };
        } else if let Some(value) = value {
            unsafe { env::set_var(name, OsStr::from_bytes(value)) };
        } else {
            unsafe { env::remove_var(name) };
        }
    }
}

fn check_secrets(settings: &BTreeMap<&str, &[u8]>, read: &Settings) {
    assert!(is_told(settings) || !read.debug.contains(SECRET));
    if let Some(mongodb) = &read.mongodb
        && has_secret_password(mongodb.uri.as_bytes())
    {
        // The location names the collection too.
        let is_told = mongodb.collection.contains(SECRET);
        assert!(is_told || !mongodb.location.contains(SECRET), "{}", mongodb.location);
    }
}

/// Whether the URI has the secret where its password is, and nowhere else.
fn has_secret_password(uri: &[u8]) -> bool {
    let text = String::from_utf8_lossy(uri);
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let Some((user_information, servers)) = rest.rsplit_once('@') else {
        return false;
    };
    user_information.split_once(':').is_some_and(|(user, password)| {
        password.contains(SECRET)
            && ![scheme, user, servers].iter().any(|part| part.contains(SECRET))
    })
}

fn check_error(settings: &BTreeMap<&str, &[u8]>, line: &str) {
    let named = line.strip_prefix("two-tier: ").and_then(|rest| rest.split_once(": "));
    let (name, problem) = named.unwrap_or_else(|| panic!("{line:?} names nothing"));
    assert!(NAMES.iter().any(|known| known == name), "{line:?} names no setting");
    assert!(!problem.is_empty() && !line.contains(char::is_control), "{line:?} is not one line");
    let is_secret = settings.iter().any(|(name, value)| match *name {
        "API_TOKEN" | "API_TOKEN_FILE" => {
            value.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
        }
        name if name.contains("GODB_URI") => has_secret_password(value),
        _ => false,
    });
    assert!(!is_secret || is_told(settings) || !line.contains(SECRET), "{line:?} tells the secret");
}

/// Whether a setting that is no secret has the same text.
fn is_told(settings: &BTreeMap<&str, &[u8]>) -> bool {
    settings.iter().any(|(name, value)| {
        !name.contains("GODB_URI")
            && !name.contains("TOKEN")
            && String::from_utf8_lossy(value).contains(SECRET)
    })
}

fn check_meaning(settings: &BTreeMap<&str, &[u8]>, read: &Settings) {
    for (name, value) in settings {
        let is_secret = name.starts_with("API_TOKEN") || name.starts_with("MONGODB_URI");
        assert!(!is_secret || !value.is_empty(), "{name} is set but empty, and was taken");
    }
    let text = |name: &str| {
        let value = settings.get(name).filter(|value| !value.is_empty())?;
        Some(str::from_utf8(value).expect("what is no text is refused"))
    };
    for (name, duration) in read.durations {
        if let Some(text) = text(name) {
            let milliseconds =
                quantity(text, &[("ms", 1), ("min", 60_000), ("s", 1000), ("", 1000)]);
            assert_eq!(Duration::from_millis(milliseconds), duration, "{name}={text:?}");
        }
    }
    if let Some(text) = text("MAX_BODY") {
        assert_eq!(
            quantity(text, &[("KiB", 1024), ("MiB", 1024 * 1024), ("", 1)]),
            read.max_body as u64
        );
    }
    if let Some(text) = text("MAX_CONNECTIONS") {
        assert_eq!(
            text.trim_start_matches('+').trim_start_matches('0'),
            read.connections.to_string()
        );
    }
    if let Some(text) = text("LOG_RATE") {
        assert_eq!(text.trim_start_matches('+').trim_start_matches('0'), read.log_rate.to_string());
    }
    for (name, address) in [("PORT", read.address), ("OPS_PORT", read.ops_address)] {
        if let Some(text) = text(name) {
            assert_eq!(text.parse(), Ok(address.port()), "{name}={text:?}");
        }
    }
    if let Some(host) = text("HOST") {
        assert_eq!(host.parse(), Ok(read.address.ip()));
    }
    if let Some(on_or_off) = text("GROUPING") {
        assert_eq!(on_or_off == "on", read.grouping);
    }
    if let (Some(token), Some(given)) = (&read.api_token, text("API_TOKEN")) {
        assert_eq!(token, given);
    }
    if let Some(given) = text("MONGODB_URI") {
        let mongodb = read.mongodb.as_ref().expect("the URI is used");
        assert_eq!(mongodb.uri, given);
    }
}

/// `5min` by units of which none is the end of one before it.
fn quantity(text: &str, units: &[(&str, u64)]) -> u64 {
    let (number, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or_else(|| panic!("{text:?} has no unit"));
    number.trim_end().parse::<u64>().unwrap_or_else(|_| panic!("{text:?} has no number")) * unit
}

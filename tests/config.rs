//! The settings and the command line: what cannot be used ends the process with exit 2 and one line
//! that names it.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use support::{Connection, Directory, Server, run, two_tier};

const A_PORT: &str = "a port, a number from 0 to 65535";
const A_TIME: &str = "a time such as 500ms, 10s or 2min";
const A_SIZE: &str = "a size from 1KiB to 16MiB";

/// Values that each setting does not take, and what the line says that it takes.
const BAD: &[(&str, &[&str], &str)] = &[
    ("HOST", &["not a host", "127.0.0.1:80", "256.1.1.1"], "an address of this machine"),
    ("PORT", &["65536", "-1", "http", "80 ", "8080tcp"], A_PORT),
    ("OPS_PORT", &["65536", "-1", "http"], A_PORT),
    ("MAX_CONNECTIONS", &["0", "-1", "many", "100001", "1e3", "5.0"], "a number from 1 to 100000"),
    ("MAX_CONNECTION_AGE", &["0", "-1s", "1d", "25000min"], A_TIME),
    (
        "MAX_BODY",
        &["0", "1023", "17MiB", "1MB", "1GiB", "-1", "big", "1.5MiB", "99999999999999999999"],
        A_SIZE,
    ),
    (
        "HEAD_TIMEOUT",
        &[
            "0",
            "0s",
            "0ms",
            "-1",
            "10 seconds",
            "1h",
            "1.5s",
            "soon",
            "25000min",
            "99999999999999999999",
        ],
        A_TIME,
    ),
    ("BODY_TIMEOUT", &["-1s", "1d", "25000min"], A_TIME),
    ("IDLE_TIMEOUT", &["0", "-1s", "1d", "25000min"], A_TIME),
    // 0 would be none at all to a socket.
    ("SEND_TIMEOUT", &["0", "-1s", "1d", "25000min"], A_TIME),
    ("SHUTDOWN_DELAY", &["-1s", "1d", "25000min"], A_TIME),
    ("SHUTDOWN_TIMEOUT", &["-1s", "1d", "25000min"], A_TIME),
    ("GROUPING", &["yes", "ON", "1", "true"], "on or off"),
    ("LOG", &["JSON", "yaml", "debug", "1"], "text, json or off"),
    ("LOG_RATE", &["0", "-1", "1000001", "many", "1e3"], "a number from 1 to 1000000"),
    ("API_TOKEN", &["two words", "ümlaut", "a\nb", " "], "visible ASCII"),
    (
        "MONGODB_URI",
        &["localhost", "http://localhost/test", "mongodb://", "mongodb://localhost"],
        "mongodb://",
    ),
];

/// Settings that are secrets, which an empty value does not unset.
const SECRETS: [&str; 2] = ["API_TOKEN", "MONGODB_URI"];

/// Settings whose values are names, which have tests of their own or take anything.
const NAMES: [&str; 2] = ["COLLECTION", "DATA_FILE"];

/// The program with these settings, in a directory of its own; PORT and OPS_PORT are the system's
/// choice.
fn start_with(directory: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = two_tier();
    command
        .current_dir(directory)
        .envs([("PORT", "0"), ("OPS_PORT", "0")])
        .envs(settings.iter().copied());
    command
}

/// Checks that the program ended for its settings, and returns the line that it left without its
/// name.
#[track_caller]
fn refusal(output: &Output) -> String {
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), &*stdout), (Some(2), ""), "{stderr}");
    assert_eq!((stderr.lines().count(), stderr.ends_with('\n')), (1, true), "{stderr}");
    stderr.trim_end().strip_prefix("two-tier: ").unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

#[track_caller]
fn refusal_with(settings: &[(&str, &str)]) -> String {
    let directory = Directory::new();
    let line = refusal(&run(start_with(directory.path(), settings)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a file was left behind");
    line
}

#[test]
fn start_fails_on_invalid_value() {
    for (name, values, takes) in BAD {
        for value in *values {
            let line = refusal_with(&[(name, value)]);
            assert!(
                line.starts_with(&format!("{name}: ")) && line.contains(takes),
                "{name}={value:?}: {line}"
            );
        }
    }
}

#[test]
fn start_fails_on_non_utf8_value() {
    let directory = Directory::new();
    for name in ["PORT", "API_TOKEN", "DATA_FILE"] {
        let mut command = start_with(directory.path(), &[]);
        command.env(name, OsStr::from_bytes(b"\xff"));
        let line = refusal(&run(command));
        assert!(line.starts_with(&format!("{name}: ")) && line.contains("UTF-8"), "{line}");
    }
}

#[test]
fn every_setting_has_test_values() {
    let tested: BTreeSet<String> =
        BAD.iter().map(|(name, ..)| name).chain(&NAMES).map(|name| (*name).into()).collect();
    let named =
        help_rows().into_iter().map(|[name, ..]| name.trim_end_matches("[_FILE]").to_owned());
    assert_eq!(named.collect::<BTreeSet<_>>(), tested);
}

#[test]
fn empty_value_means_default() {
    let is_left_out = |name: &str| name.ends_with("PORT") || SECRETS.contains(&name);
    let empty = BAD.iter().map(|(name, ..)| (*name, "")).filter(|(name, _)| !is_left_out(name));
    let server = Server::start(&empty.collect::<Vec<_>>());
    assert_eq!(server.get("/data").status, 200);
    assert!(server.address.ip().is_loopback());
}

#[test]
fn start_fails_on_empty_secret() {
    for name in ["API_TOKEN", "API_TOKEN_FILE", "MONGODB_URI", "MONGODB_URI_FILE", "MONOGODB_URI"] {
        let line = refusal_with(&[(name, "")]);
        assert!(line.starts_with(&format!("{name}: ")) && line.contains("empty"), "{line}");
    }
    // Nor does the empty one give way to the file, or to the older name.
    let line = refusal_with(&[("API_TOKEN", ""), ("API_TOKEN_FILE", "/dev/null")]);
    assert!(line.starts_with("API_TOKEN: "), "{line}");
    let line = refusal_with(&[("MONGODB_URI", ""), ("MONOGODB_URI", "mongodb://localhost/test")]);
    assert!(line.starts_with("MONGODB_URI: "), "{line}");
}

#[test]
fn settings_take_times_and_sizes_with_units() {
    for (name, value) in [
        ("HEAD_TIMEOUT", "10"),
        ("HEAD_TIMEOUT", "1500ms"),
        ("IDLE_TIMEOUT", "2min"),
        ("BODY_TIMEOUT", "24 s"),
    ] {
        assert_eq!(Server::start(&[(name, value)]).get("/").status, 200, "{name}={value}");
    }
    for (value, bytes) in [("1024", 1024), ("2KiB", 2048), ("1MiB", 1 << 20)] {
        let server = Server::start(&[("MAX_BODY", value)]);
        let body = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert_eq!(server.post(&body(bytes)).status, 201, "{value}");
        assert_eq!(server.post(&body(bytes + 1)).status, 413, "{value}");
    }
}

#[test]
fn start_fails_on_taken_port() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for name in ["PORT", "OPS_PORT"] {
        let line = refusal_with(&[(name, &port)]);
        assert!(
            line.starts_with(&format!("{name}: "))
                && line.contains(&port)
                && line.contains("in use"),
            "{line}"
        );
    }
}

#[test]
fn start_fails_on_foreign_address() {
    // Reserved for documentation (RFC 5737).
    let line = refusal_with(&[("HOST", "192.0.2.1")]);
    assert!(line.starts_with("HOST: ") && line.contains("192.0.2.1"), "{line}");
}

#[test]
fn start_fails_on_unwritable_directory() {
    let directory = Directory::new();
    fs::create_dir(directory.join("folder")).unwrap();
    // Not even root can make a file in /proc.
    for path in [
        "nowhere/two-tier.redb",
        "folder",
        "/proc/two-tier.redb",
        "/dev/null",
        "line\nbreak/two-tier.redb",
    ] {
        let line = refusal(&run(start_with(directory.path(), &[("DATA_FILE", path)])));
        let shown = path.replace('\n', "\\n");
        assert!(line.starts_with("DATA_FILE: ") && line.contains(&shown), "{path}: {line}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn start_fails_on_file_in_use() {
    let server = Server::start(&[]);
    assert_eq!(server.post("{\"_id\":1}").status, 201);
    let directory = server.directory();
    symlink(directory.join("two-tier.redb"), directory.join("link.redb")).unwrap();
    for path in ["two-tier.redb", "./two-tier.redb", "link.redb"] {
        let line = refusal(&run(start_with(directory.path(), &[("DATA_FILE", path)])));
        assert!(
            line.starts_with("DATA_FILE: ")
                && line.contains(path)
                && line.contains("another process"),
            "{line}"
        );
    }
    assert_eq!(server.post("{\"_id\":2}").status, 201);
    let (_, directory) = server.terminate();
    assert_eq!(Server::start_in(directory, &[]).get("/data").text(), "[{\"_id\":1},{\"_id\":2}]\n");
}

#[test]
fn start_leaves_foreign_file_untouched() {
    let directory = Directory::new();
    let noise = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    for (name, content) in [
        ("letter", b"Dear Ada,\n".to_vec()),
        ("byte", vec![b'r']),
        ("zeros", vec![0; 100_000]),
        ("noise", noise.collect()),
        ("sqlite", [b"SQLite format 3\0".as_slice(), &[0; 4080]].concat()),
        ("magic", [b"redb\x1a\x0a\xa9\x0d\x0a".as_slice(), &[0xff; 10_000]].concat()),
    ] {
        fs::write(directory.join(name), content).unwrap();
        assert_untouched(&directory, name);
    }

    let other = redb::Database::create(directory.join("other")).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction
        .open_table(redb::TableDefinition::<&str, u64>::new("other"))
        .unwrap()
        .insert("a", 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(other);
    assert_untouched(&directory, "other");
}

#[test]
fn start_leaves_damaged_file_untouched() {
    let server = Server::start(&[]);
    let documents: String =
        (0..5000).map(|n| format!("{{\"_id\":{n},\"text\":\"{n:0100}\"}}\n")).collect();
    assert_eq!(server.import(&documents).status, 201);
    let (_, directory) = server.terminate();
    let whole = fs::read(directory.join("two-tier.redb")).unwrap();
    for (name, length) in
        [("header", 100), ("page", 4096), ("half", whole.len() / 2), ("end", whole.len() - 4096)]
    {
        fs::write(directory.join(name), &whole[..length]).unwrap();
        assert_untouched(&directory, name);
    }
    for (name, damaged) in [("magic", 0..9), ("head", 0..320), ("begin", 0..4096)] {
        let mut content = whole.clone();
        content[damaged].fill(0x55);
        fs::write(directory.join(name), content).unwrap();
        assert_untouched(&directory, name);
    }
}

#[track_caller]
fn assert_untouched(directory: &Directory, name: &str) {
    let path = directory.join(name);
    let content = fs::read(&path).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let files = fs::read_dir(directory.path()).unwrap().count();
    let line = refusal(&run(start_with(directory.path(), &[("DATA_FILE", name)])));
    assert!(line.starts_with("DATA_FILE: ") && line.contains(name), "{name}: {line}");
    assert!(fs::read(&path).unwrap() == content, "{name} was written to");
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified, "{name} was written to");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), files, "a file was left behind");
}

#[test]
fn secret_is_read_from_file_setting() {
    let directory = Directory::new();
    for content in ["open-sesame", "open-sesame\n", "open-sesame\r\n"] {
        fs::write(directory.join("token"), content).unwrap();
        let server =
            Server::start(&[("API_TOKEN_FILE", directory.join("token").to_str().unwrap())]);
        assert_eq!(server.get("/data").status, 401);
        assert_eq!(
            server.request("GET", "/data", &[("Authorization", "Bearer open-sesame")], b"").status,
            200
        );
    }
}

#[test]
fn start_fails_on_bad_secret_unprinted() {
    let directory = Directory::new();
    for (name, content) in [
        ("empty", ""),
        ("newline", "\n"),
        ("two-words", "open sesame"),
        ("binary", "open-sesame\0"),
    ] {
        fs::write(directory.join(name), content).unwrap();
    }
    fs::write(directory.join("bytes"), b"open-sesame\xff").unwrap();
    for (file, says) in [
        ("nowhere", "No such file"),
        (".", "directory"),
        ("line\nbreak", "No such file"),
        ("empty", "empty"),
        ("newline", "empty"),
        ("bytes", "UTF-8"),
        ("two-words", "visible ASCII"),
        ("binary", "visible ASCII"),
    ] {
        let line = refusal(&run(start_with(directory.path(), &[("API_TOKEN_FILE", file)])));
        assert!(line.starts_with("API_TOKEN") && line.contains(says), "{file}: {line}");
        assert!(!line.contains("sesame"), "{line}");
    }
    for (name, value) in [
        ("API_TOKEN", "open sesame"),
        ("MONGODB_URI", "mongodb://ada:open-sesame@"),
        ("MONGODB_URI", "mongodb://ada:100%€open-sesame@localhost/test"),
        ("MONGODB_URI", "open-sesame"),
    ] {
        let line = refusal_with(&[(name, value)]);
        assert!(line.starts_with(&format!("{name}: ")) && !line.contains("sesame"), "{line}");
    }
    let both = [("API_TOKEN", "open-sesame"), ("API_TOKEN_FILE", "two-words")];
    let line = refusal(&run(start_with(directory.path(), &both)));
    assert!(
        line.starts_with("API_TOKEN: ")
            && line.contains("API_TOKEN_FILE")
            && !line.contains("sesame"),
        "{line}"
    );
}

#[test]
fn start_logs_address_store_and_example() {
    let server = Server::start(&[("DATA_FILE", "documents.redb")]);
    let log = server.log();
    let [line] = log.as_slice() else { panic!("{log:#?}") };
    let address = server.address;
    for part in [
        format!("http://{address}"),
        format!("http://{}", server.ops_address),
        "documents.redb".into(),
        format!("curl http://{address}/"),
    ] {
        assert!(line.contains(&part), "{part} is not in {line}");
    }
}

#[test]
fn start_warns_of_placeholder_password() {
    for name in ["MONGODB_URI", "MONOGODB_URI"] {
        let server = Server::start(&[(name, "mongodb://ada:change-me-soon@127.0.0.1:1/test")]);
        let line = server.wait_for_line("placeholder");
        assert!(line.contains(name) && !line.contains("change-me"), "{line}");
    }
}

#[test]
fn server_listens_on_ipv6_and_wildcard() {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let welcome =
        |address: SocketAddr| Connection::open(address).request("GET", "/", &[], b"").status;
    let server = Server::start(&[("HOST", "::")]);
    assert_eq!(welcome((Ipv4Addr::LOCALHOST, server.address.port()).into()), 200);
    if has_ipv6 {
        assert_eq!(welcome((Ipv6Addr::LOCALHOST, server.address.port()).into()), 200);
        let server = Server::start(&[("HOST", "::1")]);
        assert_eq!(
            (server.address.ip(), welcome(server.address)),
            (Ipv6Addr::LOCALHOST.into(), 200)
        );
    }
    let server = Server::start(&[("HOST", "localhost")]);
    assert_eq!(welcome(server.address), 200);
}

#[test]
fn store_opens_at_data_file() {
    let directory = Arc::new(Directory::new());
    let path = directory.join("a name with spaces.db");
    let server = Server::start_in(directory.clone(), &[("DATA_FILE", path.to_str().unwrap())]);
    assert_eq!(server.post("{}").status, 201);
    assert!(fs::metadata(path).unwrap().len() > 0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn version_names_program_and_commit() {
    for argument in ["--version", "-V"] {
        let mut command = two_tier();
        command.arg(argument);
        let output = run(command);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
        let version =
            text.strip_prefix(concat!("two-tier ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
        assert!(version.len() > ")\n".len() && version.ends_with(")\n"), "{text}");
    }
}

#[test]
fn unknown_arguments_list_known_ones() {
    let unknown: [&[&[u8]]; 6] = [
        &[b"serve"],
        &[b"--Help"],
        &[b""],
        &[b"--version", b"--help"],
        &[b"healthcheck", b"now"],
        &[b"\xff"],
    ];
    for arguments in unknown {
        let mut command = two_tier();
        command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
        let line = refusal(&run(command));
        for known in ["--help", "--version", "healthcheck"] {
            assert!(line.contains(known), "{line}");
        }
    }
}

/// The table of settings in --help: name, default and meaning of each.
fn help_rows() -> Vec<[String; 3]> {
    let mut command = two_tier();
    command.arg("--help");
    let output = run(command);
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let (_, table) = help.split_once("\n\nSettings ").unwrap();
    let (_, table) = table.split_once("\n\n").unwrap();
    let rows = table.lines().map(|line| {
        let (name, rest) = line.trim_start().split_once(' ').unwrap();
        let (default, meaning) = rest.trim_start().split_once(' ').unwrap();
        [name, default, meaning.trim_start()].map(str::to_owned)
    });
    rows.collect()
}

#[test]
fn help_fits_terminal_and_lists_settings() {
    let rows = help_rows();
    assert!(rows.len() >= 15 && rows[0][0] == "HOST", "{rows:?}");
    let mut command = two_tier();
    command.arg("-h");
    let help = String::from_utf8(run(command).stdout).unwrap();
    for line in help.lines() {
        assert!(line.chars().count() <= 105, "{line}");
    }
}

#[test]
fn readme_has_settings_table_of_help() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| {
        let cells = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|');
        let cells: Vec<String> =
            cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        <[String; 3]>::try_from(cells).ok()
    });
    let is_setting = |row: &[String; 3]| {
        let name = row[0].trim_end_matches("[_FILE]");
        name != "NAME"
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    assert_eq!(rows.filter(is_setting).collect::<Vec<_>>(), help_rows());
}

//! What the driver's errors mean: what to tell the client, and whether something may have been
//! stored.
//!
//! A command that was never sent (`attempts` is 0) has stored nothing, whatever the error. One that
//! was sent has stored nothing only if the server's answer to it says so. Everything else is
//! `Unknown`. So these are the errors of an insert:
//!
//! | Error | Where it comes from | Sent |
//! |---|---|---|
//! | `ServerSelection`, `DnsResolve` | no server was found | never, or before, with another error |
//! | `Authentication` | the login on a new connection | never |
//! | `Io` | connecting; sending; waiting for the answer | by `attempts` |
//! | `ConnectionPoolCleared` | waiting for a connection; the monitor gave up on the server in the middle of a command | by `attempts` |
//! | `InvalidResponse`, `InvalidArgument`, `Bson`, `Internal` | a greeting, or an answer, that is none | by `attempts` |
//! | `Command` | the server's answer, to the greeting or to the command | by `attempts`, then by its code |
//! | `InsertMany` | the server's answer, document by document | yes |
//! | `IncompatibleServer`, `InvalidTlsConfig`, `SessionsNotSupported`, others | the driver refuses to go on | by `attempts` |

use std::sync::Mutex;

use mongodb::error::{
    CommandError, Error, ErrorKind, IndexedWriteError, NO_WRITES_PERFORMED, RETRYABLE_ERROR,
    RETRYABLE_WRITE_ERROR, SYSTEM_OVERLOADED_ERROR, WriteConcernError,
};
use mongodb::options::ConnectionString;

use crate::db::{Refusal, StoreError, StoreErrorKind as Kind};
use crate::sync::lock;

/// Server errors by their code.
/// <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>
pub(super) mod code {
    pub(super) const UNAUTHORIZED: i32 = 13;
    pub(super) const AUTHENTICATION_FAILED: i32 = 18;
    pub(in super::super) const DUPLICATE_KEY: i32 = 11000;
    pub(super) const OUT_OF_DISK_SPACE: i32 = 14031;
    pub(super) const DOCUMENT_VALIDATION_FAILURE: i32 = 121;
    /// The server is not the one that takes writes (any more), and has not carried the command out.
    pub(super) const NOT_PRIMARY: [i32; 4] = [10107, 13435, 13436, 10058];
    /// The server, or one that it had to ask, stopped or gave up in the middle of it; it may work
    /// later. HostUnreachable, HostNotFound, LockTimeout, CursorNotFound, LockBusy,
    /// MaxTimeMSExpired, NetworkTimeout, ShutdownInProgress, WriteConflict,
    /// FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet, StaleEpoch,
    /// QueryPlanKilled, PrimarySteppedDown, NetworkInterfaceExceededTimeLimit, CursorKilled,
    /// SnapshotUnavailable, ExceededTimeLimit, PooledConnectionsDropped, TemporarilyUnavailable,
    /// SocketException, InterruptedAtShutdown, Interrupted, InterruptedDueToReplStateChange,
    /// StaleConfig.
    pub(super) const TRANSIENT: [i32; 25] = [
        6, 7, 24, 43, 46, 50, 89, 91, 112, 133, 134, 150, 175, 189, 202, 237, 246, 262, 317, 365,
        9001, 11600, 11601, 11602, 13388,
    ];
    /// What is wrong with the document itself: BadValue, InvalidBSON, DollarPrefixedFieldName,
    /// InvalidIdField, EmptyFieldName, DottedFieldName, CannotIndexParallelArrays,
    /// BSONObjectTooLarge, and keys that an index of the collection cannot take (two for places on
    /// earth, two that are too long).
    pub(super) const BAD_DOCUMENT: [i32; 12] =
        [2, 22, 52, 53, 56, 57, 171, 10334, 16755, 16766, 17280, 17282];
}

/// Turns errors into words without any password that this program was given.
#[derive(Default)]
pub(super) struct Failure {
    /// As they stand in a URI, and as they are meant; the driver may have either.
    passwords: Mutex<Vec<String>>,
}

/// Whether an error says that the server does not let this user do it.
pub(super) fn is_about_user(code: i32) -> bool {
    code == code::UNAUTHORIZED || code == code::AUTHENTICATION_FAILED
}

impl Failure {
    pub(super) fn redact_password_of(&self, uri: &str) {
        lock(&self.passwords).extend(passwords(uri));
    }

    /// What is wrong with a URI. The driver quotes what it cannot read, which may be a part of the
    /// password; so its words count only if they are about what comes after the servers.
    pub(super) fn uri_problem(&self, uri: &str) -> String {
        let Some((scheme, rest)) = uri.split_once("://") else {
            return "it is not a MongoDB URI, such as mongodb://USER:PASSWORD@HOST/DATABASE"
                .to_owned();
        };
        let servers = rest.rsplit_once('@').map_or(rest, |(_, servers)| servers);
        let options = servers.find(['/', '?']).map_or("", |index| &servers[index..]);
        match ConnectionString::parse(format!("{scheme}://localhost{options}")) {
            Err(error) => format!(
                "it is not a MongoDB URI, such as mongodb://USER:PASSWORD@HOST/DATABASE: {}",
                self.words(&error)
            ),
            Ok(_) => "its user, password or host cannot be read; it is mongodb://USER:PASSWORD@HOST/DATABASE, and in \
                      USER and PASSWORD each of : / ? # [ ] @ % has to be percent-encoded, as %40 for @"
                .to_owned(),
        }
    }

    pub(super) fn classify_read(&self, error: &Error) -> StoreError {
        let error = self.explain(error);
        match error.kind() {
            Kind::Unknown => error.with_kind(Kind::Unavailable),
            _ => error,
        }
    }

    /// `attempts`: how many times the command may have been sent.
    pub(super) fn classify_write(&self, error: &Error, attempts: u32) -> StoreError {
        let explained = self.explain(error);
        match (attempts, &*error.kind, explained.kind()) {
            (0, _, Kind::Unknown) => explained.with_kind(Kind::Unavailable),
            (0, _, _) | (1, ErrorKind::Command(_), _) => explained,
            // It is about the last command, and says nothing of those before.
            _ => explained.with_kind(Kind::Unknown),
        }
    }

    /// The documents are on the primary, but not where the write concern wants them.
    pub(super) fn classify_write_concern(&self, error: &WriteConcernError) -> StoreError {
        let text =
            "MongoDB stored it on one server, but did not confirm that it is safe on the others.";
        StoreError::new(Kind::Unknown, text).with_cause(self.hide(&error.message))
    }

    /// Of a document that the server has refused, other than as a duplicate.
    pub(super) fn classify_document(&self, error: &IndexedWriteError, attempts: u32) -> Refusal {
        let words = self.hide(error.message.trim_end_matches('.'));
        match error.code {
            code::DOCUMENT_VALIDATION_FAILURE => {
                Refusal::Unsupported("The collection's schema forbids it.".to_owned())
            }
            code if code::BAD_DOCUMENT.contains(&code) => {
                Refusal::Unsupported(format!("MongoDB refused it: {words}."))
            }
            code => {
                let refused = classify_code(code, error.code_name.as_deref(), words);
                // An earlier command may have been luckier.
                let is_certain = attempts <= 1;
                Refusal::Failed(if is_certain { refused } else { refused.with_kind(Kind::Unknown) })
            }
        }
    }

    /// Of a duplicate that may be the document itself, where that cannot be read.
    pub(super) fn unknown_duplicate(&self, error: &Error) -> StoreError {
        self.explain(error).with_kind(Kind::Unknown)
    }

    /// As `unknown_duplicate`, where it is not there for all to see.
    pub(super) fn unconfirmed_duplicate(&self) -> StoreError {
        StoreError::new(Kind::Unknown, "The connection to MongoDB broke, and it was sent again.")
    }

    pub(super) fn senseless(&self, words: &str) -> StoreError {
        StoreError::new(Kind::Unknown, "MongoDB's answer makes no sense.")
            .with_cause(self.hide(words))
    }

    /// As of a command that was sent.
    fn explain(&self, error: &Error) -> StoreError {
        let words = self.words(error);
        match &*error.kind {
            ErrorKind::ServerSelection { .. }
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::Authentication { .. }
                if words.contains("SCRAM failure") =>
            {
                refused_login(words)
            }
            ErrorKind::Authentication { .. } => refused_login(words),
            ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => {
                StoreError::new(Kind::Unavailable, "MongoDB cannot be reached.").with_cause(words)
            }
            ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::Io(_) => {
                StoreError::new(Kind::Unknown, "The connection to MongoDB broke.").with_cause(words)
            }
            // Garbage for a length comes as an invalid argument; nothing of ours can be one.
            ErrorKind::InvalidResponse { .. }
            | ErrorKind::InvalidArgument { .. }
            | ErrorKind::Bson(_)
            | ErrorKind::Internal { .. } => self.senseless(&words),
            ErrorKind::Command(command) => classify_command(command, error, words),
            _ => StoreError::new(Kind::Failed, "MongoDB cannot be used.").with_cause(words),
        }
    }

    /// The error in a few words. The driver's own text for a server that is not there describes the
    /// whole topology; the reason stands at the end of it.
    fn words(&self, error: &Error) -> String {
        let text = match &*error.kind {
            ErrorKind::ServerSelection { message, .. } => {
                reason(message, "Error: Kind: ").to_owned()
            }
            ErrorKind::ConnectionPoolCleared { message, .. } => {
                reason(message, "failed with: Kind: ").to_owned()
            }
            ErrorKind::Command(command) => command.message.clone(),
            kind => kind.to_string(),
        };
        self.hide(text.trim_end_matches('.'))
    }

    fn hide(&self, text: &str) -> String {
        let passwords = lock(&self.passwords);
        passwords.iter().fold(text.to_owned(), |text, password| text.replace(password, "***"))
    }
}

fn refused_login(words: String) -> StoreError {
    StoreError::new(Kind::Unavailable, "MongoDB refused this server's user or password.")
        .with_cause(words)
}

/// Of a whole command that the server has refused.
fn classify_command(command: &CommandError, error: &Error, words: String) -> StoreError {
    let is_overloaded = error.contains_label(SYSTEM_OVERLOADED_ERROR);
    let may_work_later = is_overloaded
        || error.contains_label(RETRYABLE_WRITE_ERROR)
        || error.contains_label(RETRYABLE_ERROR);
    let name = Some(command.code_name.as_str()).filter(|name| !name.is_empty());
    let explained = classify_code(command.code, name, words);
    match explained.kind() {
        // A server that is overloaded turns commands away before it begins with them.
        Kind::Unknown if is_overloaded || error.contains_label(NO_WRITES_PERFORMED) => {
            explained.with_kind(Kind::Unavailable)
        }
        Kind::Failed if is_overloaded => explained.with_kind(Kind::Unavailable),
        Kind::Failed if may_work_later => explained.with_kind(Kind::Unknown),
        _ => explained,
    }
}

/// By the code, which is all that a client is told of the server's words: these may name servers.
fn classify_code(code: i32, name: Option<&str>, words: String) -> StoreError {
    if code == code::AUTHENTICATION_FAILED {
        return refused_login(words);
    }
    let (kind, text) = match code {
        code::UNAUTHORIZED => (
            Kind::Failed,
            "MongoDB does not allow it to this server's user, who needs the role readWrite",
        ),
        code::OUT_OF_DISK_SPACE => (Kind::Full, "MongoDB has no room"),
        code if code::NOT_PRIMARY.contains(&code) => {
            (Kind::Unavailable, "MongoDB has no primary just now")
        }
        code if code::TRANSIENT.contains(&code) => (Kind::Unknown, "MongoDB broke it off"),
        _ => (Kind::Failed, "MongoDB refused it"),
    };
    let name = name.map(|name| format!(", {name}")).unwrap_or_default();
    StoreError::new(kind, format!("{text} (error {code}{name}).")).with_cause(words)
}

/// Whether the server does not know a type that a query names.
pub(super) fn is_unknown_type(error: &Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Command(command) if command.message.starts_with("Unknown type name alias: ")
    )
}

/// The last error that a message of the driver's tells of, after `mark`.
fn reason<'a>(message: &'a str, mark: &str) -> &'a str {
    let Some((_, reason)) = message.rsplit_once(mark) else {
        return message.split(" Topology:").next().unwrap_or(message);
    };
    reason.split(", labels:").next().unwrap_or(reason)
}

/// The password of a URI in all its forms, found without a parser: the URI may be one that cannot
/// be parsed.
fn passwords(uri: &str) -> Vec<String> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let Some((_, rest)) = rest.split_once(':') else {
        return Vec::new();
    };
    // Each @ may be the one that ends it: it may have one that is not encoded, and so may the
    // options.
    let candidates = rest.match_indices('@').map(|(end, _)| &rest[..end]);
    let forms = candidates
        .flat_map(|raw| [raw.to_owned(), crate::percent::decode(raw).unwrap_or_default()]);
    forms.filter(|form| !form.is_empty()).collect()
}

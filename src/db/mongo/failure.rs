//! What the driver's errors mean for a client: what to tell it, and whether something may have been stored.

use mongodb::error::{Error, ErrorKind, IndexedWriteError, WriteConcernError};
use mongodb::options::ConnectionString;

use crate::db::{Refusal, StoreError};

/// Server errors by their code.
/// <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>
mod code {
    pub(super) const UNAUTHORIZED: i32 = 13;
    pub(super) const AUTHENTICATION_FAILED: i32 = 18;
    pub(super) const DUPLICATE_KEY: i32 = 11000;
    pub(super) const OUT_OF_DISK_SPACE: i32 = 14031;
    pub(super) const DOCUMENT_VALIDATION_FAILURE: i32 = 121;
    /// The server is not the one that takes writes (any more), and has not carried the command out.
    pub(super) const NOT_PRIMARY: [i32; 4] = [10107, 13435, 13436, 10058];
    /// The server stopped or stepped down while it was at it.
    pub(super) const INTERRUPTED: [i32; 5] = [91, 189, 11600, 11602, 50];
}

/// Turns errors into words without the password of the URI in them.
pub(super) struct Failure {
    /// As it stands in the URI, and as it is meant; the driver may have either.
    password: Vec<String>,
}

impl Failure {
    pub(super) fn hiding_password_of(uri: &str) -> Self {
        Self { password: passwords(uri) }
    }

    /// What is wrong with a URI. The driver quotes what it cannot read, which may be a part of the password; so its
    /// words count only if they are about what is behind the servers.
    pub(super) fn uri_problem(&self, uri: &str) -> String {
        let Some((scheme, rest)) = uri.split_once("://") else {
            return "it is not a MongoDB URI, such as mongodb://USER:PASSWORD@HOST/DATABASE".to_owned();
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

    pub(super) fn of_read(&self, error: &Error) -> StoreError {
        match self.classify(error) {
            StoreError::Unknown(detail) => StoreError::Unavailable(detail),
            other => other,
        }
    }

    pub(super) fn of_write(&self, error: &Error) -> StoreError {
        self.classify(error)
    }

    /// The documents are on the primary, but not where the write concern wants them.
    pub(super) fn of_write_concern(&self, error: &WriteConcernError) -> StoreError {
        let words = self.hide(&error.message);
        StoreError::Unknown(format!("MongoDB did not confirm the write concern: {words}."))
    }

    pub(super) fn of_document(&self, error: &IndexedWriteError) -> Refusal {
        let words = self.hide(&error.message);
        match error.code {
            code::DUPLICATE_KEY if is_of_id_index(&words) => Refusal::Exists,
            code::DUPLICATE_KEY => Refusal::Conflict(format!("A unique index of the collection forbids it: {words}.")),
            code::OUT_OF_DISK_SPACE => Refusal::Failed(StoreError::Full(format!("MongoDB has no room: {words}."))),
            code::DOCUMENT_VALIDATION_FAILURE => {
                Refusal::Unsupported(format!("The collection's schema forbids it: {words}."))
            }
            _ => Refusal::Unsupported(format!("MongoDB refused it: {words}.")),
        }
    }

    fn classify(&self, error: &Error) -> StoreError {
        let words = self.words(error);
        match &*error.kind {
            ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => {
                StoreError::Unavailable(format!("MongoDB cannot be reached: {words}."))
            }
            // Another request met it first.
            ErrorKind::ConnectionPoolCleared { .. } if !words.contains("SCRAM failure") => {
                StoreError::Unavailable(format!("The connection to MongoDB broke: {words}."))
            }
            ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::Authentication { .. } => {
                StoreError::Unavailable(format!("MongoDB refused this server's user or password: {words}."))
            }
            ErrorKind::Io(_) => StoreError::Unknown(format!("The connection to MongoDB broke: {words}.")),
            // Garbage for a length comes as an invalid argument; nothing of ours can be one.
            ErrorKind::InvalidResponse { .. }
            | ErrorKind::InvalidArgument { .. }
            | ErrorKind::BsonDeserialization(_) => {
                StoreError::Unknown(format!("MongoDB's answer makes no sense: {words}."))
            }
            ErrorKind::Command(command) => match command.code {
                code::AUTHENTICATION_FAILED => {
                    StoreError::Unavailable(format!("MongoDB refused this server's user or password: {words}."))
                }
                code::UNAUTHORIZED => StoreError::Failed(format!(
                    "MongoDB does not allow it to this server's user, who needs the role readWrite: {words}."
                )),
                code::OUT_OF_DISK_SPACE => StoreError::Full(format!("MongoDB has no room: {words}.")),
                code if code::NOT_PRIMARY.contains(&code) => {
                    StoreError::Unavailable(format!("MongoDB has no primary just now: {words}."))
                }
                code if code::INTERRUPTED.contains(&code) => {
                    StoreError::Unknown(format!("MongoDB was stopped in the middle of it: {words}."))
                }
                _ => StoreError::Failed(format!("MongoDB refused it: {words}.")),
            },
            _ => StoreError::Failed(format!("MongoDB failed: {words}.")),
        }
    }

    /// The error in a few words. The driver's own text for a server that is not there describes the whole topology;
    /// the reason stands at the end of it.
    fn words(&self, error: &Error) -> String {
        let text = match &*error.kind {
            ErrorKind::ServerSelection { message, .. } => reason(message, "Error: Kind: ").to_owned(),
            ErrorKind::ConnectionPoolCleared { message, .. } => reason(message, "failed with: Kind: ").to_owned(),
            ErrorKind::Command(command) => command.message.clone(),
            kind => kind.to_string(),
        };
        self.hide(text.trim_end_matches('.'))
    }

    fn hide(&self, text: &str) -> String {
        self.password.iter().fold(text.to_owned(), |text, password| text.replace(password, "***"))
    }
}

/// The type that the server does not know, if that is what its error says.
pub(super) fn unknown_type(error: &Error) -> Option<&str> {
    match &*error.kind {
        ErrorKind::Command(command) => command.message.strip_prefix("Unknown type name alias: "),
        _ => None,
    }
}

/// The last error that a message of the driver's tells of, behind `mark`.
fn reason<'a>(message: &'a str, mark: &str) -> &'a str {
    let Some((_, reason)) = message.rsplit_once(mark) else {
        return message.split(" Topology:").next().unwrap_or(message);
    };
    reason.split(", labels:").next().unwrap_or(reason)
}

/// The password of a URI in all its forms, found without a parser: the URI may be one that cannot be parsed.
fn passwords(uri: &str) -> Vec<String> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let Some((_, rest)) = rest.split_once(':') else {
        return Vec::new();
    };
    // Each @ may be the one that ends it: it may have one that is not encoded, and so may the options.
    let candidates = rest.match_indices('@').map(|(end, _)| &rest[..end]);
    let forms = candidates.flat_map(|raw| [raw.to_owned(), crate::percent::decode(raw).unwrap_or_default()]);
    forms.filter(|form| !form.is_empty()).collect()
}

/// Whether a duplicate key error is about the `_id`, whose index cannot have another name.
fn is_of_id_index(message: &str) -> bool {
    message.contains("index: _id_") || !message.contains("index: ")
}

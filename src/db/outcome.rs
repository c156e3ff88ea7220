//! What becomes of a document and of a call: stored, refused, failed, and why.

use std::error::Error;
use std::fmt;

use crate::document::DocumentId;

/// What became of an insert: of all its documents together, or else of each, in their order. `T`
/// says of a document that is stored under which `_id` it is.
pub(crate) type InsertOutcome<T = DocumentId> = Result<Vec<Result<T, Refusal>>, StoreError>;

/// Why a document was not stored, though others of the same call may have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// Another document has its `_id`.
    Exists(DocumentId),
    /// It breaks a rule of the collection other than that of the `_id`; says which.
    Conflict(String),
    /// The store cannot hold it; says what in it.
    Unsupported(String),
    /// The store failed on it.
    Failed(StoreError),
}

/// Why a call failed. Its `Display` is for the people who run this program, its message alone for
/// clients. It has no `source`: the driver's own errors may quote a password.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoreError {
    kind: StoreErrorKind,
    /// Names no server, port or user.
    message: String,
    /// What the database or its driver said, for the log and the operations port. It may name
    /// servers, but no password.
    cause: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StoreErrorKind {
    /// Nothing was stored, and it may work later.
    Unavailable,
    /// The documents may have been stored or not.
    Unknown,
    /// Nothing was stored, as there is no room.
    Full,
    /// The store cannot hold such a document, nor be asked for one.
    Unsupported,
    /// Waiting does not help.
    Failed,
}

impl StoreError {
    pub(super) fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    pub(super) fn with_cause(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    pub(super) fn with_kind(self, kind: StoreErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// What a client may know.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(formatter, "{} ({cause})", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

impl Error for StoreError {}

//! What becomes of a document and of a call: stored, refused, failed, and why.

use std::fmt;

use bson::oid::ObjectId;

/// Under which `_id` a document was stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stored {
    AsGiven,
    /// A new one, since the one that was generated for it was taken.
    Under(ObjectId),
}

/// Why a document was not stored, though others of the same call may have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// Its `_id` is taken.
    Exists,
    /// It breaks a rule of the collection beside that of the `_id`; says which.
    Conflict(String),
    /// The store cannot hold it; says what in it.
    Unsupported(String),
    /// The store failed, on it or on the whole command.
    Failed(StoreError),
}

/// Why a whole call failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoreError {
    /// Nothing was stored, and it may work later.
    Unavailable(Reason),
    /// The documents may have been stored or not.
    Unknown(Reason),
    /// Nothing was stored, as there is no room.
    Full(Reason),
    /// The store cannot hold such a document, nor be asked for one.
    Unsupported(Reason),
    /// Waiting does not help.
    Failed(Reason),
}

/// What became of a document.
pub(crate) type Outcome = Result<Stored, Refusal>;

/// What became of a command, and of each of its documents.
pub(super) type Answers = Result<Vec<Outcome>, StoreError>;
/// Why a call failed, for clients and for the people who run this.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reason {
    /// Names no server, port or user.
    pub(super) text: String,
    /// What the database or its driver said, for the log and the operations port. It may name
    /// servers, but no password.
    pub(super) cause: Option<String>,
}

impl Reason {
    pub(super) fn with_cause(text: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { text: text.into(), cause: Some(cause.into()) }
    }

    /// What a client may know.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

impl<T: Into<String>> From<T> for Reason {
    fn from(text: T) -> Self {
        Self { text: text.into(), cause: None }
    }
}

impl StoreError {
    pub(super) fn reason(&self) -> &Reason {
        let (Self::Unavailable(reason)
        | Self::Unknown(reason)
        | Self::Full(reason)
        | Self::Unsupported(reason)
        | Self::Failed(reason)) = self;
        reason
    }

    pub(super) fn into_reason(self) -> Reason {
        let (Self::Unavailable(reason)
        | Self::Unknown(reason)
        | Self::Full(reason)
        | Self::Unsupported(reason)
        | Self::Failed(reason)) = self;
        reason
    }
}

impl fmt::Display for StoreError {
    /// For the people who run this, not for clients.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let reason = self.reason();
        match &reason.cause {
            Some(cause) => write!(formatter, "{} ({cause})", reason.text),
            None => formatter.write_str(&reason.text),
        }
    }
}

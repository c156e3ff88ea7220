//! Text that is never printed: a password, a token, a URI that has a password in it.

use std::error::Error;
use std::fmt::{self, Debug, Display};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone)]
pub(crate) struct Secret(String);

/// Why a file has no secret in it.
#[derive(Debug)]
pub(crate) struct ReadError {
    path: PathBuf,
    /// None where the file is empty.
    source: Option<io::Error>,
}

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The content of a file, without the newline at its end.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadError> {
        let error = |source| ReadError { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(|source| error(Some(source)))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(error(None)),
            text => Ok(Self(text.to_owned())),
        }
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match &self.source {
            Some(_) => write!(formatter, "cannot read {}", self.path.display()),
            None => write!(formatter, "{} is empty", self.path.display()),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

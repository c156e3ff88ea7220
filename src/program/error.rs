//! Why the program cannot start.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;

use crate::config::SettingError;

/// A setting cannot be used, or the system refuses something that the program needs.
#[derive(Debug)]
pub enum StartError {
    Setting(SettingError),
    System(SystemError),
}

/// What the system refused, and why.
#[derive(Debug)]
pub struct SystemError {
    problem: String,
    source: io::Error,
}

impl SystemError {
    /// To `map_err` with.
    pub(super) fn new(problem: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { problem: problem.into(), source }
    }
}

impl From<SettingError> for StartError {
    fn from(error: SettingError) -> Self {
        Self::Setting(error)
    }
}

impl From<SystemError> for StartError {
    fn from(error: SystemError) -> Self {
        Self::System(error)
    }
}

impl Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Setting(error) => error.fmt(formatter),
            Self::System(error) => error.fmt(formatter),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Setting(error) => error.source(),
            Self::System(error) => error.source(),
        }
    }
}

impl Display for SystemError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.problem)
    }
}

impl Error for SystemError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

//! A setting: how it is looked up and parsed, and the error that names it.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::PathBuf;

use crate::limit::NamedLimit;
use crate::secret::Secret;

/// Looks a variable of the environment up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A setting whose value anybody may see. One that is set but empty has its default.
pub(crate) struct Setting<T> {
    pub(crate) name: &'static str,
    /// As one would write it.
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
    /// For whoever has written something else.
    pub(super) takes: &'static str,
    pub(super) parse: fn(&str) -> Option<T>,
}

/// A setting that is a secret, in the variable or in the file that the variable `file` names.
///
/// One that is set but empty is a mistake (a variable of a script that was never filled in), and to
/// go on without it would be to leave `/data` open, or to store documents elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretSetting {
    pub(crate) name: &'static str,
    pub(super) file: &'static str,
    pub(super) meaning: &'static str,
    /// The error says what is wrong without repeating any of it.
    pub(super) check: fn(&str) -> Result<(), &'static str>,
}

/// A secret as it was found.
pub(super) struct FoundSecret {
    pub(super) secret: Secret,
    /// The file that it is in, which may have another one later.
    pub(super) file: Option<PathBuf>,
}

/// One line of the table.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Empty where nothing is set unless somebody sets it.
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
    pub(super) is_secret: bool,
}

/// A setting that cannot be used: which one, and what is wrong with it.
#[derive(Debug)]
pub struct SettingError {
    setting: &'static str,
    problem: Box<dyn Error + Send + Sync>,
}

impl<T> Setting<T> {
    pub(super) fn read(&self, lookup: Lookup) -> Result<T, SettingError> {
        let text = look_up(self.name, lookup)?.filter(|text| !text.is_empty());
        let text = text.as_deref().unwrap_or(self.default);
        (self.parse)(text).ok_or_else(|| self.refuse(text))
    }

    /// As `read`, for limits that clients or the log are told of.
    pub(super) fn read_limit(&self, lookup: Lookup) -> Result<NamedLimit<T>, SettingError> {
        Ok(NamedLimit { value: self.read(lookup)?, name: self.name })
    }

    /// It does not take this text.
    pub(super) fn refuse(&self, text: &str) -> SettingError {
        self.error(format!("{text:?} is not {}", self.takes))
    }

    /// It cannot be used for this reason.
    pub(crate) fn error(&self, problem: impl Into<Box<dyn Error + Send + Sync>>) -> SettingError {
        SettingError::new(self.name, problem)
    }

    pub(super) const fn row(&self) -> Row {
        let Self { name, default, meaning, .. } = *self;
        Row { name, default, meaning, is_secret: false }
    }
}

impl SecretSetting {
    pub(super) fn read(&self, lookup: Lookup) -> Result<Option<FoundSecret>, SettingError> {
        let text = look_up_if_filled(self.name, lookup)?;
        let file = look_up_if_filled(self.file, lookup)?.map(PathBuf::from);
        let secret = match (text, &file) {
            (Some(_), Some(_)) => {
                return Err(self.error(format!("{} is set as well; set one of them", self.file)));
            }
            (Some(text), None) => Secret::new(text),
            (None, Some(path)) => {
                Secret::read(path).map_err(|error| SettingError::new(self.file, error))?
            }
            (None, None) => return Ok(None),
        };
        (self.check)(secret.expose()).map_err(|problem| self.error(problem))?;
        Ok(Some(FoundSecret { secret, file }))
    }

    /// It cannot be used for this reason.
    pub(crate) fn error(&self, problem: impl Into<Box<dyn Error + Send + Sync>>) -> SettingError {
        SettingError::new(self.name, problem)
    }

    pub(super) const fn row(&self) -> Row {
        let Self { name, meaning, .. } = *self;
        Row { name, default: "", meaning, is_secret: true }
    }
}

fn look_up(name: &'static str, lookup: Lookup) -> Result<Option<String>, SettingError> {
    let text = lookup(name).map(OsString::into_string).transpose();
    text.map_err(|_| SettingError::new(name, "it is not UTF-8 text"))
}

fn look_up_if_filled(name: &'static str, lookup: Lookup) -> Result<Option<String>, SettingError> {
    match look_up(name, lookup)? {
        Some(text) if text.is_empty() => {
            Err(SettingError::new(name, "it is set, but empty; set it to something or unset it"))
        }
        found => Ok(found),
    }
}

impl SettingError {
    fn new(setting: &'static str, problem: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { setting, problem: problem.into() }
    }
}

impl Display for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}: {}", self.setting, self.problem)
    }
}

impl Error for SettingError {
    /// The problem itself is in the text already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

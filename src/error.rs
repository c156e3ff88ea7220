//! Errors as text. An error's own text does not have that of its source in it (as the standard
//! library asks of `Error::source`); they are put together here, once, for a person.

use std::error::Error;
use std::iter;

use crate::log::Escaped;

/// An error and its sources as one line, whatever is in them.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let errors = iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = errors.map(ToString::to_string).collect();
    Escaped(&texts.join(": ")).to_string()
}

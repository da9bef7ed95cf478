//! `otelbench report`.

use std::path::Path;

use super::{Failure, claims, print, read};
use crate::experiment::scenario::Format;

/// Renders a stored result, or the records of a run that was cut short.
///
/// # Errors
/// When the file is no result of this version.
pub fn run(result: &Path, format: Format) -> Result<(), Failure> {
    let document = read(result)?;
    if document.claims.is_empty() { print(&document, format) } else { claims::show(&document, format) }
}

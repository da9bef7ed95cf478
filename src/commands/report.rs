//! `otelbench report`.

use std::path::Path;

use super::{Failure, print, read};
use crate::scenario::Format;

/// Renders a stored result, or the records of a run that was cut short.
///
/// # Errors
/// When the file is no result of this version.
pub fn run(result: &Path, format: Format) -> Result<(), Failure> {
    print(&read(result)?, format)
}

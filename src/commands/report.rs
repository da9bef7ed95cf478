//! `otelbench report`.

use std::path::Path;

use super::{Failure, print};
use crate::result::Document;
use crate::scenario::Format;

/// Renders a stored result, or the records of a run that was cut short.
///
/// # Errors
/// When the file is no result of this version.
pub fn run(result: &Path, format: Format) -> Result<(), Failure> {
    let document = Document::read(result).map_err(|error| Failure::Usage(error.to_string()))?;
    print(&document, format)
}

//! The hidden `otelbench lane`.

use std::io;

use super::Failure;
use crate::lab::lane::inside;

/// Obeys the parent on stdin until it is told to finish.
///
/// # Errors
/// When a command cannot be carried out; the parent has been told, and stderr repeats it.
pub fn run() -> Result<(), Failure> {
    inside::run(&mut io::stdout().lock()).map_err(|error| Failure::Invalid(format!("lane: {error}")))
}

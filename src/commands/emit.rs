//! The hidden `otelbench emit`.

use std::io;

use super::Failure;
use crate::studies::pipeline::emitter;

/// Makes the spans that the parent orders on stdin.
///
/// # Errors
/// When the order is none, or the answer cannot be written.
pub fn run() -> Result<(), Failure> {
    emitter::run(&mut io::stdout().lock()).map_err(|error| Failure::Invalid(format!("emit: {error}")))
}

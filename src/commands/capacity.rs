//! `otelbench capacity`: as `run`, with a search in the place of slices at one rate.

use std::path::Path;

use super::{Failure, run};
use crate::experiment::scenario::{Scenario, Settings};

/// Searches for the capacities that the file and the flags ask for; the flags win.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(file: Option<&Path>, flags: Settings) -> Result<(), Failure> {
    run::conduct(file, flags, Scenario::of_capacity)
}

//! What the operating system is asked for: cores and processes.

pub mod placement;
pub(crate) mod subprocess;

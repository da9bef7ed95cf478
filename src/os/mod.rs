//! What the operating system is asked for: cores and processes.

pub mod clock;
pub mod cores;
pub(crate) mod subprocess;

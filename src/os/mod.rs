//! The operating system: cores, clocks and processes.

pub mod clock;
pub mod cores;
pub(crate) mod subprocess;

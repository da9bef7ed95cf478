//! Experiments about the experiment and about the telemetry crates.

pub mod claims;
pub mod isolated;
pub mod pipeline;
pub mod probe;
pub mod selftest;

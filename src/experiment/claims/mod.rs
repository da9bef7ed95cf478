//! Claims about the cost of telemetry, as plain data: the published ones, a scenario's own, and the questions that each asks.

pub mod catalogue;
pub mod own;
pub mod question;
pub mod scenarios;

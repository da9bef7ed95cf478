//! The system under test: the order service and its telemetry.

pub mod service;
pub mod telemetry;

//! What is asked for, as plain data: settings and scenario, modes, arrivals, plan, gates. Pure.

pub mod arrivals;
pub mod claims;
pub mod fault;
pub mod gate;
pub mod generator;
pub mod metric;
pub mod mode;
pub mod payload;
pub mod placement;
pub mod plan;
pub mod request_header;
pub mod scenario;
pub mod service;
pub mod slo;
pub mod units;

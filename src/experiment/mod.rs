//! What is asked for, as plain data: settings and scenario, modes, arrivals, plan, gates. Pure.

pub mod arrivals;
pub mod metric;
pub mod mode;
pub mod plan;
pub mod scenario;
pub mod slo;
pub mod units;

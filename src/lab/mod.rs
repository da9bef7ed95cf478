//! What drives an experiment: trials over lanes, and the meters in them.

pub mod certificates;
pub mod lane;
pub mod meter;
pub mod progress;
pub mod trial;
pub mod workload;

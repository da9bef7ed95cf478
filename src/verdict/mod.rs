//! Answers from records: statistics, comparisons, gates, claims. Pure.

pub mod analysis;
pub mod budget;
pub mod capacity;
pub mod claims;
pub mod compare;
pub mod document;
#[cfg(test)]
pub(crate) mod fixture;
pub mod gate;
pub mod repeats;
pub mod stats;
pub mod trend;

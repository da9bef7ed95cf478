//! The data that is stored: records, the result document, the machine it was measured on.

pub mod account;
pub mod claims;
#[cfg(test)]
pub(crate) mod fixture;
pub mod interval;
pub mod isolated;
pub mod load;
pub mod machine;
pub mod pipeline;
pub mod probes;
pub mod received;
pub mod records;
pub mod result;
pub mod selftest;
pub mod step;
pub mod usage;

//! What is stored: records, the result document, the machine it was measured on.

pub mod account;
pub mod interval;
pub mod load;
pub mod machine;
pub mod received;
pub mod records;
pub mod result;
pub mod usage;

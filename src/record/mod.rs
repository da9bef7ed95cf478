//! What is stored: records, the result document, the machine it was measured on.

pub mod machine;
pub mod records;
pub mod result;

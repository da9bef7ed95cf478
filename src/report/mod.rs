//! What a result looks like to people.
//!
//! [`View`] turns a document into words, each number formatted once; a renderer only lays them out.

mod capacity;
pub mod claims;
pub mod compare;
mod ledger;
mod markdown;
pub mod pipeline;
mod probes;
mod selftest;
mod table;
pub mod trend;
mod view;

pub use self::markdown::markdown;
pub use self::probes::{probes_markdown, probes_table};
pub use self::table::table;
pub use self::view::View;

#[cfg(test)]
mod tests;

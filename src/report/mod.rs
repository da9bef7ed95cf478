//! Results as people read them.
//!
//! [`View`] turns a document into words, each number formatted once; a renderer only lays them out.

mod capacity;
mod cells;
pub mod claims;
pub mod compare;
mod costs;
mod ledger;
mod loss;
mod markdown;
pub mod pipeline;
mod probes;
mod selftest;
mod setting;
mod table;
pub mod trend;
mod view;
mod warnings;

pub use self::markdown::markdown;
pub use self::probes::{probes_markdown, probes_table};
pub use self::table::table;
pub use self::view::View;

#[cfg(test)]
mod tests;

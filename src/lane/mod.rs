//! A lane: one freshly launched process that runs one arm.
//!
//! The program launches itself with a hidden subcommand and talks to it in lines of JSON: [`protocol`] is what they say,
//! [`host`] the parent's side, [`inside`] the lane's own. A lane ends when its standard input does, so none outlives a
//! parent that was killed.

pub mod host;
pub mod inside;
pub mod protocol;

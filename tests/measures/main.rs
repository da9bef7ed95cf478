//! Tests that measure: CPU, latency, capacity, and the verdicts that follow from them.
//!
//! Two of them side by side would measure each other, so each takes its turn by [`common::alone`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;

mod builds;
mod capacity;
mod claims;
mod faults;
mod load;
mod pipeline;
mod run;
mod truth;

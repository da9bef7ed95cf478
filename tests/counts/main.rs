//! Tests that count: what was sent, what arrived, what was refused and why.
//!
//! They hold on a machine of any speed and run side by side. What needs a machine to itself is in `tests/measures`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;

mod careless;
mod collector;
mod compare;
mod documents;
mod input;
mod interrupt;
mod isolated;
mod ledger;
mod modes;
mod outage;
mod probe;
mod selftest;
mod serve;
mod sink;
mod totals;

//! What telemetry costs a Rust service, measured so that the number survives scrutiny.
//!
//! # The map of the house
//!
//! Data flows one way, and each stage of that way is a room:
//!
//! ```text
//! experiment → lab → record → verdict → report
//! ```
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`experiment`] | what is asked for, as plain data: scenario, arms, modes, arrivals, plan, gates, claims |
//! | [`lab`] | what drives it: trials over lanes, the meter in each lane, certificates, progress |
//! | [`generator`] | plays arrivals over connections, open loop, and judges itself |
//! | [`sink`] | the OTLP receiver that proves what arrived |
//! | [`sut`] | the system under test: the order service, and the telemetry that a mode installs |
//! | [`record`] | what is stored: one record per slice and lane, and the result document |
//! | [`verdict`] | what the records say: statistics, differences, gates, claims; pure |
//! | [`report`] | how people read it: one view, many formats |
//! | [`studies`] | experiments beside the main one: self-test, probes, isolated costs, pipeline |
//! | [`cli`], [`commands`] | the command line: a file of arguments and a file of code for each subcommand |
//! | [`os`] | what the operating system is asked for: cores, clocks, processes |
//!
//! Generator, sink and system under test do not know each other. Whatever comes after the records works from a file and
//! gives the same answers, bit for bit: `record`, `verdict` and `report` know no runtime and no machinery. Which room may
//! use which is held by `tests/architecture.rs`; `docs/architecture.md` follows a setting through the house.

#![cfg_attr(test, allow(clippy::float_cmp, reason = "tests compare exact values where exactness is the point"))]

pub mod cli;
pub mod commands;
pub mod experiment;
pub mod generator;
pub mod lab;
pub mod os;
pub mod record;
pub mod report;
pub mod sink;
pub mod studies;
pub mod sut;
pub mod verdict;

//! What telemetry costs a Rust service, measured so that the number survives scrutiny.
//!
//! # The map of the house
//!
//! Data flows one way:
//!
//! ```text
//! scenario → plan → trial → records → analysis → view → renderers
//! ```
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`cli`], [`commands`] | the command line, and one file per subcommand |
//! | [`scenario`], [`mode`], [`slo`], [`units`], [`metric`] | what is asked for, as plain data |
//! | [`plan`], [`arrivals`], [`workload`] | which arm plays when, when requests are due, what they hold; pure |
//! | [`budget`] | how many rounds and slices a given time is best spent on; pure |
//! | [`capacity`] | which rate a search for the highest one tries next; pure |
//! | [`placement`] | which cores generator and service run on, and whether they may fall asleep |
//! | [`certificates`] | for mutual TLS between lanes and sink, made for each run |
//! | [`trial`] | drives a plan over lanes and records |
//! | [`lane`] | one freshly launched process per arm and round: the parent's side, and the lane's own |
//! | [`generator`] | plays arrivals over connections, open loop, and judges itself |
//! | [`service`] | the order service that is measured |
//! | [`telemetry`] | the only interpreter of a mode: recorder, subscriber, exporters |
//! | [`slim`] | a tracing layer that writes OTLP itself, and a recorder that keeps handles: the cheap way, for anyone's use |
//! | [`pipeline`] | how many spans a second a batch pipeline takes without loss, in theory and in steps |
//! | [`sink`] | the OTLP receiver that proves what arrived |
//! | [`selftest`] | proof, on the machine at hand, that the numbers can be trusted: what is known must be found |
//! | [`probe`] | pitfalls of the telemetry crates, each shown in a process of its own |
//! | [`isolated`] | what telemetry calls cost by themselves, beside what they cost in place |
//! | [`meter`] | CPU by thread role, allocations, memory |
//! | [`record`], [`result`] | what is stored |
//! | [`claims`] | what is claimed, what is measured for it, and the verdict on it; pure |
//! | [`stats`], [`analysis`] | what it says; pure |
//! | [`compare`], [`gate`] | what two stored results say of each other, and how much worse the second may be; pure |
//! | [`trend`] | where the cost changed in a series of stored results; pure |
//! | [`report`], [`progress`] | how people see it |
//!
//! Generator, service and sink do not know each other, and the meter knows none of them. Whatever comes after the records works from a file and
//! gives the same answers, bit for bit.

#![cfg_attr(test, allow(clippy::float_cmp, reason = "tests compare exact values where exactness is the point"))]

pub mod analysis;
mod apart;
pub mod arrivals;
pub mod budget;
pub mod capacity;
pub mod certificates;
pub mod claims;
pub mod cli;
pub mod commands;
pub mod compare;
#[cfg(test)]
mod fixture;
pub mod gate;
pub mod generator;
pub mod isolated;
pub mod lane;
pub mod machine;
pub mod meter;
pub mod metric;
pub mod mode;
pub mod pipeline;
pub mod placement;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod record;
pub mod report;
pub mod result;
pub mod scenario;
pub mod selftest;
pub mod service;
pub mod sink;
pub mod slim;
pub mod slo;
pub mod stats;
pub mod telemetry;
pub mod trend;
pub mod trial;
pub mod units;
pub mod workload;

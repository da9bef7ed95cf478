//! Proves on this machine that the numbers can be trusted: known effects must be found.
//!
//! A self-test plays scenarios with known effects, through the same plan, lanes, records and analysis as every run: a baseline
//! against itself, CPU time that is burnt on purpose, payments that take a known time, a process that is stopped for a known
//! time, a span that is lost. [`scenarios`] has the scenarios; [`checks`] and [`repeats`] judge the results and are pure.

pub mod checks;
pub mod repeats;
pub mod scenarios;

//! Proof, on the machine at hand, that the numbers can be trusted: what is known must be found.
//!
//! A self-test plays scenarios of which the truth is known, through the very plan, lanes, records and analysis that every run
//! goes through: a baseline against itself, CPU time that is burnt on purpose, payments that take a known time, a process
//! that is stopped for a known time, a span that is lost. [`scenarios`] says what is played, [`checks`] and [`repeats`] judge
//! what came of it and are pure.

pub mod checks;
pub mod repeats;
pub mod scenarios;

use serde::{Deserialize, Serialize};

pub use self::repeats::Repeat;

/// What a self-test found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Selftest {
    /// Each thing that must hold, and whether it does.
    pub checks: Vec<Check>,
    /// Short runs that were asked for beside the checks.
    pub repeats_planned: u32,
    /// Those that were played, each analysed by itself as any run is.
    pub repeats: Vec<Repeat>,
}

impl Selftest {
    /// The names of the checks that fail.
    pub fn failed(&self) -> Vec<&str> {
        self.checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str()).collect()
    }
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// In a word or two.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What must be seen, and how often chance alone denies it.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// What to do where it does not hold.
    pub advice: String,
}

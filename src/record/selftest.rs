//! The findings of a self-test, as stored.

use serde::{Deserialize, Serialize};

use crate::experiment::scenario::Role;
use crate::record::interval::Interval;

/// The findings of a self-test.
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
    /// The expectation, and how often it fails by chance alone.
    pub expected: String,
    /// The observation.
    pub seen: String,
    /// Advice for a failure.
    pub advice: String,
}

/// One short run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Repeat {
    /// Its number, from 1.
    pub number: u32,
    /// Seeds its plan.
    pub seed: u64,
    /// Why it says nothing; absent where it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// Its arms, the baseline first.
    pub arms: Vec<RepeatedArm>,
}

/// One arm of a short run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RepeatedArm {
    /// Its name.
    pub name: String,
    /// Baseline, placebo or treatment.
    pub role: Role,
    /// CPU time that each request burns on purpose, in microseconds.
    pub injected_us: f64,
    /// CPU time per request in each valid round, in microseconds to a tenth of a nanosecond.
    pub cpu_us_per_request: Vec<f64>,
    /// The difference from the baseline, by the analysis of any run; absent for the baseline, and where the run is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<RepeatedDelta>,
}

/// The part of an arm's delta that the self-test judges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RepeatedDelta {
    /// In microseconds per request, at 95 %.
    pub absolute: Interval,
    /// The smallest difference that this run detects with 80 % power, in microseconds per request.
    pub mde_absolute: f64,
    /// Whether there is a difference.
    pub resolved: bool,
}

impl RepeatedDelta {
    /// Whether a cost lies in the interval.
    pub fn holds(&self, us: f64) -> bool {
        self.absolute.low <= us && us <= self.absolute.high
    }
}

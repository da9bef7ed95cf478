//! Records to arms and differences. Pure: the same records give the same answers, bit for bit.
//!
//! Each round gives one value per arm and metric; only these enter the statistics. A slice is not a replicate: slices of
//! one launch share its luck, and treating them as independent gives up to 19 % false alarms at a nominal 5.

mod delta;
mod ledger;
mod rounds;
mod stopping;
mod summary;
mod values;

pub(crate) use self::delta::compared;
pub use self::delta::headline;
pub use self::ledger::telemetry;
pub use self::rounds::VOID_INVALID;
pub use self::stopping::is_decided;
pub use self::values::{Differences, RoundValues, cpu_of_slices};

use crate::experiment::metric::Metric;
use crate::experiment::scenario::Role;
use crate::record::load::{Validity, ValidityLevel};
use crate::record::records::Records;
use crate::record::result::{ArmSummary, Delta, Rounds};

/// Confidence of the intervals of a run whose length was fixed beforehand.
pub const CONFIDENCE: f64 = 0.95;

/// The summary of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Whether the run as a whole can be trusted. No delta is given of an invalid one.
    pub validity: Validity,
    /// Rounds in which every arm played all its slices, and those of them that were void.
    pub rounds: Rounds,
    /// The measurements of each arm, over its valid rounds.
    pub arms: Vec<ArmSummary>,
    /// Each arm against the baseline.
    pub deltas: Vec<Delta>,
}

/// Analyses a run.
pub fn analyse(records: &Records) -> Analysis {
    let scenario = &records.header.scenario;
    let (rounds, mut validity) = rounds::judge(records);
    let valid = rounds::valid(records, &rounds);
    let values = RoundValues::of(records, &valid, &scenario.arm_names());
    let confidence = stopping::confidence(scenario, valid.len() as u32);
    let arms = scenario.arms.iter().map(|arm| summary::summarise(arm, records, &values, &valid)).collect();
    let deltas = if validity.is_invalid() {
        Vec::new()
    } else {
        let pairs = scenario.arms.iter().filter(|arm| arm.role != Role::Baseline);
        pairs
            .filter_map(|arm| Some((&arm.name, &scenario.reference(arm)?.name)))
            .flat_map(|(arm, base)| {
                compared(scenario).map(|metric| delta::compare(metric, arm, base, &values, confidence))
            })
            .collect()
    };
    // A run without rounds was asked for nothing.
    if valid.is_empty() && rounds.planned > 0 && !validity.is_invalid() {
        validity.find(ValidityLevel::Invalid, "no round was played to its end".into());
    }
    Analysis { validity, rounds, arms, deltas }
}

/// The differences between `arm` and `baseline` in the valid rounds of a run.
///
/// # Errors
/// When a round lacks the metric, or there is no such arm, or no round; in words.
pub fn differences(records: &Records, arm: &str, baseline: &str, metric: Metric) -> Result<Differences, String> {
    let arms = [arm.to_owned(), baseline.to_owned()];
    RoundValues::of_arms(records, &arms).differences(arm, baseline, metric)
}

/// The values of `arm` in the valid rounds of a run by one metric, in the order of the rounds.
///
/// # Errors
/// As of [`differences`].
pub fn values(records: &Records, arm: &str, metric: Metric) -> Result<Vec<f64>, String> {
    RoundValues::of_arms(records, &[arm.to_owned()]).get(arm, metric)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

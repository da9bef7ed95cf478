//! The difference of an arm to the baseline, by one metric.

use super::summary::average;
use super::values::{Differences, RoundValues};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Scenario;
use crate::record::result::Delta;
use crate::verdict::stats::{Paired, hodges_lehmann, sign_flip_p};

/// Power at which the detectable effect is stated.
const POWER: f64 = 0.8;

/// The metric that a run is about first of all.
pub fn headline(scenario: &Scenario) -> Metric {
    if scenario.slo.is_some() { Metric::Capacity } else { Metric::Cpu }
}

/// The metrics by which arms are compared: a search finds their capacities, at rates where nothing else is comparable.
pub(crate) fn compared(scenario: &Scenario) -> impl Iterator<Item = Metric> {
    let searched = scenario.slo.is_some();
    Metric::ALL.into_iter().filter(move |metric| (*metric == Metric::Capacity) == searched)
}

pub(super) fn compare(metric: Metric, arm: &str, baseline: &str, values: &RoundValues, confidence: f64) -> Delta {
    let mut delta = Delta {
        metric,
        arm: arm.into(),
        baseline: None,
        absolute: None,
        relative: None,
        typical: None,
        confidence,
        rounds: 0,
        mde_absolute: None,
        mde_relative: None,
        sign_flip_p: None,
        resolved: false,
        reason: None,
    };
    let Differences { base, absolute: differences, log_ratios } = match values.differences(arm, baseline, metric) {
        Ok(differences) => differences,
        Err(reason) => return Delta { reason: Some(reason), ..delta },
    };
    delta.rounds = base.len() as u32;
    delta.baseline = Some(average(&base));
    let Some(paired) = Paired::of(&differences) else {
        return Delta { reason: Some("an interval needs two rounds or more".into()), ..delta };
    };
    let absolute = paired.interval(confidence);
    delta.absolute = Some(absolute);
    delta.mde_absolute = Some(paired.detectable(confidence, POWER));
    // The test is on log-ratios where they exist: noise on these machines is multiplicative.
    let tested = if let Some(ratios) = log_ratios {
        let paired = Paired::of(&ratios).unwrap_or(paired);
        delta.relative = Some(paired.interval(confidence).map(f64::exp_m1));
        delta.typical = hodges_lehmann(&ratios, confidence).map(|typical| typical.map(f64::exp_m1));
        delta.mde_relative = Some(paired.detectable(confidence, POWER).exp_m1());
        ratios
    } else {
        delta.reason = Some("no ratio: a round measured zero".into());
        differences
    };
    let p = sign_flip_p(&tested);
    delta.sign_flip_p = Some(p);
    // Of so few rounds that no pattern of signs reaches the level, whatever the data, it has no say.
    let level = 1.0 - confidence;
    let objects = 2.0 * 0.5_f64.powf(tested.len() as f64) < level && p >= level;
    let excluded = absolute.excludes_zero() && delta.relative.is_none_or(|relative| relative.excludes_zero());
    delta.resolved = excluded && !objects;
    delta
}

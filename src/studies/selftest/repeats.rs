//! Judges many short runs with known effects: how often the intervals hold, and how often a difference is called where there
//! is none. Pure.

use crate::experiment::metric::Metric;
use crate::experiment::scenario::Role;
use crate::record::result::Document;
use crate::record::selftest::{Check, Repeat, RepeatedArm, RepeatedDelta};
use crate::verdict::analysis::CONFIDENCE;
use crate::verdict::repeats::{ArmOfRepeats, by_arm};
use crate::verdict::stats::binomial_quantile;

use super::checks::{delta, trusted};

/// Share of the intervals that must hold the injected cost.
const COVERED: f64 = 0.9;
/// Power at which a run prints its detectable effect, and so the share of effects of that size that must be found.
const POWER: f64 = 0.8;
/// Probability that a bound fails a machine that measures well.
const ALPHA: f64 = 0.05;
/// Share of the runs that must be valid; with fewer, the valid ones are not representative.
const VALID: f64 = 0.9;

/// The part of a run that is kept.
pub fn repeat(number: u32, run: &Document) -> Repeat {
    let arms = &run.header.scenario.arms;
    let arms = arms.iter().map(|arm| {
        let delta = delta(run, &arm.name).ok().and_then(|delta| {
            Some(RepeatedDelta {
                absolute: delta.absolute?,
                mde_absolute: delta.mde_absolute?,
                resolved: delta.resolved,
            })
        });
        let values = run.values(&arm.name, Metric::Cpu).unwrap_or_default();
        RepeatedArm {
            name: arm.name.clone(),
            role: arm.role,
            injected_us: arm.injected_us.unwrap_or(0.0),
            cpu_us_per_request: values.iter().map(|us| (us * 1e4).round() / 1e4).collect(),
            delta,
        }
    });
    let whole = if run.partial { Err("it was cut short".to_owned()) } else { Ok(()) };
    let invalid = trusted(run).and(whole).err();
    Repeat { number, seed: run.header.plan.seed, invalid, arms: arms.collect() }
}

/// Judges all short runs, of which so many were planned.
pub fn summary(repeats: &[Repeat], planned: u32) -> Vec<Check> {
    let arms = by_arm(repeats);
    let sum = |what: fn(&ArmOfRepeats<'_>) -> u64, role| arms.iter().filter(|arm| arm.role == role).map(what).sum();
    let valid = repeats.iter().filter(|repeat| repeat.invalid.is_none()).count() as u64;
    vec![
        validity(repeats, valid, planned),
        false_alarms(sum(|arm| arm.resolved, Role::Placebo), sum(|arm| arm.runs, Role::Placebo)),
        coverage(sum(|arm| arm.inside, Role::Treatment), sum(|arm| arm.runs, Role::Treatment), valid),
        power(sum(|arm| arm.detected, Role::Treatment), sum(|arm| arm.detectable, Role::Treatment), valid),
    ]
}

fn validity(repeats: &[Repeat], valid: u64, planned: u32) -> Check {
    let least = (VALID * f64::from(planned)).ceil();
    let why = repeats.iter().find_map(|repeat| Some(format!("; run {}: {}", repeat.number, repeat.invalid.as_ref()?)));
    Check {
        name: "repeats: valid".into(),
        passed: planned > 0 && valid as f64 >= least,
        expected: format!("{least} of {planned} short runs or more are valid"),
        seen: format!("{valid} valid{}", why.unwrap_or_default()),
        advice: "The machine is too busy for runs this short, or the rate too high: lower --rps.".into(),
    }
}

fn false_alarms(alarms: u64, runs: u64) -> Check {
    let most = binomial_quantile(runs, 1.0 - CONFIDENCE, 1.0 - ALPHA);
    Check {
        name: "repeats: A/A".into(),
        passed: runs > 0 && alarms <= most,
        expected: format!(
            "the placebo is called different in at most {most} of {runs} runs: with a chance of 5 % in each, 19 of 20 self-tests \
             have no more"
        ),
        seen: format!("in {alarms}"),
        advice: "Differences are called too often here: trust none that is near the noise floor.".into(),
    }
}

fn coverage(inside: u64, intervals: u64, runs: u64) -> Check {
    let least = least_share(COVERED, CONFIDENCE, runs);
    let share = inside as f64 / intervals as f64;
    Check {
        name: "repeats: injected".into(),
        // Without intervals the share is not a number.
        passed: share >= least,
        expected: format!("{:.0} % of the 95 % intervals or more hold the CPU time that was injected", least * 100.0),
        seen: format!("{inside} of {intervals} do, {:.1} %", share * 100.0),
        advice: "The intervals are too narrow here: the costs of short runs are off, or drift within rounds.".into(),
    }
}

fn power(detected: u64, detectable: u64, runs: u64) -> Check {
    let least = least_share(POWER, POWER, runs);
    let share = detected as f64 / detectable as f64;
    let seen = match detectable {
        0 => "no injected cost reached the detectable effect of its run".into(),
        _ => format!("{detected} of {detectable} are, {:.1} %", share * 100.0),
    };
    Check {
        name: "repeats: detection".into(),
        passed: share >= least,
        expected: format!(
            "{:.0} % or more of the injected costs that reach the detectable effect printed by their run are resolved",
            least * 100.0
        ),
        seen,
        advice: "The detectable effect that a run prints is too optimistic here; play more rounds with --rounds."
            .into(),
    }
}

/// The share that must hold: `asked`, or, with few runs, the least that chance leaves of `each`. The arms of one run share its
/// baseline and its luck, so the count is of runs.
fn least_share(asked: f64, each: f64, runs: u64) -> f64 {
    asked.min(binomial_quantile(runs, each, ALPHA) as f64 / runs.max(1) as f64)
}

#[cfg(test)]
mod tests;

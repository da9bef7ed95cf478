//! Many short runs of what is known: how often the intervals hold, and how often a difference is called that is none. Pure.

use serde::{Deserialize, Serialize};

use crate::experiment::metric::Metric;
use crate::experiment::scenario::Role;
use crate::record::interval::Interval;
use crate::record::result::Document;
use crate::verdict::analysis::CONFIDENCE;
use crate::verdict::stats::binomial_quantile;

use super::Check;
use super::checks::{delta, trusted};

/// Share of the intervals that must hold what was injected.
const COVERED: f64 = 0.9;
/// Power at which a run prints the effect that it can detect, and so the share that must be found of what is as large.
const POWER: f64 = 0.8;
/// Chance at which a bound fails a machine that measures well.
const ALPHA: f64 = 0.05;
/// Share of the runs that must be valid, or those that are say little of how it goes here.
const VALID: f64 = 0.9;

/// One short run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Repeat {
    /// Which, from 1.
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
    /// What it is for.
    pub role: Role,
    /// CPU time that each request burns on purpose, in microseconds.
    pub injected_us: f64,
    /// What each valid round measured: CPU time per request, in microseconds to a tenth of a nanosecond.
    pub cpu_us_per_request: Vec<f64>,
    /// How it differs from the baseline, by the analysis that any run has; absent of the baseline, and where the run is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<RepeatedDelta>,
}

/// What a short run says of an arm: the part of its delta that is judged.
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
    fn holds(&self, us: f64) -> bool {
        self.absolute.low <= us && us <= self.absolute.high
    }
}

impl Repeat {
    /// What is kept of a run.
    pub fn of(number: u32, run: &Document) -> Self {
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
        Self { number, seed: run.header.plan.seed, invalid, arms: arms.collect() }
    }
}

/// What all valid runs say of one arm.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmOfRepeats<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is for.
    pub role: Role,
    /// CPU time that each request burns on purpose, in microseconds.
    pub injected_us: f64,
    /// Valid runs.
    pub runs: u64,
    /// Those whose interval holds what was injected.
    pub inside: u64,
    /// Those that call a difference.
    pub resolved: u64,
    /// Those that print a detectable effect which is no larger than what was injected.
    pub detectable: u64,
    /// Those of them that call a difference.
    pub detected: u64,
    /// The detectable effect of the middle run, in microseconds per request.
    pub mde_us: f64,
}

/// Each arm but the baseline, over all valid runs.
pub fn by_arm(repeats: &[Repeat]) -> Vec<ArmOfRepeats<'_>> {
    let valid: Vec<&Repeat> = repeats.iter().filter(|repeat| repeat.invalid.is_none()).collect();
    let Some(first) = valid.first() else { return Vec::new() };
    let arms = first.arms.iter().filter(|arm| arm.role != Role::Baseline);
    arms.map(|arm| {
        let same = valid.iter().flat_map(|repeat| &repeat.arms).filter(|other| other.name == arm.name);
        let deltas: Vec<&RepeatedDelta> = same.filter_map(|arm| arm.delta.as_ref()).collect();
        let count = |what: &dyn Fn(&RepeatedDelta) -> bool| deltas.iter().filter(|delta| what(delta)).count() as u64;
        let mut mdes: Vec<f64> = deltas.iter().map(|delta| delta.mde_absolute).collect();
        mdes.sort_unstable_by(f64::total_cmp);
        let detectable = |delta: &RepeatedDelta| arm.injected_us > 0.0 && arm.injected_us >= delta.mde_absolute;
        ArmOfRepeats {
            name: &arm.name,
            role: arm.role,
            injected_us: arm.injected_us,
            runs: deltas.len() as u64,
            inside: count(&|delta| delta.holds(arm.injected_us)),
            resolved: count(&|delta| delta.resolved),
            detectable: count(&detectable),
            detected: count(&|delta| detectable(delta) && delta.resolved),
            mde_us: mdes.get(mdes.len() / 2).copied().unwrap_or(f64::NAN),
        }
    })
    .collect()
}

/// The judgement of them all, of which so many were planned.
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
            "the placebo is called different in {most} of {runs} runs or fewer: what a chance of 5 % in each comes to in 19 of 20 \
             self-tests"
        ),
        seen: format!("in {alarms}"),
        advice: "Differences are called too often here: do not trust one near the noise floor.".into(),
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
        advice:
            "The intervals promise more than they hold here: the costs of short runs are off, or drift within rounds."
                .into(),
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
            "{:.0} % or more of the injected costs that are as large as the detectable effect their run prints are resolved",
            least * 100.0
        ),
        seen,
        advice: "The detectable effect that a run prints promises too much here; play more rounds with --rounds."
            .into(),
    }
}

/// The share that must hold: `asked`, or with few runs what chance leaves of `each`. Arms of one run share its baseline and
/// its luck, so it is runs that are counted.
fn least_share(asked: f64, each: f64, runs: u64) -> f64 {
    asked.min(binomial_quantile(runs, each, ALPHA) as f64 / runs.max(1) as f64)
}

#[cfg(test)]
mod tests;

//! Judging gates: limits and changes in, outcomes out. Pure.
//!
//! A gate fails where the change is worse than its limit beyond chance, one-sided at 5 %, with Holm's correction over all
//! gates of one judgement, so that the chance of any false alarm stays at 5 %. It holds where the change is better than the
//! limit beyond chance, again at 5 %; that needs no correction, since all of them must hold. Else the data cannot decide it.
//! A gate on a metric that was not measured never passes.

use serde::Serialize;

use crate::experiment::gate::{Gate, UnknownArm};
use crate::experiment::metric::Metric;
use crate::record::interval::Interval;
use crate::verdict::stats::{Estimate, Ruling, below, holm};

/// Level of each one-sided test, and of all that may fail together.
pub const ALPHA: f64 = 0.05;
/// Beyond so many each further gate costs the others much of their power.
pub const MANY: usize = 4;

/// A gate in one arm, with the change it is to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The gate.
    pub gate: Gate,
    /// The arm.
    pub arm: String,
    /// How the candidate changed, or why that is not known.
    pub change: Result<LogRatio, String>,
}

/// The worsening from which on a gate fails, as a log-ratio.
fn worst(gate: &Gate) -> f64 {
    if gate.metric.more_is_better() { -(-gate.limit).ln_1p() } else { gate.limit.ln_1p() }
}

/// The log-ratio of a candidate to its reference, where less than zero is a decrease.
#[derive(Clone, Debug, PartialEq)]
pub enum LogRatio {
    /// One per round in which both played.
    Rounds(Vec<f64>),
    /// The difference between two runs of this many rounds each.
    Runs(Estimate, u32),
}

impl LogRatio {
    /// The same with its sign such that a worsening is positive.
    fn worsening(self, metric: Metric) -> Self {
        match (self, metric.more_is_better()) {
            (same, false) => same,
            (Self::Rounds(ratios), true) => Self::Rounds(ratios.iter().map(|ratio| -ratio).collect()),
            (Self::Runs(change, rounds), true) => Self::Runs(change.negated(), rounds),
        }
    }

    /// The estimate; `None` of fewer than two rounds.
    fn estimate(&self) -> Option<Estimate> {
        match self {
            Self::Rounds(ratios) => Estimate::of(ratios),
            Self::Runs(change, _) => Some(*change),
        }
    }

    /// Whether it is below `limit`.
    fn rule(&self, limit: f64, alpha: f64) -> Ruling {
        match self {
            Self::Rounds(ratios) => below(ratios, limit, alpha),
            Self::Runs(change, rounds) => change.below(limit, alpha, *rounds),
        }
    }
}

/// Whether a gate holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum GateOutcome {
    /// The change is within the limit.
    Holds,
    /// The change is beyond the limit.
    Fails,
    /// The data cannot decide it.
    Undecided {
        /// Rounds that would decide it if the true change is the one observed; null where no number within reason would.
        rounds_needed: Option<u32>,
    },
    /// There is nothing to judge.
    Absent {
        /// Why.
        reason: String,
    },
}

/// A gate with its outcome in one arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The gate.
    pub gate: Gate,
    /// The arm.
    pub arm: String,
    /// The relative change of the candidate, with the bounds that each lie on their side of it with 95 % confidence; null
    /// where it is not known.
    pub change: Option<Interval>,
    /// One-sided p of the hypothesis that the change is within the limit.
    pub p: Option<f64>,
    /// The same after Holm's correction over all gates.
    pub p_adjusted: Option<f64>,
    /// Whether it holds.
    #[serde(flatten)]
    pub outcome: GateOutcome,
}

/// Each gate in the arm that it names, or in every treatment, with its change as `measured`.
///
/// # Errors
/// When a gate names an arm that is not among `known`.
pub fn cases(
    gates: &[Gate],
    known: &[&str],
    treatments: &[&str],
    measured: impl Fn(Metric, &str) -> Result<LogRatio, String>,
) -> Result<Vec<Case>, UnknownArm> {
    let mut cases = Vec::new();
    for gate in gates {
        let arms = gate.arms(known, treatments)?;
        if arms.is_empty() {
            // A gate over nothing must not pass either.
            let change = Err("there is no treatment, so name an arm".into());
            cases.push(Case { gate: gate.clone(), arm: "every treatment".into(), change });
        }
        cases.extend(arms.into_iter().map(|arm| Case {
            gate: gate.clone(),
            arm: arm.into(),
            change: measured(gate.metric, arm),
        }));
    }
    Ok(cases)
}

/// Judges all the gates of one comparison together.
pub fn judge(cases: Vec<Case>) -> Vec<Judged> {
    // Each case with its worsening, and the p of that being within the limit.
    let tested = cases.into_iter().map(|case| {
        let worsening = case.change.map(|change| change.worsening(case.gate.metric)).and_then(|worsening| {
            let estimate = worsening.estimate().ok_or("an interval needs two rounds or more")?;
            Ok((worsening, estimate, estimate.p_above(worst(&case.gate))))
        });
        (case.gate, case.arm, worsening)
    });
    let tested: Vec<_> = tested.collect();
    let p: Vec<f64> = tested.iter().filter_map(|(.., tested)| Some(tested.as_ref().ok()?.2)).collect();
    let mut adjusted = holm(&p).into_iter();
    let tests = p.len() as f64;
    let judged = tested.into_iter().map(|(gate, arm, tested)| match tested {
        Err(reason) => {
            Judged { gate, arm, change: None, p: None, p_adjusted: None, outcome: GateOutcome::Absent { reason } }
        }
        Ok((worsening, estimate, p)) => {
            let p_adjusted = adjusted.next().unwrap_or(1.0);
            let outcome = outcome(&worsening, worst(&gate), p_adjusted, tests);
            let change = if gate.metric.more_is_better() { estimate.negated() } else { estimate };
            let change = Some(change.interval(1.0 - 2.0 * ALPHA).map(f64::exp_m1));
            Judged { gate, arm, change, p: Some(p), p_adjusted: Some(p_adjusted), outcome }
        }
    });
    judged.collect()
}

fn outcome(worsening: &LogRatio, worst: f64, p_adjusted: f64, tests: f64) -> GateOutcome {
    match worsening.rule(worst, ALPHA) {
        Ruling::Confirmed => GateOutcome::Holds,
        Ruling::Refuted if p_adjusted < ALPHA => GateOutcome::Fails,
        Ruling::Inconclusive { rounds_needed } => GateOutcome::Undecided { rounds_needed },
        // It would have failed alone. Rounds that take it below the level that Holm leaves to the first of them do it.
        Ruling::Refuted => match worsening.rule(worst, ALPHA / tests) {
            Ruling::Inconclusive { rounds_needed } => GateOutcome::Undecided { rounds_needed },
            Ruling::Confirmed | Ruling::Refuted => GateOutcome::Undecided { rounds_needed: None },
        },
    }
}

/// The outcome of all gates together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Every gate holds.
    Holds,
    /// A regression.
    Fails(String),
    /// A gate has nothing to judge.
    Absent(String),
    /// A gate that the data cannot decide.
    Undecided(String),
}

/// The conclusion of all gates: a failure counts before an absent value, and that before an undecided gate, since more rounds
/// change nothing about the former two.
pub fn conclude(judged: &[Judged]) -> Conclusion {
    let those = |wanted: fn(&GateOutcome) -> bool| {
        let messages: Vec<String> = judged.iter().filter(|one| wanted(&one.outcome)).map(Judged::in_words).collect();
        (!messages.is_empty()).then(|| messages.join("; "))
    };
    if let Some(failed) = those(|outcome| *outcome == GateOutcome::Fails) {
        return Conclusion::Fails(failed);
    }
    if let Some(absent) = those(|outcome| matches!(outcome, GateOutcome::Absent { .. })) {
        return Conclusion::Absent(absent);
    }
    those(|outcome| matches!(outcome, GateOutcome::Undecided { .. })).map_or(Conclusion::Holds, Conclusion::Undecided)
}

impl Judged {
    /// The outcome in a clause.
    pub fn in_words(&self) -> String {
        let Self { gate, arm, .. } = self;
        let about = if gate.arm.is_some() { gate.to_string() } else { format!("{gate} in {arm}") };
        let bound = |bound: fn(&Interval) -> f64| {
            self.change.as_ref().map_or_else(String::new, |change| format!("{:+.1} %", bound(change) * 100.0))
        };
        let (estimate, low, high) = (bound(|c| c.estimate), bound(|c| c.low), bound(|c| c.high));
        let (best, worst) = if gate.metric.more_is_better() { (high, low) } else { (low, high) };
        match &self.outcome {
            GateOutcome::Holds => format!("{about} holds: {estimate}, at worst {worst}"),
            GateOutcome::Fails => format!("{about} fails: {estimate}, at best {best}"),
            GateOutcome::Absent { reason } => format!("{about} cannot be judged: {reason}"),
            GateOutcome::Undecided { rounds_needed } => {
                let needed = match rounds_needed {
                    Some(rounds) => format!("{rounds} rounds would decide it"),
                    None => "no number of rounds within reason would decide it".into(),
                };
                format!("{about} is undecided: {estimate} ({best} … {worst}); {needed}")
            }
        }
    }
}

/// A warning where there are so many gates that each costs the others power.
pub fn too_many(cases: usize) -> Option<String> {
    (cases > MANY).then(|| {
        format!(
            "{cases} gates are judged together, and each makes a regression harder to see for all others; {MANY} or fewer are \
             better"
        )
    })
}

#[cfg(test)]
mod tests;

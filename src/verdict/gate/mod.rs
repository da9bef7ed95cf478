//! Gates: how much worse a candidate may be. Pure: limits and changes in, judgements out.
//!
//! A gate fails where the change is worse than its limit beyond chance, one-sided at 5 %, with Holm's correction over all
//! gates of one judgement, so that the chance of any false alarm stays at 5 %. It holds where the change is better than the
//! limit beyond chance, again at 5 %; that needs no correction, since all of them must hold. Else the data cannot decide it.
//! What was not measured never passes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::metric::{Metric, UnknownMetric};
use crate::experiment::units::stored_as_text;
use crate::verdict::stats::{Estimate, Interval, Ruling, below, holm};

/// Level of each one-sided test, and of all that may fail together.
pub const ALPHA: f64 = 0.05;
/// Beyond so many each further gate costs the others much of their power.
pub const MANY: usize = 4;

/// How much worse the arms of a candidate may be by a metric: `cpu_us_per_request:full=5%`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gate {
    /// What may not get worse.
    pub metric: Metric,
    /// Of which arm; `None` for every treatment.
    pub arm: Option<String>,
    /// By how much at most, as a fraction of the reference.
    pub limit: f64,
}

stored_as_text!(Gate);

/// Why a text is not a [`Gate`].
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GateError {
    /// It has not the form.
    #[error("`{0}` is not a gate; write it as METRIC[:ARM]=PCT%, such as cpu_us_per_request:full=5%")]
    Form(String),
    /// Its metric is not known.
    #[error(transparent)]
    Metric(#[from] UnknownMetric),
    /// Its limit is none.
    #[error("`{0}` is not a limit; write a percentage of 0 or more with its sign, such as 5% or 0.5%")]
    Limit(String),
    /// Nothing could fail it.
    #[error("{0} cannot fall by {1} or more, so this gate could not fail; write a limit below 100%, such as 5%")]
    CannotFail(&'static str, String),
}

impl FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        // Names of arms hold colons and may hold equals signs, those of metrics do not.
        let (what, limit) = text.rsplit_once('=').ok_or_else(|| GateError::Form(text.into()))?;
        let (metric, arm) = match what.split_once(':') {
            Some((metric, arm)) => (metric, Some(arm.trim())),
            None => (what, None),
        };
        if arm.is_some_and(str::is_empty) {
            return Err(GateError::Form(text.into()));
        }
        let metric: Metric = metric.trim().parse()?;
        let percent = limit.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
        let percent = percent.filter(|percent| percent.is_finite() && *percent >= 0.0);
        let percent = percent.ok_or_else(|| GateError::Limit(limit.trim().into()))?;
        if metric.more_is_better() && percent >= 100.0 {
            return Err(GateError::CannotFail(metric.key(), limit.trim().into()));
        }
        Ok(Self { metric, arm: arm.map(str::to_owned), limit: percent / 100.0 })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.key())?;
        if let Some(arm) = &self.arm {
            write!(f, ":{arm}")?;
        }
        write!(f, "={}", percent(self.limit))
    }
}

/// A fraction as the percentage that was written: `5%`.
fn percent(fraction: f64) -> String {
    // To a billionth, where the division by 100 and back no longer shows.
    format!("{}%", (fraction * 1e11).round() / 1e9)
}

/// A gate asks for an arm that there is not.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("--max-regression {gate}: there is no arm `{arm}`; there are {}", .known.join(", "))]
pub struct UnknownArm {
    gate: String,
    arm: String,
    known: Vec<String>,
}

impl Gate {
    /// The arms it is about: the one it names, which must be among `known`, or all the `treatments`.
    ///
    /// # Errors
    /// When it names another.
    pub fn arms<'a>(&'a self, known: &[&str], treatments: &[&'a str]) -> Result<Vec<&'a str>, UnknownArm> {
        match &self.arm {
            None => Ok(treatments.to_vec()),
            Some(arm) if known.contains(&arm.as_str()) => Ok(vec![arm]),
            Some(arm) => Err(UnknownArm {
                gate: self.to_string(),
                arm: arm.clone(),
                known: known.iter().map(|&arm| arm.to_owned()).collect(),
            }),
        }
    }

    /// The worsening from which on the gate fails, as a log-ratio.
    fn worst(&self) -> f64 {
        if self.metric.more_is_better() { -(-self.limit).ln_1p() } else { self.limit.ln_1p() }
    }
}

/// What a gate is about in one arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The gate.
    pub gate: Gate,
    /// The arm.
    pub arm: String,
    /// How the candidate changed, or why that is not known.
    pub evidence: Result<Evidence, String>,
}

/// The log-ratio of a candidate to its reference, where less than zero is a decrease.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// One per round in which both played.
    Rounds(Vec<f64>),
    /// The difference between two runs of this many rounds each.
    Runs(Estimate, u32),
}

impl Evidence {
    /// The same of what gets worse when it grows.
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

/// What became of a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The change is within the limit.
    Holds,
    /// The change is beyond the limit.
    Fails,
    /// The data cannot tell.
    Undecided {
        /// Rounds that would, if the change is what it seems; null where no number within reason would.
        rounds_needed: Option<u32>,
    },
    /// There is nothing to judge.
    Absent {
        /// Why.
        reason: String,
    },
}

/// A gate with what became of it in one arm.
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
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What these gates are about: each in the arm that it names, or in every treatment, with what `evidence` there is.
///
/// # Errors
/// When a gate names an arm that is not among `known`.
pub fn cases(
    gates: &[Gate],
    known: &[&str],
    treatments: &[&str],
    evidence: impl Fn(Metric, &str) -> Result<Evidence, String>,
) -> Result<Vec<Case>, UnknownArm> {
    let mut cases = Vec::new();
    for gate in gates {
        let arms = gate.arms(known, treatments)?;
        if arms.is_empty() {
            // A gate over nothing must not pass either.
            let evidence = Err("there is no treatment, so name an arm".into());
            cases.push(Case { gate: gate.clone(), arm: "every treatment".into(), evidence });
        }
        cases.extend(arms.into_iter().map(|arm| Case {
            gate: gate.clone(),
            arm: arm.into(),
            evidence: evidence(gate.metric, arm),
        }));
    }
    Ok(cases)
}

/// Judges all the gates of one comparison together.
pub fn judge(cases: Vec<Case>) -> Vec<Judged> {
    // Each case with its worsening, and the p of that being within the limit.
    let tested = cases.into_iter().map(|case| {
        let worsening = case.evidence.map(|evidence| evidence.worsening(case.gate.metric)).and_then(|worsening| {
            let estimate = worsening.estimate().ok_or("an interval needs two rounds or more")?;
            Ok((worsening, estimate, estimate.p_above(case.gate.worst())))
        });
        (case.gate, case.arm, worsening)
    });
    let tested: Vec<_> = tested.collect();
    let p: Vec<f64> = tested.iter().filter_map(|(.., tested)| Some(tested.as_ref().ok()?.2)).collect();
    let mut adjusted = holm(&p).into_iter();
    let tests = p.len() as f64;
    let judged = tested.into_iter().map(|(gate, arm, tested)| match tested {
        Err(reason) => {
            Judged { gate, arm, change: None, p: None, p_adjusted: None, outcome: Outcome::Absent { reason } }
        }
        Ok((worsening, estimate, p)) => {
            let p_adjusted = adjusted.next().unwrap_or(1.0);
            let outcome = outcome(&worsening, gate.worst(), p_adjusted, tests);
            let change = if gate.metric.more_is_better() { estimate.negated() } else { estimate };
            let change = Some(change.interval(1.0 - 2.0 * ALPHA).map(f64::exp_m1));
            Judged { gate, arm, change, p: Some(p), p_adjusted: Some(p_adjusted), outcome }
        }
    });
    judged.collect()
}

fn outcome(worsening: &Evidence, worst: f64, p_adjusted: f64, tests: f64) -> Outcome {
    match worsening.rule(worst, ALPHA) {
        Ruling::Confirmed => Outcome::Holds,
        Ruling::Refuted if p_adjusted < ALPHA => Outcome::Fails,
        Ruling::Inconclusive { rounds_needed } => Outcome::Undecided { rounds_needed },
        // It would have failed alone. Rounds that take it below the level that Holm leaves to the first of them do it.
        Ruling::Refuted => match worsening.rule(worst, ALPHA / tests) {
            Ruling::Inconclusive { rounds_needed } => Outcome::Undecided { rounds_needed },
            Ruling::Confirmed | Ruling::Refuted => Outcome::Undecided { rounds_needed: None },
        },
    }
}

/// What became of all gates together.
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

/// The conclusion of all gates: a failure goes before what is absent, and that before what is undecided, since more rounds
/// change nothing about the former two.
pub fn conclude(judged: &[Judged]) -> Conclusion {
    let those = |wanted: fn(&Outcome) -> bool| {
        let messages: Vec<String> = judged.iter().filter(|one| wanted(&one.outcome)).map(Judged::in_words).collect();
        (!messages.is_empty()).then(|| messages.join("; "))
    };
    if let Some(failed) = those(|outcome| *outcome == Outcome::Fails) {
        return Conclusion::Fails(failed);
    }
    if let Some(absent) = those(|outcome| matches!(outcome, Outcome::Absent { .. })) {
        return Conclusion::Absent(absent);
    }
    those(|outcome| matches!(outcome, Outcome::Undecided { .. })).map_or(Conclusion::Holds, Conclusion::Undecided)
}

impl Judged {
    /// What became of it, in a clause.
    pub fn in_words(&self) -> String {
        let Self { gate, arm, .. } = self;
        let about = if gate.arm.is_some() { gate.to_string() } else { format!("{gate} in {arm}") };
        let bound = |bound: fn(&Interval) -> f64| {
            self.change.as_ref().map_or_else(String::new, |change| format!("{:+.1} %", bound(change) * 100.0))
        };
        let (estimate, low, high) = (bound(|c| c.estimate), bound(|c| c.low), bound(|c| c.high));
        let (best, worst) = if gate.metric.more_is_better() { (high, low) } else { (low, high) };
        match &self.outcome {
            Outcome::Holds => format!("{about} holds: {estimate}, at worst {worst}"),
            Outcome::Fails => format!("{about} fails: {estimate}, at best {best}"),
            Outcome::Absent { reason } => format!("{about} cannot be judged: {reason}"),
            Outcome::Undecided { rounds_needed } => {
                let needed = match rounds_needed {
                    Some(rounds) => format!("{rounds} rounds would decide it"),
                    None => "no number of rounds within reason would decide it".into(),
                };
                format!("{about} is undecided: {estimate} ({best} … {worst}); {needed}")
            }
        }
    }
}

/// What to say of gates so many that each costs the others power.
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

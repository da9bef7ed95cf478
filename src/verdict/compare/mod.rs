//! Two stored results against each other. Pure: documents in, a comparison out.
//!
//! Two runs share no rounds, and a machine differs from day to day by more than most changes of code. The ratio
//! of an arm to the baseline of its own run carries over, up to a deviation of each run that is estimated from stored runs of
//! the same code ([`BetweenRuns`]); allocations per request carry over as they are. Microseconds, response times, rates and
//! memory do not: on a machine whose days differ by 4 %, comparing them raises a false alarm in 82 % of comparisons. They
//! are compared on request alone, and as advice.

mod conditions;
mod run;

pub use self::conditions::obstacles;
pub(crate) use self::conditions::unreliable;
pub(crate) use self::run::Run;

use serde::Serialize;
use thiserror::Error;

use self::conditions::common_arms;
use crate::experiment::gate::{Gate, UnknownArm};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::{Arm, Role};
use crate::record::interval::Interval;
use crate::record::machine::Tool;
use crate::record::result::Document;
use crate::verdict::analysis::{CONFIDENCE, compared};
use crate::verdict::gate::{self, Judged, LogRatio};
use crate::verdict::stats::{BetweenRuns, Estimate};

/// Name and major version of the comparison as JSON.
pub const SCHEMA: &str = "otelbench.comparison/1";
/// Standard deviation of a run's own ratios where no stored runs tell it: 1 %, the interaction of mode and day with which
/// comparisons that ignore it raise false alarms in a third of cases and more.
const ASSUMED_RATIO: f64 = 0.01;
/// That of its levels: 4 %, the effect of a day.
const ASSUMED_LEVEL: f64 = 0.04;
/// Largest relative spread between rounds, as a standard deviation, at which allocations count as a number without noise.
/// Among the stored results it is 0.16 % at most where nothing fails, from batches that end one slice later or earlier.
const STEADY: f64 = 0.002;
/// Change up to which two such numbers are the same: twice the largest difference between stored runs of the same mode,
/// 0.055 %; one allocation more or less in every request is 0.5 % and more.
pub(crate) const SAME: f64 = 0.001;
/// Power at which the detectable change is stated.
const POWER: f64 = 0.8;

/// How to compare, and the gates.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// Whether levels are compared too, because both ran on one machine in one state.
    pub same_machine: bool,
    /// How much worse the candidate may be; those of its scenario where there is none.
    pub gates: Vec<Gate>,
}

/// Why there is no comparison.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The results do not compare, for all these reasons.
    #[error("{}", .0.join("\n  "))]
    Incomparable(Vec<String>),
    /// A gate is about an arm that neither has.
    #[error(transparent)]
    UnknownArm(#[from] UnknownArm),
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The program that measured it.
    pub tool: Tool,
    /// When it began.
    pub started_at: String,
    /// Rounds that count.
    pub rounds: u32,
}

/// How a metric of two runs is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// By the ratio of the arm to the baseline of its own run.
    Ratio,
    /// As it is, without noise.
    Exact,
    /// As it is, in its unit; advice, since it does not carry over between days or machines.
    Level,
}

impl Basis {
    /// How a metric carries over between stored runs, if it does.
    pub(crate) fn portable(metric: Metric) -> Option<Self> {
        match metric {
            Metric::Capacity | Metric::Cpu | Metric::CpuRequest | Metric::AllocatedBytes => Some(Self::Ratio),
            Metric::Allocations => Some(Self::Exact),
            // The exporters' share has no ratio to a baseline that exports nothing; nothing is known of how far ratios of
            // response times and of memory carry over.
            Metric::CpuExporter
            | Metric::ResponseP50
            | Metric::ResponseP90
            | Metric::ResponseP99
            | Metric::ResponseP999
            | Metric::Rss => None,
        }
    }
}

/// One arm by one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedMetric {
    /// The arm.
    pub arm: String,
    /// The metric compared.
    pub metric: Metric,
    /// How.
    pub basis: Basis,
    /// The base's mean: of the ratio, as a geometric mean, or of the metric, in its unit.
    pub base: Option<f64>,
    /// The candidate's.
    pub candidate: Option<f64>,
    /// The candidate relative to the base, less one, with its interval.
    pub change: Option<Interval>,
    /// Confidence of the interval.
    pub confidence: f64,
    /// The smallest true change that two runs like these detect with 80 % power, relative.
    pub mde_relative: Option<f64>,
    /// The relative standard deviation that each run was allowed to have of its own; null where none was.
    pub between_runs: Option<f64>,
    /// Whether there is a change: the interval excludes zero.
    pub resolved: bool,
    /// Why values above are null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A candidate compared with a base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// `otelbench.comparison/1`.
    pub schema: &'static str,
    /// The base.
    pub base: Side,
    /// The candidate.
    pub candidate: Side,
    /// The arm that ratios are to.
    pub baseline: String,
    /// Stored runs that tell how much runs differ; `None` where there were too few, and a deviation was assumed.
    pub history: Option<usize>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// The changes, a line for each arm and metric.
    pub lines: Vec<ComparedMetric>,
    /// The gates.
    pub gates: Vec<Judged>,
}

/// Compares `candidate` with `base`; `history` are stored runs of the same code, which tell how much runs differ.
///
/// # Errors
/// When the two differ in more than the code that was measured, or cannot be relied on, or a gate is about an arm that
/// neither has.
pub fn compare(
    base: &Document,
    candidate: &Document,
    history: &[Document],
    criteria: &Criteria,
) -> Result<Comparison, Refusal> {
    let mut reasons: Vec<String> = [unreliable("the base", base), unreliable("the candidate", candidate)].concat();
    reasons.extend(obstacles(&base.header, &candidate.header));
    if !reasons.is_empty() {
        return Err(Refusal::Incomparable(reasons));
    }
    let (base, candidate) = (Run::of(base), Run::of(candidate));
    let usable = |document: &&Document| {
        let header = &document.header;
        // A regression must not excuse itself, nor a run count twice.
        let other = header.started_at != candidate.header.started_at || header.plan != candidate.header.plan;
        other && unreliable("", document).is_empty() && obstacles(base.header, header).is_empty()
    };
    let mut stored: Vec<&Document> = history.iter().filter(usable).collect();
    stored.sort_by(|a, b| a.header.started_at.cmp(&b.header.started_at));
    stored.dedup_by(|a, b| a.header == b.header);
    let notes = notes(&base, &candidate, history.len(), stored.len());
    let pair = Pair { base, candidate, stored: stored.into_iter().map(Run::of).collect(), criteria };
    Ok(Comparison {
        schema: SCHEMA,
        base: pair.base.side(),
        candidate: pair.candidate.side(),
        baseline: pair.base.baseline.clone(),
        history: (pair.stored.len() >= BetweenRuns::FEWEST).then_some(pair.stored.len()),
        notes,
        lines: pair.lines(),
        gates: pair.judged()?,
    })
}

/// Notes on two runs that can be compared.
fn notes(base: &Run, candidate: &Run, given: usize, usable: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let (one, other) = (&base.header.scenario, &candidate.header.scenario);
    for (which, here, there) in [("base", one, other), ("candidate", other, one)] {
        let alone: Vec<String> =
            here.arm_names().into_iter().filter(|name| !there.arms.iter().any(|arm| arm.name == *name)).collect();
        if !alone.is_empty() {
            notes.push(format!("In the {which} alone, and so not compared: {}.", alone.join(", ")));
        }
    }
    let rustc = [base, candidate].map(|run| run.header.tool.rustc.as_str());
    if rustc[0] != rustc[1] {
        notes.push(format!("They were built by different compilers: {} and {}.", rustc[0], rustc[1]));
    }
    if base.header == candidate.header {
        notes.push("Base and candidate are the same run.".into());
    }
    if usable < BetweenRuns::FEWEST {
        let have = match given {
            0 => String::new(),
            given => format!(" {usable} of the {given} given can be used."),
        };
        notes.push(format!(
            "How much runs of the same code differ is not known, so a standard deviation of {} % is assumed for ratios, and of \
             {} % for levels; --history with {} or more stored runs of this scenario on this machine tells it.{have}",
            ASSUMED_RATIO * 100.0,
            ASSUMED_LEVEL * 100.0,
            BetweenRuns::FEWEST,
        ));
    } else if usable < given {
        notes.push(format!("Of the {given} stored runs given as history {usable} can be used."));
    }
    notes
}

/// A change on the logarithmic scale, and the deviation that each run was allowed.
struct LogChange {
    estimate: Estimate,
    between: Option<BetweenRuns>,
}

/// The two runs, and what else there is to judge them by.
struct Pair<'a> {
    base: Run<'a>,
    candidate: Run<'a>,
    stored: Vec<Run<'a>>,
    criteria: &'a Criteria,
}

impl Pair<'_> {
    fn lines(&self) -> Vec<ComparedMetric> {
        let mut lines = Vec::new();
        for (arm, _) in common_arms(&self.base.header.scenario, &self.candidate.header.scenario) {
            for metric in compared(&self.base.header.scenario) {
                let portable = self.portable(&arm.name, metric);
                let level = self.criteria.same_machine && portable != Some(Basis::Exact);
                let bases = portable.into_iter().chain(level.then_some(Basis::Level));
                lines.extend(bases.map(|basis| self.line(basis, &arm.name, metric)));
            }
        }
        lines
    }

    /// How an arm's metric carries over between the two; a baseline has no ratio to itself.
    fn portable(&self, arm: &str, metric: Metric) -> Option<Basis> {
        Basis::portable(metric).filter(|basis| *basis == Basis::Exact || self.base.reference(arm).is_some())
    }

    fn line(&self, basis: Basis, arm: &str, metric: Metric) -> ComparedMetric {
        let mut line = ComparedMetric {
            arm: arm.into(),
            metric,
            basis,
            base: self.base.mean(basis, arm, metric),
            candidate: self.candidate.mean(basis, arm, metric),
            change: None,
            confidence: CONFIDENCE,
            mde_relative: None,
            between_runs: None,
            resolved: false,
            reason: None,
        };
        match self.change(basis, arm, metric) {
            Err(reason) => line.reason = Some(reason),
            Ok(LogChange { estimate, between }) => {
                let change = estimate.interval(CONFIDENCE).map(f64::exp_m1);
                line.resolved = change.excludes_zero();
                line.change = Some(change);
                // A value without noise shows every change that does not count as the same.
                line.mde_relative = Some(estimate.detectable(CONFIDENCE, POWER).exp_m1().max(match basis {
                    Basis::Exact => SAME,
                    Basis::Ratio | Basis::Level => 0.0,
                }));
                line.between_runs = between.map(|between| between.deviation());
            }
        }
        line
    }

    /// The change of the candidate.
    fn change(&self, basis: Basis, arm: &str, metric: Metric) -> Result<LogChange, String> {
        let estimate = |run: &Run| run.estimate(basis, arm, metric);
        let (base, candidate) = (
            estimate(&self.base).map_err(|reason| format!("in the base: {reason}"))?,
            estimate(&self.candidate).map_err(|reason| format!("in the candidate: {reason}"))?,
        );
        let difference = candidate.minus(&base);
        let assumed = match basis {
            Basis::Ratio => ASSUMED_RATIO,
            Basis::Level => ASSUMED_LEVEL,
            Basis::Exact => {
                return Ok(LogChange { estimate: self.exact(arm, metric).unwrap_or(difference), between: None });
            }
        };
        let stored: Vec<Estimate> = self.stored.iter().filter_map(|run| estimate(run).ok()).collect();
        let between = BetweenRuns::of(&stored).unwrap_or_else(|| BetweenRuns::assumed(assumed));
        Ok(LogChange { estimate: difference.with(&between), between: Some(between) })
    }

    /// The change of a number that all rounds of a run agree on; `None` where they do not.
    fn exact(&self, arm: &str, metric: Metric) -> Option<Estimate> {
        let steady = |run: &Run| {
            let values = run.values.get(arm, metric).ok()?;
            let estimate = Estimate::of(&values)?;
            let spread = (estimate.variance() * values.len() as f64).sqrt();
            (spread <= STEADY * estimate.mean()).then(|| estimate.mean())
        };
        let change = steady(&self.candidate)?.ln() - steady(&self.base)?.ln();
        Some(Estimate::exact(if change.abs() <= SAME { 0.0 } else { change }))
    }

    fn judged(&self) -> Result<Vec<Judged>, UnknownArm> {
        let [base, candidate] = [&self.base, &self.candidate].map(|run| &run.header.scenario);
        let mut arms: Vec<&Arm> = base.arms.iter().collect();
        arms.extend(candidate.arms.iter().filter(|arm| base.arms.iter().all(|other| other.name != arm.name)));
        let names = |wanted: &dyn Fn(&Arm) -> bool| -> Vec<&str> {
            arms.iter().filter(|arm| wanted(arm)).map(|arm| arm.name.as_str()).collect()
        };
        let gates = if self.criteria.gates.is_empty() { &candidate.gates } else { &self.criteria.gates };
        let (known, treatments) = (names(&|_| true), names(&|arm| arm.role == Role::Treatment));
        let cases = gate::cases(gates, &known, &treatments, |metric, arm| self.log_ratio(metric, arm))?;
        Ok(gate::judge(cases))
    }

    fn log_ratio(&self, metric: Metric, arm: &str) -> Result<LogRatio, String> {
        let scenario = &self.base.header.scenario;
        for (which, run) in [("base", &self.base), ("candidate", &self.candidate)] {
            if run.header.scenario.arms.iter().all(|other| other.name != arm) {
                return Err(format!("the {which} has no such arm"));
            }
        }
        if !compared(scenario).any(|other| other == metric) {
            return Err(match scenario.slo {
                Some(_) => {
                    "a search compares capacity_rps and nothing else, since its arms are at different rates".into()
                }
                None => "it was not searched for; `otelbench capacity` does".into(),
            });
        }
        let level = self.criteria.same_machine.then_some(Basis::Level);
        let basis = self.portable(arm, metric).or(level).ok_or(
            "nothing of it carries over between stored runs; --same-machine compares it all the same, and a run in which \
             both take turns compares it well",
        )?;
        let rounds = self.base.rounds.min(self.candidate.rounds);
        self.change(basis, arm, metric).map(|change| LogRatio::Runs(change.estimate, rounds))
    }
}

#[cfg(test)]
mod tests;

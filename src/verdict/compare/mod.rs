//! Two stored results against each other. Pure: documents in, a comparison out.
//!
//! Two runs share no rounds, and what a machine does differs from day to day by more than most changes of code. What
//! carries over is the ratio of an arm to the baseline of its own run, up to a deviation of each run that stored runs of the
//! same code tell ([`BetweenRuns`]); allocations per request carry over as they are. Microseconds, response times, rates and
//! memory do not: on a machine whose days differ by 4 %, comparing them raises a false alarm in 82 % of comparisons. They
//! are compared on request alone, and as advice.

use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::experiment::gate::{Gate, UnknownArm};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::{Arm, Role, Scenario};
use crate::record::interval::Interval;
use crate::record::load::Verdict;
use crate::record::machine::Tool;
use crate::record::records::Header;
use crate::record::result::Document;
use crate::verdict::analysis::{CONFIDENCE, RoundValues, compared};
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

/// How to compare.
#[derive(Clone, Debug, Default)]
pub struct Options {
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
    /// What measured it.
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
    /// What carries over between stored runs of a metric, if anything does.
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
pub struct Line {
    /// The arm.
    pub arm: String,
    /// What is compared.
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

/// What a candidate is against a base.
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
    /// What to bear in mind.
    pub notes: Vec<String>,
    /// What changed, a line for each arm and metric.
    pub lines: Vec<Line>,
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
    options: &Options,
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
    let pair = Pair { base, candidate, stored: stored.into_iter().map(Run::of).collect(), options };
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

/// What keeps a document from being relied on.
pub(crate) fn unreliable(which: &str, document: &Document) -> Vec<String> {
    let mut reasons = Vec::new();
    if document.partial {
        let rounds = &document.rounds;
        reasons.push(format!(
            "{which} is partial: {} of {} rounds were played to their end",
            rounds.complete, rounds.planned
        ));
    }
    if document.validity.verdict == Verdict::Invalid {
        reasons.push(format!("{which} is invalid: {}", document.validity.causes.join("; ")));
    }
    reasons
}

/// In what two runs differ beside the code that they measured, so that they cannot be compared: the machine, the method, the
/// scenario but for its name, its length and its gates, and what their common arms consist of. Empty where they can.
pub fn obstacles(a: &Header, b: &Header) -> Vec<String> {
    let mut obstacles = Vec::new();
    differences("", &conditions(a), &conditions(b), &mut obstacles);
    let common: Vec<(&Arm, &Arm)> = common_arms(&a.scenario, &b.scenario).collect();
    for (one, other) in &common {
        differences(&format!("arm {}", one.name), &parts(one), &parts(other), &mut obstacles);
    }
    if common.iter().all(|(arm, _)| arm.role == Role::Baseline) {
        let arms = |scenario: &Scenario| scenario.arm_names().join(", ");
        obstacles.push(format!(
            "they have no arm in common to compare: {} and {}",
            arms(&a.scenario),
            arms(&b.scenario)
        ));
    }
    obstacles
}

/// What a run was measured under, without the code that was.
pub fn conditions(header: &Header) -> Value {
    let Header { schema, tool, machine, scenario, .. } = header;
    let mut resolved = json!(scenario);
    if let Some(keys) = resolved.as_object_mut() {
        // How long it lasts and the gates change how sure an answer is and not what it is; arms are compared one by one.
        for key in ["name", "rounds", "until", "budget", "gates", "arms"] {
            keys.remove(key);
        }
    }
    // Patch releases of a kernel come by the week, and the scheduler and the network stack change with minor ones.
    let kernel = machine.kernel.as_ref().map(|kernel| kernel.splitn(3, '.').take(2).collect::<Vec<_>>().join("."));
    json!({
        "schema": schema,
        "tool": { "profile": tool.profile },
        "machine": {
            "cpu_model": machine.cpu_model,
            "cores": machine.cores,
            "kernel": kernel,
            "governor": machine.governor,
            "hypervisor": machine.hypervisor,
        },
        "scenario": resolved,
        "baseline": scenario.arms.iter().find(|arm| arm.role == Role::Baseline).map(|arm| &arm.name),
    })
}

/// What an arm consists of, without the words about it, and without the code, which is what may have changed: another build
/// and a cost put in on purpose.
fn parts(arm: &Arm) -> Value {
    let mut parts = json!(arm);
    if let Some(keys) = parts.as_object_mut() {
        keys.remove("executable");
        keys.remove("injected_us");
    }
    if let Some(mode) = parts.get_mut("mode").and_then(Value::as_object_mut) {
        mode.remove("summary");
    }
    parts
}

fn common_arms<'a>(a: &'a Scenario, b: &'a Scenario) -> impl Iterator<Item = (&'a Arm, &'a Arm)> {
    a.arms.iter().filter_map(|arm| Some((arm, b.arms.iter().find(|other| other.name == arm.name)?)))
}

/// Adds where two values differ, with the way to it.
fn differences(path: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
        for key in keys {
            let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or(Value::Null);
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            differences(&path, &value(a), &value(b), found);
        }
    } else if a != b {
        found.push(format!("{path}: {a} in the base, {b} in the candidate"));
    }
}

/// What is said of two runs that do compare.
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

/// A document with the values of its rounds.
pub(crate) struct Run<'a> {
    pub(crate) header: &'a Header,
    /// The arm that ratios are to.
    pub(crate) baseline: String,
    rounds: u32,
    values: RoundValues,
}

impl<'a> Run<'a> {
    pub(crate) fn of(document: &'a Document) -> Self {
        let header = &document.header;
        let baseline = header.scenario.arms.iter().find(|arm| arm.role == Role::Baseline);
        Self {
            header,
            baseline: baseline.map(|arm| arm.name.clone()).unwrap_or_default(),
            rounds: document.rounds.complete.saturating_sub(document.rounds.void.len() as u32),
            values: RoundValues::of_valid(&document.clone().into_records()),
        }
    }

    fn side(&self) -> Side {
        Side { tool: self.header.tool.clone(), started_at: self.header.started_at.clone(), rounds: self.rounds }
    }

    /// The arm that the ratios of an arm are to; a baseline has none to itself.
    pub(crate) fn reference(&self, arm: &str) -> Option<&str> {
        let scenario = &self.header.scenario;
        let arm = scenario.arms.iter().find(|other| other.name == arm)?;
        scenario.reference(arm).map(|other| other.name.as_str()).filter(|other| *other != arm.name)
    }

    /// The mean of what the rounds say of an arm, on the scale on which it is compared: the logarithm.
    pub(crate) fn estimate(&self, basis: Basis, arm: &str, metric: Metric) -> Result<Estimate, String> {
        let logs = match basis {
            Basis::Ratio => {
                let reference = self.reference(arm).ok_or("it has no ratio to itself")?;
                self.values.differences(arm, reference, metric)?.log_ratios
            }
            Basis::Exact | Basis::Level => {
                let values = self.values.get(arm, metric)?;
                values.iter().all(|value| *value > 0.0).then(|| values.iter().map(|value| value.ln()).collect())
            }
        };
        let logs = logs.ok_or("no ratio: a round measured zero")?;
        Estimate::of(&logs).ok_or_else(|| "an interval needs two rounds or more".into())
    }

    /// The mean as it is shown.
    fn mean(&self, basis: Basis, arm: &str, metric: Metric) -> Option<f64> {
        match basis {
            Basis::Ratio => self.estimate(basis, arm, metric).ok().map(|log| log.mean().exp()),
            Basis::Exact | Basis::Level => {
                let values = self.values.get(arm, metric).ok()?;
                Some(values.iter().sum::<f64>() / values.len() as f64)
            }
        }
    }
}

/// A change on the logarithmic scale, and the deviation that each run was allowed.
struct Change {
    estimate: Estimate,
    between: Option<BetweenRuns>,
}

/// The two runs, and what else there is to judge them by.
struct Pair<'a> {
    base: Run<'a>,
    candidate: Run<'a>,
    stored: Vec<Run<'a>>,
    options: &'a Options,
}

impl Pair<'_> {
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (arm, _) in common_arms(&self.base.header.scenario, &self.candidate.header.scenario) {
            for metric in compared(&self.base.header.scenario) {
                let portable = self.portable(&arm.name, metric);
                let level = self.options.same_machine && portable != Some(Basis::Exact);
                let bases = portable.into_iter().chain(level.then_some(Basis::Level));
                lines.extend(bases.map(|basis| self.line(basis, &arm.name, metric)));
            }
        }
        lines
    }

    /// What carries over between the two of an arm and metric; a baseline has no ratio to itself.
    fn portable(&self, arm: &str, metric: Metric) -> Option<Basis> {
        Basis::portable(metric).filter(|basis| *basis == Basis::Exact || self.base.reference(arm).is_some())
    }

    fn line(&self, basis: Basis, arm: &str, metric: Metric) -> Line {
        let mut line = Line {
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
            Ok(Change { estimate, between }) => {
                let change = estimate.interval(CONFIDENCE).map(f64::exp_m1);
                line.resolved = change.excludes_zero();
                line.change = Some(change);
                // What is without noise shows every change that is not taken for the same.
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
    fn change(&self, basis: Basis, arm: &str, metric: Metric) -> Result<Change, String> {
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
                return Ok(Change { estimate: self.exact(arm, metric).unwrap_or(difference), between: None });
            }
        };
        let stored: Vec<Estimate> = self.stored.iter().filter_map(|run| estimate(run).ok()).collect();
        let between = BetweenRuns::of(&stored).unwrap_or_else(|| BetweenRuns::assumed(assumed));
        Ok(Change { estimate: difference.with(&between), between: Some(between) })
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
        let gates = if self.options.gates.is_empty() { &candidate.gates } else { &self.options.gates };
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
        let level = self.options.same_machine.then_some(Basis::Level);
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

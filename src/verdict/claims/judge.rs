//! Measures the quantities of claims in the records, and puts readings and claims together.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::overall::overall;
use super::ruling::{rule_on_counts, rule_on_values};
use crate::experiment::claims::catalogue;
use crate::experiment::claims::own::ClaimSelection;
use crate::experiment::claims::question::{ClaimQuestion, LaneFigure, Per, Quantity, Source, Test};
use crate::experiment::scenario::Role;
use crate::record::claims::{Bound, Claim, ClaimEvidence, ClaimFigure, ClaimReading, ClaimVerdict, EstimatorKind};
use crate::record::isolated::Isolated;
use crate::record::load;
use crate::record::records::{LaneRecord, Records};
use crate::verdict::analysis::{self, Analysis};

/// Judges the claims that the scenario selects.
pub fn judge(records: &Records, evidence: &ClaimEvidence) -> Vec<Claim> {
    let Some(selection) = &records.header.scenario.claims else { return Vec::new() };
    let judge = ClaimJudge {
        run: CachedAnalysis::of(records),
        scenarios: evidence
            .scenarios
            .iter()
            .map(|(name, records)| (name.as_str(), CachedAnalysis::of(records)))
            .collect(),
        evidence,
    };
    match selection {
        ClaimSelection::Own(claims) => {
            let arms = &records.header.scenario.arms;
            let baseline = arms.iter().find(|arm| arm.role == Role::Baseline).map_or("", |arm| arm.name.as_str());
            let question = |own| [ClaimQuestion::of_own(own, baseline)];
            claims.iter().map(|own| judge.claim(&own.id, &own.statement, &question(own))).collect()
        }
        ClaimSelection::Published(ids) => catalogue::all()
            .iter()
            .filter(|claim| ids.iter().any(|id| id == claim.id))
            .map(|claim| judge.claim(claim.id, claim.statement, &claim.questions))
            .collect(),
    }
}

/// Records, and their analysis once it was asked for.
pub(super) struct CachedAnalysis<'a> {
    records: &'a Records,
    analysis: OnceCell<Analysis>,
}

/// The measured values of a quantity.
enum Measured {
    /// One value for each round; log-ratios, which are shown in percent, where `logs`.
    Values { values: Vec<f64>, logs: bool },
    /// How many are wrong, and of how many, in each round.
    Counts(Vec<(f64, f64)>),
}

/// Judges claims by the records of the main run and the evidence beside it.
pub(super) struct ClaimJudge<'a> {
    pub(super) run: CachedAnalysis<'a>,
    scenarios: BTreeMap<&'a str, CachedAnalysis<'a>>,
    pub(super) evidence: &'a ClaimEvidence,
}

impl<'a> CachedAnalysis<'a> {
    fn of(records: &'a Records) -> Self {
        Self { records, analysis: OnceCell::new() }
    }

    /// The analysis, unless the measurement is invalid.
    fn analysis(&self) -> Result<&Analysis, String> {
        let analysis = self.analysis.get_or_init(|| analysis::analyse(self.records));
        match analysis.validity.level {
            load::ValidityLevel::Invalid => Err(format!(
                "the measurement is invalid: {}",
                analysis.validity.causes.first().map_or("no cause was stored", String::as_str)
            )),
            load::ValidityLevel::Valid | load::ValidityLevel::Degraded => Ok(analysis),
        }
    }

    /// The lanes of an arm by round, without void rounds.
    fn lanes(&self, arm: &str) -> Result<BTreeMap<u32, &'a LaneRecord>, String> {
        let analysis = self.analysis()?;
        let of_arm = self.records.lanes.iter().filter(|lane| lane.arm == arm);
        let lanes: BTreeMap<u32, &LaneRecord> =
            of_arm.filter(|lane| !analysis.rounds.void.contains(&lane.round)).map(|lane| (lane.round, lane)).collect();
        if lanes.is_empty() { Err(format!("no lane of {arm} ran to its end")) } else { Ok(lanes) }
    }

    /// A value of every lane of an arm.
    pub(super) fn each<T>(&self, arm: &str, value: impl Fn(&LaneRecord) -> Option<T>) -> Result<Vec<T>, String> {
        let values: Option<Vec<T>> = self.lanes(arm)?.into_values().map(value).collect();
        values.ok_or_else(|| format!("a lane of {arm} has no such figure"))
    }
}

impl<'a> ClaimJudge<'a> {
    fn claim(&self, id: &str, statement: &str, questions: &[ClaimQuestion]) -> Claim {
        let readings: Vec<ClaimReading> = questions.iter().map(|question| self.reading(question)).collect();
        let (verdict, decides, reason) = overall(questions, &readings);
        Claim {
            id: id.into(),
            statement: statement.into(),
            figure: readings[decides].figure.clone(),
            verdict,
            reason,
            readings,
        }
    }

    fn reading(&self, question: &ClaimQuestion) -> ClaimReading {
        let mut figure = empty_figure(question);
        let (verdict, reason) = match self.measure(&question.quantity) {
            Err(why) => (ClaimVerdict::Inconclusive, format!("not measured: {why}")),
            Ok(Measured::Counts(rounds)) => rule_on_counts(&rounds, question, &mut figure),
            Ok(Measured::Values { values, logs }) => rule_on_values(&values, logs, question.test, &mut figure),
        };
        ClaimReading {
            subject: question.subject.clone(),
            counts: question.counts,
            figure,
            verdict: (question.test != Test::ReportOnly).then_some(verdict),
            reason,
        }
    }

    /// The records that a question is about.
    pub(super) fn source(&self, source: Source) -> Result<&CachedAnalysis<'a>, String> {
        match source {
            Source::Run => Ok(&self.run),
            Source::Scenario(scenario) => {
                let name = scenario.name();
                self.scenarios.get(name).ok_or_else(|| format!("the scenario `{name}` was not played"))
            }
        }
    }

    fn measure(&self, quantity: &Quantity) -> Result<Measured, String> {
        let values = |values| Ok(Measured::Values { values, logs: false });
        match quantity {
            Quantity::Cost { source, arm, baseline, metric, per } => {
                let cached = self.source(*source)?;
                cached.analysis()?;
                let differences = analysis::differences(cached.records, arm, baseline, *metric)?;
                values(self.convert(differences.absolute, *per)?)
            }
            Quantity::Relative { arm, baseline, metric } => {
                self.run.analysis()?;
                let differences = analysis::differences(self.run.records, arm, baseline, *metric)?;
                let values = differences.log_ratios.ok_or("a round measured zero, so that there is no ratio")?;
                Ok(Measured::Values { values, logs: true })
            }
            Quantity::Lanes { arm, less, figure } => {
                let (more, less) = (self.lane_figures(arm, *figure)?, less.map(|arm| self.lane_figures(arm, *figure)));
                values(match less.transpose()? {
                    None => more.into_values().collect(),
                    Some(less) => more.iter().filter_map(|(round, more)| Some(more - less.get(round)?)).collect(),
                })
            }
            Quantity::Calls { more, less, per } => {
                let isolated = self.isolated()?;
                let ns = match less {
                    None => isolated.of(more).map(<[f64]>::to_vec),
                    Some(less) => isolated.difference(more, less),
                };
                let ns = ns.ok_or_else(|| format!("`{more}` was not measured in isolation"))?;
                values(self.convert(ns.iter().map(|ns| ns / 1e3).collect(), *per)?)
            }
            Quantity::Times { more, less } => values(self.ratios(more, less)?),
            Quantity::Scaling { family } => {
                let threads = |name: &String| name.strip_prefix(family)?.parse::<usize>().ok();
                let most = self.isolated()?.readings.keys().filter_map(threads).max();
                let most = most.filter(|most| *most > 1).ok_or("it takes two cores or more")?;
                values(self.ratios(&format!("{family}{most}"), &format!("{family}1"))?)
            }
            Quantity::Count(check) => self.count(check).map(Measured::Counts),
        }
    }

    fn isolated(&self) -> Result<&Isolated, String> {
        self.evidence.isolated.as_ref().ok_or_else(|| "nothing was measured in isolation".into())
    }

    /// The value of one estimator as a multiple of another's, in each round.
    fn ratios(&self, more: &str, less: &str) -> Result<Vec<f64>, String> {
        let isolated = self.isolated()?;
        let of = |name: &str| isolated.of(name).ok_or_else(|| format!("`{name}` was not measured in isolation"));
        let (more, less) = (of(more)?, of(less)?);
        if more.len() != less.len() || less.iter().any(|ns| *ns <= 0.0) {
            return Err("a round lacks one of the two, or measured nothing".into());
        }
        Ok(more.iter().zip(less).map(|(more, less)| more / less).collect())
    }

    /// Converts microseconds per order, or bytes.
    fn convert(&self, values: Vec<f64>, per: Per) -> Result<Vec<f64>, String> {
        let header = &self.run.records.header;
        // Microseconds per request, times requests per second, are millionths of a core.
        let cores = header.scenario.mean_rate().as_f64() / 1e6;
        let factor = match per {
            Per::Order => 1.0,
            Per::Cores => cores,
            Per::Core => cores * 100.0,
            Per::Machine => cores * 100.0 / header.machine.cores as f64,
            Per::Megabytes => 1e-6,
            Per::Span(arm) => 1.0 / self.spans_per_order(arm)?,
            Per::Service(arm) => {
                let arm = self.run.analysis()?.arms.iter().find(|summary| summary.name == arm);
                let service = arm.and_then(|arm| arm.cpu_us_per_request.total).ok_or("the service was not measured")?;
                100.0 / service
            }
        };
        Ok(values.into_iter().map(|value| value * factor).collect())
    }

    fn spans_per_order(&self, arm: &str) -> Result<f64, String> {
        let lanes = self.run.lanes(arm)?;
        let spans: u64 = lanes.values().filter_map(|lane| lane.account.spans).map(|spans| spans.ended).sum();
        let orders: u64 = lanes.values().map(|lane| lane.orders_completed + lane.orders_uncertain).sum();
        if spans == 0 || orders == 0 { Err(format!("{arm} made no spans")) } else { Ok(spans as f64 / orders as f64) }
    }

    fn lane_figures(&self, arm: &str, figure: LaneFigure) -> Result<BTreeMap<u32, f64>, String> {
        let missing = || format!("a lane of {arm} has no such figure");
        let value = |lane: &LaneRecord| match figure {
            LaneFigure::SpanExportMedian => lane.account.span_exports?.p50_ms,
            LaneFigure::SpanExportP99 => lane.account.span_exports?.p99_ms,
            LaneFigure::LargestExportMedian => lane.account.span_exports?.largest_p50_ms,
            LaneFigure::MetricExportMedian => lane.account.metric_exports?.p50_ms,
            LaneFigure::MetricExportSlowest => lane.account.metric_exports?.p99_ms,
            LaneFigure::MetricExportCpu => self.cpu_ms_per_metric_export(arm, lane.round),
            LaneFigure::BytesPerSpan => {
                let received = lane.received.as_ref().filter(|received| received.spans > 0)?;
                Some(received.wire_bytes as f64 / received.spans as f64)
            }
        };
        let lanes = self.run.lanes(arm)?;
        lanes.into_iter().map(|(round, lane)| Ok((round, value(lane).ok_or_else(missing)?))).collect()
    }

    fn cpu_ms_per_metric_export(&self, arm: &str, round: u32) -> Option<f64> {
        let slices = self.run.records.slices.iter().filter(|slice| slice.arm == arm && slice.round == round);
        let (us, exports) = slices
            .filter_map(|slice| slice.spent.periodic)
            .fold((0.0, 0), |(us, exports), done| (us + done.cpu_us, exports + done.exports));
        (exports > 0).then(|| us / exports as f64 / 1e3)
    }
}

/// The figure of a question before it is measured.
fn empty_figure(question: &ClaimQuestion) -> ClaimFigure {
    let estimator = match &question.quantity {
        Quantity::Cost { .. } | Quantity::Relative { .. } | Quantity::Lanes { .. } => EstimatorKind::EndToEnd,
        Quantity::Calls { .. } | Quantity::Times { .. } | Quantity::Scaling { .. } => EstimatorKind::Isolated,
        Quantity::Count(_) => EstimatorKind::Observed,
    };
    let (limit, bound) = match question.test {
        Test::Below(limit) => (Some(limit), Some(Bound::Below)),
        Test::Above(limit) => (Some(limit), Some(Bound::Above)),
        Test::Within(margin) => (Some(margin), Some(Bound::Within)),
        Test::Zero => (Some(0.0), Some(Bound::AtMost)),
        Test::ReportOnly => (None, None),
    };
    ClaimFigure {
        limit,
        bound,
        unit: question.unit.clone(),
        denominator: question.denominator.clone(),
        estimate: None,
        of: None,
        low: None,
        high: None,
        confidence: None,
        estimator: Some(estimator),
        rounds: 0,
    }
}

#[cfg(test)]
mod tests;

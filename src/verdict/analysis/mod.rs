//! Records to arms and differences. Pure: the same records give the same answers, bit for bit.
//!
//! Each round gives one value per arm and metric; only these enter the statistics. A slice is not a replicate: slices of
//! one launch share its luck, and treating them as independent gives up to 19 % false alarms at a nominal 5.

mod stopping;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::experiment::metric::Metric;
use crate::experiment::scenario::{Arm, Role, Scenario};
use crate::experiment::service::ORDERS_TOTAL;
use crate::experiment::slo::Slo;
use crate::experiment::units::{Rate, micros};
use crate::record::account::{Exports, ServiceLogs, ServiceSpans};
use crate::record::load::{Validity, Verdict, decode};
use crate::record::received::TreeReport;
use crate::record::records::{Header, LaneRecord, Records, SliceRecord};
use crate::verdict::capacity::{Next, Outcome, Search, Step};
use crate::verdict::stats::{Interval, Paired, hodges_lehmann, sign_flip_p};

/// Confidence of the intervals of a run whose length was fixed beforehand.
pub const CONFIDENCE: f64 = 0.95;
/// Power at which the detectable effect is stated.
const POWER: f64 = 0.8;
/// Share of rounds that may be void before the run as a whole says nothing.
pub const VOID_INVALID: f64 = 0.1;
/// Requests in a round below which its 99.9th percentile rests on fewer than 20 of them.
const P999_REQUESTS: u64 = 20_000;

pub use self::stopping::is_decided;

/// What the records of a run say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Analysis {
    /// Whether the run as a whole can be trusted. No delta is given of an invalid one.
    pub validity: Validity,
    /// Rounds in which every arm played all its slices, and those of them that were void.
    pub rounds: Rounds,
    /// What each arm measured, over its valid rounds.
    pub arms: Vec<ArmSummary>,
    /// Each arm against the baseline.
    pub deltas: Vec<Delta>,
}

/// The rounds of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rounds {
    /// As the plan has it.
    pub planned: u32,
    /// In which every arm played all its slices.
    pub complete: u32,
    /// Void: a slice was invalid, or a search could not decide, and the round counts for no arm.
    pub void: Vec<u32>,
}

/// What one arm measured: means over its valid rounds of the value of each round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ArmSummary {
    /// Its name.
    pub name: String,
    /// The mode it ran.
    pub mode: String,
    /// What it is for.
    pub role: Role,
    /// Requests answered as asked: completed, and refused where that was right.
    pub requests: u64,
    /// CPU time of service and telemetry per such request.
    pub cpu_us_per_request: CpuPerRequest,
    /// From the intended send time to the last byte.
    pub response_us: ResponseUs,
    /// The highest rate that held the SLO with no loss, in requests per second; only of a search. What else is said of a
    /// searched arm is of the steps that gave its answers, each at the arm's own rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_rps: Option<f64>,
    /// Allocations per such request; null where they are not counted.
    pub allocations_per_request: Option<f64>,
    /// Resident memory at the end of the round.
    pub rss_bytes: Option<f64>,
    /// The most memory that any of its processes held; null where that is not known.
    #[serde(default)]
    pub rss_peak_bytes: Option<u64>,
    /// The 95 % interval of each value above, by metric; those of fewer than two rounds have none.
    pub intervals: BTreeMap<Metric, Interval>,
    /// Where the telemetry went.
    pub telemetry: TelemetrySummary,
    /// What the generator and the lanes had to say.
    pub validity: Validity,
    /// Why values above are null.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<Metric, String>,
}

/// CPU time per request that was answered as asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuPerRequest {
    /// `request` and `exporter` together.
    pub total: Option<f64>,
    /// On the threads that answer requests.
    pub request: Option<f64>,
    /// On the threads that take telemetry out; periodic work normalised to its true period.
    pub exporter: Option<f64>,
}

/// Response times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ResponseUs {
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile; null below 20 000 requests per round.
    pub p999: Option<f64>,
}

/// Where the telemetry of an arm's lanes went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TelemetrySummary {
    /// The ledger of spans; null in modes that make none.
    pub spans: Option<SpanLedger>,
    /// How the trace trees looked; null in modes that make none, and where telemetry went to another collector.
    pub trees: Option<TreeReport>,
    /// The ledger of metrics; null in modes that record none.
    pub metrics: Option<MetricLedger>,
    /// The ledger of log records; null in modes that make none.
    #[serde(default)]
    pub logs: Option<LogLedger>,
    /// Bytes the sink read, headers and framing included; null where nothing went to it.
    pub wire_bytes: Option<u64>,
    /// Exports of spans; null in modes that make none. Quantiles are the worst of any lane.
    pub exports: Option<Exports>,
    /// Exports of metrics; likewise.
    pub metric_exports: Option<Exports>,
    /// The longest that a lane took to take out what was left; null where no lane ended.
    #[serde(default)]
    pub shutdown_ms: Option<f64>,
    /// Connections that the sink refused.
    #[serde(default)]
    pub refused_connections: u64,
    /// One of them in words; null where there is none.
    #[serde(default)]
    pub refused_connection: Option<String>,
    /// Why values above are null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the SDK had to say.
    pub diagnostics: Vec<String>,
}

/// Where spans went: ended = received + dropped + failed + rejected + discarded + abandoned +
/// unaccounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SpanLedger {
    /// Ended in the service.
    pub ended: u64,
    /// Distinct spans at the sink; null where they went to another collector.
    pub received: Option<u64>,
    /// Dropped because the queue was full, by the SDK's own count.
    pub dropped: u64,
    /// In batches whose export failed.
    pub failed: u64,
    /// Refused by the collector.
    pub rejected: u64,
    /// Dropped on purpose, by an exporter that takes them nowhere.
    #[serde(default)]
    pub discarded: u64,
    /// Still waiting, or under way, when the shutdown had used up its time and gave up.
    #[serde(default)]
    pub abandoned: u64,
    /// What is left over; must be 0. Null where `received` is.
    pub unaccounted: Option<i64>,
    /// Received more than once.
    pub duplicated: Option<u64>,
}

impl SpanLedger {
    /// Spans that ended and should have been received but were not; 0 where that is not known.
    pub fn lost(&self) -> u64 {
        self.received.map_or(0, |received| self.ended.saturating_sub(received + self.discarded))
    }
}

/// Where log records went: emitted = received + dropped + failed + rejected + unaccounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LogLedger {
    /// Emitted by the service.
    pub emitted: u64,
    /// At the sink; null where they went to another collector.
    pub received: Option<u64>,
    /// Of these, within a trace of which the sink has a span; null where `received` is.
    pub in_known_traces: Option<u64>,
    /// Dropped because the queue was full, by the SDK's own count.
    pub dropped: u64,
    /// In batches whose export failed.
    pub failed: u64,
    /// Refused by the collector.
    pub rejected: u64,
    /// What is left over; must be 0. Null where `received` is.
    pub unaccounted: Option<i64>,
}

/// Where metrics went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MetricLedger {
    /// Data points the sink received; null in modes that are scraped, and where they went to another collector.
    pub points_received: Option<u64>,
    /// Orders by the counter, as last received or scraped.
    pub requests_counted: Option<u64>,
    /// Orders answered, warm-up included.
    pub requests_completed: u64,
    /// Orders sent of which the answer is not known, so that the counter may or may not have them.
    pub requests_uncertain: u64,
}

impl MetricLedger {
    /// Whether the counter says what was answered; `None` where the counter is not known.
    pub fn agrees(&self) -> Option<bool> {
        let range = self.requests_completed..=self.requests_completed + self.requests_uncertain;
        self.requests_counted.map(|counted| range.contains(&counted))
    }
}

/// An arm against the baseline, by one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Delta {
    /// What is compared.
    pub metric: Metric,
    /// The arm.
    pub arm: String,
    /// The baseline's mean over the rounds.
    pub baseline: Option<f64>,
    /// Mean of the differences, in the metric's unit.
    pub absolute: Option<Interval>,
    /// Ratio to the baseline less one, from the mean of the log-ratios.
    pub relative: Option<Interval>,
    /// The typical round: the Hodges–Lehmann estimate of the same ratio less one, with its exact interval. Another quantity
    /// than the mean, and without a say in the verdict. Absent below 6 rounds, and where no ratio exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical: Option<Interval>,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// Rounds compared.
    pub rounds: u32,
    /// The smallest true difference that this many rounds of this noise detect with 80 % power, in the metric's unit.
    pub mde_absolute: Option<f64>,
    /// The same relative to the baseline.
    pub mde_relative: Option<f64>,
    /// Two-sided p of the sign-flip test, the cross-check of the interval.
    pub sign_flip_p: Option<f64>,
    /// Whether there is a difference: both intervals exclude zero, and the cross-check does not object.
    pub resolved: bool,
    /// Why values above are null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What each valid round says of one arm against another, by one metric, in the order of the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Differences {
    /// What the other measured.
    pub base: Vec<f64>,
    /// How much more the arm did, in the metric's unit.
    pub absolute: Vec<f64>,
    /// The logarithm of the ratio of the two; `None` where a round measured zero.
    pub log_ratios: Option<Vec<f64>>,
}

/// What the valid rounds of a run say of `arm` against `baseline`.
///
/// # Errors
/// When a round lacks the metric, or there is no such arm, or no round; in words.
pub fn differences(records: &Records, arm: &str, baseline: &str, metric: Metric) -> Result<Differences, String> {
    let (rounds, _) = sort(records);
    let arms = [arm.to_owned(), baseline.to_owned()];
    RoundValues::of(records, &valid_rounds(records, &rounds), &arms).differences(arm, baseline, metric)
}

/// What the valid rounds of a run measured of `arm` by one metric, in the order of the rounds.
///
/// # Errors
/// As of [`differences`].
pub fn values(records: &Records, arm: &str, metric: Metric) -> Result<Vec<f64>, String> {
    let (rounds, _) = sort(records);
    RoundValues::of(records, &valid_rounds(records, &rounds), &[arm.to_owned()]).get(arm, metric)
}

/// CPU time per request of each slice, for each lane; without those of which it is not known.
pub fn cpu_of_slices(records: &Records) -> Vec<Vec<f64>> {
    let lane = |lane: &LaneRecord| {
        let slices = slices_of(records, lane.round, &lane.arm);
        slices.filter_map(|slice| RoundOfArm::of(&[slice], &records.header.scenario).value(Metric::Cpu).ok()).collect()
    };
    records.lanes.iter().map(lane).collect()
}

/// Analyses a run.
pub fn analyse(records: &Records) -> Analysis {
    let scenario = &records.header.scenario;
    let (rounds, mut validity) = sort(records);
    let valid = valid_rounds(records, &rounds);
    let values = RoundValues::of(records, &valid, &scenario.arm_names());
    let confidence = stopping::confidence(scenario, valid.len() as u32);
    let arms = scenario.arms.iter().map(|arm| summarise(arm, records, &values, &valid)).collect();
    let deltas = if validity.verdict == Verdict::Invalid {
        Vec::new()
    } else {
        let pairs = scenario.arms.iter().filter(|arm| arm.role != Role::Baseline);
        pairs
            .filter_map(|arm| Some((&arm.name, &scenario.reference(arm)?.name)))
            .flat_map(|(arm, base)| compared(scenario).map(|metric| compare(metric, arm, base, &values, confidence)))
            .collect()
    };
    // A run without rounds was asked for nothing.
    if valid.is_empty() && rounds.planned > 0 && validity.verdict != Verdict::Invalid {
        validity.find(Verdict::Invalid, "no round was played to its end".into());
    }
    Analysis { validity, rounds, arms, deltas }
}

/// Which rounds count, and whether the run as a whole does.
fn sort(records: &Records) -> (Rounds, Validity) {
    match &records.header.scenario.slo {
        None => sort_rounds(records),
        Some(slo) => sort_searches(records, slo),
    }
}

fn valid_rounds(records: &Records, rounds: &Rounds) -> Vec<u32> {
    complete_rounds(records).into_iter().filter(|round| !rounds.void.contains(round)).collect()
}

/// What arms are compared by: a search finds their capacities, at rates where nothing else is comparable.
pub(crate) fn compared(scenario: &Scenario) -> impl Iterator<Item = Metric> {
    let searched = scenario.slo.is_some();
    Metric::ALL.into_iter().filter(move |metric| (*metric == Metric::Capacity) == searched)
}

/// Rounds in which every slice of the plan was played, or every search ended, and every lane reported.
fn complete_rounds(records: &Records) -> Vec<u32> {
    let Header { plan, scenario, .. } = &records.header;
    (0..plan.rounds)
        .filter(|round| {
            let played = records.slices.iter().filter(|slice| slice.round == *round).count();
            let ended = records.lanes.iter().filter(|lane| lane.round == *round).count();
            let planned = plan.order.get(*round as usize).map_or(0, Vec::len);
            // Lanes end when their searches have.
            let all = if scenario.slo.is_some() { played > 0 } else { planned > 0 && played == planned };
            all && ended == scenario.arms.len()
        })
        .collect()
}

/// What the search of an arm came to, and its steps in one round.
fn searched<'a>(records: &'a Records, slo: &Slo, round: u32, arm: &str) -> (Next, Vec<(Step, &'a SliceRecord)>) {
    let scenario = &records.header.scenario;
    let mut search = Search::from(scenario.rps, scenario.slice);
    let mut steps = Vec::new();
    for slice in slices_of(records, round, arm) {
        // A rate in the range of rates was asked for, in a slice that is a step.
        if let Some(rate) = slice.played.rate.asked.and_then(|asked| Rate::per_second(asked).ok()) {
            let step = Step { rate, outcome: Outcome::of(&slice.played, slo) };
            search.note(step);
            steps.push((step, slice));
        }
    }
    (search.next(), steps)
}

/// The slices that an arm's values of a round are taken from: all of them, or the step that gave its search the answer.
fn telling<'a>(records: &'a Records, round: u32, arm: &str) -> Vec<&'a SliceRecord> {
    let Some(slo) = &records.header.scenario.slo else { return slices_of(records, round, arm).collect() };
    let (Next::Found(answer), steps) = searched(records, slo, round, arm) else { return Vec::new() };
    let held = |step: &Step| *step == Step { rate: answer, outcome: Outcome::Held };
    steps.iter().find(|(step, _)| held(step)).map(|(_, slice)| *slice).into_iter().collect()
}

fn slices_of<'a>(records: &'a Records, round: u32, arm: &str) -> impl Iterator<Item = &'a SliceRecord> {
    records.slices.iter().filter(move |slice| slice.round == round && slice.arm == arm)
}

/// A round in which a search could not decide is void; when no round is left, nothing was measured.
fn sort_searches(records: &Records, slo: &Slo) -> (Rounds, Validity) {
    let Header { scenario, plan, .. } = &records.header;
    let complete = complete_rounds(records);
    let mut undecided = Vec::new();
    for round in &complete {
        for arm in &scenario.arms {
            if let (Next::Undecided(reason), _) = searched(records, slo, *round, &arm.name) {
                undecided.push((*round, format!("{}: {reason}", arm.name)));
            }
        }
    }
    let void: BTreeSet<u32> = undecided.iter().map(|(round, _)| *round).collect();
    let verdict = if void.len() == complete.len() { Verdict::Invalid } else { Verdict::Degraded };
    let mut validity = Validity::default();
    for (_, reason) in undecided {
        validity.find(verdict, reason);
    }
    let rounds = Rounds { planned: plan.rounds, complete: complete.len() as u32, void: void.into_iter().collect() };
    (rounds, validity)
}

fn sort_rounds(records: &Records) -> (Rounds, Validity) {
    let invalid: Vec<&SliceRecord> =
        records.slices.iter().filter(|slice| slice.played.validity.verdict == Verdict::Invalid).collect();
    let void: BTreeSet<u32> = invalid.iter().map(|slice| slice.round).collect();
    let planned = records.header.plan.rounds;
    let mut validity = Validity::default();
    if void.len() as f64 > VOID_INVALID * f64::from(planned) {
        for slice in &invalid {
            for cause in &slice.played.validity.causes {
                validity.find(Verdict::Invalid, format!("{}: {cause}", slice.arm));
            }
        }
    }
    let rounds = Rounds { planned, complete: complete_rounds(records).len() as u32, void: void.into_iter().collect() };
    (rounds, validity)
}

/// The value of each of some arms, by each metric, in each valid round, in the order of the rounds.
#[derive(Clone, Debug)]
pub struct RoundValues(BTreeMap<(String, Metric), Vec<Result<f64, String>>>);

impl RoundValues {
    /// Of every arm, in the valid rounds of a run.
    pub fn of_valid(records: &Records) -> Self {
        let (rounds, _) = sort(records);
        Self::of(records, &valid_rounds(records, &rounds), &records.header.scenario.arm_names())
    }

    fn of(records: &Records, valid: &[u32], arms: &[String]) -> Self {
        let mut values: BTreeMap<(String, Metric), Vec<Result<f64, String>>> = BTreeMap::new();
        for round in valid {
            for arm in records.header.scenario.arms.iter().map(|arm| &arm.name).filter(|arm| arms.contains(arm)) {
                let slices = telling(records, *round, arm);
                let measured = RoundOfArm::of(&slices, &records.header.scenario);
                for metric in Metric::ALL {
                    values.entry((arm.clone(), metric)).or_default().push(measured.value(metric));
                }
            }
        }
        Self(values)
    }

    /// The values, or why there are none. A metric that one round lacks is not compared at all.
    ///
    /// # Errors
    /// When a round lacks the metric, or there is no such arm, or no round; in words.
    pub fn get(&self, arm: &str, metric: Metric) -> Result<Vec<f64>, String> {
        match self.0.get(&(arm.to_owned(), metric)) {
            Some(values) => values.iter().cloned().collect(),
            None => Err("no round was played to its end".into()),
        }
    }

    /// What the rounds say of `arm` against `baseline`.
    ///
    /// # Errors
    /// As of [`RoundValues::get`].
    pub fn differences(&self, arm: &str, baseline: &str, metric: Metric) -> Result<Differences, String> {
        let (treated, base) = (self.get(arm, metric)?, self.get(baseline, metric)?);
        let positive = treated.iter().chain(&base).all(|value| *value > 0.0);
        let pairs = || treated.iter().zip(&base);
        Ok(Differences {
            absolute: pairs().map(|(t, b)| t - b).collect(),
            log_ratios: positive.then(|| pairs().map(|(t, b)| t.ln() - b.ln()).collect()),
            base,
        })
    }
}

/// One arm in one round: its slices put together.
struct RoundOfArm {
    /// Of a search, whose only slice is the step that gave its answer.
    capacity: Option<f64>,
    /// With a success, and thus a response time.
    completed: u64,
    /// As asked; what costs are divided by.
    answered: u64,
    request_us: f64,
    exporter_us: f64,
    allocations: Result<(f64, f64), String>,
    rss_bytes: Option<u64>,
    response: Option<Histogram<u64>>,
}

impl RoundOfArm {
    fn of(slices: &[&SliceRecord], scenario: &Scenario) -> Self {
        let slice_us = micros(scenario.slice);
        let mut whole = Self {
            capacity: scenario.slo.as_ref().and(slices.first()).and_then(|step| step.played.rate.asked),
            completed: 0,
            answered: 0,
            request_us: 0.0,
            exporter_us: 0.0,
            allocations: Ok((0.0, 0.0)),
            rss_bytes: None,
            response: None,
        };
        for slice in slices {
            let spent = &slice.spent;
            whole.completed += slice.played.load.completed;
            whole.answered += slice.played.answered();
            whole.request_us += spent.cpu_us.request;
            // Work done once per interval is charged for the share of the interval that the slice lasted.
            let due =
                spent.periodic.filter(|p| p.exports > 0).map(|p| (p, slice_us / p.interval_us / p.exports as f64));
            let normalised = |raw: f64, periodic: f64| due.map_or(raw, |(_, share)| raw - periodic + periodic * share);
            whole.exporter_us += normalised(spent.cpu_us.exporter, due.map_or(0.0, |(p, _)| p.cpu_us));
            whole.allocations = match (whole.allocations, spent.allocations) {
                (Ok((count, bytes)), Some(a)) => Ok((
                    count + normalised(a.count as f64, due.map_or(0.0, |(p, _)| p.allocations.count as f64)),
                    bytes + normalised(a.bytes as f64, due.map_or(0.0, |(p, _)| p.allocations.bytes as f64)),
                )),
                (Err(reason), _) => Err(reason),
                (Ok(_), None) => Err(spent.allocations_reason.clone().unwrap_or_else(|| "not counted".into())),
            };
            whole.rss_bytes = Some(spent.rss_bytes);
            if let Some(histogram) = decode(&slice.played.hdr.response_ns) {
                match &mut whole.response {
                    None => whole.response = Some(histogram),
                    // Histograms of one precision that grow by themselves always add up.
                    Some(sum) => drop(sum.add(&histogram)),
                }
            }
        }
        whole
    }

    fn value(&self, metric: Metric) -> Result<f64, String> {
        if self.answered == 0 {
            return Err("no request was answered as asked".into());
        }
        let per_request = |total: f64| total / self.answered as f64;
        match metric {
            Metric::Cpu => Ok(per_request(self.request_us + self.exporter_us)),
            Metric::CpuRequest => Ok(per_request(self.request_us)),
            Metric::CpuExporter => Ok(per_request(self.exporter_us)),
            Metric::ResponseP50 => self.response_us(0.5),
            Metric::ResponseP90 => self.response_us(0.9),
            Metric::ResponseP99 => self.response_us(0.99),
            Metric::ResponseP999 if self.completed < P999_REQUESTS => {
                Err(format!("withheld: a round has {} requests, and a p99.9 needs {P999_REQUESTS}", self.completed))
            }
            Metric::ResponseP999 => self.response_us(0.999),
            Metric::Allocations => self.allocations.clone().map(|(count, _)| per_request(count)),
            Metric::AllocatedBytes => self.allocations.clone().map(|(_, bytes)| per_request(bytes)),
            Metric::Capacity => self.capacity.ok_or_else(|| "it was not searched for".into()),
            Metric::Rss if self.capacity.is_some() => {
                Err("what a process holds after an overload does not tell of the rate it sustains".into())
            }
            Metric::Rss => self.rss_bytes.map(|bytes| bytes as f64).ok_or_else(|| "not measured".into()),
        }
    }

    fn response_us(&self, quantile: f64) -> Result<f64, String> {
        if self.completed == 0 {
            return Err("no request was completed".into());
        }
        let histogram = self.response.as_ref().ok_or("the stored histogram cannot be read")?;
        Ok(histogram.value_at_quantile(quantile) as f64 / 1e3)
    }
}

fn summarise(arm: &Arm, records: &Records, values: &RoundValues, valid: &[u32]) -> ArmSummary {
    let mut intervals = BTreeMap::new();
    let mut reasons = BTreeMap::new();
    let mut mean = |metric: Metric| match values.get(&arm.name, metric) {
        Ok(rounds) => {
            if let Some(paired) = Paired::of(&rounds) {
                intervals.insert(metric, paired.interval(CONFIDENCE));
            }
            Some(average(&rounds))
        }
        Err(reason) => {
            reasons.insert(metric, reason);
            None
        }
    };
    let cpu_us_per_request = CpuPerRequest {
        total: mean(Metric::Cpu),
        request: mean(Metric::CpuRequest),
        exporter: mean(Metric::CpuExporter),
    };
    let response_us = ResponseUs {
        p50: mean(Metric::ResponseP50),
        p90: mean(Metric::ResponseP90),
        p99: mean(Metric::ResponseP99),
        p999: mean(Metric::ResponseP999),
    };
    let searched = records.header.scenario.slo.is_some();
    let capacity_rps = if searched { mean(Metric::Capacity) } else { None };
    let allocations_per_request = mean(Metric::Allocations);
    mean(Metric::AllocatedBytes);
    let rss_bytes = mean(Metric::Rss);
    let mut validity = Validity::default();
    let told: Vec<&SliceRecord> = valid.iter().flat_map(|round| telling(records, *round, &arm.name)).collect();
    if searched {
        // A step that failed says what the service cannot do, and nothing against the measurement.
        for slice in &told {
            validity.merge(&slice.played.validity);
        }
    } else {
        let all = records.slices.iter().filter(|slice| slice.arm == arm.name);
        all.for_each(|slice| validity.merge(&slice.played.validity));
    }
    let lanes: Vec<&LaneRecord> =
        records.lanes.iter().filter(|lane| lane.arm == arm.name && valid.contains(&lane.round)).collect();
    ArmSummary {
        name: arm.name.clone(),
        mode: arm.mode.name.clone(),
        role: arm.role,
        requests: told.iter().map(|slice| slice.played.answered()).sum(),
        cpu_us_per_request,
        response_us,
        capacity_rps,
        allocations_per_request,
        rss_bytes,
        rss_peak_bytes: lanes.iter().filter_map(|lane| lane.account.rss_peak_bytes).max(),
        intervals,
        telemetry: telemetry(arm, &lanes),
        validity,
        reasons,
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Where the telemetry of these lanes of `arm` went.
pub fn telemetry(arm: &Arm, lanes: &[&LaneRecord]) -> TelemetrySummary {
    let mut diagnostics = BTreeSet::new();
    for lane in lanes {
        diagnostics.extend(lane.account.diagnostics.iter().cloned());
    }
    let received = || lanes.iter().filter_map(|lane| lane.received.as_ref());
    let received_here = lanes.iter().all(|lane| lane.received.is_some()) && !lanes.is_empty();
    let records_metrics = arm.mode.metrics != crate::experiment::mode::Metrics::Nowhere;
    let sum = |f: &dyn Fn(&LaneRecord) -> Option<u64>| lanes.iter().map(|lane| f(lane)).sum::<Option<u64>>();
    let spans = lanes.iter().filter_map(|lane| lane.account.spans).reduce(ServiceSpans::plus).map(|spans| {
        let received = sum(&|lane| Some(lane.received.as_ref()?.spans));
        let known = spans.dropped + spans.failed + spans.rejected + spans.discarded + spans.abandoned;
        SpanLedger {
            ended: spans.ended,
            received,
            dropped: spans.dropped,
            failed: spans.failed,
            rejected: spans.rejected,
            discarded: spans.discarded,
            abandoned: spans.abandoned,
            unaccounted: received.map(|r| spans.ended.cast_signed() - r.cast_signed() - known.cast_signed()),
            duplicated: sum(&|lane| Some(lane.received.as_ref()?.duplicated)),
        }
    });
    let metrics = (records_metrics && !lanes.is_empty()).then(|| MetricLedger {
        points_received: sum(&|lane| lane.account.metric_exports.and(lane.received.as_ref()).map(|r| r.metrics.points)),
        requests_counted: sum(&orders_counted),
        requests_completed: lanes.iter().map(|lane| lane.orders_completed).sum(),
        requests_uncertain: lanes.iter().map(|lane| lane.orders_uncertain).sum(),
    });
    let logs = lanes.iter().filter_map(|lane| lane.account.logs).reduce(ServiceLogs::plus).map(|logs| {
        let received = sum(&|lane| Some(lane.received.as_ref()?.logs.records));
        let known = logs.dropped + logs.failed + logs.rejected;
        LogLedger {
            emitted: logs.emitted,
            received,
            in_known_traces: sum(&|lane| Some(lane.received.as_ref()?.logs.in_known_traces)),
            dropped: logs.dropped,
            failed: logs.failed,
            rejected: logs.rejected,
            unaccounted: received.map(|r| logs.emitted.cast_signed() - r.cast_signed() - known.cast_signed()),
        }
    });
    TelemetrySummary {
        logs,
        trees: spans.and(lanes.iter().try_fold(TreeReport::default(), |sum, lane| {
            lane.received.as_ref().map(|received| add_trees(sum, received.trees.clone()))
        })),
        spans,
        metrics,
        wire_bytes: sum(&|lane| Some(lane.received.as_ref()?.wire_bytes)).filter(|_| received_here),
        exports: lanes.iter().filter_map(|lane| lane.account.span_exports).reduce(add_exports),
        metric_exports: lanes.iter().filter_map(|lane| lane.account.metric_exports).reduce(add_exports),
        shutdown_ms: lanes.iter().map(|lane| lane.account.shutdown_ms).max_by(f64::total_cmp),
        refused_connections: received().map(|received| received.refused_connections).sum(),
        refused_connection: received().find_map(|received| received.last_refused_connection.clone()),
        reason: if lanes.is_empty() {
            Some("no lane ran to its end".into())
        } else {
            (!received_here).then(|| "telemetry went to another collector, which this program cannot ask".into())
        },
        diagnostics: diagnostics.into_iter().collect(),
    }
}

/// Orders by the service's own counter: as the sink last received it, or as the last scrape showed it.
fn orders_counted(lane: &LaneRecord) -> Option<u64> {
    let received = lane.received.as_ref().and_then(|r| r.metrics.counters.get(ORDERS_TOTAL));
    lane.account.scraped_orders.or(received.map(|total| total.round() as u64))
}

fn add_exports(a: Exports, b: Exports) -> Exports {
    // Option's order puts None below every number.
    let worst = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    let of_the_largest = |of: fn(&Exports) -> Option<f64>| match a.largest.cmp(&b.largest) {
        Ordering::Less => of(&b),
        Ordering::Equal => worst(of(&a), of(&b)),
        Ordering::Greater => of(&a),
    };
    Exports {
        count: a.count + b.count,
        failed: a.failed + b.failed,
        p50_ms: worst(a.p50_ms, b.p50_ms),
        p99_ms: worst(a.p99_ms, b.p99_ms),
        largest: a.largest.max(b.largest),
        largest_p50_ms: of_the_largest(|exports| exports.largest_p50_ms),
        largest_mean_ms: of_the_largest(|exports| exports.largest_mean_ms),
    }
}

fn add_trees(a: TreeReport, b: TreeReport) -> TreeReport {
    TreeReport {
        traces: a.traces + b.traces,
        right: a.right + b.right,
        incomplete: a.incomplete + b.incomplete,
        misshapen: a.misshapen + b.misshapen,
        foreign: a.foreign + b.foreign,
        without_baggage: a.without_baggage + b.without_baggage,
        example: a.example.or(b.example),
    }
}

fn compare(metric: Metric, arm: &str, baseline: &str, values: &RoundValues, confidence: f64) -> Delta {
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

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

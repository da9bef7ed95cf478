//! The measurements of each arm, and its differences to the baseline, as stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::TelemetrySummary;
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Role;
use crate::record::interval::Interval;
use crate::record::load::Validity;

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

/// The measurements of one arm: means over its valid rounds of the value of each round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ArmSummary {
    /// Its name.
    pub name: String,
    /// The mode it ran.
    pub mode: String,
    /// Its role in the comparison.
    pub role: Role,
    /// Requests answered as asked: completed, and refused where that was right.
    pub requests: u64,
    /// CPU time of service and telemetry per such request.
    pub cpu_us_per_request: CpuPerRequest,
    /// From the intended send time to the last byte.
    pub response_us: ResponseUs,
    /// The highest rate that held the SLO with no loss, in requests per second; only of a search. The other values of a
    /// searched arm come from the steps that gave its answers, each at the arm's own rate.
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
    /// Findings of the generator and the lanes.
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
    /// On the threads that export telemetry; periodic work normalised to its true period.
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

/// An arm against the baseline, by one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Delta {
    /// The metric compared.
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

//! The result of `otelbench pipeline`, as stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::experiment::units::Rate;
use crate::record::account::{Account, ServiceSpans};
use crate::record::interval::Interval;
use crate::record::machine::{Machine, Tool};
use crate::record::step::StepOutcome;

/// Name and major version of the document.
pub const SCHEMA: &str = "otelbench.pipeline/1";

/// The whole result.
#[derive(Debug, Serialize)]
pub struct PipelineDocument {
    /// `otelbench.pipeline/1`.
    pub schema: &'static str,
    /// The program that measured.
    pub tool: Tool,
    /// The machine it measured on.
    pub machine: Machine,
    /// When the study started: UTC, RFC 3339.
    pub started_at: String,
    /// Whether it was cut short.
    pub partial: bool,
    /// The settings of the study.
    #[serde(flatten)]
    pub setup: PipelineSetup,
    /// The findings from all steps.
    #[serde(flatten)]
    pub findings: PipelineFindings,
    /// Each step, in the order of play.
    pub steps: Vec<PipelineStep>,
}

/// The settings of a batch pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    /// Spans that the queue holds.
    pub queue: usize,
    /// Most spans in one export.
    pub batch: usize,
    /// Longest time that a span waits for its batch to fill.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
}

/// The settings of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineSetup {
    /// The mode's name.
    pub mode: String,
    /// The settings whose capacity is searched.
    pub batching: Batching,
    /// Length of a step.
    #[serde(with = "humantime_serde")]
    pub step: Duration,
    /// Number of searches.
    pub rounds: u32,
    /// Spans a second to recommend settings for; null for no recommendation.
    pub target: Option<Rate>,
    /// Length of a collector's stall that they should absorb.
    #[serde(with = "humantime_serde")]
    pub stall: Duration,
    /// Draws where searches start.
    pub seed: u64,
}

/// The purpose of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "purpose")]
pub enum StepPurpose {
    /// Part of the search of this round, from 0.
    Search {
        /// The round.
        round: u32,
    },
    /// Measures how long an export of this batch takes.
    Probe,
    /// Tries the recommended settings at the target rate.
    Verify,
}

/// One step: spans at one rate for a while, from a process of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineStep {
    /// Its purpose.
    #[serde(flatten)]
    pub purpose: StepPurpose,
    /// Spans a second.
    pub rate: Rate,
    /// The settings.
    pub batching: Batching,
    /// The sending side.
    #[serde(flatten)]
    pub emitted: Emitted,
    /// Distinct spans that the sink received; null where they went elsewhere.
    pub received: Option<u64>,
    /// Whether the pipeline took every span.
    pub outcome: StepOutcome,
}

impl PipelineStep {
    /// Spans that ended and did not go out.
    pub fn lost(&self) -> u64 {
        let ServiceSpans { dropped, failed, rejected, .. } = self.spans();
        dropped + failed + rejected
    }

    /// Spans that are on no account; 0 where it is not known what was received.
    pub fn unaccounted(&self) -> i64 {
        let gone = |received: u64| received + self.lost() + self.spans().discarded;
        self.received.map_or(0, |received| self.spans().ended.cast_signed() - gone(received).cast_signed())
    }

    /// The service's side of the ledger.
    pub fn spans(&self) -> ServiceSpans {
        self.emitted.account.spans.unwrap_or_default()
    }

    /// The exports of full batches; `None` where none was full.
    pub fn full_exports(&self) -> Option<FullExports> {
        let exports = self.emitted.account.span_exports?;
        let (p50_ms, mean_ms) = exports.largest_p50_ms.zip(exports.largest_mean_ms)?;
        (exports.largest == self.batching.batch as u64).then_some(FullExports { p50_ms, mean_ms })
    }
}

/// The sending side of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Emitted {
    /// Spans made, including those before the step.
    pub spans: u64,
    /// From the start of the step to its last span.
    pub took_ms: f64,
    /// Largest delay of a span after its intended time: the emitter's own fault, and the cause of a burst.
    pub latest_ms: f64,
    /// Where the spans went.
    pub account: Account,
}

/// The findings from all steps of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineFindings {
    /// The answer of each search.
    pub rounds: Vec<SearchResult>,
    /// The highest rate without loss, in spans a second: the geometric mean of the searches' answers. Null where no search
    /// had one.
    pub capacity: Option<f64>,
    /// Its interval; null for fewer than two answers, which have no spread.
    pub interval: Option<Interval>,
    /// Number of searches that found a capacity.
    pub decided: usize,
    /// Duration of full exports at those rates, the geometric mean of the searches; null where no batch was full.
    pub exports: Option<FullExports>,
    /// Batch / mean export time, in spans a second.
    pub predicted: Option<f64>,
    /// By how many spans a second a step may exceed the prediction, because the queue holds spans at its end.
    pub lent: f64,
    /// The rate for which the stall is given: the target, or else the capacity.
    pub at: Option<Rate>,
    /// The longest stall that the queue absorbs at that rate.
    pub absorbed_ms: Option<f64>,
    /// Settings for the target; null where there is no target, or the study ended before.
    pub recommendation: Option<Recommendation>,
    /// The trial of these settings at the target; null where they were not tried.
    pub verification: Option<Verification>,
}

/// Duration of the exports of full batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullExports {
    /// The median.
    pub p50_ms: f64,
    /// The mean, which decides how many go out one after the other.
    pub mean_ms: f64,
}

/// The answer of one search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// The capacity, in spans a second.
    pub capacity: Option<Rate>,
    /// Why there is none.
    pub reason: Option<String>,
}

/// Duration of an export, by the number of its spans.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportTime {
    /// For each export.
    pub fixed_ms: f64,
    /// For each span in it.
    pub per_span_us: f64,
}

/// Settings for the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The duration of exports, as measured with two batch sizes.
    pub export: ExportTime,
    /// The settings.
    pub batching: Option<Batching>,
    /// Why there are none.
    pub reason: Option<String>,
}

/// The trial of the recommended settings at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether the pipeline took every span.
    pub outcome: StepOutcome,
    /// Spans made.
    pub ended: u64,
    /// Spans lost.
    pub lost: u64,
}

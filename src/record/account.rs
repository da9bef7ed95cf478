//! The service's side of the ledger, as stored.

use serde::{Deserialize, Serialize};

/// The service's own account of its telemetry, when it closes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Account {
    /// Where spans went; null in modes that make none.
    pub spans: Option<ServiceSpans>,
    /// Exports of spans.
    pub span_exports: Option<Exports>,
    /// Exports of metrics.
    pub metric_exports: Option<Exports>,
    /// Where log records went; null in modes that make none.
    #[serde(default)]
    pub logs: Option<ServiceLogs>,
    /// Orders that the last scrape showed, in modes that are scraped.
    pub scraped_orders: Option<u64>,
    /// Warnings and errors of the SDK; the first few.
    pub diagnostics: Vec<String>,
    /// Time that the shutdown took.
    pub shutdown_ms: f64,
    /// The most memory that the process held; null where that is not known.
    #[serde(default)]
    pub rss_peak_bytes: Option<u64>,
}

/// Where the spans of one service went, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceSpans {
    /// Spans that ended, counted in front of the batch processor.
    pub ended: u64,
    /// Dropped because the queue was full, by the SDK's own count.
    pub dropped: u64,
    /// In batches whose export failed.
    pub failed: u64,
    /// Refused by the collector, by its own count.
    pub rejected: u64,
    /// Dropped on purpose, by an exporter that takes them nowhere.
    #[serde(default)]
    pub discarded: u64,
    /// Still waiting, or under way, when the shutdown had used up its time and gave up.
    #[serde(default)]
    pub abandoned: u64,
}

impl ServiceSpans {
    /// These and those of another service, or of another lane.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            ended: self.ended + other.ended,
            dropped: self.dropped + other.dropped,
            failed: self.failed + other.failed,
            rejected: self.rejected + other.rejected,
            discarded: self.discarded + other.discarded,
            abandoned: self.abandoned + other.abandoned,
        }
    }
}

/// Where the log records of one service went, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceLogs {
    /// Records emitted, counted in front of the batch processor.
    pub emitted: u64,
    /// Dropped because the queue was full, by the SDK's own count.
    pub dropped: u64,
    /// In batches whose export failed.
    pub failed: u64,
    /// Refused by the collector, by its own count.
    pub rejected: u64,
}

impl ServiceLogs {
    /// These and those of another service, or of another lane.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            emitted: self.emitted + other.emitted,
            dropped: self.dropped + other.dropped,
            failed: self.failed + other.failed,
            rejected: self.rejected + other.rejected,
        }
    }
}

/// Exports of one signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Exports {
    /// Exports tried.
    pub count: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Half took at most this long; null when there was none.
    pub p50_ms: Option<f64>,
    /// 99 % took at most this long; null when there was none.
    pub p99_ms: Option<f64>,
    /// Items in the largest.
    #[serde(default)]
    pub largest: u64,
    /// Half of those that were as large took at most this long; null when there was none.
    #[serde(default)]
    pub largest_p50_ms: Option<f64>,
    /// Mean duration of those: exports that follow one another take the sum.
    #[serde(default)]
    pub largest_mean_ms: Option<f64>,
}

//! Plain data of a launch: the operation it times, the telemetry that this must leave behind, and the answer it prints.

use serde::{Deserialize, Serialize};

use crate::record::account::Account;

/// The operation that a launch times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Increments a counter.
    Counter(Access),
    /// Records a value into a histogram.
    Histogram(Access),
    /// Increments a counter through kept handles, on so many threads at once.
    Threads(usize, SeriesUse),
    /// Calls the order service.
    Order,
    /// Makes, enters, leaves and closes a span at INFO.
    Span,
    /// The same at DEBUG.
    DebugSpan,
    /// Makes so many spans, each entered within the one before; an operation is one of them.
    Depth(u64),
}

/// How the code finds its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Through the macro, at each call.
    Macro,
    /// Through a handle that was kept.
    Handle,
}

/// Which series several threads record into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeriesUse {
    /// The same series.
    One,
    /// Each thread into its own.
    Many,
}

/// Telemetry that the operations must leave behind; all but `series` per operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    /// Spans, at the exporter.
    pub(super) spans: u64,
    /// Increments of the counter of orders.
    pub(super) orders: u64,
    /// Values in the histogram of order latencies.
    pub(super) latencies: u64,
    /// Series of the counter of orders, however many operations there are, where that is what is measured; no other metric
    /// is then recorded.
    pub(super) series: Option<u64>,
}

/// The fate of a span at INFO that was made after the loop. Where the operations leave nothing behind, this tells a filter
/// or a sampler from a missing subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ControlSpan {
    /// No subscriber took it.
    Disabled,
    /// OpenTelemetry knows it, and does not record it.
    Unsampled,
    /// It is recorded, and is one span more that must arrive.
    Recorded,
}

/// The measurement of one launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IsolatedReading {
    /// The estimator.
    pub estimator: String,
    /// Nanoseconds of CPU per operation: the median over the batches, less what the same loop takes without the call.
    pub ns: f64,
    /// Operations in each batch; where several threads make them, on each.
    pub operations: u64,
    /// Batches.
    pub batches: usize,
}

/// The answer of one launch: its measurement, and the evidence that it did what it measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launched {
    /// The measurement.
    pub reading: IsolatedReading,
    /// Operations made in all, warm-up included.
    pub(super) made: u64,
    /// The fate of a span made after them.
    pub(super) control: ControlSpan,
    /// The service's side of the ledger.
    pub(super) account: Account,
    /// The last scrape; null in modes that are not scraped.
    pub(super) exposition: Option<String>,
}

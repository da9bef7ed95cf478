//! Where the telemetry of an arm went, as stored: what the service handed over against what the sink received.

use serde::{Deserialize, Serialize};

use crate::record::account::Exports;
use crate::record::received::TreeReport;

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
    /// Longest shutdown of any lane, during which it exports the rest; null where no lane ended.
    #[serde(default)]
    pub shutdown_ms: Option<f64>,
    /// Connections that the sink refused.
    #[serde(default)]
    pub refused_connections: u64,
    /// One of them in words; null where there is none.
    #[serde(default)]
    pub refused_connection: Option<String>,
    /// What makes the sink's counts incomplete or unknown, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// Why values above are null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Messages of the SDK, each once.
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
    /// Still queued or being exported when the shutdown timed out.
    #[serde(default)]
    pub abandoned: u64,
    /// The rest, which must be 0. Null where `received` is.
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
    /// The rest, which must be 0. Null where `received` is.
    pub unaccounted: Option<i64>,
}

/// Where metrics went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MetricLedger {
    /// Data points the sink received; null in modes that are scraped, and where they went to another collector.
    pub points_received: Option<u64>,
    /// Orders by the counter, as last received or scraped; null where it is not known.
    pub requests_counted: Option<u64>,
    /// Orders answered, warm-up included.
    pub requests_completed: u64,
    /// Orders sent of which the answer is not known, so that the counter may or may not have them.
    pub requests_uncertain: u64,
}

impl MetricLedger {
    /// Whether the counter equals the orders answered; `None` where the counter is not known.
    pub fn agrees(&self) -> Option<bool> {
        let range = self.requests_completed..=self.requests_completed + self.requests_uncertain;
        self.requests_counted.map(|counted| range.contains(&counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_were_miscounted_do_not_agree() {
        let ledger = |counted, completed, uncertain| MetricLedger {
            requests_counted: counted,
            requests_completed: completed,
            requests_uncertain: uncertain,
            ..MetricLedger::default()
        };
        assert_eq!(ledger(Some(100), 100, 0).agrees(), Some(true));
        assert_eq!(ledger(Some(101), 100, 0).agrees(), Some(false));
        assert_eq!(ledger(Some(101), 100, 1).agrees(), Some(true));
        assert_eq!(ledger(Some(99), 100, 1).agrees(), Some(false));
        assert_eq!(ledger(None, 100, 0).agrees(), None);
    }
}

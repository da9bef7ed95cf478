//! The metrics that arms are compared by.

use serde::{Deserialize, Serialize};

/// What is compared. The key carries the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Metric {
    /// The highest rate that holds the SLO with no loss, in requests per second. A search compares this and nothing else:
    /// its arms are at different rates.
    #[serde(rename = "capacity_rps")]
    Capacity,
    /// CPU time of the service and its telemetry per request answered as asked, in microseconds.
    #[serde(rename = "cpu_us_per_request")]
    Cpu,
    /// Of this, on the threads that answer requests.
    #[serde(rename = "cpu_us_per_request_request")]
    CpuRequest,
    /// Of this, on the threads that take telemetry out; periodic work normalised to its true period.
    #[serde(rename = "cpu_us_per_request_exporter")]
    CpuExporter,
    /// Median response time, in microseconds.
    #[serde(rename = "response_us_p50")]
    ResponseP50,
    /// 90th percentile of the response time.
    #[serde(rename = "response_us_p90")]
    ResponseP90,
    /// 99th percentile of the response time.
    #[serde(rename = "response_us_p99")]
    ResponseP99,
    /// 99.9th percentile of the response time; withheld below 20 000 requests per round.
    #[serde(rename = "response_us_p999")]
    ResponseP999,
    /// Allocations per request answered as asked.
    #[serde(rename = "allocations_per_request")]
    Allocations,
    /// Bytes allocated per request answered as asked.
    #[serde(rename = "allocated_bytes_per_request")]
    AllocatedBytes,
    /// Resident memory of the lane at the end of the round, in bytes.
    #[serde(rename = "rss_bytes")]
    Rss,
}

impl Metric {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 11] = [
        Self::Capacity,
        Self::Cpu,
        Self::CpuRequest,
        Self::CpuExporter,
        Self::ResponseP50,
        Self::ResponseP90,
        Self::ResponseP99,
        Self::ResponseP999,
        Self::Allocations,
        Self::AllocatedBytes,
        Self::Rss,
    ];
}

//! The metrics that arms are compared by.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::units::nearest;

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
    /// Its name, with its unit, as in a stored result.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Capacity => "capacity_rps",
            Self::Cpu => "cpu_us_per_request",
            Self::CpuRequest => "cpu_us_per_request_request",
            Self::CpuExporter => "cpu_us_per_request_exporter",
            Self::ResponseP50 => "response_us_p50",
            Self::ResponseP90 => "response_us_p90",
            Self::ResponseP99 => "response_us_p99",
            Self::ResponseP999 => "response_us_p999",
            Self::Allocations => "allocations_per_request",
            Self::AllocatedBytes => "allocated_bytes_per_request",
            Self::Rss => "rss_bytes",
        }
    }

    /// Whether a service that has more of it is the better one; all but the capacity are costs.
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::Capacity)
    }
}

/// A name that is no metric's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown metric `{name}`{}; known are {}", .nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default(), Metric::ALL.map(Metric::key).join(", "))]
pub struct UnknownMetric {
    name: String,
    nearest: Option<&'static str>,
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.key() == name)
            .ok_or_else(|| UnknownMetric { name: name.into(), nearest: nearest(name, Self::ALL.map(Self::key)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_called_as_in_a_stored_result() {
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.key());
            assert_eq!(metric.key().parse(), Ok(metric));
        }
        let unknown = "cpu_per_request".parse::<Metric>().unwrap_err().to_string();
        assert!(unknown.contains("did you mean `cpu_us_per_request`?") && unknown.contains("rss_bytes"), "{unknown}");
    }
}

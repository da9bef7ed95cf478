//! The metrics that arms are compared by.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::units::nearest;

/// A metric of an arm. Its key carries the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Metric {
    /// Highest rate that keeps the SLO without loss, in requests per second. The only metric of a capacity search, whose
    /// arms run at different rates.
    #[serde(rename = "capacity_rps")]
    Capacity,
    /// CPU time of the service and its telemetry per request answered as asked, in microseconds.
    #[serde(rename = "cpu_us_per_request")]
    Cpu,
    /// The part of it on the threads that answer requests.
    #[serde(rename = "cpu_us_per_request_request")]
    CpuRequest,
    /// The part of it on the threads that export telemetry; periodic work is normalised to its true period.
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
    /// All metrics, in the order in which they are reported.
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
    /// Name with unit, as in a stored result.
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

    /// Whether it is CPU time, which can be converted to a share of a core.
    pub const fn is_cpu(self) -> bool {
        matches!(self, Self::Cpu | Self::CpuRequest | Self::CpuExporter)
    }

    /// Whether a higher value is better; true for the capacity alone.
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::Capacity)
    }
}

/// The name of no metric.
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
    fn metric_names_are_the_keys_of_stored_results() {
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.key());
            assert_eq!(metric.key().parse(), Ok(metric));
        }
        let unknown = "cpu_per_request".parse::<Metric>().unwrap_err().to_string();
        assert!(unknown.contains("did you mean `cpu_us_per_request`?") && unknown.contains("rss_bytes"), "{unknown}");
    }
}

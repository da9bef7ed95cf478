//! One stretch of load and its results, as stored: counts, durations, and whether the load asked for was generated.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use crate::experiment::scenario::Scenario;
use crate::experiment::slo::Quantile;

/// Three significant digits: 0.1 % of any value.
const DIGITS: u8 = 3;
/// An hour: no time-out is longer. The buckets up to here are made once (a quarter of a megabyte), none while recording.
pub const LONGEST_NS: u64 = 3_600_000_000_000;

/// Half of all requests later than this: not a hiccup of the machine but a rate it cannot make.
pub const MEDIAN_LATE_INVALID: Duration = Duration::from_millis(10);

/// Counts of arrivals by outcome; `scheduled` is the sum of the rest, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LoadCounts {
    /// Arrivals that were due.
    pub scheduled: u64,
    /// Answered with a 2xx status, to the last byte.
    pub completed: u64,
    /// Answered with another status, or ended by an error, by class.
    pub failed: BTreeMap<String, u64>,
    /// Written, and not answered within the time-out.
    pub timed_out: u64,
    /// Due when the backlog was full, and given up at once.
    pub missed: u64,
    /// Still waiting for a connection when the stretch was over.
    pub unsent: u64,
    /// Written and still without an answer when the stretch was over.
    pub in_flight: u64,
}

/// Counts that only a mix has; all zero where every request was work that should succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MixCounts {
    /// Of those that failed: faulty, and refused with a 4xx status, as it was asked for.
    pub refused_as_asked: u64,
    /// Of those that completed: faulty, and not refused.
    pub not_refused: u64,
    /// Answered, whatever the status: requests that were no work.
    pub probes_answered: u64,
}

impl MixCounts {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.refused_as_asked += other.refused_as_asked;
        self.not_refused += other.not_refused;
        self.probes_answered += other.probes_answered;
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl LoadCounts {
    /// Arrivals that failed, over all classes.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.completed += other.completed;
        for (class, n) in &other.failed {
            *self.failed.entry(class.clone()).or_default() += n;
        }
        self.timed_out += other.timed_out;
        self.missed += other.missed;
        self.unsent += other.unsent;
        self.in_flight += other.in_flight;
    }

    /// Whether every arrival is accounted for.
    pub fn adds_up(&self) -> bool {
        self.scheduled == self.completed + self.failures() + self.timed_out + self.missed + self.unsent + self.in_flight
    }
}

/// Rates asked for, offered and achieved, in requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RateAchieved {
    /// On the mean over the stretch, as the scenario says; null where it was as fast as the connections allow.
    pub asked: Option<f64>,
    /// Arrivals due, over the time they were due in.
    pub offered: f64,
    /// Answered as asked, over the time until the last answer, and never less than the time arrivals were due in.
    pub achieved: f64,
}

/// Quantiles of a duration in microseconds; each within 0.1 %. Null where nothing was measured, with the reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quantiles {
    /// Half were at most this.
    pub p50: Option<f64>,
    /// 90 % were at most this.
    pub p90: Option<f64>,
    /// 99 % were at most this.
    pub p99: Option<f64>,
    /// 99.9 % were at most this.
    pub p999: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// Why the values are null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Quantiles {
    /// The quantiles of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self { reason: Some("no request was measured".into()), ..Self::default() };
        }
        let at = |q| Some(histogram.value_at_quantile(q) as f64 / 1e3);
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Some(histogram.max() as f64 / 1e3),
            reason: None,
        }
    }

    /// The value at `quantile`, in microseconds; `None` where nothing was measured.
    pub fn at(&self, quantile: Quantile) -> Option<f64> {
        match quantile {
            Quantile::P50 => self.p50,
            Quantile::P90 => self.p90,
            Quantile::P99 => self.p99,
            Quantile::P999 => self.p999,
            Quantile::Max => self.max,
        }
    }
}

/// Whole distributions in nanoseconds: `HdrHistogram` V2, base64. One that was not kept is empty here and absent in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hdr {
    /// From the intended to the actual write.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lateness_ns: String,
    /// From the intended write to the last byte of the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub response_ns: String,
    /// From the actual write to the last byte of the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_ns: String,
    /// From the intended write to the failure, for requests that failed or timed out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure_ns: String,
}

impl Hdr {
    /// Those that the analysis of `scenario` reads: of response times, where several slices make up a round. The quantiles of
    /// one slice stand beside its histograms; those of several together stand nowhere.
    #[must_use]
    pub fn read_by_analysis(self, scenario: &Scenario) -> Self {
        let response_ns = if scenario.adds_up_slices() { self.response_ns } else { String::new() };
        Self { response_ns, ..Self::default() }
    }

    /// Whether none was kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One stretch of load and its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LoadResult {
    /// Counts of arrivals by outcome.
    pub load: LoadCounts,
    /// Counts that only a mix has; absent where every request was work that should succeed.
    #[serde(default, skip_serializing_if = "MixCounts::is_empty")]
    pub mix: MixCounts,
    /// Rates.
    pub rate: RateAchieved,
    /// How long after its intended time a completed request was written.
    pub lateness_us: Quantiles,
    /// How late the generator itself turned to an arrival: the part of the lateness that no service is to blame for. Absent
    /// in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_us: Option<Quantiles>,
    /// From the intended time to the last byte, of completed requests.
    pub response_us: Quantiles,
    /// From the write to the last byte, of completed requests.
    pub service_us: Quantiles,
    /// The whole distributions; of a stored result those that its analysis reads, or all if `keep_histograms` was given.
    #[serde(default, skip_serializing_if = "Hdr::is_empty")]
    pub hdr: Hdr,
    /// CPU time of the generator's threads, in microseconds. Under the direct transport the service's is in it.
    pub generator_cpu_us: f64,
    /// Whether the load asked for was generated.
    pub validity: Validity,
}

impl LoadResult {
    /// Requests answered as asked: completed, and refused where that was right. Costs are divided by this number.
    pub fn answered(&self) -> u64 {
        self.load.completed + self.mix.refused_as_asked
    }
}

/// The histogram of nanoseconds that `text` holds, or `None` when it holds none.
pub fn decode(text: &str) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// A histogram as text: V2, base64.
///
/// # Panics
/// Never: memory takes every byte.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("memory takes every byte");
    STANDARD.encode(bytes)
}

/// An empty histogram of nanoseconds.
///
/// # Panics
/// Never: its bounds are constants within the library's.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_NS, DIGITS).expect("an hour in three digits is within the library's bounds")
}

/// Names of causes; every cause begins with one.
pub mod cause {
    /// It did not turn to arrivals when they were due.
    pub const STARVED: &str = "generator starved of CPU";
    /// The hypervisor gave the machine to others.
    pub const STOLEN: &str = "stolen CPU";
    /// The server answers as fast as ever, and all connections are busy.
    pub const CONNECTION_CAP: &str = "connection cap";
    /// More arrivals waited than there is room for.
    pub const BACKLOG: &str = "backlog overflow";
    /// The server cannot keep up.
    pub const SLOW: &str = "slow server";
    /// The server answered nothing for a while.
    pub const STALLED: &str = "stalled server";
    /// The server does not answer in time.
    pub const SILENT: &str = "silent server";
    /// The server is not there.
    pub const DEAD: &str = "dead server";
    /// The server closes connections, answers with an error, or with what is no answer.
    pub const FAILING: &str = "failing server";
    /// The generator's own system refuses it descriptors or ports.
    pub const REFUSED_BY_SYSTEM: &str = "no descriptors or ports";
    /// The stretch is shorter than the gap between arrivals.
    pub const NOTHING_DUE: &str = "nothing due";
}

/// How far a stretch of load can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ValidityLevel {
    /// The load asked for was put on.
    #[default]
    Valid,
    /// It was, but for the causes.
    Degraded,
    /// It was not; no difference is computed from it.
    Invalid,
}

/// Whether a stretch of load, or a whole run, can be trusted, and the causes if not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Validity {
    /// The worst level of its causes.
    #[serde(rename = "verdict")]
    pub level: ValidityLevel,
    /// Causes: the name of each, and the evidence in words.
    pub causes: Vec<String>,
}

impl Validity {
    /// Adds a finding.
    pub fn find(&mut self, level: ValidityLevel, cause: String) {
        self.level = self.level.max(level);
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    /// Whether no difference may be computed from it.
    pub fn is_invalid(&self) -> bool {
        self.level == ValidityLevel::Invalid
    }

    /// Whether a cause of this name was found.
    pub fn names(&self, cause: &str) -> bool {
        self.causes.iter().any(|found| found.starts_with(cause))
    }

    /// Adds the findings of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.level = self.level.max(other.level);
        for cause in &other.causes {
            self.find(other.level, cause.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_being_stored() {
        let mut whole = histogram();
        for i in 1..10_000_u64 {
            whole.saturating_record(i * i * 37);
        }
        let back = decode(&encode(&whole)).unwrap();
        assert_eq!(Quantiles::of(&back), Quantiles::of(&whole));
        assert_eq!(back.len(), whole.len());
        assert!(decode("not a histogram").is_none());
    }

    #[test]
    fn quantiles_of_nothing_are_null_with_a_reason() {
        let json = serde_json::to_value(Quantiles::of(&histogram())).unwrap();
        assert!(json["p50"].is_null());
        assert_eq!(json["reason"], "no request was measured");
    }
}

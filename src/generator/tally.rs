//! What became of every arrival, and how long it took.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use super::counts::{Kind, LoadCounts, MixCounts};
use super::shard::Part;
use super::verdict::{self, Evidence, Validity};
use super::wire::{Answer, Failure};
use crate::experiment::units::micros;

/// Three significant digits: 0.1 % of any value.
const DIGITS: u8 = 3;
/// An hour: no time-out is longer. The buckets up to here are made once (a quarter of a megabyte), none while recording.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// The rate asked for and what came of it, in requests per second.
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
}

/// Whole distributions in nanoseconds: `HdrHistogram` V2, base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hdr {
    /// From the intended to the actual write.
    pub lateness_ns: String,
    /// From the intended write to the last byte of the answer.
    pub response_ns: String,
    /// From the actual write to the last byte of the answer.
    pub service_ns: String,
    /// From the intended write to the failure, for requests that failed or timed out.
    pub failure_ns: String,
}

/// What one stretch of load was, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Played {
    /// Where every arrival went.
    pub load: LoadCounts,
    /// What the mix adds to it; absent where everything sent was work that should succeed.
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
    /// The same distributions whole.
    pub hdr: Hdr,
    /// CPU time of the generator's threads, in microseconds. Under the direct transport the service's is in it.
    pub generator_cpu_us: f64,
    /// Whether the generator did what was asked.
    pub validity: Validity,
}

impl Played {
    /// Requests answered as asked: completed, and refused where that was right. What costs are divided by.
    pub fn answered(&self) -> u64 {
        self.load.completed + self.mix.refused_as_asked
    }
}

/// How many requests were under way when another began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// Half of the connections or more were idle.
    Few,
    Some,
    /// No other connection was idle.
    All,
}

impl Company {
    /// The company of the last of `under_way` requests on so many connections.
    pub(super) fn of(under_way: usize, connections: usize) -> Self {
        // A server that carries one request at a time is not crowded by it, also when there is but one connection.
        if under_way == 1 || under_way * 2 <= connections {
            Self::Few
        } else if under_way == connections {
            Self::All
        } else {
            Self::Some
        }
    }
}

/// The running account of one stretch.
#[derive(Debug)]
pub(super) struct Tally {
    counts: LoadCounts,
    mix: MixCounts,
    /// How late the generator turned to an arrival: its own fault alone, unlike a wait for a connection.
    wake: Histogram<u64>,
    lateness: Histogram<u64>,
    response: Histogram<u64>,
    service: Histogram<u64>,
    failure: Histogram<u64>,
    /// Service times of requests that had the company of few from beginning to end, and of all at the beginning; roughly, as
    /// only their medians are compared.
    uncrowded: Histogram<u64>,
    crowded: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: LoadCounts::default(),
            mix: MixCounts::default(),
            wake: histogram(),
            lateness: histogram(),
            response: histogram(),
            service: histogram(),
            failure: histogram(),
            uncrowded: rough_histogram(),
            crowded: rough_histogram(),
        }
    }
}

/// An empty histogram of nanoseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_NS, DIGITS).expect("an hour in three digits is within the library's bounds")
}

/// An empty histogram of nanoseconds, to within a tenth.
fn rough_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_NS, 1).expect("an hour in one digit is within the library's bounds")
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

impl Tally {
    pub(super) fn scheduled(&mut self, wake_lateness: Duration) {
        self.counts.scheduled += 1;
        record(&mut self.wake, wake_lateness);
    }

    pub(super) fn missed(&mut self) {
        self.counts.missed += 1;
    }

    /// Counts the end of a request. `company` is what it had at its take-off and at its end.
    pub(super) fn outcome(
        &mut self,
        intended: Instant,
        kind: Kind,
        company: [Company; 2],
        outcome: Result<Answer, Failure>,
    ) {
        if let Ok(answer) = &outcome {
            let (faulty, status) = (kind == Kind::Faulty, answer.status);
            self.mix.refused_as_asked += u64::from(faulty && status.is_client_error());
            self.mix.not_refused += u64::from(faulty && status.is_success());
            self.mix.probes_answered += u64::from(kind == Kind::Probe);
        }
        match outcome {
            Ok(answer) if answer.status.is_success() => {
                let service = answer.completed.saturating_duration_since(answer.written);
                self.counts.completed += 1;
                record(&mut self.lateness, answer.written.saturating_duration_since(intended));
                record(&mut self.response, answer.completed.saturating_duration_since(intended));
                record(&mut self.service, service);
                match company {
                    [Company::Few, Company::Few] => record(&mut self.uncrowded, service),
                    [Company::All, _] => record(&mut self.crowded, service),
                    _ => {}
                }
            }
            Ok(answer) => {
                let class = format!("status_{}xx", answer.status.as_u16() / 100);
                *self.counts.failed.entry(class).or_default() += 1;
                record(&mut self.failure, answer.completed.saturating_duration_since(intended));
            }
            Err(class) => {
                *self.counts.failed.entry(class.into()).or_default() += 1;
                record(&mut self.failure, intended.elapsed());
            }
        }
    }

    pub(super) fn timed_out(&mut self, intended: Instant) {
        self.counts.timed_out += 1;
        record(&mut self.failure, intended.elapsed());
    }

    /// Notes what was left at the end.
    pub(super) fn left(&mut self, unsent: u64, in_flight: u64) {
        self.counts.unsent += unsent;
        self.counts.in_flight += in_flight;
    }

    fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.mix.add(&other.mix);
        for (sum, part) in [
            (&mut self.wake, &other.wake),
            (&mut self.lateness, &other.lateness),
            (&mut self.response, &other.response),
            (&mut self.service, &other.service),
            (&mut self.failure, &other.failure),
            (&mut self.uncrowded, &other.uncrowded),
            (&mut self.crowded, &other.crowded),
        ] {
            sum.add(part).expect("all are made with the same bounds");
        }
    }
}

/// Puts the accounts of all shards together. `stolen` is the time the hypervisor gave to others, over all cores.
pub(super) fn conclude(asked: Option<f64>, parts: &[Part], connections: usize, stolen: Duration) -> Played {
    let mut tally = Tally::default();
    for part in parts {
        tally.add(&part.tally);
    }
    debug_assert!(tally.counts.adds_up(), "{:?}", tally.counts);
    let longest = |f: fn(&Part) -> Duration| parts.iter().map(f).max().unwrap_or_default();
    let (due_in, elapsed) = (longest(|part| part.due_in), longest(|part| part.elapsed));
    let seconds = due_in.as_secs_f64();
    let rate = RateAchieved {
        asked,
        offered: tally.counts.scheduled as f64 / seconds,
        achieved: (tally.counts.completed + tally.mix.refused_as_asked) as f64 / elapsed.as_secs_f64().max(seconds),
    };
    let validity = verdict::judge(&Evidence {
        counts: &tally.counts,
        mix: &tally.mix,
        wake: &tally.wake,
        lateness: &tally.lateness,
        service: &tally.service,
        uncrowded: &tally.uncrowded,
        crowded: &tally.crowded,
        connections,
        due_in,
        elapsed,
        cut_short: parts.iter().any(|part| part.cut_short),
        without_core: longest(|part| part.without_core),
        stolen,
    });
    Played {
        rate,
        lateness_us: Quantiles::of(&tally.lateness),
        wake_us: Some(Quantiles::of(&tally.wake)),
        response_us: Quantiles::of(&tally.response),
        service_us: Quantiles::of(&tally.service),
        hdr: Hdr {
            lateness_ns: encode(&tally.lateness),
            response_ns: encode(&tally.response),
            service_ns: encode(&tally.service),
            failure_ns: encode(&tally.failure),
        },
        load: tally.counts,
        mix: tally.mix,
        generator_cpu_us: micros(parts.iter().map(|part| part.cpu).sum()),
        validity,
    }
}

/// A histogram as text: V2, base64.
fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("memory takes every byte");
    STANDARD.encode(bytes)
}

/// The histogram of nanoseconds that `text` holds, or `None` when it holds none.
pub fn decode(text: &str) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// A stretch in which so many requests were each answered after so long.
#[cfg(test)]
pub(crate) fn answered(requests: u64, response: Duration) -> Played {
    answered_after(std::iter::repeat_n(response, requests as usize))
}

/// A stretch in which each request was answered after one of these times.
#[cfg(test)]
pub(crate) fn answered_after(responses: impl IntoIterator<Item = Duration>) -> Played {
    let mut tally = Tally::default();
    let intended = Instant::now();
    for response in responses {
        let answer = Answer { status: http::StatusCode::OK, written: intended, completed: intended + response };
        tally.scheduled(Duration::ZERO);
        tally.outcome(intended, Kind::Work, [Company::Few; 2], Ok(answer));
    }
    let second = Duration::from_secs(1);
    let part = Part {
        tally,
        due_in: second,
        elapsed: second,
        cut_short: false,
        cpu: Duration::ZERO,
        without_core: Duration::ZERO,
    };
    conclude(Some(10_000.0), &[part], 16, Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_being_stored() {
        let mut whole = histogram();
        for i in 1..10_000_u64 {
            record(&mut whole, Duration::from_nanos(i * i * 37));
        }
        let back = decode(&encode(&whole)).unwrap();
        assert_eq!(Quantiles::of(&back), Quantiles::of(&whole));
        assert_eq!(back.len(), whole.len());
        assert!(decode("not a histogram").is_none());
    }

    #[test]
    fn nothing_measured_is_null_with_a_reason() {
        let json = serde_json::to_value(Quantiles::of(&histogram())).unwrap();
        assert!(json["p50"].is_null());
        assert_eq!(json["reason"], "no request was measured");
    }
}

//! Counts and histograms of one stretch of load: how every arrival ended, and how long it took.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::kind::Kind;
use super::verdict::{self, LoadEvidence};
use super::wire::{FailureClass, TimedResponse};
use crate::experiment::units::micros;
use crate::record::load::{
    Hdr, LONGEST_NS, LoadCounts, LoadResult, MixCounts, Quantiles, RateAchieved, encode, histogram,
};

/// How busy the connections were when a request started or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// At least half of the connections were idle.
    HalfIdle,
    /// More than half of the connections were busy, but not all.
    Busy,
    /// All connections were busy.
    Full,
}

impl Occupancy {
    /// The occupancy with `under_way` requests in flight on `connections` connections.
    pub(super) fn of(under_way: usize, connections: usize) -> Self {
        // A single request does not crowd the server, even if there is only one connection.
        if under_way == 1 || under_way * 2 <= connections {
            Self::HalfIdle
        } else if under_way == connections {
            Self::Full
        } else {
            Self::Busy
        }
    }
}

/// Counts and histograms of one stretch so far.
#[derive(Debug)]
pub(super) struct LoadTally {
    counts: LoadCounts,
    mix: MixCounts,
    /// How late the generator itself started each arrival, without any wait for a connection.
    wake: Histogram<u64>,
    lateness: Histogram<u64>,
    response: Histogram<u64>,
    service: Histogram<u64>,
    failure: Histogram<u64>,
    /// Service times of requests that started and ended with half of the connections idle.
    uncrowded: Histogram<u64>,
    /// Service times of requests that took the last idle connection. Both are coarse: only their medians are compared.
    crowded: Histogram<u64>,
}

impl Default for LoadTally {
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

/// An empty histogram of nanoseconds with one significant digit.
fn rough_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_NS, 1).expect("an hour in one digit is within the library's bounds")
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

impl LoadTally {
    pub(super) fn scheduled(&mut self, wake_lateness: Duration) {
        self.counts.scheduled += 1;
        record(&mut self.wake, wake_lateness);
    }

    pub(super) fn missed(&mut self) {
        self.counts.missed += 1;
    }

    /// Counts the end of a request. `occupancy` was measured at its start and at its end.
    pub(super) fn outcome(
        &mut self,
        intended: Instant,
        kind: Kind,
        occupancy: [Occupancy; 2],
        outcome: Result<TimedResponse, FailureClass>,
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
                match occupancy {
                    [Occupancy::HalfIdle, Occupancy::HalfIdle] => record(&mut self.uncrowded, service),
                    [Occupancy::Full, _] => record(&mut self.crowded, service),
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

    /// Counts the arrivals that were still waiting or in flight at the end.
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

/// Result of one stretch on one shard.
#[derive(Debug)]
pub(super) struct ShardReport {
    pub tally: LoadTally,
    /// Length of the schedule that was played.
    pub due_in: Duration,
    /// From the first arrival to the last response.
    pub elapsed: Duration,
    /// Whether the stretch was cut short.
    pub cut_short: bool,
    /// CPU time of the shard's thread.
    pub cpu: Duration,
    /// How long the shard's thread was runnable without a CPU (run-queue delay).
    pub without_core: Duration,
}

/// Combines the reports of all shards into one result. `stolen` is the steal time of the hypervisor, over all cores.
pub(super) fn conclude(asked: Option<f64>, parts: &[ShardReport], connections: usize, stolen: Duration) -> LoadResult {
    let mut tally = LoadTally::default();
    for part in parts {
        tally.add(&part.tally);
    }
    debug_assert!(tally.counts.adds_up(), "{:?}", tally.counts);
    let longest = |f: fn(&ShardReport) -> Duration| parts.iter().map(f).max().unwrap_or_default();
    let (due_in, elapsed) = (longest(|part| part.due_in), longest(|part| part.elapsed));
    let seconds = due_in.as_secs_f64();
    let rate = RateAchieved {
        asked,
        offered: tally.counts.scheduled as f64 / seconds,
        achieved: (tally.counts.completed + tally.mix.refused_as_asked) as f64 / elapsed.as_secs_f64().max(seconds),
    };
    let validity = verdict::judge(&LoadEvidence {
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
    LoadResult {
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

/// The result of a stretch with `requests` requests, each answered after `response`.
#[cfg(test)]
pub(crate) fn answered(requests: u64, response: Duration) -> LoadResult {
    answered_after(std::iter::repeat_n(response, requests as usize))
}

/// The result of a stretch whose requests were answered after these response times.
#[cfg(test)]
pub(crate) fn answered_after(responses: impl IntoIterator<Item = Duration>) -> LoadResult {
    let mut tally = LoadTally::default();
    let intended = Instant::now();
    for response in responses {
        let answer = TimedResponse { status: http::StatusCode::OK, written: intended, completed: intended + response };
        tally.scheduled(Duration::ZERO);
        tally.outcome(intended, Kind::Work, [Occupancy::HalfIdle; 2], Ok(answer));
    }
    let second = Duration::from_secs(1);
    let part = ShardReport {
        tally,
        due_in: second,
        elapsed: second,
        cut_short: false,
        cpu: Duration::ZERO,
        without_core: Duration::ZERO,
    };
    conclude(Some(10_000.0), &[part], 16, Duration::ZERO)
}

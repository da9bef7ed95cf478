//! The generator's verdict on itself: whether it put on the load that was asked for.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::counts::LoadCounts;

/// Share of arrivals that may be lost or fail before the stretch says nothing about the load asked for.
const LOST_INVALID: f64 = 0.01;
/// Half of all requests later than this: not a hiccup of the machine but a rate it cannot make.
const MEDIAN_LATE_INVALID: Duration = Duration::from_millis(10);
/// One request in a hundred later than this makes latencies doubtful, though CPU per request still stands.
const TAIL_LATE_DEGRADED: Duration = Duration::from_millis(5);

/// How far a stretch of load can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The load asked for was put on.
    #[default]
    Valid,
    /// It was, but for something that is named.
    Degraded,
    /// It was not; no difference is computed from it.
    Invalid,
}

/// A verdict with its causes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Validity {
    /// The worst of what was found.
    pub verdict: Verdict,
    /// What was found, in words.
    pub causes: Vec<String>,
}

impl Validity {
    /// Adds a finding.
    pub fn find(&mut self, verdict: Verdict, cause: String) {
        self.verdict = self.verdict.max(verdict);
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    /// Takes over what `other` found.
    pub fn merge(&mut self, other: &Self) {
        self.verdict = self.verdict.max(other.verdict);
        for cause in &other.causes {
            self.find(other.verdict, cause.clone());
        }
    }
}

/// What the verdict is founded on.
pub(super) struct Evidence<'a> {
    pub counts: &'a LoadCounts,
    /// How late the generator turned to each arrival, in nanoseconds.
    pub wake: &'a Histogram<u64>,
    /// How late each completed request was written, in nanoseconds.
    pub lateness: &'a Histogram<u64>,
}

pub(super) fn judge(evidence: &Evidence<'_>) -> Validity {
    let counts = evidence.counts;
    let mut validity = Validity::default();
    if counts.scheduled == 0 {
        validity
            .find(Verdict::Invalid, "no arrival was due: the slice is shorter than the gap between requests".into());
        return validity;
    }
    let share = |n: u64| n as f64 / counts.scheduled as f64;
    let grade = |n: u64| if share(n) > LOST_INVALID { Verdict::Invalid } else { Verdict::Degraded };
    let starved = quantile(evidence.wake, 0.5) > MEDIAN_LATE_INVALID;

    let lost = counts.missed + counts.unsent;
    if lost > 0 {
        let why = if starved {
            "the generator was starved of CPU"
        } else {
            "all connections were busy: the service cannot keep up with this rate, or it needs more connections"
        };
        validity.find(grade(lost), format!("{:.1} % of the requests were never sent: {why}", share(lost) * 100.0));
    }
    let failed = counts.failures();
    if failed > 0 {
        let classes: Vec<String> = counts.failed.iter().map(|(class, n)| format!("{class} {n}")).collect();
        validity.find(grade(failed), format!("{failed} requests failed ({})", classes.join(", ")));
    }
    let unanswered = counts.timed_out + counts.in_flight;
    if unanswered > 0 {
        validity.find(grade(unanswered), format!("{unanswered} requests were not answered in time"));
    }
    if starved {
        let late = quantile(evidence.wake, 0.5).as_millis();
        validity.find(
            Verdict::Invalid,
            format!("the generator was starved of CPU: half of all requests were due {late} ms before it got to them"),
        );
    } else if quantile(evidence.lateness, 0.5) > MEDIAN_LATE_INVALID {
        let late = quantile(evidence.lateness, 0.5).as_millis();
        validity.find(
            Verdict::Invalid,
            format!(
                "half of all requests waited {late} ms for a connection: the service cannot keep up with this rate"
            ),
        );
    } else if quantile(evidence.lateness, 0.99) > TAIL_LATE_DEGRADED {
        let late = quantile(evidence.lateness, 0.99).as_millis();
        validity.find(Verdict::Degraded, format!("1 % of the requests were written {late} ms late or more"));
    }
    validity
}

fn quantile(histogram: &Histogram<u64>, q: f64) -> Duration {
    Duration::from_nanos(histogram.value_at_quantile(q))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(counts: &LoadCounts, wake_ms: u64, late_ms: u64) -> Validity {
        let spread = |ms: u64| {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            histogram.record_n(ms * 1_000_000 + 1, 100).unwrap();
            histogram
        };
        assert!(counts.adds_up());
        judge(&Evidence { counts, wake: &spread(wake_ms), lateness: &spread(late_ms) })
    }

    fn clean(scheduled: u64) -> LoadCounts {
        LoadCounts { scheduled, completed: scheduled, ..LoadCounts::default() }
    }

    #[test]
    fn a_clean_stretch_is_valid() {
        assert_eq!(judged(&clean(1_000), 0, 0), Validity::default());
    }

    #[test]
    fn each_fault_gets_its_verdict_and_its_cause() {
        let missed = |n| LoadCounts { completed: 1_000 - n, missed: n, ..clean(1_000) };
        let failed = |n| LoadCounts { completed: 1_000 - n, failed: [("reset".to_string(), n)].into(), ..clean(1_000) };
        let silent = LoadCounts { completed: 0, timed_out: 900, in_flight: 100, ..clean(1_000) };
        for (counts, wake, late, verdict, cause) in [
            (missed(5), 0, 0, Verdict::Degraded, "0.5 % of the requests were never sent: all connections were busy"),
            (missed(500), 0, 0, Verdict::Invalid, "50.0 % of the requests were never sent: all connections were busy"),
            (missed(500), 50, 50, Verdict::Invalid, "never sent: the generator was starved"),
            (failed(5), 0, 0, Verdict::Degraded, "5 requests failed (reset 5)"),
            (failed(50), 0, 0, Verdict::Invalid, "50 requests failed (reset 50)"),
            (silent, 0, 0, Verdict::Invalid, "1000 requests were not answered"),
            (clean(1_000), 20, 20, Verdict::Invalid, "starved of CPU: half of all requests were due 20 ms"),
            (clean(1_000), 0, 20, Verdict::Invalid, "waited 20 ms for a connection"),
            (clean(1_000), 0, 6, Verdict::Degraded, "written 6 ms late"),
            (LoadCounts::default(), 0, 0, Verdict::Invalid, "no arrival was due"),
        ] {
            let validity = judged(&counts, wake, late);
            assert_eq!(validity.verdict, verdict, "{validity:?}");
            assert!(validity.causes.iter().any(|c| c.contains(cause)), "{validity:?} lacks {cause}");
        }
    }

    #[test]
    fn merging_keeps_the_worst_verdict_and_every_cause_once() {
        let mut whole = Validity::default();
        let mut part = Validity::default();
        part.find(Verdict::Degraded, "late".into());
        whole.merge(&part);
        whole.merge(&part);
        assert_eq!(whole, part);
    }
}

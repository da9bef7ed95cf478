//! The generator's verdict on itself: whether it put on the load that was asked for, and who is to blame if it did not.
//!
//! Every cause begins with a name, listed in [`cause`](crate::record::load::cause), and goes on with the evidence.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::record::load::{LoadCounts, MEDIAN_LATE_INVALID, MixCounts, Validity, ValidityLevel, cause};

/// Share of arrivals that may be lost or fail before the stretch says nothing about the load asked for.
const LOST_INVALID: f64 = 0.01;
/// One request in a hundred later than this, and ten at least, makes latencies doubtful, though CPU per request still stands.
const TAIL_LATE_DEGRADED: Duration = Duration::from_millis(5);
const TAIL: f64 = 0.01;
const TAIL_REQUESTS: f64 = 10.0;

/// CPU time that the hypervisor gives to others, as a share of the machine, from which a stretch is degraded.
const STOLEN_DEGRADED: f64 = 0.05;
/// A server whose median answer takes so many times as long when all connections are busy as when half are idle is slowed
/// down by the load, and more connections would not help.
const SLOWED_DOWN: f64 = 1.5;
/// Requests that the one median needs; with fewer the fastest answer stands for it, and must have been so many times as fast.
const UNCROWDED_REQUESTS: u64 = 20;
const SLOWED_DOWN_FROM_FASTEST: f64 = 4.0;
/// A server whose longest answer took so many times as long as the median one stood still.
const STOOD_STILL: f64 = 10.0;

/// The class of failure that a refusal is counted under.
const REFUSALS: &str = "status_4xx";

/// What the verdict is founded on. Histograms are in nanoseconds.
pub(super) struct LoadEvidence<'a> {
    pub counts: &'a LoadCounts,
    pub mix: &'a MixCounts,
    /// How late the generator turned to each arrival.
    pub wake: &'a Histogram<u64>,
    /// How late each completed request was written.
    pub lateness: &'a Histogram<u64>,
    /// From each completed request's write to its answer.
    pub service: &'a Histogram<u64>,
    /// The same of requests that began and ended while half of the connections or more were idle.
    pub uncrowded: &'a Histogram<u64>,
    /// The same of requests that took the last idle connection.
    pub crowded: &'a Histogram<u64>,
    pub connections: usize,
    /// How long arrivals were due.
    pub due_in: Duration,
    /// From the first arrival to the last answer.
    pub elapsed: Duration,
    /// Whether the stretch was cut short, so that what is left over says nothing of anyone.
    pub cut_short: bool,
    /// How long a thread of the generator could have run and had no core; the longest of any.
    pub without_core: Duration,
    /// CPU time the hypervisor gave to others, over all cores.
    pub stolen: Duration,
}

impl LoadEvidence<'_> {
    fn left_over(&self, n: u64) -> u64 {
        if self.cut_short { 0 } else { n }
    }
}

pub(super) fn judge(evidence: &LoadEvidence<'_>) -> Validity {
    let counts = evidence.counts;
    let mut validity = Validity::default();
    if counts.scheduled == 0 {
        let what = "the stretch is shorter than the gap between arrivals";
        validity.find(ValidityLevel::Invalid, format!("{}: {what}", cause::NOTHING_DUE));
        return validity;
    }
    judge_machine(evidence, &mut validity);
    judge_waiting(evidence, &mut validity);
    judge_answers(evidence, &mut validity);
    validity
}

/// Whether the machine let the generator do its work.
fn judge_machine(evidence: &LoadEvidence<'_>, validity: &mut Validity) {
    if let Some(level) = lateness_level(evidence.wake) {
        let evidence = format!(
            "it turned to half of all arrivals {} late, to one in a hundred {}; a thread of it stood without a core for {}",
            in_words(quantile(evidence.wake, 0.5)),
            in_words(quantile(evidence.wake, 0.99)),
            in_words(evidence.without_core)
        );
        validity.find(level, format!("{}: {evidence}", cause::STARVED));
    }
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = evidence.stolen.as_secs_f64() / (evidence.elapsed.as_secs_f64() * cores as f64);
    if share > STOLEN_DEGRADED {
        let evidence = format!("the hypervisor gave {:.0} % of this machine to others", share * 100.0);
        validity.find(ValidityLevel::Degraded, format!("{}: {evidence}", cause::STOLEN));
    }
}

/// Whether arrivals found a connection. What the generator's own lateness explains is not blamed on anyone else.
fn judge_waiting(evidence: &LoadEvidence<'_>, validity: &mut Validity) {
    let counts = evidence.counts;
    let never_sent = counts.missed + evidence.left_over(counts.unsent);
    let found = lateness_level(evidence.lateness).max((never_sent > 0).then(|| grade(never_sent, counts)));
    let Some(level) = found else { return };
    if found > lateness_level(evidence.wake) {
        let (name, why) = why_all_were_busy(evidence);
        let waited = format!(
            "one in a hundred requests was written {} late or more, {:.1} % never",
            in_words(quantile(evidence.lateness, 0.99)),
            share(never_sent, counts) * 100.0
        );
        validity.find(level, format!("{name}: {why}; {waited}"));
    }
    if counts.missed > 0 {
        let what = format!("{:.1} % of the arrivals found no room to wait", share(counts.missed, counts) * 100.0);
        validity.find(grade(counts.missed, counts), format!("{}: {what}", cause::BACKLOG));
    }
}

/// Why arrivals had to wait for a connection, and the evidence. A rule of thumb: one stretch cannot tell for certain.
fn why_all_were_busy(evidence: &LoadEvidence<'_>) -> (&'static str, String) {
    let timed_out = evidence.counts.timed_out;
    if timed_out >= evidence.connections as u64 {
        return (cause::SILENT, format!("{timed_out} requests were not answered in time"));
    }
    let (median, longest) = (quantile(evidence.service, 0.5), quantile(evidence.service, 1.0));
    let waited = quantile(evidence.lateness, 1.0);
    // Where the server stood still, nobody waited much longer than that; where it is slow, waits add up.
    if longest.as_secs_f64() > STOOD_STILL * median.as_secs_f64() && waited < 2 * longest {
        let evidence =
            format!("the longest answer took {}, half of them {} or less", in_words(longest), in_words(median));
        return (cause::STALLED, evidence);
    }
    let together = quantile(evidence.crowded, 0.5);
    let (alone, factor, when) = if evidence.uncrowded.len() < UNCROWDED_REQUESTS {
        (quantile(evidence.service, 0.0), SLOWED_DOWN_FROM_FASTEST, "at best")
    } else {
        (quantile(evidence.uncrowded, 0.5), SLOWED_DOWN, "while half of the connections are idle")
    };
    if together.as_secs_f64() > factor * alone.as_secs_f64() {
        let all = format!("when all {} are busy", evidence.connections);
        return (cause::SLOW, format!("it answers in {} {when}, in {} {all}", in_words(alone), in_words(together)));
    }
    let rate = evidence.counts.scheduled as f64 / evidence.due_in.as_secs_f64();
    // Little's law: requests under way = rate × time each takes.
    let needed = (rate * median.as_secs_f64()).ceil();
    let evidence = format!(
        "all {} connections were busy with answers of {}; this rate keeps about {needed} busy",
        evidence.connections,
        in_words(median)
    );
    (cause::CONNECTION_CAP, evidence)
}

/// Whether what was sent was answered.
fn judge_answers(evidence: &LoadEvidence<'_>, validity: &mut Validity) {
    let counts = evidence.counts;
    // What is under way when others still wait to be sent has not had the time that it may take.
    let in_flight = if counts.unsent == 0 { evidence.left_over(counts.in_flight) } else { 0 };
    let unanswered = counts.timed_out + in_flight;
    if unanswered > 0 && !validity.names(cause::SILENT) {
        let what = format!("{unanswered} requests were not answered in time");
        validity.find(grade(unanswered, counts), format!("{}: {what}", cause::SILENT));
    }
    let mut failed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (class, n) in &counts.failed {
        // A refusal that was asked for is no failure of anyone.
        let n = n - if class == REFUSALS { evidence.mix.refused_as_asked } else { 0 };
        if n > 0 {
            failed.entry(blame(class)).or_default().push(format!("{class} {n}"));
        }
    }
    let failures = counts.failures() - evidence.mix.refused_as_asked;
    // Whoever dies also breaks off what was under way.
    if let Some(broken_off) = failed.remove(cause::FAILING) {
        let name = if failed.contains_key(cause::DEAD) { cause::DEAD } else { cause::FAILING };
        failed.entry(name).or_default().extend(broken_off);
    }
    for (name, classes) in failed {
        let what = format!("{failures} requests failed ({})", classes.join(", "));
        validity.find(grade(failures, counts), format!("{name}: {what}"));
    }
    let not_refused = evidence.mix.not_refused;
    if not_refused > 0 {
        let what = format!("{not_refused} requests that had to be refused were not");
        validity.find(grade(not_refused, counts), format!("{}: {what}", cause::FAILING));
    }
}

/// Who is to blame for a class of failure.
fn blame(class: &str) -> &'static str {
    match class {
        "refused" | "unreachable" => cause::DEAD,
        "no_descriptor" | "no_port" => cause::REFUSED_BY_SYSTEM,
        _ => cause::FAILING,
    }
}

fn share(n: u64, counts: &LoadCounts) -> f64 {
    n as f64 / counts.scheduled as f64
}

fn grade(lost: u64, counts: &LoadCounts) -> ValidityLevel {
    if share(lost, counts) > LOST_INVALID { ValidityLevel::Invalid } else { ValidityLevel::Degraded }
}

fn lateness_level(lateness: &Histogram<u64>) -> Option<ValidityLevel> {
    if quantile(lateness, 0.5) > MEDIAN_LATE_INVALID {
        Some(ValidityLevel::Invalid)
    } else {
        let tail = TAIL.max(TAIL_REQUESTS / lateness.len() as f64);
        (tail < 0.5 && quantile(lateness, 1.0 - tail) > TAIL_LATE_DEGRADED).then_some(ValidityLevel::Degraded)
    }
}

fn in_words(duration: Duration) -> String {
    match duration.as_secs_f64() * 1e3 {
        ms if ms < 1.0 => format!("{:.0} µs", ms * 1e3),
        ms => format!("{ms:.1} ms"),
    }
}

fn quantile(histogram: &Histogram<u64>, q: f64) -> Duration {
    Duration::from_nanos(histogram.value_at_quantile(q))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stretch of a second over eight connections; durations in milliseconds, by how many requests had them.
    #[derive(Default)]
    struct Stretch {
        counts: LoadCounts,
        mix: MixCounts,
        wake: Vec<(u64, u64)>,
        lateness: Vec<(u64, u64)>,
        service: Vec<(u64, u64)>,
        uncrowded: u64,
        crowded: u64,
        stolen: u64,
        cut_short: bool,
    }

    impl Stretch {
        fn judged(&self) -> Validity {
            let histogram = |durations: &[(u64, u64)]| {
                let mut histogram = Histogram::<u64>::new(3).unwrap();
                for (ms, n) in durations {
                    histogram.record_n(ms * 1_000_000 + 1, *n).unwrap();
                }
                histogram
            };
            assert!(self.counts.adds_up());
            judge(&LoadEvidence {
                counts: &self.counts,
                mix: &self.mix,
                wake: &histogram(&self.wake),
                lateness: &histogram(&self.lateness),
                service: &histogram(&self.service),
                uncrowded: &histogram(&[(self.uncrowded, if self.uncrowded == 0 { 0 } else { 20 })]),
                crowded: &histogram(&[(self.crowded, 20)]),
                connections: 8,
                due_in: Duration::from_secs(1),
                elapsed: Duration::from_secs(1),
                cut_short: self.cut_short,
                without_core: Duration::ZERO,
                stolen: Duration::from_millis(self.stolen),
            })
        }
    }

    fn clean() -> LoadCounts {
        LoadCounts { scheduled: 1_000, completed: 1_000, ..LoadCounts::default() }
    }

    fn failed(classes: &[(&str, u64)]) -> Stretch {
        let failed: BTreeMap<String, u64> = classes.iter().map(|(class, n)| ((*class).to_string(), *n)).collect();
        let completed = 1_000 - failed.values().sum::<u64>();
        Stretch { counts: LoadCounts { completed, failed, ..clean() }, ..Stretch::default() }
    }

    #[test]
    fn a_clean_stretch_is_valid() {
        let stretch = Stretch {
            mix: MixCounts::default(),
            counts: clean(),
            wake: vec![(0, 1_000)],
            lateness: vec![(0, 1_000)],
            service: vec![(1, 1_000)],
            uncrowded: 1,
            crowded: 1,
            stolen: 10,
            cut_short: false,
        };
        assert_eq!(stretch.judged(), Validity::default());
    }

    /// Each stretch gets its verdict and its causes, and no other.
    fn found_in(stretches: &[(Stretch, ValidityLevel, Vec<&str>)]) {
        for (stretch, verdict, causes) in stretches {
            let validity = stretch.judged();
            assert_eq!(validity.level, *verdict, "{validity:?}");
            let named: Vec<&str> = validity.causes.iter().filter_map(|cause| cause.split(": ").next()).collect();
            assert_eq!(named, *causes, "{validity:?}");
        }
    }

    #[test]
    fn what_the_machine_and_the_schedule_did_is_named() {
        let none = Stretch::default;
        let late = |ms| vec![(ms, 1_000)];
        let unsent = |n| LoadCounts { completed: 1_000 - n, unsent: n, ..clean() };
        found_in(&[
            (Stretch { counts: LoadCounts::default(), ..none() }, ValidityLevel::Invalid, vec![cause::NOTHING_DUE]),
            (
                Stretch { counts: clean(), wake: late(20), lateness: late(20), ..none() },
                ValidityLevel::Invalid,
                vec![cause::STARVED],
            ),
            (
                Stretch { counts: clean(), wake: vec![(0, 950), (6, 50)], lateness: late(6), ..none() },
                ValidityLevel::Degraded,
                vec![cause::STARVED],
            ),
            (
                Stretch { counts: unsent(500), wake: late(50), lateness: late(50), ..none() },
                ValidityLevel::Invalid,
                vec![cause::STARVED],
            ),
            (Stretch { counts: clean(), stolen: 900, ..none() }, ValidityLevel::Degraded, vec![cause::STOLEN]),
        ]);
    }

    #[test]
    fn whoever_made_arrivals_wait_is_named() {
        let none = Stretch::default;
        let late = |ms| vec![(ms, 1_000)];
        let unsent = |n| LoadCounts { completed: 1_000 - n, unsent: n, ..clean() };
        let missed = |n| LoadCounts { completed: 1_000 - n, missed: n, ..clean() };
        found_in(&[
            (
                Stretch {
                    counts: unsent(500),
                    lateness: late(20),
                    service: late(10),
                    uncrowded: 10,
                    crowded: 11,
                    ..none()
                },
                ValidityLevel::Invalid,
                vec![cause::CONNECTION_CAP],
            ),
            (
                Stretch { counts: clean(), lateness: late(6), service: late(1), uncrowded: 1, crowded: 1, ..none() },
                ValidityLevel::Degraded,
                vec![cause::CONNECTION_CAP],
            ),
            (
                Stretch { counts: clean(), lateness: late(20), service: late(10), uncrowded: 2, crowded: 10, ..none() },
                ValidityLevel::Invalid,
                vec![cause::SLOW],
            ),
            (
                Stretch { counts: unsent(500), service: vec![(2, 1), (10, 999)], crowded: 10, ..none() },
                ValidityLevel::Invalid,
                vec![cause::SLOW],
            ),
            (
                Stretch { counts: unsent(500), service: vec![(8, 1), (10, 999)], crowded: 10, ..none() },
                ValidityLevel::Invalid,
                vec![cause::CONNECTION_CAP],
            ),
            (
                Stretch {
                    counts: clean(),
                    lateness: vec![(0, 900), (500, 100)],
                    service: vec![(1, 992), (600, 8)],
                    uncrowded: 1,
                    crowded: 3,
                    ..none()
                },
                ValidityLevel::Degraded,
                vec![cause::STALLED],
            ),
            // An answer that took very long explains no wait that took much longer.
            (
                Stretch {
                    counts: clean(),
                    lateness: late(5_000),
                    service: vec![(10, 990), (200, 10)],
                    uncrowded: 2,
                    crowded: 10,
                    ..none()
                },
                ValidityLevel::Invalid,
                vec![cause::SLOW],
            ),
            (
                Stretch { counts: missed(5), service: late(1), uncrowded: 1, crowded: 1, ..none() },
                ValidityLevel::Degraded,
                vec![cause::CONNECTION_CAP, cause::BACKLOG],
            ),
            (
                Stretch {
                    counts: missed(500),
                    lateness: late(20),
                    service: late(10),
                    uncrowded: 1,
                    crowded: 9,
                    ..none()
                },
                ValidityLevel::Invalid,
                vec![cause::SLOW, cause::BACKLOG],
            ),
        ]);
    }

    #[test]
    fn what_became_of_requests_is_named() {
        let silent = LoadCounts { completed: 0, timed_out: 900, in_flight: 100, ..clean() };
        let none = Stretch::default;
        found_in(&[
            (Stretch { counts: silent, ..none() }, ValidityLevel::Invalid, vec![cause::SILENT]),
            (failed(&[("reset", 5)]), ValidityLevel::Degraded, vec![cause::FAILING]),
            (failed(&[("status_5xx", 50)]), ValidityLevel::Invalid, vec![cause::FAILING]),
            (failed(&[("closed", 8), ("refused", 50)]), ValidityLevel::Invalid, vec![cause::DEAD]),
            (failed(&[("no_port", 50)]), ValidityLevel::Invalid, vec![cause::REFUSED_BY_SYSTEM]),
        ]);
    }

    #[test]
    fn what_a_cut_leaves_over_is_held_against_nobody() {
        let counts = LoadCounts { completed: 900, unsent: 90, in_flight: 10, ..clean() };
        let cut_short = Stretch { counts: counts.clone(), cut_short: true, ..Stretch::default() };
        assert_eq!(cut_short.judged(), Validity::default());
        let whole = Stretch { counts, ..Stretch::default() };
        assert_eq!(whole.judged().level, ValidityLevel::Invalid);
    }

    #[test]
    fn what_was_to_be_refused_is_no_fault_and_what_was_not_is_one() {
        let refused = |refused: u64, as_asked: u64, not_refused: u64| Stretch {
            mix: MixCounts { refused_as_asked: as_asked, not_refused, probes_answered: 0 },
            ..failed(&[("status_4xx", refused)])
        };
        assert_eq!(refused(900, 900, 0).judged(), Validity::default());
        for (stretch, verdict, says) in [
            (refused(55, 50, 0), ValidityLevel::Degraded, "5 requests failed (status_4xx 5)"),
            (refused(100, 50, 0), ValidityLevel::Invalid, "50 requests failed"),
            (refused(45, 45, 5), ValidityLevel::Degraded, "5 requests that had to be refused were not"),
            (refused(0, 0, 50), ValidityLevel::Invalid, "50 requests that had to be refused were not"),
        ] {
            let validity = stretch.judged();
            assert_eq!((validity.level, validity.causes.len()), (verdict, 1), "{validity:?}");
            assert!(validity.names(cause::FAILING) && validity.causes[0].contains(says), "{validity:?} lacks {says}");
        }
    }

    #[test]
    fn merging_keeps_the_worst_verdict_and_every_cause_once() {
        let mut whole = Validity::default();
        let mut part = Validity::default();
        part.find(ValidityLevel::Degraded, "late".into());
        whole.merge(&part);
        whole.merge(&part);
        assert_eq!(whole, part);
    }
}

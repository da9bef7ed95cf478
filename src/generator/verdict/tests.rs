//! The verdict on hand-written evidence.

use super::*;

/// One second of load over eight connections. Histograms are given as pairs of milliseconds and number of requests.
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

/// Asserts that each stretch gets exactly this verdict and these causes.
fn assert_verdicts(stretches: &[(Stretch, ValidityLevel, Vec<&str>)]) {
    for (stretch, level, causes) in stretches {
        let validity = stretch.judged();
        assert_eq!(validity.level, *level, "{validity:?}");
        let named: Vec<&str> = validity.causes.iter().filter_map(|cause| cause.split(": ").next()).collect();
        assert_eq!(named, *causes, "{validity:?}");
    }
}

#[test]
fn too_little_cpu_and_an_empty_schedule_are_reported_as_causes() {
    let none = Stretch::default;
    let late = |ms| vec![(ms, 1_000)];
    let unsent = |n| LoadCounts { completed: 1_000 - n, unsent: n, ..clean() };
    assert_verdicts(&[
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

/// A stretch with these service times, with `half_idle` and `all_busy` as the medians by occupancy, in milliseconds.
fn served(
    counts: LoadCounts,
    lateness: &[(u64, u64)],
    service: &[(u64, u64)],
    [half_idle, all_busy]: [u64; 2],
) -> Stretch {
    let (lateness, service) = (lateness.to_vec(), service.to_vec());
    Stretch { counts, lateness, service, uncrowded: half_idle, crowded: all_busy, ..Stretch::default() }
}

#[test]
fn waits_for_a_connection_are_attributed_to_the_server_or_the_connection_cap() {
    let all = |ms| [(ms, 1_000)];
    let unsent = |n| LoadCounts { completed: 1_000 - n, unsent: n, ..clean() };
    let missed = |n| LoadCounts { completed: 1_000 - n, missed: n, ..clean() };
    assert_verdicts(&[
        (served(unsent(500), &all(20), &all(10), [10, 11]), ValidityLevel::Invalid, vec![cause::CONNECTION_CAP]),
        (served(clean(), &all(6), &all(1), [1, 1]), ValidityLevel::Degraded, vec![cause::CONNECTION_CAP]),
        (served(clean(), &all(20), &all(10), [2, 10]), ValidityLevel::Invalid, vec![cause::SLOW]),
        // Too few requests with half of the connections idle: the fastest one is taken.
        (served(unsent(500), &[], &[(2, 1), (10, 999)], [0, 10]), ValidityLevel::Invalid, vec![cause::SLOW]),
        (served(unsent(500), &[], &[(8, 1), (10, 999)], [0, 10]), ValidityLevel::Invalid, vec![cause::CONNECTION_CAP]),
        (
            served(clean(), &[(0, 900), (500, 100)], &[(1, 992), (600, 8)], [1, 3]),
            ValidityLevel::Degraded,
            vec![cause::STALLED],
        ),
        // A long service time does not explain a wait that is much longer.
        (served(clean(), &all(5_000), &[(10, 990), (200, 10)], [2, 10]), ValidityLevel::Invalid, vec![cause::SLOW]),
        (served(missed(5), &[], &all(1), [1, 1]), ValidityLevel::Degraded, vec![cause::CONNECTION_CAP, cause::BACKLOG]),
        (served(missed(500), &all(20), &all(10), [1, 9]), ValidityLevel::Invalid, vec![cause::SLOW, cause::BACKLOG]),
    ]);
}

#[test]
fn failed_requests_are_attributed_to_a_cause() {
    let silent = LoadCounts { completed: 0, timed_out: 900, in_flight: 100, ..clean() };
    let none = Stretch::default;
    assert_verdicts(&[
        (Stretch { counts: silent, ..none() }, ValidityLevel::Invalid, vec![cause::SILENT]),
        (failed(&[("reset", 5)]), ValidityLevel::Degraded, vec![cause::FAILING]),
        (failed(&[("status_5xx", 50)]), ValidityLevel::Invalid, vec![cause::FAILING]),
        (failed(&[("closed", 8), ("refused", 50)]), ValidityLevel::Invalid, vec![cause::DEAD]),
        (failed(&[("no_port", 50)]), ValidityLevel::Invalid, vec![cause::REFUSED_BY_SYSTEM]),
    ]);
}

#[test]
fn unsent_requests_of_a_stretch_cut_short_are_no_fault() {
    let counts = LoadCounts { completed: 900, unsent: 90, in_flight: 10, ..clean() };
    let cut_short = Stretch { counts: counts.clone(), cut_short: true, ..Stretch::default() };
    assert_eq!(cut_short.judged(), Validity::default());
    let whole = Stretch { counts, ..Stretch::default() };
    assert_eq!(whole.judged().level, ValidityLevel::Invalid);
}

#[test]
fn a_requested_refusal_is_no_fault_and_a_missing_one_is() {
    let refused = |refused: u64, as_asked: u64, not_refused: u64| Stretch {
        mix: MixCounts { refused_as_asked: as_asked, not_refused, probes_answered: 0 },
        ..failed(&[("status_4xx", refused)])
    };
    assert_eq!(refused(900, 900, 0).judged(), Validity::default());
    for (stretch, level, says) in [
        (refused(55, 50, 0), ValidityLevel::Degraded, "5 requests failed (status_4xx 5)"),
        (refused(100, 50, 0), ValidityLevel::Invalid, "50 requests failed"),
        (refused(45, 45, 5), ValidityLevel::Degraded, "5 invalid requests were not refused"),
        (refused(0, 0, 50), ValidityLevel::Invalid, "50 invalid requests were not refused"),
    ] {
        let validity = stretch.judged();
        assert_eq!((validity.level, validity.causes.len()), (level, 1), "{validity:?}");
        assert!(validity.names(cause::FAILING) && validity.causes[0].contains(says), "{validity:?} lacks {says}");
    }
}

#[test]
fn merging_keeps_the_worst_level_and_every_cause_once() {
    let mut whole = Validity::default();
    let mut part = Validity::default();
    part.find(ValidityLevel::Degraded, "late".into());
    whole.merge(&part);
    whole.merge(&part);
    assert_eq!(whole, part);
}

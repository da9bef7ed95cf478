//! The analysis against records of which every number is known.

use super::*;
use crate::experiment::scenario::PLACEBO;
use crate::generator::answered;
use crate::record::result::Document;
use crate::record::usage::{Count, Periodic};
use crate::verdict::fixture::{self, REQUESTS, noise};

/// `full` costs 10 µs more than the 20 of the baseline.
fn cost(arm: &str, round: u32) -> f64 {
    let base = if arm == "full" { 30.0 } else { 20.0 };
    base * noise(arm, round)
}

fn delta(analysis: &Analysis, arm: &str, metric: Metric) -> Delta {
    analysis.deltas.iter().find(|delta| delta.arm == arm && delta.metric == metric).cloned().unwrap()
}

#[test]
fn an_injected_cost_is_recovered_and_a_placebo_is_not_resolved() {
    let analysis = analyse(&fixture::run(8, cost));
    let full = delta(&analysis, "full", Metric::Cpu);
    let (absolute, relative) = (full.absolute.unwrap(), full.relative.unwrap());
    assert!(absolute.low < 10.0 && 10.0 < absolute.high && absolute.half_width() < 0.5, "{absolute:?}");
    assert!(relative.low < 0.5 && 0.5 < relative.high, "{relative:?}");
    assert!(full.resolved && full.rounds == 8);
    let placebo = delta(&analysis, PLACEBO, Metric::Cpu);
    assert!(!placebo.resolved, "{placebo:?}");
    assert!(placebo.mde_absolute.unwrap() > 0.0);
}

/// Half of the requests succeed and half are refused as asked: the service did the work of all.
#[test]
fn costs_are_per_request_answered_as_asked() {
    let mut records = fixture::run(3, cost);
    let before = analyse(&records);
    for slice in &mut records.slices {
        slice.played.load.scheduled += REQUESTS;
        slice.played.load.failed.insert("status_4xx".into(), REQUESTS);
        slice.played.mix.refused_as_asked = REQUESTS;
    }
    let after = analyse(&records);
    for (with, without) in after.arms.iter().zip(&before.arms) {
        assert_eq!(with.requests, 2 * without.requests);
        let halved =
            |with: Option<f64>, without: Option<f64>| (with.unwrap() * 2.0 / without.unwrap() - 1.0).abs() < 1e-12;
        assert!(halved(with.cpu_us_per_request.total, without.cpu_us_per_request.total));
        assert!(halved(with.allocations_per_request, without.allocations_per_request));
        assert_eq!(with.response_us, without.response_us);
    }
    // Where none succeeds there is a cost and no response time.
    for slice in &mut records.slices {
        slice.played.load.completed = 0;
    }
    let refused = &analyse(&records).arms[0];
    assert!(refused.cpu_us_per_request.total.is_some() && refused.response_us.p50.is_none());
    assert_eq!(refused.reasons[&Metric::ResponseP50], "no request was completed");
}

#[test]
fn swapping_baseline_and_treatment_negates_every_delta() {
    let records = fixture::run(8, cost);
    let mut swapped = records.clone();
    let swap = |name: &mut String| match name.as_str() {
        "full" => *name = "none".into(),
        "none" => *name = "full".into(),
        _ => {}
    };
    swapped.slices.iter_mut().for_each(|slice| swap(&mut slice.arm));
    swapped.lanes.iter_mut().for_each(|lane| swap(&mut lane.arm));
    let (there, back) = (analyse(&records), analyse(&swapped));
    for metric in compared(&records.header.scenario) {
        let (a, b) = (delta(&there, "full", metric), delta(&back, "full", metric));
        assert_eq!(a.resolved, b.resolved, "{metric:?}");
        let (Some(x), Some(y)) = (a.absolute, b.absolute) else {
            assert_eq!(a.reason, b.reason);
            continue;
        };
        assert_eq!((x.estimate, x.low, x.high), (-y.estimate, -y.high, -y.low), "{metric:?}");
        // A ratio is negated on the logarithmic scale.
        let (x, y) = (a.relative.unwrap().map(f64::ln_1p), b.relative.unwrap().map(f64::ln_1p));
        for (x, y) in [(x.estimate, y.estimate), (x.low, y.high), (x.high, y.low)] {
            assert!((x + y).abs() < 1e-12, "{metric:?}: {x} and {y}");
        }
    }
}

#[test]
fn the_same_file_gives_the_same_analysis_bit_for_bit() {
    let records = fixture::run(8, cost);
    let document = Document::of(records);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    document.write(&path).unwrap();
    let again = Document::read(&path).unwrap();
    assert_eq!(again.to_json(), document.to_json());
}

#[test]
fn work_done_once_per_interval_is_charged_for_the_load_of_the_slice_alone() {
    let mut records = fixture::run(2, |_, _| 20.0);
    for slice in &mut records.slices {
        // Two exports fell into this slice of 1 s, at 500 µs and 40 allocations each; one is due every 5 s.
        slice.spent.periodic = Some(Periodic {
            exports: 2,
            interval_us: 5e6,
            cpu_us: 1_000.0,
            allocations: Count { count: 80, bytes: 8_000 },
        });
        slice.spent.cpu_us.exporter += 1_000.0;
        let allocations = slice.spent.allocations.as_mut().unwrap();
        allocations.count += 80;
    }
    let arm = &analyse(&records).arms[0];
    // A fifth of one export, over 1 000 requests: 500 / 5 / 1 000 = 0.1 µs, and 40 / 5 / 1 000 = 0.008 allocations.
    assert!((arm.cpu_us_per_request.total.unwrap() - 20.1).abs() < 1e-9, "{arm:?}");
    assert!((arm.allocations_per_request.unwrap() - 31.008).abs() < 1e-9, "{arm:?}");
}

#[test]
fn a_round_with_an_invalid_slice_is_void_for_every_arm() {
    let mut records = fixture::run(20, cost);
    let spoilt = records.slices.iter_mut().find(|slice| slice.round == 3 && slice.arm == PLACEBO).unwrap();
    spoilt.played.validity.find(ValidityLevel::Invalid, "spoilt".into());
    let analysis = analyse(&records);
    assert_eq!(analysis.rounds, Rounds { planned: 20, complete: 20, void: vec![3] });
    assert!(analysis.deltas.iter().filter(|delta| delta.absolute.is_some()).all(|delta| delta.rounds == 19));
    assert_eq!(analysis.validity.level, ValidityLevel::Valid);
    assert!(analysis.arms.iter().all(|arm| arm.requests == 19 * 2 * REQUESTS));
}

#[test]
fn more_than_a_tenth_of_the_rounds_void_gives_no_delta() {
    let mut records = fixture::run(8, cost);
    let spoilt = records.slices.iter_mut().find(|slice| slice.round == 3).unwrap();
    spoilt.played.validity.find(ValidityLevel::Invalid, "the generator was starved".into());
    let arm = spoilt.arm.clone();
    let analysis = analyse(&records);
    assert_eq!(analysis.validity.level, ValidityLevel::Invalid);
    assert_eq!(analysis.validity.causes, [format!("{arm}: the generator was starved")]);
    assert_eq!(analysis.deltas, []);
}

#[test]
fn a_round_that_was_cut_short_does_not_count() {
    let mut records = fixture::run(8, cost);
    records.slices.retain(|slice| slice.round < 5 || (slice.round == 5 && slice.arm == "none"));
    records.lanes.retain(|lane| lane.round < 5);
    let analysis = analyse(&records);
    assert_eq!(analysis.rounds, Rounds { planned: 8, complete: 5, void: vec![] });
    assert_eq!(delta(&analysis, "full", Metric::Cpu).rounds, 5);
    assert!(!records.is_whole());
}

#[test]
fn a_value_that_was_not_measured_is_null_with_the_reason() {
    let mut records = fixture::run(3, cost);
    for slice in &mut records.slices {
        slice.spent.allocations = None;
        slice.spent.allocations_reason = Some("not counted here".into());
    }
    let analysis = analyse(&records);
    let arm = &analysis.arms[0];
    assert_eq!((arm.response_us.p999, arm.allocations_per_request), (None, None));
    assert!(arm.reasons[&Metric::ResponseP999].contains("2000 requests"), "{:?}", arm.reasons);
    assert_eq!(arm.reasons[&Metric::Allocations], "not counted here");
    assert_eq!(delta(&analysis, "full", Metric::Allocations).reason.as_deref(), Some("not counted here"));
    let one = analyse(&fixture::run(1, cost));
    assert_eq!(delta(&one, "full", Metric::Cpu).reason.as_deref(), Some("an interval needs two rounds or more"));
}

#[test]
fn the_p999_is_given_once_a_round_has_enough_requests() {
    let mut records = fixture::run(2, cost);
    for slice in &mut records.slices {
        slice.played = answered(10_000, std::time::Duration::from_micros(100));
    }
    assert!(analyse(&records).arms[0].response_us.p999.is_some());
}

#[test]
fn every_span_that_is_missing_shows_in_the_ledger() {
    let mut records = fixture::run(2, cost);
    let lane = records.lanes.iter_mut().find(|lane| lane.arm == "full").unwrap();
    let spans = lane.account.spans.as_mut().unwrap();
    (spans.ended, spans.dropped, spans.failed, spans.rejected) = (6_020, 10, 4, 1);
    let analysis = analyse(&records);
    let full = analysis.arms.iter().find(|arm| arm.name == "full").unwrap();
    let ledger = full.telemetry.spans.unwrap();
    // Of the 20 spans more that ended than arrived, 15 are explained.
    assert_eq!((ledger.ended, ledger.received, ledger.unaccounted), (12_020, Some(12_000), Some(5)));
    assert_eq!(ledger.lost(), 20);
    assert_eq!(full.telemetry.metrics.unwrap().agrees(), Some(true));
}

#[test]
fn orders_that_the_sink_could_not_count_are_unknown_and_not_few() {
    let mut records = fixture::run(2, cost);
    let lane = records.lanes.iter_mut().find(|lane| lane.arm == "full").unwrap();
    let received = lane.received.as_mut().unwrap();
    received.metrics.counters.clear();
    received.metrics.unknown_totals.insert("orders.total".into(), "two senders share an identity".into());
    received.exceeded.push("points of series beyond 9: 7".into());
    let analysis = analyse(&records);
    let of = |name: &str| analysis.arms.iter().find(|arm| arm.name == name).unwrap().telemetry.clone();
    let full = of("full");
    assert_eq!((full.metrics.unwrap().requests_counted, full.metrics.unwrap().agrees()), (None, None));
    let doubts = [
        "the total of orders.total is not known: two senders share an identity",
        "there was no room for points of series beyond 9: 7",
    ];
    assert_eq!((full.doubts.as_slice(), of("none").doubts.len()), (&doubts.map(str::to_owned)[..], 0));
}

#[test]
fn a_difference_that_one_of_its_intervals_denies_is_not_resolved() {
    // Ratios of 2.0 and 2.1 agree; differences of 10 and 110 µs do not.
    let analysis = analyse(&fixture::run(2, |arm, round| match (arm, round) {
        ("full", 0) => 20.0,
        ("full", _) => 210.0,
        (_, 0) => 10.0,
        _ => 100.0,
    }));
    let full = delta(&analysis, "full", Metric::Cpu);
    assert!(full.relative.unwrap().excludes_zero() && !full.absolute.unwrap().excludes_zero(), "{full:?}");
    assert!(!full.resolved);
}

#[test]
fn one_strange_round_moves_the_mean_and_not_the_typical_round() {
    let strange = |arm: &str, round| cost(arm, round) * if (arm, round) == ("full", 3) { 4.0 } else { 1.0 };
    let full = delta(&analyse(&fixture::run(8, strange)), "full", Metric::Cpu);
    let (mean, typical) = (full.relative.unwrap(), full.typical.unwrap());
    assert!(mean.estimate > 0.7, "{mean:?}");
    assert!((typical.estimate - 0.5).abs() < 0.02 && typical.low < 0.5 && 0.5 < typical.high, "{typical:?}");
    // Five rounds have no interval of 95 % between their averages.
    assert_eq!(delta(&analyse(&fixture::run(5, cost)), "full", Metric::Cpu).typical, None);
}

/// `full` holds 60 % of what the baseline does, on a machine whose speed differs from round to round.
fn capacity(arm: &str, round: u32) -> f64 {
    let speed = [1.0, 1.4, 0.7, 1.2, 0.9][round as usize % 5];
    35_000.0 * speed * noise(arm, round) * if arm == "full" { 0.6 } else { 1.0 }
}

#[test]
fn capacities_are_found_from_the_steps_and_compared_within_rounds() {
    let analysis = analyse(&fixture::search(5, capacity));
    assert_eq!(analysis.validity, Validity::default());
    assert_eq!(analysis.rounds, Rounds { planned: 5, complete: 5, void: vec![] });
    // The mean of the highest rates that held: each within the resolution of 3 %, and below.
    let truth = (0..5).map(|round| capacity("full", round)).sum::<f64>() / 5.0;
    let full = analysis.arms.iter().find(|arm| arm.name == "full").unwrap();
    let found = full.capacity_rps.unwrap();
    assert!(found <= truth && truth < found * 1.03, "{found} of {truth}");
    // Rounds differ by a factor of two, and so do capacities; their ratio does not.
    let delta = delta(&analysis, "full", Metric::Capacity);
    let (absolute, relative) = (full.intervals[&Metric::Capacity], delta.relative.unwrap());
    assert!(absolute.half_width() > 0.2 * found, "{absolute:?}");
    assert!((relative.estimate + 0.4).abs() < 0.01 && relative.half_width() < 0.03, "{relative:?}");
    assert!(delta.resolved && delta.rounds == 5);
    // Nothing else is compared: the arms are at different rates.
    assert!(analysis.deltas.iter().all(|delta| delta.metric == Metric::Capacity));
    assert_eq!(analysis.deltas.len(), 2);
    assert!(!analysis.deltas.iter().find(|delta| delta.arm == PLACEBO).unwrap().resolved);
}

#[test]
fn a_searched_arm_is_summarised_from_the_steps_that_gave_its_answers() {
    let mut records = fixture::search(3, capacity);
    // The steps that failed took two milliseconds of CPU for each request, and were invalid.
    let slow = records.slices.iter_mut().filter(|slice| slice.played.response_us.p99 > Some(10_000.0));
    slow.for_each(|slice| slice.played.validity.find(ValidityLevel::Invalid, "half waited".into()));
    let analysis = analyse(&records);
    for arm in &analysis.arms {
        assert!((arm.cpu_us_per_request.total.unwrap() - 20.0).abs() < 1e-9, "{arm:?}");
        assert_eq!((arm.requests, &arm.validity), (3 * REQUESTS, &Validity::default()));
        assert!(arm.rss_bytes.is_none() && arm.reasons[&Metric::Rss].contains("overload"), "{:?}", arm.reasons);
    }
}

#[test]
fn a_round_in_which_a_search_cannot_decide_is_void_for_every_arm_and_without_any_other_the_run_is_invalid() {
    let never = |rounds: std::ops::Range<u32>| {
        move |arm: &str, round| if arm == "full" && rounds.contains(&round) { 0.0 } else { capacity(arm, round) }
    };
    let analysis = analyse(&fixture::search(5, never(1..2)));
    assert_eq!(analysis.rounds.void, [1]);
    assert_eq!(analysis.validity.level, ValidityLevel::Degraded);
    assert_eq!(analysis.validity.causes, ["full: the SLO is not held even at 20 requests per second"]);
    assert!(analysis.deltas.iter().all(|delta| delta.rounds == 4 && delta.relative.is_some()));
    let analysis = analyse(&fixture::search(2, never(0..2)));
    assert_eq!((analysis.validity.level, analysis.deltas.len()), (ValidityLevel::Invalid, 0));
    assert_eq!(analysis.validity.causes, ["full: the SLO is not held even at 20 requests per second"]);
}

#[test]
fn a_search_that_was_cut_short_gives_no_capacity() {
    let mut records = fixture::search(3, capacity);
    records.slices.retain(|slice| slice.round < 2 || slice.slice < 3);
    records.lanes.retain(|lane| lane.round < 2);
    assert!(!records.is_whole() && fixture::search(3, capacity).is_whole());
    let analysis = analyse(&records);
    assert_eq!(analysis.rounds, Rounds { planned: 3, complete: 2, void: vec![] });
    assert_eq!(delta(&analysis, "full", Metric::Capacity).rounds, 2);
}

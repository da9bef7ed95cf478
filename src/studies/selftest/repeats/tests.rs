//! The judgement of short runs, on ones in which it holds and on ones in which it does not.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::experiment::units::Rate;
use crate::record::interval::Interval;
use crate::record::load::ValidityLevel;
use crate::record::records::Records;
use crate::studies::selftest::scenarios::{self, Effort};
use crate::verdict::fixture::{self, noise};

/// Short runs, more than chance decides.
const RUNS: u32 = 20;

/// A short run on a fixture, in which everything is as it should be.
fn run() -> Records {
    let measure = Effort {
        rps: Rate::TEN_THOUSAND,
        rounds: NonZeroU32::new(8).unwrap(),
        slices: NonZeroU32::MIN,
        slice: Duration::from_millis(100),
        warmup: Duration::ZERO,
    };
    let scenario = scenarios::injected(measure, 20.0, &scenarios::INJECTED_IN_REPEATS).unwrap();
    let injected: BTreeMap<String, f64> =
        scenario.arms.iter().map(|arm| (arm.name.clone(), arm.injected_us.unwrap())).collect();
    fixture::run_of(scenario, |arm, round| 20.0 * noise(arm, round) + injected[arm])
}

/// Short runs that find every cost of 0.5 µs or more, on the nose.
fn repeats() -> Vec<Repeat> {
    let mut one = repeat(1, &Document::of(run()));
    for arm in one.arms.iter_mut().filter(|arm| arm.delta.is_some()) {
        let us = arm.injected_us;
        let absolute = Interval { estimate: us, low: us - 0.4, high: us + 0.4 };
        arm.delta = Some(RepeatedDelta { absolute, mde_absolute: 0.5, resolved: us > 0.4 });
    }
    (1..=RUNS).map(|number| Repeat { number, ..one.clone() }).collect()
}

/// The same, after `what` has been done to these arms in the first `runs`.
fn tampered(runs: usize, arms: &str, what: impl Fn(&mut RepeatedDelta)) -> Vec<Repeat> {
    let mut repeats = repeats();
    let of_runs = repeats.iter_mut().take(runs).flat_map(|repeat| &mut repeat.arms);
    of_runs.filter(|arm| arm.name.starts_with(arms)).filter_map(|arm| arm.delta.as_mut()).for_each(what);
    repeats
}

fn failed(repeats: &[Repeat], planned: u32) -> Vec<String> {
    summary(repeats, planned).into_iter().filter(|check| !check.passed).map(|check| check.name).collect()
}

#[test]
fn short_runs_that_find_the_injected_costs_pass() {
    let repeats = repeats();
    assert_eq!(failed(&repeats, RUNS), Vec::<String>::new());
    let found: Vec<_> = by_arm(&repeats)
        .iter()
        .map(|arm| (arm.name.to_owned(), arm.injected_us, arm.inside, arm.resolved, arm.detectable, arm.detected))
        .collect();
    let of = |name: &str, us, resolved, detectable| (name.to_owned(), us, 20, resolved, detectable, detectable);
    assert_eq!(
        found,
        [
            of("placebo", 0.0, 0, 0),
            of("+1%", 0.2, 0, 0),
            of("+2%", 0.4, 0, 0),
            of("+3%", 0.6, 20, 20),
            of("+5%", 1.0, 20, 20),
            of("+10%", 2.0, 20, 20)
        ]
    );
}

#[test]
fn a_placebo_that_is_called_different_too_often_fails() {
    let alarms = |runs| failed(&tampered(runs, "placebo", |delta| delta.resolved = true), RUNS);
    // 3 of 20 is what 5 % leaves in 19 of 20 self-tests.
    assert_eq!(alarms(3), Vec::<String>::new());
    assert_eq!(alarms(4), ["repeats: A/A"]);
}

#[test]
fn intervals_that_miss_the_injected_cost_fail() {
    let off = |runs| failed(&tampered(runs, "+", |delta| delta.absolute = delta.absolute.map(|us| us + 0.5)), RUNS);
    // 1 of 20 is what 95 % leaves, and 3 what chance adds to that.
    assert_eq!(off(3), Vec::<String>::new());
    assert_eq!(off(4), ["repeats: injected"]);
    let below = tampered(4, "+", |delta| delta.absolute = delta.absolute.map(|us| us - 0.5));
    assert_eq!(failed(&below, RUNS), ["repeats: injected"]);
    // One arm of five is off in every run.
    assert_eq!(failed(&tampered(20, "+10%", |delta| delta.absolute.low += 1.0), RUNS), ["repeats: injected"]);
}

#[test]
fn detectable_costs_that_are_not_found_fail() {
    let blind = |runs| failed(&tampered(runs, "+", |delta| delta.resolved = false), RUNS);
    // 4 of 20 is what a power of 80 % misses, and 7 what chance adds to that.
    assert_eq!(blind(6), Vec::<String>::new());
    assert_eq!(blind(8), ["repeats: detection"]);
    let nothing_to_find = tampered(20, "+", |delta| delta.mde_absolute = 100.0);
    assert_eq!(failed(&nothing_to_find, RUNS), ["repeats: detection"]);
}

#[test]
fn invalid_runs_do_not_count_and_must_be_few() {
    let mut records = run();
    for slice in &mut records.slices {
        slice.played.validity.find(ValidityLevel::Invalid, "it was late".into());
    }
    let invalid = repeat(1, &Document::of(records));
    assert!(invalid.invalid.as_ref().unwrap().contains("late"), "{invalid:?}");
    let spoilt = |runs: usize| {
        let mut repeats = repeats();
        repeats[..runs].fill(invalid.clone());
        repeats
    };
    assert_eq!(failed(&spoilt(2), RUNS), Vec::<String>::new());
    assert_eq!(failed(&spoilt(3), RUNS), ["repeats: valid"]);
    assert_eq!(by_arm(&spoilt(3))[0].runs, 17);
    assert_eq!(failed(&[], 3).len(), 4, "no run proves nothing");
}

#[test]
fn a_repeat_keeps_the_value_of_each_round() {
    let document = Document::of(run());
    let kept = repeat(1, &document);
    for arm in &kept.arms {
        let summary = document.arms.iter().find(|summary| summary.name == arm.name).unwrap();
        let mean = arm.cpu_us_per_request.iter().sum::<f64>() / arm.cpu_us_per_request.len() as f64;
        assert_eq!(arm.cpu_us_per_request.len(), 8);
        assert!((mean - summary.cpu_us_per_request.total.unwrap()).abs() <= 1e-4, "{}", arm.name);
        assert_eq!(arm.delta.is_none(), arm.role == Role::Baseline);
    }
}

#[test]
fn few_runs_are_judged_by_what_chance_leaves_of_them() {
    assert_eq!(least_share(0.9, 0.95, 100), 0.9);
    assert_eq!(least_share(0.9, 0.95, 3), 2.0 / 3.0);
    assert_eq!(least_share(0.8, 0.8, 0), 0.0);
}

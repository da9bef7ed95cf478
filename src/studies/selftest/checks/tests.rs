//! Each check on records in which what it looks for is there, and on records in which it is broken.

use std::num::NonZeroU32;

use super::*;
use crate::experiment::units::Rate;
use crate::generator::answered_after;
use crate::record::records::Records;
use crate::studies::selftest::scenarios::{self, Effort};
use crate::verdict::fixture::{self, noise};

fn measure(rounds: u32) -> Effort {
    Effort {
        rps: Rate::TEN_THOUSAND,
        rounds: NonZeroU32::new(rounds).unwrap(),
        slices: NonZeroU32::MIN,
        slice: Duration::from_millis(500),
        warmup: Duration::ZERO,
    }
}

/// CPU time that each arm burns on top of 20 µs.
fn burnt(arm: &str) -> f64 {
    arm.strip_prefix('+')
        .and_then(|share| share.strip_suffix('%'))
        .map_or(0.0, |percent| percent.parse::<f64>().unwrap() * 0.2)
}

/// A run of injected costs in which a request costs what `cost` makes of its 20 µs and what it burns.
fn injected_run(cost: impl Fn(&str, f64) -> f64) -> Records {
    let scenario = scenarios::injected(measure(12), 20.0, &scenarios::INJECTED).unwrap();
    fixture::run_of(scenario, |arm, round| cost(arm, 20.0 * noise(arm, round) + burnt(arm)))
}

fn healthy(_: &str, us: f64) -> f64 {
    us
}

fn judged(check: fn(&Document) -> Check, records: Records) -> bool {
    check(&Document::of(records)).passed
}

#[test]
fn a_placebo_that_differs_or_is_invalid_fails() {
    assert!(judged(placebo, injected_run(healthy)));
    assert!(!judged(placebo, injected_run(|arm, us| if arm == "placebo" { us * 1.1 } else { us })));
    let mut invalid = injected_run(healthy);
    for slice in &mut invalid.slices {
        slice.played.validity.find(ValidityLevel::Invalid, "it was late".into());
    }
    let check = placebo(&Document::of(invalid));
    assert!(!check.passed && check.seen.contains("the measurement is invalid: "), "{check:?}");
}

#[test]
fn a_cost_that_is_measured_too_high_or_too_low_fails() {
    assert!(judged(injected, injected_run(healthy)));
    for factor in [0.9, 1.1] {
        assert!(!judged(injected, injected_run(|arm, us| if arm == "+10%" { us * factor } else { us })));
    }
}

/// Four intervals at 95 % would fail every fifth healthy machine.
#[test]
fn the_intervals_of_several_costs_are_wide_enough_to_hold_together() {
    let run = |us: f64| {
        let mut records = injected_run(healthy);
        records.header.scenario.arms.iter_mut().find(|arm| arm.name == "+5%").unwrap().injected_us = Some(us);
        records
    };
    let paired = paired(&Document::of(run(1.0)), "+5%", Metric::Cpu).unwrap();
    let (alone, together) = (paired.interval(0.95).high, paired.interval(0.9875).high);
    assert!(judged(injected, run(f64::midpoint(alone, together))));
    assert!(!judged(injected, run(together * 1.001)));
}

#[test]
fn a_large_cost_that_is_not_found_fails_and_so_does_a_run_too_noisy_to_find_any() {
    assert!(judged(detected, injected_run(healthy)));
    // It burnt nothing, whatever was asked.
    assert!(!judged(detected, injected_run(|arm, us| if arm == "+10%" { us - burnt(arm) } else { us })));
    let blind = injected_run(|arm, us| us * (1.0 + 40.0 * (us - 20.0 - burnt(arm)).abs()));
    let check = detected(&Document::of(blind));
    assert!(!check.passed && check.seen.contains("no cost was large enough"), "{check:?}");
}

/// A run with a delay in which the delayed arm has this p50, in microseconds, and the others 200 µs.
fn delayed_run(p50_us: impl Fn(u32) -> f64) -> Records {
    let scenario = scenarios::known(measure(4)).unwrap();
    // The fixture's requests take ten times as long as they cost.
    fixture::run_of(
        scenario,
        |arm, round| if arm == "delayed" { p50_us(round) / 10.0 } else { 20.0 * noise(arm, round) },
    )
}

#[test]
fn a_delay_that_is_measured_too_short_or_too_long_fails() {
    assert!(judged(delay, delayed_run(|round| 5_900.0 + f64::from(round))));
    assert!(!judged(delay, delayed_run(|_| 4_900.0)), "too short");
    assert!(!judged(delay, delayed_run(|round| if round == 2 { 4_900.0 } else { 6_500.0 })), "too short in one round");
    assert!(!judged(delay, delayed_run(|round| 5_050.0 + f64::from(round))), "shorter than what it adds");
    assert!(!judged(delay, delayed_run(|round| 10_200.0 + f64::from(round))), "too long");
}

/// A run with a stall of 200 ms in slices of 400 requests, of which each round records what `response_ms` says of the
/// `n`-th of the 100 that were due meanwhile.
fn stopped_run(response_ms: impl Fn(u32, u64) -> Option<f64>) -> Records {
    let mut records = fixture::run_of(scenarios::known(measure(4)).unwrap(), |_, _| 20.0);
    for slice in records.slices.iter_mut().filter(|slice| slice.arm == "stopped") {
        let stalled = (0..100).filter_map(|n| response_ms(slice.round, n));
        let all = stalled.chain(std::iter::repeat_n(0.3, 300));
        slice.played = answered_after(all.map(|ms| Duration::from_secs_f64(ms / 1e3)));
    }
    records
}

#[test]
fn a_stall_that_is_missing_from_the_response_times_fails() {
    let whole = |_: u32, n: u64| Some(200.3 - 2.0 * n as f64);
    assert!(judged(stall, stopped_run(whole)));
    // One request meets the stall, and the others are sent when it is over.
    assert!(!judged(stall, stopped_run(|_, n| Some(if n == 0 { 200.3 } else { 0.3 }))), "coordinated omission");
    assert!(
        !judged(stall, stopped_run(|round, n| if round == 3 { Some(0.3) } else { whole(round, n) })),
        "in one slice"
    );
    assert!(!judged(stall, stopped_run(|_, n| Some(260.0 - 2.0 * n as f64))), "too long");
    let mut short = stopped_run(whole);
    short.slices.retain(|slice| slice.round != 2);
    assert!(!judged(stall, short), "a slice is missing");
}

/// A run of the full stack; `tamper` is given the lanes whose sink loses nothing, and `lose` those whose sink does.
fn ledger_run(tamper: impl Fn(&mut LaneRecord), lose: impl Fn(&mut LaneRecord)) -> Records {
    let mut records = fixture::run_of(scenarios::ledger(measure(2)).unwrap(), |_, _| 40.0);
    for lane in &mut records.lanes {
        if lane.arm == "lost-span" { lose(lane) } else { tamper(lane) }
    }
    records
}

fn one_is_lost(lane: &mut LaneRecord) {
    let received = lane.received.as_mut().unwrap();
    received.spans -= 1;
    received.trees.right -= 1;
    received.trees.incomplete += 1;
}

#[test]
fn a_lost_span_that_the_ledger_or_its_tree_does_not_show_fails() {
    let run = |lose: fn(&mut LaneRecord)| ledger_run(|_| {}, lose);
    assert!(judged(lost_span, run(one_is_lost)));
    let mut late = run(one_is_lost);
    late.slices[0].played.validity.find(ValidityLevel::Invalid, "it was late".into());
    assert!(judged(lost_span, late.clone()) && judged(ledger, late), "a count is a count, however late the load was");
    assert!(!judged(lost_span, run(|_| {})), "nothing was noticed");
    assert!(!judged(lost_span, run(|lane| lane.received.as_mut().unwrap().spans -= 1)), "the tree looks whole");
    assert!(!judged(lost_span, run(|lane| lane.received.as_mut().unwrap().spans -= 2)), "two are missing");
    let blamed = |lane: &mut LaneRecord| {
        one_is_lost(lane);
        lane.account.spans.as_mut().unwrap().dropped += 1;
    };
    assert!(!judged(lost_span, run(blamed)), "it is on the account of the queue");
    assert!(judged(ledger, run(one_is_lost)), "the other arm lost nothing");
}

#[test]
fn a_ledger_that_does_not_close_fails() {
    let run = |tamper: fn(&mut LaneRecord)| ledger_run(tamper, one_is_lost);
    let breaks: [fn(&mut LaneRecord); 6] = [
        one_is_lost,
        |lane| lane.received.as_mut().unwrap().duplicated += 1,
        |lane| {
            lane.received.as_mut().unwrap().spans -= 1;
            lane.account.spans.as_mut().unwrap().dropped += 1;
        },
        |lane| lane.orders_completed += 1,
        |lane| lane.orders_uncertain += 1,
        |lane| {
            lane.received.as_mut().unwrap().trees.right -= 1;
            lane.received.as_mut().unwrap().trees.foreign += 1;
        },
    ];
    assert!(judged(ledger, run(|_| {})));
    for (place, broken) in breaks.into_iter().enumerate() {
        assert!(!judged(ledger, run(broken)), "number {place}");
    }
    let mut nobody = run(|_| {});
    nobody.lanes.clear();
    assert!(!judged(ledger, nobody.clone()) && !judged(lost_span, nobody));
}

#[test]
fn an_unaccounted_arrival_or_cpu_time_fails() {
    let passes = |tamper: fn(&mut SliceRecord)| {
        let mut records = injected_run(healthy);
        tamper(&mut records.slices[5]);
        identity(&[&Document::of(injected_run(healthy)), &Document::of(records)]).passed
    };
    assert!(passes(|_| {}));
    assert!(!passes(|slice| slice.played.load.scheduled += 1));
    // One slice of 144.
    assert!(passes(|slice| slice.spent.cpu_us.process *= 1.5));
    assert!(!passes(|slice| slice.spent.cpu_us.process *= 3.0));
    assert!(!passes(|slice| slice.spent.cpu_us.request *= 4.0));
    assert!(!identity(&[]).passed);
}

#[test]
fn a_check_without_its_arm_fails() {
    for check in [delay, stall, lost_span] {
        assert!(!judged(check, injected_run(healthy)));
    }
    for check in [placebo, injected, detected] {
        assert!(!judged(check, delayed_run(|_| 6_000.0)));
    }
}

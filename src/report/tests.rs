//! Every renderer on hand-made documents, and what must hold of any report.

use console::measure_text_width;

use super::*;
use crate::experiment::scenario::{Role, Transport};
use crate::experiment::service::Payment;
use crate::record::interval::Interval;
use crate::record::load::ValidityLevel;
use crate::record::records::Records;
use crate::record::result::Document;
use crate::record::selftest::{Check, Repeat, RepeatedArm, RepeatedDelta, Selftest};
use crate::verdict::fixture::{self, noise};

fn run() -> Records {
    fixture::run(8, |arm, round| if arm == "full" { 41.0 } else { 20.0 } * noise(arm, round))
}

fn shown(records: Records) -> String {
    table(&View::of(&Document::of(records)), false)
}

/// A run in which spans were dropped, a tree is wrong and a slice is degraded.
fn troubled() -> Records {
    let mut records = run();
    let lane = records.lanes.iter_mut().find(|lane| lane.arm == "full").unwrap();
    let spans = lane.account.spans.as_mut().unwrap();
    spans.ended += 1_234;
    spans.dropped += 1_234;
    let trees = &mut lane.received.as_mut().unwrap().trees;
    trees.right -= 400;
    trees.incomplete += 400;
    trees.example = Some("trace 00000000000000000000000000000007 lacks a span: process_order 0000000000000001".into());
    records.slices[4]
        .played
        .validity
        .find(ValidityLevel::Degraded, "1 % of the requests were written 7 ms late or more".into());
    records
}

#[test]
fn a_clean_run_in_a_terminal() {
    insta::assert_snapshot!(shown(run()));
}

#[test]
fn a_troubled_run_in_a_terminal() {
    insta::assert_snapshot!(shown(troubled()));
}

#[test]
fn a_total_that_the_sink_does_not_know_is_a_warning() {
    let mut records = run();
    let lane = records.lanes.iter_mut().find(|lane| lane.arm == "full").unwrap();
    let metrics = &mut lane.received.as_mut().unwrap().metrics;
    metrics.counters.clear();
    metrics.unknown_totals.insert("orders.total".into(), "two senders share an identity".into());
    let shown = shown(records).split_whitespace().collect::<Vec<_>>().join(" ");
    let warning =
        "full: the sink's counts are incomplete: the total of orders.total is not known: two senders share an";
    assert!(shown.contains(warning), "{shown}");
}

#[test]
fn an_unusual_payload_is_described() {
    let mut records = run();
    assert!(!shown(run()).contains("users"));
    records.header.scenario.generator.payload = serde_json::from_str(
        r#"{"users": 100000, "user_ids": "zipf:1.1", "error_share": 0.015,
            "mix": [{"endpoint": "order", "weight": 9, "items": 3}, {"endpoint": "healthz", "weight": 1}]}"#,
    )
    .unwrap();
    let line = "100 000 users, zipf:1.1, 1.5 % of the orders refused as asked, 9 × order of 3 items, 1 × healthz";
    assert!(shown(records).contains(line));
}

#[test]
fn a_clean_run_on_a_page() {
    insta::assert_snapshot!(markdown(&View::of(&Document::of(run()))));
}

/// As measured without sockets.
fn direct() -> Records {
    let mut records = run();
    records.header.scenario.transport = Transport::Direct;
    records
}

#[test]
fn a_run_without_sockets_says_that_service_and_generator_shared_a_thread() {
    let setting = View::of(&Document::of(direct())).setting;
    let says =
        "no sockets, 16 calls at a time, service and generator on one thread on core 1, both in CPU/req, embedded sink";
    assert_eq!(setting[2], says);
    let over_tcp = View::of(&Document::of(run())).setting;
    assert_eq!((&setting[..2], setting.len()), (&over_tcp[..2], over_tcp.len()));
    assert!(over_tcp[2].contains("generator in the lane on core 0"), "{over_tcp:?}");
}

#[test]
fn a_run_over_two_services_says_so() {
    let mut records = run();
    records.header.scenario.service.payment = Payment::Http;
    let setting = View::of(&Document::of(records)).setting;
    assert!(setting[2].contains("1 service thread and as many of the payment service on core 1"), "{setting:?}");
}

fn search() -> Records {
    fixture::search(5, |arm, round| if arm == "full" { 21_000.0 } else { 35_000.0 } * noise(arm, round))
}

#[test]
fn a_search_for_the_capacity_in_a_terminal() {
    insta::assert_snapshot!(shown(search()));
}

#[test]
fn a_search_for_the_capacity_on_a_page() {
    insta::assert_snapshot!(markdown(&View::of(&Document::of(search()))));
}

#[test]
fn a_capacity_that_is_no_other_is_not_resolved() {
    let shown = shown(fixture::search(5, |arm, round| 35_000.0 * noise(arm, round)));
    assert!(shown.contains("full: a difference in capacity is not resolved; this run would have seen"), "{shown}");
    assert!(shown.contains("n.r.") && !shown.contains("sustains"), "{shown}");
    // Two rounds that have nothing in common.
    let shown =
        self::shown(fixture::search(2, |arm, round| if arm == "full" && round == 0 { 3_000.0 } else { 35_000.0 }));
    assert!(shown.contains("would have seen a factor of "), "{shown}");
}

#[test]
fn a_search_that_could_not_decide_says_why() {
    let void = |rounds| {
        fixture::search(rounds, move |arm, round| match (arm, round) {
            ("full", ..2) => 1.0,
            ("full", _) => 21_000.0,
            _ => 35_000.0,
        })
    };
    let (some, none) = (shown(void(5)), shown(void(2)));
    let some: String = some.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = "full: the SLO is not held even at 20 requests per second";
    assert!(some.contains(&format!("2 of 5 rounds are void and count for no arm. ! {why}")), "{some}");
    assert!(some.contains("full sustains"), "{some}");
    assert!(none.contains("The measurement is invalid") && none.contains("not held even at 20"), "{none}");
    assert!(!none.contains("sustains") && !none.contains("Noise floor"), "{none}");
}

#[test]
fn an_invalid_run_gives_no_difference() {
    let mut records = run();
    records.slices[2].played.validity.find(ValidityLevel::Invalid, "50.0 % of the requests were never sent".into());
    let shown = shown(records);
    assert!(shown.contains("The measurement is invalid") && shown.contains("never sent"), "{shown}");
    assert!(!shown.contains("costs") && !shown.contains("Noise floor") && !shown.contains('…'), "{shown}");
}

#[test]
fn a_run_that_was_cut_short_says_so() {
    let mut records = run();
    records.slices.retain(|slice| slice.round < 5);
    records.lanes.retain(|lane| lane.round < 5);
    let shown = shown(records);
    assert!(shown.contains("cut short: 5 of 8 rounds"), "{shown}");
}

#[test]
fn an_unresolved_difference_is_never_called_zero() {
    let shown = shown(fixture::run(8, |arm, round| 20.0 * noise(arm, round)));
    assert!(shown.contains("full: a difference in CPU is not resolved; this run would have seen"), "{shown}");
    assert!(!shown.contains("no overhead") && !shown.contains("0 %"), "{shown}");
}

#[test]
fn a_placebo_that_differs_is_a_warning() {
    let biased = fixture::run(8, |arm, round| if arm == "placebo" { 22.0 } else { 20.0 } * noise(arm, round));
    assert!(shown(biased).contains("! The placebo differs from the baseline"));
    assert!(!shown(run()).contains("The placebo differs"));
}

/// A self-test of which a check failed, with short runs.
fn selftest() -> Document {
    let check = |name: &str, passed, seen: &str| Check {
        name: name.into(),
        passed,
        expected:
            "the placebo, which is the baseline once more, is not resolved in CPU per request; chance alone resolves \
                   it in 1 of 20 healthy self-tests"
                .into(),
        seen: seen.into(),
        advice: "Run it again with another --seed.".into(),
    };
    let arm = |name: &str, role, injected_us, delta| RepeatedArm {
        name: name.into(),
        role,
        injected_us,
        cpu_us_per_request: vec![20.0 + injected_us, 20.1 + injected_us],
        delta,
    };
    let delta = |us: f64| {
        let absolute = Interval { estimate: us, low: us - 0.3, high: us + 0.3 };
        Some(RepeatedDelta { absolute, mde_absolute: 0.5, resolved: us > 0.3 })
    };
    let arms = vec![
        arm("none", Role::Baseline, 0.0, None),
        arm("placebo", Role::Placebo, 0.0, delta(0.1)),
        arm("+1%", Role::Treatment, 0.2, delta(0.2)),
        arm("+10%", Role::Treatment, 2.0, delta(2.1)),
    ];
    let repeat = |number, invalid| Repeat { number, seed: number.into(), invalid, arms: arms.clone() };
    let checks = vec![
        check("A/A", true, "+0.02 µs (-0.11 … +0.15), not resolved"),
        check("injected cost", false, "+1% 0.20 µs in 0.07 … 0.31; +10% 2.00 µs NOT in 2.11 … 2.40"),
    ];
    let repeats = vec![repeat(1, None), repeat(2, None), repeat(3, Some("it was late".into()))];
    Document { selftest: Some(Selftest { checks, repeats_planned: 3, repeats }), ..Document::of(run()) }
}

#[test]
fn a_self_test_in_a_terminal() {
    insta::assert_snapshot!(table(&View::of(&selftest()), false));
}

#[test]
fn a_self_test_on_a_page() {
    insta::assert_snapshot!(markdown(&View::of(&selftest())));
}

#[test]
fn a_self_test_that_was_cut_short_says_how_far_it_went() {
    let shown = table(&View::of(&Document { partial: true, ..selftest() }), false);
    assert!(shown.contains("! The self-test was cut short after 2 checks and 3 of 3 short runs."), "{shown}");
    assert!(!shown.contains("rounds were played to their end"), "{shown}");
}

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    for records in
        [run(), troubled(), direct(), search(), fixture::search(2, |arm, _| if arm == "full" { 1.2e5 } else { 2.5e6 })]
    {
        let shown = shown(records);
        let widest = shown.lines().max_by_key(|line| measure_text_width(line)).unwrap();
        assert!(measure_text_width(widest) <= 100, "{} columns: {widest}", measure_text_width(widest));
    }
    let shown = table(&View::of(&selftest()), false);
    assert!(shown.lines().all(|line| measure_text_width(line) <= 100), "{shown}");
}

#[test]
fn colour_adds_no_words() {
    let view = View::of(&Document::of(troubled()));
    let (plain, coloured) = (table(&view, false), table(&view, true));
    assert_ne!(plain, coloured);
    assert_eq!(console::strip_ansi_codes(&coloured), plain);
}

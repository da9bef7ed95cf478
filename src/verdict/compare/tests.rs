use super::*;
use crate::record::load::ValidityLevel;
use crate::verdict::fixture::{self, noise};
use crate::verdict::gate::GateOutcome;

/// Eight rounds on a day that makes everything `day` times as dear, in which `full` costs `ratio` times what `none` does.
fn document(day: f64, ratio: f64) -> Document {
    seeded(0, day, ratio)
}

/// The same with noise of its own.
fn seeded(seed: u32, day: f64, ratio: f64) -> Document {
    let mut records = fixture::run(8, |arm, round| {
        day * 20.0 * if arm == "full" { ratio } else { 1.0 } * noise(arm, round + 100 * seed)
    });
    records.header.started_at = format!("2026-01-{:02}T00:00:00Z", seed + 1);
    Document::of(records)
}

fn compared_with(base: &Document, candidate: &Document, criteria: &Criteria) -> Comparison {
    compare(base, candidate, &[], criteria).unwrap()
}

fn line(comparison: &Comparison, metric: Metric, basis: Basis) -> &ComparedMetric {
    comparison.lines.iter().find(|line| line.arm == "full" && line.metric == metric && line.basis == basis).unwrap()
}

fn gated(texts: &[&str]) -> Criteria {
    Criteria { same_machine: false, gates: texts.iter().map(|text| text.parse().unwrap()).collect() }
}

fn reasons(base: &Document, candidate: &Document) -> Vec<String> {
    match compare(base, candidate, &[], &Criteria::default()) {
        Err(Refusal::Incomparable(reasons)) => reasons,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slower_day_is_no_change_and_a_dearer_mode_is() {
    let same_machine = Criteria { same_machine: true, gates: Vec::new() };
    let slower = compared_with(&document(1.0, 1.4), &seeded(1, 1.2, 1.4), &same_machine);
    assert!(!line(&slower, Metric::Cpu, Basis::Ratio).resolved);
    assert!(line(&slower, Metric::Cpu, Basis::Level).resolved);
    let dearer = compared_with(&document(1.0, 1.4), &seeded(1, 1.2, 1.54), &Criteria::default());
    let change = line(&dearer, Metric::Cpu, Basis::Ratio);
    assert!(
        change.resolved && change.change.is_some_and(|c| c.low > 0.05 && c.low < 0.1 && c.high > 0.1),
        "{change:?}"
    );
    assert!(change.base.is_some_and(|ratio| (ratio - 1.4).abs() < 0.02), "{change:?}");
    // Levels are compared on request alone.
    assert!(dearer.lines.iter().all(|line| line.basis != Basis::Level));
}

#[test]
fn a_run_compared_with_itself_has_not_changed_and_says_so() {
    let comparison = compared_with(&document(1.0, 1.4), &document(1.0, 1.4), &gated(&["cpu_us_per_request=5%"]));
    assert!(comparison.lines.iter().all(|line| !line.resolved));
    assert!(comparison.notes.iter().any(|note| note.contains("the same run")), "{:?}", comparison.notes);
    assert_eq!(comparison.gates[0].outcome, GateOutcome::Holds);
}

#[test]
fn a_gate_is_on_the_ratio_to_the_baseline() {
    let outcome = |ratio: f64, gate: &str| {
        compared_with(&document(1.0, 1.4), &seeded(1, 1.3, ratio), &gated(&[gate])).gates.remove(0).outcome
    };
    assert_eq!(outcome(1.4, "cpu_us_per_request:full=5%"), GateOutcome::Holds);
    assert_eq!(outcome(1.4 * 1.1, "cpu_us_per_request:full=5%"), GateOutcome::Fails);
    // What the baseline lost with the day is no gain of the mode.
    assert_eq!(outcome(1.4 * 0.9, "cpu_us_per_request:full=5%"), GateOutcome::Holds);
    let GateOutcome::Undecided { rounds_needed } = outcome(1.4 * 1.03, "cpu_us_per_request:full=2%") else { panic!() };
    // The two runs may differ by more than that for no reason, and rounds do not help.
    assert_eq!(rounds_needed, None);
}

#[test]
fn a_metric_that_does_not_carry_over_never_passes_a_gate_unless_the_machine_is_the_same() {
    for metric in ["response_us_p99", "rss_bytes", "cpu_us_per_request_exporter", "capacity_rps"] {
        let gate = format!("{metric}=50%");
        let judged = compared_with(&document(1.0, 1.4), &seeded(1, 1.0, 1.4), &gated(&[&gate])).gates;
        assert!(matches!(judged[0].outcome, GateOutcome::Absent { .. }), "{judged:?}");
    }
    let same_machine =
        Criteria { same_machine: true, ..gated(&["response_us_p99=50%", "cpu_us_per_request:none=50%"]) };
    let judged = compared_with(&document(1.0, 1.4), &seeded(1, 1.0, 1.4), &same_machine).gates;
    assert!(judged.iter().all(|judged| judged.outcome == GateOutcome::Holds), "{judged:?}");
    let baseline = compared_with(&document(1.0, 1.4), &seeded(1, 1.0, 1.4), &gated(&["cpu_us_per_request:none=50%"]));
    assert!(matches!(baseline.gates[0].outcome, GateOutcome::Absent { .. }));
}

#[test]
fn the_gates_of_the_candidates_scenario_hold_where_no_others_are_given() {
    let mut candidate = seeded(1, 1.0, 1.6);
    candidate.header.scenario.gates = gated(&["cpu_us_per_request=5%"]).gates;
    assert_eq!(
        compared_with(&document(1.0, 1.4), &candidate, &Criteria::default()).gates[0].outcome,
        GateOutcome::Fails
    );
    let wider = gated(&["cpu_us_per_request=25%"]);
    assert_eq!(compared_with(&document(1.0, 1.4), &candidate, &wider).gates[0].outcome, GateOutcome::Holds);
}

#[test]
fn an_arm_that_only_one_has_is_not_compared_and_passes_no_gate_and_one_that_neither_has_is_refused() {
    // A treatment that costs nothing, where the base has its placebo.
    let mut records = seeded(1, 1.0, 1.4).into_records();
    let rename = |name: &mut String| {
        if name == "placebo" {
            *name = "more".into();
        }
    };
    records.slices.iter_mut().for_each(|slice| rename(&mut slice.arm));
    records.lanes.iter_mut().for_each(|lane| rename(&mut lane.arm));
    records.header.plan.order.iter_mut().flatten().for_each(rename);
    records.header.scenario.arms[1].role = Role::Treatment;
    rename(&mut records.header.scenario.arms[1].name);
    let candidate = Document::of(records);
    let comparison = compared_with(&document(1.0, 1.4), &candidate, &gated(&["cpu_us_per_request=5%"]));
    assert!(comparison.notes.iter().any(|note| note == "In the candidate alone, and so not compared: more."));
    let outcome = |arm| &comparison.gates.iter().find(|judged| judged.arm == arm).unwrap().outcome;
    assert_eq!(*outcome("full"), GateOutcome::Holds);
    assert_eq!(*outcome("more"), GateOutcome::Absent { reason: "the base has no such arm".into() });
    let nowhere =
        compare(&document(1.0, 1.4), &candidate, &[], &gated(&["rss_bytes:tuned=5%"])).unwrap_err().to_string();
    assert!(nowhere.contains("no arm `tuned`; there are none, placebo, full, more"), "{nowhere}");
}

#[test]
fn every_difference_of_machine_method_and_scenario_is_named() {
    let base = document(1.0, 1.4);
    let mut candidate = seeded(1, 1.0, 1.4);
    let header = &mut candidate.header;
    header.machine.cpu_model = Some("Abacus 9001".into());
    header.machine.cores = 4;
    header.machine.kernel = Some("Linux 6.1".into());
    header.machine.governor = Some("powersave".into());
    header.machine.hypervisor = None;
    header.tool.profile = "debug".into();
    header.scenario.generator.connections += 1;
    header.scenario.placement.service = vec![3];
    header.scenario.arms[2].mode.traces.as_mut().unwrap().queue += 1;
    let reasons = reasons(&base, &candidate);
    for (part, says) in [
        ("machine.cpu_model", "\"Abacus 9000\" in the base, \"Abacus 9001\" in the candidate"),
        ("machine.cores", "2 in the base, 4 in the candidate"),
        ("machine.kernel", "\"Linux 6.0\" in the base, \"Linux 6.1\" in the candidate"),
        ("machine.governor", "null in the base"),
        ("machine.hypervisor", "null in the candidate"),
        ("tool.profile", "\"release\" in the base, \"debug\" in the candidate"),
        ("scenario.connections", "16 in the base, 17 in the candidate"),
        ("scenario.placement.service", "[1] in the base, [3] in the candidate"),
        ("arm full.mode.traces.queue", "10000 in the base, 10001 in the candidate"),
    ] {
        assert!(reasons.iter().any(|reason| reason.starts_with(part) && reason.contains(says)), "{part}: {reasons:#?}");
    }
    assert_eq!(reasons.len(), 9, "{reasons:#?}");
}

#[test]
fn differences_that_do_not_change_the_answer_are_no_obstacle() {
    let mut candidate = seeded(1, 1.0, 1.4);
    let header = &mut candidate.header;
    header.machine.kernel = Some("Linux 6.0.17-generic".into());
    header.machine.memory_bytes = None;
    header.tool.git = Some("abc".into());
    header.tool.version = "9.9.9".into();
    header.scenario.name = "other".into();
    header.scenario.rounds = 3;
    header.scenario.arms[2].mode.summary = "in other words".into();
    assert_eq!(obstacles(&document(1.0, 1.4).header, &candidate.header), Vec::<String>::new());
}

#[test]
fn a_search_and_a_run_do_not_compare_and_two_searches_do_by_their_capacities() {
    let search = |scale: f64| {
        Document::of(fixture::search(5, |arm, round| {
            scale * if arm == "full" { 20_000.0 } else { 30_000.0 } * noise(arm, round)
        }))
    };
    assert!(reasons(&document(1.0, 1.4), &search(1.0)).iter().any(|reason| reason.starts_with("scenario.slo")));
    let comparison = compared_with(&search(1.0), &search(0.8), &gated(&["capacity_rps=5%", "cpu_us_per_request=5%"]));
    assert!(comparison.lines.iter().all(|line| line.metric == Metric::Capacity && !line.resolved), "{comparison:?}");
    assert!(matches!(comparison.gates[1].outcome, GateOutcome::Absent { .. }), "{:?}", comparison.gates);
}

#[test]
fn partial_and_invalid_results_are_refused_by_name() {
    let mut records = fixture::run(8, |arm, round| 20.0 * noise(arm, round));
    records.slices.pop();
    let partial = reasons(&Document::of(records), &document(1.0, 1.0));
    assert!(partial[0].contains("the base is partial: 7 of 8 rounds"), "{partial:?}");
    let mut records = fixture::run(8, |arm, round| 20.0 * noise(arm, round));
    for slice in &mut records.slices {
        slice.played.validity.find(ValidityLevel::Invalid, "generator starved of CPU".into());
    }
    let invalid = reasons(&document(1.0, 1.0), &Document::of(records));
    assert!(invalid[0].contains("the candidate is invalid") && invalid[0].contains("starved"), "{invalid:?}");
}

#[test]
fn allocations_are_compared_as_they_are() {
    // The fixture has 31 per request.
    let with = |more: u64, uneven: u64| {
        let mut records = fixture::run(8, |arm, round| 20.0 * noise(arm, round));
        for slice in records.slices.iter_mut().filter(|slice| slice.arm == "full") {
            let count = &mut slice.spent.allocations.as_mut().unwrap().count;
            *count += more + uneven * u64::from(slice.round % 2);
        }
        Document::of(records)
    };
    let requests = fixture::REQUESTS;
    let allocations = |more: u64, uneven: u64| {
        let comparison = compared_with(&with(0, 0), &with(more, uneven), &gated(&["allocations_per_request=0%"]));
        let outcome = comparison.gates[0].outcome.clone();
        (line(&comparison, Metric::Allocations, Basis::Exact).clone(), outcome)
    };
    let (one, fails) = allocations(requests, 0);
    assert!(one.resolved && fails == GateOutcome::Fails && one.candidate == Some(32.0), "{one:?}");
    // One in fifty requests is as runs of the same code differ.
    let (few, holds) = allocations(requests / 50, 0);
    assert!(!few.resolved && holds == GateOutcome::Holds, "{few:?}");
    // Where rounds differ the number has noise, and is judged as such.
    let (uneven, undecided) = allocations(0, requests / 4);
    assert!(matches!(undecided, GateOutcome::Undecided { .. } | GateOutcome::Fails), "{undecided:?}");
    assert!(uneven.change.is_some_and(|change| change.high > change.low), "{uneven:?}");
}

#[test]
fn stored_runs_tell_how_much_runs_differ_and_the_candidate_does_not_excuse_itself() {
    let (base, candidate) = (document(1.0, 1.4), seeded(1, 1.0, 1.4));
    let history: Vec<Document> = (2..8).map(|seed| seeded(seed, 1.0, 1.4)).collect();
    let between = |history: &[Document]| {
        let comparison = compare(&base, &candidate, history, &Criteria::default()).unwrap();
        (comparison.history, line(&comparison, Metric::Cpu, Basis::Ratio).between_runs.unwrap())
    };
    assert_eq!(between(&[]), (None, ASSUMED_RATIO));
    let (used, quiet) = between(&history);
    assert!(used == Some(6) && quiet < 0.004, "{quiet}");
    // Runs that do differ are seen to.
    let restless: Vec<Document> = (2..8).map(|seed| seeded(seed, 1.0, 1.4 + 0.05 * f64::from(seed % 2))).collect();
    assert!(between(&restless).1 > 0.015);
    // Twice the same run, the candidate itself, and runs of something else are no runs of the same code.
    let mut other = seeded(8, 1.0, 1.4);
    other.header.machine.cores = 64;
    let worthless = [history[0].clone(), history[0].clone(), history[1].clone(), candidate.clone(), other];
    assert_eq!(between(&worthless), (None, ASSUMED_RATIO));
}

//! Each rule on evidence made by hand: every truth in it is known.

use super::ClaimVerdict::{Confirmed, Inconclusive, Refuted};
use super::*;
use crate::experiment::claims::own::{LimitUnit, OwnClaim};
use crate::experiment::metric::Metric;
use crate::record::account::ServiceSpans;
use crate::record::claims::TlsAttempt;
use crate::record::load;
use crate::record::probes::{ProbeFinding, ProbeObservation, ProbeVerdict};
use crate::record::received::Received;
use crate::record::result::Document;
use crate::verdict::fixture::{self, noise};

const ROUNDS: u32 = 8;

/// A run of these modes, in which a request costs 20 µs, more or less by what is the same in all arms of a round, and
/// `extra` of arm and round beside it.
fn run(modes: &str, extra: impl Fn(&str, u32) -> f64) -> Records {
    fixture::run_of_modes(modes, ROUNDS, |arm, round| 20.0 * noise("round", round) + extra(arm, round))
}

fn asking(ids: &[&str], mut records: Records) -> Records {
    records.header.scenario.claims = Some(ClaimSelection::Published(ids.iter().map(|id| (*id).to_owned()).collect()));
    records
}

fn isolated(readings: &[(&str, f64)]) -> ClaimEvidence {
    let rounds = |name: &str, ns: f64| (0..ROUNDS).map(|round| ns * noise(name, round)).collect();
    let readings = readings.iter().map(|(name, ns)| ((*name).to_owned(), rounds(name, *ns))).collect();
    ClaimEvidence { isolated: Some(Isolated { rounds: ROUNDS, readings }), ..ClaimEvidence::default() }
}

/// The verdict on the one claim that is asked about.
fn verdict_on(id: &str, records: Records, evidence: &ClaimEvidence) -> Claim {
    let mut claims = judge(&asking(&[id], records), evidence);
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

fn own(limit: f64, unit: LimitUnit) -> ClaimVerdict {
    let mut records = run("full", |arm, round| if arm == "full" { 5.0 * noise(arm, round) } else { 0.0 });
    records.header.scenario.claims = Some(ClaimSelection::Own(vec![OwnClaim {
        id: "budget".into(),
        statement: "full is cheap".into(),
        metric: Metric::Cpu,
        arm: "full".into(),
        baseline: None,
        limit,
        unit,
    }]));
    judge(&records, &ClaimEvidence::default())[0].verdict
}

#[test]
fn a_limit_applies_in_its_unit() {
    // 5 µs more than 20, at 10 000 requests per second, on two cores.
    for (unit, is) in [
        (LimitUnit::Microseconds, 5.0),
        (LimitUnit::Percent, 25.0),
        (LimitUnit::PercentOfCore, 5.0),
        (LimitUnit::PercentOfMachine, 2.5),
    ] {
        assert_eq!(own(is * 1.03, unit), ClaimVerdict::Confirmed, "{unit:?}");
        assert_eq!(own(is * 0.97, unit), ClaimVerdict::Refuted, "{unit:?}");
        assert_eq!(own(is, unit), ClaimVerdict::Inconclusive, "{unit:?}");
    }
}

/// The bridge costs so many microseconds, end to end with an error of a tenth and in isolation.
fn bridge(end_to_end: f64, error: f64, calls_us: f64) -> Claim {
    let extra = |arm: &str, round| match arm {
        "bridge" => end_to_end + error * (noise(arm, round) - 1.0) * 100.0,
        _ => 0.0,
    };
    let evidence = isolated(&[("order-metrics", 1_000.0), ("order-bridge", 1_000.0 + calls_us * 1e3)]);
    verdict_on("bridge-cpu", run("metrics,bridge", extra), &evidence)
}

#[test]
fn two_senses_with_different_verdicts_make_a_claim_inconclusive() {
    // 0.15 % of one core, 0.075 % of two.
    let claim = bridge(0.15, 0.001, 0.15);
    assert_eq!(claim.verdict, ClaimVerdict::Inconclusive);
    assert_eq!(claim.reason, "it depends on what is meant; of one core: refuted, of the machine: confirmed");
    let verdicts: Vec<Option<ClaimVerdict>> = claim.readings.iter().map(|reading| reading.verdict).collect();
    let (refuted, confirmed) = (Some(ClaimVerdict::Refuted), Some(ClaimVerdict::Confirmed));
    assert_eq!(verdicts, [refuted, confirmed, refuted, confirmed]);
    assert_eq!((claim.figure.limit, claim.figure.bound), (Some(0.1), Some(Bound::Below)));
    assert_eq!(bridge(0.05, 0.001, 0.05).verdict, ClaimVerdict::Confirmed);
    assert_eq!(bridge(2.0, 0.001, 2.0).verdict, ClaimVerdict::Refuted);
}

#[test]
fn an_undecided_estimator_leaves_the_verdict_to_the_other_and_contradicting_ones_decide_nothing() {
    let claim = bridge(0.15, 5.0, 2.0);
    assert_eq!((claim.verdict, claim.figure.estimator), (ClaimVerdict::Refuted, Some(EstimatorKind::Isolated)));
    assert!(claim.reason.ends_with("; end-to-end it stays open"), "{}", claim.reason);
    assert!(claim.readings[0].reason.contains("rounds"), "{}", claim.readings[0].reason);
    let claim = bridge(5.0, 0.001, 0.01);
    assert_eq!(claim.verdict, ClaimVerdict::Inconclusive);
    assert!(claim.reason.contains("isolated it comes out otherwise"), "{}", claim.reason);
}

#[test]
fn one_refuted_reading_refutes_a_claim_and_all_confirmed_ones_confirm_it() {
    let names: Vec<String> = ["prometheus", "bridge"]
        .iter()
        .flat_map(|recorder| ["counter", "histogram"].map(|call| (call, *recorder)))
        .flat_map(|(call, recorder)| ["macro", "cached"].map(|how| format!("{call}-{how}-{recorder}")))
        .collect();
    let all = |dear: &str| -> Vec<(&str, f64)> {
        names.iter().map(|name| (name.as_str(), if name == dear { 2_000.0 } else { 500.0 })).collect()
    };
    let on = |evidence: &ClaimEvidence| verdict_on("metric-record", run("full", |_, _| 0.0), evidence);
    let claim = on(&isolated(&all("histogram-macro-bridge")));
    assert_eq!(claim.verdict, ClaimVerdict::Refuted);
    assert!(
        claim.reason.starts_with("histogram, through the macro, bridge, per record (isolated): "),
        "{}",
        claim.reason
    );
    assert!((1.9..2.1).contains(&claim.figure.estimate.unwrap()), "{:?}", claim.figure);
    assert_eq!(on(&isolated(&all(""))).verdict, ClaimVerdict::Confirmed);
    let claim = on(&isolated(&all("")[1..]));
    assert_eq!(claim.verdict, ClaimVerdict::Inconclusive);
    assert!(claim.reason.contains("`counter-macro-prometheus` was not measured"), "{}", claim.reason);
    let claim = on(&ClaimEvidence::default());
    assert!(claim.verdict == ClaimVerdict::Inconclusive && claim.figure.estimate.is_none(), "{claim:?}");
}

#[test]
fn the_tightest_of_the_confirming_readings_gives_the_reason() {
    let claims = catalogue::all();
    let claim = claims.iter().find(|claim| claim.id == "span-export").unwrap();
    // Milliseconds of 5: median, 99 % and largest, of traces and of full.
    let estimates = [0.7, 4.2, 2.7, 0.6, 4.6, 2.8];
    let readings: Vec<ClaimReading> = claim
        .questions
        .iter()
        .zip(estimates)
        .map(|(question, estimate)| ClaimReading {
            subject: question.subject.clone(),
            counts: true,
            figure: ClaimFigure {
                limit: Some(5.0),
                bound: Some(Bound::Below),
                unit: "ms".into(),
                denominator: question.denominator.clone(),
                estimate: Some(estimate),
                of: None,
                low: None,
                high: None,
                confidence: None,
                estimator: Some(EstimatorKind::EndToEnd),
                rounds: 12,
            },
            verdict: Some(ClaimVerdict::Confirmed),
            reason: "it is".into(),
        })
        .collect();
    let (verdict, decides, reason) = overall(&claim.questions, &readings);
    assert_eq!((verdict, decides), (ClaimVerdict::Confirmed, 4));
    assert!(reason.starts_with("full, time of 99 % of the exports (end-to-end): it is"), "{reason}");
}

#[test]
fn limits_from_below_and_within_are_tested_on_the_right_side() {
    let depth = |at_100: f64| {
        let evidence = isolated(&[("depth-10", 100.0), ("depth-100", at_100)]);
        verdict_on("span-depth", run("full", |_, _| 0.0), &evidence)
    };
    assert_eq!((depth(200.0).verdict, depth(110.0).verdict), (ClaimVerdict::Confirmed, ClaimVerdict::Refuted));
    assert!(depth(110.0).reason.contains("is below 1.5 ×"), "{}", depth(110.0).reason);
    let free = |cost: f64, calls_ns: f64| {
        let extra = move |arm: &str, round| match arm {
            "bare" => 0.01 * (noise(arm, round) - 1.0),
            _ => cost,
        };
        let evidence = isolated(&[("order-bare", 1_000.0), ("order-none", 1_000.0 + calls_ns)]);
        verdict_on("zero-cost-off", run("bare", extra), &evidence).verdict
    };
    assert_eq!(free(0.05, 50.0), ClaimVerdict::Confirmed);
    assert_eq!(free(1.0, 1_000.0), ClaimVerdict::Refuted);
    assert_eq!(free(-1.0, -1_000.0), ClaimVerdict::Refuted, "equivalence has two sides");
}

/// `traces` and `full`, of which `traces` loses a span in so many rounds.
fn losing(rounds: u32) -> Claim {
    let mut records = run("traces,full", |_, _| 0.0);
    for lane in records.lanes.iter_mut().filter(|lane| lane.arm == "traces" && lane.round < rounds) {
        lane.account.spans.as_mut().unwrap().ended += 1;
    }
    verdict_on("queue-10k", records, &ClaimEvidence::default())
}

#[test]
fn a_count_in_most_rounds_refutes_and_in_none_confirms() {
    let verdicts: Vec<ClaimVerdict> = [0, 1, 4, 5, 8].map(|rounds| losing(rounds).verdict).into();
    assert_eq!(verdicts, [Confirmed, Inconclusive, Inconclusive, Refuted, Refuted]);
    let claim = losing(8);
    assert_eq!((claim.figure.estimate, claim.figure.of), (Some(8.0), Some(f64::from(3 * 2_000 * ROUNDS + 8))));
    // The arm that stands beside was not measured, and has no say.
    assert_eq!((claim.readings[2].counts, claim.readings[2].figure.estimate), (false, None));
}

#[test]
fn an_empty_total_is_inconclusive() {
    let mut records = run("traces,full", |_, _| 0.0);
    for lane in &mut records.lanes {
        lane.account.spans = lane.account.spans.map(|_| ServiceSpans::default());
    }
    let claim = verdict_on("queue-10k", records, &ClaimEvidence::default());
    assert_eq!(claim.verdict, ClaimVerdict::Inconclusive);
    assert!(claim.reason.contains("nothing to count"), "{}", claim.reason);
}

#[test]
fn an_invalid_run_is_inconclusive() {
    let mut records = run("traces,full", |_, _| 0.0);
    for slice in records.slices.iter_mut().filter(|slice| slice.arm == "none") {
        slice.played.validity.find(load::ValidityLevel::Invalid, "the cores were gone".into());
    }
    let claim = verdict_on("queue-10k", records, &ClaimEvidence::default());
    assert_eq!(claim.verdict, ClaimVerdict::Inconclusive);
    assert!(claim.reason.contains("invalid") && claim.reason.contains("the cores were gone"), "{}", claim.reason);
}

#[test]
fn unauthorised_clients_count_as_refused_only_where_the_authorised_one_is_accepted() {
    let tls = |authorised: u64, unauthorised: u64| {
        let attempt = |unauthorised, received| TlsAttempt {
            shows: "something".into(),
            unauthorised,
            ended: 36,
            received,
            refused_connections: 1,
            refused_connection: None,
        };
        let tls_attempts = vec![attempt(false, authorised), attempt(true, 0), attempt(true, unauthorised)];
        verdict_on(
            "mtls",
            run("full,full-mtls", |_, _| 0.0),
            &ClaimEvidence { tls_attempts, ..ClaimEvidence::default() },
        )
    };
    assert_eq!((tls(36, 0).verdict, tls(36, 36).verdict), (ClaimVerdict::Confirmed, ClaimVerdict::Refuted));
    assert_eq!(tls(0, 0).verdict, ClaimVerdict::Inconclusive, "a client that sends nothing proves nothing");
}

#[test]
fn a_second_install_is_judged_by_whether_its_process_panicked() {
    let finding = |probe: &str| ProbeFinding {
        probe: probe.into(),
        title: String::new(),
        pitfall: String::new(),
        seen: ProbeObservation {
            verdict: ProbeVerdict::Found,
            what: String::new(),
            figures: [("refused".to_owned(), 2.0)].into(),
        },
        fixed: None,
        advice: String::new(),
    };
    let on = |evidence: &ClaimEvidence| verdict_on("single-recorder", run("full", |_, _| 0.0), evidence).verdict;
    let probes = ["second-install", "second-provider"];
    let survived = ClaimEvidence { findings: probes.map(finding).into(), ..ClaimEvidence::default() };
    assert_eq!(on(&survived), ClaimVerdict::Refuted);
    let why = "it ended with exit status: 101: thread 'main' panicked at src/probe/install.rs";
    let unprobed = probes.map(|probe| (probe.to_owned(), why.to_owned())).into();
    assert_eq!(on(&ClaimEvidence { unprobed, ..ClaimEvidence::default() }), ClaimVerdict::Confirmed);
    assert_eq!(on(&ClaimEvidence::default()), ClaimVerdict::Inconclusive);
}

#[test]
fn report_only_readings_have_no_verdict_and_decide_nothing() {
    let extra = |arm: &str, round| match arm {
        "metrics" => 1.0 * noise(arm, round),
        "metrics-tracing" => 3.0 * noise(arm, round),
        "full" => 9.0 * noise(arm, round),
        _ => 0.0,
    };
    let claim = verdict_on("choice-table", run("metrics,metrics-tracing,full", extra), &ClaimEvidence::default());
    assert_eq!(claim.verdict, ClaimVerdict::Confirmed);
    let told = &claim.readings[4];
    assert_eq!((told.verdict, told.figure.limit, told.figure.confidence), (None, None, Some(0.9)));
    // 9 µs at 10 000 requests per second.
    assert!((told.figure.estimate.unwrap() - 0.09).abs() < 0.001, "{told:?}");
}

/// The verdict on a claim where the lanes of these arms of a scenario are as `changed` leaves them.
fn on_scenario(id: &str, scenario: &str, arms: &str, changed: impl Fn(&mut LaneRecord)) -> ClaimVerdict {
    let mut records = fixture::run_of_modes(arms, 2, |_, _| 20.0);
    records.lanes.iter_mut().for_each(changed);
    let scenarios = [(scenario.to_owned(), records)].into();
    let calls = isolated(&[("span-none", 1.0), ("span-filtered", 2.0)]);
    verdict_on(id, run("full", |_, _| 0.0), &ClaimEvidence { scenarios, ..calls }).verdict
}

/// As [`on_scenario`], with what the sink received of the lane of one arm.
fn on_receiving(id: &str, scenario: &str, arms: (&str, &str), changed: impl Fn(&mut Received, u64)) -> ClaimVerdict {
    // The scenarios' own modes have no place in the catalogue of modes.
    let (measured, called) = arms;
    let rename = |lane: &mut LaneRecord| {
        if let Some((_, name)) = measured.split(',').zip(called.split(',')).find(|(mode, _)| *mode == lane.arm) {
            name.clone_into(&mut lane.arm);
        }
        let orders = lane.orders_completed;
        if let Some(received) = lane.received.as_mut().filter(|_| called.split(',').next() == Some(&lane.arm)) {
            changed(received, orders);
        }
    };
    on_scenario(id, scenario, measured, rename)
}

#[test]
fn the_telemetry_received_in_a_scenario_decides() {
    let texts = |found: u64| {
        on_receiving("redaction", "personal", ("full", "redacting"), move |received, _| {
            received.leaked = [("4000".to_owned(), 0), ("a@b".to_owned(), found)].into();
        })
    };
    assert_eq!((texts(0), texts(3)), (Confirmed, Refuted));
    let nothing_looked_for = on_receiving("redaction", "personal", ("full", "redacting"), |_, _| {});
    assert_eq!(nothing_looked_for, Inconclusive);

    let debugged = |extra: u64| {
        on_receiving("level-filter", "personal", ("full", "leaking"), move |received, orders| {
            received.spans = 3 * orders + extra;
        })
    };
    assert_eq!((debugged(0), debugged(1)), (Confirmed, Refuted));

    let series = |seen: u64| {
        on_receiving("view-drops-label", "users", ("full,bridge", "viewed,bridge"), move |received, _| {
            received.metrics.series = seen;
        })
    };
    assert_eq!((series(0), series(1)), (Inconclusive, Refuted), "a series more than without the label, or none at all");
}

#[test]
fn the_resource_of_every_span_is_checked() {
    let resource = |named: bool, attribute: &'static str| {
        on_scenario("resource", "environment", "full,bridge", move |lane| {
            if let Some(received) = &mut lane.received {
                let others = u64::from(!named);
                received.services = [("claims-resource".to_owned(), received.spans - others)].into();
                received.resource = [("deployment.environment.name".to_owned(), attribute.to_owned())].into();
            }
        })
    };
    assert_eq!(resource(true, "claims"), Confirmed);
    assert_eq!(resource(true, "production"), Refuted);
}

#[test]
fn a_stored_result_is_judged_anew_with_the_same_verdicts() {
    let records = asking(&["metric-record", "queue-10k"], run("traces,full", |_, _| 0.0));
    let document = Document::with(records, Some(isolated(&[("counter-macro-bridge", 1_234.567)])));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claims.json");
    document.write(&path).unwrap();
    assert_eq!(Document::read(&path).unwrap(), document);
    // A verdict that was written by hand does not survive.
    let forged = std::fs::read_to_string(&path).unwrap().replace("\"refuted\"", "\"confirmed\"");
    std::fs::write(&path, forged).unwrap();
    assert_eq!(Document::read(&path).unwrap(), document);
}

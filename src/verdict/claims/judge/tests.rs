//! Each rule on evidence made by hand: every truth in it is known.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Verdict::{Confirmed, Inconclusive, Refuted};
use super::*;
use crate::record::account::ServiceSpans;
use crate::record::received::Received;
use crate::record::result::Document;
use crate::studies::isolated::Isolated;
use crate::studies::probe::{Finding, Observation};
use crate::verdict::claims::evidence::Encounter;
use crate::verdict::claims::own::{OwnClaim, Unit};
use crate::verdict::fixture::{self, noise};

const ROUNDS: u32 = 8;

/// A run of these modes, in which a request costs 20 µs, more or less by what is the same in all arms of a round, and
/// `extra` of arm and round beside it.
fn run(modes: &str, extra: impl Fn(&str, u32) -> f64) -> Records {
    fixture::run_of_modes(modes, ROUNDS, |arm, round| 20.0 * noise("round", round) + extra(arm, round))
}

fn asking(ids: &[&str], mut records: Records) -> Records {
    records.header.scenario.claims = Some(Asked::Published(ids.iter().map(|id| (*id).to_owned()).collect()));
    records
}

fn isolated(readings: &[(&str, f64)]) -> Evidence {
    let rounds = |name: &str, ns: f64| (0..ROUNDS).map(|round| ns * noise(name, round)).collect();
    let readings = readings.iter().map(|(name, ns)| ((*name).to_owned(), rounds(name, *ns))).collect();
    Evidence { isolated: Some(Isolated { rounds: ROUNDS, readings }), ..Evidence::default() }
}

/// The verdict on the one claim that is asked about.
fn verdict_on(id: &str, records: Records, evidence: &Evidence) -> Claim {
    let mut claims = judge(&asking(&[id], records), evidence);
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

fn own(limit: f64, unit: Unit) -> Verdict {
    let mut records = run("full", |arm, round| if arm == "full" { 5.0 * noise(arm, round) } else { 0.0 });
    records.header.scenario.claims = Some(Asked::Own(vec![OwnClaim {
        id: "budget".into(),
        statement: "full is cheap".into(),
        metric: Metric::Cpu,
        arm: "full".into(),
        baseline: None,
        limit,
        unit,
    }]));
    judge(&records, &Evidence::default())[0].verdict
}

#[test]
fn a_limit_is_held_in_the_unit_that_it_is_given_in() {
    // 5 µs more than 20, at 10 000 requests per second, on two cores.
    for (unit, is) in
        [(Unit::Microseconds, 5.0), (Unit::Percent, 25.0), (Unit::PercentOfCore, 5.0), (Unit::PercentOfMachine, 2.5)]
    {
        assert_eq!(own(is * 1.03, unit), Verdict::Confirmed, "{unit:?}");
        assert_eq!(own(is * 0.97, unit), Verdict::Refuted, "{unit:?}");
        assert_eq!(own(is, unit), Verdict::Inconclusive, "{unit:?}");
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
fn a_claim_that_can_be_read_in_two_ways_depends_on_which_where_they_differ() {
    // 0.15 % of one core, 0.075 % of two.
    let claim = bridge(0.15, 0.001, 0.15);
    assert_eq!(claim.verdict, Verdict::Inconclusive);
    assert_eq!(claim.reason, "it depends on what is meant; of one core: refuted, of the machine: confirmed");
    let verdicts: Vec<Option<Verdict>> = claim.readings.iter().map(|reading| reading.verdict).collect();
    let (refuted, confirmed) = (Some(Verdict::Refuted), Some(Verdict::Confirmed));
    assert_eq!(verdicts, [refuted, confirmed, refuted, confirmed]);
    assert_eq!((claim.figure.limit, claim.figure.bound), (Some(0.1), Some(Bound::Below)));
    assert_eq!(bridge(0.05, 0.001, 0.05).verdict, Verdict::Confirmed);
    assert_eq!(bridge(2.0, 0.001, 2.0).verdict, Verdict::Refuted);
}

#[test]
fn an_estimator_that_cannot_decide_leaves_it_to_the_other_and_two_that_differ_decide_nothing() {
    let claim = bridge(0.15, 5.0, 2.0);
    assert_eq!((claim.verdict, claim.figure.estimator), (Verdict::Refuted, Some(Estimator::Isolated)));
    assert!(claim.reason.ends_with("; end-to-end it stays open"), "{}", claim.reason);
    assert!(claim.readings[0].reason.contains("rounds"), "{}", claim.readings[0].reason);
    let claim = bridge(5.0, 0.001, 0.01);
    assert_eq!(claim.verdict, Verdict::Inconclusive);
    assert!(claim.reason.contains("isolated it comes out otherwise"), "{}", claim.reason);
}

#[test]
fn one_reading_that_the_words_cover_refutes_a_claim_and_all_together_confirm_it() {
    let names: Vec<String> = ["prometheus", "bridge"]
        .iter()
        .flat_map(|recorder| ["counter", "histogram"].map(|call| (call, *recorder)))
        .flat_map(|(call, recorder)| ["macro", "cached"].map(|how| format!("{call}-{how}-{recorder}")))
        .collect();
    let all = |dear: &str| -> Vec<(&str, f64)> {
        names.iter().map(|name| (name.as_str(), if name == dear { 2_000.0 } else { 500.0 })).collect()
    };
    let on = |evidence: &Evidence| verdict_on("metric-record", run("full", |_, _| 0.0), evidence);
    let claim = on(&isolated(&all("histogram-macro-bridge")));
    assert_eq!(claim.verdict, Verdict::Refuted);
    assert!(claim.reason.starts_with("histogram, by macro, bridge, per record (isolated): "), "{}", claim.reason);
    assert!((1.9..2.1).contains(&claim.figure.estimate.unwrap()), "{:?}", claim.figure);
    assert_eq!(on(&isolated(&all(""))).verdict, Verdict::Confirmed);
    let claim = on(&isolated(&all("")[1..]));
    assert_eq!(claim.verdict, Verdict::Inconclusive);
    assert!(claim.reason.contains("`counter-macro-prometheus` was not measured"), "{}", claim.reason);
    let claim = on(&Evidence::default());
    assert!(claim.verdict == Verdict::Inconclusive && claim.figure.estimate.is_none(), "{claim:?}");
}

#[test]
fn of_readings_that_all_keep_a_claim_the_one_that_keeps_it_most_narrowly_speaks() {
    let claims = catalogue::all();
    let claim = claims.iter().find(|claim| claim.id == "span-export").unwrap();
    // Milliseconds of 5: median, 99 % and largest, of traces and of full.
    let estimates = [0.7, 4.2, 2.7, 0.6, 4.6, 2.8];
    let readings: Vec<Reading> = claim
        .questions
        .iter()
        .zip(estimates)
        .map(|(question, estimate)| Reading {
            subject: question.subject.clone(),
            counts: true,
            figure: Figure {
                limit: Some(5.0),
                bound: Some(Bound::Below),
                unit: "ms".into(),
                denominator: question.denominator.clone(),
                estimate: Some(estimate),
                of: None,
                low: None,
                high: None,
                confidence: None,
                estimator: Some(Estimator::EndToEnd),
                rounds: 12,
            },
            verdict: Some(Verdict::Confirmed),
            reason: "it is".into(),
        })
        .collect();
    let (verdict, decides, reason) = overall(&claim.questions, &readings);
    assert_eq!((verdict, decides), (Verdict::Confirmed, 4));
    assert!(reason.starts_with("full, time of 99 % of the exports (end-to-end): it is"), "{reason}");
}

#[test]
fn what_has_to_be_above_or_within_is_held_against_the_right_side() {
    let depth = |at_100: f64| {
        let evidence = isolated(&[("depth-10", 100.0), ("depth-100", at_100)]);
        verdict_on("span-depth", run("full", |_, _| 0.0), &evidence)
    };
    assert_eq!((depth(200.0).verdict, depth(110.0).verdict), (Verdict::Confirmed, Verdict::Refuted));
    assert!(depth(110.0).reason.contains("is below 1.5 ×"), "{}", depth(110.0).reason);
    let free = |cost: f64, calls_ns: f64| {
        let extra = move |arm: &str, round| match arm {
            "bare" => 0.01 * (noise(arm, round) - 1.0),
            _ => cost,
        };
        let evidence = isolated(&[("order-bare", 1_000.0), ("order-none", 1_000.0 + calls_ns)]);
        verdict_on("zero-cost-off", run("bare", extra), &evidence).verdict
    };
    assert_eq!(free(0.05, 50.0), Verdict::Confirmed);
    assert_eq!(free(1.0, 1_000.0), Verdict::Refuted);
    assert_eq!(free(-1.0, -1_000.0), Verdict::Refuted, "equivalence has two sides");
}

/// `traces` and `full`, of which `traces` loses a span in so many rounds.
fn losing(rounds: u32) -> Claim {
    let mut records = run("traces,full", |_, _| 0.0);
    for lane in records.lanes.iter_mut().filter(|lane| lane.arm == "traces" && lane.round < rounds) {
        lane.account.spans.as_mut().unwrap().ended += 1;
    }
    verdict_on("queue-10k", records, &Evidence::default())
}

#[test]
fn what_is_counted_in_most_rounds_refutes_and_what_is_in_none_confirms() {
    let verdicts: Vec<Verdict> = [0, 1, 4, 5, 8].map(|rounds| losing(rounds).verdict).into();
    assert_eq!(verdicts, [Confirmed, Inconclusive, Inconclusive, Refuted, Refuted]);
    let claim = losing(8);
    assert_eq!((claim.figure.estimate, claim.figure.of), (Some(8.0), Some(f64::from(3 * 2_000 * ROUNDS + 8))));
    // The arm that stands beside was not measured, and has no say.
    assert_eq!((claim.readings[2].counts, claim.readings[2].figure.estimate), (false, None));
}

#[test]
fn nothing_to_count_is_no_proof() {
    let mut records = run("traces,full", |_, _| 0.0);
    for lane in &mut records.lanes {
        lane.account.spans = lane.account.spans.map(|_| ServiceSpans::default());
    }
    let claim = verdict_on("queue-10k", records, &Evidence::default());
    assert_eq!(claim.verdict, Verdict::Inconclusive);
    assert!(claim.reason.contains("nothing to count"), "{}", claim.reason);
}

#[test]
fn an_invalid_run_decides_nothing() {
    let mut records = run("traces,full", |_, _| 0.0);
    for slice in records.slices.iter_mut().filter(|slice| slice.arm == "none") {
        slice.played.validity.find(crate::record::load::Verdict::Invalid, "the cores were gone".into());
    }
    let claim = verdict_on("queue-10k", records, &Evidence::default());
    assert_eq!(claim.verdict, Verdict::Inconclusive);
    assert!(claim.reason.contains("invalid") && claim.reason.contains("the cores were gone"), "{}", claim.reason);
}

#[test]
fn strangers_are_refused_only_where_the_right_one_is_heard() {
    let tls = |right: u64, stranger: u64| {
        let encounter = |stranger, received| Encounter {
            shows: "something".into(),
            stranger,
            ended: 36,
            received,
            refused_connections: 1,
            refused_connection: None,
        };
        let encounters = vec![encounter(false, right), encounter(true, 0), encounter(true, stranger)];
        verdict_on("mtls", run("full,full-mtls", |_, _| 0.0), &Evidence { encounters, ..Evidence::default() })
    };
    assert_eq!((tls(36, 0).verdict, tls(36, 36).verdict), (Verdict::Confirmed, Verdict::Refuted));
    assert_eq!(tls(0, 0).verdict, Verdict::Inconclusive, "a client that sends nothing proves nothing");
}

#[test]
fn a_second_install_is_judged_by_what_became_of_the_process() {
    let finding = |probe: &str| Finding {
        probe: probe.into(),
        title: String::new(),
        pitfall: String::new(),
        seen: Observation {
            verdict: crate::studies::probe::Verdict::Found,
            what: String::new(),
            figures: [("refused".to_owned(), 2.0)].into(),
        },
        fixed: None,
        advice: String::new(),
    };
    let on = |evidence: &Evidence| verdict_on("single-recorder", run("full", |_, _| 0.0), evidence).verdict;
    let probes = ["second-install", "second-provider"];
    let survived = Evidence { findings: probes.map(finding).into(), ..Evidence::default() };
    assert_eq!(on(&survived), Verdict::Refuted);
    let why = "it ended with exit status: 101: thread 'main' panicked at src/probe/install.rs";
    let unprobed = probes.map(|probe| (probe.to_owned(), why.to_owned())).into();
    assert_eq!(on(&Evidence { unprobed, ..Evidence::default() }), Verdict::Confirmed);
    assert_eq!(on(&Evidence::default()), Verdict::Inconclusive);
}

#[test]
fn what_is_told_for_comparison_has_no_verdict_and_no_say() {
    let extra = |arm: &str, round| match arm {
        "metrics" => 1.0 * noise(arm, round),
        "metrics-tracing" => 3.0 * noise(arm, round),
        "full" => 9.0 * noise(arm, round),
        _ => 0.0,
    };
    let claim = verdict_on("choice-table", run("metrics,metrics-tracing,full", extra), &Evidence::default());
    assert_eq!(claim.verdict, Verdict::Confirmed);
    let told = &claim.readings[4];
    assert_eq!((told.verdict, told.figure.limit, told.figure.confidence), (None, None, Some(0.9)));
    // 9 µs at 10 000 requests per second.
    assert!((told.figure.estimate.unwrap() - 0.09).abs() < 0.001, "{told:?}");
}

/// The verdict on a claim where the lanes of these arms of a trial are as `changed` leaves them.
fn on_trial(id: &str, trial: &str, arms: &str, changed: impl Fn(&mut LaneRecord)) -> Verdict {
    let mut records = fixture::run_of_modes(arms, 2, |_, _| 20.0);
    records.lanes.iter_mut().for_each(changed);
    let trials = [(trial.to_owned(), records)].into();
    let calls = isolated(&[("span-none", 1.0), ("span-filtered", 2.0)]);
    verdict_on(id, run("full", |_, _| 0.0), &Evidence { trials, ..calls }).verdict
}

/// As [`on_trial`], with what the sink received of the lane of one arm.
fn on_receiving(id: &str, trial: &str, arms: (&str, &str), changed: impl Fn(&mut Received, u64)) -> Verdict {
    // The trials' own modes have no place in the catalogue of modes.
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
    on_trial(id, trial, measured, rename)
}

#[test]
fn what_a_receiver_saw_in_a_trial_decides() {
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
fn a_resource_is_looked_for_in_every_payload() {
    let resource = |named: bool, attribute: &'static str| {
        on_trial("resource", "environment", "full,bridge", move |lane| {
            if let Some(received) = &mut lane.received {
                let strangers = u64::from(!named);
                received.services = [("claims-resource".to_owned(), received.spans - strangers)].into();
                received.resource = [("deployment.environment.name".to_owned(), attribute.to_owned())].into();
            }
        })
    };
    assert_eq!(resource(true, "claims"), Confirmed);
    assert_eq!(resource(true, "production"), Refuted);
}

#[test]
fn a_stored_result_is_judged_anew_and_alike() {
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

#[test]
fn two_runs_of_one_truth_hardly_ever_contradict_each_other() {
    const PAIRS: usize = 4_000;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let figure = losing(0).figure;
    // The worst case: the truth is at the limit.
    let mut verdict = || {
        let values: Vec<f64> = (0..ROUNDS).map(|_| 1.0 + 0.1 * fixture::normal(&mut rng)).collect();
        let mut figure = figure.clone();
        ruled(&values, false, Test::Below(1.0), &mut figure).0
    };
    let contradictory = |(a, b)| matches!((a, b), (Confirmed, Refuted) | (Refuted, Confirmed));
    let contradictions = (0..PAIRS).filter(|_| contradictory((verdict(), verdict()))).count();
    // Two of the four outcomes of two tests at 5 % each: 0.5 %, and less for the cross-check.
    assert!(contradictions < PAIRS / 100, "{contradictions} of {PAIRS}");
}

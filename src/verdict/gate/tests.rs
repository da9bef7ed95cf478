use super::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn gate(text: &str) -> Gate {
    text.parse().unwrap()
}

fn case(text: &str, change: Result<LogRatio, String>) -> Case {
    Case { gate: gate(text), arm: "full".into(), change }
}

/// Eight rounds with this relative change, each a bit off in turn.
fn rounds(change: f64, spread: f64) -> LogRatio {
    LogRatio::Rounds((0..8).map(|round| change.ln_1p() + spread * (f64::from(round) - 3.5)).collect())
}

fn outcome_of(text: &str, change: LogRatio) -> GateOutcome {
    judge(vec![case(text, Ok(change))]).remove(0).outcome
}

#[test]
fn a_gate_is_about_its_arm_or_about_every_treatment_and_a_missing_arm_is_refused() {
    let (known, treatments) = (["none", "metrics", "full"], ["metrics", "full"]);
    let about = |text: &str, treatments: &[&str]| {
        let cases = cases(&[gate(text)], &known, treatments, |_, _| Ok(LogRatio::Rounds(vec![0.0; 8])));
        cases.map(|cases| cases.into_iter().map(|case| case.arm).collect::<Vec<_>>()).map_err(|e| e.to_string())
    };
    assert_eq!(about("cpu_us_per_request=5%", &treatments), Ok(vec!["metrics".into(), "full".into()]));
    assert_eq!(about("cpu_us_per_request:none=5%", &treatments), Ok(vec!["none".into()]));
    let unknown = about("cpu_us_per_request:ful=5%", &treatments).unwrap_err();
    assert!(unknown.contains("no arm `ful`; there are none, metrics, full"), "{unknown}");
}

#[test]
fn a_gate_over_no_arm_at_all_does_not_pass() {
    let over_nothing = cases(&[gate("cpu_us_per_request=5%")], &["none"], &[], |_, _| unreachable!()).unwrap();
    assert!(matches!(conclude(&judge(over_nothing)), Conclusion::Absent(_)));
}

#[test]
fn a_cost_that_rises_beyond_its_limit_fails_and_one_that_falls_holds() {
    let costs = "cpu_us_per_request=5%";
    assert_eq!(outcome_of(costs, rounds(0.08, 0.002)), GateOutcome::Fails);
    assert_eq!(outcome_of(costs, rounds(0.02, 0.002)), GateOutcome::Holds);
    assert_eq!(outcome_of(costs, rounds(-0.5, 0.002)), GateOutcome::Holds);
}

#[test]
fn a_capacity_that_falls_beyond_its_limit_fails_and_one_that_rises_holds() {
    let capacity = "capacity_rps=5%";
    assert_eq!(outcome_of(capacity, rounds(-0.08, 0.002)), GateOutcome::Fails);
    assert_eq!(outcome_of(capacity, rounds(-0.02, 0.002)), GateOutcome::Holds);
    assert_eq!(outcome_of(capacity, rounds(0.5, 0.002)), GateOutcome::Holds);
    // The change is said as it is, and not as a worsening.
    let judged = judge(vec![case(capacity, Ok(rounds(-0.08, 0.002)))]).remove(0);
    let change = judged.change.unwrap();
    assert!(change.low < -0.08 && change.high > -0.08 && change.high < -0.05, "{change:?}");
}

#[test]
fn a_limit_is_a_fraction_of_the_reference_either_way() {
    let exactly = |text, change: f64| outcome_of(text, LogRatio::Runs(Estimate::exact(change.ln_1p()), 8));
    assert_eq!(exactly("allocations_per_request=0%", 0.0), GateOutcome::Holds);
    assert_eq!(exactly("allocations_per_request=0%", 1e-6), GateOutcome::Fails);
    assert_eq!(exactly("rss_bytes=50%", 0.499), GateOutcome::Holds);
    assert_eq!(exactly("rss_bytes=50%", 0.501), GateOutcome::Fails);
    assert_eq!(exactly("capacity_rps=50%", -0.499), GateOutcome::Holds);
    assert_eq!(exactly("capacity_rps=50%", -0.501), GateOutcome::Fails);
}

#[test]
fn an_undecided_gate_says_how_many_rounds_would_decide_it() {
    let undecided = outcome_of("cpu_us_per_request=5%", rounds(0.06, 0.02));
    let GateOutcome::Undecided { rounds_needed: Some(needed) } = undecided else { panic!("{undecided:?}") };
    assert!((100..300).contains(&needed), "{needed}");
}

#[test]
fn a_metric_that_was_not_measured_never_passes() {
    let absent = || Err("it was not counted".to_owned());
    let judged = judge(vec![case("allocations_per_request=5%", absent())]);
    let Conclusion::Absent(message) = conclude(&judged) else { panic!("{judged:?}") };
    assert!(message.contains("allocations_per_request=5% in full cannot be judged: it was not counted"), "{message}");
    assert_eq!(
        outcome_of("rss_bytes=5%", LogRatio::Rounds(vec![0.0])),
        GateOutcome::Absent { reason: "an interval needs two rounds or more".into() }
    );
    // Beside gates that hold it still does not pass; a regression goes before it.
    let holds = || case("cpu_us_per_request=5%", Ok(rounds(0.0, 0.001)));
    let with = |more: Case| conclude(&judge(vec![holds(), more, case("rss_bytes=5%", absent())]));
    assert!(matches!(with(holds()), Conclusion::Absent(_)));
    assert!(matches!(with(case("response_us_p99=5%", Ok(rounds(0.5, 0.001)))), Conclusion::Fails(_)));
    assert!(matches!(with(case("response_us_p99=5%", Ok(rounds(0.05, 0.01)))), Conclusion::Absent(_)));
}

#[test]
fn a_failure_counts_before_an_undecided_gate() {
    let holds = case("cpu_us_per_request=5%", Ok(rounds(0.0, 0.001)));
    let undecided = case("response_us_p50=5%", Ok(rounds(0.055, 0.02)));
    let fails = case("response_us_p99=5%", Ok(rounds(0.5, 0.001)));
    let conclusion = |cases: &[&Case]| conclude(&judge(cases.iter().map(|&case| case.clone()).collect()));
    assert_eq!(conclusion(&[&holds, &holds]), Conclusion::Holds);
    let Conclusion::Undecided(message) = conclusion(&[&holds, &undecided]) else { panic!() };
    assert!(
        message.starts_with("response_us_p50=5% in full is undecided") && message.contains("rounds would"),
        "{message}"
    );
    let Conclusion::Fails(message) = conclusion(&[&undecided, &fails]) else { panic!() };
    assert!(message.starts_with("response_us_p99=5% in full fails: +50.0 %, at best +49."), "{message}");
}

#[test]
fn the_chance_of_any_false_alarm_among_many_gates_is_that_of_one() {
    const RUNS: usize = 1_000;
    // Each arm is at its limit exactly, where a false alarm is likeliest: eight gates, eight rounds.
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let alarms = |corrected: bool, rng: &mut ChaCha8Rng| {
        let any = |_: &usize| {
            let cases = (0..8).map(|_| {
                let ratios = (0..8).map(|_| 0.05_f64.ln_1p() + 0.02 * crate::verdict::fixture::normal(rng)).collect();
                case("cpu_us_per_request=5%", Ok(LogRatio::Rounds(ratios)))
            });
            judge(cases.collect()).iter().any(|judged| {
                let alone = judged.p.is_some_and(|p| p < ALPHA);
                if corrected { judged.outcome == GateOutcome::Fails } else { alone }
            })
        };
        (0..RUNS).filter(any).count() as f64 / RUNS as f64
    };
    // Binomial spread at 1 000 runs: sd 0.7 % at 5 %, 1.5 % at 34 %.
    let (corrected, uncorrected) = (alarms(true, &mut rng), alarms(false, &mut rng));
    assert!(corrected < 0.07, "{corrected}");
    assert!((0.28..0.40).contains(&uncorrected), "{uncorrected}");
}

#[test]
fn more_gates_than_can_be_afforded_are_warned_of() {
    assert_eq!(too_many(4), None);
    assert!(too_many(5).unwrap().contains("5 gates"));
}

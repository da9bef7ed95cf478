//! The search in virtual time: services of which the capacity is known, some of them on machines that hiccup.

use proptest::prelude::*;

use super::*;
use crate::generator::answered;
use crate::record::load::{Quantiles, ValidityLevel};
use crate::verdict::stats::Paired;

const STEP: Duration = Duration::from_secs(1);

fn per_second(rate: f64) -> Rate {
    Rate::per_second(rate).unwrap()
}

/// Carries `search` out; `outcome` says what becomes of its n-th step, at this rate.
fn carried_out(mut search: Search, mut outcome: impl FnMut(usize, f64) -> StepOutcome) -> (Next, Vec<Step>) {
    loop {
        match search.next() {
            Next::Try(rate) => {
                let outcome = outcome(search.steps.len(), rate.as_f64());
                search.note(Step { rate, outcome });
            }
            ended => return (ended, search.steps),
        }
    }
}

fn found(next: &Next) -> f64 {
    match next {
        Next::Found(rate) => rate.as_f64(),
        other => panic!("no capacity: {other:?}"),
    }
}

/// A service that holds every rate up to `capacity`.
fn holds_up_to(capacity: f64) -> impl Fn(usize, f64) -> StepOutcome {
    move |_, rate| if rate <= capacity { StepOutcome::Held } else { StepOutcome::Failed }
}

/// Whether `answer` is the highest rate that held, and one within the resolution above it failed twice.
fn rests_on(answer: f64, steps: &[Step]) -> bool {
    let rates = |outcome| steps.iter().filter(move |step| step.outcome == outcome).map(|step| step.rate.as_f64());
    let held = rates(StepOutcome::Held).fold(0.0, f64::max);
    let above = |rate: &f64| *rate > held && *rate <= held * (1.0 + RESOLUTION);
    answer == held
        && rates(StepOutcome::Failed)
            .filter(above)
            .any(|rate| rates(StepOutcome::Failed).filter(|r| *r == rate).count() > 1)
}

proptest! {
    #[test]
    fn any_capacity_is_found_from_anywhere_within_the_resolution(
        capacity in (30_f64.ln()..9e6_f64.ln()).prop_map(f64::exp), start in (0.01_f64.ln()..1e7_f64.ln()).prop_map(f64::exp),
        around: bool,
    ) {
        let start = per_second(start);
        let search = if around { Search::around(start, STEP) } else { Search::from(start, STEP) };
        let (ended, steps) = carried_out(search, holds_up_to(capacity));
        let answer = found(&ended);
        prop_assert!(answer <= capacity && capacity < answer * (1.0 + RESOLUTION), "{answer} of {capacity}");
        prop_assert!(rests_on(answer, &steps));
        prop_assert!(steps.len() < MOST_STEPS, "{} steps", steps.len());
    }

    /// A disturbance spoils one step, whichever it is; the answer is as good.
    #[test]
    fn a_hiccup_does_not_change_the_answer(
        capacity in 1_000.0..100_000.0_f64, spoilt in 0_usize..12, starves: bool,
    ) {
        let disturbance = if starves { StepOutcome::Starved } else { StepOutcome::Failed };
        let (ended, steps) = carried_out(Search::from(per_second(10_000.0), STEP), |step, rate| {
            if step == spoilt { disturbance } else { holds_up_to(capacity)(step, rate) }
        });
        let answer = found(&ended);
        prop_assert!(answer <= capacity && capacity < answer * (1.0 + RESOLUTION), "{answer} of {capacity}: {steps:?}");
    }

    /// A disturbance that lasts from the start is climbed out of, and not failure by failure.
    #[test]
    fn a_burst_of_hiccups_does_not_change_the_answer_and_costs_few_steps(
        capacity in 20_000.0..100_000.0_f64, lasts in 1_usize..10, starves: bool,
    ) {
        let disturbance = if starves { StepOutcome::Starved } else { StepOutcome::Failed };
        let (ended, steps) = carried_out(Search::around(per_second(capacity), STEP), |step, rate| {
            if step < lasts { disturbance } else { holds_up_to(capacity)(step, rate) }
        });
        let answer = found(&ended);
        prop_assert!(answer <= capacity && capacity < answer * (1.0 + RESOLUTION), "{answer} of {capacity}: {steps:?}");
        prop_assert!(steps.len() <= lasts + 30, "{} steps", steps.len());
    }

    /// Near the capacity each step is a matter of luck: its odds fall from 1 to 0 over 10 %.
    #[test]
    fn an_edge_that_is_not_sharp_is_found_within_its_width(
        capacity in 100.0..100_000.0_f64, lots in prop::collection::vec(0.95..1.05_f64, MOST_STEPS),
    ) {
        let (ended, steps) = carried_out(Search::from(per_second(5_000.0), STEP), |step, rate| {
            holds_up_to(capacity * lots[step])(step, rate)
        });
        let answer = found(&ended);
        prop_assert!(answer <= capacity * 1.05 && capacity * 0.95 < answer * (1.0 + RESOLUTION), "{answer} of {capacity}");
        prop_assert!(steps.len() < MOST_STEPS, "{} steps", steps.len());
    }

    #[test]
    fn a_search_ends_whatever_the_steps_say(outcomes in prop::collection::vec(0_u8..3, MOST_STEPS), start in 1.0..1e7_f64) {
        let (ended, steps) = carried_out(Search::from(per_second(start), STEP), |step, _| match outcomes[step] {
            0 => StepOutcome::Held,
            1 => StepOutcome::Failed,
            _ => StepOutcome::Starved,
        });
        if let Next::Found(answer) = ended {
            prop_assert!(rests_on(answer.as_f64(), &steps), "{answer}: {steps:?}");
        }
    }

    #[test]
    fn where_a_search_started_does_not_matter_to_what_its_steps_say(
        capacity in 100.0..1e6_f64, other in 1.0..1e7_f64,
    ) {
        let (ended, steps) = carried_out(Search::around(per_second(3_000.0), STEP), holds_up_to(capacity));
        let mut replayed = Search::from(per_second(other), STEP);
        for step in steps {
            replayed.note(step);
        }
        prop_assert_eq!(replayed.next(), ended);
    }
}

#[test]
fn a_search_that_starts_near_the_answer_is_short() {
    let steps = |search| carried_out(search, holds_up_to(35_000.0)).1.len();
    assert!(steps(Search::from(per_second(10_000.0), STEP)) <= 10);
    for start in [33_000.0, 34_500.0, 35_500.0, 37_000.0] {
        assert!(steps(Search::around(per_second(start), STEP)) <= 7, "from {start}");
    }
}

#[test]
fn rates_at_which_the_generator_is_starved_are_no_answer_and_no_failure() {
    // The service fails below where the generator does: the starved steps do not count.
    let (ended, _) = carried_out(Search::from(per_second(10_000.0), STEP), |step, rate| {
        if rate > 60_000.0 { StepOutcome::Starved } else { holds_up_to(50_000.0)(step, rate) }
    });
    let answer = found(&ended);
    assert!(answer <= 50_000.0 && 50_000.0 < answer * (1.0 + RESOLUTION), "{answer}");
    // The generator fails below: no number, and the reason.
    let (ended, steps) = carried_out(Search::from(per_second(10_000.0), STEP), |step, rate| {
        if rate > 40_000.0 { StepOutcome::Starved } else { holds_up_to(50_000.0)(step, rate) }
    });
    assert!(
        matches!(&ended, Next::Undecided(why) if why.to_string().contains("starved of CPU at 40 880 requests per second, and 40 000 held")),
        "{ended:?}"
    );
    assert!(steps.len() < 20);
}

#[test]
fn a_search_that_cannot_decide_ends_with_its_reason() {
    let ends = |outcome| match carried_out(Search::from(per_second(10_000.0), STEP), |_, _| outcome) {
        (Next::Undecided(why), _) => why.to_string(),
        (other, _) => panic!("{other:?}"),
    };
    assert_eq!(ends(StepOutcome::Failed), "the SLO is not held even at 20 requests per second");
    assert_eq!(ends(StepOutcome::Starved), "the generator was starved of CPU even at 20 requests per second");
    assert!(ends(StepOutcome::Held).contains("no more can be asked for"), "{}", ends(StepOutcome::Held));
}

#[test]
fn searches_that_start_from_one_answer_do_not_share_a_grid() {
    let answer = per_second(35_000.0);
    let starts: Vec<f64> = (0..1_000).map(|seed| near(answer, seed).as_f64() / 35_000.0).collect();
    assert!(starts.iter().all(|start| (start.ln() / (1.0 + RESOLUTION).ln()).abs() <= 0.51));
    let mean = starts.iter().sum::<f64>() / 1_000.0;
    assert!((mean - 1.0).abs() < 0.002, "{mean}");
    // The answers of many searches are spread evenly over the resolution: none of them knows of the others.
    let answers: Vec<f64> = (0..1_000)
        .map(|seed| found(&carried_out(Search::around(near(answer, seed), STEP), holds_up_to(35_300.0)).0) / 35_300.0)
        .collect();
    let (low, high) = answers.iter().fold((f64::MAX, 0.0_f64), |(low, high), a| (low.min(*a), high.max(*a)));
    assert!(low < 0.978 && high > 0.997, "{low} to {high}");
}

/// Experiments of five rounds on services without any noise of their own: what is left is the searches' own rounding, and the
/// interval on the ratio knows of it. Had the searches of several rounds one grid of rates, each experiment would be sure of
/// an answer of its own.
#[test]
fn the_interval_on_a_ratio_covers_it_as_often_as_it_says() {
    const EXPERIMENTS: u64 = 1_000;
    let ratio = 0.6_f64;
    let mut covered = 0;
    for experiment in 0..EXPERIMENTS {
        let base = 20_000.0 * 1.037_f64.powi((experiment % 50) as i32);
        let answers = |arm: u64, capacity: f64| -> Vec<f64> {
            let mut last = None;
            let mut answer = |round: u64| {
                let seed = experiment << 16 | arm << 8 | round;
                let search = match last {
                    None => Search::from(near(per_second(10_000.0), seed), STEP),
                    Some(rate) => Search::around(near(rate, seed), STEP),
                };
                let found = found(&carried_out(search, holds_up_to(capacity)).0);
                last = Some(per_second(found));
                found.ln()
            };
            (0..5).map(&mut answer).collect()
        };
        let (full, none) = (answers(0, base * ratio), answers(1, base));
        let differences: Vec<f64> = full.iter().zip(&none).map(|(full, none)| full - none).collect();
        let interval = Paired::of(&differences).unwrap().interval(0.95);
        covered += u64::from(interval.low <= ratio.ln() && ratio.ln() <= interval.high);
    }
    // Binomial spread: sd 0.7 %. Rounding is not normal, so a little less than 95 % would be no surprise.
    let covered = covered as f64 / EXPERIMENTS as f64;
    assert!(covered > 0.92, "{covered}");
}

#[test]
fn a_step_holds_only_with_every_request_answered_and_every_quantile_within_its_limit() {
    let slo: Slo = "p99=10ms".parse().unwrap();
    let clean = answered(1_000, Duration::from_millis(2));
    assert_eq!(StepOutcome::of(&clean, &slo), StepOutcome::Held);
    assert_eq!(StepOutcome::of(&answered(1_000, Duration::from_millis(11)), &slo), StepOutcome::Failed);
    let mut lost = [(); 5].map(|()| clean.clone());
    for played in &mut lost {
        played.load.completed -= 1;
    }
    lost[0].load.failed.insert("reset".into(), 1);
    lost[1].load.timed_out = 1;
    lost[2].load.missed = 1;
    lost[3].load.unsent = 1;
    lost[4].load.in_flight = 1;
    let mut as_asked = lost[0].clone();
    as_asked.load.failed = [("status_4xx".into(), 1)].into();
    as_asked.mix.refused_as_asked = 1;
    assert_eq!(StepOutcome::of(&as_asked, &slo), StepOutcome::Held);
    for played in lost {
        assert!(played.load.adds_up());
        assert_eq!(StepOutcome::of(&played, &slo), StepOutcome::Failed, "{:?}", played.load);
    }
    assert_eq!(StepOutcome::of(&answered(0, Duration::ZERO), &slo), StepOutcome::Failed);
}

#[test]
fn a_generator_that_was_starved_says_nothing_and_a_service_that_cannot_keep_up_fails() {
    let slo: Slo = "p99=10ms".parse().unwrap();
    let mut played = answered(1_000, Duration::from_millis(50));
    let busy = "half of all requests waited 40 ms for a connection: the service cannot keep up with this rate";
    played.validity.find(ValidityLevel::Invalid, busy.into());
    assert_eq!(StepOutcome::of(&played, &slo), StepOutcome::Failed);
    // It turned to the requests late itself: a failure may be its own, an SLO that held all the same did.
    let late = Some(Quantiles { p99: Some(25_000.0), ..Quantiles::default() });
    assert_eq!(StepOutcome::of(&LoadResult { wake_us: late.clone(), ..played.clone() }, &slo), StepOutcome::Starved);
    let held = LoadResult { wake_us: late, ..answered(1_000, Duration::from_millis(9)) };
    assert_eq!(StepOutcome::of(&held, &slo), StepOutcome::Held);
    // Throughout, and requests were lost: the service may have had no part in it.
    played.load.completed -= 1;
    played.load.unsent += 1;
    played.wake_us = Some(Quantiles { p50: Some(20_000.0), ..Quantiles::default() });
    assert_eq!(StepOutcome::of(&played, &slo), StepOutcome::Starved);
}

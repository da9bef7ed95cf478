//! The verdict on one reading.
//!
//! A figure is the mean of one value per round, with the 90 % interval of Student, each of whose bounds is that of a
//! one-sided test at 5 %: [`stats::below`] and [`stats::within`] rule on it. A count is confirmed where it is zero in every
//! round, refuted where it is not in more than half of the rounds, and else inconclusive.

use crate::experiment::claims::question::{ClaimQuestion, CountCheck, Quantity, Test};
use crate::experiment::units::{as_given, grouped, in_few_digits};
use crate::record::claims::{ClaimFigure, ClaimVerdict};
use crate::verdict::stats::{self, Paired, Ruling};

/// Level of each one-sided test.
const ALPHA: f64 = 0.05;
/// Confidence of the intervals that go with it.
const CONFIDENCE: f64 = 1.0 - 2.0 * ALPHA;

/// Rules on the counts of the rounds.
pub(super) fn rule_on_counts(
    rounds: &[(f64, f64)],
    question: &ClaimQuestion,
    figure: &mut ClaimFigure,
) -> (ClaimVerdict, String) {
    let (wrong, of) = rounds.iter().fold((0.0, 0.0), |(wrong, of), round| (wrong + round.0, of + round.1));
    figure.rounds = rounds.len() as u32;
    if of <= 0.0 {
        return (ClaimVerdict::Inconclusive, "there was nothing to count".into());
    }
    (figure.estimate, figure.of) = (Some(wrong), Some(of));
    let seen = rounds.iter().filter(|(wrong, _)| *wrong > 0.0).count();
    let verb = match question.quantity {
        Quantity::Count(CountCheck::UnauthorisedClients) => " were accepted",
        _ => "",
    };
    // Both are whole, and far below the largest that there is.
    let share = format!("{} of {} {}{verb}", grouped(wrong as u64), grouped(of as u64), figure.unit);
    if seen == 0 {
        (ClaimVerdict::Confirmed, share)
    } else if 2 * seen > rounds.len() {
        (ClaimVerdict::Refuted, share)
    } else {
        (
            ClaimVerdict::Inconclusive,
            format!("{share}, in {seen} of {} rounds; more rounds would show how often", rounds.len()),
        )
    }
}

/// Rules on the values of the rounds.
pub(super) fn rule_on_values(
    values: &[f64],
    logs: bool,
    test: Test,
    figure: &mut ClaimFigure,
) -> (ClaimVerdict, String) {
    figure.rounds = values.len() as u32;
    let shown = |value: f64| if logs { value.exp_m1() * 100.0 } else { value };
    let scale = |percent: f64| if logs { (percent / 100.0).ln_1p() } else { percent };
    let Some(paired) = Paired::of(values) else {
        return (ClaimVerdict::Inconclusive, "an interval takes two rounds or more".into());
    };
    let interval = paired.interval(CONFIDENCE).map(shown);
    figure.estimate = Some(interval.estimate);
    (figure.low, figure.high) = (Some(interval.low), Some(interval.high));
    figure.confidence = Some(CONFIDENCE);
    let opposite = || values.iter().map(|value| -value).collect::<Vec<f64>>();
    let ruling = match test {
        Test::Below(limit) => stats::below(values, scale(limit), ALPHA),
        Test::Above(limit) => stats::below(&opposite(), -scale(limit), ALPHA),
        Test::Within(margin) => stats::within(values, scale(margin), ALPHA),
        Test::ReportOnly | Test::Zero => return (ClaimVerdict::Inconclusive, "for comparison only".into()),
    };
    let unit = &figure.unit;
    let limit = match test {
        Test::Within(margin) => format!("±{} {unit}", as_given(margin)),
        _ => format!("{} {unit}", as_given(figure.limit.unwrap_or(f64::NAN))),
    };
    let between = format!("{} … {} {unit}", in_few_digits(interval.low), in_few_digits(interval.high));
    match ruling {
        Ruling::Confirmed => (ClaimVerdict::Confirmed, format!("{between} is {} {limit}", side(test, true))),
        Ruling::Refuted => (ClaimVerdict::Refuted, format!("{between} is {} {limit}", side(test, false))),
        Ruling::Inconclusive { rounds_needed } => {
            let needed = match rounds_needed {
                Some(rounds) => format!("about {} rounds would decide", grouped(rounds.into())),
                None => "no affordable number of rounds would decide".into(),
            };
            (ClaimVerdict::Inconclusive, format!("{between} may be on either side of {limit}; {needed}"))
        }
    }
}

/// The side of the limit on which a figure is that holds it, or does not.
fn side(test: Test, holds: bool) -> &'static str {
    match (test, holds) {
        (Test::Within(_), true) => "within",
        (Test::Within(_), false) => "outside",
        (Test::Above(_), true) | (Test::Below(_) | Test::ReportOnly | Test::Zero, false) => "above",
        (Test::Above(_), false) | (Test::Below(_) | Test::ReportOnly | Test::Zero, true) => "below",
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::ClaimVerdict::{Confirmed, Refuted};
    use super::*;
    use crate::verdict::fixture;

    #[test]
    fn two_runs_of_one_truth_hardly_ever_contradict_each_other() {
        const PAIRS: usize = 4_000;
        const ROUNDS: u32 = 8;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let figure = ClaimFigure {
            limit: Some(1.0),
            bound: None,
            unit: "µs".into(),
            denominator: "per request".into(),
            estimate: None,
            of: None,
            low: None,
            high: None,
            confidence: None,
            estimator: None,
            rounds: 0,
        };
        // The worst case: the truth is at the limit.
        let mut verdict = || {
            let values: Vec<f64> = (0..ROUNDS).map(|_| 1.0 + 0.1 * fixture::normal(&mut rng)).collect();
            rule_on_values(&values, false, Test::Below(1.0), &mut figure.clone()).0
        };
        let contradictory = |(a, b)| matches!((a, b), (Confirmed, Refuted) | (Refuted, Confirmed));
        let contradictions = (0..PAIRS).filter(|_| contradictory((verdict(), verdict()))).count();
        // Two of the four outcomes of two tests at 5 % each: 0.5 %, and less for the cross-check.
        assert!(contradictions < PAIRS / 100, "{contradictions} of {PAIRS}");
    }
}

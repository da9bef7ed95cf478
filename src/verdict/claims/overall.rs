//! The verdict on a whole claim.
//!
//! A claim is refuted where any of its readings is, confirmed where all are, and else inconclusive, with these additions:
//!
//! - Where two estimators look at one thing and only one of them can decide, that one does. Where they decide differently,
//!   neither does.
//! - Where the claim can be read in several senses, such as a share of one core or of the machine, each has its verdict by
//!   the rule above, and the claim one only where all agree.
//!
//! For one run to confirm what another refutes, a reading must err against odds of 20 to 1 at least once.

use crate::experiment::claims::question::ClaimQuestion;
use crate::record::claims::{Bound, ClaimReading, ClaimVerdict, EstimatorKind};

/// The indices of the readings of each subject, in the order of the estimators.
type BySubject<'a> = Vec<(&'a str, Vec<usize>)>;

/// A verdict, and the index of the reading that decides it.
type Decided = (ClaimVerdict, usize);

/// The verdict on a whole claim, the index of the reading that decides it, and why.
pub(super) fn overall(questions: &[ClaimQuestion], readings: &[ClaimReading]) -> (ClaimVerdict, usize, String) {
    // By sense, then by subject, in the order of the questions.
    let mut senses: Vec<(Option<&str>, BySubject<'_>)> = Vec::new();
    for (index, (question, reading)) in questions.iter().zip(readings).enumerate() {
        if !question.counts || reading.verdict.is_none() {
            continue;
        }
        let sense = entry(&mut senses, question.sense.as_deref());
        entry(sense, question.subject.as_str()).push(index);
    }
    let by_sense: Vec<(Option<&str>, Decided)> =
        senses.iter().filter_map(|(sense, subjects)| Some((*sense, of_sense(readings, subjects)?))).collect();
    // Where all hold, the tightest says most.
    let tightest = by_sense
        .iter()
        .rev()
        .max_by(|(_, a), (_, b)| used_if_held(readings, *a).total_cmp(&used_if_held(readings, *b)));
    let Some(&(_, (verdict, decides))) = tightest else {
        return (ClaimVerdict::Inconclusive, 0, "none of its readings can be judged".into());
    };
    if by_sense.iter().any(|(_, (other, _))| *other != verdict) {
        let decides = by_sense[0].1.1;
        let named: Vec<String> = by_sense
            .iter()
            .map(|(sense, (verdict, _))| format!("{}: {}", sense.unwrap_or("as a whole"), verdict.as_str()))
            .collect();
        return (ClaimVerdict::Inconclusive, decides, format!("it depends on what is meant; {}", named.join(", ")));
    }
    (verdict, decides, why(questions, readings, decides, verdict))
}

/// The verdict on one sense: the first reading that refutes, else the first that cannot decide, else the tightest.
fn of_sense(readings: &[ClaimReading], subjects: &BySubject<'_>) -> Option<Decided> {
    let decided: Vec<Decided> = subjects.iter().map(|(_, indices)| of_subject(readings, indices)).collect();
    let with = |verdict| decided.iter().copied().find(|(found, _)| *found == verdict);
    let tightest = || decided.iter().copied().max_by(|a, b| used(&readings[a.1]).total_cmp(&used(&readings[b.1])));
    with(ClaimVerdict::Refuted).or_else(|| with(ClaimVerdict::Inconclusive)).or_else(tightest)
}

/// The verdict on one subject, which several estimators may look at.
fn of_subject(readings: &[ClaimReading], indices: &[usize]) -> Decided {
    let verdict_at = |index: usize| readings[index].verdict.unwrap_or(ClaimVerdict::Inconclusive);
    let decisive: Vec<usize> =
        indices.iter().copied().filter(|index| verdict_at(*index) != ClaimVerdict::Inconclusive).collect();
    match decisive.as_slice() {
        [] => (ClaimVerdict::Inconclusive, indices[0]),
        [first, others @ ..] if others.iter().all(|other| verdict_at(*other) == verdict_at(*first)) => {
            (verdict_at(*first), *first)
        }
        [first, ..] => (ClaimVerdict::Inconclusive, *first),
    }
}

/// The share of the limit that a reading uses, if it confirms; else 0.
fn used_if_held(readings: &[ClaimReading], (verdict, index): Decided) -> f64 {
    if verdict == ClaimVerdict::Confirmed { used(&readings[index]) } else { 0.0 }
}

/// The share of the limit that a figure uses: 1 is at the limit.
fn used(reading: &ClaimReading) -> f64 {
    match (reading.figure.estimate, reading.figure.limit, reading.figure.bound) {
        (Some(estimate), Some(limit), Some(Bound::Below)) if limit > 0.0 => estimate / limit,
        (Some(estimate), Some(limit), Some(Bound::Within)) if limit > 0.0 => estimate.abs() / limit,
        (Some(estimate), Some(limit), Some(Bound::Above)) if estimate > 0.0 => limit / estimate,
        _ => 0.0,
    }
}

/// The reason for a verdict that all senses share.
fn why(questions: &[ClaimQuestion], readings: &[ClaimReading], decides: usize, verdict: ClaimVerdict) -> String {
    let reading = &readings[decides];
    let ClaimReading { subject, figure, reason, .. } = reading;
    let first = format!("{subject}, {} ({}): {reason}", figure.denominator, estimator(reading));
    let others: Vec<&ClaimReading> = (0..readings.len())
        .filter(|index| *index != decides && questions[*index].counts && readings[*index].verdict.is_some())
        .map(|index| &readings[index])
        .collect();
    let twin = others
        .iter()
        .find(|other| other.subject == reading.subject && other.figure.denominator == reading.figure.denominator);
    let open = |reading: &ClaimReading| reading.verdict == Some(ClaimVerdict::Inconclusive);
    match (verdict, twin) {
        (ClaimVerdict::Inconclusive, Some(twin)) if !open(twin) => {
            format!("{first}; {} it comes out otherwise: {}", estimator(twin), twin.reason)
        }
        (ClaimVerdict::Confirmed | ClaimVerdict::Refuted, Some(twin)) if open(twin) => {
            format!("{first}; {} it stays open", estimator(twin))
        }
        _ => with_others(first, &others, verdict),
    }
}

/// The reason of the deciding reading, and how many others share the verdict.
fn with_others(first: String, others: &[&ClaimReading], verdict: ClaimVerdict) -> String {
    let same = others.iter().filter(|other| other.verdict == Some(verdict)).count();
    let is = if same == 1 { "is" } else { "are" };
    match (verdict, others.len()) {
        (ClaimVerdict::Inconclusive, _) | (_, 0) => first,
        (_, 1) if same == 1 => format!("{first}; the other is {} too", verdict.as_str()),
        (_, 1) => format!("{first}; the other is not"),
        (_, n) if n == same => format!("{first}; all {n} others are {} too", verdict.as_str()),
        (_, n) if same == 0 => format!("{first}; none of the {n} others is"),
        (_, n) => format!("{first}; of the {n} others {same} {is} {} too", verdict.as_str()),
    }
}

fn estimator(reading: &ClaimReading) -> &'static str {
    reading.figure.estimator.map_or("", EstimatorKind::as_str)
}

/// The value of `key` in a list that keeps its order; an empty one where there was none.
fn entry<K: PartialEq, V: Default>(list: &mut Vec<(K, V)>, key: K) -> &mut V {
    let place = list.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        list.push((key, V::default()));
        list.len() - 1
    });
    &mut list[place].1
}

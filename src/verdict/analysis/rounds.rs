//! Which rounds count, and from which slices the values of a round are taken.

use std::collections::BTreeSet;

use crate::experiment::slo::Slo;
use crate::experiment::units::Rate;
use crate::record::load::{Validity, ValidityLevel};
use crate::record::records::{Header, Records, SliceRecord};
use crate::record::result::Rounds;
use crate::verdict::capacity::{Next, Search, Step, StepOutcome};

/// Share of rounds that may be void before the run as a whole says nothing.
pub const VOID_INVALID: f64 = 0.1;

/// Counts the rounds, with those that are void, and judges the run as a whole.
pub(super) fn judge(records: &Records) -> (Rounds, Validity) {
    match &records.header.scenario.slo {
        None => judge_slices(records),
        Some(slo) => judge_searches(records, slo),
    }
}

/// The rounds that count.
pub(super) fn valid(records: &Records, rounds: &Rounds) -> Vec<u32> {
    complete(records).into_iter().filter(|round| !rounds.void.contains(round)).collect()
}

/// The slices that an arm's values of a round are taken from: all of them, or the step that gave its search the answer.
pub(super) fn deciding_slices<'a>(records: &'a Records, round: u32, arm: &str) -> Vec<&'a SliceRecord> {
    let Some(slo) = &records.header.scenario.slo else { return slices_of(records, round, arm).collect() };
    let (Next::Found(answer), steps) = searched(records, slo, round, arm) else { return Vec::new() };
    let held = |step: &Step| *step == Step { rate: answer, outcome: StepOutcome::Held };
    steps.iter().find(|(step, _)| held(step)).map(|(_, slice)| *slice).into_iter().collect()
}

/// The slices of an arm in one round.
pub(super) fn slices_of<'a>(records: &'a Records, round: u32, arm: &str) -> impl Iterator<Item = &'a SliceRecord> {
    records.slices.iter().filter(move |slice| slice.round == round && slice.arm == arm)
}

/// Rounds in which every slice of the plan was played, or every search ended, and every lane reported.
fn complete(records: &Records) -> Vec<u32> {
    let Header { plan, scenario, .. } = &records.header;
    (0..plan.rounds)
        .filter(|round| {
            let played = records.slices.iter().filter(|slice| slice.round == *round).count();
            let ended = records.lanes.iter().filter(|lane| lane.round == *round).count();
            let planned = plan.order.get(*round as usize).map_or(0, Vec::len);
            // Lanes end when their searches have.
            let all = if scenario.slo.is_some() { played > 0 } else { planned > 0 && played == planned };
            all && ended == scenario.arms.len()
        })
        .collect()
}

/// The state of an arm's search in one round, and its steps.
fn searched<'a>(records: &'a Records, slo: &Slo, round: u32, arm: &str) -> (Next, Vec<(Step, &'a SliceRecord)>) {
    let scenario = &records.header.scenario;
    let mut search = Search::from(scenario.rps, scenario.slice);
    let mut steps = Vec::new();
    for slice in slices_of(records, round, arm) {
        // A rate in the range of rates was asked for, in a slice that is a step.
        if let Some(rate) = slice.played.rate.asked.and_then(|asked| Rate::per_second(asked).ok()) {
            let step = Step { rate, outcome: StepOutcome::of(&slice.played, slo) };
            search.note(step);
            steps.push((step, slice));
        }
    }
    (search.next(), steps)
}

/// A round in which a search could not decide is void; when no round is left, nothing was measured.
fn judge_searches(records: &Records, slo: &Slo) -> (Rounds, Validity) {
    let Header { scenario, plan, .. } = &records.header;
    let complete = complete(records);
    let mut undecided = Vec::new();
    for round in &complete {
        for arm in &scenario.arms {
            if let (Next::Undecided(reason), _) = searched(records, slo, *round, &arm.name) {
                undecided.push((*round, format!("{}: {reason}", arm.name)));
            }
        }
    }
    let void: BTreeSet<u32> = undecided.iter().map(|(round, _)| *round).collect();
    let verdict = if void.len() == complete.len() { ValidityLevel::Invalid } else { ValidityLevel::Degraded };
    let mut validity = Validity::default();
    for (_, reason) in undecided {
        validity.find(verdict, reason);
    }
    let rounds = Rounds { planned: plan.rounds, complete: complete.len() as u32, void: void.into_iter().collect() };
    (rounds, validity)
}

/// A round with an invalid slice is void; when too many are, the run is invalid.
fn judge_slices(records: &Records) -> (Rounds, Validity) {
    let invalid: Vec<&SliceRecord> = records.slices.iter().filter(|slice| slice.played.validity.is_invalid()).collect();
    let void: BTreeSet<u32> = invalid.iter().map(|slice| slice.round).collect();
    let planned = records.header.plan.rounds;
    let mut validity = Validity::default();
    if void.len() as f64 > VOID_INVALID * f64::from(planned) {
        for slice in &invalid {
            for cause in &slice.played.validity.causes {
                validity.find(ValidityLevel::Invalid, format!("{}: {cause}", slice.arm));
            }
        }
    }
    let rounds = Rounds { planned, complete: complete(records).len() as u32, void: void.into_iter().collect() };
    (rounds, validity)
}

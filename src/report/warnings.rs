//! Everything that keeps a run, or part of it, from being trusted.

use super::cells::count;
use super::{loss, selftest};
use crate::experiment::scenario::Role;
use crate::record::load::ValidityLevel;
use crate::record::result::{ArmSummary, Document};
use crate::verdict::analysis::headline;

pub(super) fn warnings(document: &Document) -> Vec<String> {
    let mut warnings = document.selftest.as_ref().map_or_else(Vec::new, |found| selftest::warnings(found, document));
    if document.validity.is_invalid() {
        warnings.push("The measurement is invalid, so no difference is given.".into());
        warnings.extend(document.validity.causes.iter().cloned());
    }
    let rounds = &document.rounds;
    if document.partial && document.selftest.is_none() {
        warnings.push(format!(
            "The run was cut short: {} of {} rounds were played to their end.",
            rounds.complete, rounds.planned
        ));
    }
    if !document.validity.is_invalid() && !rounds.void.is_empty() {
        warnings.push(format!("{} of {} rounds are void and count for no arm.", rounds.void.len(), rounds.planned));
        warnings.extend(document.validity.causes.iter().cloned());
    }
    if placebo_differs(document) {
        warnings.push(
            "The placebo differs from the baseline, though they are the same: this run has noise that its intervals do \
             not know of, and a difference of that size says nothing."
                .into(),
        );
    }
    for arm in &document.arms {
        if !document.validity.is_invalid() {
            warnings.extend(degraded(arm, document));
        }
        warnings.extend(loss::warnings(arm));
    }
    warnings
}

/// The degraded slices of an arm, which count all the same.
fn degraded(arm: &ArmSummary, document: &Document) -> Option<String> {
    let example = arm.validity.causes.first()?;
    if document.header.scenario.slo.is_some() {
        return Some(format!("{}: a step that gave an answer was degraded, such as: {example}.", arm.name));
    }
    let slices = document
        .records
        .iter()
        .filter(|slice| slice.arm == arm.name && slice.played.validity.level == ValidityLevel::Degraded)
        .count();
    (slices > 0).then(|| format!("{}: {} degraded, such as: {example}.", arm.name, count(slices as u64, "slice")))
}

fn placebo_differs(document: &Document) -> bool {
    let headline = headline(&document.header.scenario);
    let mut placebos = document.arms.iter().filter(|arm| arm.role == Role::Placebo);
    placebos.any(|arm| document.delta(&arm.name, headline).is_some_and(|delta| delta.resolved))
}

//! The results of a self-test: a row per check, and a row per arm of its short runs.

use super::cells::{Grid, Row};
use crate::experiment::scenario::Role;
use crate::record::result::Document;
use crate::record::selftest::Selftest;
use crate::verdict::repeats::{ArmOfRepeats, by_arm};

const CHECKS: [&str; 4] = ["check", "", "expected", "seen"];
const REPEATS: [&str; 6] =
    ["short runs", "injected", "in the 95 %", "resolved", "detectable from", "at or above it, resolved"];

/// The checks.
pub(super) fn checks(selftest: &Selftest) -> Grid {
    let rows = selftest.checks.iter().map(|check| Row {
        is_treatment: !check.passed,
        cells: vec![
            check.name.clone(),
            if check.passed { "pass" } else { "FAIL" }.into(),
            check.expected.clone(),
            check.seen.clone(),
        ],
    });
    Grid { columns: CHECKS.map(str::to_owned).into(), rows: rows.collect() }
}

/// The short runs, arm by arm, where there are some.
pub(super) fn repeats(selftest: &Selftest) -> Option<Grid> {
    let arms = by_arm(&selftest.repeats);
    (!arms.is_empty())
        .then(|| Grid { columns: REPEATS.map(str::to_owned).into(), rows: arms.iter().map(row).collect() })
}

fn row(arm: &ArmOfRepeats<'_>) -> Row {
    let of = |n: u64, all: u64| format!("{n} of {all}");
    Row {
        is_treatment: arm.role == Role::Treatment,
        cells: vec![
            arm.name.to_owned(),
            format!("{:.2} µs", arm.injected_us),
            of(arm.inside, arm.runs),
            of(arm.resolved, arm.runs),
            format!("{:.2} µs", arm.mde_us),
            of(arm.detected, arm.detectable),
        ],
    }
}

/// Advice for the checks that fail, and how far a self-test went that was cut short.
pub(super) fn warnings(selftest: &Selftest, document: &Document) -> Vec<String> {
    let mut warnings = Vec::new();
    if document.partial {
        warnings.push(format!(
            "The self-test was cut short after {} checks and {} of {} short runs.",
            selftest.checks.len(),
            selftest.repeats.len(),
            selftest.repeats_planned
        ));
    }
    let failed = selftest.checks.iter().filter(|check| !check.passed);
    warnings.extend(failed.map(|check| format!("{}: {}", check.name, check.advice)));
    warnings
}

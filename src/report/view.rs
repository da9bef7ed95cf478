//! A document in words, ready to be laid out.

use super::cells::Grid;
use super::costs::confidence;
use super::ledger::ledger;
use super::setting::{setting, title};
use super::warnings::warnings;
use super::{capacity, costs, selftest};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Role;
use crate::record::result::Document;
use crate::verdict::analysis::headline;

/// The content of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The experiment.
    pub title: String,
    /// Where and how, a line each.
    pub setting: Vec<String>,
    /// The checks of a self-test, a row each.
    pub checks: Option<Grid>,
    /// The short runs of a self-test, a row for each arm.
    pub repeats: Option<Grid>,
    /// The cost of each arm.
    pub costs: Grid,
    /// Where the spans of each arm went, if any were lost or misshapen.
    pub ledger: Option<Grid>,
    /// Reasons not to trust the run, or part of it.
    pub warnings: Vec<String>,
    /// The placebo's difference to the baseline.
    pub noise_floor: Option<String>,
    /// One sentence per treatment.
    pub sentences: Vec<String>,
    /// The outcome of each gate.
    pub gates: Vec<String>,
}

impl View {
    /// The view of a document.
    pub fn of(document: &Document) -> Self {
        let scenario = &document.header.scenario;
        let treatments = || document.arms.iter().filter(|arm| arm.role == Role::Treatment);
        let (columns, rows, sentences) = match &scenario.slo {
            None => (
                costs::columns(document),
                document.arms.iter().map(|arm| costs::row(arm, document)).collect(),
                treatments().filter_map(|arm| costs::sentence(arm, document, scenario)).collect(),
            ),
            Some(slo) => (
                capacity::columns(&confidence(document)),
                document.arms.iter().map(|arm| capacity::row(arm, document)).collect(),
                treatments().filter_map(|arm| capacity::sentence(arm, document, slo)).collect(),
            ),
        };
        Self {
            title: title(document),
            setting: setting(document),
            checks: document.selftest.as_ref().map(selftest::checks),
            repeats: document.selftest.as_ref().and_then(selftest::repeats),
            costs: Grid { columns, rows },
            ledger: ledger(document),
            warnings: warnings(document),
            noise_floor: noise_floor(document),
            sentences: if document.validity.is_invalid() { Vec::new() } else { sentences },
            gates: match document.gates() {
                Ok(judged) => judged.iter().map(|judged| format!("Gate {}.", judged.in_words())).collect(),
                Err(unknown) => vec![unknown.to_string()],
            },
        }
    }
}

pub(super) fn noise_floor(document: &Document) -> Option<String> {
    let placebo = document.arms.iter().find(|arm| arm.role == Role::Placebo)?;
    let delta = document.delta(&placebo.name, headline(&document.header.scenario))?;
    let (Some(relative), Some(absolute)) = (delta.relative, delta.absolute) else { return None };
    let (what, absolute) = match delta.metric {
        Metric::Capacity => ("capacity", format!("{:+.0} RPS", absolute.estimate)),
        _ => ("CPU", format!("{:+.2} µs", absolute.estimate)),
    };
    let verdict = if delta.resolved { "which is more than chance explains" } else { "as it should, not resolved" };
    Some(format!(
        "Noise floor: the placebo, the same as the baseline, differs by {:+.1} % of {what} ({:+.1} … {:+.1}), or {absolute}, {verdict}.",
        relative.estimate * 100.0,
        relative.low * 100.0,
        relative.high * 100.0,
    ))
}

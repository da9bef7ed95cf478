//! `otelbench compare`: two stored results, and gates on what changed between them.

use std::path::PathBuf;

use super::{Failure, colour, gated, put, put_json, read, stored};
use crate::experiment::scenario::Format;
use crate::report::compare as report;
use crate::verdict::compare::{Comparison, Options, Refusal, compare};
use crate::verdict::gate;

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct Question {
    /// The result that the other is compared with.
    pub base: PathBuf,
    /// The result in question.
    pub candidate: PathBuf,
    /// Stored results of the same code, which tell how much runs differ.
    pub history: Vec<PathBuf>,
    /// How to compare.
    pub options: Options,
    /// What to print.
    pub format: Format,
}

/// Compares, and judges the gates.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(question: &Question) -> Result<(), Failure> {
    let Question { base, candidate, options, .. } = question;
    let history: Vec<_> = stored(&question.history)?.into_iter().map(|(_, document)| document).collect();
    let comparison = compare(&read(base)?, &read(candidate)?, &history, options).map_err(|refusal| match refusal {
        Refusal::UnknownArm(_) => Failure::Usage(refusal.to_string()),
        Refusal::Incomparable(_) => {
            let (base, candidate) = (base.display(), candidate.display());
            Failure::Invalid(format!(
                "{base} (the base) and {candidate} (the candidate) cannot be compared:\n  {refusal}"
            ))
        }
    })?;
    if let Some(warning) = gate::too_many(comparison.gates.len()) {
        eprintln!("warning: {warning}");
    }
    show(&comparison, question.format)?;
    gated(&comparison.gates)
}

fn show(comparison: &Comparison, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => put_json(comparison),
        Format::Table => put(&report::table(comparison, colour())),
        Format::Markdown => put(&report::markdown(comparison)),
    }
}

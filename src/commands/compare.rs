//! `otelbench compare`: two stored results, and gates on what changed between them.

use super::{Failure, colour, gated, put, put_json, read, stored};
use crate::cli::CompareOptions;
use crate::experiment::scenario::Format;
use crate::report::compare as report;
use crate::verdict::compare::{Comparison, Criteria, Refusal, compare};
use crate::verdict::gate;

/// Compares, and judges the gates.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(options: &CompareOptions) -> Result<(), Failure> {
    let CompareOptions { base, candidate, max_regression, same_machine, history, format } = options;
    let criteria = Criteria { same_machine: *same_machine, gates: max_regression.clone() };
    let history: Vec<_> = stored(history)?.into_iter().map(|(_, document)| document).collect();
    let comparison =
        compare(&read(base)?, &read(candidate)?, &history, &criteria).map_err(|refusal| match refusal {
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
    show(&comparison, *format)?;
    gated(&comparison.gates)
}

fn show(comparison: &Comparison, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => put_json(comparison),
        Format::Table => put(&report::table(comparison, colour())),
        Format::Markdown => put(&report::markdown(comparison)),
    }
}

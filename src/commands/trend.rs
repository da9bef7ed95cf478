//! `otelbench trend`: where a cost changed in a series of stored results.

use std::path::PathBuf;

use super::{Failure, colour, put, put_json, stored};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Format;
use crate::report::trend as report;
use crate::verdict::trend::trend;

/// Follows `metric` through the results among these files.
///
/// # Errors
/// When a file cannot be read or was changed by hand, or none of them is a result.
pub fn run(files: &[PathBuf], metric: Metric, same_machine: bool, format: Format) -> Result<(), Failure> {
    let results: Vec<_> =
        stored(files)?.into_iter().map(|(path, document)| (path.display().to_string(), document)).collect();
    if results.is_empty() {
        return Err(Failure::Usage(
            "none of the files is a result of otelbench; name some, such as results/*.json".into(),
        ));
    }
    let trend = trend(results, metric, same_machine);
    match format {
        Format::Json => put_json(&trend),
        Format::Table => put(&report::table(&trend, colour())),
        Format::Markdown => put(&report::markdown(&trend)),
    }
}

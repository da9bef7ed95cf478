//! Options of `report`.

use std::path::PathBuf;

use clap::Args;

use super::formats;
use crate::experiment::scenario::Format;

/// `otelbench report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  otelbench report results/run.json\n  otelbench report results/run.jsonl    the records of a run that was killed"
)]
pub struct ReportOptions {
    /// Result document, or the records file of a run that was cut short
    pub result: PathBuf,
    /// Format of the report on stdout
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
}

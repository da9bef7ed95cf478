//! Options of `trend`.

use std::path::PathBuf;

use clap::Args;

use super::formats;
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Format;

/// `otelbench trend`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct TrendOptions {
    /// Stored results, in any order; what else is among them is left out
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Metric to follow
    #[arg(long, value_name = "METRIC", default_value = "cpu_us_per_request")]
    pub metric: Metric,
    /// Follow microseconds, response times, rates and memory too: all ran on one machine in one state
    #[arg(long)]
    pub same_machine: bool,
    /// Format of the report on stdout
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
}

const HELP: &str = "\
Results are put in order of time; those of another machine, scenario or method make a series of their \
own. What is followed is the ratio of each arm to the baseline of its own run, and allocations as they \
are. A change is shown where the order of the results is less likely than 5 % if nothing changed; that \
can be told from 10 results on.

Examples:
  otelbench trend results/*.json
  otelbench trend nightly/*.json --metric allocations_per_request --format markdown";

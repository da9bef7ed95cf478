//! Options of `compare`.

use std::path::PathBuf;

use clap::Args;

use super::formats;
use crate::experiment::gate::Gate;
use crate::experiment::scenario::Format;

/// `otelbench compare`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct CompareOptions {
    /// Result to compare with
    pub base: PathBuf,
    /// Result to judge
    #[arg(value_name = "CAND")]
    pub candidate: PathBuf,
    /// How much worse the candidate may be, such as `cpu_us_per_request:full=5%`, or without an arm for every treatment; can
    /// be repeated [default: those of CAND's scenario]
    #[arg(long, value_name = "METRIC[:ARM]=PCT%")]
    pub max_regression: Vec<Gate>,
    /// Compare microseconds, response times, rates and memory too: both ran on one machine in one state
    #[arg(long)]
    pub same_machine: bool,
    /// Stored results of the same code, scenario and machine, which tell how much runs differ; three or more
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub history: Vec<PathBuf>,
    /// Format of the report on stdout
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
}

const HELP: &str = "\
What is compared is the ratio of an arm to the baseline of its own run, because microseconds differ \
from day to day by more than most changes of code. So cpu_us_per_request:full=5% fails where \
full/none of CAND is more than 5 % above full/none of BASE beyond chance, and what happens to full \
and none alike goes unseen; allocations_per_request is compared as it is, and sees that. A gate holds \
where the 95 % bound is within its limit, and is undecided in between. Results of different machines, \
scenarios or methods are refused.

Examples:
  otelbench compare main.json branch.json
  otelbench compare main.json branch.json --max-regression cpu_us_per_request:full=5%
  otelbench compare main.json branch.json --max-regression allocations_per_request=0%
  otelbench compare main.json branch.json --format markdown --history nightly/*.json

Exit codes: 0 every gate holds, 1 a gate fails, 2 a file or flag is wrong, 3 a gate is undecided, \
4 the results do not compare, or a gate has nothing to judge.";

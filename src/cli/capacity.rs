//! Options of `capacity`.

use std::path::PathBuf;

use clap::Args;

use super::run::ExperimentArgs;
use crate::experiment::scenario::Settings;
use crate::experiment::slo::Slo;

/// `otelbench capacity`.
#[derive(Debug, Args)]
#[command(
    after_help = CAPACITY_EXAMPLES,
    mut_arg("rps", |arg| arg.help("Where the first search starts, in requests per second [default: 10000]")),
    mut_arg("rounds", |arg| arg.help("Fresh launches of every arm, each with a search of its own [default: 5]")),
    mut_arg("slice", |arg| arg.help("Length of a step of the search [default: 1s, or what shows an overload of 2 %]")),
    mut_arg("arrivals", |arg| arg.help("Arrival process: constant or poisson [default: constant]")),
    mut_arg("timeout", |arg| arg.help("Time a request may take from when it was written [default: 1s, or twice the SLO]"))
)]
pub struct CapacityArgs {
    /// What must hold, such as p99=10ms or p50=1ms,p99=10ms: limits on p50, p90, p99, p99.9 and max of the response time.
    /// Besides, no request may be lost
    #[arg(long, value_name = "SLO")]
    slo: Option<Slo>,
    #[command(flatten)]
    experiment: ExperimentArgs,
}

const CAPACITY_EXAMPLES: &str = "\
Examples:
  otelbench capacity --slo p99=10ms
  otelbench capacity --slo p50=1ms,p99=10ms --mode full --rounds 10
  otelbench capacity scenarios/article.toml --slo p99=100ms --rps 5000

A step that is longer shows a smaller overload; `--slo p99=10ms` takes 1s. An answer is within 3 % of a rate that fails.";

impl CapacityArgs {
    /// The scenario file, and what the flags say.
    pub fn into_parts(self) -> (Option<PathBuf>, Settings) {
        let (file, settings) = self.experiment.into_parts();
        (file, Settings { slo: self.slo, ..settings })
    }
}

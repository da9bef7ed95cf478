//! Options of `capacity`.

use std::path::PathBuf;

use clap::Args;

use super::run::ExperimentOptions;
use super::subset::refused;
use crate::experiment::scenario::Settings;

/// Why a search has no number of slices, and no length.
const STEPS: &str = "a search takes as many steps as it needs; set --rounds instead";

/// `otelbench capacity`.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    disable_help_flag = true,
    mut_arg("slices", refused(STEPS)),
    mut_arg("budget", refused(STEPS)),
    mut_arg("rps", |arg| arg.help("Requests per second at which the first search starts [default: 10000]")),
    mut_arg("rounds", |arg| arg.help("Rounds, each with fresh launches of every arm and a search of its own [default: 5]")),
    mut_arg("slice", |arg| arg.help("Length of a step of the search [default: 1s, or what shows an overload of 2 %]")),
    mut_arg("arrivals", |arg| arg.help("Arrival process: constant or poisson [default: constant]")),
    mut_arg("timeout", |arg| {
        arg.help("Longest time from writing a request to the end of its answer [default: 1s, or twice the SLO]")
    })
)]
pub struct CapacityOptions {
    #[command(flatten)]
    experiment: ExperimentOptions,
}

impl CapacityOptions {
    /// The scenario file, and what the options say.
    pub fn into_parts(self) -> (Option<PathBuf>, Settings) {
        self.experiment.into_parts()
    }
}

const EXAMPLES: &str = "\
Examples:
  otelbench capacity --slo p99=10ms
  otelbench capacity --slo p50=1ms,p99=10ms --mode full --rounds 10
  otelbench capacity scenarios/article.toml --slo p99=100ms --rps 5000

A step that is longer shows a smaller overload; `--slo p99=10ms` takes 1s. An answer is within 3 % of a rate that fails.";

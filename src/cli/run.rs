//! Options of `run`, and those that `capacity` shares with it.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::subset::refused;
use crate::experiment::scenario::{Settings, Until, half_width};

/// Options of `run` and `capacity` alike.
#[derive(Debug, Args)]
pub(super) struct ExperimentOptions {
    /// Scenario file; each of its keys is an option below, and an option wins over the file
    #[arg(value_name = "SCENARIO.toml")]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Stop before the last round once every interval reaches no further than this to either side, such as 1%
    #[arg(long, value_name = "PCT%", value_parser = until_half_width, conflicts_with = "until", help_heading = "Rounds and stopping")]
    until_halfwidth: Option<Until>,
    /// Print help
    #[arg(short, long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,
}

fn until_half_width(text: &str) -> Result<Until, String> {
    half_width(text).map(Until::HalfWidth)
}

impl ExperimentOptions {
    /// The scenario file, and what the options say.
    pub(super) fn into_parts(self) -> (Option<PathBuf>, Settings) {
        let until = self.settings.until.or(self.until_halfwidth);
        (self.scenario, Settings { until, ..self.settings })
    }
}

/// `otelbench run`.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    // Its own stands with the other options of its heading.
    disable_help_flag = true,
    mut_arg("slo", refused("a run plays the rate it is given; `otelbench capacity` searches for the highest within an SLO"))
)]
pub struct RunOptions {
    #[command(flatten)]
    experiment: ExperimentOptions,
    /// Continue the run of this records file or partial result, by its own plan
    #[arg(long, value_name = "FILE", help_heading = "Rounds and stopping")]
    resume: Option<PathBuf>,
}

impl RunOptions {
    /// The scenario file, and what the options say.
    pub fn into_parts(self) -> (Option<PathBuf>, Settings) {
        self.experiment.into_parts()
    }

    /// The run to continue, if that is asked for.
    pub fn resume(&self) -> Option<PathBuf> {
        self.resume.clone()
    }
}

const EXAMPLES: &str = "\
Examples:
  otelbench run --rps 10000 --mode full
  otelbench run --mode full --isolation process --arrivals poisson
  otelbench run --mode full --arrivals bursts:x4,every=1s,lasts=100ms
  otelbench run --mode full --users 100000 --user-ids zipf:1.1 --error-share 0.01
  otelbench run --mode full --payment http       one trace over two services
  otelbench run --mode full --transport direct   what the telemetry calls cost without a kernel
  otelbench run --baseline full --mode full --fault down@300ms..700ms --fault hang
  otelbench run --mode full --against ../main/otelbench   is this build dearer than that one?
  otelbench run --mode full --budget 5m          as narrow an interval as five minutes give
  otelbench run --mode full --until resolved     as few rounds as tell it apart
  otelbench run --resume results/full.jsonl      go on where a run was cut short
  otelbench run --mode none --rounds 20          an A/A run: what does no difference look like here?
  otelbench run --mode full --endpoint http://localhost:4317 --format json > full.json

A scenario file holds the same options as keys:
  rps = 2000
  mode = [\"metrics\", \"full\"]
  payment_delay = \"50ms\"
and, in a file alone, a mix of requests by weight:
  [[mix]]
  endpoint = \"order\"
  weight = 9
  items = 3
  [[mix]]
  endpoint = \"healthz\"";

//! Options of `claims`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{formats, named};
use crate::commands::claims::FailOn;
use crate::experiment::scenario::{Format, Settings};
use crate::experiment::units::{Rate, parse_duration, parse_positive_duration};
use crate::verdict::claims::catalogue;

/// `otelbench claims`.
#[derive(Debug, Args)]
#[command(after_help = claims_help())]
pub struct ClaimsArgs {
    /// A scenario file; the claims in its [[claims]] tables take the place of the published ones
    #[arg(value_name = "SCENARIO.toml")]
    scenario: Option<PathBuf>,
    /// The claims to test, separated by commas [default: all]
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Fail where a claim is refuted (exit code 1); with inconclusive also where one is that (exit code 3)
    #[arg(long, value_name = "VERDICT", value_parser = named::<FailOn>(&["refuted", "inconclusive"]))]
    fail_on: Option<FailOn>,
    /// Requests per second [default: 10000]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rps: Option<Rate>,
    /// Fresh launches of every arm [default: 12; 8 with claims of the scenario's own]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// Slices of load per lane and round [default: 1; 2 with claims of the scenario's own]
    #[arg(long, value_name = "N")]
    slices: Option<NonZeroU32>,
    /// Length of a slice [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    slice: Option<Duration>,
    /// Load on every fresh lane before its first slice [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warmup: Option<Duration>,
    /// Seed of the order of play [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the result goes [default: results/TIME-SCENARIO.json]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// What to print [default: table]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    format: Option<Format>,
    /// No progress and no warnings on stderr
    #[arg(long)]
    quiet: bool,
}

fn claims_help() -> String {
    let claims = catalogue::all();
    let width = claims.iter().map(|claim| claim.id.len()).max().unwrap_or(0);
    let lines: Vec<String> = claims.iter().map(|claim| format!("  {:width$}  {}", claim.id, claim.statement)).collect();
    format!("Claims:\n{}\n\n{CLAIMS_EXAMPLES}", lines.join("\n"))
}

const CLAIMS_EXAMPLES: &str = "\
Examples:
  otelbench claims                               all of them, in some ten minutes
  otelbench claims --only metric-record,bridge-cpu --rounds 20
  otelbench claims budget.toml --fail-on refuted

A scenario file makes claims of its own, and then measures what they take:
  [[claims]]
  id = \"budget\"
  statement = \"full costs less than 20 µs per request\"
  metric = \"cpu_us_per_request\"
  arm = \"full\"
  limit = 20
  unit = \"us\"
The unit is us, bytes or allocations as the metric has it, \"%\" of the baseline, \"% of a core\" or \"% of the machine\"";

impl ClaimsArgs {
    /// The scenario file, what the flags say, the claims that are asked for, and what should fail.
    pub fn into_parts(self) -> (Option<PathBuf>, Settings, Vec<String>, Option<FailOn>) {
        let settings = Settings {
            rps: self.rps,
            rounds: self.rounds,
            slices: self.slices,
            slice: self.slice,
            warmup: self.warmup,
            seed: self.seed,
            out: self.out,
            format: self.format,
            quiet: self.quiet.then_some(true),
            ..Settings::default()
        };
        (self.scenario, settings, self.only, self.fail_on)
    }
}

//! Options of `claims`.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::named;
use super::subset::only;
use crate::experiment::claims::catalogue;
use crate::experiment::scenario::Settings;

/// The options it takes.
const TAKEN: &[&str] =
    &["scenario", "only", "fail_on", "rps", "rounds", "slices", "slice", "warmup", "seed", "out", "format", "quiet"];

/// The verdicts that make the command fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailOn {
    /// A claim that is refuted.
    Refuted,
    /// One that is refuted or inconclusive.
    Inconclusive,
}

/// `otelbench claims`.
#[derive(Debug, Args)]
#[command(
    after_help = help(),
    mut_args(only(TAKEN, "the published claims settle it; for claims of your own write it into their scenario file")),
    mut_arg("rps", |arg| arg.help("Requests per second [default: 10000]")),
    mut_arg("rounds", |arg| {
        arg.help("Rounds, each with fresh launches of every arm [default: 12; 8 with claims of the scenario's own]")
    }),
    mut_arg("slices", |arg| {
        arg.help("Slices of load per arm and round [default: 1; 2 with claims of the scenario's own]")
    })
)]
pub struct ClaimsOptions {
    /// Scenario file; the claims in its `[[claims]]` tables take the place of the published ones
    #[arg(value_name = "SCENARIO.toml")]
    pub scenario: Option<PathBuf>,
    /// Claims to test, separated by commas [default: all]
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Fail where a claim is refuted (exit code 1); with inconclusive also where one is that (exit code 3)
    #[arg(long, value_name = "VERDICT", value_parser = named::<FailOn>(&["refuted", "inconclusive"]))]
    pub fail_on: Option<FailOn>,
    /// What the other options say.
    #[command(flatten)]
    pub settings: Settings,
}

fn help() -> String {
    let claims = catalogue::all();
    let width = claims.iter().map(|claim| claim.id.len()).max().unwrap_or(0);
    let lines: Vec<String> = claims.iter().map(|claim| format!("  {:width$}  {}", claim.id, claim.statement)).collect();
    format!("Claims:\n{}\n\n{EXAMPLES}", lines.join("\n"))
}

const EXAMPLES: &str = "\
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

//! Options of `selftest`.

use clap::Args;

use super::subset::only;
use crate::experiment::scenario::Settings;

/// The options it takes.
const TAKEN: &[&str] = &["aa", "rps", "rounds", "slices", "slice", "warmup", "seed", "out", "format", "quiet"];

/// `otelbench selftest`.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    mut_args(only(TAKEN, "the self-test plays scenarios of its own")),
    mut_arg("rps", |arg| {
        arg.help(
            "Requests per second where costs are compared; delays, stalls and the ledger are checked at 500 [default: 10000]",
        )
    }),
    mut_arg("rounds", |arg| {
        arg.help(
            "Rounds where costs are compared, each with fresh launches of every arm [default: 12, and 8 in a short run]",
        )
    }),
    mut_arg("slices", |arg| arg.help("Slices of load per arm and round [default: 1]")),
    mut_arg("slice", |arg| arg.help("Length of a slice [default: 500ms, and 100ms in a short run]")),
    mut_arg("warmup", |arg| {
        arg.help("Length of the warm-up load on every fresh lane [default: 200ms, and 100ms in a short run]")
    }),
    mut_arg("out", |arg| {
        arg.help(
            "File for the result; records go beside it, those of short runs to PATH's stem with .aa \
             [default: results/TIME-selftest.json]",
        )
    })
)]
pub struct SelftestOptions {
    /// Play N short runs more of the baseline, its placebo and injected costs of 1, 2, 3, 5 and 10 %, each analysed by
    /// itself: how often is a difference called that is none, and how often is one found that is?
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    pub aa: u32,
    /// Options shared with `run`.
    #[command(flatten)]
    pub settings: Settings,
}

const EXAMPLES: &str = "\
Examples:
  otelbench selftest                             a minute and a half
  otelbench selftest --aa 100 --out aa.json      and half an hour of short runs: false alarms and power
  otelbench report aa.json --format markdown

It ends with exit code 4 where a check fails: measurements on this machine are then not to be trusted. A/A, injected cost and \
detection rest on statistics, and chance alone fails each of them in 1 of 20 self-tests at most: run it twice before you blame \
the machine.";

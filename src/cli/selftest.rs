//! Options of `selftest`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::formats;
use crate::commands::selftest::Asked;
use crate::experiment::scenario::Format;
use crate::experiment::units::{Rate, parse_duration, parse_positive_duration};

/// `otelbench selftest`.
#[derive(Debug, Args)]
#[command(after_help = SELFTEST_EXAMPLES)]
pub struct SelftestArgs {
    /// Play N short runs more of the baseline, its placebo and injected costs of 1, 2, 3, 5 and 10 %, each analysed by
    /// itself: how often is a difference called that is none, and how often is one found that is?
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    aa: u32,
    /// Requests per second where costs are compared; delays, stalls and the ledger are checked at 500
    #[arg(long, value_name = "N", default_value = "10000", allow_negative_numbers = true)]
    rps: Rate,
    /// Fresh launches of every arm where costs are compared [default: 12, and 8 in a short run]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// Slices of load per lane and round
    #[arg(long, value_name = "N", default_value = "1")]
    slices: NonZeroU32,
    /// Length of a slice [default: 500ms, and 100ms in a short run]
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    slice: Option<Duration>,
    /// Load on every fresh lane before its first slice [default: 200ms, and 100ms in a short run]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warmup: Option<Duration>,
    /// Seed of the order of play [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the result goes; records go beside it, those of short runs to PATH's stem with .aa [default: results/TIME-selftest.json]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    format: Format,
    /// No progress on stderr
    #[arg(long)]
    quiet: bool,
}

const SELFTEST_EXAMPLES: &str = "\
Examples:
  otelbench selftest                             a minute and a half
  otelbench selftest --aa 100 --out aa.json      and half an hour of short runs: false alarms and power
  otelbench report aa.json --format markdown

It ends with exit code 4 where a check fails: what is measured on this machine is then not to be trusted. A/A, injected cost and
detection rest on statistics, and chance alone fails each of them in 1 of 20 self-tests at most: run it twice before you blame
the machine.";

impl SelftestArgs {
    /// What the flags ask for.
    pub fn into_asked(self) -> Asked {
        let Self { aa, rps, rounds, slices, slice, warmup, seed, out, format, quiet } = self;
        Asked { aa, rps, rounds, slices, slice, warmup, seed, out, format, quiet }
    }
}

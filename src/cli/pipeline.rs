//! Options of `pipeline`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::formats;
use crate::commands::pipeline::Question;
use crate::experiment::mode::{self, Mode};
use crate::experiment::scenario::{Endpoint, Format};
use crate::experiment::units::{Rate, parse_positive_duration};

/// `otelbench pipeline`.
#[derive(Debug, Args)]
#[command(after_help = PIPELINE_EXAMPLES)]
pub struct PipelineArgs {
    /// The telemetry mode, one that sends every span
    #[arg(long, default_value = "full", value_parser = mode::named)]
    mode: Mode,
    /// Spans that the queue holds [default: as the mode has it, or `OTEL_BSP_MAX_QUEUE_SIZE`]
    #[arg(long, value_name = "N")]
    queue: Option<NonZeroUsize>,
    /// Spans in one export at most [default: as the mode has it, or `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`]
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// Longest time that a span waits for its batch [default: as the mode has it, or `OTEL_BSP_SCHEDULE_DELAY`]
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    delay: Option<Duration>,
    /// Recommend settings for so many spans per second, and try them
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    spans_per_second: Option<Rate>,
    /// Stall of the collector that the recommended queue should take
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_positive_duration)]
    stall: Duration,
    /// Length of a step at one rate; a longer one is lent less by the queue
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_positive_duration)]
    step: Duration,
    /// Searches for the highest rate
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroU32,
    /// Seed of where the searches start [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// An OTLP/gRPC collector instead of the embedded sink; what it receives is then taken on trust
    #[arg(long, value_name = "URL")]
    endpoint: Option<Endpoint>,
    /// Where the result goes [default: results/TIME-pipeline.json]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    format: Format,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

const PIPELINE_EXAMPLES: &str = "\
Examples:
  otelbench pipeline --mode full --queue 2048 --batch 512
  otelbench pipeline --mode tuned --spans-per-second 50000 --stall 2s
  otelbench pipeline --endpoint http://collector:4317 --step 5s";

impl PipelineArgs {
    /// What the flags ask for.
    pub fn into_question(self) -> Question {
        Question {
            mode: self.mode,
            queue: self.queue.map(NonZeroUsize::get),
            batch: self.batch.map(NonZeroUsize::get),
            delay: self.delay,
            target: self.spans_per_second,
            stall: self.stall,
            step: self.step,
            rounds: self.rounds.get(),
            seed: self.seed,
            endpoint: self.endpoint.map(|endpoint| endpoint.as_str().to_owned()),
            out: self.out,
            format: self.format,
            quiet: self.quiet,
        }
    }
}

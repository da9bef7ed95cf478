//! Options of `pipeline`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::formats;
use crate::experiment::mode::{self, Mode};
use crate::experiment::scenario::{Endpoint, Format};
use crate::experiment::units::{Rate, parse_positive_duration};

/// `otelbench pipeline`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PipelineOptions {
    /// Telemetry mode, one that sends every span
    #[arg(long, default_value = "full", value_parser = mode::named)]
    pub mode: Mode,
    /// Capacity of the queue, in spans [default: as the mode has it, or `OTEL_BSP_MAX_QUEUE_SIZE`]
    #[arg(long, value_name = "N")]
    pub queue: Option<NonZeroUsize>,
    /// Most spans in one export [default: as the mode has it, or `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`]
    #[arg(long, value_name = "N")]
    pub batch: Option<NonZeroUsize>,
    /// Longest time that a span waits for its batch [default: as the mode has it, or `OTEL_BSP_SCHEDULE_DELAY`]
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    pub delay: Option<Duration>,
    /// Recommend settings for so many spans per second, and try them
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub spans_per_second: Option<Rate>,
    /// Longest stall of the collector that the recommended queue should survive
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_positive_duration)]
    pub stall: Duration,
    /// Length of a step at one rate; a longer one is lent less by the queue
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_positive_duration)]
    pub step: Duration,
    /// Number of searches for the highest rate
    #[arg(long, value_name = "N", default_value = "5")]
    pub rounds: NonZeroU32,
    /// Seed of the rates at which searches start [default: from the clock]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// OTLP/gRPC collector to use instead of the embedded sink; what it receives is then taken on trust
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<Endpoint>,
    /// File for the result [default: results/TIME-pipeline.json]
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// Format of the report on stdout
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
    /// No progress
    #[arg(long)]
    pub quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  otelbench pipeline --mode full --queue 2048 --batch 512
  otelbench pipeline --mode tuned --spans-per-second 50000 --stall 2s
  otelbench pipeline --endpoint http://collector:4317 --step 5s";

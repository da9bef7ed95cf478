//! The command line: a file of options for each subcommand. The commands read them; what `run`, `capacity`, `claims` and
//! `selftest` share is [`Settings`](crate::experiment::scenario::Settings), where each option is written once.

mod capacity;
mod claims;
mod compare;
mod load;
mod modes;
mod pipeline;
mod probe;
mod report;
mod run;
mod selftest;
mod serve;
mod sink;
mod subset;
mod trend;

use clap::builder::TypedValueParser;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::experiment::scenario::{Format, named};
use crate::studies::isolated::{self, Estimator};
use crate::studies::probe::{self as probes, Probe, Which};

pub use self::capacity::CapacityOptions;
pub use self::claims::{ClaimsOptions, FailOn};
pub use self::compare::CompareOptions;
pub use self::load::{LoadOptions, Pace};
pub use self::modes::ModesOptions;
pub use self::pipeline::PipelineOptions;
pub use self::probe::ProbeOptions;
pub use self::report::ReportOptions;
pub use self::run::RunOptions;
pub use self::selftest::SelftestOptions;
pub use self::serve::ServeOptions;
pub use self::sink::SinkOptions;
pub use self::trend::TrendOptions;

/// Measures what telemetry costs a Rust service, with an interval on every number and proof that the telemetry arrived.
#[derive(Debug, Parser)]
#[command(name = "otelbench", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  otelbench run --rps 10000 --mode full          what the full stack costs at 10 000 RPS
  otelbench run --mode metrics,full --rounds 12  two modes against none, in more rounds
  otelbench run scenarios/article.toml           a scenario from a file; flags win over it
  otelbench capacity --slo p99=10ms --mode full  the highest rate with the full stack, and without
  otelbench claims --only metric-record          what was claimed, measured here, and a verdict
  otelbench pipeline --spans-per-second 20000    batch settings that lose nothing at 20 000 spans/s
  otelbench compare main.json branch.json --max-regression cpu_us_per_request:full=5%
  otelbench trend nightly/*.json                 where did a cost change?
  otelbench report results/run.json --format markdown
  otelbench serve --mode full --endpoint http://localhost:4317
  otelbench selftest                             proof that this machine's numbers can be trusted
  otelbench probe                                the pitfalls of the telemetry crates, shown at work

Exit codes: 0 done, 1 a gate failed, 2 usage or input, 3 inconclusive, 4 the measurement is invalid,
130 and 143 interrupted (what was measured is saved).";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure the overhead of telemetry modes
    Run(Box<RunOptions>),
    /// Find the highest rate that each mode sustains within an SLO
    Capacity(Box<CapacityOptions>),
    /// Put published claims about the cost of telemetry to the test, a verdict each
    Claims(Box<ClaimsOptions>),
    /// Find the highest rate of spans that batch settings take without loss, and settings for a rate
    Pipeline(Box<PipelineOptions>),
    /// Compare two stored results, and fail where the second is worse than a gate allows
    Compare(CompareOptions),
    /// Follow a metric through a series of stored results, and show where it changed
    Trend(TrendOptions),
    /// Render a stored result again
    Report(ReportOptions),
    /// Put load on any HTTP target with the generator alone
    Load(Box<LoadOptions>),
    /// Run the order service alone, in one mode
    Serve(Box<ServeOptions>),
    /// Run the OTLP receiver alone
    Sink(SinkOptions),
    /// List the telemetry modes and what each consists of
    Modes(ModesOptions),
    /// Prove on this machine that the numbers can be trusted
    Selftest(Box<SelftestOptions>),
    /// Show the pitfalls of the telemetry crates at work, and what to do about each
    Probe(ProbeOptions),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Run one arm for the parent process, commanded on stdin
    #[command(name = crate::lab::lane::protocol::SUBCOMMAND, hide = true)]
    Lane,
    /// Carry out one attempt of a probe for the parent process
    #[command(name = probes::SUBCOMMAND, hide = true)]
    ProbeAttempt {
        /// The probe
        #[arg(value_parser = probes::named)]
        probe: Probe,
        /// Which attempt
        #[arg(value_parser = named::<Which>(&["defect", "fix"]))]
        which: Which,
    },
    /// Try one environment variable for the parent process
    #[command(name = probes::ENVIRONMENT_SUBCOMMAND, hide = true)]
    ProbeEnvironment {
        /// The variable
        variable: String,
        /// A collector
        endpoint: String,
    },
    /// Measure telemetry calls in isolation for the parent process
    #[command(name = isolated::SUBCOMMAND, hide = true)]
    IsolatedLaunch {
        /// The estimator
        #[arg(value_parser = isolated::named)]
        estimator: Estimator,
        /// A collector
        endpoint: String,
    },
    /// Make spans for the parent process, as told on stdin
    #[command(name = crate::studies::pipeline::emitter::SUBCOMMAND, hide = true)]
    Emit,
}

/// Writes the completion script for `shell`.
pub fn completions(shell: Shell, out: &mut impl std::io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "otelbench", out);
}

fn formats() -> impl TypedValueParser<Value = Format> {
    named::<Format>(&["table", "json", "markdown"])
}

#[cfg(test)]
mod tests;

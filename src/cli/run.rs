//! Options of `run`, and what `capacity` shares with it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{formats, named};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::gate::Gate;
use crate::experiment::generator::Pacing;
use crate::experiment::payload::{Share, UserIds};
use crate::experiment::placement::{IdleCores, Pinning};
use crate::experiment::scenario::{
    Endpoint, Faults, Format, Isolation, ModeName, ModeNames, OneOrMany, Payment, Settings, Transport, Until,
    half_width,
};
use crate::experiment::units::{Rate, parse_duration, parse_positive_duration};

/// What `run` and `capacity` share.
#[derive(Debug, Args)]
pub(super) struct ExperimentArgs {
    /// A scenario file; each of its keys is an option below
    #[arg(value_name = "SCENARIO.toml")]
    scenario: Option<PathBuf>,
    /// Requests per second; ramp and steps bring their own [default: 10000]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rps: Option<Rate>,
    /// Modes to measure, separated by commas [default: metrics,full]
    #[arg(long, value_name = "MODE,…", value_delimiter = ',')]
    mode: Option<Vec<ModeName>>,
    /// The mode they are compared with [default: none]
    #[arg(long, value_name = "MODE")]
    baseline: Option<ModeName>,
    /// Leave out the second baseline arm, which shows the noise floor
    #[arg(long)]
    no_placebo: bool,
    /// Fresh launches of every arm [default: 8]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// Length of a slice [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    slice: Option<Duration>,
    /// Load on every fresh lane before its first slice [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warmup: Option<Duration>,
    /// Seed of the order of play and of random arrivals [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Arrival process: constant, poisson, ramp:FROM..TO, steps:RATE,RATE,…, bursts:xFACTOR,every=TIME,lasts=TIME or
    /// sine:depth=DEPTH,period=TIME [default: constant]
    #[arg(long, value_name = "PROCESS")]
    arrivals: Option<Arrivals>,
    /// Distinct users that order [default: 1000]
    #[arg(long, value_name = "N")]
    users: Option<NonZeroU32>,
    /// Whose each order is: in-turn, uniform or zipf:EXPONENT [default: in-turn]
    #[arg(long, value_name = "HOW")]
    user_ids: Option<UserIds>,
    /// Share of the orders that the service must refuse after all the work, such as 0.01 [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    error_share: Option<Share>,
    /// Orders carry a card number and an e-mail address
    #[arg(long)]
    personal: bool,
    /// How the generator waits for the next arrival; coarse clumps to 1 ms [default: auto]
    #[arg(long, value_name = "HOW", value_parser = named::<Pacing>(&["auto", "timer", "spin", "coarse"]))]
    pacing: Option<Pacing>,
    /// Whether generator and service are kept on cores of their own [default: auto]
    #[arg(long, value_name = "HOW", value_parser = named::<Pinning>(&["auto", "none", "apart"]))]
    pinning: Option<Pinning>,
    /// What cores do that have no work: sleep, or be kept awake by threads of the lowest class [default: auto]
    #[arg(long, value_name = "WHAT", value_parser = named::<IdleCores>(&["auto", "sleep", "awake"]))]
    idle_cores: Option<IdleCores>,
    /// What carries the requests: tcp, or direct calls on one thread, without sockets [default: tcp]
    #[arg(long, value_name = "HOW", value_parser = named::<Transport>(&["tcp", "direct"]))]
    transport: Option<Transport>,
    /// Where the generator runs: in the lane, or in the parent process [default: in-process]
    #[arg(long, value_name = "WHERE", value_parser = named::<Isolation>(&["in-process", "process"]))]
    isolation: Option<Isolation>,
    /// Keep-alive connections [default: 16]
    #[arg(long, value_name = "N")]
    connections: Option<NonZeroUsize>,
    /// Threads of the generator, which share the connections [default: one per 50000 requests per second, on at most half the cores]
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroUsize>,
    /// Time a request may take from when it was written [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    timeout: Option<Duration>,
    /// Where the payment is made: inside, or by a second service over http [default: inside]
    #[arg(long, value_name = "WHERE", value_parser = named::<Payment>(&["inside", "http"]))]
    payment: Option<Payment>,
    /// What the payment takes [default: 0ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    payment_delay: Option<Duration>,
    /// Worker threads of the service's runtime [default: half the cores]
    #[arg(long, value_name = "N")]
    service_threads: Option<NonZeroUsize>,
    /// An OTLP/gRPC collector instead of the embedded sink
    #[arg(long, value_name = "URL")]
    endpoint: Option<Endpoint>,
    /// Measure each treatment that sends once more with the embedded sink failing so, in time from the first slice: down,
    /// slow:TIME, hang, reject:unavailable, partial:N%, reset[:N%] or limit:SIZE, with @FROM[..UNTIL]; can be repeated
    #[arg(long, value_name = "FAULT[@FROM..UNTIL]")]
    fault: Vec<Faults>,
    /// Compare each mode with itself in another build of this program, launched from PATH
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// How much worse than its reference this may be, such as `cpu_us_per_request:full=5%`; stored with the result, for
    /// `otelbench compare`; can be repeated
    #[arg(long, value_name = "METRIC[:ARM]=PCT%")]
    max_regression: Vec<Gate>,
    /// Stop before the last round: resolved, once every treatment is told apart from its baseline, in few looks at stricter
    /// levels, so that the chance of a false alarm stays what it is; or halfwidth:PCT%. Rounds are then 30 at most
    #[arg(long, value_name = "WHEN")]
    until: Option<Until>,
    /// Stop before the last round once every interval reaches no further than this to either side, such as 1%
    #[arg(long, value_name = "PCT%", value_parser = until_half_width, conflicts_with = "until")]
    until_halfwidth: Option<Until>,
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

/// `otelbench run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Slices of load per lane and round [default: 2]
    #[arg(long, value_name = "N")]
    slices: Option<NonZeroU32>,
    /// Pick rounds and slices so that a run of this length gives the narrowest intervals, from the noise of a short one
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    budget: Option<Duration>,
    /// Continue the run whose records or partial result these are, by the same plan
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

fn until_half_width(text: &str) -> Result<Until, String> {
    half_width(text).map(Until::HalfWidth)
}

const RUN_EXAMPLES: &str = "\
Examples:
  otelbench run --rps 10000 --mode full
  otelbench run --mode full --isolation process --arrivals poisson
  otelbench run --mode full --arrivals bursts:x4,every=1s,lasts=100ms
  otelbench run --mode full --users 100000 --user-ids zipf:1.1 --error-share 0.01
  otelbench run --mode full --payment http       one trace over two services
  otelbench run --mode full --transport direct   what the telemetry calls cost by themselves, without a kernel
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

impl ExperimentArgs {
    /// The scenario file, and what the flags say.
    pub(super) fn into_parts(self) -> (Option<PathBuf>, Settings) {
        let settings = Settings {
            name: None,
            rps: self.rps,
            mode: self.mode.map(ModeNames),
            modes: None,
            baseline: self.baseline,
            no_placebo: self.no_placebo.then_some(true),
            rounds: self.rounds,
            slices: None,
            until: self.until.or(self.until_halfwidth),
            budget: None,
            slice: self.slice,
            warmup: self.warmup,
            seed: self.seed,
            arrivals: self.arrivals,
            users: self.users,
            user_ids: self.user_ids,
            error_share: self.error_share,
            personal: self.personal.then_some(true),
            // Tables are for a file.
            mix: None,
            pacing: self.pacing,
            pinning: self.pinning,
            idle_cores: self.idle_cores,
            transport: self.transport,
            isolation: self.isolation,
            connections: self.connections,
            shards: self.shards,
            slo: None,
            claims: None,
            timeout: self.timeout,
            payment: self.payment,
            payment_delay: self.payment_delay,
            service_threads: self.service_threads,
            endpoint: self.endpoint,
            fault: (!self.fault.is_empty()).then_some(OneOrMany(self.fault)),
            against: self.against,
            max_regression: (!self.max_regression.is_empty()).then_some(OneOrMany(self.max_regression)),
            out: self.out,
            format: self.format,
            quiet: self.quiet.then_some(true),
        };
        (self.scenario, settings)
    }
}

impl RunArgs {
    /// The scenario file, and what the flags say.
    pub fn into_parts(self) -> (Option<PathBuf>, Settings) {
        let (file, settings) = self.experiment.into_parts();
        (file, Settings { slices: self.slices, budget: self.budget, ..settings })
    }

    /// The run to continue, if that is asked for.
    pub fn resume(&self) -> Option<PathBuf> {
        self.resume.clone()
    }
}

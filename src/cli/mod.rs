//! The command line: clap structs, turned into domain values. clap stops here.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::de::DeserializeOwned;

use crate::commands::Failure;
use crate::commands::claims::FailOn;
use crate::commands::compare::Question as Comparison;
use crate::commands::load::{Assignment, Pace};
use crate::commands::pipeline::Question;
use crate::commands::selftest::Asked;
use crate::experiment::arrivals::Arrivals;
use crate::experiment::fault::Fault;
use crate::experiment::metric::Metric;
use crate::experiment::mode::{self, Mode};
use crate::experiment::payload::{Share, UserIds};
use crate::experiment::placement::{IdleCores, Pinning};
use crate::experiment::scenario::{
    Endpoint, Faults, Format, Isolation, ModeName, ModeNames, OneOrMany, Payment, Settings, Transport, Until,
    half_width, parse_positive_duration,
};
use crate::experiment::slo::Slo;
use crate::experiment::units::{Rate, RateError, parse_duration};
use crate::generator::Pacing;
use crate::studies::isolated::{self, Estimator};
use crate::studies::probe::{self, Probe};
use crate::verdict::claims::catalogue;
use crate::verdict::compare::Options;
use crate::verdict::gate::Gate;

/// What telemetry costs a Rust service, with an interval on every number and proof that the telemetry arrived.
#[derive(Debug, Parser)]
#[command(name = "otelbench", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
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
    Run(Box<RunArgs>),
    /// Find the highest rate that each mode sustains within an SLO
    Capacity(Box<CapacityArgs>),
    /// Put published claims about the cost of telemetry to the test, a verdict each
    Claims(Box<ClaimsArgs>),
    /// Find the highest rate of spans that batch settings take without loss, and settings for a rate
    Pipeline(Box<PipelineArgs>),
    /// Compare two stored results, and fail where the second is worse than a gate allows
    Compare(CompareArgs),
    /// Follow a metric through a series of stored results, and show where it changed
    Trend(TrendArgs),
    /// Render a stored result again
    Report(ReportArgs),
    /// Put load on any HTTP target with the generator alone
    Load(Box<LoadArgs>),
    /// Run the order service alone, in one mode
    Serve(Box<ServeArgs>),
    /// Run the OTLP receiver alone
    Sink(SinkArgs),
    /// List the telemetry modes and what each consists of
    Modes(ModesArgs),
    /// Prove on this machine that the numbers can be trusted
    Selftest(SelftestArgs),
    /// Show the pitfalls of the telemetry crates at work, and what to do about each
    Probe(ProbeArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Run one arm for the parent process, commanded on stdin
    #[command(name = crate::lab::lane::protocol::SUBCOMMAND, hide = true)]
    Lane,
    /// Carry out one attempt of a probe for the parent process
    #[command(name = probe::SUBCOMMAND, hide = true)]
    ProbeAttempt {
        /// The probe
        #[arg(value_parser = probe::named)]
        probe: Probe,
        /// Which attempt
        #[arg(value_parser = named::<probe::Which>(&["defect", "fix"]))]
        which: probe::Which,
    },
    /// Try one environment variable for the parent process
    #[command(name = probe::ENVIRONMENT_SUBCOMMAND, hide = true)]
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

/// What `run` and `capacity` share.
#[derive(Debug, Args)]
struct ExperimentArgs {
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
    fn into_parts(self) -> (Option<PathBuf>, Settings) {
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

/// `otelbench capacity`.
#[derive(Debug, Args)]
#[command(
    after_help = CAPACITY_EXAMPLES,
    mut_arg("rps", |arg| arg.help("Where the first search starts, in requests per second [default: 10000]")),
    mut_arg("rounds", |arg| arg.help("Fresh launches of every arm, each with a search of its own [default: 5]")),
    mut_arg("slice", |arg| arg.help("Length of a step of the search [default: 1s, or what shows an overload of 2 %]")),
    mut_arg("arrivals", |arg| arg.help("Arrival process: constant or poisson [default: constant]")),
    mut_arg("timeout", |arg| arg.help("Time a request may take from when it was written [default: 1s, or twice the SLO]"))
)]
pub struct CapacityArgs {
    /// What must hold, such as p99=10ms or p50=1ms,p99=10ms: limits on p50, p90, p99, p99.9 and max of the response time.
    /// Besides, no request may be lost
    #[arg(long, value_name = "SLO")]
    slo: Option<Slo>,
    #[command(flatten)]
    experiment: ExperimentArgs,
}

const CAPACITY_EXAMPLES: &str = "\
Examples:
  otelbench capacity --slo p99=10ms
  otelbench capacity --slo p50=1ms,p99=10ms --mode full --rounds 10
  otelbench capacity scenarios/article.toml --slo p99=100ms --rps 5000

A step that is longer shows a smaller overload; `--slo p99=10ms` takes 1s. An answer is within 3 % of a rate that fails.";

impl CapacityArgs {
    /// The scenario file, and what the flags say.
    pub fn into_parts(self) -> (Option<PathBuf>, Settings) {
        let (file, settings) = self.experiment.into_parts();
        (file, Settings { slo: self.slo, ..settings })
    }
}

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

/// `otelbench compare`.
#[derive(Debug, Args)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// The result to compare with
    base: PathBuf,
    /// The result in question
    #[arg(value_name = "CAND")]
    candidate: PathBuf,
    /// How much worse the candidate may be, such as `cpu_us_per_request:full=5%`, or without an arm for every treatment; can
    /// be repeated [default: those of CAND's scenario]
    #[arg(long, value_name = "METRIC[:ARM]=PCT%")]
    max_regression: Vec<Gate>,
    /// Compare microseconds, response times, rates and memory too: both ran on one machine in one state
    #[arg(long)]
    same_machine: bool,
    /// Stored results of the same code, scenario and machine, which tell how much runs differ; three or more
    #[arg(long, value_name = "FILE", num_args = 1..)]
    history: Vec<PathBuf>,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    format: Format,
}

const COMPARE_HELP: &str = "\
What is compared is the ratio of an arm to the baseline of its own run, because microseconds differ \
from day to day by more than most changes of code. So cpu_us_per_request:full=5% fails where \
full/none of CAND is more than 5 % above full/none of BASE beyond chance, and what happens to full \
and none alike goes unseen; allocations_per_request is compared as it is, and sees that. A gate holds \
where the 95 % bound is within its limit, and is undecided in between. Results of different machines, \
scenarios or methods are refused.

Examples:
  otelbench compare main.json branch.json
  otelbench compare main.json branch.json --max-regression cpu_us_per_request:full=5%
  otelbench compare main.json branch.json --max-regression allocations_per_request=0%
  otelbench compare main.json branch.json --format markdown --history nightly/*.json

Exit codes: 0 every gate holds, 1 a gate fails, 2 a file or flag is wrong, 3 a gate is undecided, \
4 the results do not compare, or a gate has nothing to judge.";

impl CompareArgs {
    /// What the flags ask for.
    pub fn into_question(self) -> Comparison {
        Comparison {
            base: self.base,
            candidate: self.candidate,
            history: self.history,
            options: Options { same_machine: self.same_machine, gates: self.max_regression },
            format: self.format,
        }
    }
}

/// `otelbench trend`.
#[derive(Debug, Args)]
#[command(after_help = TREND_HELP)]
pub struct TrendArgs {
    /// Stored results, in any order; what else is among them is left out
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What to follow
    #[arg(long, value_name = "METRIC", default_value = "cpu_us_per_request")]
    pub metric: Metric,
    /// Follow microseconds, response times, rates and memory too: all ran on one machine in one state
    #[arg(long)]
    pub same_machine: bool,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
}

const TREND_HELP: &str = "\
Results are put in order of time; those of another machine, scenario or method make a series of their \
own. What is followed is the ratio of each arm to the baseline of its own run, and allocations as they \
are. A change is shown where the order of the results is less likely than 5 % if nothing changed; that \
can be told from 10 results on.

Examples:
  otelbench trend results/*.json
  otelbench trend nightly/*.json --metric allocations_per_request --format markdown";

/// `otelbench report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  otelbench report results/run.json\n  otelbench report results/run.jsonl    the records of a run that was killed"
)]
pub struct ReportArgs {
    /// A result document, or the records file of a run that was cut short
    pub result: PathBuf,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
}

/// `otelbench load`.
#[derive(Debug, Args)]
#[command(after_help = LOAD_EXAMPLES)]
pub struct LoadArgs {
    /// The target, such as <http://127.0.0.1:3000/healthz>
    url: Uri,
    /// Requests per second, or max: as fast as the connections allow; ramp and steps bring their own [default: 1000]
    #[arg(long, value_name = "N|max", allow_negative_numbers = true, value_parser = rate_or_max)]
    rps: Option<Pace>,
    /// How long to send
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_positive_duration)]
    duration: Duration,
    /// Keep-alive connections
    #[arg(long, value_name = "N", default_value = "16")]
    connections: NonZeroUsize,
    /// Threads that share them [default: one per 50000 requests per second, on at most half the cores]
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroUsize>,
    /// Arrival process, as `run --help` lists them
    #[arg(long, value_name = "PROCESS", default_value = "constant")]
    arrivals: Arrivals,
    /// Speak HTTP/2 without TLS, with prior knowledge (h2c)
    #[arg(long)]
    http2: bool,
    /// Requests that each HTTP/2 connection carries at a time [default: 1]
    #[arg(long, value_name = "N")]
    streams: Option<NonZeroUsize>,
    /// How the generator waits for the next arrival; coarse clumps to 1 ms
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = named::<Pacing>(&["auto", "timer", "spin", "coarse"]))]
    pacing: Pacing,
    /// What cores do that have no work: sleep, or be kept awake by threads of the lowest class
    #[arg(long, value_name = "WHAT", default_value = "auto", value_parser = named::<IdleCores>(&["auto", "sleep", "awake"]))]
    idle_cores: IdleCores,
    /// What carries the requests; direct is for run alone
    #[arg(long, value_name = "HOW", default_value = "tcp", value_parser = named::<Transport>(&["tcp", "direct"]))]
    transport: Transport,
    /// The request's method [default: GET, or POST with a body]
    #[arg(long)]
    method: Option<Method>,
    /// A header, such as 'content-type: application/json'; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The request's body
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    body: String,
    /// Time a request may take from when it was written
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    timeout: Duration,
    /// Seed of random arrivals
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    format: Format,
}

const LOAD_EXAMPLES: &str = "\
Examples:
  otelbench load http://127.0.0.1:3000/healthz --rps 5000 --duration 30s
  otelbench load http://127.0.0.1:3000/order --rps 2000 --arrivals poisson \\
    --body '{\"user\":\"ada\",\"items\":[\"tea\"],\"quantity\":2,\"amount\":9.5}'
  otelbench load http://127.0.0.1:3000/healthz --rps max --connections 32 --format json
  otelbench load http://127.0.0.1:3000/healthz --http2 --connections 2 --streams 50";

fn rate_or_max(text: &str) -> Result<Pace, String> {
    match text {
        "max" => Ok(Pace::Max),
        number => number.parse().map(Pace::Rate).map_err(|e: RateError| format!("{e}, or max")),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
    });
    match parsed {
        None => Err("write a header as 'name: value'".into()),
        Some((name, _)) if name == "host" || name == "content-length" || name == "transfer-encoding" => {
            Err(format!("{name} is set from the target and the body"))
        }
        Some(header) => Ok(header),
    }
}

impl LoadArgs {
    /// What the flags ask for.
    ///
    /// # Errors
    /// A usage error where the flags contradict each other.
    pub fn into_assignment(self) -> Result<Assignment, Failure> {
        if self.transport == Transport::Direct {
            let why = "only `otelbench run` has its service at hand to call; a URL is loaded over tcp";
            return Err(Failure::Usage(format!("--transport direct: {why}")));
        }
        let streams = match (self.http2, self.streams) {
            (false, Some(n)) => {
                let why = "an HTTP/1.1 connection carries one request at a time; add --http2, or raise --connections";
                return Err(Failure::Usage(format!("--streams {n}: {why}")));
            }
            (http2, streams) => http2.then(|| streams.map_or(1, NonZeroUsize::get)),
        };
        Ok(Assignment {
            url: self.url,
            rps: self.rps,
            duration: self.duration,
            connections: self.connections.get(),
            shards: self.shards.map(NonZeroUsize::get),
            idle_cores: self.idle_cores,
            streams,
            arrivals: self.arrivals,
            pacing: self.pacing,
            method: self.method.unwrap_or(if self.body.is_empty() { Method::GET } else { Method::POST }),
            headers: self.header,
            body: self.body,
            timeout: self.timeout,
            seed: self.seed,
            format: self.format,
        })
    }
}

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

/// `otelbench serve`.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// The telemetry mode
    #[arg(long, default_value = "full", value_parser = mode::named)]
    pub mode: Mode,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub addr: SocketAddr,
    /// An OTLP/gRPC collector [default: the one the `OTEL_*` variables name, or the SDK's]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<Endpoint>,
    /// What the payment takes
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_duration)]
    pub payment_delay: Duration,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  otelbench serve --mode full --addr 127.0.0.1:3000 --endpoint http://localhost:4317
  curl -X POST http://127.0.0.1:3000/order \\
    -d '{\"user\":\"ada\",\"items\":[\"tea\"],\"quantity\":2,\"amount\":9.5}'";

/// `otelbench sink`.
#[derive(Debug, Args)]
#[command(after_help = SINK_EXAMPLES)]
pub struct SinkArgs {
    /// Where to listen, for OTLP/gRPC and OTLP/HTTP alike
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    pub addr: SocketAddr,
    /// What goes wrong, and when, as below; may be repeated
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<Fault>,
    /// What to print at the end
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    pub format: Format,
}

const SINK_EXAMPLES: &str = "\
Faults are written [SIGNAL/]KIND[:ARG][@FROM[..UNTIL]], the times from when it listens; SIGNAL is traces, metrics or logs:
  down                    the port is closed, and connections are cut
  slow:TIME               answers come later
  hang                    requests are read and never answered
  reject:unavailable      requests are refused as by a collector that is overloaded
  reject:exhausted[,retry=TIME]  ... or that asks to slow down
  partial:N%              that share of every request is rejected
  reset[:N%]              the connection is cut in the middle of the payload
  limit:SIZE              larger messages are refused

Examples:
  otelbench sink --addr 127.0.0.1:4317 --format json
  otelbench sink --fault down@10s..20s
  otelbench sink --fault slow:500ms --fault metrics/limit:64KiB
  otelbench sink --fault reject:exhausted,retry=200ms@5s..8s --fault reset:10%@8s

Stop it with Ctrl-C; it then prints what it received.";

/// `otelbench modes`.
#[derive(Debug, Args)]
pub struct ModesArgs {
    /// Show the parts of this one
    #[arg(value_parser = mode::named)]
    pub mode: Option<Mode>,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    pub format: Format,
}

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

/// `otelbench probe`.
#[derive(Debug, Args)]
#[command(after_help = probe_help())]
pub struct ProbeArgs {
    /// The probes to run [default: all]
    #[arg(value_name = "NAME", value_parser = probe::named)]
    names: Vec<Probe>,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,
}

impl ProbeArgs {
    /// The probes that are asked for, each once, in the order of the list.
    pub fn probes(&self) -> Vec<Probe> {
        let asked = |probe: &Probe| self.names.is_empty() || self.names.iter().any(|named| named.name == probe.name);
        probe::all().into_iter().filter(asked).collect()
    }
}

fn probe_help() -> String {
    let probes = probe::all();
    let width = probes.iter().map(|probe| probe.name.len()).max().unwrap_or(0);
    let lines: Vec<String> = probes.iter().map(|probe| format!("  {:width$}  {}", probe.name, probe.title)).collect();
    format!(
        "Probes:\n{}\n\nExamples:\n  otelbench probe\n  otelbench probe gauge-increment telemetry-loop --format json",
        lines.join("\n")
    )
}

/// Writes the completion script for `shell`.
pub fn completions(shell: Shell, out: &mut impl std::io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "otelbench", out);
}

fn formats() -> impl TypedValueParser<Value = Format> {
    named::<Format>(&["table", "json", "markdown"])
}

/// A value that is known by these names, as in a scenario file.
fn named<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value::<T>(serde_json::Value::String(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_of_run_reaches_the_settings() {
        let line = "otelbench run s.toml --rps 5 --mode metrics,full --baseline bare --no-placebo --rounds 3 --slices 4 \
                    --slice 2s --warmup 1s --seed 9 --arrivals poisson --users 9 --user-ids uniform --error-share 0.5 --personal \
                    --pacing spin --pinning none --idle-cores awake --shards 2 --transport tcp --isolation process \
                    --connections 7 --timeout 3s --payment http --payment-delay 50ms --service-threads 2 --endpoint http://h:1 --fault hang \
                    --against b --max-regression rss_bytes=5% --until resolved --budget 5m --out o.json \
                    --format json --quiet";
        let Ok(Cli { command: Command::Run(args) }) = Cli::try_parse_from(line.split_whitespace()) else {
            panic!("the line is not accepted")
        };
        let (file, settings) = args.into_parts();
        assert_eq!(file, Some(PathBuf::from("s.toml")));
        let Settings {
            name: None,
            rps: Some(_),
            mode: Some(ModeNames(modes)),
            modes: None,
            baseline: Some(_),
            no_placebo: Some(true),
            rounds: Some(_),
            slices: Some(_),
            until: Some(Until::Resolved),
            budget: Some(_),
            slice: Some(_),
            warmup: Some(_),
            seed: Some(9),
            arrivals: Some(Arrivals::Poisson),
            users: Some(_),
            user_ids: Some(UserIds::Uniform),
            error_share: Some(_),
            personal: Some(true),
            mix: None,
            pacing: Some(Pacing::Spin),
            pinning: Some(Pinning::None),
            idle_cores: Some(IdleCores::Awake),
            shards: Some(_),
            transport: Some(Transport::Tcp),
            isolation: Some(Isolation::Process),
            connections: Some(_),
            slo: None,
            claims: None,
            timeout: Some(_),
            payment: Some(Payment::Http),
            payment_delay: Some(_),
            service_threads: Some(_),
            endpoint: Some(_),
            fault: Some(_),
            against: Some(_),
            max_regression: Some(_),
            out: Some(_),
            format: Some(Format::Json),
            quiet: Some(true),
        } = settings
        else {
            panic!("an option is lost: {settings:?}")
        };
        assert_eq!(modes.len(), 2);
    }

    #[test]
    fn capacity_takes_the_options_of_run_but_for_slices() {
        let line = "otelbench capacity s.toml --slo p50=1ms,p99=10ms --rps 5 --mode full --rounds 3 --slice 2s --quiet";
        let Ok(Cli { command: Command::Capacity(args) }) = Cli::try_parse_from(line.split_whitespace()) else {
            panic!("the line is not accepted")
        };
        let (file, settings) = args.into_parts();
        assert_eq!(file, Some(PathBuf::from("s.toml")));
        assert_eq!(settings.slo, "p50=1ms,p99=10ms".parse().ok());
        assert!(settings.rps.is_some() && settings.mode.is_some() && settings.slice.is_some(), "{settings:?}");
        let error = Cli::try_parse_from("otelbench capacity --slices 2".split_whitespace()).unwrap_err();
        assert!(error.to_string().contains("--slices"), "{error}");
    }
}

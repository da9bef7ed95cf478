//! Errors in a scenario; each message says what would be right.

use std::path::PathBuf;

use thiserror::Error;

use super::Faults;
use crate::experiment::arrivals::Arrivals;
use crate::experiment::gate::UnknownArm;
use crate::experiment::mode::UnknownMode;
use crate::experiment::slo::Slo;
use crate::experiment::units::Rate;

/// A rate is asked for beside arrivals that would ignore it.
#[derive(Debug, Error)]
#[error(
    "--rps {rps} and --arrivals {arrivals} ask for two rates; leave --rps out, or ask for arrivals that keep to it, such as \
     --arrivals constant"
)]
pub struct TwoRates {
    rps: f64,
    arrivals: Arrivals,
}

impl TwoRates {
    /// Refuses a rate that was asked for in so many words beside arrivals that bring their own.
    ///
    /// # Errors
    /// When it was.
    pub fn refuse(rps: Option<Rate>, arrivals: &Arrivals) -> Result<(), Self> {
        match rps {
            Some(rps) if arrivals.bring_their_own_rates() => {
                Err(Self { rps: rps.as_f64(), arrivals: arrivals.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// An error in a scenario.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a scenario; the message holds line and key.
    #[error("{path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A mode that the file names does not exist.
    #[error("{path}: line {line}, `{key}`: {source}")]
    UnknownModeAt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// The modes that exist.
        source: UnknownMode,
    },
    /// A mode that a flag names does not exist.
    #[error("--{0}: {1}")]
    UnknownMode(&'static str, UnknownMode),
    /// One mode stands twice among the treatments.
    #[error("--mode names `{0}` twice; each treatment is one arm, so name it once")]
    TwiceNamed(String),
    /// Calls do not cross processes.
    #[error(
        "--transport direct calls the service without sockets, which takes one process; leave --isolation process out"
    )]
    DirectAcrossProcesses,
    /// Calls are answered on the thread that makes them.
    #[error("--transport direct runs the service on the generator's one thread; leave {0} {1} out")]
    DirectOnManyThreads(&'static str, usize),
    /// One fault stands twice.
    #[error("--fault names `{0}` twice; each makes an arm of every treatment, so name it once")]
    FaultTwice(Faults),
    /// A fault without anybody who would notice.
    #[error("--fault {0}: none of the modes sends telemetry; name one that does with --mode, such as full")]
    NothingSent(Faults),
    /// A fault at a collector that is not ours.
    #[error(
        "--fault {0}: only the embedded sink fails on request; leave --endpoint and OTEL_EXPORTER_OTLP_*ENDPOINT out"
    )]
    FaultElsewhere(Faults),
    /// A payment service has a socket.
    #[error(
        "--transport direct calls the service without sockets, and --payment http puts the payment behind one; leave one \
         of them out"
    )]
    DirectWithPaymentService,
    /// A budget decides what something else decides too.
    #[error("--budget {0} picks rounds and slices by itself; leave {1} out")]
    BudgetAnd(humantime::FormattedDuration, &'static str),
    /// Nobody knows how long a search takes.
    #[error("--budget {0}: a search takes as many steps as it takes; set --rounds instead")]
    BudgetOfSearches(humantime::FormattedDuration),
    /// There is nothing that could be resolved.
    #[error("--until resolved: there is no treatment that could differ; name one with --mode, such as full")]
    NothingToResolve,
    /// A gate is about nothing.
    #[error(transparent)]
    UnknownArm(#[from] UnknownArm),
    /// The path of another build holds no executable.
    #[error("--against {}: there is no executable file; name another build of otelbench", .0.display())]
    NotABuild(PathBuf),
    /// Two things are to be compared with.
    #[error(
        "--baseline {0} and --against name two things to compare with: of two builds each mode is compared with itself; leave \
         --baseline out"
    )]
    TwoBaselines(String),
    /// Faults are for one build.
    #[error("--fault {0} and --against are two questions; ask them in two runs")]
    FaultAgainst(Faults),
    /// There is nothing to compare.
    #[error("nothing to compare: the only mode is the baseline `{0}` and --no-placebo leaves its repeat out")]
    NothingToCompare(String),
    /// Two rates are asked for.
    #[error(transparent)]
    TwoRates(#[from] TwoRates),
    /// There is no order that could be refused.
    #[error(
        "--error-share is the share of the orders to be refused, and the mix has none; add {{ endpoint = \"order\" }} to it, or leave --error-share out"
    )]
    NothingToRefuse,
    /// A server would refuse the requests.
    #[error("--request-header: {many} headers are more than the {most} that a request may have beside its own")]
    TooManyHeaders {
        /// How many there are.
        many: usize,
        /// How many there may be.
        most: usize,
    },
    /// A capacity is asked for without saying within what.
    #[error("the SLO is missing: say what must hold with --slo p99=10ms, or with slo = \"p99=10ms\" in the scenario")]
    NoSlo,
    /// The rates of a search are its own.
    #[error("--arrivals {0}: a capacity is one rate, which the search sets; write constant or poisson")]
    ChangingRate(Arrivals),
    /// An overload would go unnoticed.
    #[error(
        "--slice {slice}: within {slo} a step so short lets rates pass that are far above the capacity; make it {least} or longer"
    )]
    StepTooShort {
        /// Length of a step.
        slice: humantime::FormattedDuration,
        /// The SLO.
        slo: Slo,
        /// The least that would do.
        least: humantime::FormattedDuration,
    },
    /// The time-out would cut off requests that the SLO allows.
    #[error("--timeout {timeout}: {slo} lets a request take longer; make it {least} or longer")]
    TimeoutTooShort {
        /// The time-out.
        timeout: humantime::FormattedDuration,
        /// The SLO.
        slo: Slo,
        /// The least that would do.
        least: humantime::FormattedDuration,
    },
}

//! What to measure: settings from a file and from flags, resolved into a [`Scenario`] with every default filled in.
//!
//! A file and the flags fill the same [`Settings`]; the flag wins. Each value checks itself while it is read, so an error
//! in a file carries its line and key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{fmt, fs, thread};

use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use toml::Spanned;

use crate::experiment::arrivals::Arrivals;
use crate::experiment::fault::{Contradiction, Fault, FaultError, Timeline};
use crate::experiment::mode::{self, Mode, UnknownMode};
use crate::experiment::payload::{Mix, Payload, Share, UserIds};
use crate::experiment::placement::{IdleCores, Pinning, Placement};
use crate::experiment::slo::Slo;
use crate::experiment::units::{Rate, parse_duration, stored_as_text};
use crate::generator::{self, Pacing};
use crate::os::cores;
use crate::verdict::claims::Asked;
use crate::verdict::claims::own::ClaimTables;
use crate::verdict::gate::{Gate, UnknownArm};

/// Name of the arm that repeats the baseline.
pub const PLACEBO: &str = "placebo";

/// Rounds at most of a run that may end before its last.
const ROUNDS_AT_MOST: u32 = 30;

/// What follows the name of a mode in the name of its arm in another build.
const OTHER_BUILD: &str = "@base";

/// The overload that a capacity step shows unless its length is given, as a share of the capacity.
const OVERLOAD_SHOWN: f64 = 0.02;
/// The overload that a capacity step must show: the bound on what a rate that held may be above the capacity.
const OVERLOAD_MISSED: f64 = 0.05;

/// What a user asked for, in a file or by flags; `None` where nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Names the scenario in the result and in the default path of the result.
    pub name: Option<String>,
    /// Requests per second; arrivals that bring their own rates ignore it.
    pub rps: Option<Rate>,
    /// The treatments.
    pub mode: Option<ModeNames>,
    /// The mode every treatment is compared with.
    pub baseline: Option<ModeName>,
    /// Modes of the scenario's own.
    pub modes: Option<OwnModes>,
    /// Leaves the second baseline arm out.
    #[serde(alias = "no-placebo")]
    pub no_placebo: Option<bool>,
    /// Fresh launches of every arm.
    pub rounds: Option<NonZeroU32>,
    /// Slices of each arm in each round.
    pub slices: Option<NonZeroU32>,
    /// What ends the run before its last round.
    pub until: Option<Until>,
    /// Time within which rounds and slices are to give the narrowest intervals.
    #[serde(default, deserialize_with = "positive_duration")]
    pub budget: Option<Duration>,
    /// Length of a slice.
    #[serde(default, deserialize_with = "positive_duration")]
    pub slice: Option<Duration>,
    /// Load on every fresh lane before its first slice.
    #[serde(default, with = "humantime_serde::option")]
    pub warmup: Option<Duration>,
    /// Seed of the plan and of random arrivals.
    pub seed: Option<u64>,
    /// Arrival process.
    pub arrivals: Option<Arrivals>,
    /// Distinct users.
    pub users: Option<NonZeroU32>,
    /// Whose each order is.
    #[serde(alias = "user-ids")]
    pub user_ids: Option<UserIds>,
    /// Share of the orders that the service must refuse.
    #[serde(alias = "error-share")]
    pub error_share: Option<Share>,
    /// Whether orders carry a card number and an e-mail address.
    pub personal: Option<bool>,
    /// Kinds of requests, with weights.
    pub mix: Option<Mix>,
    /// How the generator waits for the next arrival.
    pub pacing: Option<Pacing>,
    /// Whether generator and service are kept on cores.
    pub pinning: Option<Pinning>,
    /// What cores do that have no work.
    #[serde(alias = "idle-cores")]
    pub idle_cores: Option<IdleCores>,
    /// What carries the requests.
    pub transport: Option<Transport>,
    /// Where the generator runs.
    pub isolation: Option<Isolation>,
    /// Keep-alive connections.
    pub connections: Option<NonZeroUsize>,
    /// Threads of the generator, which share the connections.
    pub shards: Option<NonZeroUsize>,
    /// What a capacity is searched within; `run` ignores it.
    pub slo: Option<Slo>,
    /// Time a request may take from when it was written.
    #[serde(default, deserialize_with = "positive_duration")]
    pub timeout: Option<Duration>,
    /// Where the payment is made.
    pub payment: Option<Payment>,
    /// What the payment takes.
    #[serde(default, alias = "payment-delay", with = "humantime_serde::option")]
    pub payment_delay: Option<Duration>,
    /// Worker threads of the service's runtime.
    #[serde(alias = "service-threads")]
    pub service_threads: Option<NonZeroUsize>,
    /// A real collector instead of the embedded sink.
    pub endpoint: Option<Endpoint>,
    /// Claims of the scenario's own, which `claims` puts to the test; `run` ignores them.
    pub claims: Option<ClaimTables>,
    /// What goes wrong at the embedded sink; each makes an arm of every treatment that sends.
    pub fault: Option<OneOrMany<Faults>>,
    /// Another build of this program, whose arms the treatments are compared with.
    pub against: Option<PathBuf>,
    /// How much worse than its reference a candidate may be.
    #[serde(alias = "max-regression")]
    pub max_regression: Option<OneOrMany<Gate>>,
    /// Where the result goes.
    pub out: Option<PathBuf>,
    /// What is printed on stdout.
    pub format: Option<Format>,
    /// No progress and no warnings on stderr.
    pub quiet: Option<bool>,
}

/// What ends a run before its last round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Until {
    /// That every treatment differs from what it is compared with, by the bounds of a sequential test.
    Resolved,
    /// That the interval of every arm, relative to what it is compared with, reaches no further than this to either side.
    HalfWidth(f64),
}

stored_as_text!(Until);

/// A text says nothing that could end a run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` does not say when to stop; write resolved, or halfwidth:PCT% such as halfwidth:1%")]
pub struct UntilError(String);

impl FromStr for Until {
    type Err = UntilError;

    fn from_str(text: &str) -> Result<Self, UntilError> {
        match text.trim().split_once(':') {
            None if text.trim() == "resolved" => Ok(Self::Resolved),
            Some(("halfwidth", share)) => half_width(share).map(Self::HalfWidth).map_err(|_| UntilError(text.into())),
            _ => Err(UntilError(text.into())),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved => f.write_str("resolved"),
            // To a billionth, where the division by 100 and back no longer shows.
            Self::HalfWidth(share) => write!(f, "halfwidth:{}%", (share * 1e11).round() / 1e9),
        }
    }
}

/// The share that a half-width is written as: `1%`.
///
/// # Errors
/// A message that shows what would be right.
pub fn half_width(text: &str) -> Result<f64, String> {
    let percent = text.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
    let percent = percent.filter(|percent| *percent > 0.0 && *percent < 100.0);
    percent
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("`{text}` is not a half-width; write it as 1% or 0.5%"))
}

/// The form in which a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A table for a terminal.
    #[default]
    Table,
    /// The result document.
    Json,
    /// A table for a page.
    Markdown,
}

/// What carries a request to the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// HTTP/1.1 over loopback.
    #[default]
    Tcp,
    /// Nothing: the handlers are called on the generator's thread, without sockets, kernel or wake-ups. What that thread
    /// spends is all on the account of `request`, the generator's own work with it; that is the same in every arm, so the
    /// difference between arms is what the telemetry calls themselves cost, and the level of an arm means little.
    Direct,
}

/// Where the payment of an order is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Payment {
    /// In the order service, in a task of its own.
    #[default]
    Inside,
    /// By a service of its own, over HTTP/1.1 and loopback: with threads of its own in the same process, whose CPU time is
    /// charged to the requests as well, and in modes with spans a resource and exporters of its own. One trace then spans two
    /// services.
    Http,
}

/// Where the generator runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In the lane, on a thread and a runtime of its own.
    #[default]
    InProcess,
    /// In the parent, over loopback.
    Process,
}

/// The name of a mode, which may be one that the scenario defines.
#[derive(Clone, Debug, PartialEq)]
pub struct ModeName {
    name: String,
    /// Where it stands in the file, in bytes; empty for one from a flag.
    at: Range<usize>,
}

impl<'de> Deserialize<'de> for ModeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { at: name.span(), name: name.into_inner().trim().to_owned() })
    }
}

impl ModeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl FromStr for ModeName {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self { name: name.trim().to_owned(), at: 0..0 })
    }
}

/// One mode or several: `"full"`, `"metrics,full"` or `["metrics", "full"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModeNames(pub Vec<ModeName>);

impl<'de> Deserialize<'de> for ModeNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a mode name or an array of mode names")]
        enum Written {
            Joined(String),
            Listed(Vec<String>),
        }
        let written = Spanned::<Written>::deserialize(deserializer)?;
        let at = written.span();
        let names: Vec<String> = match written.into_inner() {
            Written::Joined(text) => text.split(',').map(str::to_owned).collect(),
            Written::Listed(names) => names,
        };
        Ok(Self(names.iter().map(|name| ModeName { name: name.trim().to_owned(), at: at.clone() }).collect()))
    }
}

/// Modes that the scenario makes itself, each under its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnModes(Vec<Mode>);

impl<'de> Deserialize<'de> for OwnModes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModesByName)
    }
}

/// Reads the table of modes, each knowing its name, so that an error in one is found at its line.
struct ModesByName;

impl<'de> Visitor<'de> for ModesByName {
    type Value = OwnModes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table for each mode, such as [modes.mine] with like = \"full\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut tables: A) -> Result<OwnModes, A::Error> {
        let mut modes = Vec::new();
        while let Some(name) = tables.next_key::<String>()? {
            modes.push(tables.next_value_seed(CalledBy(name))?);
        }
        Ok(OwnModes(modes))
    }
}

/// Reads the mode of this name.
struct CalledBy(String);

impl<'de> DeserializeSeed<'de> for CalledBy {
    type Value = Mode;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Mode, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        mode::define(&self.0, &table).map_err(serde::de::Error::custom)
    }
}

/// What goes wrong at a collector, one fault or several in their times: `hang`, `down@1s..2s slow:50ms@3s..4s`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Faults(pub Vec<Fault>);

stored_as_text!(Faults);

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, FaultsError> {
        let faults = text.split_whitespace().map(str::parse).collect::<Result<Vec<Fault>, FaultError>>()?;
        if faults.is_empty() {
            return Err(FaultsError::Fault(FaultError::Kind(text.into())));
        }
        Timeline::new(faults.clone())?;
        Ok(Self(faults))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&faults.join(" "))
    }
}

impl Faults {
    /// Whether nothing goes wrong.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a text does not say what goes wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FaultsError {
    /// One is no fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// Two cannot be at the same time.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

/// One or several, in an array.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a text or an array of texts")]
        enum Written {
            One(String),
            Many(Vec<String>),
        }
        let texts = match Written::deserialize(deserializer)? {
            Written::One(text) => vec![text],
            Written::Many(texts) => texts,
        };
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect::<Result<_, _>>().map(Self)
    }
}

/// The URL of an OTLP/gRPC receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint(String);

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        let valid = url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|h| !h.is_empty())
        });
        valid.then(|| Self(url.clone())).ok_or_else(|| {
            format!("`{url}` is not the URL of an OTLP/gRPC receiver; write it as http://localhost:4317")
        })
    }
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        Self::try_from(url.to_owned())
    }
}

impl Endpoint {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A duration greater than zero, for settings where zero has no meaning.
///
/// # Errors
/// A message that shows what would be right.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero, such as 500ms, 2s or 1m".into()),
        duration => Ok(duration),
    }
}

fn positive_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_positive_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

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

/// What is wrong with a scenario.
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
        /// What is known.
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
    /// What another build is to be launched from is no executable.
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
        /// What would do.
        least: humantime::FormattedDuration,
    },
    /// What the SLO allows would be cut off.
    #[error("--timeout {timeout}: {slo} lets a request take longer; make it {least} or longer")]
    TimeoutTooShort {
        /// The time-out.
        timeout: humantime::FormattedDuration,
        /// The SLO.
        slo: Slo,
        /// What would do.
        least: humantime::FormattedDuration,
    },
}

impl Settings {
    /// Reads a scenario file; its stem is the scenario's name unless it gives one.
    ///
    /// # Errors
    /// When the file cannot be read, or has an unknown key or a value that means nothing.
    pub fn from_file(path: &Path) -> Result<Self, ScenarioError> {
        let text =
            fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable { path: path.into(), source })?;
        let mut settings = Self::read(&text, path)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        settings.name = settings.name.or(stem);
        Ok(settings)
    }

    /// Reads the text of a scenario file; `path` is for messages.
    pub(crate) fn read(text: &str, path: &Path) -> Result<Self, ScenarioError> {
        let settings: Self = toml::from_str(text)
            .map_err(|source| ScenarioError::Malformed { path: path.into(), source: Box::new(source) })?;
        for (key, name) in settings.mode_names() {
            if let Err(source) = settings.find_mode(name) {
                let line = 1 + text[..name.at.start].matches('\n').count();
                return Err(ScenarioError::UnknownModeAt { path: path.into(), line, key, source });
            }
        }
        Ok(settings)
    }

    /// The names of modes that are asked for, each with its key.
    fn mode_names(&self) -> impl Iterator<Item = (&'static str, &ModeName)> {
        let treatments = self.mode.iter().flat_map(|names| &names.0).map(|name| ("mode", name));
        let claimed = self.claims.iter().flat_map(ClaimTables::mode_names);
        self.baseline.iter().map(|name| ("baseline", name)).chain(treatments).chain(claimed)
    }

    /// The mode so called, among those that are built in and the scenario's own.
    fn find_mode(&self, name: &ModeName) -> Result<Mode, UnknownMode> {
        mode::find(&name.name, self.modes.as_ref().map_or(&[], |own| &own.0))
    }

    /// A budget picks rounds and slices, so nothing else may.
    fn the_budget_stands_alone(&self) -> Result<(), ScenarioError> {
        let Some(budget) = self.budget else { return Ok(()) };
        let others = [
            ("--rounds", self.rounds.is_some()),
            ("--slices", self.slices.is_some()),
            ("--until", self.until.is_some()),
        ];
        match others.into_iter().find(|(_, asked)| *asked) {
            Some((flag, _)) => Err(ScenarioError::BudgetAnd(humantime::format_duration(budget), flag)),
            None => Ok(()),
        }
    }

    /// The conditions to compare, which what is asked of them must fit.
    fn arms(&self, baseline: &Mode, treatments: &[Mode]) -> Result<Vec<Arm>, ScenarioError> {
        let no_placebo = self.no_placebo.unwrap_or(false);
        let faults = self.fault.as_ref().map_or(&[][..], |faults| &faults.0);
        let arms = match &self.against {
            None => arms(baseline, treatments, faults, no_placebo)?,
            Some(_) if self.baseline.is_some() => return Err(ScenarioError::TwoBaselines(baseline.name.clone())),
            Some(_) if !faults.is_empty() => return Err(ScenarioError::FaultAgainst(faults[0].clone())),
            Some(other) => arms_of_two_builds(other, treatments, no_placebo)?,
        };
        if self.until == Some(Until::Resolved) && !arms.iter().any(|arm| arm.role == Role::Treatment) {
            return Err(ScenarioError::NothingToResolve);
        }
        // A baseline is what others are held against.
        let candidates = arms.iter().filter(|arm| match self.against {
            Some(_) => arm.against.is_some(),
            None => arm.role != Role::Baseline,
        });
        let names: Vec<&str> = candidates.map(|arm| arm.name.as_str()).collect();
        for gate in self.max_regression.iter().flat_map(|gates| &gates.0) {
            gate.arms(&names, &names)?;
        }
        Ok(arms)
    }

    /// These settings where they say something, else those of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        // Arrivals that bring their own rates win over the other's rate too.
        let own_rates = self.arrivals.as_ref().is_some_and(Arrivals::bring_their_own_rates);
        Self {
            name: self.name.or(other.name),
            rps: self.rps.or(other.rps.filter(|_| !own_rates)),
            mode: self.mode.or(other.mode),
            baseline: self.baseline.or(other.baseline),
            modes: self.modes.or(other.modes),
            no_placebo: self.no_placebo.or(other.no_placebo),
            rounds: self.rounds.or(other.rounds),
            slices: self.slices.or(other.slices),
            until: self.until.or(other.until),
            budget: self.budget.or(other.budget),
            slice: self.slice.or(other.slice),
            warmup: self.warmup.or(other.warmup),
            seed: self.seed.or(other.seed),
            arrivals: self.arrivals.or(other.arrivals),
            users: self.users.or(other.users),
            user_ids: self.user_ids.or(other.user_ids),
            error_share: self.error_share.or(other.error_share),
            personal: self.personal.or(other.personal),
            mix: self.mix.or(other.mix),
            pacing: self.pacing.or(other.pacing),
            pinning: self.pinning.or(other.pinning),
            idle_cores: self.idle_cores.or(other.idle_cores),
            transport: self.transport.or(other.transport),
            isolation: self.isolation.or(other.isolation),
            connections: self.connections.or(other.connections),
            shards: self.shards.or(other.shards),
            slo: self.slo.or(other.slo),
            timeout: self.timeout.or(other.timeout),
            payment: self.payment.or(other.payment),
            payment_delay: self.payment_delay.or(other.payment_delay),
            service_threads: self.service_threads.or(other.service_threads),
            endpoint: self.endpoint.or(other.endpoint),
            claims: self.claims.or(other.claims),
            fault: self.fault.or(other.fault),
            against: self.against.or(other.against),
            max_regression: self.max_regression.or(other.max_regression),
            out: self.out.or(other.out),
            format: self.format.or(other.format),
            quiet: self.quiet.or(other.quiet),
        }
    }
}

/// What to measure, with every default filled in; stored in the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Scenario {
    /// Names the scenario.
    pub name: String,
    /// Requests per second asked of the generator; arrivals that bring their own rates ignore it. With an SLO, where the
    /// first search starts.
    #[cfg_attr(test, schemars(with = "f64"))]
    pub rps: Rate,
    /// What the highest rate of each arm is searched within; absent where load is played at one rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub slo: Option<Slo>,
    /// The claims that are put to the test; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Asked>,
    /// The conditions compared; the baseline stands first.
    pub arms: Vec<Arm>,
    /// Fresh launches of every arm.
    pub rounds: u32,
    /// Slices of each arm in each round; with an SLO, as many as its search takes.
    pub slices: u32,
    /// What ends the run before its last round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub until: Option<Until>,
    /// Time that the run was given, of which rounds and slices were made.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub budget: Option<Duration>,
    /// Length of a slice, such as `1s`.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub slice: Duration,
    /// Load on every fresh lane before its first slice, such as `500ms`.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub warmup: Duration,
    /// Arrival process, such as `constant` or `ramp:1000..20000`.
    #[cfg_attr(test, schemars(with = "String", regex(pattern = "^(constant|poisson|(ramp|steps|bursts|sine):.+)$")))]
    pub arrivals: Arrivals,
    /// What the requests are made of.
    #[serde(default)]
    pub payload: Payload,
    /// How the generator waits for the next arrival.
    pub pacing: Pacing,
    /// What carries the requests.
    pub transport: Transport,
    /// Where the generator runs.
    pub isolation: Isolation,
    /// Keep-alive connections.
    pub connections: usize,
    /// Threads of the generator, which share them.
    #[serde(default = "one_shard")]
    pub shards: usize,
    /// Time a request may take from when it was written.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub timeout: Duration,
    /// Where the payment is made.
    #[serde(default)]
    pub payment: Payment,
    /// What the payment takes.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub payment_delay: Duration,
    /// Worker threads of the service's runtime, and of the payment service's where there is one.
    pub service_threads: usize,
    /// The cores that generator and service are kept on.
    pub placement: Placement,
    /// Where telemetry is sent.
    pub collector: Collector,
    /// How much worse than its reference this may be; no part of what is measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub gates: Vec<Gate>,
}

/// One experimental condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Arm {
    /// Unique among the arms.
    pub name: String,
    /// What the arm is for.
    pub role: Role,
    /// The telemetry configuration, spelled out.
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    pub mode: Mode,
    /// What goes wrong at its collector, in time from its first slice.
    #[serde(default, skip_serializing_if = "Faults::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub faults: Faults,
    /// The executable that runs it; absent for this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<PathBuf>,
    /// The arm that it is compared with; absent for the first baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// CPU time that each request burns beside its work, in microseconds; absent where no cost is injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected_us: Option<f64>,
    /// What is done to it that the measurement must find; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
    /// Variables that its lanes have beside those of this process, such as `OTEL_RESOURCE_ATTRIBUTES`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// Something of a known size that is done to an arm, to see whether the measurement finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// Its payments take so long, whatever the scenario says.
    Delay(
        #[serde(with = "humantime_serde")]
        #[cfg_attr(test, schemars(with = "String"))]
        Duration,
    ),
    /// Its process is stopped for so long in the middle of every slice; the generator must be in another one.
    Stop(
        #[serde(with = "humantime_serde")]
        #[cfg_attr(test, schemars(with = "String"))]
        Duration,
    ),
    /// Its sink acknowledges the span of this number, from 1, and does not count it.
    LostSpan(u64),
}

impl Arm {
    /// An arm of this program in which nothing is made to go wrong.
    pub fn new(name: &str, role: Role, mode: &Mode) -> Self {
        Self {
            name: name.into(),
            role,
            mode: mode.clone(),
            faults: Faults::default(),
            executable: None,
            against: None,
            injected_us: None,
            known: None,
            environment: BTreeMap::new(),
        }
    }
}

/// What an arm is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What the others are compared with.
    Baseline,
    /// The baseline once more: its delta is the noise floor.
    Placebo,
    /// What the question is about.
    Treatment,
}

/// Where telemetry is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Collector {
    /// The sink embedded in the parent process, which checks what arrives.
    Embedded,
    /// The collector at this URL; what it received is not known here.
    Endpoint(String),
    /// The collector that the `OTEL_EXPORTER_OTLP_*ENDPOINT` variables name.
    Environment,
}

impl Scenario {
    /// Fills in every default of a search for the capacity.
    ///
    /// # Errors
    /// When there is no SLO, or the settings contradict it or each other.
    pub fn of_capacity(settings: Settings) -> Result<Self, ScenarioError> {
        let slo = settings.slo.clone().ok_or(ScenarioError::NoSlo)?;
        // How high the search goes is not known, so the generator has all the shards that there is room for.
        let shards = match settings.transport.unwrap_or_default() {
            Transport::Tcp => NonZeroUsize::new(generator::shards(None, cores::allowed_cores().len())),
            Transport::Direct => None,
        };
        let defaults = Settings {
            name: Some("capacity".into()),
            rounds: NonZeroU32::new(5),
            slice: Some(slo.shows_overload_in(OVERLOAD_SHOWN).max(Duration::from_secs(1))),
            // What an overloaded step leaves behind is waited for no longer than it takes to know that it was.
            timeout: Some((slo.longest() * 2).max(Duration::from_secs(1))),
            shards,
            ..Settings::default()
        };
        if let Some(budget) = settings.budget {
            return Err(ScenarioError::BudgetOfSearches(humantime::format_duration(budget)));
        }
        let scenario = Self::resolve(Settings { slices: NonZeroU32::new(1), ..settings }.or(defaults))?;
        if !matches!(scenario.arrivals, Arrivals::Constant | Arrivals::Poisson) {
            return Err(ScenarioError::ChangingRate(scenario.arrivals));
        }
        let written = |duration: Duration| humantime::format_duration(duration);
        let least = slo.shows_overload_in(OVERLOAD_MISSED);
        if scenario.slice < least {
            // Whole milliseconds are easier to write.
            let least = Duration::from_millis(least.as_millis() as u64 + 1);
            return Err(ScenarioError::StepTooShort { slice: written(scenario.slice), slo, least: written(least) });
        }
        if scenario.timeout < slo.longest() {
            let least = slo.longest();
            return Err(ScenarioError::TimeoutTooShort {
                timeout: written(scenario.timeout),
                slo,
                least: written(least),
            });
        }
        Ok(Self { slo: Some(slo), ..scenario })
    }

    /// Fills in every default of a run, which has no SLO.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn resolve(settings: Settings) -> Result<Self, ScenarioError> {
        let find = |key, name| settings.find_mode(name).map_err(|unknown| ScenarioError::UnknownMode(key, unknown));
        let baseline = match &settings.baseline {
            Some(name) => find("baseline", name)?,
            None => known("none"),
        };
        let treatments = match &settings.mode {
            Some(names) => names.0.iter().map(|name| find("mode", name)).collect::<Result<_, _>>()?,
            None => vec![known("metrics"), known("full")],
        };
        settings.the_budget_stands_alone()?;
        let arms = settings.arms(&baseline, &treatments)?;
        let arrivals = settings.arrivals.unwrap_or_default();
        TwoRates::refuse(settings.rps, &arrivals)?;
        let collector = match settings.endpoint {
            Some(endpoint) => Collector::Endpoint(endpoint.0),
            None if environment_names_a_collector() => Collector::Environment,
            None => Collector::Embedded,
        };
        if let Some(faulty) = arms.iter().find(|arm| !arm.faults.is_none() && collector != Collector::Embedded) {
            return Err(ScenarioError::FaultElsewhere(faulty.faults.clone()));
        }
        let transport = settings.transport.unwrap_or_default();
        let isolation = settings.isolation.unwrap_or_default();
        let many_threads = ScenarioError::DirectOnManyThreads;
        let asked_threads = settings.service_threads.map(NonZeroUsize::get);
        let service_threads = match (transport, isolation, asked_threads) {
            (Transport::Tcp, _, asked) => asked.unwrap_or_else(default_service_threads),
            (Transport::Direct, Isolation::Process, _) => return Err(ScenarioError::DirectAcrossProcesses),
            (Transport::Direct, _, Some(n @ 2..)) => return Err(many_threads("--service-threads", n)),
            (Transport::Direct, _, _) => 1,
        };
        let payment = settings.payment.unwrap_or_default();
        if (transport, payment) == (Transport::Direct, Payment::Http) {
            return Err(ScenarioError::DirectWithPaymentService);
        }
        let rps = settings.rps.unwrap_or(Rate::TEN_THOUSAND);
        let connections = settings.connections.map_or(16, NonZeroUsize::get);
        let cores = cores::allowed_cores();
        let shards = match (transport, settings.shards.map(NonZeroUsize::get)) {
            (Transport::Tcp, asked) => {
                asked.unwrap_or_else(|| generator::shards(Some(arrivals.peak(rps)), cores.len())).min(connections)
            }
            (Transport::Direct, Some(n @ 2..)) => return Err(many_threads("--shards", n)),
            (Transport::Direct, _) => 1,
        };
        let pinning = settings.pinning.unwrap_or_default();
        let idle_cores = match (settings.idle_cores.unwrap_or_default(), transport) {
            // Nobody is woken where nothing crosses threads.
            (IdleCores::Auto, Transport::Direct) => IdleCores::Sleep,
            (asked, _) => asked,
        };
        let placement = Placement::of(pinning, idle_cores, &cores, shards, service_threads);
        let usual = Payload::default();
        let payload = Payload {
            users: settings.users.unwrap_or(usual.users),
            user_ids: settings.user_ids.unwrap_or(usual.user_ids),
            error_share: settings.error_share.unwrap_or(usual.error_share),
            personal: settings.personal.unwrap_or(usual.personal),
            mix: settings.mix.unwrap_or(usual.mix),
        };
        if payload.error_share > Share::default() && !payload.mix.has_orders() {
            return Err(ScenarioError::NothingToRefuse);
        }
        Ok(Self {
            name: settings.name.unwrap_or_else(|| "run".into()),
            rps,
            slo: None,
            claims: None,
            arms,
            rounds: settings.rounds.map_or(if settings.until.is_some() { ROUNDS_AT_MOST } else { 8 }, NonZeroU32::get),
            slices: settings.slices.map_or(2, NonZeroU32::get),
            until: settings.until,
            budget: settings.budget,
            slice: settings.slice.unwrap_or(Duration::from_secs(1)),
            warmup: settings.warmup.unwrap_or(Duration::from_millis(500)),
            arrivals,
            payload,
            pacing: match (settings.pacing.unwrap_or_default(), transport) {
                // Waking up for each request would put tens of microseconds of kernel on the very thread whose cost is
                // asked for. Nothing waits for an answer here, so clumps flatter nothing that is compared.
                (Pacing::Auto, Transport::Direct) => Pacing::Coarse,
                (asked, _) => asked.resolved(),
            },
            transport,
            isolation,
            connections,
            shards,
            timeout: settings.timeout.unwrap_or(Duration::from_secs(5)),
            payment,
            payment_delay: settings.payment_delay.unwrap_or(Duration::ZERO),
            service_threads,
            placement: match transport {
                Transport::Tcp => placement,
                Transport::Direct => placement.on_one_thread(),
            },
            collector,
            gates: settings.max_regression.map_or_else(Vec::new, |gates| gates.0),
        })
    }

    /// Requests per second in a slice on the mean, which is `rps` unless the arrivals depart from it.
    pub fn mean_rate(&self) -> Rate {
        self.arrivals.mean(self.rps, self.slice)
    }

    /// The arm that `arm` is compared with.
    pub fn reference(&self, arm: &Arm) -> Option<&Arm> {
        match &arm.against {
            Some(name) => self.arms.iter().find(|other| other.name == *name),
            None => self.arms.iter().find(|other| other.role == Role::Baseline),
        }
    }

    /// The names of the arms, the baseline's first.
    pub fn arm_names(&self) -> Vec<String> {
        self.arms.iter().map(|arm| arm.name.clone()).collect()
    }
}

fn arms(baseline: &Mode, treatments: &[Mode], faults: &[Faults], no_placebo: bool) -> Result<Vec<Arm>, ScenarioError> {
    let mut arms = vec![Arm::new(&baseline.name, Role::Baseline, baseline)];
    if !no_placebo {
        arms.push(Arm::new(PLACEBO, Role::Placebo, baseline));
    }
    // The baseline is measured in any case, so naming it among the treatments asks for nothing more.
    for mode in treatments.iter().filter(|mode| mode.name != baseline.name) {
        if arms.iter().any(|arm| arm.name == mode.name) {
            return Err(ScenarioError::TwiceNamed(mode.name.clone()));
        }
        arms.push(Arm::new(&mode.name, Role::Treatment, mode));
    }
    for fault in faults {
        if !treatments.iter().any(Mode::sends) {
            return Err(ScenarioError::NothingSent(fault.clone()));
        }
        for mode in treatments.iter().filter(|mode| mode.sends()) {
            let name = format!("{}+{fault}", mode.name);
            if arms.iter().any(|arm| arm.name == name) {
                return Err(ScenarioError::FaultTwice(fault.clone()));
            }
            arms.push(Arm { faults: fault.clone(), ..Arm::new(&name, Role::Treatment, mode) });
        }
    }
    if arms.len() < 2 {
        return Err(ScenarioError::NothingToCompare(baseline.name.clone()));
    }
    Ok(arms)
}

/// Each treatment in both builds, that of the other build for a baseline.
fn arms_of_two_builds(other: &Path, treatments: &[Mode], no_placebo: bool) -> Result<Vec<Arm>, ScenarioError> {
    if !fs::metadata(other).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0) {
        return Err(ScenarioError::NotABuild(other.into()));
    }
    let of_other = |name: &str, role, mode| Arm { executable: Some(other.into()), ..Arm::new(name, role, mode) };
    let mut arms: Vec<Arm> = Vec::new();
    for mode in treatments {
        if arms.iter().any(|arm| arm.name == mode.name) {
            return Err(ScenarioError::TwiceNamed(mode.name.clone()));
        }
        let base = format!("{}{OTHER_BUILD}", mode.name);
        arms.push(of_other(&base, Role::Baseline, mode));
        if arms.len() == 1 && !no_placebo {
            arms.push(of_other(PLACEBO, Role::Placebo, mode));
        }
        arms.push(Arm { against: Some(base), ..Arm::new(&mode.name, Role::Treatment, mode) });
    }
    Ok(arms)
}

/// What documents from before there were several have been measured with.
fn one_shard() -> usize {
    1
}

fn known(name: &str) -> Mode {
    mode::named(name).expect("the defaults name modes that exist")
}

/// Half the cores: the generator, the exporters and the sink need the rest.
fn default_service_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

pub(crate) fn environment_names_a_collector() -> bool {
    ["", "TRACES_", "METRICS_"]
        .iter()
        .any(|signal| std::env::var_os(format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT")).is_some_and(|v| !v.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::read(text, Path::new("s.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn errors_in_a_file_name_the_line_and_the_key() {
        for (text, line, says) in [
            ("rps = 1000\nrsp = 2000\n", "line 2", "unknown field `rsp`"),
            ("\nrps = -5\n", "line 2", "a rate must be"),
            ("rounds = 0\n", "line 1", "nonzero"),
            ("mode = \"ful\"\n", "line 1", "did you mean `full`?"),
            ("mode = [\"metrics\", \"ful\"]\n", "line 1", "did you mean `full`?"),
            ("baseline = \"non\"\n", "line 1, `baseline`", "did you mean `none`?"),
            (
                "rps = 5\n[modes.mine]\nlike = \"ful\"\n",
                "line 2",
                "mode `mine`: unknown mode `ful`, did you mean `full`?",
            ),
            ("[modes.mine]\nlike = \"full\"\ntraces.quee = 1\n", "line 1", "unknown field `quee`"),
            ("mode = \"mine\"\n[modes.yours]\nlike = \"full\"\n", "line 1, `mode`", "naive, tuned, yours"),
            ("slice = \"0s\"\n", "line 1", "longer than zero"),
            ("slice = \"10\"\n", "line 1", "500ms"),
            ("arrivals = \"ramp:5\"\n", "line 1", "ramp:FROM..TO"),
            ("endpoint = \"localhost\"\n", "line 1", "http://localhost:4317"),
            ("rps = \n", "line 1", "rps"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(line) && error.contains(says), "{text:?} gave {error}");
        }
    }

    #[test]
    fn errors_in_a_claim_name_the_line_and_the_key() {
        const RIGHT: [&str; 7] = [
            "[[claims]]",
            "id = \"budget\"",
            "statement = \"full costs less than 20 µs per request\"",
            "metric = \"cpu_us_per_request\"",
            "arm = \"full\"",
            "limit = 20",
            "unit = \"us\"",
        ];
        let with = |line: usize, text: &str| {
            let mut lines = RIGHT.map(str::to_owned);
            text.clone_into(&mut lines[line - 1]);
            lines.join("\n")
        };
        assert!(parse(&RIGHT.join("\n")).is_ok());
        for (line, text, says) in [
            (4, "metric = \"cpu\"", "unknown variant `cpu`"),
            (5, "arm = \"ful\"", "`claims.arm`: unknown mode `ful`, did you mean `full`?"),
            (5, "arm = \"full\"\nbaseline = \"non\"", "line 6, `claims.baseline`: unknown mode `non`"),
            (6, "limit = \"20\"", "expected f64"),
            (7, "unit = \"ms\"", "unknown variant `ms`"),
            (7, "unit = \"us\"\nlimti = 3", "line 8"),
            (7, "unit = \"us\"\nestimator = \"isolated\"", "expected `end-to-end`"),
        ] {
            let error = parse(&with(line, text)).unwrap_err();
            let line = if says.starts_with("line") { String::new() } else { format!("line {line}") };
            assert!(error.contains(&line) || error.contains("line 8"), "{text} gave {error}");
            assert!(error.contains(says), "{text} gave {error}");
        }
        // What no one key is to blame for is found at its table.
        for (line, text, says) in [
            (7, "", "missing field `unit`"),
            (
                7,
                "unit = \"bytes\"",
                "claim `budget`: `claims.unit` does not go with its metric; write us, %, % of a core",
            ),
            (6, "limit = inf", "claim `budget`: `claims.limit` must be a number"),
            (4, "metric = \"capacity_rps\"", "`otelbench capacity`"),
            (2, "id = \" \"", "`claims.id` must not be empty"),
        ] {
            let error = parse(&with(line, text)).unwrap_err();
            assert!(error.contains("line 1") && error.contains(says), "{text} gave {error}");
        }
        let error = parse(&[RIGHT.join("\n"), RIGHT.join("\n")].join("\n")).unwrap_err();
        assert!(error.contains("two claims are called `budget`"), "{error}");
    }

    #[test]
    fn a_mode_of_the_scenarios_own_is_asked_for_like_any_other() {
        let file = parse("[modes.small]\nlike = \"full\"\ntraces.queue = 2048").unwrap();
        let flags = Settings { mode: Some(ModeNames(vec!["small".parse().unwrap()])), ..Settings::default() };
        let scenario = Scenario::resolve(flags.or(file)).unwrap();
        assert_eq!(scenario.arm_names(), ["none", PLACEBO, "small"]);
        assert_eq!(scenario.arms[2].mode.traces.as_ref().map(|traces| traces.queue), Some(2_048));
        let nowhere = Settings { mode: Some(ModeNames(vec!["smal".parse().unwrap()])), ..Settings::default() };
        let error = Scenario::resolve(nowhere).unwrap_err().to_string();
        assert!(error.starts_with("--mode: unknown mode `smal`"), "{error}");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = parse("rps = 1000\nrounds = 3\nmode = \"metrics,full\"").unwrap();
        let flags = Settings { rps: Some(Rate::per_second(500.0).unwrap()), ..Settings::default() };
        let scenario = Scenario::resolve(flags.or(file)).unwrap();
        assert_eq!(scenario.rps.as_f64(), 500.0);
        assert_eq!(scenario.rounds, 3);
        assert_eq!(scenario.arm_names(), ["none", PLACEBO, "metrics", "full"]);
    }

    #[test]
    fn arrivals_of_a_flag_win_over_the_rate_of_the_file_and_a_rate_contradicts_those_of_the_file() {
        let ramp = "arrivals = \"ramp:1000..3000\"";
        let won = Scenario::resolve(parse(ramp).unwrap().or(parse("rps = 50").unwrap())).unwrap();
        assert_eq!(won.mean_rate().as_f64(), 2_000.0);
        let contradiction = Scenario::resolve(parse("rps = 50").unwrap().or(parse(ramp).unwrap()));
        assert!(matches!(contradiction, Err(ScenarioError::TwoRates(_))));
    }

    #[test]
    fn gates_are_written_in_a_scenario_as_in_a_flag() {
        let scenario = |text| Scenario::resolve(parse(text).unwrap()).unwrap();
        let gates = scenario("max_regression = [\"cpu_us_per_request:full=5%\", \"rss_bytes=10%\"]").gates;
        assert_eq!(
            gates.iter().map(Gate::to_string).collect::<Vec<_>>(),
            ["cpu_us_per_request:full=5%", "rss_bytes=10%"]
        );
        assert_eq!(scenario("max_regression = \"rss_bytes=10%\"").gates, gates[1..]);
        let flags = Settings { max_regression: Some(OneOrMany(gates[..1].to_vec())), ..Settings::default() };
        let won = Scenario::resolve(flags.or(parse("max_regression = \"rss_bytes=10%\"").unwrap())).unwrap();
        assert_eq!(won.gates, gates[..1]);
        let error = parse("rps = 5\nmax_regression = \"cpu=5%\"").unwrap_err();
        assert!(error.contains("line 2") && error.contains("did you mean `cpu_us_per_request`?"), "{error}");
    }

    #[test]
    fn a_resolved_scenario_says_what_auto_came_to() {
        let scenario = Scenario::resolve(Settings::default()).unwrap();
        assert_eq!(scenario.pacing, Pacing::Timer);
    }

    #[test]
    fn direct_calls_are_made_in_clumps_from_where_the_service_would_be_unless_told_otherwise() {
        let resolved = |text| Scenario::resolve(parse(text).unwrap());
        let (direct, tcp) = (resolved("transport = \"direct\"").unwrap(), resolved("service_threads = 1").unwrap());
        assert_eq!((direct.pacing, direct.service_threads), (Pacing::Coarse, 1));
        assert_eq!(direct.placement.generator, tcp.placement.service);
        assert_eq!(direct.placement.service, tcp.placement.service);
        assert_eq!(resolved("transport = \"direct\"\npacing = \"spin\"").unwrap().pacing, Pacing::Spin);
        assert_eq!(tcp.pacing, Pacing::Timer);
    }

    #[test]
    fn the_baseline_is_one_arm_even_when_it_is_named_among_the_treatments() {
        let scenario = Scenario::resolve(parse("mode = \"none,full\"").unwrap()).unwrap();
        assert_eq!(scenario.arm_names(), ["none", PLACEBO, "full"]);
    }

    #[test]
    fn arrivals_may_bring_their_own_rates() {
        assert!(matches!(
            Scenario::resolve(parse("rps = 50\narrivals = \"ramp:1..2\"").unwrap()),
            Err(ScenarioError::TwoRates(_))
        ));
        let mean = |text| Scenario::resolve(parse(text).unwrap()).unwrap().mean_rate().as_f64();
        assert_eq!(mean("rps = 50\narrivals = \"poisson\""), 50.0);
        assert_eq!(mean("arrivals = \"steps:1000,2000\""), 1_500.0);
        assert_eq!(mean("rps = 50\narrivals = \"bursts:x4,every=1s,lasts=500ms\""), 125.0);
    }

    #[test]
    fn of_two_builds_each_mode_is_compared_with_itself() {
        let build = std::env::current_exe().unwrap();
        let settings = |text| Settings { against: Some(build.clone()), ..parse(text).unwrap() };
        let scenario = Scenario::resolve(settings("mode = \"none,full\"")).unwrap();
        assert_eq!(scenario.arm_names(), ["none@base", PLACEBO, "none", "full@base", "full"]);
        for arm in &scenario.arms {
            let other = arm.name.ends_with(OTHER_BUILD) || arm.name == PLACEBO;
            assert_eq!(arm.executable.is_some(), other, "{}", arm.name);
            if arm.role != Role::Baseline {
                let reference = scenario.reference(arm).unwrap();
                assert_eq!(reference.name, format!("{}{OTHER_BUILD}", arm.mode.name));
            }
        }
        let refused = |settings| Scenario::resolve(settings).unwrap_err();
        assert!(matches!(refused(settings("baseline = \"none\"")), ScenarioError::TwoBaselines(_)));
        assert!(matches!(refused(settings("fault = \"hang\"")), ScenarioError::FaultAgainst(_)));
        let nowhere = Settings { against: Some("/nowhere/otelbench".into()), ..Settings::default() };
        assert!(refused(nowhere).to_string().starts_with("--against /nowhere/otelbench: "));
    }

    #[test]
    fn contradictions_are_refused() {
        let twice = Scenario::resolve(parse("mode = \"full,full\"").unwrap());
        assert!(matches!(twice, Err(ScenarioError::TwiceNamed(name)) if name == "full"));
        let nothing = Scenario::resolve(parse("mode = \"none\"\nno_placebo = true").unwrap());
        assert!(matches!(nothing, Err(ScenarioError::NothingToCompare(_))));
        let direct = |more| Scenario::resolve(parse(&format!("transport = \"direct\"\n{more}")).unwrap());
        assert!(matches!(direct("isolation = \"process\""), Err(ScenarioError::DirectAcrossProcesses)));
        assert!(matches!(
            direct("service_threads = 2"),
            Err(ScenarioError::DirectOnManyThreads("--service-threads", 2))
        ));
        assert!(matches!(direct("shards = 3"), Err(ScenarioError::DirectOnManyThreads("--shards", 3))));
        assert!(matches!(direct("payment = \"http\""), Err(ScenarioError::DirectWithPaymentService)));
        assert!(direct("service_threads = 1\nisolation = \"in-process\"\npayment = \"inside\"").is_ok());
    }

    #[test]
    fn every_scenario_that_readme_shows_resolves() {
        let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
        let shown = |block: &str| block.split("```").next().map(str::to_owned);
        let blocks: Vec<String> = readme.split("```toml").skip(1).filter_map(shown).collect();
        let arms: Vec<_> = blocks.iter().map(|text| Scenario::resolve(parse(text).unwrap()).unwrap().arms).collect();
        assert!(arms.iter().flatten().any(|arm| arm.mode.name == "mine" && arm.mode.traces.as_ref().unwrap().redact));
    }

    #[test]
    fn every_scenario_kept_in_the_repository_resolves() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ext| ext == "toml") {
                Scenario::resolve(Settings::from_file(&path).unwrap()).unwrap();
                seen += 1;
            }
        }
        assert!(seen > 0, "no scenario found");
    }
}

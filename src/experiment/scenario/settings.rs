//! Settings of a user, from a scenario file and the command line: each option is written here, once.

use std::fmt;
use std::fs;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::{Endpoint, Faults, Format, Isolation, OwnModes, ScenarioError, Transport, Until};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::claims::own::ClaimTables;
use crate::experiment::gate::Gate;
use crate::experiment::generator::Pacing;
use crate::experiment::mode::{self, Mode, ModeName, UnknownMode, mode_names};
use crate::experiment::payload::{Mix, Share, UserIds};
use crate::experiment::placement::{IdleCores, Pinning};
use crate::experiment::request_header::RequestHeader;
use crate::experiment::service::Payment;
use crate::experiment::slo::Slo;
use crate::experiment::units::{Rate, parse_duration, parse_positive_duration};

/// Declares [`Settings`]: keys that only a file has, and under each heading of the help the options that file and command line
/// share.
///
/// It stays one flat struct, because serde's `flatten` would lose the line numbers in the messages about a file, and the
/// refusal of unknown keys.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        file { $($(#[$key_meta:meta])* $key:ident: $key_type:ty,)* }
        $($heading:literal { $($(#[$option_meta:meta])* $option:ident: $option_type:ty,)* })*
    ) => {
        $(#[$meta])*
        pub struct Settings {
            $($(#[$key_meta])* #[arg(skip)] pub $key: Option<$key_type>,)*
            $($(#[arg(long, help_heading = $heading)] $(#[$option_meta])* pub $option: Option<$option_type>,)*)*
        }

        impl Settings {
            /// Each of these settings where it says something, else that of `other`.
            fn or_each(self, other: Self) -> Self {
                Self {
                    $($key: self.$key.or(other.$key),)*
                    $($($option: self.$option.or(other.$option),)*)*
                }
            }
        }
    };
}

settings! {
    /// Settings from a file or from flags; `None` where nothing was said.
    #[derive(Clone, Debug, Default, PartialEq, Deserialize, Args)]
    #[serde(deny_unknown_fields)]
    file {
        /// Name of the scenario, in the result and in its default path.
        name: String,
        /// Modes of the scenario's own.
        modes: OwnModes,
        /// Kinds of requests, with weights.
        mix: Mix,
        /// Claims of the scenario's own, which `claims` tests and `run` ignores.
        claims: ClaimTables,
    }
    "Load" {
        /// Limits within which the highest rate is searched, such as p99=10ms or p50=1ms,p99=10ms: on p50, p90, p99, p99.9 and
        /// max of the response time. No request may be lost either
        #[arg(value_name = "SLO")]
        slo: Slo,
        /// Requests per second; ramp and steps bring their own [default: 10000]
        #[arg(value_name = "N", allow_negative_numbers = true)]
        rps: Rate,
        /// Arrival process: constant, poisson, ramp:FROM..TO, steps:RATE,RATE,…, bursts:xFACTOR,every=TIME,lasts=TIME or
        /// sine:depth=DEPTH,period=TIME [default: constant]
        #[arg(value_name = "PROCESS")]
        arrivals: Arrivals,
        /// Keep-alive connections [default: 16]
        #[arg(value_name = "N")]
        connections: NonZeroUsize,
        /// Longest time from writing a request to the end of its answer [default: 5s]
        #[arg(value_name = "TIME", value_parser = parse_positive_duration)]
        #[serde(default, deserialize_with = "positive_duration")]
        timeout: Duration,
        /// How requests reach the service: over tcp, or by direct calls on one thread, without sockets [default: tcp]
        #[arg(value_name = "HOW", value_parser = named::<Transport>(&["tcp", "direct"]))]
        transport: Transport,
        /// Number of distinct users who place orders [default: 1000]
        #[arg(value_name = "N")]
        users: NonZeroU32,
        /// How orders are assigned to users: in-turn, uniform or zipf:EXPONENT [default: in-turn]
        #[arg(value_name = "HOW")]
        #[serde(alias = "user-ids")]
        user_ids: UserIds,
        /// Share of orders that the service must refuse after doing all the work, such as 0.01 [default: 0]
        #[arg(value_name = "SHARE", allow_negative_numbers = true)]
        #[serde(alias = "error-share")]
        error_share: Share,
        /// Header to send with every request, such as x-tenant:blue; stored in the result, so not the place for a secret. Can be
        /// repeated
        #[arg(long = "request-header", value_name = "NAME:VALUE")]
        #[serde(default, alias = "request-headers", deserialize_with = "one_or_many")]
        request_headers: Vec<RequestHeader>,
        /// Put a card number and an e-mail address into every order
        #[arg(num_args = 0, default_missing_value = "true")]
        personal: bool,
    }
    "Arms" {
        /// Modes to measure, separated by commas [default: metrics,full]
        #[arg(value_name = "MODE,…", value_delimiter = ',')]
        #[serde(default, deserialize_with = "mode_names")]
        mode: Vec<ModeName>,
        /// Mode that the others are compared with [default: none]
        #[arg(value_name = "MODE")]
        baseline: ModeName,
        /// Leave out the second baseline arm, which shows the noise floor
        #[arg(num_args = 0, default_missing_value = "true")]
        #[serde(alias = "no-placebo")]
        no_placebo: bool,
        /// Compare each mode with itself in another build of this program, launched from PATH
        #[arg(value_name = "PATH")]
        against: PathBuf,
    }
    "Rounds and stopping" {
        /// Rounds, each with fresh launches of every arm [default: 8]
        #[arg(value_name = "N")]
        rounds: NonZeroU32,
        /// Slices of load per arm and round [default: 2]
        #[arg(value_name = "N")]
        slices: NonZeroU32,
        /// Length of a slice [default: 1s]
        #[arg(value_name = "TIME", value_parser = parse_positive_duration)]
        #[serde(default, deserialize_with = "positive_duration")]
        slice: Duration,
        /// Length of the warm-up load on every fresh lane [default: 500ms]
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        #[serde(default, with = "humantime_serde::option")]
        warmup: Duration,
        /// Seed of the order of slices and of random arrivals [default: from the clock]
        #[arg(value_name = "N")]
        seed: u64,
        /// Total length of the run; rounds and slices are then chosen for the narrowest intervals, from the noise of a short run
        #[arg(value_name = "TIME", value_parser = parse_positive_duration)]
        #[serde(default, deserialize_with = "positive_duration")]
        budget: Duration,
        /// Stop before the last round: resolved, once every treatment differs from its baseline, tested at stricter levels so
        /// that several looks raise no more false alarms; or halfwidth:PCT%. There are then 30 rounds at most
        #[arg(value_name = "WHEN")]
        until: Until,
    }
    "Placement" {
        /// Where the generator runs: in the lane, or in the parent process [default: in-process]
        #[arg(value_name = "WHERE", value_parser = named::<Isolation>(&["in-process", "process"]))]
        isolation: Isolation,
        /// Whether generator and service are pinned to separate cores [default: auto]
        #[arg(value_name = "HOW", value_parser = named::<Pinning>(&["auto", "none", "apart"]))]
        pinning: Pinning,
        /// Whether idle cores sleep, or are kept awake by threads of the lowest class [default: auto]
        #[arg(value_name = "WHAT", value_parser = named::<IdleCores>(&["auto", "sleep", "awake"]))]
        #[serde(alias = "idle-cores")]
        idle_cores: IdleCores,
        /// How the generator waits for the next arrival; coarse clumps requests to 1 ms [default: auto]
        #[arg(value_name = "HOW", value_parser = named::<Pacing>(&["auto", "timer", "spin", "coarse"]))]
        pacing: Pacing,
        /// Generator threads, which share the connections [default: one per 50000 requests per second, on at most half the cores]
        #[arg(value_name = "N")]
        shards: NonZeroUsize,
    }
    "Service" {
        /// Where the payment is made: inside the order service, or by a second service over http [default: inside]
        #[arg(value_name = "WHERE", value_parser = named::<Payment>(&["inside", "http"]))]
        payment: Payment,
        /// Simulated payment duration [default: 0ms]
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        #[serde(default, alias = "payment-delay", with = "humantime_serde::option")]
        payment_delay: Duration,
        /// Worker threads of the service [default: half the cores]
        #[arg(value_name = "N")]
        #[serde(alias = "service-threads")]
        service_threads: NonZeroUsize,
    }
    "Telemetry" {
        /// OTLP/gRPC collector to use instead of the embedded sink
        #[arg(value_name = "URL")]
        endpoint: Endpoint,
        /// Measure each treatment that sends telemetry once more while the embedded sink fails: down, slow:TIME, hang,
        /// reject:unavailable, partial:N%, `reset[:N%]` or limit:SIZE. Times count from the first slice. Can be repeated
        #[arg(value_name = "FAULT[@FROM..UNTIL]")]
        #[serde(default, deserialize_with = "one_or_many")]
        fault: Vec<Faults>,
    }
    "Output" {
        /// File for the result [default: results/TIME-SCENARIO.json]
        #[arg(value_name = "PATH")]
        out: PathBuf,
        /// Format of the report on stdout [default: table]
        #[arg(value_name = "FORMAT", value_parser = named::<Format>(&["table", "json", "markdown"]))]
        format: Format,
        /// No progress and no warnings on stderr
        #[arg(num_args = 0, default_missing_value = "true")]
        quiet: bool,
        /// Gate `METRIC[:ARM]=PCT%`, such as `cpu_us_per_request:full=5%`: how much worse than its reference an arm may be. Stored
        /// with the result, for `otelbench compare`. Can be repeated
        #[arg(value_name = "GATE")]
        #[serde(default, alias = "max-regression", deserialize_with = "one_or_many")]
        max_regression: Vec<Gate>,
        /// Store the histograms of every slice, also those that no report needs
        #[arg(num_args = 0, default_missing_value = "true")]
        #[serde(alias = "keep-histograms")]
        keep_histograms: bool,
    }
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
                let line = 1 + text[..name.position().start].matches('\n').count();
                return Err(ScenarioError::UnknownModeAt { path: path.into(), line, key, source });
            }
        }
        Ok(settings)
    }

    /// The names of modes that are asked for, each with its key.
    fn mode_names(&self) -> impl Iterator<Item = (&'static str, &ModeName)> {
        let treatments = self.mode.iter().flatten().map(|name| ("mode", name));
        let claimed = self.claims.iter().flat_map(ClaimTables::mode_names);
        self.baseline.iter().map(|name| ("baseline", name)).chain(treatments).chain(claimed)
    }

    /// The mode so called, among those that are built in and the scenario's own.
    pub(super) fn find_mode(&self, name: &ModeName) -> Result<Mode, UnknownMode> {
        mode::find(name.as_str(), self.modes.as_ref().map_or(&[], |own| &own.0))
    }

    /// These settings where they say something, else those of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        // Arrivals that bring their own rates win over the other's rate too.
        let own_rates = self.arrivals.as_ref().is_some_and(Arrivals::bring_their_own_rates);
        let rps = other.rps.filter(|_| !own_rates);
        self.or_each(Self { rps, ..other })
    }
}

/// Reads one value as a text, or several as an array of texts.
fn one_or_many<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
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
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect::<Result<_, _>>().map(Some)
}

fn positive_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_positive_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// A value that is known by these names, on the command line as in a file.
pub(crate) fn named<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value::<T>(serde_json::Value::String(name)))
}

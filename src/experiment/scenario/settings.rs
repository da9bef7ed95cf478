//! What a user asked for, in a file or by flags.

use std::fmt;
use std::fs;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{
    Endpoint, Faults, Format, Isolation, ModeName, ModeNames, OwnModes, Payment, ScenarioError, Transport, Until,
};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::gate::Gate;
use crate::experiment::generator::Pacing;
use crate::experiment::mode::{self, Mode, UnknownMode};
use crate::experiment::payload::{Mix, Share, UserIds};
use crate::experiment::placement::{IdleCores, Pinning};
use crate::experiment::slo::Slo;
use crate::experiment::units::{Rate, parse_positive_duration};
use crate::verdict::claims::own::ClaimTables;

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
    pub(super) fn find_mode(&self, name: &ModeName) -> Result<Mode, UnknownMode> {
        mode::find(&name.name, self.modes.as_ref().map_or(&[], |own| &own.0))
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

fn positive_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_positive_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

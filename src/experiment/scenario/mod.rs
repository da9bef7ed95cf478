//! The scenario: settings from a file and from flags, resolved into a [`Scenario`] with every default filled in.
//!
//! A file and the flags fill the same [`Settings`]; the flag wins. Each value checks itself while it is read, so an error
//! in a file carries its line and key.

mod arms;
mod collector;
mod errors;
mod faults;
mod modes;
mod resolve;
mod settings;
mod until;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::experiment::arrivals::Arrivals;
use crate::experiment::claims::own::ClaimSelection;
use crate::experiment::gate::Gate;
use crate::experiment::generator::GeneratorSettings;
use crate::experiment::placement::Placement;
use crate::experiment::service::ServiceSettings;
use crate::experiment::slo::Slo;
use crate::experiment::units::Rate;

pub use self::arms::{Arm, Known, PLACEBO, Role};
pub(crate) use self::collector::environment_names_a_collector;
pub use self::collector::{Collector, Endpoint};
pub use self::errors::{ScenarioError, TwoRates};
pub use self::faults::{Faults, FaultsError};
pub use self::modes::OwnModes;
pub use self::settings::Settings;
pub(crate) use self::settings::named;
pub use self::until::{Until, UntilError, half_width};

/// A description of the measurement with every default filled in; stored in the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Scenario {
    /// Names the scenario.
    pub name: String,
    /// Requests per second asked of the generator; arrivals that bring their own rates ignore it. With an SLO, where the
    /// first search starts.
    #[cfg_attr(test, schemars(with = "f64"))]
    pub rps: Rate,
    /// Limits within which the highest rate of each arm is searched; absent where load is played at one rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub slo: Option<Slo>,
    /// The claims that are put to the test; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ClaimSelection>,
    /// The conditions compared; the baseline stands first.
    pub arms: Vec<Arm>,
    /// Fresh launches of every arm.
    pub rounds: u32,
    /// Slices of each arm in each round; with an SLO, as many as its search takes.
    pub slices: u32,
    /// Condition that ends the run before its last round.
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
    /// How its generator is set up.
    #[serde(flatten)]
    pub generator: GeneratorSettings,
    /// How requests reach the service.
    pub transport: Transport,
    /// Where the generator runs.
    pub isolation: Isolation,
    /// How its order service is set up.
    #[serde(flatten)]
    pub service: ServiceSettings,
    /// The cores that generator and service are kept on.
    pub placement: Placement,
    /// Where telemetry is sent.
    pub collector: Collector,
    /// How much worse than its reference this may be; no part of what is measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub gates: Vec<Gate>,
    /// Whether histograms are stored that no analysis reads; no part of what is measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_histograms: bool,
}

impl Scenario {
    /// Requests per second in a slice on the mean, which is `rps` unless the arrivals depart from it.
    pub fn mean_rate(&self) -> Rate {
        self.arrivals.mean(self.rps, self.slice)
    }

    /// Whether the values of a round come from several slices together: not if it has only one, nor in a search, where they come
    /// from the step with the answer.
    pub fn adds_up_slices(&self) -> bool {
        self.slices > 1 && self.slo.is_none()
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

/// How requests reach the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// HTTP/1.1 over loopback.
    #[default]
    Tcp,
    /// Direct calls: the handlers are called on the generator's thread, without sockets, kernel or wake-ups. What that thread
    /// spends is all on the account of `request`, the generator's own work with it; that is the same in every arm, so the
    /// difference between arms is what the telemetry calls themselves cost, and the level of an arm means little.
    Direct,
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

#[cfg(test)]
mod tests;

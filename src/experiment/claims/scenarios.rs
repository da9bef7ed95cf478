//! Short scenarios for claims that the main run cannot test.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use crate::experiment::mode::ModeName;
use crate::experiment::scenario::{Scenario, ScenarioError, Settings};
use crate::experiment::units::Rate;

/// A short scenario, played as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimScenario {
    /// A second service processes the payment.
    Payment,
    /// Orders carry card numbers and addresses, and careless handlers record them.
    Personal,
    /// Metrics are labelled with the user, and there are many users.
    Users,
    /// Environment variables describe the resource.
    Environment,
}

/// The arm whose handler spawns the payment without its context.
pub const BARE_SPAWN: &str = "bare-spawn";
/// The arm that records card numbers and addresses.
pub const LEAKING: &str = "leaking";
/// The same arm with redaction.
pub const REDACTING: &str = "redacting";
/// The same arm with its filter at DEBUG.
pub const DEBUGGING: &str = "debugging";
/// The arm whose metrics carry the user.
pub const LABELLED: &str = "labelled";
/// The same arm with a view that drops the user.
pub const VIEWED: &str = "viewed";

/// The name of the service in `OTEL_RESOURCE_ATTRIBUTES`.
pub const SERVICE: &str = "claims-resource";
/// Another attribute in it.
pub const ATTRIBUTE: (&str, &str) = ("deployment.environment.name", "claims");

/// Time in which every user places one order.
const ALL_USERS: Duration = Duration::from_secs(10);
/// Largest number of users.
const MOST_USERS: f64 = 100_000.0;
/// Highest rate of a scenario that is about the telemetry that arrives and not about its cost.
const CALM: f64 = 1_000.0;
/// Launches of every arm: two, so that an observation is repeated.
const ROUNDS: NonZeroU32 = NonZeroU32::new(2).unwrap();

const PAYMENT_TOML: &str = r#"
name = "payment"
payment = "http"
baseline = "full"
mode = ["bare-spawn", "naive"]
[modes.bare-spawn]
like = "full"
handlers = "bare-spawn"
"#;

const PERSONAL_TOML: &str = r#"
name = "personal"
personal = true
users = 16
baseline = "leaking"
mode = ["redacting", "debugging"]
[modes.leaking]
like = "full"
handlers = "careless"
logs = "otlp"
[modes.redacting]
like = "full"
handlers = "careless"
logs = "otlp"
traces.redact = true
[modes.debugging]
like = "full"
handlers = "careless"
traces.filter = "debug"
"#;

const USERS_TOML: &str = r#"
name = "users"
baseline = "bridge"
mode = ["labelled", "viewed"]
[modes.labelled]
like = "full"
handlers = "careless"
traces.exporter = "null"
[modes.viewed]
like = "full"
handlers = "careless"
traces.exporter = "null"
metrics = { recorder = "bridge", interval = "5s", views = { keep_labels = ["status"] } }
"#;

const ENVIRONMENT_TOML: &str = r#"
name = "environment"
baseline = "full"
mode = "bridge"
"#;

impl ClaimScenario {
    /// Every scenario.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::Payment, Self::Personal, Self::Users, Self::Environment];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Personal => "personal",
            Self::Users => "users",
            Self::Environment => "environment",
        }
    }

    /// The scenario, for a main run at `rps` in slices of `slice`.
    ///
    /// # Errors
    /// When the scenario contradicts itself, or the machine.
    pub fn scenario(self, rps: Rate, slice: Duration) -> Result<Scenario, ScenarioError> {
        let text = match self {
            Self::Payment => PAYMENT_TOML,
            Self::Personal => PERSONAL_TOML,
            Self::Users => USERS_TOML,
            Self::Environment => ENVIRONMENT_TOML,
        };
        let own = Settings::read(text, Path::new(self.name()))?;
        let usual = Settings {
            rps: Some(if rps.as_f64() > CALM { Rate::A_THOUSAND } else { rps }),
            rounds: Some(ROUNDS),
            slices: NonZeroU32::new(1),
            slice: Some(slice),
            warmup: Some(Duration::from_millis(200)),
            no_placebo: Some(true),
            ..Settings::default()
        };
        let particular = match self {
            Self::Users => every_user(rps),
            Self::Payment | Self::Personal | Self::Environment => Settings::default(),
        };
        let mut scenario = Scenario::resolve(particular.or(own).or(usual))?;
        if self == Self::Environment {
            let (attribute, value) = ATTRIBUTE;
            let said = format!("service.name={SERVICE},{attribute}={value}");
            for arm in &mut scenario.arms {
                arm.environment.insert("OTEL_RESOURCE_ATTRIBUTES".into(), said.clone());
            }
        }
        Ok(scenario)
    }
}

/// So many users that each places one order in a slice at this rate.
fn every_user(rps: Rate) -> Settings {
    // At least one, and no more than the constant.
    let users = (rps.as_f64() * ALL_USERS.as_secs_f64()).clamp(1.0, MOST_USERS) as u32;
    let slice = Duration::from_secs_f64(f64::from(users) / rps.as_f64());
    Settings { rps: Some(rps), users: NonZeroU32::new(users), slice: Some(slice), ..Settings::default() }
}

/// The `mode` setting for these arms; the first is the baseline.
pub fn modes(names: &[String]) -> Vec<ModeName> {
    // Every text parses as a name; resolving it comes later.
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

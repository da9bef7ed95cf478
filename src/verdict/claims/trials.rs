//! Scenarios of their own for what the run cannot show: short, and played as any other.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use super::question::Stage;
use crate::experiment::scenario::{ModeName, Scenario, ScenarioError, Settings};
use crate::experiment::units::Rate;

/// A short run of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trial {
    /// A second service makes the payment.
    Payment,
    /// Orders carry card numbers and addresses, and handlers are careless with them.
    Personal,
    /// Metrics are labelled with the user, of whom there are many.
    Users,
    /// Variables say what the resource is.
    Environment,
}

pub(super) const PAYMENT: Stage = Stage::Trial(Trial::Payment);
pub(super) const PERSONAL: Stage = Stage::Trial(Trial::Personal);
pub(super) const USERS: Stage = Stage::Trial(Trial::Users);
pub(super) const ENVIRONMENT: Stage = Stage::Trial(Trial::Environment);

pub(super) const BARE_SPAWN: &str = "bare-spawn";
pub(super) const LEAKING: &str = "leaking";
pub(super) const REDACTING: &str = "redacting";
pub(super) const DEBUGGING: &str = "debugging";
pub(super) const LABELLED: &str = "labelled";
pub(super) const VIEWED: &str = "viewed";

/// What the variable calls the service, and one more attribute of it.
pub(super) const SERVICE: &str = "claims-resource";
pub(super) const ATTRIBUTE: (&str, &str) = ("deployment.environment.name", "claims");

/// Time in which every user orders once.
const ALL_USERS: Duration = Duration::from_secs(10);
/// Most users that order.
const MOST_USERS: f64 = 100_000.0;
/// Most requests per second of a trial that is about what arrives and not about what it costs.
const CALM: f64 = 1_000.0;
/// Launches of every arm: what is seen in one is to be seen again.
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

impl Trial {
    /// Every trial.
    #[cfg(test)]
    pub(super) const ALL: [Self; 4] = [Self::Payment, Self::Personal, Self::Users, Self::Environment];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Personal => "personal",
            Self::Users => "users",
            Self::Environment => "environment",
        }
    }

    /// Its scenario, beside a run at `rps` in slices of `slice`.
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

/// As many users as order once each in a slice at this rate.
fn every_user(rps: Rate) -> Settings {
    // At least one, and no more than the constant.
    let users = (rps.as_f64() * ALL_USERS.as_secs_f64()).clamp(1.0, MOST_USERS) as u32;
    let slice = Duration::from_secs_f64(f64::from(users) / rps.as_f64());
    Settings { rps: Some(rps), users: NonZeroU32::new(users), slice: Some(slice), ..Settings::default() }
}

/// The settings that make a run of these arms: the first is the baseline.
pub(super) fn modes(names: &[String]) -> Vec<ModeName> {
    // A name is read whatever it is.
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

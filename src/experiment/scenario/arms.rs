//! The arms, the conditions that are compared, and how settings become arms.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Faults, ScenarioError, Settings, Until};
use crate::experiment::mode::Mode;

/// Name of the arm that repeats the baseline.
pub const PLACEBO: &str = "placebo";

/// Suffix of the name of an arm that runs in another build.
pub(super) const OTHER_BUILD: &str = "@base";

/// One experimental condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Arm {
    /// Unique among the arms.
    pub name: String,
    /// Purpose of the arm.
    pub role: Role,
    /// The telemetry configuration, spelled out.
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    pub mode: Mode,
    /// Faults of its collector; times count from its first slice.
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
    /// A disturbance of known size that the measurement must find; absent where there is none.
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

/// Purpose of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The others are compared with it.
    Baseline,
    /// The baseline once more: its delta is the noise floor.
    Placebo,
    /// Measured to learn its cost.
    Treatment,
}

impl Settings {
    /// The conditions to compare, which what is asked of them must fit.
    pub(super) fn arms(&self, baseline: &Mode, treatments: &[Mode]) -> Result<Vec<Arm>, ScenarioError> {
        let no_placebo = self.no_placebo.unwrap_or(false);
        let faults = self.fault.as_deref().unwrap_or_default();
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
        for gate in self.max_regression.iter().flatten() {
            gate.arms(&names, &names)?;
        }
        Ok(arms)
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

//! What has to be measured for the claims that are asked about.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::catalogue::{self, DEFAULT_QUEUE, Published};
use super::question::{Per, Quantity, Question, Sighting, Stage};
use super::{Asked, trials};
use crate::experiment::mode;
use crate::experiment::scenario::{Collector, Scenario, ScenarioError, Settings};
use crate::experiment::units::nearest;
use crate::studies::isolated;

pub use super::trials::Trial;

/// Rounds of the run, unless something else is asked for.
const ROUNDS: NonZeroU32 = NonZeroU32::new(12).unwrap();

/// Everything that is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The run, which knows what is asked; without arms and rounds where the claims need none.
    pub scenario: Scenario,
    /// Estimators to launch in isolation.
    pub isolated: Vec<String>,
    /// How often each.
    pub isolated_rounds: u32,
    /// Trials to play.
    pub trials: Vec<Trial>,
    /// Probes to carry out.
    pub probes: Vec<&'static str>,
    /// Whether to have strangers come to a receiver that asks for certificates.
    pub strangers: bool,
}

/// Why claims cannot be put to the test.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The scenario is none.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// No claim is called so.
    #[error("--only {name}: no claim is called so{}; the claims are {}", hint(.nearest.as_ref()), .known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The likest that there is.
        nearest: Option<String>,
        /// All there are.
        known: Vec<String>,
    },
    /// What the published claims settle themselves.
    #[error(
        "`{0}` is settled by the published claims; leave it out, or make claims of the scenario's own with [[claims]] tables"
    )]
    Settled(&'static str),
    /// What arrives elsewhere cannot be looked at.
    #[error(
        "the published claims are tested on what the embedded sink receives; leave `endpoint` and \
         OTEL_EXPORTER_OTLP_*ENDPOINT out"
    )]
    Elsewhere,
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

impl Plan {
    /// The plan for the claims of the scenario's own, or else for the published ones; of these the ones called as `only` has
    /// it, or all where it is empty.
    ///
    /// # Errors
    /// When there is no such claim, or the settings contradict the claims or each other.
    pub fn of(settings: Settings, only: &[String]) -> Result<Self, PlanError> {
        let settings = Settings { name: settings.name.clone().or_else(|| Some("claims".into())), ..settings };
        match settings.claims.clone() {
            Some(tables) => {
                let mut claims = tables.claims();
                chosen(only, claims.iter().map(|claim| claim.id.as_str()))?;
                claims.retain(|claim| only.is_empty() || only.contains(&claim.id));
                let asked = settings.mode.iter().flatten().map(|mode| mode.as_str().to_owned());
                let baselines = claims.iter().filter_map(|claim| claim.baseline.clone());
                let arms: BTreeSet<String> =
                    claims.iter().map(|claim| claim.arm.clone()).chain(baselines).chain(asked).collect();
                let mode = trials::modes(&arms.into_iter().collect::<Vec<String>>());
                let mut scenario = Scenario::resolve(Settings { mode: Some(mode), ..settings })?;
                scenario.claims = Some(Asked::Own(claims));
                Ok(Self {
                    scenario,
                    isolated: Vec::new(),
                    isolated_rounds: 0,
                    trials: Vec::new(),
                    probes: Vec::new(),
                    strangers: false,
                })
            }
            None => Self::of_published(settings, only),
        }
    }

    fn of_published(settings: Settings, only: &[String]) -> Result<Self, PlanError> {
        let settled = [
            (settings.mode.is_some(), "mode"),
            (settings.baseline.is_some(), "baseline"),
            (settings.modes.is_some(), "modes"),
            (settings.mix.is_some(), "mix"),
            (settings.slo.is_some(), "slo"),
            (settings.fault.is_some(), "fault"),
        ];
        if let Some((_, key)) = settled.iter().find(|(is_set, _)| *is_set) {
            return Err(PlanError::Settled(key));
        }
        let all = catalogue::all();
        chosen(only, all.iter().map(|claim| claim.id))?;
        let claims: Vec<&Published> =
            all.iter().filter(|claim| only.is_empty() || only.iter().any(|id| id == claim.id)).collect();
        let mut needs = Needs::default();
        claims.iter().flat_map(|claim| &claim.questions).for_each(|question| needs.add(question));

        let own = format!("[modes.{DEFAULT_QUEUE}]\nlike = \"traces\"\ntraces.queue = 2048\n");
        let defaults = Settings::read(&own, Path::new("claims"))?;
        let known: Vec<String> = mode::all().into_iter().map(|mode| mode.name).chain([DEFAULT_QUEUE.into()]).collect();
        let mut arms: Vec<String> = known.into_iter().filter(|name| needs.arms.contains(name)).collect();
        let measured = !arms.is_empty();
        if !measured {
            // Any will do to resolve the rest.
            arms.push("none".into());
        }
        let usual = Settings {
            mode: Some(trials::modes(&arms)),
            rounds: Some(ROUNDS),
            slices: NonZeroU32::new(1),
            slice: Some(Duration::from_secs(1)),
            ..defaults
        };
        let mut scenario = Scenario::resolve(settings.or(usual))?;
        let isolated_rounds = scenario.rounds;
        if scenario.collector != Collector::Embedded {
            return Err(PlanError::Elsewhere);
        }
        if !measured {
            scenario.arms.clear();
            scenario.rounds = 0;
        }
        scenario.claims = Some(Asked::Published(claims.iter().map(|claim| claim.id.to_owned()).collect()));
        Ok(Self {
            scenario,
            isolated: needs.isolated.into_iter().collect(),
            isolated_rounds,
            trials: needs.trials.into_iter().collect(),
            probes: needs.probes.into_iter().collect(),
            strangers: needs.strangers,
        })
    }
}

/// Refuses to be asked for a claim that there is not.
fn chosen<'a>(only: &[String], known: impl Iterator<Item = &'a str>) -> Result<(), PlanError> {
    let known: Vec<&str> = known.collect();
    match only.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(PlanError::Unknown {
            name: name.clone(),
            nearest: nearest(name, known.iter().copied()).map(str::to_owned),
            known: known.into_iter().map(str::to_owned).collect(),
        }),
    }
}

/// What questions need.
#[derive(Default)]
struct Needs {
    arms: BTreeSet<String>,
    isolated: BTreeSet<String>,
    trials: BTreeSet<Trial>,
    probes: BTreeSet<&'static str>,
    strangers: bool,
}

impl Needs {
    fn add(&mut self, question: &Question) {
        match &question.quantity {
            Quantity::Cost { stage, arm, baseline, per, .. } => {
                self.at(*stage, &[arm, baseline]);
                self.converting(*per);
            }
            Quantity::Relative { arm, baseline, .. } => self.at(Stage::Run, &[arm, baseline]),
            Quantity::Lanes { arm, less, .. } => {
                self.at(Stage::Run, &[arm]);
                self.at(Stage::Run, less.as_slice());
            }
            Quantity::Calls { more, less, per } => {
                self.isolated.extend([more.clone()].into_iter().chain(less.clone()));
                self.converting(*per);
            }
            Quantity::Times { more, less } => self.isolated.extend([more.clone(), less.clone()]),
            Quantity::Scaling { family } => {
                let all = isolated::all().into_iter().map(|estimator| estimator.name);
                self.isolated.extend(all.filter(|name| name.starts_with(family.as_str())));
            }
            Quantity::Count(sighting) => match *sighting {
                Sighting::LostSpans { arm } => self.at(Stage::Run, &[arm]),
                Sighting::WrongTraces { stage, arm }
                | Sighting::LeakedTexts { stage, arm }
                | Sighting::ExtraSpans { stage, arm }
                | Sighting::SpansNotOf { stage, arm, .. }
                | Sighting::LanesWithout { stage, arm, .. } => self.at(stage, &[arm]),
                Sighting::SeriesBeyond { stage, arm, other } => self.at(stage, &[arm, other]),
                Sighting::StrangersHeard => self.strangers = true,
                Sighting::Unpanicked { probe, .. } | Sighting::Probed { probe, .. } => drop(self.probes.insert(probe)),
            },
        }
    }

    fn at(&mut self, stage: Stage, arms: &[impl AsRef<str>]) {
        match stage {
            Stage::Run => self.arms.extend(arms.iter().map(|arm| arm.as_ref().to_owned())),
            Stage::Trial(trial) => drop(self.trials.insert(trial)),
        }
    }

    fn converting(&mut self, per: Per) {
        if let Per::Span(arm) | Per::Service(arm) = per {
            self.at(Stage::Run, &[arm]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::units::Rate;
    use crate::studies::probe;

    fn planned(only: &[&str]) -> Result<Plan, PlanError> {
        let only: Vec<String> = only.iter().map(|id| (*id).to_owned()).collect();
        Plan::of(Settings::default(), &only)
    }

    #[test]
    fn every_claim_can_be_measured_with_what_there_is() {
        let plan = planned(&[]).unwrap();
        let arms = plan.scenario.arm_names();
        assert_eq!(arms[..3], ["none", "placebo", "bare"], "{arms:?}");
        assert!(arms.iter().any(|arm| arm == DEFAULT_QUEUE));
        for name in &plan.isolated {
            assert!(isolated::named(name).is_ok(), "{name}");
        }
        for name in &plan.probes {
            assert!(probe::named(name).is_ok(), "{name}");
        }
        assert_eq!(plan.trials, Trial::ALL);
        for trial in plan.trials {
            let scenario = trial.scenario(Rate::TEN_THOUSAND, Duration::from_secs(1)).unwrap();
            assert_eq!(scenario.name, trial.name());
        }
    }

    #[test]
    fn what_questions_look_at_in_a_trial_is_an_arm_of_it() {
        for question in catalogue::all().iter().flat_map(|claim| &claim.questions) {
            let (stage, arms) = match &question.quantity {
                Quantity::Cost { stage, arm, baseline, .. } => (*stage, vec![arm.as_str(), baseline.as_str()]),
                Quantity::Count(
                    Sighting::WrongTraces { stage, arm }
                    | Sighting::LeakedTexts { stage, arm }
                    | Sighting::ExtraSpans { stage, arm }
                    | Sighting::SpansNotOf { stage, arm, .. }
                    | Sighting::LanesWithout { stage, arm, .. },
                ) => (*stage, vec![*arm]),
                Quantity::Count(Sighting::SeriesBeyond { stage, arm, other }) => (*stage, vec![*arm, *other]),
                _ => continue,
            };
            let Stage::Trial(trial) = stage else { continue };
            let names = trial.scenario(Rate::TEN_THOUSAND, Duration::from_secs(1)).unwrap().arm_names();
            assert!(arms.iter().all(|arm| names.iter().any(|name| name == arm)), "{arms:?} of {names:?}");
        }
    }

    #[test]
    fn claims_that_need_no_run_have_none_and_an_unknown_one_gets_the_nearest_name() {
        let plan = planned(&["metric-record", "single-recorder"]).unwrap();
        assert_eq!((plan.scenario.rounds, plan.scenario.arms.len(), plan.isolated.len()), (0, 0, 8));
        assert_eq!((plan.probes, plan.trials.len()), (vec!["second-install", "second-provider"], 0));
        let error = planned(&["metric-recrod"]).unwrap_err().to_string();
        assert!(
            error.starts_with("--only metric-recrod: no claim is called so, did you mean `metric-record`?"),
            "{error}"
        );
    }

    #[test]
    fn claims_of_the_scenarios_own_have_the_arms_measured_that_they_name() {
        let claim = |id: &str, arm: &str, more: &str| {
            format!(
                "[[claims]]\nid = \"{id}\"\nstatement = \"it is cheap\"\nmetric = \"rss_bytes\"\narm = \"{arm}\"\n\
                 limit = 20\nunit = \"bytes\"\n{more}\n"
            )
        };
        let text = [claim("a", "mine", ""), claim("b", "full", "baseline = \"traces\"")].concat()
            + "[modes.mine]\nlike = \"full\"\ntraces.queue = 2048\n";
        let settings = || toml::from_str::<Settings>(&text).unwrap();
        let plan = Plan::of(settings(), &[]).unwrap();
        assert_eq!(plan.scenario.arm_names(), ["none", "placebo", "full", "mine", "traces"]);
        assert!(plan.isolated.is_empty() && plan.trials.is_empty() && !plan.strangers);
        let plan = Plan::of(settings(), &["a".to_owned()]).unwrap();
        assert_eq!(plan.scenario.arm_names(), ["none", "placebo", "mine"]);
        let error = Plan::of(settings(), &["queue-10k".to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("the claims are a, b"), "{error}");
    }

    #[test]
    fn what_the_published_claims_settle_is_refused() {
        let settings: Settings = toml::from_str("mode = \"full\"").unwrap();
        assert!(matches!(Plan::of(settings, &[]), Err(PlanError::Settled("mode"))));
        let settings: Settings = toml::from_str("endpoint = \"http://h:1\"").unwrap();
        assert!(matches!(Plan::of(settings, &[]), Err(PlanError::Elsewhere)));
    }
}

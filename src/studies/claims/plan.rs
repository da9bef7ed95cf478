//! The plan for a set of claims: the arms, scenarios, estimators and probes that their questions need.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use crate::experiment::claims::catalogue::{self, DEFAULT_QUEUE, PublishedClaim};
use crate::experiment::claims::own::{ClaimSelection, ClaimTables};
use crate::experiment::claims::question::{ClaimQuestion, CountCheck, Per, Quantity, Source};
use crate::experiment::claims::scenarios::{self, ClaimScenario};
use crate::experiment::mode;
use crate::experiment::scenario::{Collector, Scenario, ScenarioError, Settings};
use crate::experiment::units::nearest;
use crate::studies::isolated;

/// Rounds of the main run, unless the user sets others.
const ROUNDS: NonZeroU32 = NonZeroU32::new(12).unwrap();

/// Everything to measure.
#[derive(Clone, Debug)]
pub struct ClaimPlan {
    /// The main run with the selected claims; without arms and rounds where the claims need none.
    pub scenario: Scenario,
    /// Estimators to launch in isolation.
    pub isolated: Vec<String>,
    /// Launches of each.
    pub isolated_rounds: u32,
    /// Short scenarios to play.
    pub scenarios: Vec<ClaimScenario>,
    /// Probes to carry out.
    pub probes: Vec<&'static str>,
    /// Whether unauthorised clients try a receiver that asks for certificates.
    pub tls_attempts: bool,
}

/// Why claims cannot be tested.
#[derive(Debug, Error)]
pub enum ClaimPlanError {
    /// The scenario is invalid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// No claim has this id.
    #[error("--only {name}: unknown claim{}; the claims are {}", hint(.nearest.as_ref()), .known.join(", "))]
    Unknown {
        /// The id.
        name: String,
        /// The most similar id.
        nearest: Option<String>,
        /// Every id.
        known: Vec<String>,
    },
    /// A setting that the published claims determine.
    #[error(
        "the published claims determine `{0}`; leave it out, or state the scenario's own claims in [[claims]] tables"
    )]
    Determined(&'static str),
    /// Telemetry that goes elsewhere cannot be checked.
    #[error(
        "the published claims check the telemetry that the embedded sink receives; leave out `endpoint` and \
         OTEL_EXPORTER_OTLP_*ENDPOINT"
    )]
    ExternalCollector,
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

impl ClaimPlan {
    /// The plan for the scenario's own claims, or else for the published ones: those whose ids are in `only`, or all where it is
    /// empty.
    ///
    /// # Errors
    /// When there is no such claim, or the settings contradict the claims or each other.
    pub fn of(settings: Settings, only: &[String]) -> Result<Self, ClaimPlanError> {
        let settings = Settings { name: settings.name.clone().or_else(|| Some("claims".into())), ..settings };
        match settings.claims.clone() {
            Some(tables) => Self::of_own(settings, &tables, only),
            None => Self::of_published(settings, only),
        }
    }

    fn of_own(settings: Settings, tables: &ClaimTables, only: &[String]) -> Result<Self, ClaimPlanError> {
        let mut claims = tables.claims();
        check_ids(only, claims.iter().map(|claim| claim.id.as_str()))?;
        claims.retain(|claim| only.is_empty() || only.contains(&claim.id));
        let modes = settings.mode.iter().flatten().map(|mode| mode.as_str().to_owned());
        let baselines = claims.iter().filter_map(|claim| claim.baseline.clone());
        let arms: BTreeSet<String> =
            claims.iter().map(|claim| claim.arm.clone()).chain(baselines).chain(modes).collect();
        let mode = scenarios::modes(&arms.into_iter().collect::<Vec<String>>());
        let mut scenario = Scenario::resolve(Settings { mode: Some(mode), ..settings })?;
        scenario.claims = Some(ClaimSelection::Own(claims));
        Ok(Self {
            scenario,
            isolated: Vec::new(),
            isolated_rounds: 0,
            scenarios: Vec::new(),
            probes: Vec::new(),
            tls_attempts: false,
        })
    }

    fn of_published(settings: Settings, only: &[String]) -> Result<Self, ClaimPlanError> {
        let determined = [
            (settings.mode.is_some(), "mode"),
            (settings.baseline.is_some(), "baseline"),
            (settings.modes.is_some(), "modes"),
            (settings.mix.is_some(), "mix"),
            (settings.slo.is_some(), "slo"),
            (settings.fault.is_some(), "fault"),
        ];
        if let Some((_, key)) = determined.iter().find(|(is_set, _)| *is_set) {
            return Err(ClaimPlanError::Determined(key));
        }
        let all = catalogue::all();
        check_ids(only, all.iter().map(|claim| claim.id))?;
        let claims: Vec<&PublishedClaim> =
            all.iter().filter(|claim| only.is_empty() || only.iter().any(|id| id == claim.id)).collect();
        let mut needs = Needs::default();
        claims.iter().flat_map(|claim| &claim.questions).for_each(|question| needs.add(question));

        let own = format!("[modes.{DEFAULT_QUEUE}]\nlike = \"traces\"\ntraces.queue = 2048\n");
        let defaults = Settings::read(&own, Path::new("claims"))?;
        let known: Vec<String> = mode::all().into_iter().map(|mode| mode.name).chain([DEFAULT_QUEUE.into()]).collect();
        let mut arms: Vec<String> = known.into_iter().filter(|name| needs.arms.contains(name)).collect();
        let measured = !arms.is_empty();
        if !measured {
            // Resolving the rest takes an arm, whichever it is.
            arms.push("none".into());
        }
        let usual = Settings {
            mode: Some(scenarios::modes(&arms)),
            rounds: Some(ROUNDS),
            slices: NonZeroU32::new(1),
            slice: Some(Duration::from_secs(1)),
            ..defaults
        };
        let mut scenario = Scenario::resolve(settings.or(usual))?;
        let isolated_rounds = scenario.rounds;
        if scenario.collector != Collector::Embedded {
            return Err(ClaimPlanError::ExternalCollector);
        }
        if !measured {
            scenario.arms.clear();
            scenario.rounds = 0;
        }
        scenario.claims = Some(ClaimSelection::Published(claims.iter().map(|claim| claim.id.to_owned()).collect()));
        Ok(Self {
            scenario,
            isolated: needs.isolated.into_iter().collect(),
            isolated_rounds,
            scenarios: needs.scenarios.into_iter().collect(),
            probes: needs.probes.into_iter().collect(),
            tls_attempts: needs.tls_attempts,
        })
    }
}

/// Rejects an unknown id.
fn check_ids<'a>(only: &[String], known: impl Iterator<Item = &'a str>) -> Result<(), ClaimPlanError> {
    let known: Vec<&str> = known.collect();
    match only.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(ClaimPlanError::Unknown {
            name: name.clone(),
            nearest: nearest(name, known.iter().copied()).map(str::to_owned),
            known: known.into_iter().map(str::to_owned).collect(),
        }),
    }
}

/// The needs of questions.
#[derive(Default)]
struct Needs {
    arms: BTreeSet<String>,
    isolated: BTreeSet<String>,
    scenarios: BTreeSet<ClaimScenario>,
    probes: BTreeSet<&'static str>,
    tls_attempts: bool,
}

impl Needs {
    fn add(&mut self, question: &ClaimQuestion) {
        match &question.quantity {
            Quantity::Cost { source, arm, baseline, per, .. } => {
                self.at(*source, &[arm, baseline]);
                self.converting(*per);
            }
            Quantity::Relative { arm, baseline, .. } => self.at(Source::Run, &[arm, baseline]),
            Quantity::Lanes { arm, less, .. } => {
                self.at(Source::Run, &[arm]);
                self.at(Source::Run, less.as_slice());
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
            Quantity::Count(check) => match *check {
                CountCheck::LostSpans { arm } => self.at(Source::Run, &[arm]),
                CountCheck::WrongTraces { source, arm }
                | CountCheck::LeakedTexts { source, arm }
                | CountCheck::ExtraSpans { source, arm }
                | CountCheck::SpansOfOtherServices { source, arm, .. }
                | CountCheck::LanesWithoutAttribute { source, arm, .. } => self.at(source, &[arm]),
                CountCheck::ExtraSeries { source, arm, other } => self.at(source, &[arm, other]),
                CountCheck::UnauthorisedClients => self.tls_attempts = true,
                CountCheck::InstallsWithoutPanic { probe, .. } | CountCheck::Probe { probe, .. } => {
                    self.probes.insert(probe);
                }
            },
        }
    }

    fn at(&mut self, source: Source, arms: &[impl AsRef<str>]) {
        match source {
            Source::Run => self.arms.extend(arms.iter().map(|arm| arm.as_ref().to_owned())),
            Source::Scenario(scenario) => {
                self.scenarios.insert(scenario);
            }
        }
    }

    fn converting(&mut self, per: Per) {
        if let Per::Span(arm) | Per::Service(arm) = per {
            self.at(Source::Run, &[arm]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::units::Rate;
    use crate::studies::probe;

    fn planned(only: &[&str]) -> Result<ClaimPlan, ClaimPlanError> {
        let only: Vec<String> = only.iter().map(|id| (*id).to_owned()).collect();
        ClaimPlan::of(Settings::default(), &only)
    }

    #[test]
    fn every_claim_needs_only_existing_estimators_probes_and_scenarios() {
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
        assert_eq!(plan.scenarios, ClaimScenario::ALL);
        for short in plan.scenarios {
            let scenario = short.scenario(Rate::TEN_THOUSAND, Duration::from_secs(1)).unwrap();
            assert_eq!(scenario.name, short.name());
        }
    }

    #[test]
    fn the_scenarios_have_the_arms_that_questions_name() {
        for question in catalogue::all().iter().flat_map(|claim| &claim.questions) {
            let (source, arms) = match &question.quantity {
                Quantity::Cost { source, arm, baseline, .. } => (*source, vec![arm.as_str(), baseline.as_str()]),
                Quantity::Count(
                    CountCheck::WrongTraces { source, arm }
                    | CountCheck::LeakedTexts { source, arm }
                    | CountCheck::ExtraSpans { source, arm }
                    | CountCheck::SpansOfOtherServices { source, arm, .. }
                    | CountCheck::LanesWithoutAttribute { source, arm, .. },
                ) => (*source, vec![*arm]),
                Quantity::Count(CountCheck::ExtraSeries { source, arm, other }) => (*source, vec![*arm, *other]),
                _ => continue,
            };
            let Source::Scenario(short) = source else { continue };
            let names = short.scenario(Rate::TEN_THOUSAND, Duration::from_secs(1)).unwrap().arm_names();
            assert!(arms.iter().all(|arm| names.iter().any(|name| name == arm)), "{arms:?} of {names:?}");
        }
    }

    #[test]
    fn claims_without_end_to_end_questions_need_no_run_and_an_unknown_id_gets_the_nearest_one() {
        let plan = planned(&["metric-record", "single-recorder"]).unwrap();
        assert_eq!((plan.scenario.rounds, plan.scenario.arms.len(), plan.isolated.len()), (0, 0, 8));
        assert_eq!((plan.probes, plan.scenarios.len()), (vec!["second-install", "second-provider"], 0));
        let error = planned(&["metric-recrod"]).unwrap_err().to_string();
        assert!(error.starts_with("--only metric-recrod: unknown claim, did you mean `metric-record`?"), "{error}");
    }

    #[test]
    fn own_claims_add_the_arms_that_they_name() {
        let claim = |id: &str, arm: &str, more: &str| {
            format!(
                "[[claims]]\nid = \"{id}\"\nstatement = \"it is cheap\"\nmetric = \"rss_bytes\"\narm = \"{arm}\"\n\
                 limit = 20\nunit = \"bytes\"\n{more}\n"
            )
        };
        let text = [claim("a", "mine", ""), claim("b", "full", "baseline = \"traces\"")].concat()
            + "[modes.mine]\nlike = \"full\"\ntraces.queue = 2048\n";
        let settings = || toml::from_str::<Settings>(&text).unwrap();
        let plan = ClaimPlan::of(settings(), &[]).unwrap();
        assert_eq!(plan.scenario.arm_names(), ["none", "placebo", "full", "mine", "traces"]);
        assert!(plan.isolated.is_empty() && plan.scenarios.is_empty() && !plan.tls_attempts);
        let plan = ClaimPlan::of(settings(), &["a".to_owned()]).unwrap();
        assert_eq!(plan.scenario.arm_names(), ["none", "placebo", "mine"]);
        let error = ClaimPlan::of(settings(), &["queue-10k".to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("the claims are a, b"), "{error}");
    }

    #[test]
    fn settings_that_the_published_claims_determine_are_rejected() {
        let settings: Settings = toml::from_str("mode = \"full\"").unwrap();
        assert!(matches!(ClaimPlan::of(settings, &[]), Err(ClaimPlanError::Determined("mode"))));
        let settings: Settings = toml::from_str("endpoint = \"http://h:1\"").unwrap();
        assert!(matches!(ClaimPlan::of(settings, &[]), Err(ClaimPlanError::ExternalCollector)));
    }
}

//! Settings to scenario: every default filled in, every contradiction refused.

use std::num::{NonZeroU32, NonZeroUsize};
use std::thread;
use std::time::Duration;

use super::{
    Collector, Isolation, Payment, Scenario, ScenarioError, Settings, Transport, TwoRates,
    environment_names_a_collector,
};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::{self, Pacing};
use crate::experiment::mode::{self, Mode};
use crate::experiment::payload::{Payload, Share};
use crate::experiment::placement::{IdleCores, Placement};
use crate::experiment::units::Rate;
use crate::os::cores;

/// Rounds at most of a run that may end before its last.
const ROUNDS_AT_MOST: u32 = 30;

/// The overload that a capacity step shows unless its length is given, as a share of the capacity.
const OVERLOAD_SHOWN: f64 = 0.02;

/// The overload that a capacity step must show: the bound on what a rate that held may be above the capacity.
const OVERLOAD_MISSED: f64 = 0.05;

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
            Some(names) => names.iter().map(|name| find("mode", name)).collect::<Result<_, _>>()?,
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
            gates: settings.max_regression.unwrap_or_default(),
        })
    }
}

impl Settings {
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
}

fn known(name: &str) -> Mode {
    mode::named(name).expect("the defaults name modes that exist")
}

/// Half the cores: the generator, the exporters and the sink need the rest.
fn default_service_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

//! From settings to scenario: fills in every default, and refuses what contradicts something else.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::{
    Arm, Collector, Isolation, Scenario, ScenarioError, Settings, Transport, TwoRates, environment_names_a_collector,
};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::{GeneratorSettings, Pacing, shards};
use crate::experiment::mode::{self, Mode};
use crate::experiment::payload::{Payload, Share};
use crate::experiment::placement::{IdleCores, Placement};
use crate::experiment::request_header::RequestHeader;
use crate::experiment::service::{Payment, ServiceSettings};
use crate::experiment::slo::Slo;
use crate::experiment::units::Rate;
use crate::os::cores;

/// Rounds of a run that is asked for nothing else.
const ROUNDS: u32 = 8;
/// Rounds at most of a run that may end before its last.
const ROUNDS_AT_MOST: u32 = 30;

/// Most headers that are added to a request: with its own, what servers and the parser of direct calls take.
const MOST_HEADERS: usize = 50;

/// The overload that a capacity step shows unless its length is given, as a share of the capacity.
const OVERLOAD_SHOWN: f64 = 0.02;
/// The overload that a capacity step must show: the bound on what a rate that held may be above the capacity.
const OVERLOAD_MISSED: f64 = 0.05;

impl Scenario {
    /// Fills in every default of a run, which has no SLO.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn resolve(settings: Settings) -> Result<Self, ScenarioError> {
        let (baseline, treatments) = settings.modes_to_compare()?;
        settings.the_budget_stands_alone()?;
        let arms = settings.arms(&baseline, &treatments)?;
        let arrivals = settings.arrivals.clone().unwrap_or_default();
        TwoRates::refuse(settings.rps, &arrivals)?;
        let collector = settings.collector(&arms)?;
        let rps = settings.rps.unwrap_or(Rate::TEN_THOUSAND);
        let cores = cores::allowed_cores();
        let service = settings.service()?;
        let generator = settings.generator(arrivals.peak(rps), cores.len())?;
        let placement = settings.placement(&cores, &generator, &service);
        let usual_rounds = if settings.until.is_some() { ROUNDS_AT_MOST } else { ROUNDS };
        Ok(Self {
            name: settings.name.unwrap_or_else(|| "run".into()),
            rps,
            slo: None,
            claims: None,
            arms,
            rounds: settings.rounds.map_or(usual_rounds, NonZeroU32::get),
            slices: settings.slices.map_or(2, NonZeroU32::get),
            until: settings.until,
            budget: settings.budget,
            slice: settings.slice.unwrap_or(Duration::from_secs(1)),
            warmup: settings.warmup.unwrap_or(Duration::from_millis(500)),
            arrivals,
            generator,
            transport: settings.transport.unwrap_or_default(),
            isolation: settings.isolation.unwrap_or_default(),
            service,
            placement,
            collector,
            gates: settings.max_regression.unwrap_or_default(),
            keep_histograms: settings.keep_histograms.unwrap_or(false),
        })
    }

    /// Fills in every default of a search for the capacity.
    ///
    /// # Errors
    /// When there is no SLO, or the settings contradict it or each other.
    pub fn of_capacity(settings: Settings) -> Result<Self, ScenarioError> {
        let slo = settings.slo.clone().ok_or(ScenarioError::NoSlo)?;
        if let Some(budget) = settings.budget {
            return Err(ScenarioError::BudgetOfSearches(humantime::format_duration(budget)));
        }
        let usual = settings.usual_of_capacity(&slo);
        let scenario = Self::resolve(Settings { slices: NonZeroU32::new(1), ..settings }.or(usual))?;
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
        let timeout = scenario.generator.timeout;
        if timeout < slo.longest() {
            let least = written(slo.longest());
            return Err(ScenarioError::TimeoutTooShort { timeout: written(timeout), slo, least });
        }
        Ok(Self { slo: Some(slo), ..scenario })
    }
}

impl Settings {
    /// Defaults of a search within `slo`, where they are not those of a run.
    fn usual_of_capacity(&self, slo: &Slo) -> Self {
        // How high the search goes is not known, so the generator has all the shards that there is room for.
        let shards = match self.transport.unwrap_or_default() {
            Transport::Tcp => NonZeroUsize::new(shards(None, cores::allowed_cores().len())),
            Transport::Direct => None,
        };
        Self {
            name: Some("capacity".into()),
            rounds: NonZeroU32::new(5),
            slice: Some(slo.shows_overload_in(OVERLOAD_SHOWN).max(Duration::from_secs(1))),
            // What an overloaded step leaves behind is waited for no longer than it takes to know that it was.
            timeout: Some((slo.longest() * 2).max(Duration::from_secs(1))),
            shards,
            ..Self::default()
        }
    }

    /// The baseline, and the treatments.
    fn modes_to_compare(&self) -> Result<(Mode, Vec<Mode>), ScenarioError> {
        let find = |key, name| self.find_mode(name).map_err(|unknown| ScenarioError::UnknownMode(key, unknown));
        let baseline = match &self.baseline {
            Some(name) => find("baseline", name)?,
            None => known("none"),
        };
        let treatments = match &self.mode {
            Some(names) => names.iter().map(|name| find("mode", name)).collect::<Result<_, _>>()?,
            None => vec![known("metrics"), known("full")],
        };
        Ok((baseline, treatments))
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

    /// Where telemetry is sent; only the embedded sink fails on request.
    fn collector(&self, arms: &[Arm]) -> Result<Collector, ScenarioError> {
        let collector = match &self.endpoint {
            Some(endpoint) => Collector::Endpoint(endpoint.as_str().to_owned()),
            None if environment_names_a_collector() => Collector::Environment,
            None => Collector::Embedded,
        };
        match arms.iter().find(|arm| !arm.faults.is_none() && collector != Collector::Embedded) {
            Some(faulty) => Err(ScenarioError::FaultElsewhere(faulty.faults.clone())),
            None => Ok(collector),
        }
    }

    /// The settings of the order service.
    fn service(&self) -> Result<ServiceSettings, ScenarioError> {
        let usual = ServiceSettings::default();
        let transport = self.transport.unwrap_or_default();
        let asked_threads = self.service_threads.map(NonZeroUsize::get);
        let threads = match (transport, self.isolation.unwrap_or_default(), asked_threads) {
            (Transport::Tcp, _, asked) => asked.unwrap_or(usual.threads),
            (Transport::Direct, Isolation::Process, _) => return Err(ScenarioError::DirectAcrossProcesses),
            (Transport::Direct, _, Some(n @ 2..)) => {
                return Err(ScenarioError::DirectOnManyThreads("--service-threads", n));
            }
            (Transport::Direct, _, _) => 1,
        };
        let payment = self.payment.unwrap_or(usual.payment);
        if (transport, payment) == (Transport::Direct, Payment::Http) {
            return Err(ScenarioError::DirectWithPaymentService);
        }
        Ok(ServiceSettings { payment, payment_delay: self.payment_delay.unwrap_or(usual.payment_delay), threads })
    }

    /// The settings of the generator, for a rate that peaks at `peak` and on so many cores.
    fn generator(&self, peak: Rate, cores: usize) -> Result<GeneratorSettings, ScenarioError> {
        let usual = GeneratorSettings::default();
        let transport = self.transport.unwrap_or_default();
        let connections = self.connections.map_or(usual.connections, NonZeroUsize::get);
        let shards = match (transport, self.shards.map(NonZeroUsize::get)) {
            (Transport::Tcp, asked) => asked.unwrap_or_else(|| shards(Some(peak), cores)).min(connections),
            (Transport::Direct, Some(n @ 2..)) => return Err(ScenarioError::DirectOnManyThreads("--shards", n)),
            (Transport::Direct, _) => usual.shards,
        };
        let pacing = match (self.pacing.unwrap_or_default(), transport) {
            // Waking up for each request would put tens of microseconds of kernel on the very thread whose cost is
            // asked for. Nothing waits for an answer here, so clumps flatter nothing that is compared.
            (Pacing::Auto, Transport::Direct) => Pacing::Coarse,
            (asked, _) => asked.resolved(),
        };
        Ok(GeneratorSettings {
            payload: self.payload()?,
            request_headers: self.request_headers()?,
            pacing,
            connections,
            shards,
            timeout: self.timeout.unwrap_or(usual.timeout),
        })
    }

    /// The headers that are added to every request.
    fn request_headers(&self) -> Result<Vec<RequestHeader>, ScenarioError> {
        let headers = self.request_headers.clone().unwrap_or_default();
        match headers.len() {
            0..=MOST_HEADERS => Ok(headers),
            many => Err(ScenarioError::TooManyHeaders { many, most: MOST_HEADERS }),
        }
    }

    /// The content of the requests.
    fn payload(&self) -> Result<Payload, ScenarioError> {
        let usual = Payload::default();
        let payload = Payload {
            users: self.users.unwrap_or(usual.users),
            user_ids: self.user_ids.unwrap_or(usual.user_ids),
            error_share: self.error_share.unwrap_or(usual.error_share),
            personal: self.personal.unwrap_or(usual.personal),
            mix: self.mix.clone().unwrap_or(usual.mix),
        };
        if payload.error_share > Share::default() && !payload.mix.has_orders() {
            return Err(ScenarioError::NothingToRefuse);
        }
        Ok(payload)
    }

    /// The cores for generator and service.
    fn placement(&self, cores: &[usize], generator: &GeneratorSettings, service: &ServiceSettings) -> Placement {
        let transport = self.transport.unwrap_or_default();
        let idle_cores = match (self.idle_cores.unwrap_or_default(), transport) {
            // Nobody is woken where nothing crosses threads.
            (IdleCores::Auto, Transport::Direct) => IdleCores::Sleep,
            (asked, _) => asked,
        };
        let pinning = self.pinning.unwrap_or_default();
        let placement = Placement::of(pinning, idle_cores, cores, generator.shards, service.threads);
        match transport {
            Transport::Tcp => placement,
            Transport::Direct => placement.on_one_thread(),
        }
    }
}

fn known(name: &str) -> Mode {
    mode::named(name).expect("the defaults name modes that exist")
}

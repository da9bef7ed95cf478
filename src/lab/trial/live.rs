//! Lanes that are processes, with the embedded sink beside them if telemetry goes there.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ended, Lanes, name_hash};
use crate::experiment::mode::Tls;
use crate::experiment::plan::Plan;
use crate::experiment::scenario::{Arm, Collector, Isolation, Known, Scenario};
use crate::experiment::service::{Payment, SPANS, SPANS_OF_TWO_SERVICES, ServiceSettings};
use crate::generator::Load;
use crate::lab::certificates::Certificates;
use crate::lab::lane::LOOPBACK;
use crate::lab::lane::host::{Lane, LaneError, Whereabouts};
use crate::lab::lane::protocol::{GeneratorSetup, PROTOCOL, Start};
use crate::lab::workload::Workload;
use crate::record::load::LoadResult;
use crate::record::machine::Tool;
use crate::record::usage::ResourceUsage;
use crate::sink::{Caller, Receiver, ReceiverConfig, Sink, TreeShape};
use crate::sut::telemetry::{Destination, PAYMENT_SERVICE_NAME};

/// Users whose card number and e-mail address the sink looks for in what it receives: each costs it a search of every
/// payload.
const SECRETS: u32 = 16;

/// Real lanes.
#[derive(Debug)]
pub struct LiveLanes {
    executable: PathBuf,
    scenario: Scenario,
    plan: Plan,
    sink: Option<Sink>,
    certificates: Option<Certificates>,
    running: HashMap<String, Live>,
}

/// A lane that runs.
#[derive(Debug)]
struct Live {
    lane: Lane,
    receiver: Option<Receiver>,
    /// For how long its process is stopped in every slice.
    stop: Option<Duration>,
    /// Whether its first slice has begun.
    is_warm: bool,
}

impl LiveLanes {
    /// Lanes of `executable`.
    ///
    /// # Errors
    /// When the sink cannot be started.
    pub fn new(executable: PathBuf, scenario: Scenario, plan: Plan) -> io::Result<Self> {
        let sink = match scenario.collector {
            Collector::Embedded => Some(Sink::start()?),
            Collector::Endpoint(_) | Collector::Environment => None,
        };
        let certificates = match &sink {
            Some(_) if scenario.arms.iter().any(|arm| arm.mode.export.tls == Tls::Mutual) => {
                Some(Certificates::make().map_err(io::Error::other)?)
            }
            Some(_) | None => None,
        };
        Ok(Self { executable, scenario, plan, sink, certificates, running: HashMap::new() })
    }

    /// The certificates for the lane of `arm`, where its mode wants them.
    fn certificates(&self, arm: &Arm) -> Option<&Certificates> {
        self.certificates.as_ref().filter(|_| arm.mode.export.tls == Tls::Mutual)
    }

    /// Has the embedded sink listen for a lane that is sent the orders of `workload`; `None` where telemetry goes elsewhere.
    fn receiver(&self, arm: &Arm, workload: Workload) -> Result<Option<Receiver>, LaneError> {
        let Some(sink) = &self.sink else { return Ok(None) };
        let Scenario { generator, service, .. } = &self.scenario;
        let forbidden = if generator.payload.personal { workload.secrets(SECRETS) } else { Vec::new() };
        let config = ReceiverConfig {
            tls: self.certificates(arm).map(|certificates| certificates.server.clone()),
            faults: arm.faults.0.clone(),
            faults_wait: true,
            lost_span: match arm.known {
                Some(Known::LostSpan(number)) => Some(number),
                _ => None,
            },
            forbidden,
            ..ReceiverConfig::at(LOOPBACK, trees(service.payment, workload))
        };
        sink.listen(config).map(Some).map_err(|error| LaneError {
            arm: arm.name.clone(),
            what: format!("has no sink to send to: {error}"),
            stderr: Vec::new(),
        })
    }

    /// How the service of the lane of `arm` is set up.
    fn service_setup(&self, arm: &Arm, receiver: Option<&Receiver>) -> Start {
        let scenario = &self.scenario;
        let endpoint = match &scenario.collector {
            Collector::Embedded => receiver.map(Receiver::endpoint),
            Collector::Endpoint(url) => Some(url.clone()),
            Collector::Environment => None,
        };
        let usual = scenario.service.clone();
        Start {
            protocol: PROTOCOL,
            mode: arm.mode.clone(),
            destination: Destination {
                endpoint,
                tls: self.certificates(arm).map(|certificates| certificates.client.clone()),
            },
            transport: scenario.transport,
            service: match arm.known {
                Some(Known::Delay(payment_delay)) => ServiceSettings { payment_delay, ..usual },
                _ => usual,
            },
            service_cores: scenario.placement.service.clone(),
            generator: None,
            injected_ns: arm.injected_us.map(|us| (us * 1e3).round() as u64),
        }
    }

    /// How the generator of the lane of `arm` is set up.
    fn generator_setup(&self, arm: &Arm, nonce: u64, seed: u64) -> GeneratorSetup {
        GeneratorSetup {
            nonce,
            seed,
            settings: self.scenario.generator.clone(),
            recorded_share: arm.mode.recorded_share(),
            may_spin: self.scenario.placement.spare,
            cores: self.scenario.placement.generator.clone(),
        }
    }
}

impl Lanes for LiveLanes {
    async fn launch(&mut self, round: u32, arm: &Arm) -> Result<(), LaneError> {
        // Every lane of a round is sent the same requests, but for their ids.
        let seed = self.plan.slice_seed(round, 0);
        // Unlike any other lane's of this run, and of any other run but by chance.
        let nonce = seed.rotate_left(17) ^ name_hash(&arm.name);
        let receiver = self.receiver(arm, Workload::new(nonce, seed, &self.scenario.generator.payload))?;
        let start = self.service_setup(arm, receiver.as_ref());
        let setup = self.generator_setup(arm, nonce, seed);
        let generator_runs = match self.scenario.isolation {
            Isolation::InProcess => Whereabouts::Inside,
            Isolation::Process => Whereabouts::Here,
        };
        let executable = arm.executable.as_deref().unwrap_or(&self.executable);
        let lane = Lane::launch(executable, &arm.environment, &arm.name, start, setup, generator_runs).await?;
        let stop = match arm.known {
            Some(Known::Stop(lasts)) => Some(lasts),
            _ => None,
        };
        self.running.insert(arm.name.clone(), Live { lane, receiver, stop, is_warm: false });
        Ok(())
    }

    fn begin(&mut self, arm: &str) {
        let Some(live) = self.running.get_mut(arm) else { return };
        live.is_warm = true;
        if let Some(receiver) = &live.receiver {
            receiver.begin();
        }
    }

    async fn play(&mut self, arm: &str, load: Load) -> Result<(LoadResult, ResourceUsage), LaneError> {
        let wait = load.duration + self.scenario.generator.timeout;
        let Live { lane, stop, is_warm, .. } = self.running.get_mut(arm).ok_or_else(|| not_running(arm))?;
        let (Some(stop), true, Some(pid)) = (*stop, *is_warm, lane.pid()) else { return lane.play(load, wait).await };
        let begins = load.duration.saturating_sub(stop) / 2;
        let (played, stopped) = tokio::join!(lane.play(load, wait + stop), stopped(pid, begins, stop));
        let what =
            |error| LaneError { arm: arm.into(), what: format!("cannot be stopped: {error}"), stderr: Vec::new() };
        stopped.map_err(what).and(played)
    }

    async fn finish(&mut self, arm: &str) -> Result<Ended, LaneError> {
        let Live { lane, receiver, .. } = self.running.remove(arm).ok_or_else(|| not_running(arm))?;
        let tool = lane.tool().filter(|tool| **tool != Tool::this()).cloned();
        // The lane has had an answer to its last export, so the sink has all it will get.
        let account = lane.finish().await?;
        Ok(Ended { account, received: receiver.map(|receiver| receiver.received()), tool })
    }
}

/// Stops a process, `begins` from now, and lets it go on when `lasts` has passed, and no sooner.
async fn stopped(pid: u32, begins: Duration, lasts: Duration) -> nix::Result<()> {
    let pid = Pid::from_raw(pid.cast_signed());
    tokio::time::sleep(begins).await;
    kill(pid, Signal::SIGSTOP)?;
    tokio::time::sleep(lasts).await;
    kill(pid, Signal::SIGCONT)
}

fn not_running(arm: &str) -> LaneError {
    LaneError { arm: arm.into(), what: "is not running".into(), stderr: Vec::new() }
}

/// The trees that the traces should form when `workload` called the order service, and payments are made there or by a
/// service of their own.
pub fn trees(payment: Payment, workload: Workload) -> TreeShape {
    let caller = Some(Arc::new(workload) as Arc<dyn Caller>);
    match payment {
        Payment::Inside => TreeShape::new(SPANS, caller),
        Payment::Http => {
            TreeShape::new(SPANS_OF_TWO_SERVICES, caller).from_service("accept_payment", PAYMENT_SERVICE_NAME)
        }
    }
}

/// The trees that the order service's traces should form when `workload` called it.
pub fn order_trees(workload: Workload) -> TreeShape {
    trees(Payment::Inside, workload)
}

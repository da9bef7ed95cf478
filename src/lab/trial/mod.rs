//! Drives a plan over lanes, and records.
//!
//! A round launches a fresh lane for every arm and warms each up; then the slices are played, on one lane at a time and in
//! the plan's order, the others idle; then all lanes end and give their account. In a search for the capacity the slices
//! are its steps, and there are as many as it takes. What a lane is, this module does not know: [`Lanes`] is real in
//! [`LiveLanes`] and scripted in tests.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

use crate::experiment::mode::Tls;
use crate::experiment::plan::Plan;
use crate::experiment::scenario::{Arm, Collector, Isolation, Known, Payment, Scenario};
use crate::experiment::service::{SPANS, SPANS_OF_TWO_SERVICES};
use crate::experiment::slo::Slo;
use crate::experiment::units::Rate;
use crate::generator::Load;
use crate::lab::certificates::Certificates;
use crate::lab::lane::LOOPBACK;
use crate::lab::lane::host::{Lane, LaneError, Whereabouts};
use crate::lab::lane::protocol::{GeneratorSetup, PROTOCOL, Start};
use crate::lab::workload::Workload;
use crate::record::account::Account;
use crate::record::load::{LoadResult, Verdict};
use crate::record::machine::Tool;
use crate::record::received::Received;
use crate::record::records::{LaneRecord, RecordLog, RecordsError, SliceRecord};
use crate::record::usage::ResourceUsage;
use crate::sink::{Caller, Receiver, ReceiverConfig, Sink, TreeShape};
use crate::sut::telemetry::{Destination, PAYMENT_SERVICE_NAME};
use crate::verdict::analysis::{self, VOID_INVALID};
use crate::verdict::capacity::{self, Next, Search, Step, StepOutcome};

/// Users whose card number and e-mail address the sink looks for in what it receives: each costs it a search of every
/// payload.
const SECRETS: u32 = 16;

/// What a trial is doing, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A lane is being launched and warmed up.
    Warming {
        /// Round, from 0.
        round: u32,
        /// The arm.
        arm: String,
        /// How long the load will last.
        lasts: Duration,
    },
    /// A slice is being played.
    Playing {
        /// Round, from 0.
        round: u32,
        /// The arm.
        arm: String,
        /// How long the load will last.
        lasts: Duration,
    },
    /// A step of a search is being played.
    Trying {
        /// Round, from 0.
        round: u32,
        /// The arm.
        arm: String,
        /// The rate that is tried.
        rate: Rate,
        /// How long the load will last.
        lasts: Duration,
    },
    /// The lanes of a round are ending.
    Ending {
        /// Round, from 0.
        round: u32,
    },
    /// What the last event announced is done.
    Done,
}

/// Why a trial stopped before its end. What was recorded until then is kept.
#[derive(Debug, Error)]
pub enum TrialError {
    /// A lane did not start, or died.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// A record could not be written.
    #[error("cannot write a record: {0}")]
    Records(#[from] RecordsError),
}

/// What is left of a lane that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What the service says of its telemetry.
    pub account: Account,
    /// What the sink received; `None` where telemetry went elsewhere.
    pub received: Option<Received>,
    /// The build that ran it, where that was not this one.
    pub tool: Option<Tool>,
}

/// The lanes of one round.
pub trait Lanes {
    /// Launches a fresh lane for `arm`.
    fn launch(&mut self, round: u32, arm: &Arm) -> impl Future<Output = Result<(), LaneError>>;

    /// Notes that the lane of `arm` is warm: its first slice begins, and with it the timeline of its collector's faults.
    fn begin(&mut self, arm: &str);

    /// Plays load on the lane of `arm`.
    fn play(&mut self, arm: &str, load: Load) -> impl Future<Output = Result<(LoadResult, ResourceUsage), LaneError>>;

    /// Ends the lane of `arm`.
    fn finish(&mut self, arm: &str) -> impl Future<Output = Result<Ended, LaneError>>;
}

/// Runs the plan that `log` was begun with: in each round its slices, or where there is an SLO a search for the capacity of
/// each arm. Rounds that `log` has already are not played again; nor is the rest when more rounds are void than a valid run may
/// have, or when what the scenario waits for has come.
///
/// # Errors
/// When a lane fails or a record cannot be written.
pub async fn run(lanes: &mut impl Lanes, log: &mut RecordLog, watch: &mut impl FnMut(Event)) -> Result<(), TrialError> {
    let header = log.records().header.clone();
    let mut trial = Trial {
        scenario: &header.scenario,
        plan: &header.plan,
        lanes,
        log,
        watch,
        lives: HashMap::new(),
        void: BTreeSet::new(),
        answers: HashMap::new(),
    };
    let played = trial.log.records();
    let ended = played.rounds_ended() as usize;
    let is_void =
        |slice: &&SliceRecord| slice.played.validity.verdict == Verdict::Invalid && header.scenario.slo.is_none();
    trial.void = played.slices.iter().filter(is_void).map(|slice| slice.round).collect();
    for (round, order) in (0..header.plan.rounds).zip(&header.plan.order).skip(ended) {
        let arms = in_order(&header.scenario.arms, order);
        trial.launch(round, &arms).await?;
        match &header.scenario.slo {
            None => trial.play(round, order).await?,
            Some(slo) => trial.search(round, order, slo).await?,
        }
        trial.end(round, &arms).await?;
        if trial.is_lost(round) || analysis::is_decided(trial.log.records()) {
            break;
        }
    }
    Ok(())
}

/// A trial that goes on.
struct Trial<'a, L, W> {
    scenario: &'a Scenario,
    plan: &'a Plan,
    lanes: &'a mut L,
    log: &'a mut RecordLog,
    watch: &'a mut W,
    /// The lanes of the round, by their arms.
    lives: HashMap<&'a str, Life>,
    void: BTreeSet<u32>,
    /// The last capacity found of each arm.
    answers: HashMap<&'a str, Rate>,
}

impl<'a, L: Lanes, W: FnMut(Event)> Trial<'a, L, W> {
    /// Launches a fresh lane for every arm, one after the other, and warms each up.
    async fn launch(&mut self, round: u32, arms: &[&'a Arm]) -> Result<(), TrialError> {
        let scenario = self.scenario;
        for arm in arms {
            (self.watch)(Event::Warming { round, arm: arm.name.clone(), lasts: scenario.warmup });
            self.lanes.launch(round, arm).await?;
            let life = self.lives.entry(&arm.name).or_default();
            if !scenario.warmup.is_zero() {
                // The slices of a round are numbered from 0; the warm-up must not share the arrivals of any.
                let load = life.load(scenario, self.plan.slice_seed(round, u32::MAX), scenario.rps, scenario.warmup);
                life.note(&self.lanes.play(&arm.name, load).await?.0);
            }
            (self.watch)(Event::Done);
        }
        Ok(())
    }

    /// Plays the round's slices in their order.
    async fn play(&mut self, round: u32, order: &'a [String]) -> Result<(), TrialError> {
        for arm in order {
            (self.watch)(Event::Playing { round, arm: arm.clone(), lasts: self.scenario.slice });
            let played = self.slice(round, arm, self.scenario.rps).await?;
            if played.validity.verdict == Verdict::Invalid {
                self.void.insert(round);
            }
            (self.watch)(Event::Done);
            if self.is_lost(round) {
                break;
            }
        }
        Ok(())
    }

    /// Searches for the capacity of every arm. The searches take turns, a step each: what the machine does meanwhile
    /// meets them all. The round is void once one of them cannot decide.
    async fn search(&mut self, round: u32, order: &'a [String], slo: &Slo) -> Result<(), TrialError> {
        let Scenario { rps, slice: lasts, .. } = *self.scenario;
        let mut searches: Vec<(&str, Search)> = order
            .iter()
            .map(|arm| {
                let near = |rate| capacity::near(rate, self.plan.slice_seed(round, 0) ^ name_hash(arm));
                let search = match self.answers.get(arm.as_str()) {
                    None => Search::from(near(rps), lasts),
                    Some(answer) => Search::around(near(*answer), lasts),
                };
                (arm.as_str(), search)
            })
            .collect();
        loop {
            let mut ended = true;
            for (arm, search) in &mut searches {
                match search.next() {
                    Next::Found(rate) => drop(self.answers.insert(arm, rate)),
                    Next::Undecided(_) => {
                        self.void.insert(round);
                        return Ok(());
                    }
                    Next::Try(rate) => {
                        ended = false;
                        (self.watch)(Event::Trying { round, arm: (*arm).into(), rate, lasts });
                        let played = self.slice(round, arm, rate).await?;
                        search.note(Step { rate, outcome: StepOutcome::of(&played, slo) });
                        (self.watch)(Event::Done);
                    }
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Plays one slice and records it.
    async fn slice(&mut self, round: u32, arm: &'a str, rate: Rate) -> Result<LoadResult, TrialError> {
        let life = self.lives.entry(arm).or_default();
        let slice = life.slices;
        if slice == 0 {
            self.lanes.begin(arm);
        }
        let load = life.load(self.scenario, self.plan.slice_seed(round, slice), rate, self.scenario.slice);
        let (played, spent) = self.lanes.play(arm, load).await?;
        life.note(&played);
        life.slices += 1;
        self.log.slice(SliceRecord { round, slice, arm: arm.into(), played: played.clone(), spent })?;
        Ok(played)
    }

    /// Whether more rounds are worth their time. A run is invalid once too many are void; searches are once none of the
    /// first two rounds could decide.
    fn is_lost(&self, round: u32) -> bool {
        match self.scenario.slo {
            None => self.void.len() as f64 > VOID_INVALID * f64::from(self.plan.rounds),
            Some(_) => round >= 1 && (0..=round).all(|earlier| self.void.contains(&earlier)),
        }
    }

    /// Ends every lane and records its account.
    async fn end(&mut self, round: u32, arms: &[&'a Arm]) -> Result<(), TrialError> {
        (self.watch)(Event::Ending { round });
        for arm in arms {
            let Ended { account, received, tool } = self.lanes.finish(&arm.name).await?;
            let life = self.lives.remove(arm.name.as_str()).unwrap_or_default();
            self.log.lane(LaneRecord {
                round,
                arm: arm.name.clone(),
                orders_completed: life.completed,
                orders_uncertain: life.uncertain,
                account,
                received,
                tool,
            })?;
        }
        (self.watch)(Event::Done);
        Ok(())
    }
}

/// The arms as the round's slices first meet them. Which lane is launched first is drawn with the plan: the scheduler places
/// the first one's threads on an idle machine, and an arm that always came first would have that in its favour.
fn in_order<'a>(arms: &'a [Arm], order: &[String]) -> Vec<&'a Arm> {
    let mut arms: Vec<&Arm> = arms.iter().collect();
    arms.sort_by_key(|arm| order.iter().position(|name| *name == arm.name));
    arms
}

/// What a lane has been through so far.
#[derive(Default)]
struct Life {
    slices: u32,
    sent: u64,
    completed: u64,
    uncertain: u64,
}

impl Life {
    fn load(&self, scenario: &Scenario, seed: u64, rate: Rate, duration: Duration) -> Load {
        Load { arrivals: scenario.arrivals.clone(), rate, duration, seed, first_seq: self.sent }
    }

    fn note(&mut self, played: &LoadResult) {
        let counts = &played.load;
        self.sent += counts.scheduled;
        // A status is an answer, whatever it says: the service has counted that order.
        let answered: u64 =
            counts.failed.iter().filter(|(class, _)| class.starts_with("status_")).map(|(_, n)| n).sum();
        self.completed += counts.completed + answered - played.mix.probes_answered;
        self.uncertain += counts.failures() - answered + counts.timed_out + counts.in_flight;
    }
}

/// Real lanes, with the embedded sink beside them if telemetry goes there.
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
}

impl Lanes for LiveLanes {
    async fn launch(&mut self, round: u32, arm: &Arm) -> Result<(), LaneError> {
        let scenario = &self.scenario;
        // Every lane of a round is sent the same requests, but for their ids.
        let seed = self.plan.slice_seed(round, 0);
        // Unlike any other lane's of this run, and of any other run but by chance.
        let nonce = seed.rotate_left(17) ^ name_hash(&arm.name);
        let workload = Workload::new(nonce, seed, &scenario.payload);
        let forbidden = if scenario.payload.personal { workload.secrets(SECRETS) } else { Vec::new() };
        let certificates = self.certificates.as_ref().filter(|_| arm.mode.export.tls == Tls::Mutual);
        let reception = ReceiverConfig {
            tls: certificates.map(|certificates| certificates.server.clone()),
            faults: arm.faults.0.clone(),
            faults_wait: true,
            lost_span: match arm.known {
                Some(Known::LostSpan(number)) => Some(number),
                _ => None,
            },
            forbidden,
            ..ReceiverConfig::at(LOOPBACK, trees(scenario.payment, workload))
        };
        let receiver = match &self.sink {
            None => None,
            Some(sink) => Some(sink.listen(reception).map_err(|error| LaneError {
                arm: arm.name.clone(),
                what: format!("has no sink to send to: {error}"),
                stderr: Vec::new(),
            })?),
        };
        let endpoint = match &scenario.collector {
            Collector::Embedded => receiver.as_ref().map(Receiver::endpoint),
            Collector::Endpoint(url) => Some(url.clone()),
            Collector::Environment => None,
        };
        let start = Start {
            protocol: PROTOCOL,
            mode: arm.mode.clone(),
            destination: Destination { endpoint, tls: certificates.map(|certificates| certificates.client.clone()) },
            transport: scenario.transport,
            payment: scenario.payment,
            payment_delay: match arm.known {
                Some(Known::Delay(delay)) => delay,
                _ => scenario.payment_delay,
            },
            service_threads: scenario.service_threads,
            service_cores: scenario.placement.service.clone(),
            generator: None,
            injected_ns: arm.injected_us.map(|us| (us * 1e3).round() as u64),
        };
        let setup = GeneratorSetup {
            nonce,
            seed,
            payload: scenario.payload.clone(),
            recorded_share: arm.mode.recorded_share(),
            connections: scenario.connections,
            shards: scenario.shards,
            pacing: scenario.pacing,
            may_spin: scenario.placement.spare,
            cores: scenario.placement.generator.clone(),
            timeout: scenario.timeout,
        };
        let generator_runs = match scenario.isolation {
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
        let wait = load.duration + self.scenario.timeout;
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

/// FNV-1a: stable between builds, unlike the standard hasher.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How long a scenario's load lasts in all, warm-ups included; `None` where searches decide that.
pub fn load_time(scenario: &Scenario) -> Option<Duration> {
    let per_lane = scenario.warmup + scenario.slice * scenario.slices;
    scenario.slo.is_none().then(|| per_lane * scenario.rounds * scenario.arms.len() as u32)
}

#[cfg(test)]
mod tests;

//! Drives a plan over lanes, and records.
//!
//! A round launches a fresh lane for every arm and warms each up; then the slices are played, on one lane at a time and in
//! the plan's order, the others idle; then all lanes end and give their account. In a search for the capacity the slices
//! are its steps, and there are as many as it takes. What a lane is, this module does not know: [`Lanes`] is real in
//! [`LiveLanes`] and scripted in tests.

mod live;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use thiserror::Error;

use crate::experiment::plan::Plan;
use crate::experiment::scenario::{Arm, Scenario};
use crate::experiment::slo::Slo;
use crate::experiment::units::Rate;
use crate::generator::Load;
use crate::lab::lane::host::LaneError;
use crate::record::account::Account;
use crate::record::load::LoadResult;
use crate::record::machine::Tool;
use crate::record::received::Received;
use crate::record::records::{LaneRecord, RecordLog, RecordsError, SliceRecord};
use crate::record::usage::ResourceUsage;
use crate::verdict::analysis::{self, VOID_INVALID};
use crate::verdict::capacity::{self, Next, Search, Step, StepOutcome};

pub use self::live::{LiveLanes, order_trees, trees};

/// Progress of a trial, for whoever watches.
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
    /// The step that the last event announced is done.
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

/// Report of a lane that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Telemetry as the service counted it.
    pub account: Account,
    /// Telemetry as the sink counted it; `None` where it went elsewhere.
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
        counters: HashMap::new(),
        void: BTreeSet::new(),
        answers: HashMap::new(),
    };
    let played = trial.log.records();
    let ended = played.rounds_ended() as usize;
    let is_void = |slice: &&SliceRecord| slice.played.validity.is_invalid() && header.scenario.slo.is_none();
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
    /// Those of the lanes of the round, by their arms.
    counters: HashMap<&'a str, LaneCounters>,
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
            let counters = self.counters.entry(&arm.name).or_default();
            if !scenario.warmup.is_zero() {
                // The slices of a round are numbered from 0; the warm-up must not share the arrivals of any.
                let load =
                    counters.load(scenario, self.plan.slice_seed(round, u32::MAX), scenario.rps, scenario.warmup);
                counters.note(&self.lanes.play(&arm.name, load).await?.0);
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
            if played.validity.is_invalid() {
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
        let counters = self.counters.entry(arm).or_default();
        let slice = counters.slices;
        if slice == 0 {
            self.lanes.begin(arm);
        }
        let load = counters.load(self.scenario, self.plan.slice_seed(round, slice), rate, self.scenario.slice);
        let (played, spent) = self.lanes.play(arm, load).await?;
        counters.note(&played);
        counters.slices += 1;
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
            let counters = self.counters.remove(arm.name.as_str()).unwrap_or_default();
            self.log.lane(LaneRecord {
                round,
                arm: arm.name.clone(),
                orders_completed: counters.completed,
                orders_uncertain: counters.uncertain,
                account,
                received,
                tool,
            })?;
        }
        (self.watch)(Event::Done);
        Ok(())
    }
}

/// Counts of what a lane was sent so far, and of its answers.
#[derive(Default)]
struct LaneCounters {
    slices: u32,
    sent: u64,
    completed: u64,
    uncertain: u64,
}

impl LaneCounters {
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

/// The arms as the round's slices first meet them. Which lane is launched first is drawn with the plan: the scheduler places
/// the first one's threads on an idle machine, and an arm that always came first would have that in its favour.
fn in_order<'a>(arms: &'a [Arm], order: &[String]) -> Vec<&'a Arm> {
    let mut arms: Vec<&Arm> = arms.iter().collect();
    arms.sort_by_key(|arm| order.iter().position(|name| *name == arm.name));
    arms
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

//! The open-loop load generator: plays a [`Schedule`](crate::experiment::arrivals::Schedule) of arrivals over keep-alive connections.
//!
//! It is one shard or several, each a thread with a current-thread runtime, connections and histograms of its own, so its
//! cost is its own and no request crosses threads: of one schedule, each plays every n-th arrival. A due arrival becomes a
//! spawned task that takes any idle connection of its shard; with none idle it waits in a bounded backlog with its intended
//! time kept. The response time runs from the *intended* time (no coordinated omission), the service time from the write.
//!
//! `shard` plays, `pacing` waits, `wire` exchanges, `tally` counts, `verdict` judges the generator itself. It knows nothing
//! of modes.

mod kind;
mod pacing;
mod shard;
mod tally;
mod verdict;
mod wire;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::Pacing;
use crate::experiment::units::Rate;
use crate::os::clock;

pub use self::kind::Kind;
pub(crate) use self::wire::parsed;
pub use self::wire::{Client, Handler};

#[cfg(test)]
pub(crate) use self::tally::{answered, answered_after};

use self::shard::{Job, Place};
use self::tally::Part;
use crate::record::load::LoadResult;

/// What the names of the generator's threads begin with, by which their CPU time is told from others'.
pub const THREAD: &str = "generator";

/// Between the command to play and the first arrival: long enough for the pacer to be waiting when it is due.
const LEAD: Duration = Duration::from_millis(2);

/// The requests to send, as a pure function of their sequence number.
pub trait Requests: Send + Sync {
    /// Makes `request` the whole HTTP/1.1 request number `seq`, whatever was in it before, and says of what kind it is.
    fn write(&self, seq: u64, request: &mut Vec<u8>) -> Kind;
}

/// The same request every time.
#[derive(Clone, Debug)]
pub struct Constant(pub Vec<u8>);

impl Requests for Constant {
    fn write(&self, _: u64, request: &mut Vec<u8>) -> Kind {
        request.clone_from(&self.0);
        Kind::Work
    }
}

/// What the generator drives, and how.
#[derive(Clone)]
pub struct Target {
    /// What carries the requests, and to whom.
    pub client: Client,
    /// What to send.
    pub requests: Arc<dyn Requests>,
    /// Keep-alive connections; where there is no wire, calls at a time.
    pub connections: usize,
    /// Threads that share them and the schedule; never more than there are connections.
    pub shards: usize,
    /// How to wait for the next arrival.
    pub pacing: Pacing,
    /// Whether a shard may spend the last moments before an arrival looking at the clock, which nobody else's core pays for.
    pub may_spin: bool,
    /// The cores that the generator's threads are kept on; empty for any.
    pub cores: Vec<usize>,
    /// Time a request may take from when it was written.
    pub timeout: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("client", &self.client)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Exchanges under way at a time, over all connections.
    fn slots(&self) -> usize {
        self.connections * self.client.streams()
    }
}

/// One stretch of load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Arrival process.
    pub arrivals: Arrivals,
    /// Requests per second; arrivals that bring their own rates ignore it.
    pub rate: Rate,
    /// How long arrivals are due.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
    /// Seeds random arrivals.
    pub seed: u64,
    /// Sequence number of the first request.
    pub first_seq: u64,
}

/// A running generator. Dropping it ends its threads.
#[derive(Debug)]
pub struct Generator {
    shards: Vec<mpsc::UnboundedSender<Job>>,
    slots: usize,
    cut: Arc<AtomicBool>,
}

/// What decides when the next request is sent.
#[derive(Clone, Debug)]
enum Demand {
    /// The schedule, whatever the server does.
    Open(Load),
    /// The server: each connection sends again as soon as it has its answer.
    Closed(Duration),
}

impl Generator {
    /// Starts the generator's threads and opens its connections.
    ///
    /// # Errors
    /// When a thread, its runtime or a connection cannot be made.
    pub async fn start(target: Target) -> io::Result<Self> {
        let cut = Arc::new(AtomicBool::new(false));
        let slots = target.slots();
        let of = target.shards.clamp(1, target.connections.max(1));
        let mut shards = Vec::with_capacity(of);
        for number in 0..of {
            let place = Place { number, of };
            shards.push(shard::start(target.clone(), place, Arc::clone(&cut)).await?);
        }
        Ok(Self { shards, slots, cut })
    }

    /// Plays one stretch of load and reports on it, when the last answer is in or its time is out.
    ///
    /// # Errors
    /// When a thread of the generator is gone.
    pub async fn play(&self, load: Load) -> io::Result<LoadResult> {
        let asked = load.arrivals.mean(load.rate, load.duration).as_f64();
        self.meet(Demand::Open(load), Some(asked)).await
    }

    /// Sends as fast as the connections allow for so long: a closed loop, whose response times say nothing about what a
    /// user would meet.
    ///
    /// # Errors
    /// When a thread of the generator is gone.
    pub async fn saturate(&self, duration: Duration) -> io::Result<LoadResult> {
        self.meet(Demand::Closed(duration), None).await
    }

    /// Cuts the stretch that is being played short; it is reported on within a fraction of a second.
    pub fn cut_short(&self) {
        self.cut.store(true, Relaxed);
    }

    async fn meet(&self, demand: Demand, asked: Option<f64>) -> io::Result<LoadResult> {
        self.cut.store(false, Relaxed);
        let stolen_before = clock::steal()?;
        let start = Instant::now() + LEAD;
        let parts = self.shards.iter().map(async |shard| {
            let (reply, answer) = oneshot::channel();
            let gone = || io::Error::other("a thread of the generator is gone");
            shard.send(Job { demand: demand.clone(), start, reply }).map_err(|_| gone())?;
            answer.await.map_err(|_| gone())
        });
        let parts: Vec<Part> = try_join_all(parts).await?;
        let stolen = clock::steal()?.saturating_sub(stolen_before);
        Ok(tally::conclude(asked, &parts, self.slots, stolen))
    }
}

#[cfg(test)]
mod tests;

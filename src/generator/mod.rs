//! The open-loop load generator: plays a [`Schedule`](crate::experiment::arrivals::Schedule) of arrivals over keep-alive
//! connections.
//!
//! It has one or more shards. Each shard is a thread with its own current-thread runtime, connections and histograms, so
//! its CPU time can be accounted for and no request crosses threads. Of n shards, each plays every n-th arrival. A due
//! arrival becomes a spawned task that takes any idle connection of its shard; if none is idle, it waits in a bounded
//! backlog and keeps its intended time. Response time runs from the *intended* send time (no coordinated omission),
//! service time from the actual write.
//!
//! `shard` plays the schedule, `pacing` waits for arrivals, `wire` sends requests and reads responses, `tally` counts, and
//! `verdict` judges the generator itself. Nothing here knows about telemetry modes.

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
use self::tally::ShardReport;
use crate::record::load::LoadResult;

/// Prefix of the generator's thread names. The meter attributes CPU time by it.
pub const THREAD: &str = "generator";

/// Time between the command to play and the first arrival, so that the pacer is already waiting when it is due.
const LEAD: Duration = Duration::from_millis(2);

/// Produces the requests to send, as a pure function of their sequence number.
pub trait Requests: Send + Sync {
    /// Replaces the contents of `request` with the whole HTTP/1.1 request number `seq` and returns its kind.
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

/// The server under load and the settings of the generator.
#[derive(Clone)]
pub struct Target {
    /// The client to send with, and the address of the server.
    pub client: Client,
    /// Produces the requests.
    pub requests: Arc<dyn Requests>,
    /// Number of keep-alive connections; with the direct transport, number of concurrent calls.
    pub connections: usize,
    /// Number of threads that share the connections and the schedule; at most one per connection.
    pub shards: usize,
    /// How to wait for the next arrival.
    pub pacing: Pacing,
    /// Whether a shard may busy-wait just before an arrival. Only sensible if its core is not shared with the server.
    pub may_spin: bool,
    /// CPU cores to pin the generator's threads to; empty for no pinning.
    pub cores: Vec<usize>,
    /// Time-out of a request, from its write.
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
    /// Maximum number of requests in flight, over all connections.
    fn slots(&self) -> usize {
        self.connections * self.client.streams()
    }
}

/// One stretch of load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Arrival process.
    pub arrivals: Arrivals,
    /// Requests per second; ignored by arrival processes that define their own rates.
    pub rate: Rate,
    /// Length of the schedule.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
    /// Seed of random arrival processes.
    pub seed: u64,
    /// Sequence number of the first request.
    pub first_seq: u64,
}

/// A running generator. Dropping it stops its threads.
#[derive(Debug)]
pub struct Generator {
    shards: Vec<mpsc::UnboundedSender<Job>>,
    slots: usize,
    cut: Arc<AtomicBool>,
}

/// Open or closed loop.
#[derive(Clone, Debug)]
enum Demand {
    /// Requests are sent on schedule, no matter how fast the server answers.
    Open(Load),
    /// Each connection sends its next request as soon as it has the response to the last.
    Closed(Duration),
}

impl Generator {
    /// Starts the generator's threads and opens its connections.
    ///
    /// # Errors
    /// If a thread, its runtime or a connection cannot be created.
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

    /// Plays one stretch of load. Returns when the last response has arrived or timed out.
    ///
    /// # Errors
    /// If a thread of the generator has died.
    pub async fn play(&self, load: Load) -> io::Result<LoadResult> {
        let asked = load.arrivals.mean(load.rate, load.duration).as_f64();
        self.meet(Demand::Open(load), Some(asked)).await
    }

    /// Sends as fast as the connections allow for `duration`: a closed loop. Its response times suffer from coordinated
    /// omission and say nothing about what users would see.
    ///
    /// # Errors
    /// If a thread of the generator has died.
    pub async fn saturate(&self, duration: Duration) -> io::Result<LoadResult> {
        self.meet(Demand::Closed(duration), None).await
    }

    /// Stops the current stretch early. Its result is available within a fraction of a second.
    pub fn cut_short(&self) {
        self.cut.store(true, Relaxed);
    }

    async fn meet(&self, demand: Demand, asked: Option<f64>) -> io::Result<LoadResult> {
        self.cut.store(false, Relaxed);
        let stolen_before = clock::steal()?;
        let start = Instant::now() + LEAD;
        let parts = self.shards.iter().map(async |shard| {
            let (reply, answer) = oneshot::channel();
            let gone = || io::Error::other("a generator thread has died");
            shard.send(Job { demand: demand.clone(), start, reply }).map_err(|_| gone())?;
            answer.await.map_err(|_| gone())
        });
        let parts: Vec<ShardReport> = try_join_all(parts).await?;
        let stolen = clock::steal()?.saturating_sub(stolen_before);
        Ok(tally::conclude(asked, &parts, self.slots, stolen))
    }
}

#[cfg(test)]
mod tests;

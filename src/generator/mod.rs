//! The open-loop load generator: plays a [`Schedule`] of arrivals over keep-alive connections.
//!
//! It runs on a thread and a current-thread runtime of its own, so its cost is its own. A due arrival becomes a spawned
//! task that takes any idle connection; with none idle it waits in a bounded backlog with its intended time kept. The
//! response time runs from the *intended* time (no coordinated omission), the service time from the write.
//!
//! `pacing` waits, `wire` exchanges, `tally` counts, `verdict` judges the generator itself. It knows nothing of modes.

mod pacing;
mod tally;
mod verdict;
mod wire;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;

use crate::arrivals::{Arrivals, Schedule};
use crate::meter;
use crate::placement;
use crate::units::Rate;

pub use self::pacing::Pacing;
pub use self::tally::{Hdr, LoadCounts, Played, Quantiles, RateAchieved, decode};
pub use self::verdict::{Validity, Verdict};

#[cfg(test)]
pub(crate) use self::tally::answered;

use self::pacing::Pacer;
use self::tally::Tally;
use self::wire::Connection;

/// Name of the generator's thread, by which its CPU time is told from others'.
pub const THREAD: &str = "generator";

/// Arrivals that may wait for a connection. Deep enough to ride out a stall of a second at 16 000 requests per second,
/// and bounded so that a server that cannot keep up shows as missed arrivals and not as memory.
const BACKLOG: usize = 16_384;

/// Between the command to play and the first arrival: long enough for the pacer to be waiting when it is due.
const LEAD: Duration = Duration::from_millis(2);

/// Makes request number `seq`.
pub type MakeRequest = Arc<dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync>;

/// What the generator drives, and how.
#[derive(Clone)]
pub struct Target {
    /// Address of an HTTP/1.1 server.
    pub addr: SocketAddr,
    /// Makes each request from its sequence number.
    pub request: MakeRequest,
    /// Keep-alive connections.
    pub connections: usize,
    /// How to wait for the next arrival.
    pub pacing: Pacing,
    /// The cores that the generator's thread is kept on; empty for any.
    pub cores: Vec<usize>,
    /// Time a request may take from when it was written.
    pub timeout: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("addr", &self.addr)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// One stretch of load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Arrival process.
    pub arrivals: Arrivals,
    /// Requests per second.
    pub rate: Rate,
    /// How long arrivals are due.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
    /// Seeds random arrivals.
    pub seed: u64,
    /// Sequence number of the first request.
    pub first_seq: u64,
}

/// A running generator. Dropping it ends its thread.
#[derive(Debug)]
pub struct Generator {
    jobs: mpsc::UnboundedSender<Job>,
}

struct Job {
    load: Load,
    reply: oneshot::Sender<Played>,
}

impl Generator {
    /// Starts the generator's thread and opens its connections.
    ///
    /// # Errors
    /// When the thread, its runtime or a connection cannot be made.
    pub async fn start(target: Target) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        thread::Builder::new().name(THREAD.into()).spawn(move || {
            let runtime = placement::keep_on(&target.cores)
                .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            match runtime {
                Ok(runtime) => LocalSet::new().block_on(&runtime, serve(target, inbox, ready)),
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        started.await.map_err(|_| io::Error::other("the generator's thread ended while it started"))??;
        Ok(Self { jobs })
    }

    /// Plays one stretch of load and reports on it, when the last answer is in or its time is out.
    ///
    /// # Errors
    /// When the generator's thread is gone.
    pub async fn play(&self, load: Load) -> io::Result<Played> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the generator's thread is gone");
        self.jobs.send(Job { load, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// The generator's thread: opens the connections, then plays one job after the other.
async fn serve(target: Target, mut inbox: mpsc::UnboundedReceiver<Job>, ready: oneshot::Sender<io::Result<()>>) {
    let mut idle = Vec::with_capacity(target.connections);
    for _ in 0..target.connections {
        let mut connection = Connection::new(target.addr);
        if let Err(error) = connection.open().await {
            return drop(ready.send(Err(error)));
        }
        idle.push(connection);
    }
    let mut pacer = match Pacer::new(target.pacing) {
        Ok(pacer) => pacer,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let shard =
        Rc::new(Shard { target, state: RefCell::new(State { idle, ..State::default() }), settled: Notify::new() });
    while let Some(job) = inbox.recv().await {
        let played = play(&shard, &mut pacer, job.load).await;
        drop(job.reply.send(played));
    }
}

/// What the tasks of one thread share.
struct Shard {
    target: Target,
    state: RefCell<State>,
    /// Told whenever nothing waits and nothing is in flight.
    settled: Notify,
}

#[derive(Default)]
struct State {
    /// Which stretch of load is being played; an exchange left over from an earlier one no longer counts.
    stretch: u64,
    idle: Vec<Connection>,
    waiting: VecDeque<Arrival>,
    in_flight: u64,
    tally: Tally,
}

/// A request that is due.
#[derive(Clone, Copy)]
struct Arrival {
    seq: u64,
    intended: Instant,
}

impl State {
    fn is_settled(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }
}

async fn play(shard: &Rc<Shard>, pacer: &mut Pacer, load: Load) -> Played {
    let cpu_before = meter::own_cpu_ns();
    {
        let mut state = shard.state.borrow_mut();
        state.stretch += 1;
        state.tally = Tally::default();
    }
    let start = Instant::now() + LEAD;
    for (seq, due_ns) in (load.first_seq..).zip(Schedule::new(load.arrivals, load.rate, load.duration, load.seed)) {
        let intended = start + Duration::from_nanos(due_ns);
        pacer.wait_until(intended).await;
        dispatch(shard, Arrival { seq, intended });
    }
    tokio::time::sleep_until((start + load.duration).into()).await;
    // Whatever is still under way gets as long as any request may take.
    let settle = async {
        while !shard.state.borrow().is_settled() {
            shard.settled.notified().await;
        }
    };
    drop(tokio::time::timeout(shard.target.timeout, settle).await);
    let elapsed = start.elapsed();

    let mut state = shard.state.borrow_mut();
    let unsent = state.waiting.drain(..).count() as u64;
    let in_flight = std::mem::take(&mut state.in_flight);
    let tally = std::mem::take(&mut state.tally);
    // An exchange that is still under way keeps its connection and ends unheard; another takes its place.
    state.idle.resize_with(shard.target.connections, || Connection::new(shard.target.addr));
    drop(state);
    let cpu_ns = cpu_before.and_then(|before| Ok(meter::own_cpu_ns()? - before)).unwrap_or(0);
    tally.conclude(load, unsent, in_flight, elapsed, Duration::from_nanos(cpu_ns))
}

/// Gives a due arrival to an idle connection in a task of its own, or lets it wait.
fn dispatch(shard: &Rc<Shard>, arrival: Arrival) {
    let mut state = shard.state.borrow_mut();
    state.tally.scheduled(arrival.intended.elapsed());
    if let Some(connection) = state.idle.pop() {
        state.in_flight += 1;
        let stretch = state.stretch;
        drop(state);
        tokio::task::spawn_local(exchange(Rc::clone(shard), connection, arrival, stretch));
    } else if state.waiting.len() < BACKLOG {
        state.waiting.push_back(arrival);
    } else {
        state.tally.missed();
    }
}

/// Sends one request and counts its outcome; then, while others wait, theirs.
async fn exchange(shard: Rc<Shard>, mut connection: Connection, mut arrival: Arrival, stretch: u64) {
    loop {
        let request = (shard.target.request)(arrival.seq);
        let outcome = connection.exchange(request, shard.target.timeout).await;
        let mut state = shard.state.borrow_mut();
        if state.stretch != stretch || state.in_flight == 0 {
            return;
        }
        state.tally.outcome(arrival.intended, outcome);
        if let Some(next) = state.waiting.pop_front() {
            arrival = next;
        } else {
            state.in_flight -= 1;
            state.idle.push(connection);
            if state.is_settled() {
                shard.settled.notify_one();
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests;

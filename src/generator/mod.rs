//! The open-loop load generator: plays a [`Schedule`] of arrivals over keep-alive connections.
//!
//! It runs on a thread and a current-thread runtime of its own, so its cost is its own. A due arrival becomes a spawned
//! task that takes any idle connection; with none idle it waits in a bounded backlog with its intended time kept. The
//! response time runs from the *intended* time (no coordinated omission), the service time from the write.
//!
//! `pacing` waits, `wire` exchanges, `tally` counts, `verdict` judges the generator itself. It knows nothing of modes.

mod counts;
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
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet};

use crate::arrivals::{Arrivals, Schedule};
use crate::meter;
use crate::placement;
use crate::units::Rate;

pub use self::counts::LoadCounts;
pub use self::pacing::Pacing;
pub use self::tally::{Hdr, Played, Quantiles, RateAchieved, decode};
pub use self::verdict::{Validity, Verdict};
pub use self::wire::Client;

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

/// Longest time between two looks at whether the stretch is to be cut short.
const ATTENTION: Duration = Duration::from_millis(100);

/// The requests to send: one template, turned into each request in place.
pub trait Requests: Send + Sync {
    /// A whole HTTP/1.1 request.
    fn template(&self) -> Vec<u8>;

    /// Turns what was made from the template into request number `seq`.
    fn number(&self, seq: u64, request: &mut [u8]);
}

/// The same request every time.
#[derive(Clone, Debug)]
pub struct Constant(pub Vec<u8>);

impl Requests for Constant {
    fn template(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn number(&self, _: u64, _: &mut [u8]) {}
}

/// What the generator drives, and how.
#[derive(Clone)]
pub struct Target {
    /// Address of an HTTP/1.1 server.
    pub addr: SocketAddr,
    /// What to send.
    pub requests: Arc<dyn Requests>,
    /// Keep-alive connections.
    pub connections: usize,
    /// The client that carries them.
    pub client: Client,
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

/// A running generator. Dropping it ends its thread.
#[derive(Debug)]
pub struct Generator {
    jobs: mpsc::UnboundedSender<Job>,
    cut: Arc<AtomicBool>,
}

struct Job {
    demand: Demand,
    reply: oneshot::Sender<Played>,
}

/// What decides when the next request is sent.
enum Demand {
    /// The schedule, whatever the server does.
    Open(Load),
    /// The server: each connection sends again as soon as it has its answer.
    Closed(Duration),
}

impl Generator {
    /// Starts the generator's thread and opens its connections.
    ///
    /// # Errors
    /// When the thread, its runtime or a connection cannot be made.
    pub async fn start(target: Target) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        let cut = Arc::new(AtomicBool::new(false));
        let heeded = Arc::clone(&cut);
        thread::Builder::new().name(THREAD.into()).spawn(move || {
            let runtime = placement::keep_on(&target.cores)
                .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            match runtime {
                Ok(runtime) => LocalSet::new().block_on(&runtime, serve(target, heeded, inbox, ready)),
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        started.await.map_err(|_| io::Error::other("the generator's thread ended while it started"))??;
        Ok(Self { jobs, cut })
    }

    /// Plays one stretch of load and reports on it, when the last answer is in or its time is out.
    ///
    /// # Errors
    /// When the generator's thread is gone.
    pub async fn play(&self, load: Load) -> io::Result<Played> {
        self.meet(Demand::Open(load)).await
    }

    /// Sends as fast as the connections allow for so long: a closed loop, whose response times say nothing about what a
    /// user would meet.
    ///
    /// # Errors
    /// When the generator's thread is gone.
    pub async fn saturate(&self, duration: Duration) -> io::Result<Played> {
        self.meet(Demand::Closed(duration)).await
    }

    /// Cuts the stretch that is being played short; it is reported on within a fraction of a second.
    pub fn cut_short(&self) {
        self.cut.store(true, Relaxed);
    }

    async fn meet(&self, demand: Demand) -> io::Result<Played> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the generator's thread is gone");
        self.jobs.send(Job { demand, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// The generator's thread: opens the connections, then plays one job after the other.
async fn serve(
    target: Target,
    cut: Arc<AtomicBool>,
    mut inbox: mpsc::UnboundedReceiver<Job>,
    ready: oneshot::Sender<io::Result<()>>,
) {
    let mut vessels: Vec<Vessel> = (0..target.connections).map(|slot| Vessel::new(slot, &target)).collect();
    for vessel in &mut vessels {
        if let Err(error) = vessel.connection.open().await {
            return drop(ready.send(Err(error)));
        }
    }
    let mut pacer = match Pacer::new(target.pacing) {
        Ok(pacer) => pacer,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let flights = std::iter::repeat_with(|| None).take(target.connections).collect();
    let state = State { idle: vessels, flights, ..State::default() };
    let shard = Rc::new(Shard { target, cut, state: RefCell::new(state), settled: Notify::new() });
    let reaper = tokio::task::spawn_local(reap(Rc::clone(&shard)));
    while let Some(job) = inbox.recv().await {
        drop(job.reply.send(play(&shard, &mut pacer, &job.demand).await));
    }
    reaper.abort();
}

/// What the tasks of one thread share.
struct Shard {
    target: Target,
    /// Set when the stretch is to be cut short.
    cut: Arc<AtomicBool>,
    state: RefCell<State>,
    /// Told whenever nothing waits and nothing is in flight.
    settled: Notify,
}

#[derive(Default)]
struct State {
    /// Connections without a request.
    idle: Vec<Vessel>,
    /// What each connection carries, by its slot.
    flights: Vec<Option<Flight>>,
    in_flight: usize,
    /// Number of the next flight.
    next_flight: u64,
    /// When each flight is overdue, soonest first: the time-out is the same for all, so this is the order of take-off.
    deadlines: VecDeque<Deadline>,
    /// Arrivals that wait for a connection.
    waiting: VecDeque<Arrival>,
    /// Until when a connection sends again by itself, and the number of the next request.
    again: Option<(Instant, u64)>,
    tally: Tally,
}

/// A connection and the request it is about to carry.
struct Vessel {
    slot: usize,
    connection: Connection,
    request: Vec<u8>,
}

/// A request that is under way.
struct Flight {
    number: u64,
    intended: Instant,
    task: AbortHandle,
}

struct Deadline {
    due: Instant,
    slot: usize,
    number: u64,
}

/// A request that is due.
#[derive(Clone, Copy)]
struct Arrival {
    seq: u64,
    intended: Instant,
}

impl Vessel {
    fn new(slot: usize, target: &Target) -> Self {
        let connection = Connection::new(target.client, target.addr);
        Self { slot, connection, request: target.requests.template() }
    }
}

impl State {
    fn is_settled(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }

    /// The request that a connection which has just become free should carry.
    fn next(&mut self) -> Option<Arrival> {
        if let Some((until, seq)) = &mut self.again {
            let intended = Instant::now();
            if intended >= *until {
                return None;
            }
            *seq += 1;
            let arrival = Arrival { seq: *seq - 1, intended };
            self.tally.scheduled(Duration::ZERO);
            return Some(arrival);
        }
        self.waiting.pop_front()
    }

    /// Notes that `task` carries `arrival` from now on.
    fn take_off(&mut self, slot: usize, arrival: Arrival, task: AbortHandle, due: Instant) {
        let number = self.next_flight;
        self.next_flight += 1;
        self.in_flight += 1;
        self.flights[slot] = Some(Flight { number, intended: arrival.intended, task });
        self.deadlines.push_back(Deadline { due, slot, number });
    }

    /// Notes that the flight in `slot` has ended.
    fn land(&mut self, slot: usize) -> Option<Flight> {
        let flight = self.flights[slot].take();
        self.in_flight -= usize::from(flight.is_some());
        while self.deadlines.front().is_some_and(|front| !self.is_under_way(front)) {
            self.deadlines.pop_front();
        }
        flight
    }

    fn is_under_way(&self, deadline: &Deadline) -> bool {
        self.flights[deadline.slot].as_ref().is_some_and(|flight| flight.number == deadline.number)
    }
}

async fn play(shard: &Rc<Shard>, pacer: &mut Pacer, demand: &Demand) -> Played {
    let cpu_before = meter::own_cpu_ns();
    shard.cut.store(false, Relaxed);
    shard.state.borrow_mut().tally = Tally::default();
    let start = Instant::now() + LEAD;
    let (asked, duration) = match demand {
        Demand::Open(load) => {
            let schedule = Schedule::new(load.arrivals.clone(), load.rate, load.duration, load.seed);
            for (seq, due_ns) in (load.first_seq..).zip(schedule) {
                let intended = start + Duration::from_nanos(due_ns);
                if !wait_until(shard, pacer, intended).await {
                    break;
                }
                dispatch(shard, Arrival { seq, intended });
            }
            (Some(load.arrivals.mean(load.rate, load.duration).as_f64()), load.duration)
        }
        Demand::Closed(duration) => {
            saturate(shard, start + *duration);
            (None, *duration)
        }
    };
    let ran_out = wait_until(shard, pacer, start + duration).await;
    let due_in = if ran_out { duration } else { start.elapsed() };
    settle(shard).await;
    let elapsed = start.elapsed();

    let mut state = shard.state.borrow_mut();
    state.again = None;
    let unsent = state.waiting.drain(..).count() as u64;
    let in_flight = state.in_flight as u64;
    for slot in 0..shard.target.connections {
        if let Some(flight) = state.land(slot) {
            flight.task.abort();
            state.idle.push(Vessel::new(slot, &shard.target));
        }
    }
    let tally = std::mem::take(&mut state.tally);
    drop(state);
    let cpu_ns = cpu_before.and_then(|before| Ok(meter::own_cpu_ns()? - before)).unwrap_or(0);
    let ran = tally::Ran { asked, due_in, elapsed, cpu: Duration::from_nanos(cpu_ns) };
    tally.conclude(&ran, unsent, in_flight)
}

/// Waits until `due`; false when the stretch is cut short before.
async fn wait_until(shard: &Shard, pacer: &mut Pacer, due: Instant) -> bool {
    while due.saturating_duration_since(Instant::now()) > ATTENTION {
        if shard.cut.load(Relaxed) {
            return false;
        }
        pacer.wait_until(Instant::now() + ATTENTION).await;
    }
    pacer.wait_until(due).await;
    !shard.cut.load(Relaxed)
}

/// Gives whatever is still under way as long as any request may take.
async fn settle(shard: &Shard) {
    let deadline = Instant::now() + shard.target.timeout;
    while !shard.state.borrow().is_settled() && !shard.cut.load(Relaxed) && Instant::now() < deadline {
        drop(tokio::time::timeout(ATTENTION, shard.settled.notified()).await);
    }
}

/// Gives a due arrival to an idle connection in a task of its own, or lets it wait.
fn dispatch(shard: &Rc<Shard>, arrival: Arrival) {
    let now = Instant::now();
    let mut state = shard.state.borrow_mut();
    state.tally.scheduled(now.saturating_duration_since(arrival.intended));
    if let Some(vessel) = state.idle.pop() {
        launch(shard, &mut state, vessel, arrival, now);
    } else if state.waiting.len() < BACKLOG {
        state.waiting.push_back(arrival);
    } else {
        state.tally.missed();
    }
}

/// Has every connection send, and send again until `until`.
fn saturate(shard: &Rc<Shard>, until: Instant) {
    let mut state = shard.state.borrow_mut();
    state.again = Some((until, 0));
    for vessel in std::mem::take(&mut state.idle) {
        match state.next() {
            Some(arrival) => launch(shard, &mut state, vessel, arrival, arrival.intended),
            None => state.idle.push(vessel),
        }
    }
}

fn launch(shard: &Rc<Shard>, state: &mut State, vessel: Vessel, arrival: Arrival, now: Instant) {
    let slot = vessel.slot;
    let task = tokio::task::spawn_local(exchange(Rc::clone(shard), vessel, arrival)).abort_handle();
    state.take_off(slot, arrival, task, now + shard.target.timeout);
}

/// Sends one request and counts its outcome; then, while others wait, theirs.
async fn exchange(shard: Rc<Shard>, mut vessel: Vessel, mut arrival: Arrival) {
    loop {
        shard.target.requests.number(arrival.seq, &mut vessel.request);
        let outcome = vessel.connection.exchange(&vessel.request).await;
        let mut state = shard.state.borrow_mut();
        let Some(flight) = state.land(vessel.slot) else { return };
        state.tally.outcome(arrival.intended, outcome);
        if let Some(next) = state.next() {
            state.take_off(vessel.slot, next, flight.task, Instant::now() + shard.target.timeout);
            arrival = next;
        } else {
            state.idle.push(vessel);
            if state.is_settled() {
                shard.settled.notify_one();
            }
            return;
        }
    }
}

/// Ends the exchanges that are overdue. One look at the soonest deadline serves them all; none has a timer of its own.
async fn reap(shard: Rc<Shard>) {
    loop {
        let soonest = shard.state.borrow().deadlines.front().map(|deadline| deadline.due);
        // Whatever takes off from now on is due no sooner than this.
        tokio::time::sleep_until(soonest.unwrap_or_else(|| Instant::now() + shard.target.timeout).into()).await;
        let mut state = shard.state.borrow_mut();
        let now = Instant::now();
        while let Some(deadline) = state.deadlines.pop_front_if(|deadline| deadline.due <= now) {
            if !state.is_under_way(&deadline) {
                continue;
            }
            let Some(flight) = state.land(deadline.slot) else { continue };
            flight.task.abort();
            state.tally.timed_out(flight.intended);
            let vessel = Vessel::new(deadline.slot, &shard.target);
            match state.next() {
                Some(arrival) => launch(&shard, &mut state, vessel, arrival, now),
                None => state.idle.push(vessel),
            }
        }
        if state.is_settled() {
            shard.settled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;

//! One generator thread, with its own connections, its part of the schedule and its own counts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet};

use super::pacing::Pacer;
use super::tally::{LoadTally, Occupancy, ShardReport};
use super::wire::{Connection, Wire};
use super::{Demand, THREAD, Target};
use crate::experiment::arrivals::Schedule;
use crate::os::clock;
use crate::os::cores;

/// Maximum number of arrivals of one shard that wait for a connection. Large enough for a stall of one second at 16 000
/// requests per second, and bounded so that a server that cannot keep up shows as missed arrivals, not as memory growth.
pub(super) const BACKLOG: usize = 16_384;

/// Longest time until a shard notices that the stretch is to be cut short.
const ATTENTION: Duration = Duration::from_millis(100);

/// Index of a shard among all shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// From 0.
    pub number: usize,
    /// Number of shards.
    pub of: usize,
}

impl Place {
    /// This shard's share when `whole` items are divided evenly.
    fn of_whole(self, whole: usize) -> usize {
        whole / self.of + usize::from(self.number < whole % self.of)
    }
}

/// A stretch to play.
#[derive(Debug)]
pub(super) struct Job {
    pub demand: Demand,
    /// When the first arrival is due; the same instant on every shard.
    pub start: Instant,
    pub reply: oneshot::Sender<ShardReport>,
}

/// Starts the thread. Returns once its share of the connections is open and its pacer is calibrated.
pub(super) async fn start(
    mut target: Target,
    place: Place,
    cut: Arc<AtomicBool>,
) -> io::Result<mpsc::UnboundedSender<Job>> {
    target.connections = place.of_whole(target.connections);
    let (jobs, inbox) = mpsc::unbounded_channel();
    let (ready, started) = oneshot::channel();
    thread::Builder::new().name(format!("{THREAD}-{}", place.number)).spawn(move || {
        let runtime = cores::keep_on(&target.cores)
            .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
        match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, serve(target, place, cut, inbox, ready)),
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    started.await.map_err(|_| io::Error::other("a generator thread died while it started"))??;
    Ok(jobs)
}

/// Body of the thread: opens the connections, then plays one job after the other.
async fn serve(
    target: Target,
    place: Place,
    cut: Arc<AtomicBool>,
    mut inbox: mpsc::UnboundedReceiver<Job>,
    ready: oneshot::Sender<io::Result<()>>,
) {
    let wire = Wire::new(target.client.clone(), target.connections);
    let mut slots: Vec<Slot> = (0..target.slots()).map(|index| Slot::new(index, &wire)).collect();
    for slot in &mut slots {
        if let Err(error) = slot.connection.open().await {
            return drop(ready.send(Err(error)));
        }
    }
    let mut pacer = match Pacer::new(target.pacing, target.may_spin).await {
        Ok(pacer) => pacer,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let carried = std::iter::repeat_with(|| None).take(target.slots()).collect();
    let state = State { idle: slots, carried, ..State::default() };
    let shard = Rc::new(Shard { target, wire, place, cut, state: RefCell::new(state), settled: Notify::new() });
    let reaper = tokio::task::spawn_local(reap(Rc::clone(&shard)));
    while let Some(job) = inbox.recv().await {
        drop(job.reply.send(play(&shard, &mut pacer, &job.demand, job.start).await));
    }
    reaper.abort();
}

/// State that the tasks of one thread share.
struct Shard {
    target: Target,
    wire: Wire,
    place: Place,
    /// Set to cut the current stretch short.
    cut: Arc<AtomicBool>,
    state: RefCell<State>,
    /// Notified whenever no arrival waits and no request is in flight.
    settled: Notify,
}

#[derive(Default)]
struct State {
    /// Slots without a request.
    idle: Vec<Slot>,
    /// The request in flight in each slot, by the slot's index.
    carried: Vec<Option<InFlight>>,
    in_flight: usize,
    /// Number of the next request to start.
    next_number: u64,
    /// Deadlines of the requests, soonest first. All have the same time-out, so this is the order in which they were started.
    deadlines: VecDeque<Deadline>,
    /// Backlog: arrivals that wait for a connection.
    waiting: VecDeque<Arrival>,
    /// Set while a closed loop runs.
    again: Option<Again>,
    tally: LoadTally,
}

/// State of a closed loop.
struct Again {
    until: Instant,
    next_seq: u64,
    /// Difference between the sequence numbers of consecutive requests of this shard.
    step: u64,
}

/// A connection, or one stream of it, and a buffer for the request it sends.
struct Slot {
    index: usize,
    connection: Connection,
    request: Vec<u8>,
}

/// A request in flight.
struct InFlight {
    number: u64,
    intended: Instant,
    occupancy: Occupancy,
    task: AbortHandle,
}

struct Deadline {
    due: Instant,
    index: usize,
    number: u64,
}

/// An arrival of the schedule.
#[derive(Clone, Copy)]
struct Arrival {
    seq: u64,
    intended: Instant,
}

impl Slot {
    fn new(index: usize, wire: &Wire) -> Self {
        Self { index, connection: wire.connection(index), request: Vec::new() }
    }
}

impl State {
    fn is_settled(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }

    /// The next arrival for a connection that has just become idle.
    fn next(&mut self) -> Option<Arrival> {
        if let Some(again) = &mut self.again {
            let intended = Instant::now();
            if intended >= again.until {
                return None;
            }
            let seq = again.next_seq;
            again.next_seq += again.step;
            self.tally.scheduled(Duration::ZERO);
            return Some(Arrival { seq, intended });
        }
        self.waiting.pop_front()
    }

    /// Records that `task` now handles `arrival`, in the slot `index`.
    fn start(&mut self, index: usize, arrival: Arrival, task: AbortHandle, due: Instant) {
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight += 1;
        let occupancy = Occupancy::of(self.in_flight, self.carried.len());
        self.carried[index] = Some(InFlight { number, intended: arrival.intended, occupancy, task });
        self.deadlines.push_back(Deadline { due, index, number });
    }

    /// Records that the request in the slot `index` has ended.
    fn finish(&mut self, index: usize) -> Option<InFlight> {
        let request = self.carried[index].take();
        self.in_flight -= usize::from(request.is_some());
        while self.deadlines.front().is_some_and(|front| !self.is_under_way(front)) {
            self.deadlines.pop_front();
        }
        request
    }

    fn is_under_way(&self, deadline: &Deadline) -> bool {
        self.carried[deadline.index].as_ref().is_some_and(|request| request.number == deadline.number)
    }
}

async fn play(shard: &Rc<Shard>, pacer: &mut Pacer, demand: &Demand, start: Instant) -> ShardReport {
    let before = clock::own_time();
    let duration = match demand {
        Demand::Open(load) => {
            let schedule = Schedule::new(load.arrivals.clone(), load.rate, load.duration, load.seed);
            let Place { number, of } = shard.place;
            let seqs = (load.first_seq + number as u64..).step_by(of);
            for (seq, due_ns) in seqs.zip(schedule.skip(number).step_by(of)) {
                let intended = start + Duration::from_nanos(due_ns);
                if !wait_until(shard, pacer, intended).await {
                    break;
                }
                dispatch(shard, Arrival { seq, intended });
            }
            load.duration
        }
        Demand::Closed(duration) => {
            if wait_until(shard, pacer, start).await {
                saturate(shard, start + *duration);
            }
            *duration
        }
    };
    let ran_out = wait_until(shard, pacer, start + duration).await;
    let due_in = if ran_out { duration } else { start.elapsed() };
    settle(shard).await;
    let elapsed = start.elapsed();
    let tally = abandon(shard);
    let spent = clock::own_time().since(before);
    let cut_short = shard.cut.load(Relaxed);
    ShardReport { tally, due_in, elapsed, cut_short, cpu: spent.cpu, without_core: spent.without_core }
}

/// Takes the counts: arrivals that still wait are unsent, and requests in flight are aborted with their connections.
fn abandon(shard: &Shard) -> LoadTally {
    let mut state = shard.state.borrow_mut();
    state.again = None;
    let mut tally = std::mem::take(&mut state.tally);
    tally.left(state.waiting.drain(..).count() as u64, state.in_flight as u64);
    for index in 0..shard.target.slots() {
        if let Some(request) = state.finish(index) {
            request.task.abort();
            state.idle.push(Slot::new(index, &shard.wire));
        }
    }
    tally
}

/// Waits until `due`. Returns false if the stretch is cut short before that.
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

/// Waits for the requests in flight, at most for the time-out plus the time in which the reaper ends overdue ones.
async fn settle(shard: &Shard) {
    let deadline = Instant::now() + shard.target.timeout + ATTENTION;
    while !shard.state.borrow().is_settled() && !shard.cut.load(Relaxed) && Instant::now() < deadline {
        drop(tokio::time::timeout(ATTENTION, shard.settled.notified()).await);
    }
}

/// Sends a due arrival on an idle connection, in a task of its own, or adds it to the backlog.
fn dispatch(shard: &Rc<Shard>, arrival: Arrival) {
    let now = Instant::now();
    let mut state = shard.state.borrow_mut();
    state.tally.scheduled(now.saturating_duration_since(arrival.intended));
    if let Some(slot) = state.idle.pop() {
        launch(shard, &mut state, slot, arrival, now);
    } else if state.waiting.len() < BACKLOG {
        state.waiting.push_back(arrival);
    } else {
        state.tally.missed();
    }
}

/// Starts a closed loop on every connection, which ends at `until`.
fn saturate(shard: &Rc<Shard>, until: Instant) {
    let mut state = shard.state.borrow_mut();
    let Place { number, of } = shard.place;
    state.again = Some(Again { until, next_seq: number as u64, step: of as u64 });
    for slot in std::mem::take(&mut state.idle) {
        match state.next() {
            Some(arrival) => launch(shard, &mut state, slot, arrival, arrival.intended),
            None => state.idle.push(slot),
        }
    }
}

fn launch(shard: &Rc<Shard>, state: &mut State, slot: Slot, arrival: Arrival, now: Instant) {
    let index = slot.index;
    let task = tokio::task::spawn_local(exchange(Rc::clone(shard), slot, arrival)).abort_handle();
    state.start(index, arrival, task, now + shard.target.timeout);
}

/// Sends a request and counts its outcome, then continues with the arrivals that wait.
async fn exchange(shard: Rc<Shard>, mut slot: Slot, mut arrival: Arrival) {
    loop {
        let kind = shard.target.requests.write(arrival.seq, &mut slot.request);
        let outcome = slot.connection.exchange(&slot.request).await;
        let mut state = shard.state.borrow_mut();
        let at_the_end = Occupancy::of(state.in_flight, state.carried.len());
        let Some(request) = state.finish(slot.index) else { return };
        state.tally.outcome(arrival.intended, kind, [request.occupancy, at_the_end], outcome);
        if let Some(next) = state.next() {
            state.start(slot.index, next, request.task, Instant::now() + shard.target.timeout);
            arrival = next;
        } else {
            state.idle.push(slot);
            if state.is_settled() {
                shard.settled.notify_one();
            }
            return;
        }
    }
}

/// Ends overdue requests. It sleeps until the earliest deadline, so that no request needs a timer of its own.
async fn reap(shard: Rc<Shard>) {
    loop {
        let soonest = shard.state.borrow().deadlines.front().map(|deadline| deadline.due);
        // A request that starts from now on cannot be overdue before this.
        tokio::time::sleep_until(soonest.unwrap_or_else(|| Instant::now() + shard.target.timeout).into()).await;
        let mut state = shard.state.borrow_mut();
        let now = Instant::now();
        while let Some(deadline) = state.deadlines.pop_front_if(|deadline| deadline.due <= now) {
            if !state.is_under_way(&deadline) {
                continue;
            }
            let Some(request) = state.finish(deadline.index) else { continue };
            request.task.abort();
            state.tally.timed_out(request.intended);
            let slot = Slot::new(deadline.index, &shard.wire);
            match state.next() {
                Some(arrival) => launch(&shard, &mut state, slot, arrival, now),
                None => state.idle.push(slot),
            }
        }
        if state.is_settled() {
            shard.settled.notify_one();
        }
    }
}

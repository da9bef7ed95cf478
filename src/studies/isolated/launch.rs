//! One launch: what a process does that is launched for an estimator.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use metrics::{Counter, counter, histogram};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{debug_span, info_span};

use super::Estimator;
use super::proof::{Control, Leaves};
use super::timing::{Loop, Timed, timed, timed_on};
use crate::experiment::mode::Handlers;
use crate::experiment::payload::Payload;
use crate::experiment::service::{ORDER_LATENCY, ORDERS_TOTAL};
use crate::generator::{Requests, parsed};
use crate::lab::workload::Workload;
use crate::os::cores;
use crate::record::account::Account;
use crate::sut::service::{self, Config};
use crate::sut::telemetry::{Destination, Telemetry, TelemetryError};

/// Spans that may wait between two batches: less than half of what the queue of a mode holds.
const SPANS_WAITING: u64 = 4_096;
/// Values of a histogram that may wait for a scrape; the Prometheus recorder keeps each until then.
const VALUES_WAITING: u64 = 16_384;
/// Turns of a loop after which nothing waits.
const TURNS: u64 = 1 << 20;
/// Different orders, placed in turn.
const ORDERS: usize = 256;
/// Longest wait for what is left to be taken out.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A counter is incremented.
    Counter(By),
    /// A histogram is given a value.
    Histogram(By),
    /// A counter is incremented by handles that were kept, on so many threads at once.
    Threads(usize, Series),
    /// The order service is called.
    Order,
    /// A span at INFO is made, entered, left and closed.
    Span,
    /// The same at DEBUG.
    DebugSpan,
    /// So many spans, each made and entered within the one before; an operation is one of them.
    Depth(u64),
}

/// How a metric is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// By the macro, at each call.
    Macro,
    /// By a handle that was kept.
    Handle,
}

/// What several threads record into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    /// The same series.
    One,
    /// Each into its own.
    Many,
}

/// What one launch measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The estimator.
    pub estimator: String,
    /// Nanoseconds of CPU per operation: the median over the batches, less what the same loop takes without the call.
    pub ns: f64,
    /// Operations in each batch; where several threads make them, on each.
    pub operations: u64,
    /// Batches.
    pub batches: usize,
}

/// What one launch says: what it measured, and what it left behind for the proof that it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launched {
    /// What it measured.
    pub reading: Reading,
    /// Operations made in all, warm-up included.
    pub(super) made: u64,
    /// What became of a span made after them.
    pub(super) control: Control,
    /// The service's side of the ledger.
    pub(super) account: Account,
    /// What a scrape showed at the end; null in modes that are not scraped.
    pub(super) exposition: Option<String>,
}

/// Why a launch cannot measure.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// What is to be measured cannot be put in place.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A clock or a core is refused, or a runtime cannot be made.
    #[error("the loop cannot be timed: {0}")]
    System(#[from] io::Error),
    /// Orders were refused.
    #[error("{0} orders were not answered with 200")]
    Orders(u64),
}

/// Puts in place what `estimator` is about, for the life of this process, and measures; telemetry goes to the collector at
/// `endpoint`.
///
/// # Errors
/// When it cannot be put in place, or not be measured.
pub fn launch(estimator: &Estimator, endpoint: &str) -> Result<Launched, LaunchError> {
    let telemetry = Telemetry::install(&estimator.mode, &Destination::at(Some(endpoint)))?;
    let tend = || {
        telemetry.flush_spans();
        telemetry.flush_periodic();
    };
    let each = operations_per_turn(estimator.work);
    let most = most_turns(estimator.leaves, each);
    let timed = timed_work(estimator.work, estimator.mode.handlers, tend, most)?;
    let control = Control::observed();
    let exposition = telemetry.scrape().map(|render| render());
    let reading = Reading {
        estimator: estimator.name.clone(),
        ns: timed.ns / each as f64,
        operations: timed.turns * each,
        batches: timed.batches,
    };
    Ok(Launched { reading, made: timed.made * each, control, account: telemetry.shutdown(SHUTDOWN), exposition })
}

fn operations_per_turn(work: Work) -> u64 {
    if let Work::Depth(depth) = work { depth } else { 1 }
}

fn most_turns(leaves: Leaves, operations: u64) -> u64 {
    match leaves {
        Leaves { spans: 1.., .. } => (SPANS_WAITING / (leaves.spans * operations)).max(1),
        Leaves { latencies: 1.., .. } => VALUES_WAITING,
        Leaves { .. } => TURNS,
    }
}

fn timed_work(work: Work, handlers: Handlers, tend: impl FnMut(), most: u64) -> Result<Timed, LaunchError> {
    let nothing = |_| ();
    let recorded = |turn| {
        black_box(value(turn));
    };
    Ok(match work {
        Work::Counter(By::Macro) => {
            timed(Loop { beside: nothing, work: |_| counter!(ORDERS_TOTAL).increment(1), tend, most })?
        }
        Work::Counter(By::Handle) => {
            let orders = counter!(ORDERS_TOTAL);
            timed(Loop { beside: nothing, work: |_| black_box(&orders).increment(1), tend, most })?
        }
        Work::Histogram(By::Macro) => {
            let work = |turn| histogram!(ORDER_LATENCY).record(black_box(value(turn)));
            timed(Loop { beside: recorded, work, tend, most })?
        }
        Work::Histogram(By::Handle) => {
            let latency = histogram!(ORDER_LATENCY);
            let work = |turn| black_box(&latency).record(black_box(value(turn)));
            timed(Loop { beside: recorded, work, tend, most })?
        }
        Work::Threads(threads, series) => {
            // Labelled either way: without a label OpenTelemetry has a shorter way, and the two would differ in that.
            let orders = |thread: usize| {
                let label = if series == Series::One { 0 } else { thread };
                counter!(ORDERS_TOTAL, "thread" => label.to_string())
            };
            let increment = |orders: Counter| move |_| black_box(&orders).increment(1);
            let works: Vec<_> = (0..threads).map(orders).map(increment).collect();
            timed_on(&cores::allowed_cores(), &works, most)?
        }
        Work::Order => timed_orders(handlers, tend, most)?,
        Work::Span => timed(Loop { beside: nothing, work: |_| info_span!("order").in_scope(|| ()), tend, most })?,
        Work::DebugSpan => timed(Loop { beside: nothing, work: |_| debug_span!("order").in_scope(|| ()), tend, most })?,
        Work::Depth(depth) => timed(Loop { beside: nothing, work: |_| nest(black_box(depth)), tend, most })?,
    })
}

/// A value that differs from one turn to the next, over all buckets of a histogram.
fn value(turn: u64) -> f64 {
    (turn * 6_180_339 % 100_000) as f64 / 10.0
}

fn nest(depth: u64) {
    info_span!("level").in_scope(|| {
        if depth > 1 {
            nest(depth - 1);
        }
    });
}

/// Has the service answer orders on this thread, without a socket: what it does itself is in the value, and the same in
/// every mode. Making the request is not.
fn timed_orders(handlers: Handlers, tend: impl FnMut(), most: u64) -> Result<Timed, LaunchError> {
    let orders = orders()?;
    let order = |turn: u64| orders[turn as usize % ORDERS].clone();
    let config = Config { payment_delay: Duration::ZERO, payment_service: None };
    let routes = service::router(handlers, config, None);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let refused = Cell::new(0);
    let place = |turn| {
        let answered = runtime.block_on(service::call(routes.clone(), order(turn)));
        if !answered.is_ok_and(|status| status == StatusCode::OK) {
            refused.set(refused.get() + 1);
        }
    };
    let timed = timed(Loop { beside: |turn| drop(black_box(order(turn))), work: place, tend, most })?;
    match refused.get() {
        0 => Ok(timed),
        refused => Err(LaunchError::Orders(refused)),
    }
}

/// Orders as a run's generator sends them.
fn orders() -> io::Result<Vec<Request<Bytes>>> {
    let (workload, mut bytes) = (Workload::new(1, 0, &Payload::default()), Vec::new());
    (0..ORDERS as u64)
        .map(|seq| {
            workload.write(seq, &mut bytes);
            parsed(&bytes).ok_or_else(|| io::Error::other("an order of the workload is no request"))
        })
        .collect()
}

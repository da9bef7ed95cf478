//! One launch: the code that runs in the process of an estimator.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use metrics::{Counter, counter, histogram};
use opentelemetry::trace::TraceContextExt;
use thiserror::Error;
use tracing::{debug_span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Estimator;
use super::launched::{Access, ControlSpan, Footprint, IsolatedReading, Launched, Operation, SeriesUse};
use super::timing::{Loop, Timed, timed, timed_on};
use crate::experiment::mode::Handlers;
use crate::experiment::payload::Payload;
use crate::experiment::service::{ORDER_LATENCY, ORDERS_TOTAL};
use crate::generator::{Requests, parsed};
use crate::lab::workload::Workload;
use crate::os::cores;
use crate::sut::service::{self, Config};
use crate::sut::telemetry::{Destination, Telemetry, TelemetryError};

/// Most spans that may wait between two batches: less than half of the queue of a mode.
const SPANS_WAITING: u64 = 4_096;
/// Most values of a histogram that may wait for a scrape; the Prometheus recorder keeps each until then.
const VALUES_WAITING: u64 = 16_384;
/// Most turns of a loop that leaves nothing waiting.
const TURNS: u64 = 1 << 20;
/// Different orders, placed in turn.
const ORDERS: usize = 256;
/// Longest wait for the last exports.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Why a launch cannot measure.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The telemetry cannot be installed.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A clock or a core is refused, or a runtime cannot be made.
    #[error("the loop cannot be timed: {0}")]
    System(#[from] io::Error),
    /// Orders were refused.
    #[error("{0} orders were not answered with 200")]
    Orders(u64),
}

/// Installs the telemetry of `estimator` for the life of this process, and measures; telemetry goes to the collector at
/// `endpoint`.
///
/// # Errors
/// When it cannot be installed or measured.
pub fn launch(estimator: &Estimator, endpoint: &str) -> Result<Launched, LaunchError> {
    let telemetry = Telemetry::install(&estimator.mode, &Destination::at(Some(endpoint)))?;
    let tend = || {
        telemetry.flush_spans();
        telemetry.flush_periodic();
    };
    let each = operations_per_turn(estimator.operation);
    let most = most_turns(estimator.footprint, each);
    let timed = time_operation(estimator.operation, estimator.mode.handlers, tend, most)?;
    let control = control_span();
    let exposition = telemetry.scrape().map(|render| render());
    let reading = IsolatedReading {
        estimator: estimator.name.clone(),
        ns: timed.ns / each as f64,
        operations: timed.turns * each,
        batches: timed.batches,
    };
    Ok(Launched { reading, made: timed.made * each, control, account: telemetry.shutdown(SHUTDOWN), exposition })
}

/// Makes a span, and looks what becomes of it.
fn control_span() -> ControlSpan {
    let span = info_span!("control");
    let context = span.context();
    let in_opentelemetry = context.span().span_context().clone();
    match (span.is_disabled(), in_opentelemetry.is_valid() && !in_opentelemetry.is_sampled()) {
        (true, _) => ControlSpan::Disabled,
        (false, true) => ControlSpan::Unsampled,
        (false, false) => ControlSpan::Recorded,
    }
}

fn operations_per_turn(operation: Operation) -> u64 {
    if let Operation::Depth(depth) = operation { depth } else { 1 }
}

fn most_turns(footprint: Footprint, operations: u64) -> u64 {
    match footprint {
        Footprint { spans: 1.., .. } => (SPANS_WAITING / (footprint.spans * operations)).max(1),
        Footprint { latencies: 1.., .. } => VALUES_WAITING,
        Footprint { .. } => TURNS,
    }
}

fn time_operation(
    operation: Operation,
    handlers: Handlers,
    tend: impl FnMut(),
    most: u64,
) -> Result<Timed, LaunchError> {
    let nothing = |_| ();
    let recorded = |turn| {
        black_box(value(turn));
    };
    Ok(match operation {
        Operation::Counter(Access::Macro) => {
            timed(Loop { beside: nothing, work: |_| counter!(ORDERS_TOTAL).increment(1), tend, most })?
        }
        Operation::Counter(Access::Handle) => {
            let orders = counter!(ORDERS_TOTAL);
            timed(Loop { beside: nothing, work: |_| black_box(&orders).increment(1), tend, most })?
        }
        Operation::Histogram(Access::Macro) => {
            let work = |turn| histogram!(ORDER_LATENCY).record(black_box(value(turn)));
            timed(Loop { beside: recorded, work, tend, most })?
        }
        Operation::Histogram(Access::Handle) => {
            let latency = histogram!(ORDER_LATENCY);
            let work = |turn| black_box(&latency).record(black_box(value(turn)));
            timed(Loop { beside: recorded, work, tend, most })?
        }
        Operation::Threads(threads, series) => {
            // Labelled either way: without a label OpenTelemetry has a shorter way, and the two would differ in that.
            let orders = |thread: usize| {
                let label = if series == SeriesUse::One { 0 } else { thread };
                counter!(ORDERS_TOTAL, "thread" => label.to_string())
            };
            let increment = |orders: Counter| move |_| black_box(&orders).increment(1);
            let works: Vec<_> = (0..threads).map(orders).map(increment).collect();
            timed_on(&cores::allowed_cores(), &works, most)?
        }
        Operation::Order => time_orders(handlers, tend, most)?,
        Operation::Span => timed(Loop { beside: nothing, work: |_| info_span!("order").in_scope(|| ()), tend, most })?,
        Operation::DebugSpan => {
            timed(Loop { beside: nothing, work: |_| debug_span!("order").in_scope(|| ()), tend, most })?
        }
        Operation::Depth(depth) => timed(Loop { beside: nothing, work: |_| nest(black_box(depth)), tend, most })?,
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

/// Has the service answer orders on this thread, without a socket. The service's own work is in the value, and the same in
/// every mode; making the request is not.
fn time_orders(handlers: Handlers, tend: impl FnMut(), most: u64) -> Result<Timed, LaunchError> {
    let orders = orders()?;
    let order = |turn: u64| orders[turn as usize % ORDERS].clone();
    let routes = service::router(handlers, &Config::default(), None);
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

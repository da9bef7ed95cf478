//! How the handlers record. One implementation per style, chosen at compile time, so no style pays for another.

use std::time::Instant;

use axum::http::HeaderMap;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::Extractor;
use opentelemetry::{Context, KeyValue, global};
use tracing::{Instrument, Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::order::{Receipt, Rejection};
use crate::slim;

/// What an order comes to.
pub(super) type Outcome = Result<Receipt, Rejection>;

/// Wraps each step of an order in what is recorded about it.
pub(super) trait Instruments: Clone + Send + Sync + 'static {
    /// Around the whole order, which continues the caller's trace.
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send;

    /// Around the reservation.
    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send;

    /// Around the payment, which runs in a task of its own.
    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static;
}

/// No instrumentation calls at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare;

impl Instruments for Bare {
    fn order(
        &self,
        _: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        order
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        step
    }

    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        step
    }
}

/// Counts in one way and makes spans in another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recording<C, S> {
    /// What counts orders.
    pub(super) counting: C,
    /// What makes their spans.
    pub(super) spans: S,
}

/// Counts an order that is done.
pub(super) trait Counting: Clone + Send + Sync + 'static {
    /// Counts an order that came to this, after so many milliseconds.
    fn count(&self, outcome: &Outcome, latency_ms: f64);
}

/// Makes the spans of an order.
pub(super) trait Spans: Clone + Send + Sync + 'static {
    /// Around the whole order, which continues the caller's trace.
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send;

    /// Around the reservation.
    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        step.instrument(inventory_span())
    }

    /// Around the payment, which runs in a task of its own.
    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static;
}

impl<C: Counting, S: Spans> Instruments for Recording<C, S> {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        let started = Instant::now();
        let counted = async move {
            let outcome = order.await;
            self.counting.count(&outcome, started.elapsed().as_secs_f64() * 1e3);
            outcome
        };
        self.spans.order(headers, counted)
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        self.spans.inventory(step)
    }

    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        self.spans.payment(step)
    }
}

/// The names of what is counted.
const TOTAL: &str = super::ORDERS_TOTAL;
const ERRORS: &str = "orders.errors";
const LATENCY: &str = "order.latency_ms";

fn status(outcome: &Outcome) -> &'static str {
    if outcome.is_ok() { "ok" } else { "error" }
}

/// The macros of `metrics` at every call.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByMacros;

impl Counting for ByMacros {
    fn count(&self, outcome: &Outcome, latency_ms: f64) {
        metrics::counter!(TOTAL).increment(1);
        if outcome.is_err() {
            metrics::counter!(ERRORS).increment(1);
        }
        metrics::histogram!(LATENCY, "status" => status(outcome)).record(latency_ms);
    }
}

/// As [`ByMacros`], with an event for each order.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithEvents;

impl Counting for WithEvents {
    fn count(&self, outcome: &Outcome, latency_ms: f64) {
        ByMacros.count(outcome, latency_ms);
        tracing::info!(status = status(outcome), latency_ms, "order processed");
    }
}

/// Handles of `metrics` that are registered once.
#[derive(Clone, Debug)]
pub(super) struct ByHandles {
    total: metrics::Counter,
    errors: metrics::Counter,
    latency_ok: metrics::Histogram,
    latency_error: metrics::Histogram,
}

impl ByHandles {
    /// Registers them with the recorder that is installed.
    pub(super) fn register() -> Self {
        Self {
            total: metrics::counter!(TOTAL),
            errors: metrics::counter!(ERRORS),
            latency_ok: metrics::histogram!(LATENCY, "status" => "ok"),
            latency_error: metrics::histogram!(LATENCY, "status" => "error"),
        }
    }
}

impl Counting for ByHandles {
    fn count(&self, outcome: &Outcome, latency_ms: f64) {
        self.total.increment(1);
        if outcome.is_ok() {
            self.latency_ok.record(latency_ms);
        } else {
            self.errors.increment(1);
            self.latency_error.record(latency_ms);
        }
    }
}

/// OpenTelemetry's instruments, made once.
#[derive(Clone, Debug)]
pub(super) struct ByOpenTelemetry {
    total: opentelemetry::metrics::Counter<u64>,
    errors: opentelemetry::metrics::Counter<u64>,
    latency: opentelemetry::metrics::Histogram<f64>,
    ok: [KeyValue; 1],
    error: [KeyValue; 1],
}

impl ByOpenTelemetry {
    /// Makes them with the meter provider that is installed.
    pub(super) fn register() -> Self {
        let meter = global::meter("otelbench");
        Self {
            total: meter.u64_counter(TOTAL).build(),
            errors: meter.u64_counter(ERRORS).build(),
            latency: meter.f64_histogram(LATENCY).build(),
            ok: [KeyValue::new("status", "ok")],
            error: [KeyValue::new("status", "error")],
        }
    }
}

impl Counting for ByOpenTelemetry {
    fn count(&self, outcome: &Outcome, latency_ms: f64) {
        self.total.add(1, &[]);
        if outcome.is_ok() {
            self.latency.record(latency_ms, &self.ok);
        } else {
            self.errors.add(1, &[]);
            self.latency.record(latency_ms, &self.error);
        }
    }
}

/// Each step runs within its span, and the payment's goes with its task: as the documentation of `tracing` has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instrumented;

impl Spans for Instrumented {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        order.instrument(order_span(headers))
    }

    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        // The span is made here, where the reservation's span is current, and goes with the task.
        charged(step).instrument(payment_span())
    }
}

/// As [`Instrumented`], but the payment's span is made in the spawned task, where no span is current.
#[derive(Clone, Copy, Debug)]
pub(super) struct BareSpawn;

impl Spans for BareSpawn {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        Instrumented.order(headers, order)
    }

    #[expect(clippy::manual_async_fn, reason = "an async fn would borrow self, and the task outlives it")]
    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        async { charged(step).instrument(payment_span()).await }
    }
}

/// The article's handler as near as it compiles. Its guard, held across an `.await`, is not `Send`, and axum takes no such
/// handler; so each guard is dropped before, and what is awaited runs in no span. The payment is spawned bare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naive;

impl Spans for Naive {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        entered_once(order_span(headers), order)
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        entered_once(inventory_span(), step)
    }

    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        BareSpawn.payment(step)
    }
}

async fn entered_once<T>(span: Span, step: impl Future<Output = T> + Send) -> T {
    drop(span.enter());
    step.await
}

/// As [`Instrumented`], by spans of [`slim`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Slim;

impl Spans for Slim {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        let span = info_span!("process_order");
        if let Some(caller) = Headers(headers).get("traceparent") {
            slim::continue_trace(&span, caller, Headers(headers).get("baggage"));
        }
        order.instrument(span)
    }

    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let span = payment_span();
        if let Some(user) = slim::baggage(&span, "user_id") {
            span.record("user_id", user);
        }
        step.instrument(span)
    }
}

fn order_span(headers: &HeaderMap) -> Span {
    let span = info_span!("process_order");
    let caller = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    // Fails where no subscriber builds OpenTelemetry spans; there is then no trace to continue.
    let _ = span.set_parent(caller);
    span
}

fn inventory_span() -> Span {
    info_span!("reserve_inventory")
}

fn payment_span() -> Span {
    info_span!("charge_payment", user_id = field::Empty)
}

/// Notes on the payment's span for whom it is, as told by the caller's baggage.
async fn charged<T>(step: impl Future<Output = T>) -> T {
    let span = Span::current();
    if !span.is_disabled() {
        let user = Context::map_current(|cx| cx.baggage().get("user_id").map(|user| user.as_str().to_owned()));
        if let Some(user) = user {
            span.record("user_id", user);
        }
    }
    step.await
}

/// The headers of a request, as the propagators read them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

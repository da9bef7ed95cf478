//! Instrumentation styles of the handlers. Each style is a type chosen at compile time, so none pays for the others.

use std::time::Instant;

use axum::http::{HeaderMap, HeaderValue};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use otelbench_slim as slim;
use tracing::{Instrument, Span, debug_span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::order::{Order, OrderError, Receipt};
use crate::experiment::service::{ORDER_LATENCY, ORDERS_TOTAL};

/// The result of processing an order.
pub(super) type OrderResult = Result<Receipt, OrderError>;

/// A future that can be spawned as a task.
pub(super) trait Task: Future<Output: Send> + Send + 'static {}

impl<F: Future<Output: Send> + Send + 'static> Task for F {}

/// Instruments each step of an order.
pub(super) trait Instruments: Clone + Send + Sync + 'static {
    /// Around the whole order, which continues the caller's trace.
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send;

    /// Around the reservation.
    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send;

    /// Around the payment, which runs in a spawned task.
    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output>;

    /// Around the call of a remote payment service, which itself records the user.
    fn remote_payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output>;

    /// Adds trace context and baggage to the headers of a request to another service.
    fn inject(&self, headers: &mut HeaderMap);
}

/// Instruments a payment in the payment service.
pub(super) trait Accepting: Clone + Send + Sync + 'static {
    /// Around the payment, which continues the trace of the order service.
    fn accept<T>(&self, headers: &HeaderMap, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send;
}

/// No instrumentation at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare;

impl Instruments for Bare {
    fn order(
        &self,
        _: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send {
        order
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        step
    }

    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        step(order)
    }

    fn remote_payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        step(order)
    }

    fn inject(&self, _: &mut HeaderMap) {}
}

impl Accepting for Bare {
    fn accept<T>(&self, _: &HeaderMap, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        step
    }
}

/// Combines a style of metrics with a style of spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recording<C, S> {
    /// Records the metrics.
    pub(super) counting: C,
    /// Creates the spans.
    pub(super) spans: S,
}

/// Records the metrics of an order.
pub(super) trait OrderMetrics: Clone + Send + Sync + 'static {
    /// Counts a processed order and records its latency.
    fn count(&self, outcome: &OrderResult, latency_ms: f64);
}

/// Creates the spans of an order.
pub(super) trait Spans: Clone + Send + Sync + 'static {
    /// Around the whole order, which continues the caller's trace.
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send;

    /// Around the reservation.
    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        step.instrument(inventory_span())
    }

    /// Around the payment, which runs in a spawned task.
    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output>;

    /// Around the call of a remote payment service.
    fn remote_payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        step(order).instrument(payment_span())
    }

    /// Adds trace context and baggage to the headers of a request to another service.
    fn inject(&self, headers: &mut HeaderMap) {
        Context::map_current(|cx| {
            global::get_text_map_propagator(|propagator| propagator.inject_context(cx, &mut HeaderInjector(headers)));
        });
    }
}

impl<C: OrderMetrics, S: Spans> Instruments for Recording<C, S> {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send {
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

    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        self.spans.payment(order, step)
    }

    fn remote_payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        self.spans.remote_payment(order, step)
    }

    fn inject(&self, headers: &mut HeaderMap) {
        self.spans.inject(headers);
    }
}

/// Metric names.
const TOTAL: &str = ORDERS_TOTAL;
const ERRORS: &str = "orders.errors";
const LATENCY: &str = ORDER_LATENCY;

fn status(outcome: &OrderResult) -> &'static str {
    if outcome.is_ok() { "ok" } else { "error" }
}

/// The macros of `metrics` on every order.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByMacros;

impl OrderMetrics for ByMacros {
    fn count(&self, outcome: &OrderResult, latency_ms: f64) {
        metrics::counter!(TOTAL).increment(1);
        if outcome.is_err() {
            metrics::counter!(ERRORS).increment(1);
        }
        metrics::histogram!(LATENCY, "status" => status(outcome)).record(latency_ms);
    }
}

/// Like [`ByMacros`], plus a log event for each order.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithEvents;

impl OrderMetrics for WithEvents {
    fn count(&self, outcome: &OrderResult, latency_ms: f64) {
        ByMacros.count(outcome, latency_ms);
        tracing::info!(status = status(outcome), latency_ms, "order processed");
    }
}

/// Like [`ByMacros`], with a user label on every metric: one series per user, a cardinality problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByUser;

impl OrderMetrics for ByUser {
    fn count(&self, outcome: &OrderResult, latency_ms: f64) {
        let user = baggage_user().unwrap_or_default();
        metrics::counter!(TOTAL, "user_id" => user.clone()).increment(1);
        if outcome.is_err() {
            metrics::counter!(ERRORS, "user_id" => user.clone()).increment(1);
        }
        metrics::histogram!(LATENCY, "status" => status(outcome), "user_id" => user).record(latency_ms);
    }
}

/// Handles of `metrics`, registered once.
#[derive(Clone, Debug)]
pub(super) struct ByHandles {
    total: metrics::Counter,
    errors: metrics::Counter,
    latency_ok: metrics::Histogram,
    latency_error: metrics::Histogram,
}

impl ByHandles {
    /// Registers the handles with the installed recorder.
    pub(super) fn register() -> Self {
        Self {
            total: metrics::counter!(TOTAL),
            errors: metrics::counter!(ERRORS),
            latency_ok: metrics::histogram!(LATENCY, "status" => "ok"),
            latency_error: metrics::histogram!(LATENCY, "status" => "error"),
        }
    }
}

impl OrderMetrics for ByHandles {
    fn count(&self, outcome: &OrderResult, latency_ms: f64) {
        self.total.increment(1);
        if outcome.is_ok() {
            self.latency_ok.record(latency_ms);
        } else {
            self.errors.increment(1);
            self.latency_error.record(latency_ms);
        }
    }
}

/// OpenTelemetry instruments, created once.
#[derive(Clone, Debug)]
pub(super) struct ByOpenTelemetry {
    total: opentelemetry::metrics::Counter<u64>,
    errors: opentelemetry::metrics::Counter<u64>,
    latency: opentelemetry::metrics::Histogram<f64>,
    ok: [KeyValue; 1],
    error: [KeyValue; 1],
}

impl ByOpenTelemetry {
    /// Creates the instruments with the installed meter provider.
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

impl OrderMetrics for ByOpenTelemetry {
    fn count(&self, outcome: &OrderResult, latency_ms: f64) {
        self.total.add(1, &[]);
        if outcome.is_ok() {
            self.latency.record(latency_ms, &self.ok);
        } else {
            self.errors.add(1, &[]);
            self.latency.record(latency_ms, &self.error);
        }
    }
}

/// Each step runs in its own span, and the payment's span moves into the spawned task, as the `tracing` docs recommend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instrumented;

impl Spans for Instrumented {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send {
        order.instrument(order_span(headers))
    }

    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        // The span is made here, where the reservation's span is current, and goes with the task.
        charged(step(order)).instrument(payment_span())
    }
}

impl Accepting for Instrumented {
    fn accept<T>(&self, headers: &HeaderMap, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        charged(step).instrument(continuing(accepted_span(), headers))
    }
}

/// Like [`Instrumented`], with leftovers of a debugging session: card number and e-mail address are recorded on the payment
/// span and in an event, and the reservation has an extra debug span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Careless;

impl Spans for Careless {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send {
        Instrumented.order(headers, order)
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        let checked = async {
            debug_span!("check_stock").in_scope(|| ());
            step.await
        };
        checked.instrument(inventory_span())
    }

    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        let span = talkative_span(&order);
        charged(step(order)).instrument(span)
    }

    fn remote_payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        let span = talkative_span(&order);
        step(order).instrument(span)
    }
}

/// The payment span, with the customer's personal data.
fn talkative_span(order: &Order) -> Span {
    let (card, email) = (order.card.as_deref(), order.email.as_deref());
    let span = info_span!("charge_payment", user_id = field::Empty, card, email);
    if let (Some(card), Some(email)) = (card, email) {
        span.in_scope(|| tracing::info!(email, "charging card {card}"));
    }
    span
}

/// Like [`Instrumented`], but the payment span is created inside the spawned task, where no span is current.
#[derive(Clone, Copy, Debug)]
pub(super) struct BareSpawn;

impl Spans for BareSpawn {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send {
        Instrumented.order(headers, order)
    }

    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        let step = step(order);
        async { charged(step).instrument(payment_span()).await }
    }

    fn remote_payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        let step = step(order);
        async { step.instrument(payment_span()).await }
    }
}

/// The handler of a published article, changed only as far as needed to compile. A span guard held across an `.await` is not
/// `Send`, and axum rejects such a handler; so each guard is dropped before the `.await`, and the awaited step runs outside
/// its span. The payment task is spawned without a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naive;

impl Spans for Naive {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send {
        entered_once(order_span(headers), order)
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        entered_once(inventory_span(), step)
    }

    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        BareSpawn.payment(order, step)
    }

    fn remote_payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        BareSpawn.remote_payment(order, step)
    }
}

async fn entered_once<T>(span: Span, step: impl Future<Output = T> + Send) -> T {
    drop(span.enter());
    step.await
}

/// Like [`Instrumented`], with the spans of [`slim`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SlimSpans;

impl Spans for SlimSpans {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = OrderResult> + Send,
    ) -> impl Future<Output = OrderResult> + Send {
        order.instrument(continuing_slim(info_span!("process_order"), headers))
    }

    fn payment<F: Task>(&self, order: Order, step: impl FnOnce(Order) -> F) -> impl Task<Output = F::Output> {
        step(order).instrument(charged_slim(payment_span()))
    }

    fn inject(&self, headers: &mut HeaderMap) {
        let span = Span::current();
        for (name, value) in [("traceparent", slim::traceparent(&span)), ("baggage", slim::baggage_header(&span))] {
            // Both values were parsed from headers, so they are valid ones.
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

impl Accepting for SlimSpans {
    fn accept<T>(&self, headers: &HeaderMap, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        step.instrument(charged_slim(continuing_slim(accepted_span(), headers)))
    }
}

/// Makes the new span part of the caller's trace.
fn continuing_slim(span: Span, headers: &HeaderMap) -> Span {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(caller) = header("traceparent") {
        slim::continue_trace(&span, caller, header("baggage"));
    }
    span
}

/// Records the user from the baggage on the payment span.
fn charged_slim(span: Span) -> Span {
    if let Some(user) = slim::baggage(&span, "user_id") {
        span.record("user_id", user);
    }
    span
}

fn order_span(headers: &HeaderMap) -> Span {
    continuing(info_span!("process_order"), headers)
}

/// Makes the new span part of the caller's trace.
fn continuing(span: Span, headers: &HeaderMap) -> Span {
    let caller = global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)));
    // Fails if no subscriber creates OpenTelemetry spans; then there is no trace to continue.
    let _ = span.set_parent(caller);
    span
}

fn inventory_span() -> Span {
    info_span!("reserve_inventory")
}

fn payment_span() -> Span {
    info_span!("charge_payment", user_id = field::Empty)
}

fn accepted_span() -> Span {
    info_span!("accept_payment", user_id = field::Empty)
}

/// Records the user from the baggage on the payment span.
async fn charged<T>(step: impl Future<Output = T>) -> T {
    let span = Span::current();
    if !span.is_disabled()
        && let Some(user) = baggage_user()
    {
        span.record("user_id", user);
    }
    step.await
}

/// The user in the caller's baggage.
fn baggage_user() -> Option<String> {
    Context::map_current(|cx| cx.baggage().get("user_id").map(|user| user.as_str().to_owned()))
}

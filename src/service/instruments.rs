//! How the handlers record. One implementation per style, chosen at compile time, so no style pays for another.

use std::time::Instant;

use axum::http::HeaderMap;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::Extractor;
use opentelemetry::{Context, global};
use tracing::{Instrument, Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::order::{Receipt, Rejection};

/// What an order comes to.
type Outcome = Result<Receipt, Rejection>;

/// Wraps each step of an order in what is recorded about it.
pub trait Instruments: Clone + Send + Sync + 'static {
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
pub struct Bare;

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

/// The macros of `metrics` and `tracing` at every call.
#[derive(Clone, Copy, Debug)]
pub struct Macros;

impl Instruments for Macros {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        let started = Instant::now();
        let span = info_span!("process_order");
        let caller = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
        // Fails where no subscriber builds OpenTelemetry spans; there is then no trace to continue.
        let _ = span.set_parent(caller);
        async move {
            let outcome = order.await;
            metrics::counter!("orders.total").increment(1);
            let status = if outcome.is_ok() { "ok" } else { "error" };
            if outcome.is_err() {
                metrics::counter!("orders.errors").increment(1);
            }
            metrics::histogram!("order.latency_ms", "status" => status).record(started.elapsed().as_secs_f64() * 1e3);
            outcome
        }
        .instrument(span)
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        step.instrument(info_span!("reserve_inventory"))
    }

    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        // The span is made here, where the order's span is current, and goes with the task.
        charged(step).instrument(payment_span())
    }
}

/// As [`Macros`], but the payment's span is made in the spawned task, where no span is current.
#[derive(Clone, Copy, Debug)]
pub struct BareSpawn;

impl Instruments for BareSpawn {
    fn order(
        &self,
        headers: &HeaderMap,
        order: impl Future<Output = Outcome> + Send,
    ) -> impl Future<Output = Outcome> + Send {
        Macros.order(headers, order)
    }

    fn inventory<T>(&self, step: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        Macros.inventory(step)
    }

    #[expect(clippy::manual_async_fn, reason = "an async fn would borrow self, and the task outlives it")]
    fn payment<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        async { charged(step).instrument(payment_span()).await }
    }
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

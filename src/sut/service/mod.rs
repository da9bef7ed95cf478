//! The order service: a small axum service built like a real one.
//!
//! `POST /order` processes an order: it reserves the inventory and, while holding the reservation, charges the payment in a
//! spawned task, or through a second service with `POST /payment`. Each step is a span; each order is counted and its
//! latency recorded. The handlers are written once, generic over `Instruments` and `Payments`. The service does not know
//! where telemetry goes.

mod burn;
mod instruments;
mod order;
mod payment;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower::util::MapRequestLayer;

use crate::experiment::mode::Handlers;
use crate::experiment::service::ServiceSettings;

use self::instruments::{
    Bare, BareSpawn, ByHandles, ByMacros, ByOpenTelemetry, ByUser, Careless, Instrumented, Instruments, Naive,
    OrderMetrics, Recording, SlimSpans, Spans, WithEvents,
};
pub use self::order::{Order, OrderError, Receipt};
use self::payment::{LocalPayments, Payments, RemotePayments};

/// Name of the service's worker threads. The meter attributes CPU time by it.
pub const THREAD: &str = "service";
/// Name of the payment service's worker threads.
pub const PAYMENT_THREAD: &str = "payment";

/// Renders the metrics for a Prometheus scrape.
pub type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// Configuration of the order service.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Settings of the scenario.
    pub settings: ServiceSettings,
    /// Address of the payment service; `None` if the order service charges payments itself.
    pub payment_service: Option<SocketAddr>,
}

#[derive(Clone)]
struct ServiceState<I, P> {
    instruments: I,
    payments: P,
}

/// The routes of the order service with this style of instrumentation. With `scrape`, `GET /metrics` is served too.
pub fn router(handlers: Handlers, config: &Config, scrape: Option<Scrape>) -> Router {
    let routes = match handlers {
        Handlers::Bare => orders(Bare, config),
        Handlers::Macros => recorded(ByMacros, Instrumented, config),
        Handlers::Cached => recorded(ByHandles::register(), Instrumented, config),
        Handlers::Otel => recorded(ByOpenTelemetry::register(), Instrumented, config),
        Handlers::Logging => recorded(WithEvents, Instrumented, config),
        Handlers::Careless => recorded(ByUser, Careless, config),
        Handlers::BareSpawn => recorded(ByMacros, BareSpawn, config),
        Handlers::Naive => recorded(ByMacros, Naive, config),
        Handlers::Slim => recorded(ByHandles::register(), SlimSpans, config),
    };
    let routes = routes.route("/healthz", get(|| async { "ok\n" }));
    match scrape {
        Some(scrape) => routes.route("/metrics", get(move || async move { exposition(scrape()) })),
        None => routes,
    }
}

/// The routes of the payment service with this style of instrumentation.
pub fn payment_router(handlers: Handlers, settings: &ServiceSettings) -> Router {
    let delay = settings.payment_delay;
    match handlers {
        Handlers::Bare => payment::routes(Bare, delay),
        Handlers::Slim => payment::routes(SlimSpans, delay),
        Handlers::Macros
        | Handlers::Cached
        | Handlers::Otel
        | Handlers::Logging
        | Handlers::Careless
        | Handlers::BareSpawn
        | Handlers::Naive => payment::routes(Instrumented, delay),
    }
}

/// Adds a known cost to `routes`: burns `cost` of CPU time per request, to check that the measurement finds it. The call
/// itself costs a little too, so the baseline must use the same call with a cost of zero.
pub fn burning(routes: Router, cost: Duration) -> Router {
    routes.layer(MapRequestLayer::new(move |request: Request<Body>| {
        burn::owe(cost);
        request
    }))
}

fn exposition(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn recorded(counting: impl OrderMetrics, spans: impl Spans, config: &Config) -> Router {
    orders(Recording { counting, spans }, config)
}

fn orders<I: Instruments>(instruments: I, config: &Config) -> Router {
    let delay = config.settings.payment_delay;
    match config.payment_service {
        None => order_routes(instruments, LocalPayments { delay }),
        Some(addr) => order_routes(instruments, RemotePayments::at(addr, delay)),
    }
}

fn order_routes<I: Instruments, P: Payments>(instruments: I, payments: P) -> Router {
    Router::new().route("/order", post(place_order::<I, P>)).with_state(ServiceState { instruments, payments })
}

/// Serves `routes` on `listener` until `shutdown`, then finishes the requests in flight, for at most `drain`.
///
/// # Errors
/// If the listener fails, or requests are still in flight after `drain`.
pub async fn run(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let draining = async move {
        shutdown.await;
        let _ = stop.send(());
    };
    // Without it, Nagle's algorithm may delay a response until the last one is acknowledged. Failing to set it is harmless.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, routes).with_graceful_shutdown(draining).into_future();
    let overdue = async {
        // The server ended without a shutdown, so there is no drain time.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Err(io::Error::new(io::ErrorKind::TimedOut, "requests were still in flight after the drain time")),
    }
}

/// Answers one request with `routes`, without a socket, and reads the response body to its end as a client would. Returns
/// the status.
///
/// # Errors
/// If the response body ends with an error.
pub async fn call(routes: Router, request: Request<Bytes>) -> io::Result<StatusCode> {
    let Ok(answer) = routes.oneshot(request.map(Body::from)).await;
    let (head, mut body) = answer.into_parts();
    while let Some(frame) = body.frame().await {
        frame.map_err(io::Error::other)?;
    }
    Ok(head.status)
}

async fn place_order<I: Instruments, P: Payments>(
    State(service): State<ServiceState<I, P>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let outcome = service.instruments.order(&headers, process(&service, &body)).await;
    match outcome {
        Ok(receipt) => (StatusCode::OK, axum_json(&receipt)).into_response(),
        Err(error) => rejected(&error),
    }
}

fn rejected(error: &OrderError) -> Response {
    (error.status(), axum_json(&error.body())).into_response()
}

fn axum_json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn process<I: Instruments, P: Payments>(
    service: &ServiceState<I, P>,
    body: &[u8],
) -> Result<Receipt, OrderError> {
    let order = Order::parse(body)?;
    service.instruments.inventory(reserve_inventory(service, order)).await
}

/// Reserves the ordered items and holds the reservation while the payment is charged.
async fn reserve_inventory<I: Instruments, P: Payments>(
    service: &ServiceState<I, P>,
    order: Order,
) -> Result<Receipt, OrderError> {
    let receipt = order.receipt();
    let payment = service.payments.charge(&service.instruments, order);
    tokio::spawn(payment).await.map_err(|_| OrderError::PaymentLost)??;
    Ok(receipt)
}

#[cfg(test)]
mod tests;

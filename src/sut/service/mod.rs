//! The order service: a small axum service with the shape of a real one.
//!
//! `POST /order` processes an order: it reserves the inventory and, holding that reservation, charges the payment in a
//! task of its own, or has a second service charge it, with `POST /payment`. Each step is a span, each order a count and a
//! latency. The handlers are written once, generic over `Instruments` and `Payments`. The service knows nothing of where
//! telemetry goes.

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
    Bare, BareSpawn, ByHandles, ByMacros, ByOpenTelemetry, ByUser, Careless, Counting, Instrumented, Instruments,
    Naive, Recording, Slim, Spans, WithEvents,
};
pub use self::order::{Order, Receipt, Rejection};
use self::payment::{Here, Payments, There};

/// Name of the service's worker threads, by which their CPU time is told from others'.
pub const THREAD: &str = "service";
/// Name of the payment service's worker threads, likewise.
pub const PAYMENT_THREAD: &str = "payment";

/// Renders the metrics for a scrape.
pub type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// How the service is set up, and whom it calls.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Its settings.
    pub settings: ServiceSettings,
    /// Where the payment service listens; `None` where the order service charges payments itself.
    pub payment_service: Option<SocketAddr>,
}

#[derive(Clone)]
struct Shop<I, P> {
    instruments: I,
    payments: P,
}

/// The service's routes, with handlers that record as `handlers` says; `GET /metrics` answers if there is a `scrape`.
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
        Handlers::Slim => recorded(ByHandles::register(), Slim, config),
    };
    let routes = routes.route("/healthz", get(|| async { "ok\n" }));
    match scrape {
        Some(scrape) => routes.route("/metrics", get(move || async move { exposition(scrape()) })),
        None => routes,
    }
}

/// The routes of the payment service, with handlers that record as `handlers` says.
pub fn payment_router(handlers: Handlers, settings: &ServiceSettings) -> Router {
    let delay = settings.payment_delay;
    match handlers {
        Handlers::Bare => payment::routes(Bare, delay),
        Handlers::Slim => payment::routes(Slim, delay),
        Handlers::Macros
        | Handlers::Cached
        | Handlers::Otel
        | Handlers::Logging
        | Handlers::Careless
        | Handlers::BareSpawn
        | Handlers::Naive => payment::routes(Instrumented, delay),
    }
}

/// `routes` with so much CPU time burnt for each request beside its work: a known cost, to see whether it is found. That of
/// the call itself comes on top, so what this is compared with burns nothing, by the same call.
pub fn burning(routes: Router, cost: Duration) -> Router {
    routes.layer(MapRequestLayer::new(move |request: Request<Body>| {
        burn::owe(cost);
        request
    }))
}

fn exposition(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn recorded(counting: impl Counting, spans: impl Spans, config: &Config) -> Router {
    orders(Recording { counting, spans }, config)
}

fn orders<I: Instruments>(instruments: I, config: &Config) -> Router {
    let delay = config.settings.payment_delay;
    match config.payment_service {
        None => shop(instruments, Here { delay }),
        Some(addr) => shop(instruments, There::at(addr, delay)),
    }
}

fn shop<I: Instruments, P: Payments>(instruments: I, payments: P) -> Router {
    Router::new().route("/order", post(place_order::<I, P>)).with_state(Shop { instruments, payments })
}

/// Serves `routes` on `listener` until `shutdown`, then answers what is under way, for at most `drain`.
///
/// # Errors
/// When the listener fails, or requests are still under way after `drain`.
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
    // Without it an answer may wait for the acknowledgement of the last; the connection works either way.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, routes).with_graceful_shutdown(draining).into_future();
    let overdue = async {
        // Without a shutdown there is nothing to bound.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Err(io::Error::new(io::ErrorKind::TimedOut, "requests were still under way when the drain time was out")),
    }
}

/// Has `routes` answer one request without a socket, on the calling thread, and takes the answer to its end as a client
/// would. Its status.
///
/// # Errors
/// When the body of the answer breaks off.
pub async fn call(routes: Router, request: Request<Bytes>) -> io::Result<StatusCode> {
    let Ok(answer) = routes.oneshot(request.map(Body::from)).await;
    let (head, mut body) = answer.into_parts();
    while let Some(frame) = body.frame().await {
        frame.map_err(io::Error::other)?;
    }
    Ok(head.status)
}

async fn place_order<I: Instruments, P: Payments>(
    State(shop): State<Shop<I, P>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let outcome = shop.instruments.order(&headers, process(&shop, &body)).await;
    match outcome {
        Ok(receipt) => (StatusCode::OK, axum_json(&receipt)).into_response(),
        Err(rejection) => rejected(&rejection),
    }
}

fn rejected(rejection: &Rejection) -> Response {
    (rejection.status(), axum_json(&rejection.body())).into_response()
}

fn axum_json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn process<I: Instruments, P: Payments>(shop: &Shop<I, P>, body: &[u8]) -> Result<Receipt, Rejection> {
    let order = Order::parse(body)?;
    shop.instruments.inventory(reserve_inventory(shop, order)).await
}

/// Reserves what was ordered and holds it while the payment is charged.
async fn reserve_inventory<I: Instruments, P: Payments>(shop: &Shop<I, P>, order: Order) -> Result<Receipt, Rejection> {
    let receipt = order.receipt();
    let payment = shop.payments.charge(&shop.instruments, order);
    tokio::spawn(payment).await.map_err(|_| Rejection::PaymentLost)??;
    Ok(receipt)
}

#[cfg(test)]
mod tests;

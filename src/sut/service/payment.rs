//! Payments of orders: in the order service itself, or through a separate payment service.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

use super::instruments::{Accepting, Instruments, Task};
use super::order::{Order, OrderError, charge};
use super::rejected;

/// Time-out of a request to the payment service, in addition to the payment delay.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest response of the payment service, in bytes.
const LARGEST_ANSWER: usize = 64 << 10;

/// Charges payments.
pub(super) trait Payments: Clone + Send + Sync + 'static {
    /// Charges the amount of the order.
    fn charge<I: Instruments>(&self, instruments: &I, order: Order) -> impl Task<Output = Result<(), OrderError>>;
}

/// Payments within the order service.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalPayments {
    /// Simulated payment duration.
    pub(super) delay: Duration,
}

impl Payments for LocalPayments {
    fn charge<I: Instruments>(&self, instruments: &I, order: Order) -> impl Task<Output = Result<(), OrderError>> {
        let delay = self.delay;
        instruments.payment(order, move |order| async move {
            taking(delay).await;
            order.charge()
        })
    }
}

async fn taking(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Payments through a separate payment service, over keep-alive connections.
#[derive(Clone, Debug)]
pub(super) struct RemotePayments {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    timeout: Duration,
}

/// The request to the payment service.
#[derive(Debug, Serialize, Deserialize)]
struct PaymentRequest {
    amount: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

impl RemotePayments {
    /// A client for the payment service at `addr`, whose payments take `delay`.
    pub(super) fn at(addr: SocketAddr, delay: Duration) -> Self {
        let mut connector = HttpConnector::new();
        // Without it, Nagle's algorithm may delay a request until the last response is acknowledged.
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: format!("http://{addr}/payment").parse().expect("an address makes a URL"),
            timeout: TIMEOUT + delay,
        }
    }

    /// Requests the payment of `order`, as part of the current trace.
    async fn ask(self, instruments: impl Instruments, order: Order) -> Result<(), OrderError> {
        let Order { amount, card, email, .. } = order;
        let unavailable = |error: &dyn std::fmt::Display| OrderError::PaymentUnavailable(error.to_string());
        let body = serde_json::to_vec(&PaymentRequest { amount, card, email }).map_err(|error| unavailable(&error))?;
        let mut request = Request::post(self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| unavailable(&error))?;
        instruments.inject(request.headers_mut());
        let exchange = async {
            let (head, body) = self.client.request(request).await.map_err(io::Error::other)?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(io::Error::other)?;
            io::Result::Ok((head.status, body.to_bytes()))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Err(_) => Err(unavailable(&format_args!("no response within {:?}", self.timeout))),
            Ok(Err(error)) => Err(unavailable(&error)),
            Ok(Ok((StatusCode::OK, _))) => Ok(()),
            Ok(Ok((StatusCode::UNPROCESSABLE_ENTITY, body))) => Err(OrderError::Declined(reason(&body))),
            Ok(Ok((status, _))) => Err(OrderError::PaymentUnclear(status)),
        }
    }
}

/// Why the payment service declined.
fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct No {
        error: String,
    }
    serde_json::from_slice(body).map_or_else(|_| "the payment was declined".into(), |No { error }| error)
}

impl Payments for RemotePayments {
    fn charge<I: Instruments>(&self, instruments: &I, order: Order) -> impl Task<Output = Result<(), OrderError>> {
        let (there, asking) = (self.clone(), instruments.clone());
        instruments.remote_payment(order, move |order| there.ask(asking, order))
    }
}

/// State of the payment service's handlers.
#[derive(Clone)]
struct PaymentState<A> {
    accepting: A,
    delay: Duration,
}

/// The routes of a payment service whose payments take `delay`.
pub(super) fn routes<A: Accepting>(accepting: A, delay: Duration) -> Router {
    Router::new().route("/payment", post(accept_payment::<A>)).with_state(PaymentState { accepting, delay })
}

async fn accept_payment<A: Accepting>(
    State(payments): State<PaymentState<A>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match payments.accepting.accept(&headers, accept(payments.delay, &body)).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => rejected(&error),
    }
}

async fn accept(delay: Duration, body: &[u8]) -> Result<(), OrderError> {
    let asked: PaymentRequest =
        serde_json::from_slice(body).map_err(|error| OrderError::Malformed(error.to_string()))?;
    taking(delay).await;
    charge(asked.amount)
}

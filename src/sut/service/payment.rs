//! Where the payment of an order is made: here, in a task of the order's service, or there, in a service of its own.

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
use super::order::{Order, Rejection, charge};
use super::rejected;

/// Longest wait for the payment service, beyond what the payment takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer of the payment service that is read.
const LARGEST_ANSWER: usize = 64 << 10;

/// Makes the payments of orders.
pub(super) trait Payments: Clone + Send + Sync + 'static {
    /// Charges what the order costs.
    fn charge<I: Instruments>(&self, instruments: &I, order: Order) -> impl Task<Output = Result<(), Rejection>>;
}

/// In the order's service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here {
    /// What a payment takes.
    pub(super) delay: Duration,
}

impl Payments for Here {
    fn charge<I: Instruments>(&self, instruments: &I, order: Order) -> impl Task<Output = Result<(), Rejection>> {
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

/// In a service of its own, over connections that are kept.
#[derive(Clone, Debug)]
pub(super) struct There {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    patience: Duration,
}

/// What the payment service is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Charge {
    amount: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

impl There {
    /// At `addr`, where a payment takes `delay`.
    pub(super) fn at(addr: SocketAddr, delay: Duration) -> Self {
        let mut connector = HttpConnector::new();
        // Without it a request may wait for the acknowledgement of the last answer.
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: format!("http://{addr}/payment").parse().expect("an address makes a URL"),
            patience: PATIENCE + delay,
        }
    }

    /// Asks for the payment of `order`, as part of the trace that is current.
    async fn ask(self, instruments: impl Instruments, order: Order) -> Result<(), Rejection> {
        let Order { amount, card, email, .. } = order;
        let unavailable = |error: &dyn std::fmt::Display| Rejection::PaymentUnavailable(error.to_string());
        let body = serde_json::to_vec(&Charge { amount, card, email }).map_err(|error| unavailable(&error))?;
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
        match tokio::time::timeout(self.patience, exchange).await {
            Err(_) => Err(unavailable(&format_args!("nothing came within {:?}", self.patience))),
            Ok(Err(error)) => Err(unavailable(&error)),
            Ok(Ok((StatusCode::OK, _))) => Ok(()),
            Ok(Ok((StatusCode::UNPROCESSABLE_ENTITY, body))) => Err(Rejection::Declined(reason(&body))),
            Ok(Ok((status, _))) => Err(Rejection::PaymentUnclear(status)),
        }
    }
}

/// Why the payment service said no.
fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct No {
        error: String,
    }
    serde_json::from_slice(body).map_or_else(|_| "the payment was declined".into(), |No { error }| error)
}

impl Payments for There {
    fn charge<I: Instruments>(&self, instruments: &I, order: Order) -> impl Task<Output = Result<(), Rejection>> {
        let (there, asking) = (self.clone(), instruments.clone());
        instruments.remote_payment(order, move |order| there.ask(asking, order))
    }
}

/// The payment service.
#[derive(Clone)]
struct Desk<A> {
    accepting: A,
    delay: Duration,
}

/// The routes of a payment service in which a payment takes `delay`.
pub(super) fn routes<A: Accepting>(accepting: A, delay: Duration) -> Router {
    Router::new().route("/payment", post(accept_payment::<A>)).with_state(Desk { accepting, delay })
}

async fn accept_payment<A: Accepting>(State(desk): State<Desk<A>>, headers: HeaderMap, body: Bytes) -> Response {
    match desk.accepting.accept(&headers, accept(desk.delay, &body)).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(rejection) => rejected(&rejection),
    }
}

async fn accept(delay: Duration, body: &[u8]) -> Result<(), Rejection> {
    let asked: Charge = serde_json::from_slice(body).map_err(|error| Rejection::Malformed(error.to_string()))?;
    taking(delay).await;
    charge(asked.amount)
}

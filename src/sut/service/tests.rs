//! The service over its socket, as a client sees it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const GOOD: &str = r#"{"user":"ada","items":["tea"],"quantity":2,"amount":9.5}"#;

fn settings(payment_delay: Duration) -> ServiceSettings {
    ServiceSettings { payment_delay, ..ServiceSettings::default() }
}

fn config(payment_delay: Duration) -> Config {
    Config { settings: settings(payment_delay), payment_service: None }
}

async fn start(
    handlers: Handlers,
    payment_delay: Duration,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    serve(router(handlers, &config(payment_delay), None)).await
}

async fn serve(routes: Router) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async { drop(stopped.await) };
    (addr, stop, tokio::spawn(run(listener, routes, shutdown, Duration::from_secs(30))))
}

async fn send(addr: SocketAddr, request: String) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn post_order(body: &str) -> String {
    format!("POST /order HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_valid_order_is_answered_with_its_id_by_every_kind_of_handler() {
    for handlers in [Handlers::Bare, Handlers::Macros, Handlers::BareSpawn] {
        let (addr, _stop, _) = start(handlers, Duration::ZERO).await;
        let answer = send(addr, post_order(GOOD)).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"order_id\":\"order-"), "{answer}");
    }
}

#[tokio::test]
async fn an_invalid_order_is_rejected_with_422_and_a_reason() {
    let (addr, _stop, _) = start(Handlers::Macros, Duration::ZERO).await;
    for (body, reason) in [
        ("", "not an order"),
        ("[1", "not an order"),
        (r#"{"user":"ada"}"#, "missing field"),
        (r#"{"user":"ada","items":[],"quantity":1,"amount":1}"#, "at least one item"),
        (r#"{"user":"","items":["tea"],"quantity":1,"amount":1}"#, "user must not be empty"),
        (r#"{"user":"ada","items":["tea"],"quantity":0,"amount":1}"#, "quantity must be 1"),
        (r#"{"user":"ada","items":["tea"],"quantity":1,"amount":-1}"#, "greater than zero"),
    ] {
        let answer = send(addr, post_order(body)).await;
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains(reason), "{body}: {answer}");
    }
}

#[tokio::test]
async fn the_health_check_is_answered() {
    let (addr, _stop, _) = start(Handlers::Macros, Duration::ZERO).await;
    let answer = send(addr, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".into()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn shutdown_finishes_requests_in_flight() {
    let (addr, stop, served) = start(Handlers::Macros, Duration::from_secs(2)).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(post_order(GOOD).as_bytes()).await.unwrap();
    // Give the service time to read the request; before that there is no request in flight.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    served.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_times_out_when_a_request_never_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = router(Handlers::Bare, &config(Duration::from_secs(1_000_000)), None);
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(run(listener, routes, async { drop(stopped.await) }, Duration::from_secs(5)));
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(post_order(GOOD).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send(()).unwrap();
    assert_eq!(served.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// Starts an order service that uses this payment service.
async fn before(payment_service: SocketAddr, handlers: Handlers) -> (SocketAddr, oneshot::Sender<()>) {
    let config = Config { payment_service: Some(payment_service), ..Config::default() };
    let (addr, stop, _) = serve(router(handlers, &config, None)).await;
    (addr, stop)
}

#[tokio::test]
async fn a_payment_service_accepts_and_rejects_the_same_orders_as_the_order_service() {
    for handlers in [Handlers::Bare, Handlers::Cached, Handlers::Careless, Handlers::BareSpawn, Handlers::Slim] {
        let (payments, _closed_later, _) = serve(payment_router(handlers, &ServiceSettings::default())).await;
        let (addr, _stop) = before(payments, handlers).await;
        let answer = send(addr, post_order(GOOD)).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"order_id\":\"order-"), "{answer}");
        let answer = send(addr, post_order(&GOOD.replace("9.5", "0.00"))).await;
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("greater than zero"), "{answer}");
    }
}

#[tokio::test]
async fn an_unreachable_payment_service_makes_a_503() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let fickle = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fickle_addr = fickle.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = fickle.accept().await.unwrap();
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    for payments in [gone, fickle_addr] {
        let (addr, _stop) = before(payments, Handlers::Macros).await;
        let answer = send(addr, post_order(GOOD)).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("payment service does not answer"), "{answer}");
    }
}

#[tokio::test]
async fn a_failing_payment_service_makes_a_502() {
    let failing = Router::new().route("/payment", post(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    let (payments, _closed_later, _) = serve(failing).await;
    let (addr, _stop) = before(payments, Handlers::Bare).await;
    let answer = send(addr, post_order(GOOD)).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("500"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_payment_service_makes_a_503_after_a_time_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, _stop) = before(silent.local_addr().unwrap(), Handlers::Bare).await;
    let answer = send(addr, post_order(GOOD)).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no response within 5s"), "{answer}");
}

//! The generator with the direct transport: calls on its own thread.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};

use super::*;

/// A target that answers request `n` with the result of `answer(n, request)`.
fn called<F>(
    connections: usize,
    timeout_ms: u64,
    answer: impl Fn(u64, Request<Bytes>) -> F + Send + Sync + 'static,
) -> Target
where
    F: Future<Output = io::Result<StatusCode>> + Send + 'static,
{
    let count = std::sync::atomic::AtomicU64::new(0);
    let handler = Handler::new(move |request| answer(count.fetch_add(1, Relaxed), request));
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    Target { client: Client::Direct(handler), ..target(nowhere, connections, timeout_ms) }
}

#[tokio::test]
async fn direct_calls_are_counted_by_the_same_classes_as_responses_over_a_socket() {
    let target = called(16, 1_000, |n, _| async move {
        match n % 6 {
            0 => Ok(StatusCode::INTERNAL_SERVER_ERROR),
            1 => Ok(StatusCode::UNPROCESSABLE_ENTITY),
            2 => Err(io::ErrorKind::UnexpectedEof.into()),
            3 => std::future::pending().await,
            _ => Ok(StatusCode::OK),
        }
    });
    let generator = Generator::start(target).await.unwrap();
    let played = generator.play(load(600.0, 100)).await.unwrap();
    let counts = &played.load;
    assert!(counts.adds_up(), "{counts:?}");
    let failed = |class: &str| counts.failed.get(class).copied().unwrap_or(0);
    let fates = [failed("status_5xx"), failed("status_4xx"), failed("closed"), counts.timed_out];
    assert_eq!((fates, counts.completed), ([10; 4], 20), "{counts:?}");
    // Calls that never ended have freed their slots.
    let again = generator.play(load(600.0, 100)).await.unwrap().load;
    assert_eq!((again.timed_out, again.completed), (10, 20), "{again:?}");
}

#[tokio::test]
async fn a_panic_in_the_handler_is_counted_and_the_generator_continues() {
    let target = called(1, 5_000, |n, _| {
        // Before the future exists, and within it.
        assert!(n % 4 != 0, "panic on purpose");
        async move {
            assert!(n % 4 != 1, "panic on purpose");
            Ok(StatusCode::OK)
        }
    });
    let counts = Generator::start(target).await.unwrap().play(load(400.0, 100)).await.unwrap().load;
    assert_eq!((counts.failed.get("panicked"), counts.completed), (Some(&20), 20), "{counts:?}");
}

#[tokio::test]
async fn the_handler_gets_the_whole_request_and_runs_on_the_generator_thread() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let name = || thread::current().name().map(str::to_owned);
    let target = called(4, 5_000, move |_, request| {
        let noted = Arc::clone(&noted);
        async move {
            let spawned = tokio::spawn(async move { name() }).await.unwrap();
            let (head, body) = request.into_parts();
            noted.lock().unwrap().push((name(), spawned, head.method, head.uri, head.headers["host"].clone(), body));
            Ok(StatusCode::OK)
        }
    });
    let counts = Generator::start(target).await.unwrap().play(load(200.0, 100)).await.unwrap().load;
    assert_eq!(counts.completed, 20, "{counts:?}");
    let here = Some(format!("{THREAD}-0"));
    let whole =
        (here.clone(), here, http::Method::POST, "/".parse().unwrap(), "x".parse().unwrap(), Bytes::from("body"));
    assert_eq!(*seen.lock().unwrap(), vec![whole; 20]);
}

#[tokio::test]
async fn concurrent_calls_never_exceed_the_number_of_connections() {
    let most = Arc::new(Mutex::new((0, 0)));
    let noted = Arc::clone(&most);
    let target = called(3, 5_000, move |_, _| {
        let noted = Arc::clone(&noted);
        async move {
            {
                let mut most = noted.lock().unwrap();
                most.0 += 1;
                most.1 = most.0.max(most.1);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            noted.lock().unwrap().0 -= 1;
            Ok(StatusCode::OK)
        }
    });
    let played = Generator::start(target).await.unwrap().play(load(1_000.0, 30)).await.unwrap();
    assert_eq!((played.load.completed, most.lock().unwrap().1), (30, 3), "{:?}", played.load);
    // The last of ten turns ends after 200 ms, and the last call was due after 29.
    assert!(played.response_us.max.unwrap() >= 171_000.0 * 0.999, "{:?}", played.response_us);
    assert!(played.service_us.p50.unwrap() >= 20_000.0 * 0.999, "{:?}", played.service_us);
}

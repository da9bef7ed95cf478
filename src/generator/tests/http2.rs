//! The generator over HTTP/2, against a server that misbehaves on single streams.

use std::future::poll_fn;
use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Response;

use super::*;
use crate::generator::wire::Wire;

/// How the server treats the n-th request it receives, over all connections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Answer(u16),
    AnswerAfter(Duration),
    /// Answers nothing until this many requests have arrived, then all of them.
    AnswerWithOthers(usize),
    Reset(Reason),
    GoAway(Reason),
    /// Sends a GOAWAY that excludes all streams of this connection but the first.
    GoAwayAfterTheFirst,
    /// Shuts down gracefully: finishes open streams and accepts no new ones.
    AnswerAndLeave,
    Close,
    Garbage,
    Silence,
    /// Announces more bytes than it sends.
    TooShort,
    /// Closes the listener and every connection.
    Vanish,
}

/// A server on its own thread.
struct Server {
    addr: SocketAddr,
    seen: Arc<ServerCounts>,
}

/// Counts of what the server saw.
#[derive(Default)]
pub(super) struct ServerCounts {
    accepted: AtomicU64,
    /// Bytes of request bodies.
    read: AtomicU64,
    /// Unanswered streams that the client reset.
    given_up: AtomicU64,
}

/// Starts a server with at most `most_streams` streams per connection that treats request `n` with `act(n)`.
fn serve_http2(most_streams: u32, act: impl Fn(u64) -> Act + Send + 'static) -> Server {
    let (send_addr, addr) = mpsc::channel();
    let seen = Arc::new(ServerCounts::default());
    let noted = Arc::clone(&seen);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            send_addr.send(listener.local_addr().unwrap()).unwrap();
            answer_on(listener, most_streams, act, noted).await;
        });
    });
    Server { addr: addr.recv().unwrap(), seen }
}

/// Serves all connections to `listener` until an act is [`Act::Vanish`].
pub(super) async fn answer_on(
    listener: TcpListener,
    most_streams: u32,
    act: impl Fn(u64) -> Act + 'static,
    seen: Arc<ServerCounts>,
) {
    let (vanish, count) = (Rc::new(Notify::new()), Cell::new(0));
    let vanished = Rc::clone(&vanish);
    let next: Rc<dyn Fn() -> Act> = Rc::new(move || {
        count.set(count.get() + 1);
        let act = act(count.get() - 1);
        if matches!(act, Act::Vanish) {
            vanish.notify_one();
        }
        act
    });
    let serve = |stream| {
        seen.accepted.fetch_add(1, Relaxed);
        converse(stream, most_streams, Rc::clone(&next), Arc::clone(&seen))
    };
    accept(listener, &vanished, serve).await;
}

async fn converse(stream: TcpStream, most_streams: u32, next: Rc<dyn Fn() -> Act>, seen: Arc<ServerCounts>) {
    let socket = stream.into_std().unwrap();
    let aside = socket.try_clone().unwrap();
    let stream = TcpStream::from_std(socket).unwrap();
    let handshake = h2::server::Builder::new().max_concurrent_streams(most_streams).handshake::<_, Bytes>(stream);
    // A client that leaves before the handshake, or that received garbage, ends the connection.
    let Ok(mut connection) = handshake.await else { return };
    let mut held = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let body = request.into_body();
        match next() {
            Act::Answer(status) => answer(body, respond, status, Duration::ZERO, &seen),
            Act::AnswerAfter(delay) => answer(body, respond, 200, delay, &seen),
            Act::AnswerWithOthers(wanted) => {
                held.push((body, respond));
                if held.len() == wanted {
                    held.drain(..).for_each(|(body, respond)| answer(body, respond, 200, Duration::ZERO, &seen));
                }
            }
            Act::Reset(reason) => respond.send_reset(reason),
            Act::GoAway(reason) => connection.abrupt_shutdown(reason),
            Act::GoAwayAfterTheFirst => {
                // A GOAWAY frame: length 8, type 7, stream 0; last stream 1, no error.
                (&aside).write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
                held.push((body, respond));
            }
            Act::AnswerAndLeave => {
                connection.graceful_shutdown();
                answer(body, respond, 200, Duration::ZERO, &seen);
            }
            Act::TooShort => {
                let answer = Response::builder().header("content-length", 9).body(()).unwrap();
                if let Ok(mut stream) = respond.send_response(answer, false) {
                    let _ = stream.send_data(Bytes::from_static(b"ok"), true);
                }
            }
            Act::Vanish => return,
            // Here and below, the client may have left already.
            Act::Close => drop(aside.shutdown(Shutdown::Write)),
            Act::Garbage => {
                // A frame that exceeds any allowed length. It fits into the socket's buffer.
                drop((&aside).write_all(&[0xff; 64]));
            }
            Act::Silence => {
                let seen = Arc::clone(&seen);
                tokio::task::spawn_local(async move {
                    if poll_fn(|cx| respond.poll_reset(cx)).await.is_ok() {
                        seen.given_up.fetch_add(1, Relaxed);
                    }
                });
            }
        }
    }
}

/// Reads the request body to its end, then answers.
fn answer(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    status: u16,
    delay: Duration,
    seen: &Arc<ServerCounts>,
) {
    let seen = Arc::clone(seen);
    tokio::task::spawn_local(async move {
        while let Some(Ok(bytes)) = body.data().await {
            seen.read.fetch_add(bytes.len() as u64, Relaxed);
            body.flow_control().release_capacity(bytes.len()).unwrap();
        }
        tokio::time::sleep(delay).await;
        let head = Response::builder().status(status).body(()).unwrap();
        // The client may have reset the stream.
        if let Ok(mut stream) = respond.send_response(head, false) {
            let _ = stream.send_data(Bytes::from_static(b"ok"), true);
        }
    });
}

fn over_http2(addr: SocketAddr, connections: usize, streams: usize, timeout_ms: u64) -> Target {
    Target { client: Client::Http2 { addr, streams }, ..target(addr, connections, timeout_ms) }
}

fn failed(counts: &LoadCounts, class: &str) -> u64 {
    counts.failed.get(class).copied().unwrap_or(0)
}

#[tokio::test]
async fn http2_failures_are_counted_by_the_same_classes_as_http1() {
    let server = serve_http2(100, |n| match n % 5 {
        0 => Act::Answer(500),
        1 => Act::Close,
        2 => Act::Garbage,
        3 => Act::Silence,
        _ => Act::Answer(200),
    });
    // One stream per connection, so that a failure affects one request only.
    let generator = Generator::start(over_http2(server.addr, 32, 1, 3_000)).await.unwrap();
    let played = generator.play(load(250.0, 400)).await.unwrap();
    let counts = &played.load;
    assert!(counts.adds_up(), "{counts:?}");
    let fates = [
        counts.completed,
        failed(counts, "status_5xx"),
        failed(counts, "closed"),
        failed(counts, "bad_response"),
        counts.timed_out,
    ];
    assert_eq!(fates, [20; 5], "{counts:?}");
    // Only connections that died were reopened.
    let opened = server.seen.accepted.load(Relaxed);
    assert!((32..=72).contains(&opened), "{opened}");
}

#[tokio::test]
async fn one_connection_carries_as_many_concurrent_requests_as_configured() {
    let server = serve_http2(100, |_| Act::AnswerWithOthers(8));
    let generator = Generator::start(over_http2(server.addr, 1, 8, 10_000)).await.unwrap();
    let counts = generator.play(load(400.0, 100)).await.unwrap().load;
    assert_eq!((counts.scheduled, counts.completed), (40, 40), "{counts:?}");
    assert_eq!(server.seen.accepted.load(Relaxed), 1);
}

#[tokio::test]
async fn reset_streams_are_counted_by_reason_and_other_streams_continue() {
    let server = serve_http2(100, |n| match n % 4 {
        0 => Act::Reset(Reason::INTERNAL_ERROR),
        1 => Act::Reset(Reason::REFUSED_STREAM),
        _ => Act::AnswerAfter(Duration::from_millis(20)),
    });
    let generator = Generator::start(over_http2(server.addr, 1, 64, 5_000)).await.unwrap();
    let counts = generator.play(load(400.0, 200)).await.unwrap().load;
    assert!(counts.adds_up(), "{counts:?}");
    let fates = [counts.completed, failed(&counts, "stream_reset"), failed(&counts, "stream_refused")];
    assert_eq!(fates, [40, 20, 20], "{counts:?}");
    assert_eq!(server.seen.accepted.load(Relaxed), 1);
}

#[tokio::test]
async fn a_dead_connection_fails_each_of_its_streams_once_and_is_reopened_once() {
    for (end, class) in
        [(Act::GoAway(Reason::ENHANCE_YOUR_CALM), "goaway"), (Act::Close, "closed"), (Act::Garbage, "bad_response")]
    {
        let server = serve_http2(100, move |n| match n {
            0..7 => Act::Silence,
            7 => end,
            _ => Act::Answer(200),
        });
        let generator = Generator::start(over_http2(server.addr, 1, 8, 10_000)).await.unwrap();
        let counts = generator.play(load(400.0, 100)).await.unwrap().load;
        assert!(counts.adds_up(), "{counts:?}");
        assert_eq!((failed(&counts, class), counts.completed), (8, 32), "{end:?}: {counts:?}");
        assert_eq!(server.seen.accepted.load(Relaxed), 2, "{end:?}");
    }
}

#[tokio::test]
async fn goaway_fails_only_the_streams_after_its_last_stream() {
    let server = serve_http2(100, |n| match n {
        0 => Act::AnswerAfter(Duration::from_millis(300)),
        1 | 2 => Act::Silence,
        3 => Act::GoAwayAfterTheFirst,
        _ => Act::Answer(200),
    });
    let generator = Generator::start(over_http2(server.addr, 1, 4, 10_000)).await.unwrap();
    let counts = generator.play(load(400.0, 100)).await.unwrap().load;
    assert_eq!((failed(&counts, "goaway"), counts.completed), (3, 37), "{counts:?}");
    assert_eq!(server.seen.accepted.load(Relaxed), 2);
}

#[tokio::test]
async fn a_graceful_shutdown_fails_no_request() {
    let server = serve_http2(100, |n| if n == 10 { Act::AnswerAndLeave } else { Act::Answer(200) });
    // One stream at a time, so no request is in flight when the GOAWAY arrives.
    let generator = Generator::start(over_http2(server.addr, 1, 1, 5_000)).await.unwrap();
    let counts = generator.play(load(400.0, 100)).await.unwrap().load;
    assert_eq!((counts.completed, counts.failures()), (40, 0), "{counts:?}");
    assert_eq!(server.seen.accepted.load(Relaxed), 2);
}

#[tokio::test]
async fn a_time_out_resets_only_its_own_stream() {
    // Responses come after the silent streams have timed out, but within their own time-out.
    let server = serve_http2(100, |n| if n < 4 { Act::Silence } else { Act::AnswerAfter(Duration::from_millis(300)) });
    let generator = Generator::start(over_http2(server.addr, 1, 50, 2_000)).await.unwrap();
    let counts = generator.play(load(40.0, 2_500)).await.unwrap().load;
    assert!(counts.adds_up(), "{counts:?}");
    assert_eq!((counts.timed_out, counts.completed), (4, 96), "{counts:?}");
    let seen = server.seen;
    assert_eq!((seen.given_up.load(Relaxed), seen.accepted.load(Relaxed)), (4, 1));
}

/// A server that allows one stream, and eight concurrent requests: the last waits for seven others. That wait is not part
/// of its service time.
#[tokio::test]
async fn waiting_for_a_stream_counts_as_lateness_and_not_as_service_time() {
    let server = serve_http2(1, |_| Act::AnswerAfter(Duration::from_millis(50)));
    let generator = Generator::start(over_http2(server.addr, 1, 8, 10_000)).await.unwrap();
    let played = generator.play(load(1_000.0, 8)).await.unwrap();
    assert_eq!(played.load.completed, 8, "{:?}", played.load);
    assert!(played.service_us.p50.unwrap() >= 50_000.0 * 0.999, "{:?}", played.service_us);
    // Seven service times less the 7 ms between the first and the last arrival.
    assert!(played.lateness_us.max.unwrap() >= 343_000.0 * 0.999, "{:?}", played.lateness_us);
}

#[tokio::test]
async fn a_body_larger_than_the_flow_control_window_is_sent_completely() {
    const BODY: usize = 300_000;
    let server = serve_http2(100, |_| Act::Answer(200));
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY}\r\n\r\n");
    let requests = Arc::new(Constant([head.into_bytes(), vec![b'x'; BODY]].concat()));
    let target = Target { requests, ..over_http2(server.addr, 2, 2, 10_000) };
    let counts = Generator::start(target).await.unwrap().play(load(100.0, 200)).await.unwrap().load;
    assert_eq!(counts.completed, 20, "{counts:?}");
    assert_eq!(server.seen.read.load(Relaxed), 20 * BODY as u64);
}

#[tokio::test]
async fn starting_against_a_server_without_http2_is_an_error_that_says_so() {
    for deed in [Deed::Answer, Deed::Garbage, Deed::Close] {
        let error = Generator::start(over_http2(serve(move |_| deed), 2, 4, 5_000)).await.unwrap_err();
        assert!(error.to_string().contains("does not speak HTTP/2 without TLS (h2c)"), "{deed:?}: {error}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Generator::start(over_http2(closed, 1, 4, 100)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn starting_against_a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shared = Wire::new(Client::Http2 { addr: listener.local_addr().unwrap(), streams: 1 }, 1);
    let error = LocalSet::new().run_until(async { shared.connection(0).open().await }).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("the server sent nothing"), "{error}");
}

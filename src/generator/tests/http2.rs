//! The generator over HTTP/2, against a server that misbehaves stream by stream.

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

/// What the server does with the n-th request it gets, over all connections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Answer(u16),
    AnswerAfter(Duration),
    /// Answers nothing until so many requests are there, and then all of them.
    AnswerWithOthers(usize),
    Reset(Reason),
    GoAway(Reason),
    /// Says that it will answer the first stream of this connection, and no other.
    GoAwayAfterTheFirst,
    /// Finishes what was begun, on a connection that takes nothing new.
    AnswerAndLeave,
    Close,
    Garbage,
    Silence,
    /// More bytes announced than there are.
    TooShort,
    /// The listener goes away, and every connection with it.
    Vanish,
}

/// A server on a thread of its own.
struct Server {
    addr: SocketAddr,
    /// What it saw.
    seen: Arc<Seen>,
}

#[derive(Default)]
pub(super) struct Seen {
    accepted: AtomicU64,
    /// Bytes of bodies.
    read: AtomicU64,
    /// Silent streams that the client gave up.
    given_up: AtomicU64,
}

/// Serves with at most so many streams on a connection; `act(n)` is done with request `n`.
fn serve_http2(most_streams: u32, act: impl Fn(u64) -> Act + Send + 'static) -> Server {
    let (tell, told) = mpsc::channel();
    let seen = Arc::new(Seen::default());
    let noted = Arc::clone(&seen);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            answer_on(listener, most_streams, act, noted).await;
        });
    });
    Server { addr: told.recv().unwrap(), seen }
}

/// Serves all connections to `listener`, until an act is to vanish.
pub(super) async fn answer_on(
    listener: TcpListener,
    most_streams: u32,
    act: impl Fn(u64) -> Act + 'static,
    seen: Arc<Seen>,
) {
    let (vanish, count) = (Rc::new(Notify::new()), Cell::new(0));
    let told = Rc::clone(&vanish);
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
    accept(listener, &told, serve).await;
}

async fn converse(stream: TcpStream, most_streams: u32, next: Rc<dyn Fn() -> Act>, seen: Arc<Seen>) {
    let socket = stream.into_std().unwrap();
    let aside = socket.try_clone().unwrap();
    let stream = TcpStream::from_std(socket).unwrap();
    let handshake = h2::server::Builder::new().max_concurrent_streams(most_streams).handshake::<_, Bytes>(stream);
    // A client that is gone before it said anything, or that is given garbage, ends the connection.
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
                // A GOAWAY frame: length 8, type 7, stream 0; the last stream 1, and no error.
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
            // Here and below, the client may have gone already.
            Act::Close => drop(aside.shutdown(Shutdown::Write)),
            Act::Garbage => {
                // A frame longer than any may be; there is room for it in the socket.
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

/// Answers once the body has been read to its end.
fn answer(mut body: RecvStream, mut respond: SendResponse<Bytes>, status: u16, delay: Duration, seen: &Arc<Seen>) {
    let seen = Arc::clone(seen);
    tokio::task::spawn_local(async move {
        while let Some(Ok(bytes)) = body.data().await {
            seen.read.fetch_add(bytes.len() as u64, Relaxed);
            body.flow_control().release_capacity(bytes.len()).unwrap();
        }
        tokio::time::sleep(delay).await;
        let head = Response::builder().status(status).body(()).unwrap();
        // The client may have given the stream up.
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
async fn failures_are_counted_by_the_classes_of_the_other_clients() {
    let server = serve_http2(100, |n| match n % 5 {
        0 => Act::Answer(500),
        1 => Act::Close,
        2 => Act::Garbage,
        3 => Act::Silence,
        _ => Act::Answer(200),
    });
    // One stream each, so that what befalls one request befalls no other.
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
    // Each connection that died, and none that did not, was opened anew.
    let opened = server.seen.accepted.load(Relaxed);
    assert!((32..=72).contains(&opened), "{opened}");
}

#[tokio::test]
async fn so_many_requests_are_under_way_at_once_on_one_connection() {
    let server = serve_http2(100, |_| Act::AnswerWithOthers(8));
    let generator = Generator::start(over_http2(server.addr, 1, 8, 10_000)).await.unwrap();
    let counts = generator.play(load(400.0, 100)).await.unwrap().load;
    assert_eq!((counts.scheduled, counts.completed), (40, 40), "{counts:?}");
    assert_eq!(server.seen.accepted.load(Relaxed), 1);
}

#[tokio::test]
async fn streams_that_are_reset_are_told_by_the_reason_and_their_neighbours_go_on() {
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
async fn a_connection_that_dies_fails_every_stream_on_it_once_and_is_opened_anew_once() {
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
async fn streams_that_a_leaving_server_will_not_answer_fail_once_and_the_others_are_answered() {
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
async fn a_server_that_leaves_in_good_order_fails_nothing() {
    let server = serve_http2(100, |n| if n == 10 { Act::AnswerAndLeave } else { Act::Answer(200) });
    // One at a time: nothing is on its way when the server says that it leaves.
    let generator = Generator::start(over_http2(server.addr, 1, 1, 5_000)).await.unwrap();
    let counts = generator.play(load(400.0, 100)).await.unwrap().load;
    assert_eq!((counts.completed, counts.failures()), (40, 0), "{counts:?}");
    assert_eq!(server.seen.accepted.load(Relaxed), 2);
}

#[tokio::test]
async fn a_time_out_resets_one_stream_and_leaves_its_neighbours_and_the_connection_alone() {
    // Those that are answered are answered after the silent ones were given up, and within their own time.
    let server = serve_http2(100, |n| if n < 4 { Act::Silence } else { Act::AnswerAfter(Duration::from_millis(300)) });
    let generator = Generator::start(over_http2(server.addr, 1, 50, 2_000)).await.unwrap();
    let counts = generator.play(load(40.0, 2_500)).await.unwrap().load;
    assert!(counts.adds_up(), "{counts:?}");
    assert_eq!((counts.timed_out, counts.completed), (4, 96), "{counts:?}");
    let seen = server.seen;
    assert_eq!((seen.given_up.load(Relaxed), seen.accepted.load(Relaxed)), (4, 1));
}

/// A server that allows one stream, and eight requests at once: the last waits for seven others. That wait is not the
/// server's time to answer it.
#[tokio::test]
async fn the_wait_for_a_stream_is_lateness_and_not_service() {
    let server = serve_http2(1, |_| Act::AnswerAfter(Duration::from_millis(50)));
    let generator = Generator::start(over_http2(server.addr, 1, 8, 10_000)).await.unwrap();
    let played = generator.play(load(1_000.0, 8)).await.unwrap();
    assert_eq!(played.load.completed, 8, "{:?}", played.load);
    assert!(played.service_us.p50.unwrap() >= 50_000.0 * 0.999, "{:?}", played.service_us);
    // Seven answers less the 7 ms between the first and the last.
    assert!(played.lateness_us.max.unwrap() >= 343_000.0 * 0.999, "{:?}", played.lateness_us);
}

#[tokio::test]
async fn a_body_that_is_larger_than_the_window_is_sent_to_its_end() {
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
async fn a_server_of_another_protocol_is_named_at_the_start() {
    for deed in [Deed::Answer, Deed::Garbage, Deed::Close] {
        let error = Generator::start(over_http2(serve(move |_| deed), 2, 4, 5_000)).await.unwrap_err();
        assert!(error.to_string().contains("does not speak HTTP/2 without TLS (h2c)"), "{deed:?}: {error}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Generator::start(over_http2(closed, 1, 4, 100)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_named_too_and_not_waited_for_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shared = Wire::new(Client::Http2 { addr: listener.local_addr().unwrap(), streams: 1 }, 1);
    let error = LocalSet::new().run_until(async { shared.connection(0).open().await }).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("the server said nothing"), "{error}");
}

//! The generator against servers that misbehave in known ways. Assertions hold on machines of any speed.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};

use super::shard::BACKLOG;
use super::*;
use crate::experiment::arrivals::Schedule;
use crate::record::load::{LoadCounts, MixCounts, ValidityLevel, decode};

mod accounts;
mod direct;
mod http2;

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// How a server treats the n-th request it receives, over all connections.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Answer,
    AnswerAfter(Duration),
    Status500,
    Refuse,
    Close,
    Garbage,
    Silence,
    /// Sends half a response head and then nothing.
    HalfAHead,
    /// Announces more bytes than it sends, then closes the connection.
    TooShort,
    /// Sends more bytes than announced.
    TooLong,
    /// Sends two responses to one request.
    Twice,
    /// Closes the listener and every connection.
    Vanish,
}

/// Starts a server on its own thread that treats request `n` with `deed(n)`.
fn serve(deed: impl Fn(u64) -> Deed + Send + Sync + 'static) -> SocketAddr {
    listen(move |n, _| deed(n))
}

/// The same for a server that also looks at the request.
fn listen(deed: impl Fn(u64, &[u8]) -> Deed + Send + Sync + 'static) -> SocketAddr {
    let (send_addr, addr) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            send_addr.send(listener.local_addr().unwrap()).unwrap();
            answer_on(listener, deed).await;
        });
    });
    addr.recv().unwrap()
}

/// Serves all connections to `listener` until a deed is [`Deed::Vanish`].
async fn answer_on(listener: TcpListener, deed: impl Fn(u64, &[u8]) -> Deed + 'static) {
    let (deed, count, vanish) = (Rc::new(deed), Rc::new(Cell::new(0)), Rc::new(Notify::new()));
    let vanished = Rc::clone(&vanish);
    let serve = move |stream| {
        let (deed, count, vanish) = (Rc::clone(&deed), Rc::clone(&count), Rc::clone(&vanish));
        async move {
            let next = |request: &[u8]| {
                count.set(count.get() + 1);
                deed(count.get() - 1, request)
            };
            drop(converse(stream, next, &vanish).await);
        }
    };
    accept(listener, &vanished, serve).await;
}

/// Serves each connection to `listener` in its own task. On `vanish` it closes the listener and all connections.
async fn accept<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    vanish: &Notify,
    serve: impl Fn(TcpStream) -> F,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => drop(connections.spawn_local(serve(stream))),
            () = vanish.notified() => return,
        }
    }
}

/// Treats each request of one connection as `next` says, until one side closes it.
async fn converse(mut stream: TcpStream, next: impl Fn(&[u8]) -> Deed, vanish: &Notify) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        // Requests are small and not pipelined, so one read is one request.
        match next(&buffer[..n]) {
            Deed::Answer => stream.write_all(ANSWER).await?,
            Deed::AnswerAfter(delay) => {
                tokio::time::sleep(delay).await;
                stream.write_all(ANSWER).await?;
            }
            Deed::Status500 => {
                stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await?;
            }
            Deed::Refuse => {
                stream.write_all(b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 0\r\n\r\n").await?;
            }
            Deed::Close => return Ok(()),
            Deed::Garbage => stream.write_all(b"\x00\x01 this is no HTTP\r\n\r\n").await?,
            Deed::Silence => {}
            Deed::HalfAHead => stream.write_all(&ANSWER[..20]).await?,
            Deed::TooShort => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await,
            Deed::TooLong => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nok").await?,
            Deed::Twice => stream.write_all(&[ANSWER, ANSWER].concat()).await?,
            Deed::Vanish => {
                vanish.notify_one();
                return Ok(());
            }
        }
    }
}

fn target(addr: SocketAddr, connections: usize, timeout_ms: u64) -> Target {
    Target {
        requests: Arc::new(Constant(REQUEST.to_vec())),
        connections,
        shards: 1,
        client: Client::Raw(addr),
        pacing: Pacing::Timer,
        may_spin: false,
        cores: Vec::new(),
        timeout: Duration::from_millis(timeout_ms),
    }
}

fn load(per_second: f64, ms: u64) -> Load {
    let rate = Rate::per_second(per_second).unwrap();
    Load { arrivals: Arrivals::Constant, rate, duration: Duration::from_millis(ms), seed: 1, first_seq: 0 }
}

#[tokio::test]
async fn every_arrival_completes_against_a_server_that_answers() {
    let generator = Generator::start(target(serve(|_| Deed::Answer), 4, 5_000)).await.unwrap();
    for _ in 0..2 {
        let played = generator.play(load(500.0, 400)).await.unwrap();
        assert_eq!((played.load.scheduled, played.load.completed), (200, 200), "{:?}", played.load);
        assert_eq!(played.rate.offered, 500.0);
    }
}

/// Writes the sequence number into the last four bytes of each request.
struct Numbered;

impl Requests for Numbered {
    fn write(&self, seq: u64, request: &mut Vec<u8>) -> Kind {
        request.clear();
        request.extend_from_slice(&REQUEST[..REQUEST.len() - 4]);
        request.extend_from_slice(format!("{seq:04x}").as_bytes());
        Kind::Work
    }
}

#[tokio::test]
async fn shards_divide_one_schedule_without_gaps_or_duplicates() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let addr = listen(move |_, request| {
        let number = String::from_utf8_lossy(&request[request.len() - 4..]).into_owned();
        // Hexadecimal, because a fast machine sends more than 10 000.
        noted.lock().unwrap().push(u64::from_str_radix(&number, 16).unwrap());
        Deed::Answer
    });
    // Seven connections do not divide evenly, and neither do the arrivals.
    let target = Target { shards: 3, requests: Arc::new(Numbered), ..target(addr, 7, 5_000) };
    let generator = Generator::start(target).await.unwrap();
    let mut first_seq = 0;
    for arrivals in ["constant", "poisson", "ramp:200..800", "bursts:x4,every=100ms,lasts=20ms"] {
        let load = Load { arrivals: arrivals.parse().unwrap(), first_seq, ..load(500.0, 400) };
        let due = Schedule::new(load.arrivals.clone(), load.rate, load.duration, load.seed).count() as u64;
        let played = generator.play(load).await.unwrap();
        assert_eq!((played.load.scheduled, played.load.completed), (due, due), "{arrivals}: {:?}", played.load);
        assert_eq!(decode(&played.hdr.response_ns).unwrap().len(), due);
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.sort_unstable();
        assert_eq!(seen, (first_seq..first_seq + due).collect::<Vec<_>>(), "{arrivals}");
        first_seq += due;
    }
    let played = generator.saturate(Duration::from_millis(100)).await.unwrap();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!((seen.len() as u64, played.load.scheduled), (played.load.completed, played.load.completed));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len() as u64, played.load.completed, "two shards sent the same request");
}

#[test]
fn there_is_one_shard_per_50_000_requests_per_second_on_at_most_half_of_the_cores() {
    let rate = |per_second| Some(Rate::per_second(per_second).unwrap());
    for (peak, cores, shards) in [
        (rate(10_000.0), 16, 1),
        (rate(50_001.0), 16, 2),
        (rate(1e6), 16, 8),
        (rate(1e6), 2, 1),
        (None, 8, 4),
        (None, 1, 1),
    ] {
        assert_eq!(crate::experiment::generator::shards(peak, cores), shards, "{peak:?} on {cores}");
    }
}

#[tokio::test]
async fn every_pacing_sends_every_arrival_and_none_early() {
    for pacing in [Pacing::Timer, Pacing::Spin, Pacing::Coarse] {
        let target = Target { pacing, ..target(serve(|_| Deed::Answer), 4, 5_000) };
        let started = Instant::now();
        let played = Generator::start(target).await.unwrap().play(load(400.0, 250)).await.unwrap();
        assert_eq!(played.load.completed, 100);
        assert!(started.elapsed() >= Duration::from_millis(250));
        // No write is early, so a response time is at least the service time.
        assert!(played.response_us.p50 >= played.service_us.p50, "{played:?}");
    }
}

/// One connection, and a server that delays its first response by 400 ms while 40 requests fall due. Measured from the
/// intended time, half of them take 200 ms or more; measured from the actual write, almost none takes long.
#[tokio::test]
async fn response_time_runs_from_the_intended_time_and_not_from_the_write() {
    let stall = Duration::from_millis(400);
    let addr = serve(move |n| if n == 0 { Deed::AnswerAfter(stall) } else { Deed::Answer });
    let generator = Generator::start(target(addr, 1, 5_000)).await.unwrap();
    let played = generator.play(load(100.0, 400)).await.unwrap();
    assert_eq!(played.load.completed, 40);
    // Arrival i is due at 10 i ms and cannot be answered before 400 ms: the median of 400 - 10 i is 200 ms.
    assert!(played.response_us.p50.unwrap() >= 199_000.0, "{:?}", played.response_us);
    // The first is written on time; the others wait for as long as their response time less the 10 ms between arrivals.
    assert!(played.lateness_us.p50.unwrap() >= 189_000.0, "{:?}", played.lateness_us);
    assert!(played.service_us.p50.unwrap() < played.response_us.p50.unwrap() / 2.0, "{:?}", played.service_us);
    assert_eq!(played.validity.level, ValidityLevel::Invalid);
}

#[tokio::test]
async fn a_known_delay_is_never_reported_as_shorter() {
    let addr = serve(|_| Deed::AnswerAfter(Duration::from_millis(20)));
    let played = Generator::start(target(addr, 8, 5_000)).await.unwrap().play(load(100.0, 300)).await.unwrap();
    assert!(played.service_us.p50.unwrap() >= 20_000.0 * 0.999, "{:?}", played.service_us);
}

#[tokio::test]
async fn both_http1_clients_count_failures_by_the_same_classes_and_outside_the_latencies() {
    for client in [Client::Raw, Client::Hyper] as [fn(SocketAddr) -> Client; 2] {
        let addr = serve(|n| match n % 5 {
            0 => Deed::Status500,
            1 => Deed::Close,
            2 => Deed::Garbage,
            3 => Deed::Silence,
            _ => Deed::Answer,
        });
        // Enough connections for every silent request, and a time-out that a busy machine does not reach.
        let client = client(addr);
        let target = Target { client: client.clone(), ..target(addr, 32, 3_000) };
        let played = Generator::start(target).await.unwrap().play(load(250.0, 400)).await.unwrap();
        let counts = &played.load;
        assert!(counts.adds_up(), "{counts:?}");
        // Each deed treats every fifth of 100 requests, on any connection.
        let failed = |class: &str| counts.failed.get(class).copied().unwrap_or(0);
        let fates =
            [counts.completed, failed("status_5xx"), failed("closed"), failed("bad_response"), counts.timed_out];
        assert_eq!(fates, [20; 5], "{client:?}: {counts:?}");
        let completed = decode(&played.hdr.response_ns).unwrap().len();
        let failed = decode(&played.hdr.failure_ns).unwrap().len();
        assert_eq!((completed, failed), (counts.completed, counts.failures() + counts.timed_out));
        assert_eq!(played.validity.level, ValidityLevel::Invalid);
    }
}

/// The same request every time; every tenth is marked as faulty and every tenth as a probe.
struct Mixed;

impl Requests for Mixed {
    fn write(&self, seq: u64, request: &mut Vec<u8>) -> Kind {
        REQUEST.clone_into(request);
        match seq % 10 {
            3 => Kind::Faulty,
            7 => Kind::Probe,
            _ => Kind::Work,
        }
    }
}

#[tokio::test]
async fn a_refusal_counts_as_right_only_for_a_faulty_request() {
    // One connection, so that the server's n-th request is the generator's.
    let played = async |deed: fn(u64) -> Deed| {
        let target = Target { requests: Arc::new(Mixed), ..target(serve(deed), 1, 5_000) };
        Generator::start(target).await.unwrap().play(load(250.0, 400)).await.unwrap()
    };
    let mix = |refused_as_asked, not_refused| MixCounts { refused_as_asked, not_refused, probes_answered: 10 };
    let blames = |played: &LoadResult, what: &str| played.validity.causes.iter().any(|cause| cause.contains(what));

    let right = played(|n| if n % 10 == 3 { Deed::Refuse } else { Deed::Answer }).await;
    assert_eq!((right.load.completed, right.load.failed["status_4xx"], right.mix), (90, 10, mix(10, 0)));
    assert_eq!(right.answered(), 100);
    assert!(!blames(&right, "failed") && !blames(&right, "refused"), "{:?}", right.validity);
    // They still count as failures, and their times are not among the response times.
    assert_eq!(decode(&right.hdr.failure_ns).unwrap().len(), 10);
    assert_eq!(right.rate.offered, 250.0);
    assert!(right.rate.achieved > 0.9 * right.rate.offered, "{:?}", right.rate);

    let others = played(|n| if n % 10 == 4 { Deed::Refuse } else { Deed::Answer }).await;
    assert_eq!((others.mix, others.answered(), others.validity.level), (mix(0, 10), 90, ValidityLevel::Invalid));
    assert!(blames(&others, "10 requests failed") && blames(&others, "10 invalid requests were not refused"));

    // A server error is not a refusal.
    let broken = played(|n| if n % 10 == 3 { Deed::Status500 } else { Deed::Answer }).await;
    assert_eq!((broken.mix, broken.validity.level), (mix(0, 0), ValidityLevel::Invalid));
    assert!(blames(&broken, "10 requests failed (status_5xx 10)"), "{:?}", broken.validity);
}

#[tokio::test]
async fn a_closed_loop_sends_as_fast_as_its_connections_allow_and_no_faster() {
    let addr = serve(|_| Deed::AnswerAfter(Duration::from_millis(10)));
    let played =
        Generator::start(target(addr, 4, 5_000)).await.unwrap().saturate(Duration::from_millis(300)).await.unwrap();
    // Each connection is answered no sooner than after 10 ms, so four make at most 400 a second.
    assert!((4..=120).contains(&played.load.completed), "{:?}", played.load);
    assert!(played.load.adds_up() && played.load.scheduled == played.load.completed);
    assert_eq!(played.rate.asked, None);
}

#[tokio::test]
async fn a_stretch_cut_short_accounts_for_the_arrivals_due_by_then() {
    let generator =
        Generator::start(target(serve(|n| if n < 5 { Deed::Answer } else { Deed::Silence }), 2, 60_000)).await.unwrap();
    let minute = load(100.0, 60_000);
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        generator.cut_short();
    };
    let (played, ()) = tokio::join!(generator.play(minute), cut);
    let counts = played.unwrap().load;
    assert!(counts.adds_up() && counts.scheduled < 6_000, "{counts:?}");
    assert_eq!((counts.completed, counts.in_flight), (5, 2), "{counts:?}");
    assert_eq!(counts.unsent, counts.scheduled - 7);
}

#[tokio::test]
async fn only_requests_during_an_outage_of_the_server_fail() {
    let addr = serve(|n| if (20..40).contains(&n) { Deed::Close } else { Deed::Answer });
    let played = Generator::start(target(addr, 4, 2_000)).await.unwrap().play(load(400.0, 300)).await.unwrap();
    assert_eq!((played.load.completed, played.load.failures()), (100, 20), "{:?}", played.load);
}

#[tokio::test]
async fn arrivals_beyond_the_backlog_are_counted_as_missed() {
    let generator = Generator::start(target(serve(|_| Deed::Silence), 1, 100)).await.unwrap();
    let counts = generator.play(load(1_000_000.0, 20)).await.unwrap().load;
    assert_eq!(counts.scheduled, 20_000);
    assert!(counts.adds_up(), "{counts:?}");
    // One is in flight, the backlog is full, and the rest are missed; each time-out makes room for one more.
    assert!(counts.missed > 0 && counts.missed <= 20_000 - 1 - BACKLOG as u64, "{counts:?}");
    assert!(counts.unsent <= BACKLOG as u64, "{counts:?}");
}

#[tokio::test]
async fn starting_against_a_closed_port_is_an_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Generator::start(target(closed, 1, 100)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

//! The search for the capacity: against a server whose capacity its own stamps tell, and `otelbench capacity` end to end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{alone, document, otelbench, ran, server, stderr, stdout};
use otelbench::experiment::arrivals::Arrivals;
use otelbench::experiment::metric::Metric;
use otelbench::experiment::slo::Slo;
use otelbench::experiment::units::Rate;
use otelbench::generator::{Generator, Load, Target};
use otelbench::record::load::ValidityLevel;
use otelbench::verdict::capacity::{Next, Search, Step, StepOutcome};

/// Service time of the server, which serves one request after the other.
const SERVICE: Duration = Duration::from_millis(4);

/// When the server began to serve a request, and when it had.
type Stamps = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// A server that serves requests in the order in which they come, one at a time and each for [`SERVICE`] by its own clock: one
/// that was kept from its work catches up, so its capacity is that of its clock and not of the machine.
fn serve(stamps: Stamps) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (queue, orders) = channel::<(Instant, TcpStream)>();
    thread::spawn(move || {
        let mut free = Instant::now();
        for (came, mut stream) in orders {
            let began = free.max(came);
            free = began + SERVICE;
            thread::sleep(free.saturating_duration_since(Instant::now()));
            stamps.lock().unwrap().push((began, free));
            // A client that gave up is served all the same; it just does not hear of it.
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, queue) = (stream.unwrap(), queue.clone());
            thread::spawn(move || take_orders(stream, &queue));
        }
    });
    addr
}

fn take_orders(mut stream: TcpStream, queue: &Sender<(Instant, TcpStream)>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
        if queue.send((Instant::now(), stream.try_clone().unwrap())).is_err() {
            return;
        }
    }
}

/// The highest rate that holds a median of 10 ms is the rate at which the queue does not grow: at 1.2 % more, a step of a second
/// would end with a queue of 12 ms and a median of 10.
#[test]
fn a_known_capacity_is_found_as_the_server_stamped_it() {
    let _turn = alone();
    let started = Instant::now();
    let stamps = Stamps::default();
    let addr = serve(Arc::clone(&stamps));
    let target = Target { timeout: Duration::from_secs(1), ..server::target(addr, 16) };
    let slo: Slo = "p50=10ms".parse().unwrap();
    let step = Duration::from_secs(1);
    let mut search = Search::from(Rate::per_second(60.0).unwrap(), step);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (found, steps) = runtime.block_on(async {
        let generator = Generator::start(target).await.unwrap();
        let mut steps = Vec::new();
        loop {
            match search.next() {
                Next::Found(rate) => return (rate.as_f64(), steps),
                Next::Undecided(why) => panic!("{why}: {steps:?}"),
                Next::Try(rate) => {
                    let load = Load { arrivals: Arrivals::Constant, rate, duration: step, seed: 1, first_seq: 0 };
                    let outcome = StepOutcome::of(&generator.play(load).await.unwrap(), &slo);
                    search.note(Step { rate, outcome });
                    steps.push((rate.as_f64(), outcome));
                }
            }
        }
    });
    let stamps = stamps.lock().unwrap();
    let busy: Duration = stamps.iter().map(|(began, ended)| ended.duration_since(*began)).sum();
    let capacity = stamps.len() as f64 / busy.as_secs_f64();
    assert!((found / capacity - 1.0).abs() <= 0.05, "{found} of {capacity}: {steps:?}");
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
}

#[test]
fn none_and_full_are_searched_and_reported_with_their_ratio() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("capacity.json");
    // One connection and a payment of 5 ms make a capacity of at most 200 requests per second on any machine; half of the
    // requests may wait for some time before the SLO is broken.
    let search = "--slo p50=10ms --payment-delay 5ms --connections 1 --rps 100 --slice 400ms --warmup 100ms";
    let output = otelbench(&format!("capacity {search} --mode full --no-placebo --rounds 2 --seed 5"))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let (table, document) = (stdout(&output), document(&out));
    // A machine that stands still for a second makes a round void; two of them would say nothing of the program.
    assert!(output.status.success() && document.rounds.void.len() < 2, "{table}{}", stderr(&output));
    assert!(!document.partial && document.rounds.complete == 2);
    for arm in &document.arms {
        assert!(table.lines().any(|line| line.starts_with(&arm.name)), "{} is missing in:\n{table}", arm.name);
        let found = arm.capacity_rps.unwrap();
        // What was loaded with 5 % more than it can serve for 400 ms ends with a queue that breaks the SLO.
        assert!((25.0..=210.0).contains(&found), "{}: {found}", arm.name);
        // Each answer is a step that held, with every request answered.
        assert!(arm.cpu_us_per_request.total.is_some_and(|us| us > 0.0));
        assert!(arm.response_us.p50.is_some_and(|us| us <= 10_000.0), "{arm:?}");
        assert!(arm.rss_bytes.is_none() && arm.reasons.contains_key(&Metric::Rss));
    }
    assert!(document.deltas.iter().all(|delta| delta.metric == Metric::Capacity));
    assert_eq!(document.deltas.iter().map(|delta| delta.arm.as_str()).collect::<Vec<_>>(), ["full"]);
    // The searches of a round take turns, so no arm is a step ahead of another that still searches.
    let round: Vec<_> = document.records.iter().filter(|slice| slice.round == 0).collect();
    assert!(round.windows(2).all(|pair| pair[0].slice <= pair[1].slice));
    for slice in &document.records {
        assert!(slice.played.load.adds_up() && slice.played.rate.asked.is_some(), "{slice:?}");
    }
    // Steps that were overloaded lost no telemetry unseen.
    let full = document.arms.iter().find(|arm| arm.name == "full").unwrap();
    assert_eq!(full.telemetry.spans.unwrap().unaccounted, Some(0), "{:?}", full.telemetry);
    assert!(stderr(&output).contains("round 2 of 2 played"), "{}", stderr(&output));

    let report = |path: &std::path::Path, format: &str| {
        let output = ran(&format!("report {} --format {format}", path.display()));
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let records = out.with_extension("jsonl");
    assert_eq!(report(&out, "table"), table);
    assert_eq!(report(&out, "json"), std::fs::read_to_string(&out).unwrap());
    for format in ["table", "json", "markdown"] {
        assert_eq!(report(&records, format), report(&out, format));
    }
}

#[test]
fn an_slo_that_no_rate_holds_is_invalid_with_the_reason_and_without_a_number() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("capacity.json");
    // A payment of 30 ms is never answered within 10.
    let output =
        otelbench("capacity --slo p50=10ms --payment-delay 30ms --mode none --rps 60 --slice 400ms --warmup 0s")
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    let why = "the SLO is not held even at 50 requests per second";
    assert!(stderr(&output).contains(why) && stdout(&output).contains(why), "{}{}", stdout(&output), stderr(&output));
    let document = document(&out);
    assert_eq!((document.validity.level, document.deltas.len()), (ValidityLevel::Invalid, 0));
    assert!(document.arms.iter().all(|arm| arm.capacity_rps.is_none() && arm.reasons.contains_key(&Metric::Capacity)));
    // Two rounds are enough to see it.
    assert!(document.partial && document.rounds.void == [0, 1], "{:?}", document.rounds);
}

//! Cost of the generator per request, without the sockets: the schedule, writing the request, waiting for the arrival,
//! parsing the response head, recording, and reading the meter around a slice.
//!
//! - `schedule`: computes 10 000 arrivals.
//! - `request`: writes the bytes of one request.
//! - `pacing cpu`: CPU time of the generator's thread per arrival at 10 000 per second, the mean over a stretch. The service
//!   is a direct call that answers at once, so the only system calls are those of the wait.
//! - `pacing lateness`: mean lateness per arrival. This is not a cost, but what the cost buys.
//! - `parsing`: parses a complete response head with the parser of the raw client. No reads, no body.
//! - `recording`: records one value in a histogram (a completed request records four), and the whole cost of a direct call
//!   at full speed: writing the request, parsing it for the handler, the call, and recording. Nothing waits.
//! - `meter reading`: reads all clocks and counters of this process once.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::StatusCode;
use otelbench::experiment::arrivals::{Arrivals, Schedule};
use otelbench::experiment::generator::Pacing;
use otelbench::experiment::scenario::{Scenario, Settings};
use otelbench::experiment::units::Rate;
use otelbench::generator::{Client, Constant, Generator, Handler, Load, Requests, Target};
use otelbench::lab::meter::Meter;
use otelbench::lab::workload::Workload;
use otelbench::record::load::{LoadResult, decode};
use tokio::runtime::Runtime;

#[path = "../src/generator/wire/head.rs"]
mod head;

/// Long enough that fixed costs of a stretch, such as its histograms, hardly affect the mean.
const STRETCH: Duration = Duration::from_millis(200);

/// A runtime to control the generators, which work on their own threads.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// A generator that makes one direct call at a time, which answers at once.
fn generator(runtime: &Runtime, pacing: Pacing) -> Generator {
    let request = b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
    let target = Target {
        client: Client::Direct(Handler::new(|_| async { Ok(StatusCode::OK) })),
        requests: Arc::new(Constant(request.to_vec())),
        connections: 1,
        shards: 1,
        pacing,
        may_spin: false,
        cores: Vec::new(),
        timeout: Duration::from_secs(1),
    };
    runtime.block_on(Generator::start(target)).expect("there is nothing to connect to")
}

fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    let second = Duration::from_secs(1);
    group.throughput(Throughput::Elements(10_000));
    for text in [
        "constant",
        "poisson",
        "ramp:5000..15000",
        "steps:5000,10000,15000",
        "bursts:x4,every=100ms,lasts=10ms",
        "sine:depth=0.5,period=500ms",
    ] {
        let arrivals: Arrivals = text.parse().expect("it is valid");
        group.bench_function(text, |b| {
            let rate = black_box(Rate::TEN_THOUSAND);
            b.iter(|| Schedule::new(arrivals.clone(), rate, second, 1).map(black_box).count());
        });
    }
    group.finish();
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    for (name, settings) in [
        ("default", ""),
        ("zipf", "users = 100000\nuser_ids = \"zipf:1.1\""),
        ("1 % invalid", "error_share = 0.01"),
        ("a mix", "mix = [{ endpoint = \"order\", weight = 9, items = 3 }, { endpoint = \"healthz\" }]"),
        ("50 items", "mix = [{ endpoint = \"order\", items = 50 }]"),
    ] {
        let settings: Settings = toml::from_str(settings).expect("it is valid");
        let scenario = Scenario::resolve(settings).expect("nothing in it is a contradiction");
        let workload = Workload::new(1, 1, &scenario.generator.payload);
        let (mut bytes, mut seq) = (Vec::new(), 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                seq += 1;
                workload.write(black_box(seq), &mut bytes)
            });
        });
    }
    group.finish();
}

/// `n` times the mean, in microseconds, of one [`STRETCH`]: criterion chooses `n`, but a stretch has its own number.
fn times(n: u64, mean_us: f64) -> Duration {
    Duration::from_secs_f64(mean_us / 1e6 * n as f64)
}

fn pacing(c: &mut Criterion) {
    let runtime = runtime();
    for pacing in [Pacing::Timer, Pacing::Spin, Pacing::Coarse] {
        let generator = generator(&runtime, pacing);
        let play = || -> LoadResult {
            let rate = Rate::TEN_THOUSAND;
            let load = Load { arrivals: Arrivals::Constant, rate, duration: STRETCH, seed: 1, first_seq: 0 };
            runtime.block_on(generator.play(load)).expect("the generator is there")
        };
        let name = format!("{pacing:?}").to_lowercase();
        c.benchmark_group("pacing cpu").sample_size(10).bench_function(&name, |b| {
            b.iter_custom(|n| {
                let played = play();
                times(n, played.generator_cpu_us / played.load.completed as f64)
            });
        });
        c.benchmark_group("pacing lateness").sample_size(10).bench_function(&name, |b| {
            b.iter_custom(|n| times(n, decode(&play().hdr.lateness_ns).expect("it is a histogram").mean() / 1e3));
        });
    }
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parsing");
    let usual = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 35\r\n\
                 date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n";
    let many = "x-header: some value of the usual length\r\n".repeat(20);
    for (name, head) in [
        ("order service", format!("{usual}\r\n")),
        ("chunked", format!("{chunked}\r\n")),
        ("20 more headers", format!("{usual}{many}\r\n")),
    ] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| b.iter(|| head::parse_head(black_box(head.as_bytes()))));
    }
    group.finish();
}

fn recording(c: &mut Criterion) {
    let runtime = runtime();
    let generator = generator(&runtime, Pacing::Timer);
    let saturate = || runtime.block_on(generator.saturate(STRETCH)).expect("the generator is there");
    let mut group = c.benchmark_group("recording");
    // A decoded histogram has the range and the precision of the one that was recorded.
    let mut histogram = decode(&saturate().hdr.response_ns).expect("it is a histogram");
    let mut nanos = 0;
    group.bench_function("one value", |b| {
        b.iter(|| {
            // Values from 0 to 10 ms, each far from the last.
            nanos = (nanos + 6_180_339) % 10_000_000;
            histogram.saturating_record(black_box(nanos));
        });
    });
    group.sample_size(10).bench_function("a call at full speed", |b| {
        b.iter_custom(|n| {
            let played = saturate();
            times(n, played.generator_cpu_us / played.load.completed as f64)
        });
    });
    group.finish();
}

fn meter(c: &mut Criterion) {
    let meter = Meter::new(&[]);
    c.bench_function("meter reading", |b| b.iter(|| meter.read()));
}

criterion_group!(benches, schedules, requests, pacing, parsing, recording, meter);
criterion_main!(benches);

//! Cost of recording a metric with each recorder.
//!
//! - `counter`, `gauge`, `histogram`: records one value on one thread, without labels or with two. `macro` registers the
//!   metric on each call, as the documentation of `metrics` shows; `handle` registers it once.
//! - `counter, N threads`, `histogram, N threads`: the same on N threads at once, into one series or spread over 64
//!   ([`SERIES`]). The time is per recording and thread: if it does not grow with N, there is no contention.
//!
//! The recorders are those of the modes: `none` (nothing is installed), `prometheus`, `bridge`
//! (metrics-exporter-opentelemetry), `bridge, cached` (the same behind `otelbench_slim::CachingRecorder`), and `opentelemetry`, whose
//! instruments are handles by design and take their labels on each call.
//!
//! Each measurement has its own thread-local recorder. This is not slower than a global one: `metrics` always looks for a
//! thread-local recorder first, and a global one takes one more load.
//!
//! Nothing is exported while the clock runs. A Prometheus histogram keeps each value until it is rendered or its upkeep
//! runs, so the upkeep runs between [`STRETCH`]es, off the clock, as a scrape does it in a service.

use std::hint::black_box;
use std::sync::{Arc, Barrier, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use metrics::{Recorder, counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider, Temporality};
use otelbench_slim::CachingRecorder;

/// Number of recordings between two runs of the upkeep; the recorder holds at most this many values.
const STRETCH: u64 = 16_384;
/// Number of series that recordings are spread over.
const SERIES: usize = 64;
/// Upper bounds of the histogram buckets: OpenTelemetry's defaults, so that all recorders do the same work.
const BUCKETS: [f64; 15] =
    [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1_000.0, 2_500.0, 5_000.0, 7_500.0, 10_000.0];

/// Label values that distinguish the series.
static USERS: LazyLock<[&str; SERIES]> = LazyLock::new(|| std::array::from_fn(|user| &*format!("user-{user}").leak()));

/// Discards metrics. It exists because the SDK aggregates nothing without a reader.
struct NullExporter;

impl PushMetricExporter for NullExporter {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn read(builder: MeterProviderBuilder) -> MeterProviderBuilder {
    builder.with_reader(PeriodicReader::builder(NullExporter).with_interval(Duration::from_hours(1)).build())
}

/// A recorder for the macros and handles of `metrics`.
struct Recording {
    recorder: Option<Box<dyn Recorder + Send + Sync>>,
    /// The upkeep that a scrape also does.
    tend: Box<dyn Fn() + Send + Sync>,
    /// Stops its reader when dropped.
    _provider: Option<SdkMeterProvider>,
}

impl Recording {
    fn none() -> Self {
        Self { recorder: None, tend: Box::new(|| ()), _provider: None }
    }

    fn prometheus() -> Self {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).expect("there are buckets").build_recorder();
        let handle = recorder.handle();
        Self { recorder: Some(Box::new(recorder)), tend: Box::new(move || handle.run_upkeep()), _provider: None }
    }

    fn bridge(caching: bool) -> Self {
        let (provider, bridge) =
            metrics_exporter_opentelemetry::Recorder::builder("bench").with_meter_provider(read).build();
        let recorder: Box<dyn Recorder + Send + Sync> =
            if caching { Box::new(CachingRecorder::new(bridge)) } else { Box::new(bridge) };
        Self { recorder: Some(recorder), tend: Box::new(|| ()), _provider: Some(provider) }
    }

    fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        match &self.recorder {
            Some(recorder) => with_local_recorder(recorder.as_ref(), f),
            None => f(),
        }
    }
}

/// The name of a recorder, and its constructor.
type Named = (&'static str, fn() -> Recording);

const RECORDERS: [Named; 4] = [
    ("none", Recording::none),
    ("prometheus", Recording::prometheus),
    ("bridge", || Recording::bridge(false)),
    ("bridge, cached", || Recording::bridge(true)),
];

/// Runs `f` with an OpenTelemetry meter.
fn with_meter<T>(f: impl FnOnce(&Meter) -> T) -> T {
    let provider: SdkMeterProvider = read(SdkMeterProvider::builder()).build();
    f(&provider.meter("bench"))
}

/// A value that differs between consecutive recordings and covers all buckets.
fn value(turn: u64) -> f64 {
    (turn * 6_180_339 % 100_000) as f64 / 10.0
}

/// Mean time per thread of `n` recordings on each of `threads` threads. `record` gets the number of the recording.
fn timed(threads: usize, n: u64, recording: &Recording, record: &(impl Fn(u64) + Sync)) -> Duration {
    let stretches = || (0..n).step_by(STRETCH as usize).map(|from| from..n.min(from + STRETCH));
    let barrier = Barrier::new(threads);
    let play = |tends: bool| {
        recording.within(|| {
            let mut busy = Duration::ZERO;
            for turns in stretches() {
                barrier.wait();
                let started = Instant::now();
                turns.for_each(|turn| record(black_box(turn)));
                busy += started.elapsed();
                barrier.wait();
                if tends {
                    (recording.tend)();
                }
            }
            busy
        })
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| play(false))).collect();
        let first = play(true);
        let busy = others.into_iter().map(|other| other.join().expect("recording does not panic"));
        busy.fold(first, |sum, busy| sum + busy) / threads as u32
    })
}

/// Measures the operation that `make` returns, with each recorder. `how` becomes part of the benchmark's name.
fn under_each<R: Fn(u64) + Sync>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    threads: usize,
    how: &str,
    make: impl Fn() -> R,
) {
    for (name, recorder) in RECORDERS {
        let recording = recorder();
        let record = recording.within(&make);
        group.bench_function(format!("{name}, {how}"), |b| b.iter_custom(|n| timed(threads, n, &recording, &record)));
    }
}

/// Like [`under_each`], for OpenTelemetry's own instruments.
fn under_own<R: Fn(u64) + Sync>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    threads: usize,
    how: &str,
    make: impl FnOnce(&Meter) -> R,
) {
    with_meter(|meter| {
        let (record, nothing) = (make(meter), Recording::none());
        group.bench_function(format!("opentelemetry, {how}"), |b| {
            b.iter_custom(|n| timed(threads, n, &nothing, &record));
        });
    });
}

fn group(c: &mut Criterion, name: impl Into<String>) -> BenchmarkGroup<'_, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    group
}

/// Two labels as OpenTelemetry attributes.
fn labels() -> [KeyValue; 2] {
    [KeyValue::new("status", "ok"), KeyValue::new("payment", "card")]
}

fn counters(c: &mut Criterion) {
    let mut group = group(c, "counter");
    let group = &mut group;
    under_each(group, 1, "macro, no labels", || |_| counter!("orders").increment(1));
    under_each(group, 1, "macro, 2 labels", || {
        |_| counter!("orders", "status" => "ok", "payment" => "card").increment(1)
    });
    under_each(group, 1, "handle, no labels", || {
        let orders = counter!("orders");
        move |_| black_box(&orders).increment(1)
    });
    under_each(group, 1, "handle, 2 labels", || {
        let orders = counter!("orders", "status" => "ok", "payment" => "card");
        move |_| black_box(&orders).increment(1)
    });
    for (how, labels) in [("handle, no labels", &[][..]), ("handle, 2 labels", &labels()[..])] {
        under_own(group, 1, how, |meter| {
            let orders = meter.u64_counter("orders").build();
            move |_| orders.add(1, black_box(labels))
        });
    }
}

fn gauges(c: &mut Criterion) {
    let mut group = group(c, "gauge");
    let group = &mut group;
    under_each(group, 1, "macro, no labels", || |turn| gauge!("stock").set(value(turn)));
    under_each(group, 1, "macro, 2 labels", || {
        |turn| gauge!("stock", "status" => "ok", "payment" => "card").set(value(turn))
    });
    under_each(group, 1, "handle, no labels", || {
        let stock = gauge!("stock");
        move |turn| black_box(&stock).set(value(turn))
    });
    under_each(group, 1, "handle, 2 labels", || {
        let stock = gauge!("stock", "status" => "ok", "payment" => "card");
        move |turn| black_box(&stock).set(value(turn))
    });
    for (how, labels) in [("handle, no labels", &[][..]), ("handle, 2 labels", &labels()[..])] {
        under_own(group, 1, how, |meter| {
            let stock = meter.f64_gauge("stock").build();
            move |turn| stock.record(value(turn), black_box(labels))
        });
    }
}

fn histograms(c: &mut Criterion) {
    let mut group = group(c, "histogram");
    let group = &mut group;
    under_each(group, 1, "macro, no labels", || |turn| histogram!("latency").record(value(turn)));
    under_each(group, 1, "macro, 2 labels", || {
        |turn| histogram!("latency", "status" => "ok", "payment" => "card").record(value(turn))
    });
    under_each(group, 1, "handle, no labels", || {
        let latency = histogram!("latency");
        move |turn| black_box(&latency).record(value(turn))
    });
    under_each(group, 1, "handle, 2 labels", || {
        let latency = histogram!("latency", "status" => "ok", "payment" => "card");
        move |turn| black_box(&latency).record(value(turn))
    });
    for (how, labels) in [("handle, no labels", &[][..]), ("handle, 2 labels", &labels()[..])] {
        under_own(group, 1, how, |meter| {
            let latency = meter.f64_histogram("latency").build();
            move |turn| latency.record(value(turn), black_box(labels))
        });
    }
}

/// 1, 2, 4, … up to one thread per core; at least 1 and 2.
fn thread_counts() -> Vec<usize> {
    let most = thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count < most).collect();
    counts.push(most);
    counts
}

/// The series that a recording goes to, out of `of`.
fn series(turn: u64, of: usize) -> usize {
    turn as usize % of
}

fn threads(c: &mut Criterion) {
    for threads in thread_counts() {
        let mut counters = group(c, format!("counter, {threads} threads"));
        for (spread, of) in [("one series", 1), ("64 series", SERIES)] {
            under_each(&mut counters, threads, &format!("macro, {spread}"), || {
                move |turn| counter!("orders", "user" => USERS[series(turn, of)]).increment(1)
            });
            under_each(&mut counters, threads, &format!("handle, {spread}"), || {
                let orders: Vec<_> = USERS[..of].iter().map(|user| counter!("orders", "user" => *user)).collect();
                move |turn| orders[series(turn, of)].increment(1)
            });
            under_own(&mut counters, threads, &format!("handle, {spread}"), |meter| {
                let orders = meter.u64_counter("orders").build();
                let labels = USERS.map(|user| [KeyValue::new("user", user)]);
                move |turn| orders.add(1, &labels[series(turn, of)])
            });
        }
        counters.finish();
        let mut histograms = group(c, format!("histogram, {threads} threads"));
        for (spread, of) in [("one series", 1), ("64 series", SERIES)] {
            under_each(&mut histograms, threads, &format!("macro, {spread}"), || {
                move |turn| histogram!("latency", "user" => USERS[series(turn, of)]).record(value(turn))
            });
            under_each(&mut histograms, threads, &format!("handle, {spread}"), || {
                let latency: Vec<_> = USERS[..of].iter().map(|user| histogram!("latency", "user" => *user)).collect();
                move |turn| latency[series(turn, of)].record(value(turn))
            });
            under_own(&mut histograms, threads, &format!("handle, {spread}"), |meter| {
                let latency = meter.f64_histogram("latency").build();
                let labels = USERS.map(|user| [KeyValue::new("user", user)]);
                move |turn| latency.record(value(turn), &labels[series(turn, of)])
            });
        }
        histograms.finish();
    }
}

/// Checks that [`timed`] makes every recording: anything left out would look fast.
fn recorded(_: &mut Criterion) {
    const TURNS: u64 = 3 * STRETCH + 5;
    let prometheus = PrometheusBuilder::new().build_recorder();
    let (handle, recorder) = (prometheus.handle(), Arc::new(prometheus));
    let recording = Recording { recorder: Some(Box::new(recorder)), ..Recording::none() };
    let orders = recording.within(|| counter!("orders"));
    timed(2, TURNS, &recording, &|_| counter!("orders").increment(1));
    timed(2, TURNS, &recording, &|_| orders.increment(1));
    assert!(handle.render().contains(&format!("\norders {}\n", 4 * TURNS)), "{}", handle.render());
}

criterion_group!(benches, recorded, counters, gauges, histograms, threads);
criterion_main!(benches);

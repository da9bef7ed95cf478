//! Cost of a span, and where it arises: the same code runs on one rung of the stack after the other.
//!
//! - `create`, `enter`, `exit`, `close`: the phases of a span's life, each timed separately; `whole` is all of them. Without
//!   fields or with three. Each clock reading covers [`DEPTH`] nested spans, so it adds only a few nanoseconds to each
//!   figure.
//! - `nested`: a chain of nested spans, 1 and 10 deep; the time is that of the whole chain.
//! - `context`: reads and writes a caller's W3C headers, trace context alone and with baggage, with OpenTelemetry's
//!   propagators and with `slim`. Continuing a trace means reading the headers and setting the span's parent.
//!
//! The rungs:
//!
//! - `no subscriber`: nothing is installed;
//! - `filtered by level`: a subscriber for warnings, while the spans are INFO;
//! - `registry`: the span exists, but there is no layer;
//! - `sampled out`: tracing-opentelemetry with a sampler that records nothing;
//! - `null exporter`: every span is passed, one at a time, to an exporter that drops it;
//! - `batch`: every span goes through the batch processor's queue to an exporter that drops it;
//! - `slim`: every span is encoded as OTLP into the queue of `slim`, which sends it to a sink.
//!
//! Queues are emptied between [`STRETCH`]es, off the clock, so the figures are the cost on the thread that creates the
//! spans. An overflowing queue would make spans look cheaper; each rung therefore checks that all of its spans arrived.
//!
//! `tracing` caches for each callsite whether any live subscriber is interested. Each rung is alone, and the cache is
//! rebuilt when it starts. Its subscriber is thread-local; a global one is found without a thread-local lookup, which makes
//! a span slightly cheaper.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter, TracerProviderBuilder,
};
use otelbench::lab::lane::LOOPBACK;
use otelbench::sink::{Receiver, ReceiverConfig, Sink, TreeShape};
use otelbench_slim::{self as slim, Slim};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

/// Number of spans between two flushes: half of the queue's capacity.
const STRETCH: u64 = 1_024;
/// Capacity of the queues: the SDK's default.
const QUEUE: usize = 2_048;
/// Spans per clock reading.
const DEPTH: usize = 8;
/// Long enough that nothing is sent without a flush.
const NEVER: Duration = Duration::from_hours(1);
/// Time-out of a flush: long enough on any machine.
const SENT: Duration = Duration::from_mins(1);

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const BAGGAGE: &str = "user_id=user-1,region=north";

/// An exporter that counts and drops spans.
#[derive(Clone, Debug, Default)]
struct Null(Arc<AtomicU64>);

impl SpanExporter for Null {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.fetch_add(batch.len() as u64, Relaxed);
        Ok(())
    }
}

/// The stack that handles the spans.
struct Rung {
    /// `None` if nothing is installed.
    dispatch: Option<Dispatch>,
    output: Output,
}

/// Where a rung's spans go.
enum Output {
    /// The spans are disabled.
    Disabled,
    /// The spans are not exported.
    Nowhere,
    Sdk {
        provider: SdkTracerProvider,
        exported: Null,
    },
    Slim {
        slim: Slim,
        receiver: Receiver,
        _sink: Sink,
    },
}

impl Rung {
    fn no_subscriber() -> Self {
        Self { dispatch: None, output: Output::Disabled }
    }

    fn filtered() -> Self {
        let subscriber = tracing_subscriber::registry().with(LevelFilter::WARN);
        Self { dispatch: Some(Dispatch::new(subscriber)), output: Output::Disabled }
    }

    fn registry() -> Self {
        Self { dispatch: Some(Dispatch::new(tracing_subscriber::registry())), output: Output::Nowhere }
    }

    fn sampled_out() -> Self {
        let rung = Self::sdk(|builder, null| builder.with_simple_exporter(null).with_sampler(Sampler::AlwaysOff));
        Self { output: Output::Nowhere, ..rung }
    }

    fn null_exporter() -> Self {
        Self::sdk(TracerProviderBuilder::with_simple_exporter)
    }

    fn batch() -> Self {
        Self::sdk(|builder, null| {
            let config = BatchConfigBuilder::default()
                .with_max_queue_size(QUEUE)
                .with_max_export_batch_size(QUEUE)
                .with_scheduled_delay(NEVER)
                .build();
            builder.with_span_processor(BatchSpanProcessor::builder(null).with_batch_config(config).build())
        })
    }

    fn sdk(set_up: impl FnOnce(TracerProviderBuilder, Null) -> TracerProviderBuilder) -> Self {
        let exported = Null::default();
        let provider = set_up(SdkTracerProvider::builder(), exported.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
        let dispatch = Some(Dispatch::new(tracing_subscriber::registry().with(layer)));
        Self { dispatch, output: Output::Sdk { provider, exported } }
    }

    fn slim() -> Self {
        let sink = Sink::start().expect("a runtime can be made");
        let receiver =
            sink.listen(ReceiverConfig::at(LOOPBACK, TreeShape::new(&[], None))).expect("loopback has a free port");
        let usual = slim::Settings::new(receiver.endpoint(), Vec::new());
        let settings = slim::Settings { queue: QUEUE, batch: QUEUE, delay: NEVER, ..usual };
        let (layer, slim) = Slim::start(&settings, |_| ()).expect("a thread can be started");
        let dispatch = Some(Dispatch::new(tracing_subscriber::registry().with(layer)));
        Self { dispatch, output: Output::Slim { slim, receiver, _sink: sink } }
    }

    /// Runs `f` with the rung installed.
    fn under<T>(&self, f: impl FnOnce() -> T) -> T {
        let above = || {
            // A single subscriber is asked through this thread, so the cache must be rebuilt after it is set.
            tracing::callsite::rebuild_interest_cache();
            f()
        };
        match &self.dispatch {
            Some(dispatch) => tracing::dispatcher::with_default(dispatch, above),
            None => above(),
        }
    }

    /// Flushes the queue.
    fn empty(&self) {
        match &self.output {
            Output::Disabled | Output::Nowhere => {}
            Output::Sdk { provider, .. } => provider.force_flush().expect("an exporter that drops spans does not fail"),
            Output::Slim { slim, .. } => slim.flush(SENT).expect("the sink answers"),
        }
    }

    /// Checks that all `made` spans were exported.
    fn check(self, made: u64) {
        match self.output {
            Output::Disabled | Output::Nowhere => {}
            Output::Sdk { exported, .. } => assert_eq!(exported.0.load(Relaxed), made, "spans were lost"),
            Output::Slim { slim, receiver, .. } => {
                let counts = slim.shutdown(SENT).expect("the sink answers");
                assert_eq!(
                    (counts.ended, counts.dropped, receiver.received().spans),
                    (made, 0, made),
                    "spans were lost"
                );
            }
        }
    }
}

/// A name, and a constructor that each measurement calls.
type Named<T> = (&'static str, fn() -> T);

const RUNGS: [Named<Rung>; 7] = [
    ("no subscriber", Rung::no_subscriber),
    ("filtered by level", Rung::filtered),
    ("registry", Rung::registry),
    ("sampled out", Rung::sampled_out),
    ("null exporter", Rung::null_exporter),
    ("batch", Rung::batch),
    ("slim", Rung::slim),
];

fn without_fields() -> Span {
    info_span!("order")
}

fn with_fields() -> Span {
    info_span!("order", user = black_box("user-1"), items = black_box(3), amount = black_box(10.5))
}

/// A phase of a span's life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Create,
    Enter,
    Exit,
    Close,
}

/// Runs `life`, and times it if `asked`.
fn clocked<T>(asked: bool, life: impl FnOnce() -> T) -> (Duration, T) {
    if !asked {
        return (Duration::ZERO, life());
    }
    let started = Instant::now();
    let lived = life();
    (started.elapsed(), lived)
}

/// Creates, enters, exits and closes [`DEPTH`] spans, and times one of these phases.
fn live(part: Part, make: fn() -> Span) -> Duration {
    let (create, spans): (_, [Span; DEPTH]) = clocked(part == Part::Create, || std::array::from_fn(|_| make()));
    let (enter, entered) = clocked(part == Part::Enter, || spans.each_ref().map(Span::enter));
    let (exit, ()) = clocked(part == Part::Exit, || entered.into_iter().rev().for_each(drop));
    let (close, ()) = clocked(part == Part::Close, || drop(spans));
    create + enter + exit + close
}

/// Benchmarks `life`, which makes this many `spans` on a rung and returns the time to count. Checks that all spans were
/// exported.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, rung: Rung, spans: u64, life: impl Fn() -> Duration) {
    let mut made = 0;
    rung.under(|| {
        let disabled = matches!(rung.output, Output::Disabled);
        assert_eq!(without_fields().is_disabled(), disabled, "the interest cache is from another rung");
        made += 1;
        group.bench_function(name, |b: &mut Bencher<'_>| {
            b.iter_custom(|n| {
                let mut timed = Duration::ZERO;
                for turn in 1..=n {
                    timed += life();
                    if turn.is_multiple_of(STRETCH / spans) {
                        rung.empty();
                    }
                }
                made += n * spans;
                rung.empty();
                timed
            });
        });
    });
    rung.check(made);
}

fn group(c: &mut Criterion, name: impl Into<String>) -> BenchmarkGroup<'_, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    group
}

const FIELDS: [Named<Span>; 2] = [("no fields", without_fields), ("3 fields", with_fields)];

fn parts(c: &mut Criterion) {
    for part in [Part::Create, Part::Enter, Part::Exit, Part::Close] {
        let mut group = group(c, format!("{part:?}").to_lowercase());
        for (fields, make) in FIELDS {
            for (name, rung) in RUNGS {
                let life = || live(part, make) / DEPTH as u32;
                measure(&mut group, &format!("{name}, {fields}"), rung(), DEPTH as u64, life);
            }
        }
    }
}

fn whole(c: &mut Criterion) {
    let mut group = group(c, "whole");
    for (fields, make) in FIELDS {
        for (name, rung) in RUNGS {
            measure(&mut group, &format!("{name}, {fields}"), rung(), DEPTH as u64, || {
                let started = Instant::now();
                for _ in 0..DEPTH {
                    make().in_scope(|| black_box(()));
                }
                started.elapsed() / DEPTH as u32
            });
        }
    }
}

fn tree(depth: usize) {
    without_fields().in_scope(|| {
        if depth > 1 {
            tree(depth - 1);
        }
    });
}

fn nested(c: &mut Criterion) {
    let mut group = group(c, "nested");
    for depth in [1, 10] {
        for (name, rung) in RUNGS {
            measure(&mut group, &format!("{name}, {depth} deep"), rung(), depth as u64, || {
                let started = Instant::now();
                tree(black_box(depth));
                started.elapsed()
            });
        }
    }
}

/// A caller's request headers.
fn headers(baggage: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", http::HeaderValue::from_static(TRACEPARENT));
    if baggage {
        headers.insert("baggage", http::HeaderValue::from_static(BAGGAGE));
    }
    headers
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn context(c: &mut Criterion) {
    let mut group = group(c, "context");
    let propagator = TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]);
    for (what, baggage) in [("trace context", false), ("with baggage", true)] {
        let headers = headers(baggage);
        let extract = || propagator.extract_with_context(&Context::new(), &HeaderExtractor(black_box(&headers)));
        let caller = extract();
        assert!(caller.span().span_context().is_remote() && caller.baggage().is_empty() != baggage);
        group.bench_function(format!("extract, {what}"), |b| b.iter(extract));
        group.bench_function(format!("inject, {what}"), |b| {
            let mut out = HeaderMap::new();
            b.iter(|| propagator.inject_context(&caller, &mut HeaderInjector(black_box(&mut out))));
            assert_eq!(out["traceparent"], TRACEPARENT);
        });
        measure(&mut group, &format!("continue a trace, batch, {what}"), Rung::batch(), 1, || {
            let span = without_fields();
            let started = Instant::now();
            span.set_parent(extract()).expect("the span is new");
            started.elapsed()
        });
        measure(&mut group, &format!("continue a trace, slim, {what}"), Rung::slim(), 1, || {
            let span = without_fields();
            let started = Instant::now();
            if let Some(caller) = header(&headers, "traceparent") {
                slim::continue_trace(&span, caller, header(&headers, "baggage"));
            }
            started.elapsed()
        });
    }
    let slim = Rung::slim();
    slim.under(|| {
        let span = without_fields();
        slim::continue_trace(&span, TRACEPARENT, Some(BAGGAGE));
        assert_eq!(slim::baggage(&span, "user_id").as_deref(), Some("user-1"));
        group.bench_function("inject, slim", |b| b.iter(|| slim::traceparent(black_box(&span))));
        group.bench_function("read baggage, slim", |b| b.iter(|| slim::baggage(black_box(&span), "user_id")));
    });
    slim.check(1);
    let attached =
        Context::new().with_baggage([KeyValue::new("user_id", "user-1"), KeyValue::new("region", "north")]).attach();
    group.bench_function("read baggage, opentelemetry", |b| {
        b.iter(|| {
            Context::map_current(|cx| cx.baggage().get(black_box("user_id")).map(|user| user.as_str().to_owned()))
        });
    });
    drop(attached);
}

criterion_group!(benches, parts, whole, nested, context);
criterion_main!(benches);

//! How the span pipeline reports its losses, and what it sends about itself.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets, dynamic_filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::apparatus::{KeptSpans, Log, SCOPE, collector, counted, lock, nobody, one_worker, otlp_spans};
use super::{AttemptError, Hang, Probe};
use crate::record::probes::ProbeObservation;
use crate::sink;

/// The probes of this file.
pub(super) fn probes() -> Vec<Probe> {
    vec![
        Probe {
            name: "telemetry-loop",
            title: "exports make spans, which are exported, which makes spans",
            pitfall: "The batch processor suppresses telemetry on its own thread alone. gRPC runs on the threads of a tokio \
                      runtime, where h2 opens spans at TRACE for every frame: a subscriber without a filter sends them too.",
            advice: "Filter by level, or by target: `h2=off,hyper=off,hyper_util=off,tonic=off,tower=off`.",
            defect: || telemetry_loop(false),
            fix: Some(|| telemetry_loop(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "failed-export-ok",
            title: "exports that fail are reported as Ok",
            pitfall: "The batch processor's `shutdown` returns Ok whatever its last export returned, and the errors of exports \
                      that a full batch or the timer set off are dropped: a later `force_flush` is Ok as well.",
            advice: "Wrap the exporter and count what it returns: only there is every failure visible.",
            defect: || failed_export(false),
            fix: Some(|| failed_export(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "queue-full",
            title: "spans dropped at a full queue are reported only in the log",
            pitfall: "The batch processor counts drops where no code can read them: it logs one warning at the first, and the \
                      total at shutdown.",
            advice: "Size the queue for the longest export at your peak rate (`with_max_queue_size`), let the SDK's log at WARN \
                     through your filter, and count spans as they end and as they are exported.",
            defect: || queue_full(8),
            fix: Some(|| queue_full(ENDED)),
            hang: Hang::Failure,
        },
    ]
}

/// Targets of the exporter's own HTTP/2 stack.
const OWN_STACK: [&str; 5] = ["h2", "hyper", "hyper_util", "tonic", "tower"];

fn telemetry_loop(filtered: bool) -> Result<ProbeObservation, AttemptError> {
    const EXPORTS: u64 = 10;
    let (collector, io) = (collector()?, one_worker()?);
    let provider = SdkTracerProvider::builder().with_batch_exporter(otlp_spans(&collector.endpoint(), &io)?).build();
    // A real collector is another process, whose spans are in no trace here.
    let apart = dynamic_filter_fn(|_, _| thread::current().name() != Some(sink::THREAD));
    let off = OWN_STACK.map(|target| (target, if filtered { LevelFilter::OFF } else { LevelFilter::TRACE }));
    let filter = Targets::new().with_default(LevelFilter::TRACE).with_targets(off);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE));
    tracing_subscriber::registry().with(layer.with_filter(apart)).with(filter).try_init()?;
    for _ in 0..EXPORTS {
        tracing::info_span!("order").in_scope(|| {});
        provider.force_flush()?;
    }
    let arrived = collector.spans();
    let foreign = arrived.saturating_sub(EXPORTS);
    let per_export = foreign as f64 / EXPORTS as f64;
    Ok(ProbeObservation::new(
        foreign > 0,
        format!(
            "{EXPORTS} exports of one span each brought {foreign} further spans of the exporter's own HTTP/2 stack, \
             {per_export:.1} per export."
        ),
        [
            ("exports", EXPORTS as f64),
            ("spans_asked", EXPORTS as f64),
            ("spans_arrived", arrived as f64),
            ("foreign_per_export", per_export),
        ],
    ))
}

/// Spans in exports that returned an error.
#[derive(Clone, Debug, Default)]
struct Failures(Arc<AtomicUsize>);

/// An exporter whose failures are counted.
#[derive(Debug)]
struct Watched<E> {
    inner: E,
    failures: Failures,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        if result.is_err() {
            self.failures.0.fetch_add(spans, Relaxed);
        }
        result
    }
}

fn failed_export(watched: bool) -> Result<ProbeObservation, AttemptError> {
    const BATCH: usize = 4;
    let io = one_worker()?;
    let failures = Failures::default();
    let exporter = Watched { inner: otlp_spans(&nobody()?, &io)?, failures: failures.clone() };
    let config = BatchConfigBuilder::default().with_max_export_batch_size(BATCH).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let tracer = provider.tracer(SCOPE);
    // A full batch: exported, and lost, before the flush.
    (0..BATCH).for_each(|_| drop(tracer.start("order")));
    while failures.0.load(Relaxed) < BATCH {
        thread::yield_now();
    }
    let flush_ok = provider.force_flush().is_ok();
    drop(tracer.start("order"));
    let shutdown_ok = provider.shutdown().is_ok();
    let lost = BATCH + 1;
    let told = if watched { failures.0.load(Relaxed) } else { 0 };
    let heard = if watched { format!("a counting exporter reported {told}") } else { "no call reported any".into() };
    let says = |ok: bool| if ok { "Ok" } else { "an error" };
    Ok(ProbeObservation::new(
        flush_ok && shutdown_ok && told < lost,
        format!(
            "With the collector down, {lost} of {lost} spans were lost: `force_flush` returned {}, `shutdown` {}, and {heard}.",
            says(flush_ok),
            says(shutdown_ok),
        ),
        [
            ("spans", lost as f64),
            ("lost", lost as f64),
            ("flush_ok", f64::from(u8::from(flush_ok))),
            ("shutdown_ok", f64::from(u8::from(shutdown_ok))),
            ("told", told as f64),
        ],
    ))
}

/// Spans that end while an export is under way.
const ENDED: usize = 100;

/// An exporter that says when an export begins and waits until it may end.
#[derive(Debug)]
struct Held {
    kept: KeptSpans,
    began: Sender<()>,
    may_end: Mutex<Receiver<()>>,
}

impl SpanExporter for Held {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // Both ends are gone only when the probe is over.
        let _ = self.began.send(());
        let _ = lock(&self.may_end).recv();
        self.kept.export(batch).await
    }
}

fn queue_full(queue: usize) -> Result<ProbeObservation, AttemptError> {
    let (kept, log) = (KeptSpans::default(), Log::default());
    let ((began, beginning), (let_end, may_end)) = (channel(), channel());
    let exporter = Held { kept: kept.clone(), began, may_end: Mutex::new(may_end) };
    let config = BatchConfigBuilder::default().with_max_queue_size(queue).with_max_export_batch_size(1).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let tracer = provider.tracer(SCOPE);
    let subscriber = tracing_subscriber::registry().with(log.clone());
    let (flush_ok, shutdown_ok) = tracing::subscriber::with_default(subscriber, || -> Result<_, AttemptError> {
        drop(tracer.start("first"));
        beginning.recv()?;
        // The worker is in its export: what ends now waits in the queue.
        (0..ENDED).for_each(|_| drop(tracer.start("order")));
        // Every export that is still to come may end at once.
        drop(let_end);
        Ok((provider.force_flush().is_ok(), provider.shutdown().is_ok()))
    })?;
    let dropped = 1 + ENDED - kept.count();
    let logged = log.events().iter().filter_map(|event| event.dropped).sum::<u64>();
    Ok(ProbeObservation::new(
        dropped > 0,
        format!(
            "Of {ENDED} spans that ended while an export was under way, {dropped} were dropped at a queue of {queue}: \
             `force_flush` was {}, `shutdown` was {}, {} at shutdown reported {logged}.",
            if flush_ok { "Ok" } else { "an error" },
            if shutdown_ok { "Ok" } else { "an error" },
            counted(log.times("BatchSpanProcessor.SpansDropped"), "log line"),
        ),
        [
            ("ended", ENDED as f64),
            ("dropped", dropped as f64),
            ("logged", logged as f64),
            ("flush_ok", f64::from(u8::from(flush_ok))),
            ("shutdown_ok", f64::from(u8::from(shutdown_ok))),
        ],
    ))
}

//! Instruments of the probes: the real sink, and exporters that keep the data the SDK hands them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics_exporter_opentelemetry::Recorder;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_otlp::{SpanExporter as OtlpSpans, WithExportConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, Temporality};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::runtime::Runtime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::AttemptError;
use crate::sink::{Receiver, ReceiverConfig, Sink, TreeShape};

/// The name of the probes where a crate asks for one.
pub(super) const SCOPE: &str = "otelbench";

/// A collector that runs until it is dropped.
pub(super) struct ProbeCollector {
    receiver: Receiver,
    _sink: Sink,
}

/// A collector on a free port.
pub(super) fn collector() -> Result<ProbeCollector, AttemptError> {
    let sink = Sink::start()?;
    let receiver = sink.listen(ReceiverConfig::at((Ipv4Addr::LOCALHOST, 0).into(), TreeShape::default()))?;
    Ok(ProbeCollector { receiver, _sink: sink })
}

impl ProbeCollector {
    pub(super) fn endpoint(&self) -> String {
        self.receiver.endpoint()
    }

    /// Distinct spans that arrived.
    pub(super) fn spans(&self) -> u64 {
        self.receiver.received().spans
    }

    /// The last total of a monotonic sum; 0 when none arrived.
    pub(super) fn counter(&self, name: &str) -> f64 {
        self.receiver.received().metrics.counters.get(name).copied().unwrap_or(0.0)
    }

    /// Bytes read from connections.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.receiver.received().wire_bytes
    }

    /// Series that arrived.
    pub(super) fn series(&self) -> u64 {
        self.receiver.received().metrics.series
    }
}

/// An endpoint that refuses every connection: a port that was free a moment ago.
pub(super) fn nobody() -> Result<String, AttemptError> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(format!("http://127.0.0.1:{port}"))
}

/// A runtime with one worker thread.
pub(super) fn one_worker() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build()
}

/// The OTLP/gRPC span exporter; its I/O runs on `runtime`.
pub(super) fn otlp_spans(endpoint: &str, runtime: &Runtime) -> Result<OtlpSpans, AttemptError> {
    let _entered = runtime.enter();
    Ok(OtlpSpans::builder().with_tonic().with_endpoint(endpoint).build()?)
}

/// One stream of metric data: the points with the same name, unit and description.
#[derive(Clone, Debug, Default)]
pub(super) struct MetricStream {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) points: Vec<MetricPoint>,
}

impl MetricStream {
    /// The sum of its points.
    pub(super) fn total(&self) -> f64 {
        sum(self.points.iter().map(|point| point.value))
    }
}

/// The sum of these, and 0 of none: the standard library's is −0.
pub(super) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// One series of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct MetricPoint {
    pub(super) labels: BTreeMap<String, String>,
    /// A counter's total, a gauge's last value, a histogram's count.
    pub(super) value: f64,
    /// A histogram's buckets.
    pub(super) buckets: Vec<u64>,
}

/// A metric exporter that keeps the streams of the last export.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptStreams(Arc<Mutex<Vec<MetricStream>>>);

impl KeptStreams {
    pub(super) fn streams(&self) -> Vec<MetricStream> {
        lock(&self.0).clone()
    }
}

impl PushMetricExporter for KeptStreams {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        *lock(&self.0) = metrics
            .scope_metrics()
            .flat_map(ScopeMetrics::metrics)
            .map(|metric| MetricStream {
                name: metric.name().to_owned(),
                unit: metric.unit().to_owned(),
                points: match metric.data() {
                    AggregatedMetrics::F64(data) => points(data, |value| value),
                    AggregatedMetrics::U64(data) => points(data, |value| value as f64),
                    AggregatedMetrics::I64(data) => points(data, |value| value as f64),
                },
            })
            .collect();
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

fn points<T: Copy>(data: &MetricData<T>, number: impl Fn(T) -> f64) -> Vec<MetricPoint> {
    let labels = |attributes: &mut dyn Iterator<Item = &KeyValue>| {
        attributes.map(|kv| (kv.key.to_string(), kv.value.to_string())).collect()
    };
    let plain = |labels, value| MetricPoint { labels, value, buckets: Vec::new() };
    match data {
        MetricData::Sum(sum) => {
            sum.data_points().map(|p| plain(labels(&mut p.attributes()), number(p.value()))).collect()
        }
        MetricData::Gauge(gauge) => {
            gauge.data_points().map(|p| plain(labels(&mut p.attributes()), number(p.value()))).collect()
        }
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .map(|p| MetricPoint {
                labels: labels(&mut p.attributes()),
                value: p.count() as f64,
                buckets: p.bucket_counts().collect(),
            })
            .collect(),
        // No probe asks for one.
        MetricData::ExponentialHistogram(_) => Vec::new(),
    }
}

/// Records through the `metrics` macros into the bridge, whose meter `shaped` may give views; returns what was exported.
pub(super) fn bridged(
    shaped: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
    record: impl FnOnce(),
) -> Result<Vec<MetricStream>, AttemptError> {
    let kept = KeptStreams::default();
    let (provider, recorder) = Recorder::builder(SCOPE)
        .with_meter_provider(|builder| shaped(builder.with_periodic_exporter(kept.clone())))
        .build();
    metrics::with_local_recorder(&recorder, record);
    provider.force_flush()?;
    let streams = kept.streams();
    provider.shutdown()?;
    Ok(streams)
}

/// A span exporter that keeps the spans.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptSpans(Arc<Mutex<Vec<SpanData>>>);

impl KeptSpans {
    /// The spans exported so far.
    pub(super) fn spans(&self) -> Vec<SpanData> {
        lock(&self.0).clone()
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.0).len()
    }
}

impl SpanExporter for KeptSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        lock(&self.0).extend(batch);
        Ok(())
    }
}

/// The span called `name`.
pub(super) fn span<'a>(spans: &'a [SpanData], name: &str) -> Result<&'a SpanData, AttemptError> {
    spans.iter().find(|span| span.name == name).ok_or_else(|| format!("no span `{name}` was exported").into())
}

/// Whether `child` is the child of `parent`, by trace and span id.
pub(super) fn is_child(spans: &[SpanData], child: &str, parent: &str) -> Result<bool, AttemptError> {
    let (child, parent) = (span(spans, child)?, span(spans, parent)?);
    Ok(child.parent_span_id == parent.span_context.span_id()
        && child.span_context.trace_id() == parent.span_context.trace_id())
}

/// Whether a span begins a trace.
pub(super) fn is_root(span: &SpanData) -> bool {
    span.parent_span_id == SpanId::INVALID
}

/// A provider whose spans `kept` has as soon as they end.
pub(super) fn keeping(kept: &KeptSpans) -> SdkTracerProvider {
    SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build()
}

/// A subscriber that turns `tracing` spans into OpenTelemetry spans, with the layer's defaults.
pub(super) fn traced(provider: &SdkTracerProvider) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE)))
}

/// Collects the log events of the OpenTelemetry crates at WARN and above. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Logged>>>);

/// One event.
#[derive(Clone, Debug, Default)]
pub(super) struct Logged {
    pub(super) name: &'static str,
    /// The count in an event about dropped spans.
    pub(super) dropped: Option<u64>,
}

impl Log {
    pub(super) fn events(&self) -> Vec<Logged> {
        lock(&self.0).clone()
    }

    /// How often an event of this name was logged.
    pub(super) fn times(&self, name: &str) -> usize {
        lock(&self.0).iter().filter(|logged| logged.name == name).count()
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::WARN && metadata.target().starts_with("opentelemetry") {
            let mut logged = Logged { name: metadata.name(), dropped: None };
            event.record(&mut logged);
            lock(&self.0).push(logged);
        }
    }
}

impl Visit for Logged {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "dropped_span_count" {
            self.dropped = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// A number of things, in words.
pub(super) fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A panic elsewhere must not hide the kept data.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

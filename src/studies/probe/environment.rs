//! Tries which `OTEL_*` variables have an effect: each in a process of its own, compared with one without it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::propagation::Injector;
use opentelemetry::trace::{
    Span, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, Key, KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter as OtlpSpans, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter};

use super::apparatus::{KeptSpans, ProbeCollector, SCOPE, collector, keeping, lock, one_worker};
use super::{AttemptError, Hang, Probe};
use crate::os::subprocess::{SubprocessError, TIMEOUT, capture_stdout, without_otel_environment};
use crate::record::probes::{ProbeFigures, ProbeObservation, ProbeVerdict};

/// The hidden subcommand that makes a process try one variable.
pub const SUBCOMMAND: &str = "probe-environment";

/// The probes of this file.
pub(super) fn probes() -> Vec<Probe> {
    vec![Probe {
        name: "ignored-variables",
        title: "some OTEL_* variables of the specification have no effect",
        pitfall: "The Rust SDK and its OTLP exporter read some of the variables in the specification and ignore the others; \
                  gzip works only with its Cargo feature.",
        advice: "Set these things in code: above all the exporter, the propagators and the switch that turns telemetry off, \
                 and TLS by `with_tls_config`.",
        defect: all_variables,
        fix: None,
        hang: Hang::Failure,
    }]
}

/// A variable, a value with a visible effect, and where the effect shows.
struct Variable {
    name: &'static str,
    /// `{endpoint}` stands for the collector.
    value: &'static str,
    shows: Shows,
}

/// Where the effect of a variable shows.
enum Shows {
    /// In the behaviour of the SDK in this process.
    Here(fn() -> String),
    /// In the exporter for a collector, or in the data that arrives there.
    Sent(fn(endpoint: &str) -> Result<String, AttemptError>),
    /// In whether an exporter for `https` can be made: the file that the variable names is not there.
    Tls,
}

/// The variables of the specification that concern traces and metrics, and whose effect is visible from outside.
const VARIABLES: [Variable; 24] = [
    Variable { name: "OTEL_SERVICE_NAME", value: "probe", shows: Shows::Here(service_name) },
    Variable { name: "OTEL_RESOURCE_ATTRIBUTES", value: "service.name=probe", shows: Shows::Here(service_name) },
    Variable { name: "OTEL_SDK_DISABLED", value: "true", shows: Shows::Here(spans_kept) },
    Variable { name: "OTEL_PROPAGATORS", value: "tracecontext,baggage", shows: Shows::Here(headers_injected) },
    Variable { name: "OTEL_TRACES_EXPORTER", value: "none", shows: Shows::Sent(spans_sent) },
    Variable { name: "OTEL_METRICS_EXPORTER", value: "none", shows: Shows::Sent(metrics_sent) },
    Variable { name: "OTEL_TRACES_SAMPLER", value: "always_off", shows: Shows::Here(spans_kept) },
    Variable { name: "OTEL_ATTRIBUTE_COUNT_LIMIT", value: "1", shows: Shows::Here(attributes_kept) },
    Variable { name: "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", value: "1", shows: Shows::Here(attributes_kept) },
    Variable { name: "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", value: "2", shows: Shows::Here(attributes_kept) },
    Variable { name: "OTEL_BSP_MAX_QUEUE_SIZE", value: "8", shows: Shows::Here(queue_held) },
    Variable { name: "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", value: "8", shows: Shows::Here(largest_batch) },
    Variable { name: "OTEL_BSP_SCHEDULE_DELAY", value: "50", shows: Shows::Here(spans_come_by_themselves) },
    Variable { name: "OTEL_BSP_EXPORT_TIMEOUT", value: "50", shows: Shows::Here(slow_span_export) },
    Variable { name: "OTEL_BSP_MAX_CONCURRENT_EXPORTS", value: "4", shows: Shows::Here(exports_at_a_time) },
    Variable { name: "OTEL_METRIC_EXPORT_INTERVAL", value: "50", shows: Shows::Here(metrics_come_by_themselves) },
    Variable { name: "OTEL_METRIC_EXPORT_TIMEOUT", value: "50", shows: Shows::Here(slow_metric_export) },
    Variable { name: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "{endpoint}", shows: Shows::Sent(spans_sent_to_default) },
    Variable { name: "OTEL_EXPORTER_OTLP_TIMEOUT", value: "50", shows: Shows::Sent(silent_collector) },
    Variable { name: "OTEL_EXPORTER_OTLP_COMPRESSION", value: "gzip", shows: Shows::Sent(compressible_sent) },
    Variable {
        name: "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        value: "delta",
        shows: Shows::Sent(temporality),
    },
    Variable { name: "OTEL_EXPORTER_OTLP_CERTIFICATE", value: "/nowhere/ca.pem", shows: Shows::Tls },
    Variable { name: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", value: "/nowhere/client.pem", shows: Shows::Tls },
    Variable { name: "OTEL_EXPORTER_OTLP_CLIENT_KEY", value: "/nowhere/client.key", shows: Shows::Tls },
];

/// Variables tried at the same time; most of them wait rather than compute.
const AT_A_TIME: usize = 12;

fn all_variables() -> Result<ProbeObservation, AttemptError> {
    let mut honoured = ProbeFigures::new();
    for some in VARIABLES.chunks(AT_A_TIME) {
        let tried: Vec<_> = thread::scope(|scope| {
            let trying: Vec<_> = some.iter().map(|variable| scope.spawn(|| has_effect(variable))).collect();
            trying.into_iter().map(|thread| thread.join().map_err(|_| "a trial of a variable panicked")).collect()
        });
        for (variable, tried) in some.iter().zip(tried) {
            // A variable that cannot be tried has no figure.
            honoured.extend(tried??.map(|effect| (variable.name.to_owned(), f64::from(u8::from(effect)))));
        }
    }
    let names = |which: &dyn Fn(Option<&f64>) -> bool| -> Vec<&str> {
        VARIABLES.iter().map(|variable| variable.name).filter(|name| which(honoured.get(*name))).collect()
    };
    let (ignored, untried) = (names(&|figure| figure == Some(&0.0)), names(&|figure| figure.is_none()));
    let untried = match untried.as_slice() {
        [] => String::new(),
        names => format!(" Without TLS compiled in, {} could not be tried.", names.join(", ")),
    };
    Ok(ProbeObservation {
        verdict: if ignored.is_empty() { ProbeVerdict::Absent } else { ProbeVerdict::Found },
        what: format!(
            "Of {} variables tried, {} have no effect: {}.{untried}",
            honoured.len(),
            ignored.len(),
            ignored.join(", ")
        ),
        figures: honoured,
    })
}

/// Whether the outcome differs with the variable; `None` where this build cannot show it.
fn has_effect(variable: &Variable) -> Result<Option<bool>, AttemptError> {
    let executable = std::env::current_exe()?;
    let outcome = |set: bool| -> Result<(Option<String>, String), AttemptError> {
        let collector = collector()?;
        let mut command = without_otel_environment(&executable);
        command.args([SUBCOMMAND, variable.name, &collector.endpoint()]);
        if set {
            command.env(variable.name, variable.value.replace("{endpoint}", &collector.endpoint()));
        }
        let said = capture_stdout(&mut command, TIMEOUT)
            .map_err(|error: SubprocessError| format!("{}: {error}", variable.name))?;
        Ok((serde_json::from_str(&said)?, arrived(&collector)))
    };
    let without = outcome(false)?;
    if without.0.is_none() {
        return Ok(None);
    }
    Ok(Some(outcome(true)? != without))
}

fn arrived(collector: &ProbeCollector) -> String {
    // Of 20 kB that compress well, only a compressed export has less than half on the wire.
    let large = collector.wire_bytes() > 10_000;
    format!("{} spans, {} series, large: {large}", collector.spans(), collector.series())
}

/// The outcome in this process, whose environment the parent has set; only the comparison of two outcomes has a meaning. `None`
/// without the variable means that this build cannot show its effect.
///
/// # Errors
/// When the variable is not among those that are tried, or its trial fails.
pub fn outcome(variable: &str, endpoint: &str) -> Result<Option<String>, AttemptError> {
    match VARIABLES.iter().find(|known| known.name == variable).map(|known| &known.shows) {
        None => Err(format!("`{variable}` is not tried").into()),
        Some(Shows::Here(outcome)) => Ok(Some(outcome())),
        Some(Shows::Sent(outcome)) => Ok(Some(outcome(endpoint)?)),
        Some(Shows::Tls) => tls_exporter(),
    }
}

/// Longest wait for an export by the timer; the default intervals are 5 s and 60 s.
const SOON: Duration = Duration::from_secs(3);
/// Duration of a slow export, if nothing cuts it short.
const SLOW: Duration = Duration::from_millis(1_500);

fn service_name() -> String {
    format!("{:?}", Resource::builder().build().get(&Key::from_static_str("service.name")))
}

fn spans_kept() -> String {
    let kept = KeptSpans::default();
    let provider = keeping(&kept);
    drop(provider.tracer(SCOPE).start("order"));
    kept.count().to_string()
}

#[derive(Default)]
struct Headers(usize);

impl Injector for Headers {
    fn set(&mut self, _: &str, _: String) {
        self.0 += 1;
    }
}

fn headers_injected() -> String {
    let caller =
        SpanContext::new(TraceId::from(7_u128), SpanId::from(9_u64), TraceFlags::SAMPLED, false, TraceState::NONE);
    let mut headers = Headers::default();
    let context = Context::new().with_remote_span_context(caller);
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut headers));
    headers.0.to_string()
}

/// Sends a span through `exporter`; the collector knows whether it arrived.
fn send(exporter: OtlpSpans) {
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let mut span = provider.tracer(SCOPE).start("order");
    span.set_attribute(KeyValue::new("page", "x".repeat(20_000)));
    drop(span);
    drop(provider.force_flush());
}

fn spans_sent(endpoint: &str) -> Result<String, AttemptError> {
    let io = one_worker()?;
    let _entered = io.enter();
    send(OtlpSpans::builder().with_tonic().with_endpoint(endpoint).build()?);
    Ok(String::new())
}

fn spans_sent_to_default(_: &str) -> Result<String, AttemptError> {
    let io = one_worker()?;
    let _entered = io.enter();
    send(OtlpSpans::builder().with_tonic().build()?);
    Ok(String::new())
}

fn compressible_sent(endpoint: &str) -> Result<String, AttemptError> {
    let io = one_worker()?;
    let _entered = io.enter();
    // Where compression is not compiled in, asking for it is an error, which is an effect.
    match OtlpSpans::builder().with_tonic().with_endpoint(endpoint).build() {
        Ok(exporter) => {
            send(exporter);
            Ok(String::new())
        }
        Err(error) => Ok(error.to_string()),
    }
}

fn tls_exporter() -> Result<Option<String>, AttemptError> {
    let io = one_worker()?;
    let _entered = io.enter();
    // Nothing is sent there.
    let built = OtlpSpans::builder().with_tonic().with_endpoint("https://127.0.0.1:1").build();
    Ok(built.is_ok().then(|| "an exporter".into()))
}

fn metrics_sent(endpoint: &str) -> Result<String, AttemptError> {
    let io = one_worker()?;
    let _entered = io.enter();
    let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let provider = counting(exporter);
    drop(provider.force_flush());
    Ok(String::new())
}

fn temporality(endpoint: &str) -> Result<String, AttemptError> {
    let io = one_worker()?;
    let _entered = io.enter();
    let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    Ok(format!("{:?}", PushMetricExporter::temporality(&exporter)))
}

/// A collector that takes the connection and never says a word.
fn silent_collector(_: &str) -> Result<String, AttemptError> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let io = one_worker()?;
    let _entered = io.enter();
    let endpoint = format!("http://{}", silent.local_addr()?);
    let began = Instant::now();
    send(OtlpSpans::builder().with_tonic().with_endpoint(endpoint).build()?);
    Ok(format!("{}", began.elapsed() < SOON))
}

fn attributes_kept() -> String {
    let kept = KeptSpans::default();
    let mut span = keeping(&kept).tracer(SCOPE).start("order");
    span.set_attribute(KeyValue::new("first", "value"));
    span.set_attribute(KeyValue::new("second", "value"));
    drop(span);
    format!("{:?}", kept.spans().first().map(|span| &span.attributes))
}

/// A span exporter that takes [`SLOW`] for each export, without blocking the thread.
#[derive(Clone, Debug, Default)]
struct SlowSpans {
    batches: Arc<Mutex<Vec<usize>>>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl SpanExporter for SlowSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        lock(&self.batches).push(batch.len());
        self.most.fetch_max(self.under_way.fetch_add(1, Relaxed) + 1, Relaxed);
        slowly().await;
        self.under_way.fetch_sub(1, Relaxed);
        Ok(())
    }
}

/// Completes after [`SLOW`], woken by another thread, as I/O would.
async fn slowly() {
    let (done, waiting) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        thread::sleep(SLOW);
        // The receiver may have given up, which is what the probe looks for.
        let _ = done.send(());
    });
    let _ = waiting.await;
}

/// Ends so many spans and flushes.
fn through_batches(spans: usize, config: BatchConfigBuilder) -> SlowSpans {
    let exporter = SlowSpans::default();
    let processor = BatchSpanProcessor::builder(exporter.clone()).with_batch_config(config.build()).build();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let tracer = provider.tracer(SCOPE);
    (0..spans).for_each(|_| drop(tracer.start("order")));
    drop(provider.force_flush());
    exporter
}

fn queue_held() -> String {
    // 100 spans are less than a default batch: nothing leaves the queue before the flush.
    let exporter = through_batches(100, BatchConfigBuilder::default().with_max_export_batch_size(512));
    format!("{}", lock(&exporter.batches).iter().sum::<usize>() < 100)
}

fn largest_batch() -> String {
    let exporter = through_batches(20, BatchConfigBuilder::default());
    format!("{:?}", lock(&exporter.batches).iter().max())
}

fn exports_at_a_time() -> String {
    let exporter = through_batches(3, BatchConfigBuilder::default().with_max_export_batch_size(1));
    exporter.most.load(Relaxed).to_string()
}

fn slow_span_export() -> String {
    let began = Instant::now();
    through_batches(1, BatchConfigBuilder::default());
    format!("{}", began.elapsed() < SLOW)
}

fn spans_come_by_themselves() -> String {
    let kept = KeptSpans::default();
    let provider = SdkTracerProvider::builder().with_batch_exporter(kept.clone()).build();
    drop(provider.tracer(SCOPE).start("order"));
    soon(|| kept.count() > 0)
}

/// A metric exporter that takes [`SLOW`] and counts its exports.
#[derive(Clone, Debug, Default)]
struct SlowMetrics(Arc<AtomicUsize>);

impl PushMetricExporter for SlowMetrics {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
        self.0.fetch_add(1, Relaxed);
        slowly().await;
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

/// A provider that has counted something.
fn counting(exporter: impl PushMetricExporter) -> SdkMeterProvider {
    use opentelemetry::metrics::MeterProvider;

    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).build();
    provider.meter(SCOPE).u64_counter("orders").build().add(1, &[]);
    provider
}

fn metrics_come_by_themselves() -> String {
    let exporter = SlowMetrics::default();
    let _provider = counting(exporter.clone());
    soon(|| exporter.0.load(Relaxed) > 0)
}

fn slow_metric_export() -> String {
    let provider = counting(SlowMetrics::default());
    let began = Instant::now();
    drop(provider.force_flush());
    format!("{}", began.elapsed() < SLOW)
}

fn soon(came: impl Fn() -> bool) -> String {
    let began = Instant::now();
    while !came() && began.elapsed() < SOON {
        thread::sleep(Duration::from_millis(10));
    }
    came().to_string()
}

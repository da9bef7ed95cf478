//! The only interpreter of a [`Mode`]: installs recorder, subscriber and exporters, and keeps the service's side of the
//! ledger.
//!
//! Exports run on threads of their own, two of which carry the gRPC connections: tonic's I/O stays on the runtime that
//! made the channel, so each signal's channel is made on a runtime whose only thread has a telling name. That keeps the
//! cost of exporting off the request threads' account, and spans (a cost per request) apart from periodic work.

mod account;
mod counted;
mod diagnostics;
mod scrape;

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, Value, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use thiserror::Error;
use tokio::runtime::Runtime;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::mode::{Metrics, Mode, Traces};

pub use self::account::{Account, Exports, ServiceSpans};

use self::account::ExportLog;
use self::counted::{CountedExporter, CountedMetricExporter, CountedProcessor, Ended};
use self::diagnostics::Diagnostics;
use self::scrape::Scraper;

/// Beginnings of the names of the threads that take spans out.
pub const SPAN_EXPORT_THREADS: [&str; 2] = ["OpenTelemetry.T", "otlp-spans"];
/// Beginnings of the names of the threads that work once per export interval.
pub const PERIODIC_EXPORT_THREADS: [&str; 3] = ["OpenTelemetry.M", "otlp-metrics", "scrape"];

/// Upper bounds of the histogram buckets: OpenTelemetry's defaults, so that both recorders do the same work.
const BUCKETS: [f64; 15] =
    [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1_000.0, 2_500.0, 5_000.0, 7_500.0, 10_000.0];

/// What the service calls itself unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise.
pub const SERVICE_NAME: &str = "order-service";

/// Why a mode could not be put in place.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// A recorder or subscriber is already installed in this process.
    #[error("a {0} is already installed in this process: {1}")]
    Installed(&'static str, String),
    /// The exporter's settings, some of which come from `OTEL_*` variables, do not make an exporter.
    #[error("cannot make the OTLP exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The filter directives are malformed.
    #[error("`{0}` is not a filter: {1}")]
    Filter(String, ParseError),
    /// A thread or a runtime cannot be made.
    #[error("cannot start an export thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The Prometheus recorder refused its settings.
    #[error("cannot make the Prometheus recorder: {0}")]
    Prometheus(#[from] metrics_exporter_prometheus::BuildError),
}

/// A mode put in place, for the life of the process.
#[derive(Debug)]
pub struct Telemetry {
    spans: Option<SpanPipeline>,
    metrics: MetricPipeline,
    diagnostics: Diagnostics,
}

#[derive(Debug)]
struct SpanPipeline {
    provider: SdkTracerProvider,
    ended: Ended,
    log: Arc<ExportLog>,
    /// Carries the exporter's connection.
    _io: Runtime,
}

#[derive(Debug)]
enum MetricPipeline {
    Nowhere,
    Prometheus { scraper: Scraper, interval: Duration },
    Bridge { provider: SdkMeterProvider, interval: Duration, log: Arc<ExportLog>, _io: Runtime },
}

impl Telemetry {
    /// Puts `mode` in place in this process. Telemetry goes to `endpoint`, or, without one, where the `OTEL_*` variables
    /// say, or to the SDK's default.
    ///
    /// # Errors
    /// When something is already installed, or the settings make no exporter.
    pub fn install(mode: &Mode, endpoint: Option<&str>) -> Result<Self, TelemetryError> {
        let diagnostics = Diagnostics::default();
        let metrics = match &mode.metrics {
            Metrics::Nowhere => MetricPipeline::Nowhere,
            Metrics::Prometheus { interval } => install_prometheus(*interval)?,
            Metrics::Bridge { interval } => install_bridge(*interval, endpoint)?,
        };
        let spans = match &mode.traces {
            None => None,
            Some(traces) => Some(install_tracing(traces, endpoint, &diagnostics)?),
        };
        Ok(Self { spans, metrics, diagnostics })
    }

    /// Renders the metrics for a scrape, in modes that are scraped.
    pub fn scrape(&self) -> Option<Arc<dyn Fn() -> String + Send + Sync>> {
        match &self.metrics {
            MetricPipeline::Prometheus { scraper, .. } => Some(scraper.render()),
            MetricPipeline::Nowhere | MetricPipeline::Bridge { .. } => None,
        }
    }

    /// Exports every span that has ended.
    pub fn flush_spans(&self) {
        if let Some(spans) = &self.spans {
            self.diagnostics.note_failure("flushing spans", spans.provider.force_flush());
        }
    }

    /// Does now what is otherwise done once per interval.
    pub fn flush_periodic(&self) {
        match &self.metrics {
            MetricPipeline::Nowhere => {}
            MetricPipeline::Prometheus { scraper, .. } => scraper.scrape_now(),
            MetricPipeline::Bridge { provider, .. } => {
                self.diagnostics.note_failure("flushing metrics", provider.force_flush());
            }
        }
    }

    /// How often the periodic work was done so far, and the interval at which it is due; `None` where there is none.
    pub fn periodic(&self) -> Option<(u64, Duration)> {
        match &self.metrics {
            MetricPipeline::Nowhere => None,
            MetricPipeline::Prometheus { scraper, interval } => Some((scraper.scrapes(), *interval)),
            MetricPipeline::Bridge { log, interval, .. } => Some((log.exports(), *interval)),
        }
    }

    /// Takes out what is left, for at most `bound`, and closes the account.
    pub fn shutdown(self, bound: Duration) -> Account {
        let started = Instant::now();
        let left = || bound.saturating_sub(started.elapsed());
        let mut account = Account::default();
        if let Some(spans) = &self.spans {
            self.diagnostics.note_failure("shutting the tracer down", spans.provider.shutdown_with_timeout(left()));
            account.spans = Some(ServiceSpans {
                ended: spans.ended.count(),
                dropped: self.diagnostics.dropped(),
                failed: spans.log.failed_items(),
                rejected: self.diagnostics.rejected(),
            });
            account.span_exports = Some(spans.log.summary());
        }
        match self.metrics {
            MetricPipeline::Nowhere => {}
            MetricPipeline::Prometheus { scraper, .. } => account.scraped_orders = scraper.finish(),
            MetricPipeline::Bridge { provider, log, .. } => {
                self.diagnostics.note_failure("shutting the meter down", provider.shutdown_with_timeout(left()));
                account.metric_exports = Some(log.summary());
            }
        }
        account.diagnostics = self.diagnostics.messages();
        account.shutdown_ms = started.elapsed().as_secs_f64() * 1e3;
        account
    }
}

fn install_prometheus(interval: Duration) -> Result<MetricPipeline, TelemetryError> {
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|e| TelemetryError::Installed("metrics recorder", e.to_string()))?;
    Ok(MetricPipeline::Prometheus { scraper: Scraper::start(handle, interval)?, interval })
}

fn install_bridge(interval: Duration, endpoint: Option<&str>) -> Result<MetricPipeline, TelemetryError> {
    let io = export_runtime(PERIODIC_EXPORT_THREADS[1])?;
    let entered = io.enter();
    let builder = MetricExporter::builder().with_tonic();
    let exporter = match endpoint {
        Some(url) => builder.with_endpoint(url).build()?,
        None => builder.build()?,
    };
    drop(entered);
    let log = Arc::new(ExportLog::default());
    let counted = CountedMetricExporter::new(exporter, Arc::clone(&log));
    // The builder reads OTEL_METRIC_EXPORT_INTERVAL; setting an interval on it would silence that variable.
    let interval = env_millis("OTEL_METRIC_EXPORT_INTERVAL").unwrap_or(interval);
    let reader = PeriodicReader::builder(counted).with_interval(interval).build();
    let (provider, _) = metrics_exporter_opentelemetry::Recorder::builder("otelbench")
        .with_meter_provider(|builder| builder.with_reader(reader).with_resource(resource()))
        .install()
        .map_err(|e| TelemetryError::Installed("metrics recorder", e.to_string()))?;
    global::set_meter_provider(provider.clone());
    Ok(MetricPipeline::Bridge { provider, interval, log, _io: io })
}

fn install_tracing(
    traces: &Traces,
    endpoint: Option<&str>,
    diagnostics: &Diagnostics,
) -> Result<SpanPipeline, TelemetryError> {
    let io = export_runtime(SPAN_EXPORT_THREADS[1])?;
    let entered = io.enter();
    let builder = SpanExporter::builder().with_tonic();
    let exporter = match endpoint {
        Some(url) => builder.with_endpoint(url).build()?,
        None => builder.build()?,
    };
    drop(entered);
    let log = Arc::new(ExportLog::default());
    let ended = Ended::default();
    let batching = BatchSpanProcessor::builder(CountedExporter::new(exporter, Arc::clone(&log)))
        .with_batch_config(batch_config(traces))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(CountedProcessor::new(batching, ended.clone()))
        .with_resource(resource())
        .build();
    global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]));
    global::set_tracer_provider(provider.clone());
    let filter = EnvFilter::try_new(&traces.filter).map_err(|e| TelemetryError::Filter(traces.filter.clone(), e))?;
    tracing_subscriber::registry()
        .with(filter)
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("otelbench")))
        .with(diagnostics.layer())
        .try_init()
        .map_err(|e| TelemetryError::Installed("tracing subscriber", e.to_string()))?;
    Ok(SpanPipeline { provider, ended, log, _io: io })
}

/// The mode's batch settings, but for those an environment variable gives.
fn batch_config(traces: &Traces) -> opentelemetry_sdk::trace::BatchConfig {
    // The default configuration reads the variables, and what is set on the builder would win over them.
    let mut config = BatchConfigBuilder::default();
    if env::var_os("OTEL_BSP_MAX_QUEUE_SIZE").is_none() {
        config = config.with_max_queue_size(traces.queue);
    }
    if env::var_os("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").is_none() {
        config = config.with_max_export_batch_size(traces.batch);
    }
    if env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        config = config.with_scheduled_delay(traces.delay);
    }
    config.build()
}

fn env_millis(variable: &str) -> Option<Duration> {
    env::var(variable).ok()?.trim().parse().ok().map(Duration::from_millis)
}

/// Who sends: what the environment says, and [`SERVICE_NAME`] where it names no service.
fn resource() -> Resource {
    let detected = Resource::builder().build();
    let named = detected
        .get(&Key::from_static_str("service.name"))
        .is_some_and(|name| !matches!(&name, Value::String(s) if s.as_str().starts_with("unknown_service")));
    if named { detected } else { Resource::builder().with_service_name(SERVICE_NAME).build() }
}

/// A runtime whose one thread carries an exporter's connection.
fn export_runtime(thread_name: &str) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(thread_name).enable_all().build()
}

impl Diagnostics {
    fn note_failure(&self, what: &str, result: OTelSdkResult) {
        match result {
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => self.note(format!("{what} failed: {error}")),
        }
    }
}

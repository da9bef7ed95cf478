//! Interprets a [`Mode`], and is the only module to do so: installs the recorder, the subscriber and the exporters, and
//! keeps the service's side of the ledger.
//!
//! Exports run on their own threads. tonic's I/O stays on the runtime that created the channel, so each signal's channel is
//! created on a runtime whose only thread has a recognisable name. CPU time for exports is therefore not charged to the
//! request threads, and the export of spans (a cost per request) is separate from periodic work.

mod counted;
mod diagnostics;
mod export_log;
mod metrics;
mod otlp;
mod redact;
mod scrape;
mod spans;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use otelbench_slim::{self as slim, SlimError};
use thiserror::Error;
use tokio::runtime::Runtime;
use tracing::Dispatch;
use tracing_subscriber::filter::ParseError;

use crate::experiment::mode::Mode;
use crate::record::account::Account;

pub use self::otlp::{ClientTls, Destination};

use self::diagnostics::Diagnostics;
use self::export_log::ExportLog;
use self::metrics::MetricPipeline;
use self::spans::{LogPipeline, SpanPipeline, Tracing};

/// Name prefixes of the threads that export spans and logs.
pub const SPAN_EXPORT_THREADS: [&str; 4] = ["OpenTelemetry.T", "otlp-spans", "OpenTelemetry.L", slim::THREAD];
/// Name prefixes of the threads that work once per export interval.
pub const PERIODIC_EXPORT_THREADS: [&str; 3] = ["OpenTelemetry.M", "otlp-metrics", "scrape"];

/// Time-out of a flush during a run: the SDK's own default.
const FLUSH: Duration = Duration::from_secs(5);

/// `service.name` of the order service, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` sets another.
pub const SERVICE_NAME: &str = "order-service";
/// `service.name` of the separate payment service; the environment variables do not apply to it.
pub const PAYMENT_SERVICE_NAME: &str = "payment-service";

/// Identifies the process. Without it, a collector cannot tell apart the counters of two processes of a service.
const INSTANCE: Key = Key::from_static_str("service.instance.id");
/// 128 random bits, the same for all signals.
static INSTANCE_ID: LazyLock<String> = LazyLock::new(|| RandomIdGenerator::default().new_trace_id().to_string());

/// Why a mode could not be installed.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// A recorder or subscriber is already installed in this process.
    #[error("a {0} is already installed in this process: {1}")]
    Installed(&'static str, String),
    /// The exporter's settings are invalid; some come from `OTEL_*` variables.
    #[error("cannot create the OTLP exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The slim layer cannot be created.
    #[error(transparent)]
    Slim(#[from] SlimError),
    /// The filter directives are malformed.
    #[error("`{0}` is not a filter: {1}")]
    Filter(String, ParseError),
    /// The filter is not a level.
    #[error("`{0}` is not a level; write error, warn, info, debug, trace or off, or leave level_only out")]
    Level(String),
    /// A file named by an environment variable cannot be read.
    #[error("{variable}: cannot read {path}: {source}")]
    Certificate {
        /// Name of the variable.
        variable: String,
        /// The file it names.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// A client certificate without its key, or the reverse.
    #[error("OTEL_EXPORTER_OTLP_{0} is set without OTEL_EXPORTER_OTLP_{1}; set both")]
    HalfAnIdentity(&'static str, &'static str),
    /// Mutual TLS without a client certificate.
    #[error(
        "mutual TLS needs a client certificate; name its files in OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
        OTEL_EXPORTER_OTLP_CLIENT_KEY, and the collector's CA certificate in OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoCertificate,
    /// Mutual TLS is supported over gRPC only.
    #[error("mutual TLS is supported over gRPC only; remove protocol = \"http\"")]
    NoTlsOverHttp,
    /// A thread or a runtime cannot be started.
    #[error("cannot start an export thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The settings of the Prometheus recorder are invalid.
    #[error("cannot create the Prometheus recorder: {0}")]
    Prometheus(#[from] metrics_exporter_prometheus::BuildError),
}

/// An installed mode, for the life of the process.
#[derive(Debug)]
pub struct Telemetry {
    /// One pipeline per service in this process that creates spans.
    spans: Vec<SpanPipeline>,
    /// One pipeline per service in this process that emits log records.
    logs: Vec<LogPipeline>,
    metrics: MetricPipeline,
    diagnostics: Diagnostics,
}

impl Telemetry {
    /// Installs `mode` in this process; telemetry goes to the collector `to`.
    ///
    /// # Errors
    /// If a recorder or subscriber is already installed, or the exporter's settings are invalid.
    pub fn install(mode: &Mode, to: &Destination) -> Result<Self, TelemetryError> {
        let diagnostics = Diagnostics::default();
        let metrics = MetricPipeline::install(&mode.metrics, mode.export, to)?;
        let tracing = Tracing::of(mode, to, &resource(), &diagnostics)?;
        tracing.install()?;
        let (spans, logs) = (tracing.spans.into_iter().collect(), tracing.logs.into_iter().collect());
        Ok(Self { spans, logs, metrics, diagnostics })
    }

    /// Sets up `mode` for the payment service in this process, with its own `service.name`. Returns the subscriber for the
    /// payment service's threads, if the mode has one.
    ///
    /// # Errors
    /// If the exporter's settings are invalid.
    pub fn payment_service(&mut self, mode: &Mode, to: &Destination) -> Result<Option<Dispatch>, TelemetryError> {
        let resource = Resource::builder().with_service_name(PAYMENT_SERVICE_NAME).build();
        let tracing = Tracing::of(mode, to, &resource, &self.diagnostics)?;
        self.spans.extend(tracing.spans);
        self.logs.extend(tracing.logs);
        Ok(tracing.subscriber)
    }

    /// A function that renders the metrics for a scrape; `None` in modes without Prometheus.
    pub fn scrape(&self) -> Option<Arc<dyn Fn() -> String + Send + Sync>> {
        match &self.metrics {
            MetricPipeline::Prometheus { scraper, .. } => Some(scraper.render()),
            MetricPipeline::Nowhere | MetricPipeline::Otlp { .. } => None,
        }
    }

    /// Exports every ended span and every emitted log record.
    pub fn flush_spans(&self) {
        for spans in &self.spans {
            spans.flush(FLUSH, &self.diagnostics);
        }
        for logs in &self.logs {
            logs.flush(&self.diagnostics);
        }
    }

    /// Exports or scrapes the metrics now, without waiting for the interval.
    pub fn flush_periodic(&self) {
        match &self.metrics {
            MetricPipeline::Nowhere => {}
            MetricPipeline::Prometheus { scraper, .. } => scraper.scrape_now(),
            MetricPipeline::Otlp { provider, .. } => {
                self.diagnostics.note_failure("flushing metrics", provider.force_flush());
            }
        }
    }

    /// Number of periodic exports or scrapes so far, and their interval; `None` if there are none.
    pub fn periodic(&self) -> Option<(u64, Duration)> {
        match &self.metrics {
            MetricPipeline::Nowhere => None,
            MetricPipeline::Prometheus { scraper, interval } => Some((scraper.scrapes(), *interval)),
            MetricPipeline::Otlp { log, interval, .. } => Some((log.exports(), *interval)),
        }
    }

    /// Exports what is left, for at most `bound`, and returns the service's side of the ledger.
    pub fn shutdown(self, bound: Duration) -> Account {
        let started = Instant::now();
        let left = || bound.saturating_sub(started.elapsed());
        let mut account = Account::default();
        let exports = ExportLog::default();
        let (mut exported, mut gave_up) = (0, false);
        for spans in self.spans {
            let closed = spans.shutdown(left(), &self.diagnostics);
            exports.add(&closed.log);
            exported += closed.exported;
            gave_up |= closed.gave_up;
            account.spans = Some(account.spans.unwrap_or_default().plus(closed.spans));
        }
        if let Some(spans) = &mut account.spans {
            spans.dropped += self.diagnostics.dropped_spans();
            spans.rejected += self.diagnostics.rejected_spans();
            if gave_up {
                spans.abandoned = spans.ended.saturating_sub(spans.dropped + spans.failed + exported);
            }
            account.span_exports = Some(exports.summary());
        }
        for logs in self.logs {
            let logs = logs.shutdown(left(), &self.diagnostics);
            account.logs = Some(account.logs.unwrap_or_default().plus(logs));
        }
        if let Some(logs) = &mut account.logs {
            logs.dropped += self.diagnostics.dropped_logs();
            logs.rejected += self.diagnostics.rejected_logs();
        }
        match self.metrics {
            MetricPipeline::Nowhere => {}
            MetricPipeline::Prometheus { scraper, .. } => account.scraped_orders = scraper.finish(),
            MetricPipeline::Otlp { provider, log, .. } => {
                self.diagnostics.note_failure("shutting the meter down", provider.shutdown_with_timeout(left()));
                account.metric_exports = Some(log.summary());
            }
        }
        account.diagnostics = self.diagnostics.messages();
        account.shutdown_ms = started.elapsed().as_secs_f64() * 1e3;
        account
    }
}

/// The resource: attributes from the environment, else [`SERVICE_NAME`] and a random instance id.
fn resource() -> Resource {
    let detected = Resource::builder().build();
    let named = detected
        .get(&Key::from_static_str("service.name"))
        .is_some_and(|name| !matches!(&name, Value::String(s) if s.as_str().starts_with("unknown_service")));
    let mut resource = Resource::builder();
    if !named {
        resource = resource.with_service_name(SERVICE_NAME);
    }
    if detected.get(&INSTANCE).is_none() {
        resource = resource.with_attribute(KeyValue::new(INSTANCE, INSTANCE_ID.as_str()));
    }
    resource.build()
}

/// A runtime with one thread of this name, for an exporter's connection.
fn export_runtime(thread_name: &str) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(thread_name).enable_all().build()
}

impl Diagnostics {
    /// Records a failure. Returns whether there was one.
    fn note_failure(&self, what: &str, result: OTelSdkResult) -> bool {
        match result {
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => false,
            Err(error) => {
                self.note_error(what, Err(error));
                true
            }
        }
    }

    fn note_error<E: std::fmt::Display>(&self, what: &str, result: Result<(), E>) {
        if let Err(error) = result {
            self.note(format!("{what} failed: {error}"));
        }
    }
}

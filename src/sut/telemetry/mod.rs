//! The only interpreter of a [`Mode`]: installs recorder, subscriber and exporters, and keeps the service's side of the
//! ledger.
//!
//! Exports run on threads of their own, two of which carry the gRPC connections: tonic's I/O stays on the runtime that
//! made the channel, so each signal's channel is made on a runtime whose only thread has a telling name. That keeps the
//! cost of exporting off the request threads' account, and spans (a cost per request) apart from periodic work.

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

/// Beginnings of the names of the threads that take spans and logs out.
pub const SPAN_EXPORT_THREADS: [&str; 4] = ["OpenTelemetry.T", "otlp-spans", "OpenTelemetry.L", slim::THREAD];
/// Beginnings of the names of the threads that work once per export interval.
pub const PERIODIC_EXPORT_THREADS: [&str; 3] = ["OpenTelemetry.M", "otlp-metrics", "scrape"];

/// Longest wait for spans to be taken out in the middle of a run: the SDK's own.
const FLUSH: Duration = Duration::from_secs(5);

/// What the service calls itself unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise.
pub const SERVICE_NAME: &str = "order-service";
/// What the payment service calls itself where it is one of its own, whatever the variables call the other.
pub const PAYMENT_SERVICE_NAME: &str = "payment-service";

/// Which of a service's processes sends. Without it a collector takes the counters of one process for those of another.
const INSTANCE: Key = Key::from_static_str("service.instance.id");
/// The same for both signals: 128 random bits.
static INSTANCE_ID: LazyLock<String> = LazyLock::new(|| RandomIdGenerator::default().new_trace_id().to_string());

/// Why a mode could not be put in place.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// A recorder or subscriber is already installed in this process.
    #[error("a {0} is already installed in this process: {1}")]
    Installed(&'static str, String),
    /// The exporter's settings, some of which come from `OTEL_*` variables, do not make an exporter.
    #[error("cannot make the OTLP exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The slim layer cannot be made.
    #[error(transparent)]
    Slim(#[from] SlimError),
    /// The filter directives are malformed.
    #[error("`{0}` is not a filter: {1}")]
    Filter(String, ParseError),
    /// The filter is not a level.
    #[error("`{0}` is not a level; write error, warn, info, debug, trace or off, or leave level_only out")]
    Level(String),
    /// A file that a variable names cannot be read.
    #[error("{variable}: cannot read {path}: {source}")]
    Certificate {
        /// The variable.
        variable: String,
        /// What it says.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate without its key, or the reverse.
    #[error("OTEL_EXPORTER_OTLP_{0} takes OTEL_EXPORTER_OTLP_{1} beside it")]
    HalfAnIdentity(&'static str, &'static str),
    /// Mutual TLS without a certificate of the client's own.
    #[error(
        "mutual TLS takes a certificate of the client's own; name its files in OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
         OTEL_EXPORTER_OTLP_CLIENT_KEY, and its authority's in OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoCertificate,
    /// TLS is for gRPC.
    #[error("mutual TLS goes with gRPC here; leave protocol = \"http\" out")]
    NoTlsOverHttp,
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
    /// Of each service in the process that makes spans.
    spans: Vec<SpanPipeline>,
    /// Of each service in the process that makes log records.
    logs: Vec<LogPipeline>,
    metrics: MetricPipeline,
    diagnostics: Diagnostics,
}

impl Telemetry {
    /// Puts `mode` in place in this process; telemetry goes `to` a collector.
    ///
    /// # Errors
    /// When something is already installed, or the settings make no exporter.
    pub fn install(mode: &Mode, to: &Destination) -> Result<Self, TelemetryError> {
        let diagnostics = Diagnostics::default();
        let metrics = MetricPipeline::install(&mode.metrics, mode.export, to)?;
        let tracing = Tracing::of(mode, to, &resource(), &diagnostics)?;
        tracing.install()?;
        let (spans, logs) = (tracing.spans.into_iter().collect(), tracing.logs.into_iter().collect());
        Ok(Self { spans, logs, metrics, diagnostics })
    }

    /// Gives the payment service of this process what `mode` gives the order service: spans and log records of its own, in
    /// its own name. What hears them is for the payment service's threads; `None` where nothing does.
    ///
    /// # Errors
    /// When the settings make no exporter.
    pub fn payment_service(&mut self, mode: &Mode, to: &Destination) -> Result<Option<Dispatch>, TelemetryError> {
        let resource = Resource::builder().with_service_name(PAYMENT_SERVICE_NAME).build();
        let tracing = Tracing::of(mode, to, &resource, &self.diagnostics)?;
        self.spans.extend(tracing.spans);
        self.logs.extend(tracing.logs);
        Ok(tracing.subscriber)
    }

    /// Renders the metrics for a scrape, in modes that are scraped.
    pub fn scrape(&self) -> Option<Arc<dyn Fn() -> String + Send + Sync>> {
        match &self.metrics {
            MetricPipeline::Prometheus { scraper, .. } => Some(scraper.render()),
            MetricPipeline::Nowhere | MetricPipeline::Otlp { .. } => None,
        }
    }

    /// Exports every span that has ended, and every log record.
    pub fn flush_spans(&self) {
        for spans in &self.spans {
            spans.flush(FLUSH, &self.diagnostics);
        }
        for logs in &self.logs {
            logs.flush(&self.diagnostics);
        }
    }

    /// Does now what is otherwise done once per interval.
    pub fn flush_periodic(&self) {
        match &self.metrics {
            MetricPipeline::Nowhere => {}
            MetricPipeline::Prometheus { scraper, .. } => scraper.scrape_now(),
            MetricPipeline::Otlp { provider, .. } => {
                self.diagnostics.note_failure("flushing metrics", provider.force_flush());
            }
        }
    }

    /// How often the periodic work was done so far, and the interval at which it is due; `None` where there is none.
    pub fn periodic(&self) -> Option<(u64, Duration)> {
        match &self.metrics {
            MetricPipeline::Nowhere => None,
            MetricPipeline::Prometheus { scraper, interval } => Some((scraper.scrapes(), *interval)),
            MetricPipeline::Otlp { log, interval, .. } => Some((log.exports(), *interval)),
        }
    }

    /// Takes out what is left, for at most `bound`, and closes the account.
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

/// Who sends: what the environment says, and where it is silent [`SERVICE_NAME`] and an id of this process.
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

/// A runtime whose one thread carries an exporter's connection.
fn export_runtime(thread_name: &str) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(thread_name).enable_all().build()
}

impl Diagnostics {
    /// Notes what failed; whether something did.
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

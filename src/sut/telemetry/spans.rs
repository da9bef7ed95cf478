//! Creates the subscriber of a mode and the pipelines that export its spans and logs.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global;
use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchConfigBuilder as LogBatchConfigBuilder, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{
    BatchConfig, BatchConfigBuilder, BatchSpanProcessor, Sampler as SdkSampler, SdkTracerProvider, SpanData,
    TracerProviderBuilder,
};
use otelbench_slim::{self as slim, Slim, SlimError};
use tokio::runtime::Runtime;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer as _, fmt};

use super::counted::{CountedExporter, CountedProcessor, ItemCounter};
use super::diagnostics::Diagnostics;
use super::export_log::ExportLog;
use super::otlp::{ClientTls, Destination, OtlpSignal, log_exporter, own_timeout, span_exporter};
use super::redact::Redacted;
use super::{SPAN_EXPORT_THREADS, TelemetryError, export_runtime};
use crate::experiment::mode::{Export, Layer, Logs, Mode, Sampler, SpanExporter, Tls, Traces};
use crate::record::account::{ServiceLogs, ServiceSpans};

/// Crates of the export path. Their events must not become log records, because sending those would cause more events.
const OF_THE_EXPORTER: [&str; 6] = ["opentelemetry", "h2", "hyper", "tonic", "tower", "rustls"];

/// Exports the spans of one service.
#[derive(Debug)]
pub(super) enum SpanPipeline {
    /// With OpenTelemetry's SDK.
    Sdk {
        /// The provider of the tracer.
        provider: SdkTracerProvider,
        /// Counts ended spans.
        ended: ItemCounter,
        /// Of the exports.
        log: Arc<ExportLog>,
        /// Whether the exporter discards every batch.
        discards: bool,
        /// Runs the exporter's connection.
        _io: Runtime,
    },
    /// With the slim layer.
    Slim {
        /// The queue and its sending thread.
        slim: Slim,
        /// Of the exports.
        log: Arc<ExportLog>,
    },
}

/// Exports the log records of one service.
#[derive(Debug)]
pub(super) struct LogPipeline {
    provider: SdkLoggerProvider,
    emitted: ItemCounter,
    log: Arc<ExportLog>,
    _io: Runtime,
}

/// The tracing setup of one service.
pub(super) struct Tracing {
    /// Receives its spans and events; `None` if the mode has no subscriber.
    pub(super) subscriber: Option<Dispatch>,
    /// Exports its spans.
    pub(super) spans: Option<SpanPipeline>,
    /// Exports its log records.
    pub(super) logs: Option<LogPipeline>,
}

impl Tracing {
    /// Creates the setup of `mode`, which exports as `resource`.
    pub(super) fn of(
        mode: &Mode,
        to: &Destination,
        resource: &Resource,
        diagnostics: &Diagnostics,
    ) -> Result<Self, TelemetryError> {
        let logs = match mode.logs {
            Logs::Nowhere | Logs::Json => None,
            Logs::Otlp => Some(LogPipeline::start(mode, to, resource)?),
        };
        let Some(traces) = &mode.traces else {
            if mode.logs == Logs::Nowhere {
                return Ok(Self { subscriber: None, spans: None, logs });
            }
            let registry = tracing_subscriber::registry().with(env_filter(&Traces::default())?);
            let registry = registry.with(json(mode.logs)).with(bridge(logs.as_ref()));
            return Ok(Self { subscriber: Some(Dispatch::new(registry.with(diagnostics.layer()))), spans: None, logs });
        };
        let (directives, level) = filters(traces)?;
        let registry = tracing_subscriber::registry().with(directives).with(level);
        let (subscriber, spans) = match traces.layer {
            Layer::OpenTelemetry => {
                let (provider, spans) = sdk(mode, traces, to, resource)?;
                let noted = traces.attributes;
                let layer = tracing_opentelemetry::layer()
                    .with_location(noted.location)
                    .with_threads(noted.threads)
                    .with_target(noted.target)
                    .with_tracked_inactivity(noted.inactivity)
                    .with_tracer(provider.tracer("otelbench"));
                let registry = registry.with(layer).with(json(mode.logs)).with(bridge(logs.as_ref()));
                (Dispatch::new(registry.with(diagnostics.layer())), spans)
            }
            Layer::Slim => {
                let (layer, spans) = slim(traces, to, resource, mode.export, diagnostics.clone())?;
                (Dispatch::new(registry.with(layer).with(json(mode.logs)).with(diagnostics.layer())), spans)
            }
        };
        Ok(Self { subscriber: Some(subscriber), spans: Some(spans), logs })
    }

    /// Installs the setup as this process's default.
    pub(super) fn install(&self) -> Result<(), TelemetryError> {
        if let Some(SpanPipeline::Sdk { provider, .. }) = &self.spans {
            global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
                Box::new(TraceContextPropagator::new()),
                Box::new(BaggagePropagator::new()),
            ]));
            global::set_tracer_provider(provider.clone());
        }
        match &self.subscriber {
            Some(subscriber) => subscriber
                .clone()
                .try_init()
                .map_err(|e| TelemetryError::Installed("tracing subscriber", e.to_string())),
            None => Ok(()),
        }
    }
}

/// A layer that formats events as JSON and discards them.
fn json<S>(logs: Logs) -> Option<impl tracing_subscriber::Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    (logs == Logs::Json).then(|| fmt::layer().json().with_writer(std::io::sink))
}

/// A layer that turns events into log records.
fn bridge<S>(logs: Option<&LogPipeline>) -> Option<impl tracing_subscriber::Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    logs.map(|logs| {
        let others = filter_fn(|metadata| !OF_THE_EXPORTER.iter().any(|name| metadata.target().starts_with(name)));
        OpenTelemetryTracingBridge::new(&logs.provider).with_filter(others)
    })
}

/// The filter of a mode: either directives or a plain level.
fn filters(traces: &Traces) -> Result<(Option<EnvFilter>, Option<LevelFilter>), TelemetryError> {
    if !traces.level_only {
        return Ok((Some(env_filter(traces)?), None));
    }
    let level = traces.filter.parse().map_err(|_| TelemetryError::Level(traces.filter.clone()))?;
    Ok((None, Some(level)))
}

fn env_filter(traces: &Traces) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(&traces.filter).map_err(|e| TelemetryError::Filter(traces.filter.clone(), e))
}

fn sdk(
    mode: &Mode,
    traces: &Traces,
    to: &Destination,
    resource: &Resource,
) -> Result<(SdkTracerProvider, SpanPipeline), TelemetryError> {
    let io = export_runtime(SPAN_EXPORT_THREADS[1])?;
    let log = Arc::new(ExportLog::default());
    let ended = ItemCounter::default();
    let mut builder = SdkTracerProvider::builder().with_resource(resource.clone());
    builder = match traces.exporter {
        SpanExporter::Otlp => {
            let entered = io.enter();
            let exporter = span_exporter(mode.export, to)?;
            drop(entered);
            batched(builder, traces, CountedExporter::new(exporter, Arc::clone(&log)), &ended)
        }
        SpanExporter::Null => batched(builder, traces, CountedExporter::new(NullExporter, Arc::clone(&log)), &ended),
    };
    builder = match traces.sampler {
        // Setting one would override OTEL_TRACES_SAMPLER.
        Sampler::Default => builder,
        Sampler::AlwaysOff => builder.with_sampler(SdkSampler::AlwaysOff),
        Sampler::ParentRatio { ratio } => {
            builder.with_sampler(SdkSampler::ParentBased(Box::new(SdkSampler::TraceIdRatioBased(ratio))))
        }
    };
    let provider = builder.build();
    let discards = traces.exporter == SpanExporter::Null;
    Ok((provider.clone(), SpanPipeline::Sdk { provider, ended, log, discards, _io: io }))
}

/// Adds a batch processor with `exporter`, behind the redaction if the mode asks for it.
fn batched(
    builder: TracerProviderBuilder,
    traces: &Traces,
    exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static,
    ended: &ItemCounter,
) -> TracerProviderBuilder {
    if traces.redact {
        queued(builder, traces, Redacted::new(exporter), ended)
    } else {
        queued(builder, traces, exporter, ended)
    }
}

fn queued(
    builder: TracerProviderBuilder,
    traces: &Traces,
    exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static,
    ended: &ItemCounter,
) -> TracerProviderBuilder {
    let batching = BatchSpanProcessor::builder(exporter).with_batch_config(batch_config(traces)).build();
    builder.with_span_processor(CountedProcessor::new(batching, ended.clone()))
}

/// An exporter that discards every batch.
#[derive(Debug)]
struct NullExporter;

impl opentelemetry_sdk::trace::SpanExporter for NullExporter {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

fn slim(
    traces: &Traces,
    to: &Destination,
    resource: &Resource,
    export: Export,
    diagnostics: Diagnostics,
) -> Result<(slim::Layer, SpanPipeline), TelemetryError> {
    let resource = resource.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let usual = match &to.endpoint {
        Some(endpoint) => slim::Settings::from_env_to(endpoint, resource),
        None => slim::Settings::from_env(resource),
    }
    .map_err(SlimError::from)?;
    let tls = match &to.tls {
        Some(ClientTls { authority, identity }) => {
            slim::Tls { authority: authority.clone(), identity: identity.clone() }
        }
        None => usual.tls,
    };
    if export.tls == Tls::Mutual && tls.identity.is_none() {
        return Err(TelemetryError::NoCertificate);
    }
    let settings = slim::Settings {
        queue: traces.queue,
        batch: traces.batch,
        delay: traces.delay,
        timeout: own_timeout(OtlpSignal::Traces, export).unwrap_or(usual.timeout),
        tls,
        ..usual
    };
    let log = Arc::new(ExportLog::default());
    let logged = Arc::clone(&log);
    let (layer, slim) = Slim::start(&settings, move |export| {
        logged.exported(export.spans, export.took, export.outcome.is_ok());
        if let Err(error) = export.outcome {
            diagnostics.note(format!("exporting {} spans failed: {error}", export.spans));
        }
    })?;
    Ok((layer, SpanPipeline::Slim { slim, log }))
}

/// The mode's batch settings, except those set by environment variables.
fn batch_config(traces: &Traces) -> BatchConfig {
    // The defaults read the variables, and values set on the builder would override them.
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

impl SpanPipeline {
    /// Exports every ended span. `bound` limits the slim layer only; the SDK has its own time-out.
    pub(super) fn flush(&self, bound: Duration, diagnostics: &Diagnostics) {
        let what = "flushing spans";
        match self {
            Self::Sdk { provider, .. } => {
                diagnostics.note_failure(what, provider.force_flush());
            }
            Self::Slim { slim, .. } => diagnostics.note_error(what, slim.flush(bound)),
        }
    }

    /// Exports what is left, for at most `bound`. Of the SDK's pipeline, spans dropped at the queue or rejected by the
    /// collector are reported to `diagnostics` only.
    pub(super) fn shutdown(self, bound: Duration, diagnostics: &Diagnostics) -> Closed {
        let what = "shutting the tracer down";
        match self {
            Self::Sdk { provider, ended, log, discards, _io } => {
                let gave_up = diagnostics.note_failure(what, provider.shutdown_with_timeout(bound));
                let (failed, exported) = (log.failed_items(), log.exported_items());
                let discarded = if discards { exported } else { 0 };
                let spans = ServiceSpans { ended: ended.count(), failed, discarded, ..ServiceSpans::default() };
                Closed { spans, exported, gave_up, log }
            }
            Self::Slim { slim, log } => {
                let before = slim.counts();
                let closed = slim.shutdown(bound);
                let gave_up = closed.is_err();
                let slim::Counts { ended, dropped, failed, rejected } = closed.unwrap_or_else(|error| {
                    diagnostics.note(format!("{what} failed: {error}"));
                    before
                });
                let spans = ServiceSpans { ended, dropped, failed, rejected, ..ServiceSpans::default() };
                Closed { spans, exported: log.exported_items(), gave_up, log }
            }
        }
    }
}

/// Where the spans of a closed pipeline went.
pub(super) struct Closed {
    /// The counts known to the pipeline.
    pub(super) spans: ServiceSpans,
    /// Spans in successful exports.
    pub(super) exported: u64,
    /// Whether the shutdown timed out before everything was tried.
    pub(super) gave_up: bool,
    /// Log of the exports.
    pub(super) log: Arc<ExportLog>,
}

impl LogPipeline {
    fn start(mode: &Mode, to: &Destination, resource: &Resource) -> Result<Self, TelemetryError> {
        let io = export_runtime(SPAN_EXPORT_THREADS[1])?;
        let entered = io.enter();
        let exporter = log_exporter(mode.export, to)?;
        drop(entered);
        let log = Arc::new(ExportLog::default());
        let emitted = ItemCounter::default();
        // There is one record per order, so a queue that is large enough for spans is large enough here.
        let settings = mode.traces.clone().unwrap_or_default();
        let mut config = LogBatchConfigBuilder::default();
        if env::var_os("OTEL_BLRP_MAX_QUEUE_SIZE").is_none() {
            config = config.with_max_queue_size(settings.queue);
        }
        if env::var_os("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE").is_none() {
            config = config.with_max_export_batch_size(settings.batch);
        }
        if env::var_os("OTEL_BLRP_SCHEDULE_DELAY").is_none() {
            config = config.with_scheduled_delay(settings.delay);
        }
        let counted = CountedExporter::new(exporter, Arc::clone(&log));
        let builder = SdkLoggerProvider::builder().with_resource(resource.clone());
        let config = config.build();
        let builder = if settings.redact {
            let batching = BatchLogProcessor::builder(Redacted::new(counted)).with_batch_config(config).build();
            builder.with_log_processor(CountedProcessor::new(batching, emitted.clone()))
        } else {
            let batching = BatchLogProcessor::builder(counted).with_batch_config(config).build();
            builder.with_log_processor(CountedProcessor::new(batching, emitted.clone()))
        };
        let provider = builder.build();
        Ok(Self { provider, emitted, log, _io: io })
    }

    /// Exports every emitted record.
    pub(super) fn flush(&self, diagnostics: &Diagnostics) {
        diagnostics.note_failure("flushing logs", self.provider.force_flush());
    }

    /// Exports what is left, for at most `bound`. Records dropped at the queue or rejected by the collector are reported to
    /// `diagnostics` only.
    pub(super) fn shutdown(self, bound: Duration, diagnostics: &Diagnostics) -> ServiceLogs {
        diagnostics.note_failure("shutting the logger down", self.provider.shutdown_with_timeout(bound));
        ServiceLogs { emitted: self.emitted.count(), failed: self.log.failed_items(), ..ServiceLogs::default() }
    }
}

//! Installs the metrics recorder of a mode and its exporter or scraper.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_opentelemetry::Recorder;
use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::global;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, MeterProviderBuilder, PeriodicReader, SdkMeterProvider, Stream,
};
use otelbench_slim::CachingRecorder;
use tokio::runtime::Runtime;

use super::counted::CountedExporter;
use super::export_log::ExportLog;
use super::otlp::{Destination, metric_exporter};
use super::scrape::Scraper;
use super::{PERIODIC_EXPORT_THREADS, TelemetryError, export_runtime, resource};
use crate::experiment::mode::{Export, Metrics, Views};

/// Upper bounds of the histogram buckets: OpenTelemetry's defaults, so that all recorders do the same work.
const BUCKETS: [f64; 15] =
    [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1_000.0, 2_500.0, 5_000.0, 7_500.0, 10_000.0];

/// Where metrics go.
#[derive(Debug)]
pub(super) enum MetricPipeline {
    /// Metrics are dropped.
    Nowhere,
    /// A Prometheus recorder that is scraped.
    Prometheus {
        /// Renders the metrics periodically.
        scraper: Scraper,
        /// Time between scrapes.
        interval: Duration,
    },
    /// An OpenTelemetry meter that exports periodically.
    Otlp {
        /// The provider of the meter.
        provider: SdkMeterProvider,
        /// Time between exports.
        interval: Duration,
        /// Log of the exports.
        log: Arc<ExportLog>,
        /// Runs the exporter's connection.
        _io: Runtime,
    },
}

impl MetricPipeline {
    pub(super) fn install(metrics: &Metrics, export: Export, to: &Destination) -> Result<Self, TelemetryError> {
        match metrics {
            Metrics::Nowhere => Ok(Self::Nowhere),
            Metrics::Prometheus { interval } => install_prometheus(*interval),
            Metrics::Bridge { interval, caching, views } => {
                let setup = ExportSetup::new(*interval, views, export, to)?;
                let (provider, recorder) =
                    Recorder::builder("otelbench").with_meter_provider(|builder| setup.reader.attach(builder)).build();
                if *caching {
                    set_recorder(CachingRecorder::new(recorder))?;
                } else {
                    set_recorder(recorder)?;
                }
                Ok(setup.rest.with(provider))
            }
            Metrics::Otel { interval, views } => {
                let setup = ExportSetup::new(*interval, views, export, to)?;
                let provider = setup.reader.attach(SdkMeterProvider::builder()).build();
                Ok(setup.rest.with(provider))
            }
        }
    }
}

fn install_prometheus(interval: Duration) -> Result<MetricPipeline, TelemetryError> {
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    set_recorder(recorder)?;
    Ok(MetricPipeline::Prometheus { scraper: Scraper::start(handle, interval)?, interval })
}

fn set_recorder(recorder: impl metrics::Recorder + Sync + 'static) -> Result<(), TelemetryError> {
    metrics::set_global_recorder(recorder).map_err(|e| TelemetryError::Installed("metrics recorder", e.to_string()))
}

/// A periodic reader with its exporter, before its meter provider exists.
struct ExportSetup {
    reader: Reader,
    rest: Rest,
}

/// The part that is moved into the provider.
struct Reader {
    reader: PeriodicReader<CountedExporter<opentelemetry_otlp::MetricExporter>>,
    views: Views,
}

/// The part that is kept beside the provider.
struct Rest {
    interval: Duration,
    log: Arc<ExportLog>,
    io: Runtime,
}

impl ExportSetup {
    fn new(interval: Duration, views: &Views, export: Export, to: &Destination) -> Result<Self, TelemetryError> {
        let io = export_runtime(PERIODIC_EXPORT_THREADS[1])?;
        let entered = io.enter();
        let exporter = metric_exporter(export, to)?;
        drop(entered);
        let log = Arc::new(ExportLog::default());
        let counted = CountedExporter::new(exporter, Arc::clone(&log));
        // The builder reads OTEL_METRIC_EXPORT_INTERVAL; setting an interval on it would silence that variable.
        let interval = env_millis("OTEL_METRIC_EXPORT_INTERVAL").unwrap_or(interval);
        let reader = PeriodicReader::builder(counted).with_interval(interval).build();
        Ok(Self { reader: Reader { reader, views: views.clone() }, rest: Rest { interval, log, io } })
    }
}

impl Reader {
    fn attach(self, builder: MeterProviderBuilder) -> MeterProviderBuilder {
        let builder = builder.with_reader(self.reader).with_resource(resource());
        if self.views.are_defaults() {
            // A view is evaluated for every instrument, even if it changes nothing.
            return builder;
        }
        let views = self.views;
        builder.with_view(move |instrument: &Instrument| stream(&views, instrument))
    }
}

impl Rest {
    fn with(self, provider: SdkMeterProvider) -> MetricPipeline {
        global::set_meter_provider(provider.clone());
        MetricPipeline::Otlp { provider, interval: self.interval, log: self.log, _io: self.io }
    }
}

/// The stream that `views` define for an instrument; `None` if it is invalid.
fn stream(views: &Views, instrument: &Instrument) -> Option<Stream> {
    let mut stream = Stream::builder();
    if let Some(labels) = &views.keep_labels {
        stream = stream.with_allowed_attribute_keys(labels.iter().cloned().map(opentelemetry::Key::new));
    }
    if let Some(limit) = views.cardinality_limit {
        stream = stream.with_cardinality_limit(limit);
    }
    if let Some(bounds) = views.bounds.as_ref().filter(|_| instrument.kind() == InstrumentKind::Histogram) {
        let boundaries = bounds.clone();
        stream = stream.with_aggregation(Aggregation::ExplicitBucketHistogram { boundaries, record_min_max: true });
    }
    stream.build().ok()
}

fn env_millis(variable: &str) -> Option<Duration> {
    env::var(variable).ok()?.trim().parse().ok().map(Duration::from_millis)
}

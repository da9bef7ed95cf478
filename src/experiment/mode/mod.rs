//! Telemetry modes as plain data.
//!
//! A mode says which parts are in place; [`crate::sut::telemetry`] alone turns that into a recorder, a subscriber and
//! exporters, and [`crate::sut::service`] picks its handlers by [`Handlers`]. Nothing else looks inside a mode. Modes travel
//! to a lane as JSON, so a mode need not be known by name to be measured: [`define`] makes new ones from the same parts.

mod catalogue;
mod definition;
mod name;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::catalogue::{UnknownMode, all, find, named};
pub use self::definition::{DefinitionError, define};
pub use self::name::{ModeName, mode_names};

/// The interval at which the article under test exports metrics and spans.
const ARTICLE_INTERVAL: Duration = Duration::from_secs(5);
/// The span queue that the article under test calls sufficient at 10 000 requests per second.
const ARTICLE_QUEUE: usize = 10_000;
/// The SDK's own default for the largest batch.
const SDK_BATCH: usize = 512;

/// A named telemetry configuration of the order service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mode {
    /// Name, as given to `--mode`.
    pub name: String,
    /// One sentence on what a service in this mode does.
    pub summary: String,
    /// How the handlers record.
    pub handlers: Handlers,
    /// Where metrics go.
    pub metrics: Metrics,
    /// Where spans go; `None` builds none.
    pub traces: Option<Traces>,
    /// Where log events go beside the spans.
    #[serde(default)]
    pub logs: Logs,
    /// How OTLP is sent.
    #[serde(default)]
    pub export: Export,
}

impl Mode {
    /// Share of traces that callers of a service in this mode sample, from 0 to 1.
    pub fn recorded_share(&self) -> f64 {
        match self.traces.as_ref().map(|traces| traces.sampler) {
            Some(Sampler::ParentRatio { ratio }) => ratio,
            Some(Sampler::Default | Sampler::AlwaysOff) | None => 1.0,
        }
    }

    /// Whether it sends anything over OTLP.
    pub fn sends(&self) -> bool {
        let spans = self.traces.as_ref().is_some_and(|traces| traces.exporter == SpanExporter::Otlp);
        let metrics = matches!(self.metrics, Metrics::Bridge { .. } | Metrics::Otel { .. });
        spans || metrics || self.logs == Logs::Otlp
    }

    /// Parts that contradict each other, in words; `None` if none do.
    pub fn contradiction(&self) -> Option<&'static str> {
        let slim = self.traces.as_ref().is_some_and(|traces| traces.layer == Layer::Slim);
        let plain = Export { timeout: self.export.timeout, tls: self.export.tls, ..Export::default() };
        let simple = |traces: &Traces| traces.sampler == Sampler::Default && !traces.redact;
        if slim != (self.handlers == Handlers::Slim) {
            return Some("handlers = \"slim\" and traces.layer = \"slim\" need each other");
        }
        if slim && (self.export != plain || self.logs == Logs::Otlp || !self.traces.as_ref().is_none_or(simple)) {
            return Some(
                "traces.layer = \"slim\" takes gRPC without compression, and no sampler, redaction or logs of its own",
            );
        }
        if self.handlers == Handlers::Careless && self.traces.is_none() {
            return Some("handlers = \"careless\" know the user from the caller's baggage, which takes traces");
        }
        match (self.handlers, &self.metrics) {
            (Handlers::Otel, Metrics::Otel { .. } | Metrics::Bridge { .. } | Metrics::Nowhere) => None,
            (Handlers::Otel, Metrics::Prometheus { .. }) => {
                Some("handlers = \"otel\" record into OpenTelemetry, not into Prometheus")
            }
            (_, Metrics::Otel { .. }) => Some("metrics.recorder = \"otel\" takes handlers = \"otel\""),
            _ => None,
        }
    }
}

/// How the handlers of the service record. Each is a type of its own, so no mode pays for another's branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handlers {
    /// No instrumentation calls at all.
    Bare,
    /// `metrics` and `tracing` macros at every call, as the crates' own documentation shows.
    Macros,
    /// As `Macros`, but the metrics' handles are registered once and kept.
    Cached,
    /// As `Cached`, but the instruments are OpenTelemetry's own, without the `metrics` crate.
    Otel,
    /// As `Macros`, with one event per order.
    Logging,
    /// As `Macros`, but the payment task is spawned without its span: the defect that loses the trace context.
    BareSpawn,
    /// As `Macros`, with common mistakes: every metric also has the user as a label, the payment's span carries card number
    /// and e-mail address, an event at INFO repeats both, and the reservation has a span at DEBUG, `check_stock`.
    Careless,
    /// The article's handler as near as it compiles: the spans are entered by hand where no `.await` is near, and the
    /// payment is spawned without its span. As printed, with the guard held across the `.await`, it is not `Send` and
    /// axum refuses it.
    Naive,
    /// As `Cached`, with spans that continue the caller's trace by [`otelbench_slim`] instead of OpenTelemetry's context.
    Slim,
}

/// Where metrics go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "recorder", deny_unknown_fields)]
pub enum Metrics {
    /// No recorder is installed; the macros do nothing.
    Nowhere,
    /// A Prometheus recorder, rendered once per `interval` as a scrape would.
    Prometheus {
        /// Time between scrapes.
        #[serde(with = "humantime_serde")]
        interval: Duration,
    },
    /// `metrics-exporter-opentelemetry` into an OpenTelemetry meter, exported by OTLP once per `interval`.
    Bridge {
        /// Time between exports. `OTEL_METRIC_EXPORT_INTERVAL` wins over it.
        #[serde(with = "humantime_serde")]
        interval: Duration,
        /// Whether [`otelbench_slim::CachingRecorder`] stands before the bridge, so that a macro finds its handle again.
        #[serde(default)]
        caching: bool,
        /// How the SDK is told to aggregate.
        #[serde(default)]
        views: Views,
    },
    /// An OpenTelemetry meter alone, exported by OTLP once per `interval`. For handlers that use its instruments.
    Otel {
        /// Time between exports. `OTEL_METRIC_EXPORT_INTERVAL` wins over it.
        #[serde(with = "humantime_serde")]
        interval: Duration,
        /// How the SDK is told to aggregate.
        #[serde(default)]
        views: Views,
    },
}

/// How OpenTelemetry's SDK aggregates metrics instead of its defaults. `None` keeps a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// Labels to keep; all others are dropped, which merges their series.
    pub keep_labels: Option<Vec<String>>,
    /// Maximum number of series per metric; further ones are merged into one without labels. The SDK's default is 2000.
    pub cardinality_limit: Option<usize>,
    /// Upper bounds of the histograms' buckets, ascending, in the metric's unit.
    pub bounds: Option<Vec<f64>>,
}

impl Views {
    /// Whether all are the SDK's defaults.
    pub fn are_defaults(&self) -> bool {
        *self == Self::default()
    }
}

/// How spans are built and exported. The defaults are those of the article under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// The layer that builds and exports the spans.
    pub layer: Layer,
    /// The `EnvFilter` directives in front of the layer; a level where `level_only`.
    pub filter: String,
    /// Whether `filter` is a level for the plain `LevelFilter` instead of directives.
    pub level_only: bool,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Where the batch processor takes spans.
    pub exporter: SpanExporter,
    /// Attributes that the layer adds to each span by itself.
    pub attributes: SpanAttributes,
    /// Whether card numbers and e-mail addresses are redacted before spans and log records are exported. Metrics are not:
    /// such a label should not exist, and [`Views::keep_labels`] drops it.
    pub redact: bool,
    /// Spans the batch processor's queue holds. `OTEL_BSP_MAX_QUEUE_SIZE` wins over it.
    pub queue: usize,
    /// Spans in one export at most. `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` wins over it.
    pub batch: usize,
    /// Longest time a span waits for its batch to fill. `OTEL_BSP_SCHEDULE_DELAY` wins over it.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
}

impl Default for Traces {
    /// Batch export as the article under test sets it up.
    fn default() -> Self {
        Self {
            layer: Layer::default(),
            filter: "info".into(),
            level_only: false,
            sampler: Sampler::default(),
            exporter: SpanExporter::default(),
            attributes: SpanAttributes::default(),
            redact: false,
            queue: ARTICLE_QUEUE,
            batch: SDK_BATCH,
            delay: ARTICLE_INTERVAL,
        }
    }
}

/// The layer that builds and exports spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// `tracing-opentelemetry` into the SDK's batch processor.
    #[default]
    OpenTelemetry,
    /// [`otelbench_slim`], which writes OTLP itself. It takes handlers that continue a trace by it, and gRPC without compression.
    Slim,
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum Sampler {
    /// The SDK's default: the caller decides, and every trace without a caller is sampled. `OTEL_TRACES_SAMPLER` wins over
    /// it.
    #[default]
    Default,
    /// None.
    AlwaysOff,
    /// As the caller decided, who samples this share; the same share without a caller.
    ParentRatio {
        /// From 0 to 1.
        ratio: f64,
    },
}

/// Where the batch processor takes spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanExporter {
    /// To a collector.
    #[default]
    Otlp,
    /// To an exporter that drops each batch.
    Null,
}

/// Attributes that `tracing-opentelemetry` adds to each span by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the layer's own")]
pub struct SpanAttributes {
    /// File, line and module: three attributes.
    pub location: bool,
    /// Thread id and name: two attributes.
    pub threads: bool,
    /// The target: one attribute.
    pub target: bool,
    /// Busy and idle time: two attributes, and two clock readings per enter and exit.
    pub inactivity: bool,
}

impl Default for SpanAttributes {
    fn default() -> Self {
        Self { location: true, threads: true, target: true, inactivity: true }
    }
}

impl SpanAttributes {
    /// None.
    pub const NONE: Self = Self { location: false, threads: false, target: false, inactivity: false };
}

/// Where log events go beside the spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logs {
    /// Nowhere.
    #[default]
    Nowhere,
    /// Formatted as lines of JSON, for a writer that drops them.
    Json,
    /// Sent by OTLP, in batches.
    Otlp,
}

/// How OTLP is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// Protocol.
    pub protocol: Protocol,
    /// Compression.
    pub compression: Compression,
    /// Encryption.
    pub tls: Tls,
    /// Time that an export may take, retries included; the SDK's default is 10 s. `OTEL_EXPORTER_OTLP_TIMEOUT` wins
    /// over it.
    #[serde(with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

/// OTLP protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// gRPC.
    #[default]
    Grpc,
    /// HTTP/1.1 with protobuf bodies.
    Http,
}

/// OTLP compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Uncompressed.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// OTLP encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// None, unless the endpoint's URL begins with `https`.
    #[default]
    None,
    /// Mutual TLS: both sides present a certificate.
    Mutual,
}

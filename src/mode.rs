//! Telemetry modes as plain data.
//!
//! A mode says which parts are in place; [`crate::telemetry`] alone turns that into a recorder, a subscriber and
//! exporters, and [`crate::service`] picks its handlers by [`Handlers`]. Nothing else looks inside a mode. Modes travel
//! to a lane as JSON, so a mode need not be known by name to be measured.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

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
    /// The name users ask for it by.
    pub name: String,
    /// One sentence: what a service so configured does.
    pub summary: String,
    /// How the handlers record.
    pub handlers: Handlers,
    /// Where metrics go.
    pub metrics: Metrics,
    /// Where spans go; `None` installs no subscriber.
    pub traces: Option<Traces>,
}

/// How the handlers of the service record. Each is a type of its own, so no mode pays for another's branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handlers {
    /// No instrumentation calls at all.
    Bare,
    /// `metrics` and `tracing` macros at every call, as the crates' own documentation shows.
    Macros,
    /// As `Macros`, but the payment task is spawned without its span: the defect that loses the trace context.
    BareSpawn,
}

/// Where metrics go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "recorder")]
pub enum Metrics {
    /// No recorder is installed: the macros record into nothing.
    Nowhere,
    /// A Prometheus recorder, rendered once per `interval` as a scrape would.
    Prometheus {
        /// Time between scrapes.
        #[serde(with = "humantime_serde")]
        interval: Duration,
    },
    /// `metrics-exporter-opentelemetry` into an OpenTelemetry meter, exported by OTLP/gRPC once per `interval`.
    Bridge {
        /// Time between exports. `OTEL_METRIC_EXPORT_INTERVAL` wins over it.
        #[serde(with = "humantime_serde")]
        interval: Duration,
    },
}

/// Where spans go: `tracing-opentelemetry` into the SDK's batch processor, exported by OTLP/gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The `EnvFilter` directives in front of the layer.
    pub filter: String,
    /// Spans the batch processor's queue holds. `OTEL_BSP_MAX_QUEUE_SIZE` wins over it.
    pub queue: usize,
    /// Spans in one export at most. `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` wins over it.
    pub batch: usize,
    /// Longest time a span waits for its batch to fill. `OTEL_BSP_SCHEDULE_DELAY` wins over it.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
}

impl Traces {
    /// Batch export as the article under test sets it up.
    fn article() -> Self {
        Self { filter: "info".into(), queue: ARTICLE_QUEUE, batch: SDK_BATCH, delay: ARTICLE_INTERVAL }
    }
}

/// No mode has this name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown mode `{name}`{}; the modes are {}", hint(.nearest.as_ref()), names().join(", "))]
pub struct UnknownMode {
    name: String,
    nearest: Option<String>,
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

/// Every mode that has a name, cheapest first.
pub fn all() -> Vec<Mode> {
    let interval = ARTICLE_INTERVAL;
    let mode = |name: &str, summary: &str, handlers, metrics, traces| Mode {
        name: name.into(),
        summary: summary.into(),
        handlers,
        metrics,
        traces,
    };
    vec![
        mode("bare", "no instrumentation calls in the code at all", Handlers::Bare, Metrics::Nowhere, None),
        mode(
            "none",
            "instrumented code, no recorder and no subscriber installed",
            Handlers::Macros,
            Metrics::Nowhere,
            None,
        ),
        mode(
            "metrics",
            "metrics into a Prometheus recorder, rendered every 5 s as a scrape would",
            Handlers::Macros,
            Metrics::Prometheus { interval },
            None,
        ),
        mode(
            "full",
            "metrics bridged to OpenTelemetry and three spans per order, both exported by OTLP/gRPC every 5 s",
            Handlers::Macros,
            Metrics::Bridge { interval },
            Some(Traces::article()),
        ),
    ]
}

/// The mode called `name`.
///
/// # Errors
/// When there is none; the error suggests the nearest name.
pub fn named(name: &str) -> Result<Mode, UnknownMode> {
    all().into_iter().find(|mode| mode.name == name).ok_or_else(|| UnknownMode {
        name: name.into(),
        nearest: names()
            .into_iter()
            .map(|known| (strsim::jaro_winkler(name, &known), known))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known),
    })
}

fn names() -> Vec<String> {
    all().into_iter().map(|mode| mode.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_gets_the_nearest_known_one() {
        let error = named("ful").unwrap_err().to_string();
        assert_eq!(error, "unknown mode `ful`, did you mean `full`?; the modes are bare, none, metrics, full");
        assert!(!named("zzz").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn a_mode_survives_the_journey_to_a_lane() {
        for mode in all() {
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(serde_json::from_str::<Mode>(&json).unwrap(), mode);
        }
    }
}

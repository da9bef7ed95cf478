//! The built-in modes.

use thiserror::Error;

use super::{
    ARTICLE_INTERVAL, Compression, Export, Handlers, Layer, Logs, Metrics, Mode, Protocol, Sampler, SpanAttributes,
    SpanExporter, Tls, Traces, Views,
};
use crate::experiment::units::nearest;

/// The share of traces that `full-sampled` records.
const SAMPLED: f64 = 0.1;

/// A name that no mode has.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown mode `{name}`{}; the modes are {}", hint(.nearest.as_ref()), .known.join(", "))]
pub struct UnknownMode {
    name: String,
    nearest: Option<String>,
    known: Vec<String>,
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

/// Every built-in mode: from nothing to the full stack, then the variants of `full`.
pub fn all() -> Vec<Mode> {
    [simple(), metrics(), spans(), exports(), handlers()].concat()
}

fn mode(name: &str, handlers: Handlers, metrics: Metrics, traces: Option<Traces>, summary: &str) -> Mode {
    Mode {
        name: name.into(),
        summary: summary.into(),
        handlers,
        metrics,
        traces,
        logs: Logs::Nowhere,
        export: Export::default(),
    }
}

fn full(name: &str, summary: &str) -> Mode {
    mode(name, Handlers::Macros, bridge(), Some(Traces::default()), summary)
}

fn simple() -> Vec<Mode> {
    vec![
        mode("bare", Handlers::Bare, Metrics::Nowhere, None, "no instrumentation calls in the code at all"),
        mode(
            "none",
            Handlers::Macros,
            Metrics::Nowhere,
            None,
            "instrumented code, no recorder and no subscriber installed",
        ),
    ]
}

fn metrics() -> Vec<Mode> {
    let prometheus = || Metrics::Prometheus { interval: ARTICLE_INTERVAL };
    vec![
        mode(
            "metrics",
            Handlers::Macros,
            prometheus(),
            None,
            "metrics into a Prometheus recorder, rendered every 5 s as a scrape would",
        ),
        Mode {
            logs: Logs::Json,
            ..mode(
                "metrics-tracing",
                Handlers::Logging,
                prometheus(),
                None,
                "as metrics, and an event per order written as JSON to a writer that drops it",
            )
        },
        mode(
            "bridge",
            Handlers::Macros,
            bridge(),
            None,
            "metrics bridged to OpenTelemetry, exported by OTLP/gRPC every 5 s",
        ),
        mode(
            "bridge-cached",
            Handlers::Cached,
            bridge(),
            None,
            "as bridge, with handles that are registered once and kept",
        ),
        mode(
            "otel-metrics",
            Handlers::Otel,
            Metrics::Otel { interval: ARTICLE_INTERVAL, views: Views::default() },
            None,
            "the same metrics by OpenTelemetry's own instruments, without the bridge",
        ),
    ]
}

fn spans() -> Vec<Mode> {
    let alone = |name, traces, summary| mode(name, Handlers::Macros, Metrics::Nowhere, Some(traces), summary);
    vec![
        alone(
            "spans-off",
            Traces { sampler: Sampler::AlwaysOff, ..Traces::default() },
            "three spans per order, of which the sampler records none",
        ),
        alone(
            "spans-null",
            Traces { exporter: SpanExporter::Null, ..Traces::default() },
            "three spans per order all the way to an exporter that drops them",
        ),
        alone("traces", Traces::default(), "three spans per order, exported by OTLP/gRPC every 5 s"),
    ]
}

/// `full`, and its variants of protocol, compression and encryption.
fn exports() -> Vec<Mode> {
    let by = |name, export, summary| Mode { export, ..full(name, summary) };
    vec![
        full("full", "bridged metrics and three spans per order, both exported by OTLP/gRPC every 5 s"),
        by(
            "full-http",
            Export { protocol: Protocol::Http, ..Export::default() },
            "as full, exported by OTLP over HTTP/1.1 with protobuf bodies",
        ),
        by(
            "full-gzip",
            Export { compression: Compression::Gzip, ..Export::default() },
            "as full, with exports made smaller by gzip",
        ),
        by(
            "full-mtls",
            Export { tls: Tls::Mutual, ..Export::default() },
            "as full, over TLS with certificates on both sides",
        ),
    ]
}

/// `full` with other handlers, or another of its parts.
fn handlers() -> Vec<Mode> {
    let with = |name, handlers, summary| Mode { handlers, ..full(name, summary) };
    vec![
        with("full-cached", Handlers::Cached, "as full, with metric handles that are registered once and kept"),
        Mode {
            traces: Some(Traces { sampler: Sampler::ParentRatio { ratio: SAMPLED }, ..Traces::default() }),
            ..full("full-sampled", "as full, following callers who have one trace in ten recorded")
        },
        Mode {
            logs: Logs::Otlp,
            ..with("full-logs", Handlers::Logging, "as full, and an event per order, sent as a log record as well")
        },
        with("naive", Handlers::Naive, "as full, in the article's handler as near as it compiles, which loses context"),
        Mode {
            traces: Some(Traces {
                layer: Layer::Slim,
                level_only: true,
                attributes: SpanAttributes::NONE,
                ..Traces::default()
            }),
            ..with(
                "tuned",
                Handlers::Slim,
                "delivers the same for least: kept handles, and a layer that writes OTLP itself",
            )
        },
    ]
}

fn bridge() -> Metrics {
    Metrics::Bridge { interval: ARTICLE_INTERVAL, caching: false, views: Views::default() }
}

/// The mode called `name`, among those in the catalogue and `own` ones.
///
/// # Errors
/// When there is none; the error suggests the nearest name.
pub fn find(name: &str, own: &[Mode]) -> Result<Mode, UnknownMode> {
    let modes = || all().into_iter().chain(own.iter().cloned());
    modes().find(|mode| mode.name == name).ok_or_else(|| {
        let known: Vec<String> = modes().map(|mode| mode.name).collect();
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        UnknownMode { name: name.into(), nearest, known }
    })
}

/// The mode of the catalogue called `name`.
///
/// # Errors
/// When there is none; the error suggests the nearest name.
pub fn named(name: &str) -> Result<Mode, UnknownMode> {
    find(name, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_modes_are_rejected_with_the_nearest_name() {
        let error = find("ful", &[]).unwrap_err().to_string();
        assert!(error.starts_with("unknown mode `ful`, did you mean `full`?; the modes are bare, none, "), "{error}");
        assert!(!find("zzz", &[]).unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn built_in_modes_have_unique_names_and_no_contradictions() {
        for mode in all() {
            assert_eq!(mode.contradiction(), None, "{}", mode.name);
        }
        let names: std::collections::BTreeSet<String> = all().into_iter().map(|mode| mode.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn modes_are_unchanged_after_json() {
        for mode in all() {
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(serde_json::from_str::<Mode>(&json).unwrap(), mode);
        }
    }
}

//! Metrics: the bridge from `metrics` to OpenTelemetry, the SDK's aggregation, and the limits of receivers.

use metrics_exporter_opentelemetry::Recorder;
use opentelemetry_otlp::{MetricExporter, WithExportConfig};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, Stream as View, Temporality};
use tracing_subscriber::layer::SubscriberExt;

use super::apparatus::{Log, MetricStream, SCOPE, bridged, collector, counted, one_worker, sum};
use super::{AttemptError, Hang, Probe};
use crate::record::probes::ProbeObservation;

/// The probes of this file.
pub(super) fn probes() -> Vec<Probe> {
    vec![
        Probe {
            name: "gauge-increment",
            title: "a gauge incremented through the macro stays at one increment",
            pitfall: "metrics-exporter-opentelemetry keeps a gauge's value in the handle, and the macro makes a new handle \
                      at each call: every increment starts from 0.",
            advice: "Keep the handle that `gauge!` returns and increment that, in one place; or `set` absolute values.",
            defect: || gauge_increments(false),
            fix: Some(|| gauge_increments(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "counter-absolute",
            title: "`absolute` through the macro adds the whole value at each call",
            pitfall: "metrics-exporter-opentelemetry adds the difference between the new value and the handle's last one, and the \
                      macro makes a new handle, which begins at 0, at each call.",
            advice: "Keep one handle per series for `absolute`: two handles to one series add up as well.",
            defect: || counter_absolute(false),
            fix: Some(|| counter_absolute(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "described-metric",
            title: "a described metric splits into two streams of one name",
            pitfall: "metrics-exporter-opentelemetry takes a description out of its table when the metric is first \
                      registered: the next call of the macro registers it without unit and description. The SDK reports it only \
                      at DEBUG.",
            advice: "Register each metric once and keep the handle, or give unit and description by a view.",
            defect: || described(false),
            fix: Some(|| described(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "seconds-buckets",
            title: "all values in seconds fall into the first bucket",
            pitfall: "The SDK's default bounds (0, 5, 10 … 10 000) are made for milliseconds, also where a metric is \
                      described in seconds.",
            advice: "Give a view with explicit bounds in seconds, such as 0.005 … 10, or record milliseconds. Views need no \
                     unstable feature of the SDK.",
            defect: || seconds(false),
            fix: Some(|| seconds(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "cardinality-overflow",
            title: "beyond 2000 series the labels are lost",
            pitfall: "The SDK keeps 2000 series per stream; every further one is added to a series whose only label is \
                      otel.metric.overflow=true.",
            advice: "Keep unbounded values, such as user ids, out of labels; or raise the limit of that one metric by a view \
                     (`with_cardinality_limit`) and pay for it in memory and bytes.",
            defect: || cardinality(2_001, None),
            fix: Some(|| cardinality(2_001, Some(2_001))),
            hang: Hang::Failure,
        },
        Probe {
            name: "invalid-metric-name",
            title: "a metric with an invalid name records into nothing",
            pitfall: "Names that do not begin with a letter, or hold more than letters, digits and `_.-/`, get an \
                      instrument that does nothing. The call returns as usual; only the SDK's log reports it.",
            advice: "Keep to letters, digits and `_.-/`, and let the SDK's log at ERROR through your filter.",
            defect: || name("orders total"),
            fix: Some(|| name("orders_total")),
            hang: Hang::Failure,
        },
        Probe {
            name: "metrics-over-4mb",
            title: "cumulative metrics past 4 MB never arrive again",
            pitfall: "gRPC receivers refuse messages over 4 MiB by default, and a cumulative export holds every series so far: \
                      once it is too large, it stays too large.",
            advice: "Have fewer series or shorter labels, export deltas (`with_temporality(Temporality::Delta)`), or raise the \
                     receiver's limit.",
            defect: || oversized(Temporality::Cumulative),
            fix: Some(|| oversized(Temporality::Delta)),
            hang: Hang::Failure,
        },
    ]
}

/// Calls of a macro in one probe.
const CALLS: u32 = 5;

fn gauge_increments(kept: bool) -> Result<ProbeObservation, AttemptError> {
    let streams = bridged(
        |builder| builder,
        || {
            let handle = metrics::gauge!("orders_in_flight");
            for _ in 0..CALLS {
                if kept { handle.increment(1.0) } else { metrics::gauge!("orders_in_flight").increment(1.0) }
            }
        },
    )?;
    let exported = sum(called(&streams, "orders_in_flight").map(MetricStream::total));
    Ok(ProbeObservation::new(
        exported != f64::from(CALLS),
        format!("{CALLS} increments by 1 were exported as {exported}."),
        [("increments", f64::from(CALLS)), ("exported", exported)],
    ))
}

fn counter_absolute(kept: bool) -> Result<ProbeObservation, AttemptError> {
    const VALUE: u64 = 10;
    let streams = bridged(
        |builder| builder,
        || {
            let handle = metrics::counter!("bytes_read");
            for _ in 0..CALLS {
                if kept { handle.absolute(VALUE) } else { metrics::counter!("bytes_read").absolute(VALUE) }
            }
        },
    )?;
    let exported = sum(called(&streams, "bytes_read").map(MetricStream::total));
    Ok(ProbeObservation::new(
        exported != VALUE as f64,
        format!("The absolute value {VALUE}, set {CALLS} times, was exported as {exported}."),
        [("value", VALUE as f64), ("calls", f64::from(CALLS)), ("exported", exported)],
    ))
}

fn described(kept: bool) -> Result<ProbeObservation, AttemptError> {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    let streams = tracing::subscriber::with_default(subscriber, || {
        bridged(
            |builder| builder,
            || {
                metrics::describe_counter!("bytes_sent", metrics::Unit::Bytes, "Bytes sent to clients");
                let handle = kept.then(|| metrics::counter!("bytes_sent"));
                for _ in 0..CALLS {
                    match &handle {
                        Some(handle) => handle.increment(1),
                        None => metrics::counter!("bytes_sent").increment(1),
                    }
                }
            },
        )
    })?;
    let streams: Vec<&MetricStream> = called(&streams, "bytes_sent").collect();
    let with_unit = sum(streams.iter().filter(|stream| !stream.unit.is_empty()).map(|stream| stream.total()));
    Ok(ProbeObservation::new(
        streams.len() != 1,
        format!(
            "{CALLS} increments of one described counter were exported in {} of its name, {with_unit} of them with the unit; \
             the SDK logged {}.",
            counted(streams.len(), "stream"),
            counted(log.events().len(), "warning"),
        ),
        [
            ("streams", streams.len() as f64),
            ("increments", f64::from(CALLS)),
            ("increments_with_unit", with_unit),
            ("warnings", log.events().len() as f64),
        ],
    ))
}

/// Bounds in seconds, as the semantic conventions for `http.server.request.duration` have them.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

fn seconds(viewed: bool) -> Result<ProbeObservation, AttemptError> {
    const VALUES: u32 = 999;
    let view = |instrument: &Instrument| {
        let aggregation = Aggregation::ExplicitBucketHistogram { boundaries: SECONDS.to_vec(), record_min_max: true };
        // The bounds are in order, which is all that `build` asks.
        (instrument.name() == "order_seconds")
            .then(|| View::builder().with_aggregation(aggregation).build().ok())
            .flatten()
    };
    let streams = bridged(
        |builder| if viewed { builder.with_view(view) } else { builder },
        || {
            let handle = metrics::histogram!("order_seconds");
            (1..=VALUES).for_each(|ms| handle.record(f64::from(ms) / 1e3));
        },
    )?;
    let buckets: Vec<u64> =
        called(&streams, "order_seconds").flat_map(|s| &s.points).flat_map(|p| &p.buckets).copied().collect();
    let used = buckets.iter().filter(|count| **count > 0).count();
    let fullest = buckets.iter().max().copied().unwrap_or(0);
    Ok(ProbeObservation::new(
        used <= 1,
        format!(
            "Of {VALUES} times from 1 ms to 999 ms, recorded in seconds, the fullest bucket holds {fullest}; {used} of {} buckets are used.",
            buckets.len()
        ),
        [("values", f64::from(VALUES)), ("in_fullest_bucket", fullest as f64), ("buckets_used", used as f64)],
    ))
}

fn cardinality(users: u32, limit: Option<usize>) -> Result<ProbeObservation, AttemptError> {
    let view = move |instrument: &Instrument| {
        let limit = limit.filter(|_| instrument.name() == "orders_by_user")?;
        View::builder().with_cardinality_limit(limit).build().ok()
    };
    let streams = bridged(
        |builder| if limit.is_some() { builder.with_view(view) } else { builder },
        || (0..users).for_each(|user| metrics::counter!("orders_by_user", "user" => user.to_string()).increment(1)),
    )?;
    let points: Vec<_> = called(&streams, "orders_by_user").flat_map(|stream| &stream.points).collect();
    let named = points.iter().filter(|point| point.labels.contains_key("user")).count();
    let overflowed = points.iter().filter(|point| point.labels.contains_key("otel.metric.overflow"));
    let overflow = sum(overflowed.map(|point| point.value));
    Ok(ProbeObservation::new(
        overflow > 0.0,
        format!(
            "Of {users} users with one order each, {named} kept their label and {overflow:.0} became otel.metric.overflow=true."
        ),
        [("series_asked", f64::from(users)), ("series_with_label", named as f64), ("recorded_as_overflow", overflow)],
    ))
}

fn name(name: &'static str) -> Result<ProbeObservation, AttemptError> {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    let streams = tracing::subscriber::with_default(subscriber, || {
        bridged(|builder| builder, || (0..CALLS).for_each(|_| metrics::counter!(name).increment(1)))
    })?;
    let exported = sum(streams.iter().map(MetricStream::total));
    let errors = log.events().len();
    Ok(ProbeObservation::new(
        exported != f64::from(CALLS),
        format!(
            "Of {CALLS} increments of `{name}`, {exported} were exported; the SDK logged {}.",
            counted(errors, "error")
        ),
        [("increments", f64::from(CALLS)), ("exported", exported), ("logged", errors as f64)],
    ))
}

fn oversized(temporality: Temporality) -> Result<ProbeObservation, AttemptError> {
    // 900 series of some 3 kB are below 4 MiB, twice as many are not; all are below the SDK's limit of series.
    const SERIES: u32 = 900;
    const LABEL_BYTES: usize = 3_000;
    let (collector, io) = (collector()?, one_worker()?);
    let exporter = {
        let _entered = io.enter();
        MetricExporter::builder()
            .with_tonic()
            .with_endpoint(collector.endpoint())
            .with_temporality(temporality)
            .build()?
    };
    let (provider, recorder) =
        Recorder::builder(SCOPE).with_meter_provider(|builder| builder.with_periodic_exporter(exporter)).build();
    let (mut refused, mut arrived) = (0, Vec::new());
    for step in 0..3 {
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("exports").increment(1);
            // The third export has nothing that is large but what is remembered.
            for n in (0..SERIES).filter(|_| step < 2) {
                let page = format!("{step}/{n}/{}", "x".repeat(LABEL_BYTES));
                metrics::counter!("views", "page" => page).increment(1);
            }
        });
        refused += u32::from(provider.force_flush().is_err());
        arrived.push(collector.counter("exports"));
    }
    let (series, last) = (collector.series(), arrived.last().copied().unwrap_or(0.0));
    // Its last export is as the others were.
    drop(provider.shutdown());
    Ok(ProbeObservation::new(
        refused > 0,
        format!(
            "{SERIES} series of 3 kB, then {SERIES} others, then none: of 3 exports {refused} were refused, and a counter that \
             stands at 3 arrived as {last}."
        ),
        [
            ("exports", 3.0),
            ("refused", f64::from(refused)),
            ("series_arrived", series as f64),
            ("counter_arrived", last),
        ],
    ))
}

fn called<'a>(streams: &'a [MetricStream], name: &'a str) -> impl Iterator<Item = &'a MetricStream> {
    streams.iter().filter(move |stream| stream.name == name)
}

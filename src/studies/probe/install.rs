//! Recorders, subscribers and providers, of which there is one per process: the effect of a second installation.

use metrics_exporter_opentelemetry::Recorder;
use opentelemetry::global;
use opentelemetry::trace::Tracer;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::util::SubscriberInitExt;

use super::apparatus::{KeptSpans, KeptStreams, MetricStream, SCOPE, keeping, sum, traced};
use super::{AttemptError, Hang, Probe};
use crate::record::probes::ProbeObservation;

/// The probes of this file.
pub(super) fn probes() -> Vec<Probe> {
    vec![
        Probe {
            name: "second-install",
            title: "a second recorder or subscriber is refused, and receives nothing",
            pitfall: "`metrics` and `tracing` take one recorder and one subscriber per process. The second `install` is an \
                      error; code that ignores it goes on with a recorder that records nothing.",
            advice: "Install once, in `main`, and end the program on an error; where a second one is wanted, in tests above \
                     all, scope it: `metrics::with_local_recorder`, `tracing::subscriber::with_default`.",
            defect: || second_install(false),
            fix: Some(|| second_install(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "second-provider",
            title: "a second tracer provider silently replaces the first",
            pitfall: "`global::set_tracer_provider` returns nothing. Earlier tracers stay with the first provider, which nobody \
                      flushes any more: spans left in its queue are lost when the process ends.",
            advice: "Keep the provider that you install. Before you replace it, shut it down; then make new tracers and a new \
                     tracing layer.",
            defect: || second_provider(false),
            fix: Some(|| second_provider(true)),
            hang: Hang::Failure,
        },
    ]
}

fn second_install(scoped: bool) -> Result<ProbeObservation, AttemptError> {
    let recorder = |kept: &KeptStreams| {
        Recorder::builder(SCOPE).with_meter_provider(|builder| builder.with_periodic_exporter(kept.clone()))
    };
    let (first_streams, second_streams) = (KeptStreams::default(), KeptStreams::default());
    let (first_spans, second_spans) = (KeptSpans::default(), KeptSpans::default());
    recorder(&first_streams).install()?;
    traced(&keeping(&first_spans)).try_init()?;

    let (second, local) = recorder(&second_streams).build();
    let (order, count) = (|| drop(tracing::info_span!("order").entered()), || metrics::counter!("orders").increment(1));
    let refused = if scoped {
        metrics::with_local_recorder(&local, count);
        tracing::subscriber::with_default(traced(&keeping(&second_spans)), order);
        0
    } else {
        let refused =
            [metrics::set_global_recorder(local).is_err(), traced(&keeping(&second_spans)).try_init().is_err()];
        count();
        order();
        refused.into_iter().filter(|refused| *refused).count()
    };
    second.force_flush()?;
    let counted = sum(second_streams.streams().iter().map(MetricStream::total));
    let spans = second_spans.count();
    Ok(ProbeObservation::new(
        counted != 1.0 || spans != 1,
        format!(
            "{refused} of 2 second installations were refused with an error; of one count and one span made after, the \
             second recorder got {counted} and the second subscriber {spans}."
        ),
        [("refused", refused as f64), ("counts_at_second", counted), ("spans_at_second", spans as f64)],
    ))
}

fn second_provider(shut_down: bool) -> Result<ProbeObservation, AttemptError> {
    let (first, second) = (KeptSpans::default(), KeptSpans::default());
    let batched = |kept: &KeptSpans| SdkTracerProvider::builder().with_batch_exporter(kept.clone()).build();

    let first_provider = batched(&first);
    global::set_tracer_provider(first_provider.clone());
    let mut tracer = global::tracer(SCOPE);
    tracer.in_span("before", |_| {});
    if shut_down {
        first_provider.shutdown()?;
    }
    let second_provider = batched(&second);
    global::set_tracer_provider(second_provider.clone());
    if shut_down {
        tracer = global::tracer(SCOPE);
    }
    tracer.in_span("after", |_| {});
    second_provider.force_flush()?;
    let (left, moved) = (2 - first.count() - second.count(), second.count());
    Ok(ProbeObservation::new(
        left > 0,
        format!(
            "Of a span before and a span after the replacement, {moved} reached the second provider; once that is flushed, \
             {left} of 2 are still unexported, and no call returned an error."
        ),
        [("spans", 2.0), ("at_second", moved as f64), ("unexported", left as f64)],
    ))
}

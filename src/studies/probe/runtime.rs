//! Flush and shutdown where the exporter's connection lives on the runtime that waits for it.

use std::time::{Duration, Instant};

use metrics_exporter_opentelemetry::Recorder;
use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_otlp::{MetricExporter, WithExportConfig};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::{Builder, Runtime};

use super::apparatus::{SCOPE, collector, one_worker, otlp_spans};
use super::{AttemptError, DEADLOCKED, Hang, Probe};
use crate::record::probes::ProbeObservation;

const ADVICE: &str = "Make the exporter on a runtime of its own (a runtime with one thread, `enter`ed while the exporter is \
                      built), or flush and shut down from `spawn_blocking` or after the runtime's work is done.";

/// The probes of this file.
pub(super) fn probes() -> Vec<Probe> {
    vec![
        Probe {
            name: "span-flush-one-worker",
            title: "flushing spans blocks the runtime that should send them",
            pitfall: "`force_flush` and `shutdown` block the thread they are called on. Where that is the only thread of the \
                      runtime that the gRPC channel was made on, nothing is sent until they give up after 5 s.",
            advice: ADVICE,
            defect: || span_flush(false),
            fix: Some(|| span_flush(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "metric-flush-one-worker",
            title: "flushing metrics on the only worker hangs forever",
            pitfall: "The periodic reader's `force_flush` waits without a limit. Called on the only thread of the runtime that \
                      the gRPC channel was made on, it never returns.",
            advice: ADVICE,
            defect: || metric_flush(false),
            fix: Some(|| metric_flush(true)),
            hang: Hang::Finding { what: "`force_flush`, called on the only worker,", after: DEADLOCKED },
        },
    ]
}

fn current_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A span provider whose connection lives on `io`.
fn exporting(endpoint: &str, io: &Runtime) -> Result<SdkTracerProvider, AttemptError> {
    Ok(SdkTracerProvider::builder().with_batch_exporter(otlp_spans(endpoint, io)?).build())
}

fn span_flush(apart: bool) -> Result<ProbeObservation, AttemptError> {
    const SHUTDOWN: Duration = Duration::from_secs(2);
    let (io, service, main) = (one_worker()?, one_worker()?, current_thread()?);
    let (flushed_to, shut_to) = (collector()?, collector()?);

    let provider = exporting(&flushed_to.endpoint(), if apart { &io } else { &service })?;
    drop(provider.tracer(SCOPE).start("order"));
    let flushing = async move {
        let began = Instant::now();
        let flushed = provider.force_flush();
        // Counted before the worker is free, for then it sends what waits.
        (began.elapsed(), flushed, flushed_to.spans(), provider, flushed_to)
    };
    // A task runs on the worker; what `block_on` is given would run here.
    let (waited, flushed, at_return, provider, _flushed_to) = service.block_on(service.spawn(flushing))?;

    let second = exporting(&shut_to.endpoint(), if apart { &io } else { &main })?;
    drop(second.tracer(SCOPE).start("order"));
    let shut = main.block_on(async { second.shutdown_with_timeout(SHUTDOWN) });
    let at_shutdown = shut_to.spans();
    drop(provider);

    let says = |ok: bool| if ok { "Ok" } else { "an error" };
    let (flush_ok, shutdown_ok) = (flushed.is_ok(), shut.is_ok());
    Ok(ProbeObservation::new(
        !flush_ok || !shutdown_ok,
        format!(
            "On the only worker `force_flush` returned {} after {:.1} s with {at_return} of 1 span delivered; on a \
             current-thread runtime `shutdown` returned {} with {at_shutdown} of 1.",
            says(flush_ok),
            waited.as_secs_f64(),
            says(shutdown_ok),
        ),
        [
            ("flush_ok", f64::from(u8::from(flush_ok))),
            ("flush_waited_s", waited.as_secs_f64()),
            ("delivered_at_flush", at_return as f64),
            ("shutdown_ok", f64::from(u8::from(shutdown_ok))),
            ("delivered_at_shutdown", at_shutdown as f64),
        ],
    ))
}

fn metric_flush(apart: bool) -> Result<ProbeObservation, AttemptError> {
    let (collector, io, service) = (collector()?, one_worker()?, one_worker()?);
    let exporter = {
        let _entered = if apart { io.enter() } else { service.enter() };
        MetricExporter::builder().with_tonic().with_endpoint(collector.endpoint()).build()?
    };
    let (provider, recorder) =
        Recorder::builder(SCOPE).with_meter_provider(|builder| builder.with_periodic_exporter(exporter)).build();
    metrics::with_local_recorder(&recorder, || metrics::counter!("orders").increment(1));
    let flushed = service.block_on(service.spawn(async move { provider.force_flush() }))?;
    let arrived = collector.counter("orders");
    Ok(ProbeObservation::new(
        flushed.is_err(),
        format!(
            "On the only worker `force_flush` returned {}, and {arrived} of 1 count was delivered.",
            if flushed.is_ok() { "Ok" } else { "an error" }
        ),
        [("flush_ok", f64::from(u8::from(flushed.is_ok()))), ("delivered", arrived)],
    ))
}

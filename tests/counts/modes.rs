//! Every mode, end to end: its telemetry arrives whole and in the right trees, and nothing else does.

use std::collections::BTreeSet;

use crate::common::{RPS, beside_others, document, otelbench, stderr};
use otelbench::experiment::mode::{self, Export, Handlers, Logs, Metrics, Mode, Sampler, SpanExporter, Tls};
use otelbench::experiment::service::{ORDERS_TOTAL, SPANS};
use otelbench::record::records::LaneRecord;

/// Runs the mode in one short round, and checks its telemetry against the mode's parts.
fn check(name: &str) {
    check_defined(&mode::named(name).unwrap(), "");
}

/// As [`check`], for a mode of a scenario's own.
fn check_defined(mode: &Mode, scenario: &str) {
    let _turn = beside_others();
    let name = &mode.name;
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("modes.toml"), folder.path().join("run.json"));
    std::fs::write(&path, scenario).unwrap();
    // The baseline must be another mode, or there would be nothing to compare.
    let baseline = if name == "none" { "bare" } else { "none" };
    // A tenth of the orders of a mode that samples is 20 at least.
    let slice = if mode.recorded_share() < 1.0 { "400ms" } else { "200ms" };
    let options = format!("--no-placebo --rounds 1 --slices 2 --slice {slice} --warmup 100ms");
    let output = otelbench(&format!("run --rps {RPS} --baseline {baseline} --mode {name} {options}"))
        .arg(&path)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    // What was sent is counted right also on a machine that is too busy for a valid measurement.
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", stderr(&output));
    let document = document(&out);
    let lane = document.lanes.iter().find(|lane| lane.arm == *name).unwrap();
    assert_eq!(lane.orders_uncertain, 0, "{lane:?}");
    assert!(lane.orders_completed > 0);
    spans(mode, lane);
    metrics(mode, lane);
    logs(mode, lane);
    assert_eq!(lane.account.diagnostics, Vec::<String>::new());
}

fn spans(mode: &Mode, lane: &LaneRecord) {
    let received = lane.received.as_ref().unwrap();
    let Some(traces) = &mode.traces else {
        assert_eq!((lane.account.spans, received.spans), (None, 0));
        return;
    };
    let ledger = lane.account.spans.unwrap();
    let trees = &received.trees;
    let (orders, whole) = (lane.orders_completed, SPANS.len() as u64);
    assert_eq!(ledger.ended, received.spans + ledger.discarded, "{ledger:?}");
    assert_eq!(received.duplicated, 0);
    assert_eq!((ledger.dropped, ledger.failed, ledger.rejected), (0, 0, 0), "{ledger:?}");
    match traces.sampler {
        Sampler::Default => assert_eq!(ledger.ended, orders * whole),
        Sampler::AlwaysOff => assert_eq!(ledger.ended, 0),
        // The caller's decisions, and nothing but whole traces.
        Sampler::ParentRatio { ratio } => {
            assert_eq!(ledger.ended % whole, 0);
            let share = ledger.ended as f64 / (orders * whole) as f64;
            assert!((share - ratio).abs() < 0.08, "{share} of the traces were recorded");
        }
    }
    if traces.exporter == SpanExporter::Null {
        assert_eq!(ledger.discarded, ledger.ended);
        return;
    }
    assert_eq!(ledger.discarded, 0);
    if mode.handlers == Handlers::Naive {
        // Each span is a trace of its own, and only the first continues the caller's.
        assert_eq!((trees.right, trees.traces), (0, orders * whole));
        assert_eq!((trees.incomplete, trees.foreign), (orders, orders * (whole - 1)));
        assert!(trees.example.as_ref().unwrap().contains("trace "));
    } else {
        assert_eq!((trees.right, trees.traces * whole), (trees.traces, ledger.ended), "{trees:?}");
    }
}

fn metrics(mode: &Mode, lane: &LaneRecord) {
    let received = &lane.received.as_ref().unwrap().metrics;
    let counted = received.counters.get(ORDERS_TOTAL).map(|total| total.round() as u64);
    match mode.metrics {
        Metrics::Nowhere => assert_eq!((counted, lane.account.scraped_orders), (None, None)),
        Metrics::Prometheus { .. } => {
            assert_eq!((counted, lane.account.scraped_orders), (None, Some(lane.orders_completed)));
        }
        Metrics::Bridge { .. } | Metrics::Otel { .. } => {
            assert_eq!(counted, Some(lane.orders_completed));
            assert_eq!(received.histogram_counts["order.latency_ms"], lane.orders_completed);
        }
    }
}

fn logs(mode: &Mode, lane: &LaneRecord) {
    let received = lane.received.as_ref().unwrap().logs.clone();
    match (mode.logs, lane.account.logs) {
        (Logs::Otlp, Some(logs)) => {
            assert_eq!((logs.emitted, logs.dropped, logs.failed, logs.rejected), (lane.orders_completed, 0, 0, 0));
            // One record an order, each within its order's trace.
            assert_eq!((received.records, received.in_known_traces), (logs.emitted, logs.emitted));
        }
        (_, logs) => assert_eq!((logs, received.records), (None, 0)),
    }
}

/// A test for each mode, and one that no mode lacks a test.
macro_rules! modes {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*

        #[test]
        fn every_mode_has_a_test() {
            let tested: BTreeSet<String> = [$($name.to_owned()),*].into();
            assert_eq!(tested, mode::all().into_iter().map(|mode| mode.name).collect());
        }
    };
}

modes! {
    telemetry_of_bare_is_complete: "bare",
    telemetry_of_none_is_complete: "none",
    telemetry_of_metrics_is_complete: "metrics",
    telemetry_of_metrics_tracing_is_complete: "metrics-tracing",
    telemetry_of_bridge_is_complete: "bridge",
    telemetry_of_bridge_cached_is_complete: "bridge-cached",
    telemetry_of_otel_metrics_is_complete: "otel-metrics",
    telemetry_of_spans_off_is_complete: "spans-off",
    telemetry_of_spans_null_is_complete: "spans-null",
    telemetry_of_traces_is_complete: "traces",
    telemetry_of_full_is_complete: "full",
    telemetry_of_full_cached_is_complete: "full-cached",
    telemetry_of_full_http_is_complete: "full-http",
    telemetry_of_full_gzip_is_complete: "full-gzip",
    telemetry_of_full_mtls_is_complete: "full-mtls",
    telemetry_of_full_sampled_is_complete: "full-sampled",
    telemetry_of_full_logs_is_complete: "full-logs",
    telemetry_of_naive_is_complete: "naive",
    telemetry_of_tuned_is_complete: "tuned",
}

#[test]
fn the_slim_layer_sends_over_mutual_tls() {
    let export = Export { tls: Tls::Mutual, ..Export::default() };
    let mode = Mode { name: "tuned-mtls".into(), export, ..mode::named("tuned").unwrap() };
    check_defined(&mode, "[modes.tuned-mtls]\nlike = \"tuned\"\nexport.tls = \"mutual\"\n");
}

//! Every mode, end to end: what it sends arrives, whole and in the right trees, and what it should not send does not.

use std::collections::BTreeSet;

use crate::common::{RPS, alone, document, otelbench, stderr};
use otelbench::experiment::mode::{self, Export, Handlers, Logs, Metrics, Mode, Sampler, SpanExporter, Tls};
use otelbench::experiment::service::{ORDERS_TOTAL, SPANS};
use otelbench::record::records::LaneRecord;

/// Measures the mode in one short round, and holds what became of its telemetry against what its parts say.
fn check(name: &str) {
    check_defined(&mode::named(name).unwrap(), "");
}

/// As [`check`], for a mode of a scenario's own.
fn check_defined(mode: &Mode, scenario: &str) {
    let _turn = alone();
    let name = &mode.name;
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("modes.toml"), folder.path().join("run.json"));
    std::fs::write(&path, scenario).unwrap();
    // The baseline must be another mode, or there would be nothing to compare.
    let baseline = if name == "none" { "bare" } else { "none" };
    let options = "--no-placebo --rounds 1 --slices 2 --slice 400ms --warmup 100ms";
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
        // The caller's decisions, and nothing but whole traces. A tenth of the orders of one test is 20 at least.
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

/// A test for each mode, and one that none was forgotten.
macro_rules! modes {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*

        #[test]
        fn none_was_forgotten() {
            let tested: BTreeSet<String> = [$($name.to_owned()),*].into();
            assert_eq!(tested, mode::all().into_iter().map(|mode| mode.name).collect());
        }
    };
}

modes! {
    bare: "bare",
    none: "none",
    with_metrics: "metrics",
    with_metrics_and_tracing: "metrics-tracing",
    bridge: "bridge",
    bridge_cached: "bridge-cached",
    otel_metrics: "otel-metrics",
    spans_off: "spans-off",
    spans_null: "spans-null",
    traces: "traces",
    full: "full",
    full_cached: "full-cached",
    full_http: "full-http",
    full_gzip: "full-gzip",
    full_mtls: "full-mtls",
    full_sampled: "full-sampled",
    full_logs: "full-logs",
    naive: "naive",
    tuned: "tuned",
}

#[test]
fn the_slim_layer_sends_over_mutual_tls() {
    let export = Export { tls: Tls::Mutual, ..Export::default() };
    let mode = Mode { name: "tuned-mtls".into(), export, ..mode::named("tuned").unwrap() };
    check_defined(&mode, "[modes.tuned-mtls]\nlike = \"tuned\"\nexport.tls = \"mutual\"\n");
}

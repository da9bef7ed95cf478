//! Collectors that fail, end to end: the service answers all the same, and the ledger says where its telemetry went.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{RPS, alone, document, otelbench, stderr};
use otelbench::analysis::{SpanLedger, TelemetrySummary};

/// A service that gives up on a collector soon, so that the tests do too.
const HASTY: &str = "
[modes.hasty]
like = \"full\"
export.timeout = \"200ms\"
[modes.hasty-http]
like = \"full-http\"
export.timeout = \"200ms\"
[modes.hasty-slim]
like = \"tuned\"
export.timeout = \"200ms\"
";

/// Measures `mode` while its collector fails so. Of its requests 99.9 % and more are answered right, whatever becomes of the
/// telemetry, and the ledger closes; returned are what became of it and the spans that ended.
fn outage(mode: &str, fault: &str) -> (TelemetrySummary, SpanLedger) {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let (scenario, out) = (folder.path().join("outage.toml"), folder.path().join("run.json"));
    std::fs::write(&scenario, HASTY).unwrap();
    let options = "--no-placebo --rounds 1 --slices 2 --slice 500ms --warmup 100ms --timeout 30s";
    let output = otelbench(&format!("run --rps {RPS} --mode {mode} {options} --quiet"))
        .arg(&scenario)
        .args(["--fault", fault])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    // What was sent is counted right also on a machine that is too busy for a valid measurement.
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", stderr(&output));
    let document = document(&out);
    let name = format!("{mode}+{fault}");
    for slice in document.records.iter().filter(|slice| slice.arm == name) {
        let load = &slice.played.load;
        assert!(load.adds_up() && load.completed as f64 >= load.scheduled as f64 * 0.999, "{load:?}");
    }
    let healthy = &document.arms.iter().find(|arm| arm.name == mode).unwrap().telemetry;
    let whole = healthy.spans.unwrap();
    assert_eq!(whole.received, Some(whole.ended), "beside the arm that fails there is one that does not");
    let telemetry = document.arms.iter().find(|arm| arm.name == name).unwrap().telemetry.clone();
    let ledger = telemetry.spans.unwrap();
    let lane = document.lanes.iter().find(|lane| lane.arm == name).unwrap();
    assert_eq!(ledger.ended, lane.orders_completed * 3);
    assert_eq!((ledger.unaccounted, ledger.dropped), (Some(0), 0), "{ledger:?}");
    (telemetry, ledger)
}

#[test]
fn a_collector_that_is_down_from_the_start_costs_every_span_and_every_point() {
    for mode in ["hasty", "hasty-http", "hasty-slim"] {
        let (telemetry, ledger) = outage(mode, "down");
        assert_eq!((ledger.received, ledger.failed), (Some(0), ledger.ended), "{mode}");
        assert_eq!(telemetry.metrics.unwrap().points_received, Some(0));
    }
}

#[test]
fn a_collector_that_comes_back_in_time_costs_nothing() {
    // Three more tries after 100, 200 and 400 ms, or a little later.
    let (telemetry, ledger) = outage("full", "down@0s..300ms");
    assert_eq!((ledger.received, ledger.failed), (Some(ledger.ended), 0), "{telemetry:?}");
    assert_eq!(telemetry.metrics.unwrap().agrees(), Some(true));
}

#[test]
fn a_collector_that_dies_costs_what_came_after() {
    let (_, ledger) = outage("hasty", "down@700ms");
    let received = ledger.received.unwrap();
    // The warm-up was sent before, what the last slice left after.
    assert!(received > 0 && ledger.failed > 0 && received + ledger.failed == ledger.ended, "{ledger:?}");
}

#[test]
fn a_slow_collector_costs_time_and_no_span() {
    for fault in ["slow:50ms", "slow:500ms"] {
        let (telemetry, ledger) = outage("full", fault);
        assert_eq!(ledger.received, Some(ledger.ended));
        let slowest = telemetry.exports.unwrap().p99_ms.unwrap();
        assert!(slowest >= if fault == "slow:50ms" { 50.0 } else { 500.0 }, "{slowest}");
        assert_eq!(telemetry.metrics.unwrap().agrees(), Some(true));
    }
}

#[test]
fn a_collector_that_hangs_costs_every_span_and_the_shutdown_ends_all_the_same() {
    for mode in ["hasty", "hasty-http", "hasty-slim"] {
        let (telemetry, ledger) = outage(mode, "hang");
        assert_eq!((ledger.received, ledger.failed), (Some(0), ledger.ended), "{mode}");
        assert!(telemetry.shutdown_ms.is_some_and(|ms| ms > 0.0));
    }
}

#[test]
fn a_collector_that_refuses_costs_every_span() {
    for fault in ["reject:unavailable", "reject:exhausted", "reject:exhausted,retry=50ms"] {
        let (_, ledger) = outage("hasty", fault);
        assert_eq!((ledger.received, ledger.failed), (Some(0), ledger.ended), "{fault}");
    }
}

#[test]
fn what_a_collector_says_it_refused_is_what_it_did_not_take() {
    for mode in ["full", "full-http", "tuned"] {
        let (_, ledger) = outage(mode, "traces/partial:10%");
        // The share is kept over the whole of the requests, and rounded down.
        assert_eq!((ledger.rejected, ledger.failed), (ledger.ended / 10, 0), "{mode}");
        assert_eq!(ledger.received, Some(ledger.ended - ledger.rejected));
    }
}

#[test]
fn a_collector_that_cuts_connections_costs_what_was_not_sent_again() {
    for mode in ["hasty", "hasty-slim"] {
        let (_, ledger) = outage(mode, "traces/reset:50%");
        assert_eq!(ledger.received.unwrap() + ledger.failed, ledger.ended, "{mode}: {ledger:?}");
        let (_, ledger) = outage(mode, "traces/reset");
        assert_eq!((ledger.received, ledger.failed), (Some(0), ledger.ended), "{mode}");
    }
}

#[test]
fn metrics_too_large_for_the_collector_never_arrive_and_spans_do() {
    let (telemetry, ledger) = outage("full", "metrics/limit:64B");
    assert_eq!(ledger.received, Some(ledger.ended));
    let exports = telemetry.metric_exports.unwrap();
    assert!(exports.count > 0 && exports.failed == exports.count, "{exports:?}");
    let metrics = telemetry.metrics.unwrap();
    assert_eq!((metrics.points_received, metrics.requests_counted), (Some(0), None));
}

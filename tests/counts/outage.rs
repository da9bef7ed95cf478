//! Collectors that fail, end to end: the service answers all the same, and the ledger says where its telemetry went.

use std::thread;

use crate::common::{beside_others, document, otelbench, stderr};
use otelbench::experiment::service::ORDERS_TOTAL;
use otelbench::record::records::LaneRecord;

/// Requests per second: few, so that several runs beside each other do not keep a slow machine busy.
const RPS: u32 = 100;

/// Services that give up on a collector soon, so that the tests do too, and one that does not.
const MODES: &str = "
[modes.hasty]
like = \"full\"
export.timeout = \"200ms\"
[modes.patient]
like = \"traces\"
export.timeout = \"60s\"
[modes.hasty-http]
like = \"full-http\"
export.timeout = \"200ms\"
[modes.hasty-slim]
like = \"tuned\"
export.timeout = \"200ms\"
";

/// Where the telemetry of a lane with a failing collector went.
struct Fate {
    /// Spans that ended, were received, and were in exports that failed or were refused.
    ended: u64,
    received: u64,
    failed: u64,
    rejected: u64,
    /// Spans that still waited when the shutdown gave up.
    abandoned: u64,
    /// Orders that the service answered, and that its counter said at the sink.
    orders: u64,
    counted: Option<u64>,
    lane: LaneRecord,
}

/// Measures each mode while its collector fails so, all at the same time: they wait more than they work.
fn outages<const N: usize>(cases: [(&str, &str); N]) -> [Fate; N] {
    thread::scope(|scope| {
        let cases = cases.map(|(mode, fault)| scope.spawn(move || outage(mode, fault, 1)));
        cases.map(|case| case.join().unwrap())
    })
}

/// Measures `mode` while its collector fails so. Of its requests 99.9 % and more are answered right, whatever becomes of the
/// telemetry, and the ledger closes.
fn outage(mode: &str, fault: &str, slices: u32) -> Fate {
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let (scenario, out) = (folder.path().join("outage.toml"), folder.path().join("run.json"));
    std::fs::write(&scenario, MODES).unwrap();
    let options = format!("--no-placebo --rounds 1 --slices {slices} --slice 500ms --warmup 100ms --timeout 30s");
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
    let fate = |arm: &str| {
        let lane = document.lanes.iter().find(|lane| lane.arm == arm).unwrap().clone();
        let (spans, there) = (lane.account.spans.unwrap(), lane.received.as_ref().unwrap());
        assert_eq!((spans.ended, lane.orders_uncertain), (lane.orders_completed * 3, 0), "{lane:?}");
        assert_eq!((spans.dropped, there.duplicated), (0, 0), "{lane:?}");
        assert_eq!(spans.ended, there.spans + spans.failed + spans.rejected + spans.abandoned, "{lane:?}");
        Fate {
            ended: spans.ended,
            received: there.spans,
            failed: spans.failed,
            rejected: spans.rejected,
            abandoned: spans.abandoned,
            orders: lane.orders_completed,
            counted: there.metrics.counters.get(ORDERS_TOTAL).map(|total| total.round() as u64),
            lane,
        }
    };
    let healthy = fate(mode);
    assert_eq!(healthy.received, healthy.ended, "beside the arm that fails there is one that does not");
    fate(&name)
}

#[test]
fn a_collector_that_is_down_from_the_start_costs_every_span_and_every_point() {
    for fate in outages(["hasty", "hasty-http", "hasty-slim"].map(|mode| (mode, "down"))) {
        assert_eq!((fate.received, fate.failed, fate.counted), (0, fate.ended, None), "{:?}", fate.lane);
    }
}

#[test]
fn a_collector_that_comes_back_in_time_costs_nothing() {
    // The first slice is exported at 500 ms, and tried again after 100, 200 and 400 ms, or a little later.
    let fate = outage("full", "down@300ms..800ms", 2);
    assert_eq!((fate.received, fate.failed, fate.counted), (fate.ended, 0, Some(fate.orders)), "{:?}", fate.lane);
}

#[test]
fn a_collector_that_dies_costs_only_later_spans() {
    let fate = outage("hasty", "down@700ms", 2);
    // The warm-up was sent before, what the last slice left after.
    assert!(fate.received > 0 && fate.failed > 0, "{:?}", fate.lane);
}

#[test]
fn a_slow_collector_costs_time_and_no_span() {
    let fates = outages([("full", "slow:50ms"), ("full", "slow:500ms")]);
    for (fate, ms) in fates.iter().zip([50.0, 500.0]) {
        assert_eq!((fate.received, fate.counted), (fate.ended, Some(fate.orders)), "{ms} ms: {:?}", fate.lane);
        let slowest = fate.lane.account.span_exports.unwrap().p99_ms.unwrap();
        assert!(slowest >= ms, "{slowest}");
    }
}

#[test]
fn a_collector_that_hangs_costs_every_span_and_the_shutdown_ends_all_the_same() {
    for fate in outages(["hasty", "hasty-http", "hasty-slim"].map(|mode| (mode, "hang"))) {
        assert_eq!((fate.received, fate.failed, fate.counted), (0, fate.ended, None), "{:?}", fate.lane);
    }
}

#[test]
fn spans_still_queued_when_the_shutdown_times_out_are_counted_as_abandoned() {
    // The first export outlasts every flush and the shutdown, and all others wait behind it.
    let fate = outage("patient", "hang", 1);
    assert_eq!((fate.received, fate.failed, fate.abandoned), (0, 0, fate.ended), "{:?}", fate.lane);
}

#[test]
fn a_collector_that_refuses_costs_every_span() {
    let faults = ["reject:unavailable", "reject:exhausted", "reject:exhausted,retry=50ms"];
    for (fate, fault) in outages(faults.map(|fault| ("hasty", fault))).iter().zip(faults) {
        assert_eq!((fate.received, fate.failed, fate.counted), (0, fate.ended, None), "{fault}: {:?}", fate.lane);
    }
}

#[test]
fn spans_refused_by_a_partial_success_are_counted_as_rejected() {
    for fate in outages(["full", "full-http", "tuned"].map(|mode| (mode, "traces/partial:10%"))) {
        // The share is kept over the whole of the requests, and rounded down.
        assert_eq!((fate.rejected, fate.failed), (fate.ended / 10, 0), "{:?}", fate.lane);
        assert_eq!(fate.counted, Some(fate.orders), "{:?}", fate.lane);
    }
}

#[test]
fn a_collector_that_cuts_connections_costs_spans_that_are_not_retried() {
    for fate in outages(["hasty", "hasty-slim"].map(|mode| (mode, "traces/reset:50%"))) {
        assert_eq!((fate.received + fate.failed, fate.counted), (fate.ended, Some(fate.orders)), "{:?}", fate.lane);
    }
    for fate in outages(["hasty", "hasty-slim"].map(|mode| (mode, "traces/reset"))) {
        assert_eq!((fate.received, fate.failed, fate.counted), (0, fate.ended, Some(fate.orders)), "{:?}", fate.lane);
    }
}

#[test]
fn metrics_too_large_for_the_collector_never_arrive_and_spans_do() {
    let fate = outage("full", "metrics/limit:64B", 1);
    assert_eq!((fate.received, fate.counted), (fate.ended, None));
    let exports = fate.lane.account.metric_exports.unwrap();
    assert!(exports.count > 0 && exports.failed == exports.count, "{exports:?}");
}

//! Where the telemetry of an arm went: the service's own counts against those of the sink.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::experiment::mode::Metrics;
use crate::experiment::scenario::Arm;
use crate::experiment::service::ORDERS_TOTAL;
use crate::record::account::{Exports, ServiceLogs, ServiceSpans};
use crate::record::received::{Received, TreeReport};
use crate::record::records::LaneRecord;
use crate::record::result::{LogLedger, MetricLedger, SpanLedger, TelemetrySummary};

/// Where the telemetry of these lanes of `arm` went.
pub fn telemetry(arm: &Arm, lanes: &[&LaneRecord]) -> TelemetrySummary {
    let diagnostics: BTreeSet<String> =
        lanes.iter().flat_map(|lane| lane.account.diagnostics.iter().cloned()).collect();
    let received = || lanes.iter().filter_map(|lane| lane.received.as_ref());
    let doubts: BTreeSet<String> = received().flat_map(Received::doubts).collect();
    let received_here = lanes.iter().all(|lane| lane.received.is_some()) && !lanes.is_empty();
    let records_metrics = arm.mode.metrics != Metrics::Nowhere;
    let spans = spans(lanes);
    TelemetrySummary {
        logs: logs(lanes),
        trees: spans.and(lanes.iter().try_fold(TreeReport::default(), |sum, lane| {
            lane.received.as_ref().map(|received| add_trees(sum, received.trees.clone()))
        })),
        spans,
        metrics: (records_metrics && !lanes.is_empty()).then(|| metrics(lanes)),
        wire_bytes: sum(lanes, |lane| Some(lane.received.as_ref()?.wire_bytes)).filter(|_| received_here),
        exports: lanes.iter().filter_map(|lane| lane.account.span_exports).reduce(add_exports),
        metric_exports: lanes.iter().filter_map(|lane| lane.account.metric_exports).reduce(add_exports),
        shutdown_ms: lanes.iter().map(|lane| lane.account.shutdown_ms).max_by(f64::total_cmp),
        refused_connections: received().map(|received| received.refused_connections).sum(),
        refused_connection: received().find_map(|received| received.last_refused_connection.clone()),
        doubts: doubts.into_iter().collect(),
        reason: if lanes.is_empty() {
            Some("no lane ran to its end".into())
        } else {
            (!received_here).then(|| "telemetry went to another collector, which this program cannot ask".into())
        },
        diagnostics: diagnostics.into_iter().collect(),
    }
}

/// The sum over the lanes; `None` where one of them does not have the value.
fn sum(lanes: &[&LaneRecord], of: impl Fn(&LaneRecord) -> Option<u64>) -> Option<u64> {
    lanes.iter().map(|lane| of(lane)).sum()
}

fn spans(lanes: &[&LaneRecord]) -> Option<SpanLedger> {
    let spans = lanes.iter().filter_map(|lane| lane.account.spans).reduce(ServiceSpans::plus)?;
    let received = sum(lanes, |lane| Some(lane.received.as_ref()?.spans));
    let known = spans.dropped + spans.failed + spans.rejected + spans.discarded + spans.abandoned;
    Some(SpanLedger {
        ended: spans.ended,
        received,
        dropped: spans.dropped,
        failed: spans.failed,
        rejected: spans.rejected,
        discarded: spans.discarded,
        abandoned: spans.abandoned,
        unaccounted: received.map(|r| spans.ended.cast_signed() - r.cast_signed() - known.cast_signed()),
        duplicated: sum(lanes, |lane| Some(lane.received.as_ref()?.duplicated)),
    })
}

fn logs(lanes: &[&LaneRecord]) -> Option<LogLedger> {
    let logs = lanes.iter().filter_map(|lane| lane.account.logs).reduce(ServiceLogs::plus)?;
    let received = sum(lanes, |lane| Some(lane.received.as_ref()?.logs.records));
    let known = logs.dropped + logs.failed + logs.rejected;
    Some(LogLedger {
        emitted: logs.emitted,
        received,
        in_known_traces: sum(lanes, |lane| Some(lane.received.as_ref()?.logs.in_known_traces)),
        dropped: logs.dropped,
        failed: logs.failed,
        rejected: logs.rejected,
        unaccounted: received.map(|r| logs.emitted.cast_signed() - r.cast_signed() - known.cast_signed()),
    })
}

fn metrics(lanes: &[&LaneRecord]) -> MetricLedger {
    let points = |lane: &LaneRecord| lane.account.metric_exports.and(lane.received.as_ref()).map(|r| r.metrics.points);
    MetricLedger {
        points_received: sum(lanes, points),
        requests_counted: sum(lanes, orders_counted),
        requests_completed: lanes.iter().map(|lane| lane.orders_completed).sum(),
        requests_uncertain: lanes.iter().map(|lane| lane.orders_uncertain).sum(),
    }
}

/// Orders by the service's own counter: as the sink last received it, or as the last scrape showed it.
fn orders_counted(lane: &LaneRecord) -> Option<u64> {
    let received = lane.received.as_ref().and_then(|r| r.metrics.counters.get(ORDERS_TOTAL));
    lane.account.scraped_orders.or(received.map(|total| total.round() as u64))
}

fn add_exports(a: Exports, b: Exports) -> Exports {
    // Option's order puts None below every number.
    let worst = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    let of_the_largest = |of: fn(&Exports) -> Option<f64>| match a.largest.cmp(&b.largest) {
        Ordering::Less => of(&b),
        Ordering::Equal => worst(of(&a), of(&b)),
        Ordering::Greater => of(&a),
    };
    Exports {
        count: a.count + b.count,
        failed: a.failed + b.failed,
        p50_ms: worst(a.p50_ms, b.p50_ms),
        p99_ms: worst(a.p99_ms, b.p99_ms),
        largest: a.largest.max(b.largest),
        largest_p50_ms: of_the_largest(|exports| exports.largest_p50_ms),
        largest_mean_ms: of_the_largest(|exports| exports.largest_mean_ms),
    }
}

fn add_trees(a: TreeReport, b: TreeReport) -> TreeReport {
    TreeReport {
        traces: a.traces + b.traces,
        right: a.right + b.right,
        incomplete: a.incomplete + b.incomplete,
        misshapen: a.misshapen + b.misshapen,
        foreign: a.foreign + b.foreign,
        without_baggage: a.without_baggage + b.without_baggage,
        example: a.example.or(b.example),
    }
}

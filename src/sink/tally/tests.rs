use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::*;

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn resource(service: Option<&str>) -> Resource {
    let version = KeyValue {
        key: "version".into(),
        value: Some(AnyValue { value: Some(any_value::Value::IntValue(3)) }),
        ..KeyValue::default()
    };
    let attributes = service.iter().map(|name| text("service.name", name)).chain([version]).collect();
    Resource { attributes, ..Resource::default() }
}

fn data_point(labels: &[(&str, &str)], start: u64, value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: labels.iter().map(|(key, value)| text(key, value)).collect(),
        start_time_unix_nano: start,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn export(data: Vec<(&str, metric::Data)>) -> Vec<u8> {
    let metrics = data
        .into_iter()
        .map(|(name, data)| Metric { name: name.into(), data: Some(data), ..Metric::default() })
        .collect();
    let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
    let sent = ResourceMetrics {
        resource: Some(resource(Some("shop"))),
        scope_metrics: vec![scope],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![sent] }.encode_to_vec()
}

fn orders(status: &[(&str, i64)], start: u64, temporality: AggregationTemporality) -> Vec<u8> {
    let data_points = status
        .iter()
        .map(|(status, n)| data_point(&[("status", status)], start, number_data_point::Value::AsInt(*n)))
        .collect();
    let sum = Sum { data_points, aggregation_temporality: temporality as i32, is_monotonic: true };
    export(vec![("orders", metric::Data::Sum(sum))])
}

fn tally() -> ReceivedTally {
    ReceivedTally::new(TreeShape::default(), &[])
}

fn added(tally: &mut ReceivedTally, signal: Signal, payload: &[u8]) {
    assert_eq!(tally.add(signal, payload, |_| 0), Ok(0));
}

#[test]
fn counters_of_two_processes_add_up() {
    let mut tally = tally();
    for (start, n) in [(1, 6), (2, 7), (2, 7)] {
        added(&mut tally, Signal::Metrics, &orders(&[("ok", n)], start, AggregationTemporality::Cumulative));
    }
    let metrics = tally.received(0).metrics;
    assert_eq!((metrics.counters["orders"].to_string(), metrics.series), ("13".into(), 1));
}

fn total_after(temporality: AggregationTemporality) -> String {
    let mut tally = tally();
    added(&mut tally, Signal::Metrics, &orders(&[("ok", 5), ("error", 1)], 0, temporality));
    added(&mut tally, Signal::Metrics, &orders(&[("ok", 9)], 0, temporality));
    let received = tally.received(0);
    assert_eq!((received.metrics.points, received.metrics.series, received.exports), (3, 2, 2));
    received.metrics.counters["orders"].to_string()
}

#[test]
fn cumulative_points_replace_the_total_and_delta_points_add_to_it() {
    assert_eq!(total_after(AggregationTemporality::Cumulative), "10");
    assert_eq!(total_after(AggregationTemporality::Delta), "15");
}

#[test]
fn every_kind_of_metric_is_counted_and_counters_and_histograms_are_totalled() {
    let labels = [("b", "2"), ("a", "1")];
    let swapped = [("a", "1"), ("b", "2")];
    let temporality = AggregationTemporality::Cumulative as i32;
    let number = |labels| data_point(labels, 0, number_data_point::Value::AsDouble(2.5));
    let attributes = number(&labels).attributes;
    let sum = |is_monotonic| {
        let data_points = vec![number(&labels), number(&swapped)];
        metric::Data::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic })
    };
    let histogram = HistogramDataPoint { attributes: attributes.clone(), count: 7, ..HistogramDataPoint::default() };
    let exponential = ExponentialHistogramDataPoint { attributes: attributes.clone(), count: 8, ..Default::default() };
    let summary = SummaryDataPoint { attributes, count: 9, ..SummaryDataPoint::default() };
    let payload = export(vec![
        ("rises", sum(true)),
        ("falls", sum(false)),
        ("level", metric::Data::Gauge(Gauge { data_points: vec![number(&labels)] })),
        (
            "time",
            metric::Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: temporality }),
        ),
        (
            "size",
            metric::Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: temporality,
            }),
        ),
        ("old", metric::Data::Summary(Summary { data_points: vec![summary] })),
    ]);
    let mut tally = tally();
    added(&mut tally, Signal::Metrics, &payload);
    let received = tally.received(0);
    let metrics = &received.metrics;
    // Attributes in another order make the same series.
    assert_eq!((metrics.points, metrics.series), (8, 6));
    assert_eq!(metrics.counters.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["rises=2.5"]);
    let counts: Vec<_> = metrics.histogram_counts.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!((counts, metrics.summary_counts["old"]), (vec!["size=8".to_owned(), "time=7".to_owned()], 9));
    let sender: Vec<_> = received.resource.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(sender, ["service.name=shop", "version=(not a string)"]);
}

fn spans(service: Option<&str>, trace_ids: &[u128]) -> ResourceSpans {
    let spans = trace_ids.iter().map(|trace_id| Span {
        trace_id: trace_id.to_be_bytes().into(),
        span_id: vec![1; 8],
        parent_span_id: vec![2; 8],
        name: "root".into(),
        attributes: vec![text("other", "x"), text("user_id", "ada")],
        ..Span::default()
    });
    let scope = ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() };
    ResourceSpans { resource: Some(resource(service)), scope_spans: vec![scope], ..ResourceSpans::default() }
}

fn traces(resource_spans: Vec<ResourceSpans>) -> Vec<u8> {
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn logs(trace_ids: &[u128]) -> Vec<u8> {
    let records = trace_ids.iter().map(|trace_id| LogRecord {
        trace_id: if *trace_id == 0 { vec![] } else { trace_id.to_be_bytes().into() },
        ..LogRecord::default()
    });
    let scope = ScopeLogs { log_records: records.collect(), ..ScopeLogs::default() };
    let sent = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![sent] }.encode_to_vec()
}

#[test]
fn distinct_spans_are_counted_by_service() {
    let mut tally = tally();
    let payload = traces(vec![spans(Some("shop"), &[1, 2, 2]), spans(Some("bank"), &[3]), spans(None, &[4])]);
    added(&mut tally, Signal::Traces, &payload);
    added(&mut tally, Signal::Traces, &traces(vec![spans(Some("bank"), &[3, 5])]));
    let received = tally.received(0);
    let services: Vec<_> = received.services.iter().map(|(name, n)| format!("{name}={n}")).collect();
    assert_eq!(services, ["(unnamed)=1", "bank=2", "shop=2"]);
    assert_eq!((received.spans, received.duplicated, received.trees.traces), (5, 2, 5));
}

#[test]
fn what_there_is_no_room_for_is_said() {
    let mut tally = tally();
    let services: Vec<String> = (0..=MOST_NAMES).map(|n| n.to_string()).collect();
    let sent = (1..).zip(&services).map(|(trace, name)| spans(Some(name), &[trace]));
    added(&mut tally, Signal::Traces, &traces(sent.collect()));
    // Two long names must not be cut to one.
    added(&mut tally, Signal::Traces, &traces(vec![spans(Some(&"x".repeat(LONGEST_NAME + 1)), &[1 << 64])]));
    let received = tally.received(0);
    assert_eq!((received.spans, received.services.len()), (MOST_NAMES as u64 + 2, MOST_NAMES));
    assert_eq!(received.exceeded, ["spans of services beyond 4 096, or with names of more than 1024 bytes: 2"]);
    tally.most_waiting = 2;
    added(&mut tally, Signal::Logs, &logs(&[7 << 64, 7 << 64, 8 << 64, 9 << 64]));
    assert_eq!(tally.received(0).exceeded[1], "log records that wait for a span of their trace, beyond 2 traces: 2");
}

#[test]
fn log_records_are_matched_to_traces_in_either_order_of_arrival() {
    let mut tally = tally();
    added(&mut tally, Signal::Logs, &logs(&[7, 7, 8, 0]));
    assert_eq!(tally.received(0).logs, ReceivedLogs { records: 4, in_known_traces: 0 });
    added(&mut tally, Signal::Traces, &traces(vec![spans(None, &[7])]));
    assert_eq!(tally.received(0).logs, ReceivedLogs { records: 4, in_known_traces: 2 });
    added(&mut tally, Signal::Logs, &logs(&[7, 9]));
    assert_eq!(tally.received(0).logs, ReceivedLogs { records: 6, in_known_traces: 3 });
}

#[test]
fn rejected_items_are_the_last_ones_and_are_not_counted() {
    let mut tally = tally();
    let payload = traces(vec![spans(Some("shop"), &[1, 2]), spans(Some("bank"), &[3])]);
    let seen = tally.add(Signal::Traces, &payload, |items| if items == 3 { 2 } else { 0 });
    assert_eq!(seen, Ok(2));
    let received = tally.received(0);
    assert_eq!((received.spans, received.services.contains_key("bank")), (1, false));
    let metrics = orders(&[("ok", 5), ("error", 1)], 0, AggregationTemporality::Cumulative);
    assert_eq!(tally.add(Signal::Metrics, &metrics, |_| 1), Ok(1));
    assert_eq!(tally.add(Signal::Logs, &logs(&[1, 2]), |_| 2), Ok(2));
    let received = tally.received(0);
    assert_eq!((received.metrics.points, received.logs.records), (1, 0));
    assert_eq!(received.metrics.counters["orders"].to_string(), "5");
}

#[test]
fn a_truncated_payload_counts_nothing() {
    let payload = traces(vec![spans(Some("shop"), &[1, 2]), spans(Some("bank"), &[3])]);
    let mut tally = tally();
    for end in 1..payload.len() {
        // A prefix that ends between two resources is a smaller request.
        if let Ok(items) = items(Signal::Traces, &payload[..end]) {
            assert_eq!(items, 2, "{end}");
        } else {
            assert!(tally.add(Signal::Traces, &payload[..end], |_| 0).is_err());
        }
    }
    assert_eq!(tally.received(0), self::tally().received(0));
    assert_eq!(tally.add(Signal::Logs, b"\x0a\x02\x12\x05", |_| 0), Err(Malformed::Truncated));
}

#[test]
fn forbidden_texts_are_counted_once_per_payload_at_any_position() {
    let mut tally = ReceivedTally::new(TreeShape::default(), &["4111 1111".into(), "ada@example.org".into()]);
    for payload in
        ["user ada@example.org, again ada@example.org", "4111 1111", "4111-1111", "x4111 1111ada@example.org"]
    {
        tally.search(payload.as_bytes());
    }
    let leaked: Vec<_> = tally.received(0).leaked.into_iter().collect();
    assert_eq!(leaked, [("4111 1111".to_owned(), 2), ("ada@example.org".to_owned(), 2)]);
}

#[test]
fn the_span_to_lose_is_acknowledged_but_not_counted() {
    let count = |lost| {
        let mut tally = tally().losing(lost);
        added(&mut tally, Signal::Traces, &traces(vec![spans(None, &[1, 2])]));
        added(&mut tally, Signal::Traces, &traces(vec![spans(None, &[3, 4])]));
        tally.received(0).spans
    };
    assert_eq!([None, Some(3), Some(5)].map(count), [4, 3, 4]);
}

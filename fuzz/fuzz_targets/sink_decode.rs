//! Fuzzes the sink: any payload is decoded and counted as each signal, and parsed as faults.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use otelbench::experiment::fault::{Fault, Signal, Timeline};
use otelbench::sink::{ReceivedTally, TreeShape, items};
use prost::Message;

/// Number of items according to the generated types; `None` if they reject the payload.
fn expected(signal: Signal, payload: &[u8]) -> Option<usize> {
    Some(match signal {
        Signal::Traces => {
            let groups = ExportTraceServiceRequest::decode(payload).ok()?.resource_spans;
            groups.iter().flat_map(|group| &group.scope_spans).map(|scope| scope.spans.len()).sum()
        }
        Signal::Logs => {
            let groups = ExportLogsServiceRequest::decode(payload).ok()?.resource_logs;
            groups.iter().flat_map(|group| &group.scope_logs).map(|scope| scope.log_records.len()).sum()
        }
        Signal::Metrics => {
            let groups = ExportMetricsServiceRequest::decode(payload).ok()?.resource_metrics;
            let metrics = groups.iter().flat_map(|group| &group.scope_metrics).flat_map(|scope| &scope.metrics);
            metrics
                .map(|metric| match &metric.data {
                    None => 0,
                    Some(Data::Gauge(data)) => data.data_points.len(),
                    Some(Data::Sum(data)) => data.data_points.len(),
                    Some(Data::Histogram(data)) => data.data_points.len(),
                    Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
                    Some(Data::Summary(data)) => data.data_points.len(),
                })
                .sum()
        }
    })
}

fuzz_target!(|payload: &[u8]| {
    let shape = TreeShape::new(&[("order", None), ("stock", Some("order")), ("pay", Some("stock"))], None);
    let mut tally = ReceivedTally::new(shape.from_service("pay", "bank"), &["secret".into()]);
    for signal in Signal::ALL {
        let expected = expected(signal, payload);
        let items = items(signal, payload);
        if let Some(expected) = expected {
            assert_eq!(items, Ok(expected as u64), "{signal} accepted by the generated types");
        }
        for rejected in [0, 1] {
            let added = tally.add(signal, payload, |n| {
                assert_eq!(Ok(n), items);
                rejected
            });
            assert_eq!(added.is_ok(), items.is_ok());
        }
    }
    tally.search(payload);
    let received = tally.received(0);
    let trees = &received.trees;
    assert!(received.spans >= trees.traces && trees.traces >= trees.right);
    assert_eq!(trees.wrong(), trees.incomplete + trees.misshapen + trees.foreign + trees.without_baggage);
    assert_eq!(received.services.values().sum::<u64>(), received.spans);
    assert!(received.metrics.points >= received.metrics.series);
    assert!(received.logs.records >= received.logs.in_known_traces);
    if let Ok(text) = std::str::from_utf8(payload) {
        let faults: Vec<Fault> = text.split_whitespace().filter_map(|fault| fault.parse().ok()).collect();
        for fault in &faults {
            assert_eq!(fault.to_string().parse().as_ref(), Ok(fault), "{fault}");
        }
        drop(Timeline::new(faults));
    }
});

//! What one receiver received: distinct spans, data points, counters.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde::{Deserialize, Serialize};

use super::trees::{TreeReport, TreeShape, Trees, text_of};

/// What one receiver received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Received {
    /// Distinct spans.
    pub spans: u64,
    /// Spans that came once more.
    pub duplicated: u64,
    /// How the trace trees looked.
    pub trees: TreeReport,
    /// Metrics.
    pub metrics: ReceivedMetrics,
    /// Export requests, of both signals.
    pub exports: u64,
    /// Bytes read from the connections: headers and framing included.
    pub wire_bytes: u64,
    /// The attributes of the resource that sent last.
    pub resource: BTreeMap<String, String>,
}

/// The metrics that one receiver received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReceivedMetrics {
    /// Data points of any kind, over all exports.
    pub points: u64,
    /// Series seen: distinct sets of attributes, over all metrics.
    pub series: u64,
    /// The last total of every monotonic sum, over its series.
    pub counters: BTreeMap<String, f64>,
    /// The last count of every histogram, over its series.
    pub histogram_counts: BTreeMap<String, u64>,
}

/// The running account of one receiver.
#[derive(Debug)]
pub(super) struct Tally {
    trees: Trees,
    points: u64,
    exports: u64,
    /// By metric name, series and start: a process that starts anew, or another one, begins a total of its own.
    counters: HashMap<(String, String, u64), f64>,
    histograms: HashMap<(String, String, u64), u64>,
    series: BTreeSet<(String, String)>,
    resource: BTreeMap<String, String>,
}

impl Tally {
    pub(super) fn new(shape: TreeShape) -> Self {
        Self {
            trees: Trees::new(shape),
            points: 0,
            exports: 0,
            counters: HashMap::new(),
            histograms: HashMap::new(),
            series: BTreeSet::new(),
            resource: BTreeMap::new(),
        }
    }

    pub(super) fn spans(&mut self, export: &ExportTraceServiceRequest) {
        self.exports += 1;
        for resource_spans in &export.resource_spans {
            self.sender(resource_spans.resource.as_ref());
            for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
                self.trees.add(span);
            }
        }
    }

    pub(super) fn metrics(&mut self, export: &ExportMetricsServiceRequest) {
        self.exports += 1;
        for resource_metrics in &export.resource_metrics {
            self.sender(resource_metrics.resource.as_ref());
            for metric in resource_metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                if let Some(data) = &metric.data {
                    self.data(&metric.name, data);
                }
            }
        }
    }

    fn data(&mut self, name: &str, data: &metric::Data) {
        match data {
            metric::Data::Sum(sum) => {
                for point in &sum.data_points {
                    let (name, labels) = self.point(name, &point.attributes);
                    let value = match point.value {
                        Some(number_data_point::Value::AsInt(value)) => value as f64,
                        Some(number_data_point::Value::AsDouble(value)) => value,
                        None => continue,
                    };
                    if sum.is_monotonic {
                        let total = self.counters.entry((name, labels, point.start_time_unix_nano)).or_default();
                        *total = if is_delta(sum.aggregation_temporality) { *total + value } else { value };
                    }
                }
            }
            metric::Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let (name, labels) = self.point(name, &point.attributes);
                    let count = self.histograms.entry((name, labels, point.start_time_unix_nano)).or_default();
                    *count =
                        if is_delta(histogram.aggregation_temporality) { *count + point.count } else { point.count };
                }
            }
            metric::Data::Gauge(gauge) => {
                for point in &gauge.data_points {
                    self.point(name, &point.attributes);
                }
            }
            metric::Data::ExponentialHistogram(histogram) => {
                for point in &histogram.data_points {
                    self.point(name, &point.attributes);
                }
            }
            metric::Data::Summary(summary) => {
                for point in &summary.data_points {
                    self.point(name, &point.attributes);
                }
            }
        }
    }

    /// Counts a data point; returns the key of its series.
    fn point(&mut self, name: &str, attributes: &[KeyValue]) -> (String, String) {
        self.points += 1;
        let mut labels: Vec<String> = attributes.iter().map(|kv| format!("{}={:?}", kv.key, kv.value)).collect();
        labels.sort_unstable();
        let key = (name.to_owned(), labels.join(","));
        self.series.insert(key.clone());
        key
    }

    fn sender(&mut self, resource: Option<&Resource>) {
        for attribute in resource.iter().flat_map(|resource| &resource.attributes) {
            let known = self.resource.get(&attribute.key).map(String::as_str);
            let value = text_of(attribute).unwrap_or("(not a string)");
            if known != Some(value) {
                self.resource.insert(attribute.key.clone(), value.to_owned());
            }
        }
    }

    pub(super) fn received(&self, wire_bytes: u64) -> Received {
        let mut counters: BTreeMap<String, f64> = BTreeMap::new();
        for ((name, ..), value) in &self.counters {
            *counters.entry(name.clone()).or_default() += value;
        }
        let mut histogram_counts: BTreeMap<String, u64> = BTreeMap::new();
        for ((name, ..), count) in &self.histograms {
            *histogram_counts.entry(name.clone()).or_default() += count;
        }
        Received {
            spans: self.trees.distinct(),
            duplicated: self.trees.duplicated(),
            trees: self.trees.report(),
            metrics: ReceivedMetrics {
                points: self.points,
                series: self.series.len() as u64,
                counters,
                histogram_counts,
            },
            exports: self.exports,
            wire_bytes,
            resource: self.resource.clone(),
        }
    }
}

fn is_delta(temporality: i32) -> bool {
    temporality == AggregationTemporality::Delta as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
    use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum};

    fn export(points: &[(&str, i64)], temporality: AggregationTemporality) -> ExportMetricsServiceRequest {
        let data_points = points
            .iter()
            .map(|(status, value)| NumberDataPoint {
                attributes: vec![KeyValue {
                    key: "status".into(),
                    value: Some(AnyValue { value: Some(any_value::Value::StringValue((*status).into())) }),
                    ..KeyValue::default()
                }],
                value: Some(number_data_point::Value::AsInt(*value)),
                ..NumberDataPoint::default()
            })
            .collect();
        let sum = Sum { data_points, aggregation_temporality: temporality as i32, is_monotonic: true };
        let metric = Metric { name: "orders".into(), data: Some(metric::Data::Sum(sum)), ..Metric::default() };
        let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() }],
        }
    }

    #[test]
    fn totals_of_two_processes_add_up() {
        let mut tally = Tally::new(TreeShape::default());
        for start in [1_u64, 2, 2] {
            let mut export = export(&[("ok", 5 + start.cast_signed())], AggregationTemporality::Cumulative);
            let metric = &mut export.resource_metrics[0].scope_metrics[0].metrics[0];
            if let Some(metric::Data::Sum(sum)) = &mut metric.data {
                sum.data_points[0].start_time_unix_nano = start;
            }
            tally.metrics(&export);
        }
        let received = tally.received(0);
        assert_eq!((received.metrics.counters["orders"], received.metrics.series), (13.0, 1));
    }

    fn total_after(temporality: AggregationTemporality) -> f64 {
        let mut tally = Tally::new(TreeShape::default());
        tally.metrics(&export(&[("ok", 5), ("error", 1)], temporality));
        tally.metrics(&export(&[("ok", 9)], temporality));
        let received = tally.received(0);
        assert_eq!((received.metrics.points, received.metrics.series), (3, 2));
        received.metrics.counters["orders"]
    }

    #[test]
    fn cumulative_points_replace_and_delta_points_add_up() {
        assert_eq!(total_after(AggregationTemporality::Cumulative), 10.0);
        assert_eq!(total_after(AggregationTemporality::Delta), 15.0);
    }
}

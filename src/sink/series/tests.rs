use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::{self, AsDouble, AsInt};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric as SentMetric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum as SentSum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::super::otlp::Items;
use super::*;
use crate::experiment::fault::Signal;

/// Changes one part of a series' identity.
type Change = fn(&mut ResourceMetrics);

const UNSPECIFIED: i32 = 0;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn number(start: u64, time: u64, value: Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![text("a", "1"), text("b", "2")],
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn sum(aggregation_temporality: i32, data_points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(SentSum { data_points, aggregation_temporality, is_monotonic: true })
}

fn counted(aggregation_temporality: i32, start: u64, time: u64, count: u64) -> Data {
    let point = HistogramDataPoint { start_time_unix_nano: start, time_unix_nano: time, count, ..Default::default() };
    Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality })
}

/// One metric of one scope of one resource.
fn sent(name: &str, data: Data) -> ResourceMetrics {
    let metric = SentMetric { name: name.into(), unit: "1".into(), data: Some(data), ..SentMetric::default() };
    let scope = InstrumentationScope { name: "shop".into(), version: "1".into(), ..InstrumentationScope::default() };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource = Some(Resource { attributes: vec![text("service.name", "shop")], ..Resource::default() });
    ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }
}

fn add(tally: &mut SeriesTally, resource_metrics: Vec<ResourceMetrics>) {
    let payload = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    let export = ExportRequest::decode(Signal::Metrics, &payload).unwrap();
    let Items::Metrics(metrics) = &export.items else { panic!("{export:?}") };
    tally.add(&export, metrics, metrics.points.len());
}

/// What is counted of these exports, each with one metric.
fn report(exports: Vec<ResourceMetrics>) -> ReceivedMetrics {
    let mut tally = SeriesTally::default();
    for export in exports {
        add(&mut tally, vec![export]);
    }
    tally.report()
}

/// The counter that these exports of it, in this order, make: its total, or why it is not known.
fn counter(exports: Vec<Data>) -> Result<f64, String> {
    let mut report = report(exports.into_iter().map(|data| sent("orders", data)).collect());
    assert_eq!(report.counters.len() + report.unknown_totals.len(), 1, "{report:?}");
    report.counters.remove("orders").ok_or_else(|| report.unknown_totals.remove("orders").unwrap())
}

fn scope(sent: &mut ResourceMetrics) -> &mut ScopeMetrics {
    &mut sent.scope_metrics[0]
}

fn inner(sent: &mut ResourceMetrics) -> &mut InstrumentationScope {
    scope(sent).scope.as_mut().unwrap()
}

fn metric(sent: &mut ResourceMetrics) -> &mut SentMetric {
    &mut scope(sent).metrics[0]
}

fn data(sent: &mut ResourceMetrics) -> &mut SentSum {
    let Some(Data::Sum(sum)) = &mut metric(sent).data else { panic!() };
    sum
}

#[test]
fn every_part_of_its_identity_tells_a_series_from_another() {
    let base = sent("orders", sum(CUMULATIVE, vec![number(1, 2, AsInt(100))]));
    let changes: [(&str, Change); 11] = [
        ("nothing", |_| {}),
        ("resource", |sent| {
            sent.resource.as_mut().unwrap().attributes.push(text("service.instance.id", "b"));
        }),
        ("no resource", |sent| sent.resource = None),
        ("scope name", |sent| inner(sent).name = "okhttp".into()),
        ("scope version", |sent| inner(sent).version = "2".into()),
        ("scope schema", |sent| scope(sent).schema_url = "https://example.org/2".into()),
        ("scope attributes", |sent| inner(sent).attributes.push(text("client", "2"))),
        ("no scope", |sent| scope(sent).scope = None),
        ("temporality", |sent| data(sent).aggregation_temporality = DELTA),
        ("point attributes", |sent| data(sent).data_points[0].attributes[1] = text("b", "3")),
        ("fewer point attributes", |sent| drop(data(sent).data_points[0].attributes.pop())),
    ];
    let mut tally = SeriesTally::default();
    for (n, (what, change)) in changes.iter().enumerate() {
        let mut export = base.clone();
        change(&mut export);
        // The second export says nothing new, also with its attributes in another order.
        let mut again = export.clone();
        data(&mut again).data_points[0].attributes.reverse();
        if let Some(resource) = &mut again.resource {
            resource.attributes.reverse();
        }
        add(&mut tally, vec![export, again]);
        let report = tally.report();
        let expected = 100.0 * (n + 1) as f64;
        assert_eq!(
            (report.series, report.counters["orders"].to_string()),
            (n as u64 + 1, expected.to_string()),
            "{what}"
        );
    }
    // What goes up and down is a series of its own, and in no total; as is another unit, whose numbers are other numbers.
    let mut level = base.clone();
    data(&mut level).is_monotonic = false;
    let mut gauge = base.clone();
    metric(&mut gauge).data = Some(Data::Gauge(Gauge { data_points: vec![number(1, 2, AsInt(1))] }));
    let mut bytes = base.clone();
    metric(&mut bytes).unit = "By".into();
    // A description does not identify.
    let mut described = base;
    metric(&mut described).description = "Orders".into();
    add(&mut tally, vec![level, gauge, bytes, described]);
    let report = tally.report();
    assert_eq!(report.series, changes.len() as u64 + 3);
    let counters: Vec<String> = report.counters.iter().map(|(name, total)| format!("{name} = {total}")).collect();
    assert_eq!(counters, ["orders [1] = 1100", "orders [By] = 100"]);
}

#[test]
fn a_scope_that_stands_after_its_metrics_counts_all_the_same() {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
    let export = sent("orders", sum(CUMULATIVE, vec![number(1, 2, AsInt(7))]));
    let name =
        |name: &str| InstrumentationScope { name: name.into(), ..InstrumentationScope::default() }.encode_to_vec();
    let mut tally = SeriesTally::default();
    for scope in ["netty", "okhttp"] {
        let metric = field(2, &export.scope_metrics[0].metrics[0].encode_to_vec());
        let payload = field(1, &field(2, &[metric, field(1, &name(scope))].concat()));
        let export = ExportRequest::decode(Signal::Metrics, &payload).unwrap();
        let Items::Metrics(metrics) = &export.items else { panic!("{export:?}") };
        tally.add(&export, metrics, 1);
    }
    assert_eq!((tally.report().series, tally.report().counters["orders"].to_string()), (2, "14".into()));
}

#[test]
fn any_number_of_delta_points_make_one_total() {
    let mut tally = SeriesTally::bounded(Bounds { series: 4, names: 4 });
    for start in 1..=100 {
        add(&mut tally, vec![sent("orders", sum(DELTA, vec![number(start, start + 1, AsInt(1))]))]);
        add(&mut tally, vec![sent("latency", counted(DELTA, start, start + 1, 2))]);
    }
    let report = tally.report();
    assert_eq!((report.counters["orders"].to_string(), report.histogram_counts["latency"]), ("100".into(), 200));
    assert_eq!((report.series, tally.exceeded()), (2, vec![]));
}

#[test]
fn a_total_that_does_not_fit_into_memory_is_unknown_and_the_others_stay_right() {
    let mut tally = SeriesTally::bounded(Bounds { series: 2, names: 2 });
    let labelled = |label: &str, time| {
        let attributes = vec![text("user", label)];
        NumberDataPoint { attributes, ..number(1, time, AsInt(5)) }
    };
    add(&mut tally, vec![sent("orders", sum(CUMULATIVE, vec![labelled("ada", 2)]))]);
    add(&mut tally, vec![sent("errors", sum(CUMULATIVE, vec![labelled("ada", 2)]))]);
    assert_eq!((tally.report().unknown_totals.len(), tally.exceeded().len()), (0, 0));
    for time in [3, 4] {
        add(&mut tally, vec![sent("orders", sum(CUMULATIVE, vec![labelled("ada", time), labelled("bob", time)]))]);
        add(&mut tally, vec![sent("refunds", sum(CUMULATIVE, vec![labelled("ada", time)]))]);
    }
    let report = tally.report();
    assert_eq!(report.counters.iter().collect::<Vec<_>>(), [(&"errors".to_owned(), &5.0)]);
    assert_eq!(report.unknown_totals["orders"], "2 points came beyond the 2 series whose totals are kept");
    assert_eq!((report.points, report.series), (8, 2));
    assert_eq!(
        tally.exceeded(),
        [
            "points of series beyond the 2 that are counted: 4",
            "points of metrics beyond the 2 that have a total, or with names of more than 1024 bytes: 2"
        ]
    );
    // Two long names must not be cut to one.
    let mut tally = SeriesTally::default();
    add(&mut tally, vec![sent(&"x".repeat(LONGEST_NAME + 1), sum(CUMULATIVE, vec![labelled("ada", 2)]))]);
    assert_eq!((tally.report().counters.len(), tally.exceeded().len()), (0, 1));
}

#[test]
fn a_cumulative_total_is_the_newest_of_each_start() {
    let cumulative = |points: &[(u64, u64, i64)]| {
        let exports = points.iter().map(|(start, time, n)| sum(CUMULATIVE, vec![number(*start, *time, AsInt(*n))]));
        counter(exports.collect())
    };
    assert_eq!(cumulative(&[(1, 2, 5), (1, 3, 9)]), Ok(9.0));
    assert_eq!(cumulative(&[(1, 3, 9), (1, 2, 5)]), Ok(9.0), "the older one came late");
    assert_eq!(cumulative(&[(1, 2, 5), (1, 2, 5), (1, 3, 9)]), Ok(9.0), "one came twice");
    assert_eq!(cumulative(&[(1, 2, 5), (3, 4, 2), (3, 5, 4)]), Ok(9.0), "it was started anew");
    assert_eq!(cumulative(&[(1, 2, 5), (3, 4, 2), (1, 5, 6), (3, 6, 4)]), Ok(10.0), "two processes at a time");
    for points in [[(1, 2, 5), (1, 3, 2)], [(0, 2, 5), (0, 3, 2)], [(1, 2, 5), (1, 2, 7)]] {
        let why = cumulative(&points).unwrap_err();
        assert!(why.starts_with("1 point contradicted another"), "{points:?}: {why}");
    }
    let falls =
        report(vec![sent("latency", counted(CUMULATIVE, 1, 2, 5)), sent("latency", counted(CUMULATIVE, 1, 3, 4))]);
    assert!(falls.unknown_totals["latency"].contains("contradicted"), "{falls:?}");
}

#[test]
fn a_delta_that_is_sent_once_more_is_counted_once() {
    let delta = |points: &[(u64, u64, i64)]| {
        let exports = points.iter().map(|(start, time, n)| sum(DELTA, vec![number(*start, *time, AsInt(*n))]));
        counter(exports.collect())
    };
    assert_eq!(delta(&[(1, 2, 5), (1, 2, 5), (2, 3, 5)]), Ok(10.0));
    assert_eq!(delta(&[(2, 3, 5), (1, 2, 4)]), Ok(9.0), "late, but once");
    assert_eq!(delta(&[(0, 0, 5), (0, 0, 5)]), Ok(10.0), "without times nothing tells that it is the same");
    assert!(delta(&[(1, 2, 5), (1, 2, 7)]).unwrap_err().contains("two senders"));
}

#[test]
fn what_is_no_number_or_has_no_temporality_makes_a_total_unknown_that_json_can_hold() {
    for (temporality, value, why) in [
        (UNSPECIFIED, AsInt(1), "1 point did not say whether they are delta or cumulative"),
        (DELTA, AsDouble(f64::NAN), "1 point had a value that is no finite number"),
        (CUMULATIVE, AsDouble(f64::INFINITY), "1 point had a value that is no finite number"),
    ] {
        let doubtful = sent("orders", sum(temporality, vec![number(1, 2, value)]));
        let report = report(vec![doubtful, sent("errors", sum(CUMULATIVE, vec![number(1, 2, AsInt(3))]))]);
        assert_eq!(report.unknown_totals["orders"], why);
        assert_eq!(report.counters.keys().collect::<Vec<_>>(), ["errors"]);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ReceivedMetrics>(&json).unwrap(), report);
    }
    let huge = |labels: &str| {
        let attributes = vec![text("a", labels)];
        NumberDataPoint { attributes, ..number(1, 2, AsDouble(f64::MAX)) }
    };
    let why = counter(vec![sum(CUMULATIVE, vec![huge("1"), huge("2")])]).unwrap_err();
    assert_eq!(why, "it is too large for a number");
}

#[test]
fn a_point_without_a_recorded_value_leaves_the_total_as_it_was() {
    let ended = NumberDataPoint { flags: 1, ..number(1, 3, AsInt(0)) };
    assert_eq!(counter(vec![sum(CUMULATIVE, vec![number(1, 2, AsInt(5))]), sum(CUMULATIVE, vec![ended])]), Ok(5.0));
}

#[test]
fn whole_numbers_stay_exact_and_numbers_of_both_kinds_add_up() {
    let large = 1_i64 << 53;
    let ones = (1..=3).map(|time| sum(DELTA, vec![number(time, time + 1, AsInt(1))]));
    let exports = [sum(DELTA, vec![number(0, 1, AsInt(large))])].into_iter().chain(ones).collect();
    // As doubles each 1 would be lost.
    assert_eq!(counter(exports), Ok((large + 3) as f64));
    let mixed = vec![sum(DELTA, vec![number(1, 2, AsInt(2))]), sum(DELTA, vec![number(2, 3, AsDouble(0.5))])];
    assert_eq!(counter(mixed), Ok(2.5));
    let overflowing =
        vec![sum(DELTA, vec![number(1, 2, AsInt(i64::MAX))]), sum(DELTA, vec![number(2, 3, AsInt(i64::MAX))])];
    assert_eq!(counter(overflowing), Ok(2.0 * i64::MAX as f64));
}

#[test]
fn exponential_histograms_and_summaries_are_counted_too() {
    let exponential = |aggregation_temporality, start_time_unix_nano, time_unix_nano, count| {
        let point = ExponentialHistogramDataPoint { start_time_unix_nano, time_unix_nano, count, ..Default::default() };
        Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![point], aggregation_temporality })
    };
    let summary = |start_time_unix_nano, time_unix_nano, count| {
        let point = SummaryDataPoint { start_time_unix_nano, time_unix_nano, count, ..SummaryDataPoint::default() };
        Data::Summary(Summary { data_points: vec![point] })
    };
    let report = report(vec![
        sent("size", exponential(CUMULATIVE, 1, 2, 40)),
        sent("size", exponential(CUMULATIVE, 1, 3, 42)),
        sent("delta.size", exponential(DELTA, 1, 2, 40)),
        sent("delta.size", exponential(DELTA, 2, 3, 2)),
        sent("quantiles", summary(1, 2, 3)),
        sent("quantiles", summary(1, 3, 9)),
        // The same name in buckets and exponential.
        sent("both", counted(CUMULATIVE, 1, 2, 1)),
        sent("both", exponential(CUMULATIVE, 1, 2, 2)),
        sent("never", counted(CUMULATIVE, 1, 2, 0)),
    ]);
    let counts: Vec<(&str, u64)> = report.histogram_counts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(counts, [("both", 3), ("delta.size", 42), ("never", 0), ("size", 42)]);
    assert_eq!((report.summary_counts["quantiles"], report.series), (9, 6));
}

//! One program's metrics by every protocol and temporality: the sink's totals are those of a real OpenTelemetry Collector.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::collector::{Collector, executable, scrape};
use crate::common::beside_others;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality};
use otelbench::record::received::Received;
use otelbench::sink::{ReceiverConfig, Sink, TreeShape};

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Grpc,
    Protobuf,
}

const WAYS: [(Protocol, Temporality); 4] = [
    (Protocol::Grpc, Temporality::Cumulative),
    (Protocol::Grpc, Temporality::Delta),
    (Protocol::Protobuf, Temporality::Cumulative),
    (Protocol::Protobuf, Temporality::Delta),
];

/// What the program counts, over its two instances, their two libraries and two exports each.
const TOTALS: [(&str, f64); 4] = [("latency", 16.0), ("orders", 32.0), ("paid", 20.0), ("size", 24.0)];
/// Two series of orders, and one of each other metric, two of which have no total.
const SERIES: u64 = (2 + 5) * 2 * 2;

fn totals() -> BTreeMap<String, f64> {
    TOTALS.iter().map(|(name, total)| ((*name).to_owned(), *total)).collect()
}

fn exporter(protocol: Protocol, temporality: Temporality, grpc: &str, http: &str) -> MetricExporter {
    let builder = MetricExporter::builder().with_temporality(temporality);
    match protocol {
        Protocol::Grpc => builder.with_tonic().with_endpoint(grpc).build(),
        Protocol::Protobuf => {
            let builder = builder.with_http().with_http_client(Plain).with_endpoint(format!("{http}/v1/metrics"));
            builder.with_protocol(opentelemetry_otlp::Protocol::HttpBinary).build()
        }
    }
    .unwrap()
}

/// Runs both instances of a service of this name. All that tells the instances and their libraries apart is the resource and
/// the scope.
fn run(service: &str, exporter: impl Fn() -> MetricExporter) {
    let exponential = |instrument: &Instrument| {
        let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
        (instrument.name() == "size").then(|| Stream::builder().with_aggregation(aggregation).build().unwrap())
    };
    let instances = ["a", "b"].map(|instance| {
        let of = [KeyValue::new("service.name", service.to_owned()), KeyValue::new("service.instance.id", instance)];
        let reader = PeriodicReader::builder(exporter()).with_interval(Duration::from_hours(1)).build();
        let resource = Resource::builder_empty().with_attributes(of).build();
        SdkMeterProvider::builder().with_reader(reader).with_resource(resource).with_view(exponential).build()
    });
    for exported in [SdkMeterProvider::force_flush, SdkMeterProvider::shutdown] {
        for provider in &instances {
            for library in ["netty", "okhttp"] {
                let meter = provider.meter(library);
                let orders = meter.u64_counter("orders").build();
                orders.add(3, &[KeyValue::new("status", "ok")]);
                orders.add(1, &[KeyValue::new("status", "error")]);
                meter.f64_counter("paid").build().add(2.5, &[]);
                meter.i64_up_down_counter("waiting").build().add(-2, &[]);
                meter.u64_gauge("level").build().record(7, &[]);
                for ms in [1.5, 20.0] {
                    meter.f64_histogram("latency").build().record(ms, &[]);
                }
                for bytes in [0.0, 10.0, 4_000.0] {
                    meter.f64_histogram("size").build().record(bytes, &[]);
                }
            }
            exported(provider).unwrap();
        }
    }
}

fn at_sink(received: &Received) -> BTreeMap<String, f64> {
    let metrics = &received.metrics;
    let counts = metrics.histogram_counts.iter().map(|(name, count)| (name.clone(), *count as f64));
    metrics.counters.iter().map(|(name, total)| (name.clone(), *total)).chain(counts).collect()
}

/// The totals of a service, over all series of each metric, in what Prometheus scrapes.
fn exposed(exposition: &str, service: &str) -> BTreeMap<String, f64> {
    let job = format!("job=\"{service}\"");
    let mut totals = BTreeMap::new();
    for line in exposition.lines().filter(|line| line.contains(&job)) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, _) = series.split_once('{').unwrap();
        if let Some(metric) = name.strip_suffix("_total").or_else(|| name.strip_suffix("_count")) {
            *totals.entry(metric.to_owned()).or_default() += value.parse::<f64>().unwrap();
        }
    }
    totals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_program_has_the_same_totals_at_the_sink_by_every_way() {
    let sink = Sink::start().unwrap();
    for (protocol, temporality) in WAYS {
        let config = ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), TreeShape::default());
        let receiver = sink.listen(config).unwrap();
        let endpoint = receiver.endpoint();
        run("shop", || exporter(protocol, temporality, &endpoint, &endpoint));
        let counted = receiver.received();
        assert_eq!(at_sink(&counted), totals(), "{protocol:?} {temporality:?}");
        assert_eq!((counted.metrics.series, counted.doubts()), (SERIES, vec![]), "{protocol:?} {temporality:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_has_the_totals_that_the_sink_has() {
    let Some(executable) = executable() else { return };
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&executable, folder.path(), None);
    let [grpc, http] = [collector.ports.grpc, collector.ports.http].map(|port| format!("http://127.0.0.1:{port}"));
    let service = |protocol, temporality| format!("{protocol:?}-{temporality:?}");
    for (protocol, temporality) in WAYS {
        run(&service(protocol, temporality), || exporter(protocol, temporality, &grpc, &http));
    }
    let exposition = scrape(collector.ports.prometheus);
    for (protocol, temporality) in WAYS {
        let service = service(protocol, temporality);
        assert_eq!(exposed(&exposition, &service), totals(), "{service}:\n{exposition}");
    }
}

/// An HTTP client that needs no runtime.
#[derive(Debug)]
struct Plain;

#[tonic::async_trait]
impl HttpClient for Plain {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let authority = request.uri().authority().ok_or("no host")?.as_str();
        let mut head = format!("POST {} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n", request.uri().path());
        for (name, value) in request.headers() {
            write!(head, "{name}: {}\r\n", value.to_str()?)?;
        }
        let body = request.body();
        let mut stream = TcpStream::connect(authority)?;
        stream.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let code: u16 = answer.split(' ').nth(1).ok_or("no status")?.parse()?;
        Ok(http::Response::builder().status(code).body(Bytes::new())?)
    }
}

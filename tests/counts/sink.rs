//! The OTLP receiver against the real exporters, with its faults, and against hostile clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::common::{ran, stderr};
use flate2::Compression as Gzip;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use opentelemetry::logs::{LogRecord as _, Logger, LoggerProvider};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use otelbench::record::received::Received;
use otelbench::sink::{Receiver, ReceiverConfig, ServerTls, Sink, TreeShape};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tonic::transport::Channel;
use tonic::{Code, Response};
use tonic_types::StatusExt;

/// Longest wait for anything that should happen soon.
const PATIENCE: Duration = Duration::from_secs(30);

fn shape() -> TreeShape {
    TreeShape::new(&[("order", None), ("stock", Some("order")), ("pay", Some("stock"))], None)
}

fn reception(faults: &[&str]) -> ReceiverConfig {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    ReceiverConfig { faults, ..ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), shape()) }
}

fn receiving(reception: ReceiverConfig) -> (Sink, Receiver) {
    let sink = Sink::start().unwrap();
    let receiver = sink.listen(reception).unwrap();
    (sink, receiver)
}

fn addr(receiver: &Receiver) -> SocketAddr {
    receiver.endpoint().split_once("//").unwrap().1.replace("localhost", "127.0.0.1").parse().unwrap()
}

/// Three spans for each trace, as a service of three layers makes them.
fn traces(ids: std::ops::Range<u128>) -> Vec<SpanData> {
    let span = |trace_id: u128, id: u64, name: &'static str| SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes((trace_id + 1).to_be_bytes()),
            SpanId::from_bytes(id.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::from_bytes((id - 1).to_be_bytes()),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: vec![KeyValue::new("card", "4111 1111 1111 1111"), KeyValue::new("n", 7)],
        dropped_attributes_count: 0,
        events: opentelemetry_sdk::trace::SpanEvents::default(),
        links: opentelemetry_sdk::trace::SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    };
    ids.flat_map(|id| [span(id, 2, "order"), span(id, 3, "stock"), span(id, 4, "pay")]).collect()
}

fn grpc(endpoint: &str) -> opentelemetry_otlp::SpanExporterBuilder<opentelemetry_otlp::TonicExporterBuilderSet> {
    SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_retry_policy(RetryPolicy::disabled())
}

fn http(endpoint: &str) -> opentelemetry_otlp::SpanExporterBuilder<opentelemetry_otlp::HttpExporterBuilderSet> {
    let url = format!("{endpoint}/v1/traces");
    let builder = SpanExporter::builder().with_http().with_http_client(Plain).with_endpoint(url);
    builder.with_retry_policy(RetryPolicy::disabled())
}

/// An HTTP client as small as can be: a connection for each request.
#[derive(Debug)]
struct Plain;

#[tonic::async_trait]
impl HttpClient for Plain {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().ok_or("no host")?.clone();
        parts.headers.insert("host", authority.as_str().parse()?);
        parts.uri = parts.uri.path().parse()?;
        let stream = tokio::net::TcpStream::connect(authority.as_str()).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(connection);
        let answer = sender.send_request(http::Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        driving.abort();
        Ok(http::Response::from_parts(parts, body))
    }
}

/// One request without a library in between.
fn post(receiver: &Receiver, path: &str, headers: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    ask(receiver, &format!("POST {path} HTTP/1.1\r\ncontent-length: {}\r\n{headers}", body.len()), body)
}

fn ask(receiver: &Receiver, head: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(addr(receiver)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{head}host: x\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, answer[end + 4..].to_vec())
}

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

/// `google.rpc.Status` as a client reads it.
fn status(body: &[u8]) -> (i32, String) {
    let status = tonic_types::Status::decode(body).unwrap();
    (status.code, status.message)
}

fn request(traces: u128) -> ExportTraceServiceRequest {
    let spans = (1..=traces).flat_map(|trace_id| {
        [(2_u64, "order"), (3, "stock"), (4, "pay")].map(|(id, name)| Span {
            trace_id: trace_id.to_be_bytes().into(),
            span_id: id.to_be_bytes().into(),
            parent_span_id: (id - 1).to_be_bytes().into(),
            name: name.into(),
            ..Span::default()
        })
    });
    let scope = ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() }],
    }
}

async fn call(
    receiver: &Receiver,
    request: ExportTraceServiceRequest,
) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
    let channel = Channel::from_shared(receiver.endpoint()).unwrap().connect().await.unwrap();
    TraceServiceClient::new(channel).export(request).await
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Gzip::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(since.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asserts that the sink still takes spans.
async fn still_receives(receiver: &Receiver) {
    let before = receiver.received().spans;
    grpc(&receiver.endpoint()).build().unwrap().export(traces(900_000..900_001)).await.unwrap();
    assert_eq!(receiver.received().spans, before + 3);
}

#[tokio::test]
async fn every_protocol_arrives_on_one_port() {
    let (_sink, receiver) = receiving(reception(&[]));
    let endpoint = receiver.endpoint();
    grpc(&endpoint).build().unwrap().export(traces(0..10)).await.unwrap();
    grpc(&endpoint).with_compression(Compression::Gzip).build().unwrap().export(traces(10..20)).await.unwrap();
    http(&endpoint).build().unwrap().export(traces(20..30)).await.unwrap();
    http(&endpoint).with_compression(Compression::Gzip).build().unwrap().export(traces(30..40)).await.unwrap();
    let account = receiver.received();
    assert_eq!((account.spans, account.duplicated, account.exports), (120, 0, 4));
    assert_eq!((account.trees.traces, account.trees.right), (40, 40), "{:?}", account.trees);
    assert_eq!((account.requests_refused, account.refused_connections), (0, 0), "{account:?}");
    assert_eq!(account.services["(unnamed)"], 120);
    assert!(account.wire_bytes > 0);
}

/// Metrics and logs through their whole pipelines; what the exports said.
fn metrics_and_logs(endpoint: &str) -> (OTelSdkResult, OTelSdkResult) {
    let builder = MetricExporter::builder().with_tonic().with_endpoint(endpoint);
    let exporter = builder.with_retry_policy(RetryPolicy::disabled()).build().unwrap();
    let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter).build()).build();
    let counter = meters.meter("test").u64_counter("orders").build();
    for status in ["ok", "error"] {
        counter.add(4, &[KeyValue::new("status", status)]);
    }
    meters.meter("test").f64_histogram("latency").build().record(1.5, &[]);
    let builder = LogExporter::builder().with_tonic().with_endpoint(endpoint);
    let exporter = builder.with_retry_policy(RetryPolicy::disabled()).build().unwrap();
    let loggers = SdkLoggerProvider::builder().with_simple_exporter(exporter).build();
    for id in [1_u128, 2, 77] {
        let mut record = loggers.logger("test").create_log_record();
        record.set_trace_context(TraceId::from_bytes(id.to_be_bytes()), SpanId::from_bytes([1; 8]), None);
        record.set_body("paid by 4111 1111 1111 1111".into());
        loggers.logger("test").emit(record);
    }
    // A flush would be followed by one more export when the meter is dropped.
    (meters.shutdown(), loggers.force_flush())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_logs_of_the_sdk_are_counted() {
    let forbidden = vec!["4111 1111 1111 1111".to_owned(), "ada@example.org".to_owned()];
    let (_sink, receiver) = receiving(ReceiverConfig { forbidden, ..reception(&[]) });
    grpc(&receiver.endpoint()).build().unwrap().export(traces(0..1)).await.unwrap();
    http(&receiver.endpoint()).with_compression(Compression::Gzip).build().unwrap().export(traces(1..2)).await.unwrap();
    let (metrics, logs) = metrics_and_logs(&receiver.endpoint());
    metrics.unwrap();
    logs.unwrap();
    let account = receiver.received();
    assert_eq!((account.metrics.points, account.metrics.series), (3, 3));
    assert_eq!(account.metrics.counters["orders"].to_string(), "8");
    assert_eq!(account.metrics.histogram_counts["latency"], 1);
    assert_eq!((account.logs.records, account.logs.in_known_traces), (3, 2));
    // Two of spans, one of them compressed, and three of logs.
    assert_eq!(account.leaked["4111 1111 1111 1111"], 5);
    assert_eq!(account.leaked["ada@example.org"], 0);
}

#[tokio::test]
async fn a_closed_port_refuses_and_comes_back_where_it_was() {
    let (_sink, receiver) = receiving(reception(&["down@0s..2s"]));
    let refused = || TcpStream::connect(addr(&receiver)).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
    assert!(refused(), "it is down from the start");
    let exporter = grpc(&receiver.endpoint()).build().unwrap();
    exporter.export(traces(0..1)).await.unwrap_err();
    eventually("the port opens", || (!refused()).then_some(())).await;
    exporter.export(traces(1..2)).await.unwrap();

    let mut idle = TcpStream::connect(addr(&receiver)).unwrap();
    idle.write_all(b"POST /v1/traces HTTP/1.1\r\n").unwrap();
    receiver.begin();
    eventually("the port closes again", || refused().then_some(())).await;
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    let cut = idle.read(&mut [0]).map_err(|e| e.kind());
    assert!(matches!(cut, Ok(0) | Err(ErrorKind::ConnectionReset)), "{cut:?}");
    exporter.export(traces(2..3)).await.unwrap_err();
    eventually("the port opens again", || (!refused()).then_some(())).await;
    exporter.export(traces(3..4)).await.unwrap();
    assert_eq!((receiver.received().spans, receiver.received().trees.right), (6, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_answers_come_late_and_an_export_given_up_on_is_not_counted() {
    let (_sink, receiver) = receiving(reception(&["slow:1s"]));
    let before = Instant::now();
    grpc(&receiver.endpoint()).build().unwrap().export(traces(0..1)).await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
    assert_eq!(receiver.received().spans, 3);
    let hasty = grpc(&receiver.endpoint()).with_timeout(Duration::from_millis(100)).build().unwrap();
    hasty.export(traces(1..2)).await.unwrap_err();
    let (status, ..) = post(&receiver, "/v1/traces", PROTOBUF, &[]);
    assert_eq!((status, before.elapsed() >= Duration::from_secs(2)), (200, true));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((receiver.received().spans, receiver.received().exports), (3, 2));
}

#[tokio::test]
async fn an_export_whose_connection_is_cut_before_the_answer_is_not_counted() {
    let (_sink, receiver) = receiving(reception(&["slow:3s@0s..2s", "down@2s..5s"]));
    grpc(&receiver.endpoint()).build().unwrap().export(traces(0..1)).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((receiver.received().spans, receiver.received().exports), (0, 0));
}

#[tokio::test]
async fn a_hanging_sink_reads_and_never_answers() {
    let (_sink, receiver) = receiving(reception(&["traces/hang@0s..1h"]));
    for exporter in [
        grpc(&receiver.endpoint()).with_timeout(Duration::from_millis(500)).build().unwrap(),
        http(&receiver.endpoint()).with_timeout(Duration::from_millis(500)).build().unwrap(),
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(1), exporter.export(traces(0..100))).await;
        assert!(!matches!(answer, Ok(Ok(()))), "{answer:?}");
    }
    let account = receiver.received();
    assert!(account.wire_bytes > 10_000, "{account:?}");
    assert_eq!((account.spans, account.exports, account.requests_refused), (0, 0, 0));
    // The other signals are not concerned.
    assert_eq!(post(&receiver, "/v1/logs", PROTOBUF, &[]).0, 200);
}

#[tokio::test]
async fn an_unavailable_sink_says_so_in_both_protocols() {
    let (_sink, receiver) = receiving(reception(&["reject:unavailable"]));
    let refused = call(&receiver, request(1)).await.unwrap_err();
    assert_eq!((refused.code(), refused.get_details_retry_info().is_none()), (Code::Unavailable, true), "{refused}");
    let (code, head, body) = post(&receiver, "/v1/traces", PROTOBUF, &request(1).encode_to_vec());
    assert_eq!((code, status(&body).0, head.contains("retry-after")), (503, 14, false), "{head}");
    assert_eq!((receiver.received().spans, receiver.received().exports), (0, 0));
}

#[tokio::test]
async fn an_exhausted_sink_says_when_to_try_again() {
    let (_sink, receiver) = receiving(reception(&["reject:exhausted,retry=1500ms"]));
    let refused = call(&receiver, request(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let retry = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry, Some(Duration::from_millis(1_500)));
    let (code, head, body) = post(&receiver, "/v1/traces", PROTOBUF, &request(1).encode_to_vec());
    assert_eq!((code, status(&body).0, head.contains("retry-after: 2")), (429, 8, true), "{head}");
    assert_eq!(receiver.received().spans, 0);
}

#[tokio::test]
async fn an_exporter_that_tries_again_when_it_is_told_to_loses_nothing() {
    let (_sink, receiver) = receiving(reception(&["reject:exhausted,retry=300ms@0s..1s"]));
    let patient = grpc(&receiver.endpoint()).with_retry_policy(RetryPolicy::recommended().with_max_retries(20));
    patient.with_timeout(PATIENCE).build().unwrap().export(traces(0..5)).await.unwrap();
    let account = receiver.received();
    assert_eq!((account.spans, account.duplicated, account.exports), (15, 0, 1));
}

#[tokio::test]
async fn partial_success_counts_the_first_and_names_the_number_of_the_rest() {
    let (_sink, receiver) = receiving(reception(&["partial:10%"]));
    // 27 spans each: 2.7 are to be rejected.
    let mut rejected = Vec::new();
    for _ in 0..5 {
        let answer = call(&receiver, request(9)).await.unwrap().into_inner();
        rejected.push(answer.partial_success.unwrap().rejected_spans);
    }
    let (code, _, body) = post(&receiver, "/v1/traces", PROTOBUF, &request(9).encode_to_vec());
    let answer = ExportTraceServiceResponse::decode(&*body).unwrap();
    rejected.push(answer.partial_success.unwrap().rejected_spans);
    assert_eq!((code, rejected), (200, vec![2, 3, 3, 2, 3, 3]));
    let account = receiver.received();
    assert_eq!(account.spans + account.duplicated, 6 * 27 - 16);
    // Of the first request the last two spans were rejected, and those came in none of the others.
    assert_eq!((account.spans, account.trees.right, account.trees.incomplete), (25, 8, 1));
    grpc(&receiver.endpoint()).build().unwrap().export(traces(100..110)).await.unwrap();
}

#[tokio::test]
async fn an_export_whose_connection_is_cut_in_the_payload_is_not_counted() {
    let (_sink, receiver) = receiving(reception(&["reset"]));
    grpc(&receiver.endpoint()).build().unwrap().export(traces(0..2_000)).await.unwrap_err();
    http(&receiver.endpoint()).build().unwrap().export(traces(0..2_000)).await.unwrap_err();
    let mut stream = TcpStream::connect(addr(&receiver)).unwrap();
    stream
        .write_all(format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\n{PROTOBUF}content-length: 99\r\n\r\nxx").as_bytes())
        .unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let account = receiver.received();
    assert_eq!((account.spans, account.exports, account.refused_connections), (0, 0, 0));
}

#[tokio::test]
async fn a_share_of_the_connections_is_cut_and_always_the_same() {
    let (_sink, receiver) = receiving(reception(&["reset:25%"]));
    let exporter = grpc(&receiver.endpoint()).build().unwrap();
    let mut cut = Vec::new();
    for id in 0..12 {
        if exporter.export(traces(id..id + 1)).await.is_err() {
            cut.push(id);
        }
    }
    assert_eq!(cut, [3, 7, 11]);
    assert_eq!(receiver.received().spans, 27);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_over_the_limit_are_refused_and_only_of_the_signal_that_has_one() {
    let (_sink, receiver) = receiving(reception(&["metrics/limit:64B", "logs/limit:1KiB"]));
    grpc(&receiver.endpoint()).build().unwrap().export(traces(0..100)).await.unwrap();
    let (metrics, logs) = metrics_and_logs(&receiver.endpoint());
    metrics.unwrap_err();
    logs.unwrap();
    let (code, _, body) = post(&receiver, "/v1/metrics", PROTOBUF, &[0; 65]);
    assert_eq!((code, status(&body)), (413, (8, "received message larger than max (64 bytes)".into())));
    let account = receiver.received();
    assert_eq!((account.spans, account.metrics.points, account.logs.records), (300, 0, 3));
    assert_eq!(account.requests_refused, 2);
}

#[tokio::test]
async fn the_limit_of_a_collector_is_always_there() {
    let (_sink, receiver) = receiving(reception(&[]));
    let refused = call(&receiver, request(60_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // A bomb of 21 MiB in 21 KiB, for each protocol.
    let mut bomb = gzipped(&vec![0; 21 << 20]);
    assert!(bomb.len() < 32 << 10);
    // Whoever reads to its end finds the checksum wrong.
    *bomb.last_mut().unwrap() ^= 1;
    let (code, ..) = post(&receiver, "/v1/traces", &format!("{PROTOBUF}content-encoding: gzip\r\n"), &bomb);
    assert_eq!(code, 413);
    let bomb = grpc_message(1, bomb.len(), &bomb);
    assert_eq!(grpc_status(&receiver, "grpc-encoding: gzip", &bomb).await, 8);
    assert_eq!((receiver.received().requests_refused, receiver.received().exports), (3, 0));
    still_receives(&receiver).await;
}

/// A gRPC message as the wire has it, whatever it says of itself.
fn grpc_message(compressed: u8, declared: usize, message: &[u8]) -> Vec<u8> {
    [&[compressed][..], &u32::try_from(declared).unwrap().to_be_bytes(), message].concat()
}

/// Calls the trace service by HTTP/2 alone; the gRPC status.
async fn grpc_status(receiver: &Receiver, header: &str, body: &[u8]) -> u32 {
    let stream = tokio::net::TcpStream::connect(addr(receiver)).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post(format!(
        "{}/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        receiver.endpoint()
    ))
    .header("content-type", "application/grpc+proto");
    if let Some((name, value)) = header.split_once(": ") {
        request = request.header(name, value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = head.headers.get("grpc-status").or(trailers.get("grpc-status")).unwrap();
    status.to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn malformed_requests_are_refused_in_their_own_protocol() {
    let (_sink, receiver) = receiving(reception(&[]));
    let (code, head, body) = post(&receiver, "/v1/traces", "content-type: application/json\r\n", b"{}");
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(code == 415 && head.contains("application/json") && json["code"] == 12, "{head} {json}");
    let gzip = format!("{PROTOBUF}content-encoding: gzip\r\n");
    let zstd = format!("{PROTOBUF}content-encoding: zstd\r\n");
    for (path, headers, body, expected) in [
        ("/v1/traces", "content-type: text/plain\r\n", &b""[..], (415, 12)),
        ("/v1/traces", "", b"", (415, 12)),
        ("/v1/traces", &zstd, b"", (415, 12)),
        ("/v1/profiles", PROTOBUF, b"", (404, 12)),
        ("/v1/traces", PROTOBUF, b"\x0a\xff\xff\xff\xff\x7f", (400, 3)),
        ("/v1/metrics", PROTOBUF, b"not protobuf at all", (400, 3)),
        ("/v1/logs", &gzip, b"not gzip", (400, 3)),
    ] {
        let (code, head, answer) = post(&receiver, path, headers, body);
        assert_eq!((code, status(&answer).0), expected, "{path} {headers} {head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    }
    assert_eq!(ask(&receiver, &format!("GET /v1/traces HTTP/1.1\r\n{PROTOBUF}"), b"").0, 405);
    let whole = request(1).encode_to_vec();
    for (header, message, expected) in [
        ("", grpc_message(0, whole.len(), &whole), 0),
        ("", grpc_message(0, whole.len() + 1, &whole), 3),
        ("", grpc_message(0, u32::MAX as usize, &whole), 8),
        ("", grpc_message(1, whole.len(), &whole), 3),
        ("", grpc_message(2, whole.len(), &whole), 3),
        ("", grpc_message(0, 3, b"xyz"), 3),
        ("", vec![0, 0], 3),
        ("grpc-encoding: gzip", grpc_message(1, whole.len(), &whole), 3),
        ("grpc-encoding: gzip", grpc_message(0, whole.len(), &whole), 0),
        ("grpc-encoding: br", grpc_message(0, whole.len(), &whole), 12),
    ] {
        assert_eq!(grpc_status(&receiver, header, &message).await, expected, "{header} {message:?}");
    }
    let account = receiver.received();
    assert_eq!((account.requests_refused, account.spans, account.duplicated), (17, 3, 3));
    still_receives(&receiver).await;
}

#[tokio::test]
async fn connections_that_speak_nonsense_are_counted_and_end_nothing() {
    let (_sink, receiver) = receiving(reception(&[]));
    let garbage: [&[u8]; 4] = [
        b"\x16\x03\x01\x00\xff nobody speaks TLS here",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x01\x02\x03 noise\r\n\r\n",
        b"PRI * HTTP",
    ];
    for (i, bytes) in (1..).zip(garbage) {
        let mut stream = TcpStream::connect(addr(&receiver)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        eventually("it is counted", || (receiver.received().refused_connections == i).then_some(())).await;
        let why = receiver.received().last_refused_connection.unwrap();
        assert_eq!(why.contains("TLS handshake was sent to a plaintext port"), i == 1, "{why}");
    }
    // Who comes and goes has not been refused.
    drop(TcpStream::connect(addr(&receiver)).unwrap());
    // A stream without end that never says where its payload stops.
    let mut endless = TcpStream::connect(addr(&receiver)).unwrap();
    let head = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\n{PROTOBUF}transfer-encoding: chunked\r\n\r\n");
    endless.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat();
    let sent = (0..1_000).take_while(|_| endless.write_all(&chunk).is_ok()).count();
    assert!(sent < 1_000, "a gigabyte was taken");
    still_receives(&receiver).await;
    assert_eq!((receiver.received().refused_connections, receiver.received().requests_refused), (4, 1));
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_are_closed_at_once() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(10_000), hard).unwrap();
    let (_sink, receiver) = receiving(reception(&[]));
    let idle: Vec<_> = (0..1_100).map(|_| TcpStream::connect(addr(&receiver)).unwrap()).collect();
    eventually("the last are refused", || (receiver.received().refused_connections == 76).then_some(())).await;
    drop(idle);
    let there_is_room = || {
        let mut stream = TcpStream::connect(addr(&receiver)).unwrap();
        stream
            .write_all(format!("POST /v1/logs HTTP/1.1\r\nhost: x\r\n{PROTOBUF}content-length: 0\r\n\r\n").as_bytes())
            .ok()?;
        stream.read(&mut [0]).ok().filter(|n| *n == 1)
    };
    eventually("there is room again", there_is_room).await;
}

/// A certificate authority, and what it signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn signs(&self, name: &str, valid: bool) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if !valid {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// The settings of a client that trusts this authority.
    fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.0.pem()))
    }
}

async fn sent(receiver: &Receiver, tls: ClientTlsConfig, id: u128) -> Result<(), String> {
    let exporter = grpc(&receiver.endpoint()).with_tls_config(tls).with_timeout(PATIENCE).build().unwrap();
    exporter.export(traces(id..id + 1)).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn mutual_tls_accepts_only_clients_with_a_valid_certificate() {
    let (servers, clients, others) = (Authority::new("servers"), Authority::new("clients"), Authority::new("others"));
    let (certificate_pem, key_pem) = servers.signs("localhost", true);
    let tls = ServerTls { certificate_pem, key_pem, client_ca_pem: Some(clients.0.pem()) };
    let (_sink, receiver) = receiving(ReceiverConfig { tls: Some(tls), ..reception(&[]) });
    assert!(receiver.endpoint().starts_with("https://localhost:"), "{}", receiver.endpoint());
    let shows = |(certificate, key): (String, String)| servers.trusted().identity(Identity::from_pem(certificate, key));
    sent(&receiver, shows(clients.signs("client", true)), 0).await.unwrap();
    let mut refused = 0;
    for (tls, why) in [
        (servers.trusted(), "peer sent no certificates"),
        (shows(others.signs("client", true)), "UnknownIssuer"),
        (shows(clients.signs("client", false)), "certificate expired"),
        (others.trusted(), "alert"),
        (servers.trusted().domain_name("elsewhere"), "alert"),
    ] {
        sent(&receiver, tls, 1).await.unwrap_err();
        refused += 1;
        let counted = || (receiver.received().refused_connections >= refused).then(|| receiver.received());
        let account: Received = eventually("the refusal is counted", counted).await;
        let said = account.last_refused_connection.unwrap();
        assert!(said.starts_with("TLS handshake: ") && said.contains(why), "{why}: {said}");
        refused = account.refused_connections;
    }
    let mut plain = TcpStream::connect(addr(&receiver)).unwrap();
    plain.write_all(b"POST /v1/traces HTTP/1.1\r\n\r\n").unwrap();
    let plaintext = || receiver.received().last_refused_connection.filter(|why| why.contains("plaintext"));
    assert_eq!(eventually("plaintext is noticed", plaintext).await, "plaintext was sent to a TLS port");
    sent(&receiver, shows(clients.signs("client", true)), 2).await.unwrap();
    assert_eq!((receiver.received().spans, receiver.received().trees.right), (6, 2));
}

#[tokio::test]
async fn tls_without_a_client_authority_accepts_every_client() {
    let servers = Authority::new("servers");
    let (certificate_pem, key_pem) = servers.signs("localhost", true);
    let tls = ServerTls { certificate_pem, key_pem, client_ca_pem: None };
    let (_sink, receiver) = receiving(ReceiverConfig { tls: Some(tls), ..reception(&[]) });
    sent(&receiver, servers.trusted(), 0).await.unwrap();
    assert_eq!((receiver.received().spans, receiver.received().refused_connections), (3, 0));
}

#[test]
fn contradicting_faults_unusable_certificates_and_taken_ports_are_refused() {
    let sink = Sink::start().unwrap();
    let error = sink.listen(reception(&["hang", "reset"])).unwrap_err().to_string();
    assert!(error.contains("`hang` and `reset` contradict"), "{error}");
    let bad = |certificate: &str, key: &str| {
        let tls = ServerTls { certificate_pem: certificate.into(), key_pem: key.into(), client_ca_pem: None };
        sink.listen(ReceiverConfig { tls: Some(tls), ..reception(&[]) }).unwrap_err().to_string()
    };
    let (certificate, key) = Authority::new("servers").signs("localhost", true);
    assert!(bad("", &key).contains("certificate_pem is not usable"));
    assert!(bad(&certificate, "nonsense").contains("key_pem is not usable"));
    assert!(bad(&certificate, &KeyPair::generate().unwrap().serialize_pem()).contains("certificate_pem is not usable"));
    let taken = sink.listen(reception(&[])).unwrap();
    let again = ReceiverConfig { addr: addr(&taken), ..reception(&[]) };
    assert_eq!(sink.listen(again).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn invalid_faults_on_the_command_line_are_refused_with_a_suggestion() {
    for (arguments, hint) in [
        ("sink --fault dwon", "`dwon` is no fault: write down, slow:TIME"),
        ("sink --fault slow:1s --fault traces/slow:2s@5s", "--fault: `slow:1s` and `traces/slow:2s@5s` contradict"),
    ] {
        let output = ran(arguments);
        let said = stderr(&output);
        assert_eq!((output.status.code(), said.contains(hint)), (Some(2), true), "{said}");
    }
}

#[tokio::test]
async fn receivers_of_one_sink_keep_their_own_accounts() {
    let sink = Arc::new(Sink::start().unwrap());
    let (one, other) = (sink.listen(reception(&[])).unwrap(), sink.listen(reception(&["hang"])).unwrap());
    grpc(&one.endpoint()).build().unwrap().export(traces(0..1)).await.unwrap();
    assert_eq!((one.received().spans, other.received().spans), (3, 0));
    let closed = addr(&one);
    drop(one);
    eventually("the address is free", || TcpStream::connect(closed).is_err().then_some(())).await;
}

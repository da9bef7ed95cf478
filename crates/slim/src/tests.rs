//! The layer's spans, read back by OpenTelemetry's own messages; and the sending side against a collector.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const LONG: Duration = Duration::from_secs(30);

type Answered = Result<ExportTraceServiceResponse, Status>;

/// A collector that keeps all it gets, and answers as told.
#[derive(Clone)]
struct Collector {
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    headers: Arc<Mutex<Vec<MetadataMap>>>,
    answer: fn(usize) -> Answered,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut got = self.got.lock().unwrap();
        let answer = (self.answer)(got.len());
        self.headers.lock().unwrap().push(request.metadata().clone());
        got.push(request.into_inner());
        answer.map(Response::new)
    }
}

/// A collector that listens.
struct Listening {
    addr: SocketAddr,
    collector: Collector,
    _runtime: Runtime,
}

impl Listening {
    fn start(tls: Option<ServerTlsConfig>, answer: fn(usize) -> Answered) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let addr = listener.local_addr().unwrap();
        let collector = Collector { got: Arc::default(), headers: Arc::default(), answer };
        let mut server = tonic::transport::Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let server = server.add_service(TraceServiceServer::new(collector.clone()));
        runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { addr, collector, _runtime: runtime }
    }

    /// Has spans made under a layer with these settings; what the layer counted, and the words for exports that failed.
    fn sent(settings: &Settings, spans: impl FnOnce(&Slim)) -> (Counts, Vec<String>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let (layer, slim) =
            Slim::start(settings, move |export| heard.lock().unwrap().extend(export.outcome.err())).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || spans(&slim));
        let counts = slim.shutdown(LONG).unwrap();
        let told = std::mem::take(&mut *told.lock().unwrap());
        (counts, told)
    }
}

/// Has spans made under a layer whose collector answers so; what the collector got, and what the layer counted.
fn collected(
    settings: impl FnOnce(String) -> Settings,
    answer: fn(usize) -> Answered,
    spans: impl FnOnce(&Slim),
) -> (Vec<ExportTraceServiceRequest>, Counts) {
    let listening = Listening::start(None, answer);
    let (counts, _) = Listening::sent(&settings(format!("http://{}", listening.addr)), spans);
    let got = std::mem::take(&mut *listening.collector.got.lock().unwrap());
    (got, counts)
}

fn usual(endpoint: String) -> Settings {
    Settings::new(endpoint, vec![("service.name".into(), "shop".into())])
}

#[expect(clippy::unnecessary_wraps, reason = "one of several ways to answer")]
fn taken(_: usize) -> Answered {
    Ok(ExportTraceServiceResponse::default())
}

fn spans(exports: &[ExportTraceServiceRequest]) -> BTreeMap<String, Span> {
    let resources = exports.iter().flat_map(|export| &export.resource_spans);
    let spans = resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
    spans.map(|span| (span.name.clone(), span.clone())).collect()
}

fn held(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    let AnyValue { value } = attribute.value.clone()?;
    value
}

#[test]
fn what_is_written_is_what_opentelemetry_reads() {
    let (got, counts) = collected(usual, taken, |_| {
        let order = tracing::info_span!("order", text = "ä\"b", truth = true, small = -7, large = u64::MAX, half = 0.5);
        continue_trace(&order, CALLER, Some("tenant=x, user_id = ada;since=2020"));
        let parent = traceparent(&order).unwrap();
        order.in_scope(|| {
            let payment = tracing::info_span!("payment", user = tracing::field::Empty, card = ?Some(4));
            payment.record("user", baggage(&payment, "user_id"));
            assert_eq!(baggage_header(&payment).as_deref(), Some("tenant=x, user_id = ada;since=2020"));
            payment.in_scope(|| tracing::error!(code = 42, "declined"));
        });
        assert_eq!(baggage_header(&tracing::Span::none()), None);
        assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && parent.ends_with("-01"), "{parent}");
    });
    assert_eq!(counts, Counts { ended: 2, ..Counts::default() });
    let resource = got[0].resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(held(&resource.attributes, "service.name"), Some(Value::StringValue("shop".into())));
    let spans = spans(&got);
    let (order, payment) = (&spans["order"], &spans["payment"]);
    assert_eq!(order.trace_id, TRACE.to_be_bytes());
    assert_eq!(payment.trace_id, order.trace_id);
    assert_eq!(order.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(payment.parent_span_id, order.span_id);
    assert!(order.span_id != payment.span_id && order.kind == 1);
    assert!(order.start_time_unix_nano <= payment.start_time_unix_nano);
    assert!(payment.end_time_unix_nano <= order.end_time_unix_nano);
    for (key, value) in [
        ("text", Value::StringValue("ä\"b".into())),
        ("truth", Value::BoolValue(true)),
        ("small", Value::IntValue(-7)),
        ("large", Value::StringValue(u64::MAX.to_string())),
        ("half", Value::DoubleValue(0.5)),
    ] {
        assert_eq!(held(&order.attributes, key), Some(value), "{key}");
    }
    assert_eq!(held(&payment.attributes, "user"), Some(Value::StringValue("ada".into())));
    assert_eq!(held(&payment.attributes, "card"), Some(Value::StringValue("Some(4)".into())));
    let event = &payment.events[0];
    assert_eq!((event.name.as_str(), held(&event.attributes, "code")), ("declined", Some(Value::IntValue(42))));
    assert!(event.time_unix_nano >= payment.start_time_unix_nano);
    assert_eq!((payment.status.as_ref().unwrap().code, order.status.as_ref()), (2, None));
}

#[test]
fn each_root_has_a_trace_of_its_own_and_the_callers_decision_holds_for_the_whole_tree() {
    let (got, counts) = collected(usual, taken, |_| {
        tracing::info_span!("one").in_scope(|| ());
        tracing::info_span!("other").in_scope(|| ());
        let unwanted = tracing::info_span!("unwanted");
        continue_trace(&unwanted, &CALLER.replace("-01", "-00"), None);
        unwanted.in_scope(|| tracing::info_span!("below", field = 1).in_scope(|| tracing::info!("nor this")));
    });
    let spans = spans(&got);
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["one", "other"]);
    assert_ne!(spans["one"].trace_id, spans["other"].trace_id);
    assert!(spans["one"].parent_span_id.is_empty());
    assert_eq!(counts.ended, 2);
}

#[test]
fn headers_that_are_malformed_leave_the_span_where_it_was() {
    let (got, _) = collected(usual, taken, |_| {
        for header in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            continue_trace(&tracing::info_span!("root"), header, Some("a=b"));
        }
        // A later version may say more.
        continue_trace(&tracing::info_span!("later"), &format!("{}-more", CALLER.replacen("00", "01", 1)), None);
    });
    let spans = spans(&got);
    assert!(spans["root"].parent_span_id.is_empty());
    assert_eq!(spans["later"].trace_id, TRACE.to_be_bytes());
}

#[test]
fn what_has_no_room_is_dropped_and_counted_and_the_rest_goes_in_batches() {
    let narrow = |endpoint| Settings { queue: 25, batch: 10, delay: LONG, ..usual(endpoint) };
    // The first export is held up by its collector until it is tried again, and what waits meanwhile stays waiting.
    let (got, counts) = collected(narrow, taken, |slim| {
        slim.flush(LONG).unwrap();
        for _ in 0..1_000 {
            drop(tracing::info_span!("many"));
        }
        slim.flush(LONG).unwrap();
    });
    let sizes: Vec<usize> = got.iter().map(|export| export.resource_spans[0].scope_spans[0].spans.len()).collect();
    let sent: usize = sizes.iter().sum();
    assert_eq!(counts.ended, 1_000);
    assert_eq!(counts.dropped + sent as u64, 1_000, "{counts:?} {sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
}

#[test]
fn a_failure_that_may_pass_is_tried_again_and_one_that_will_not_is_not() {
    let (got, counts) = collected(
        usual,
        |tries| if tries == 0 { Err(Status::unavailable("soon")) } else { taken(tries) },
        |_| drop(tracing::info_span!("patient")),
    );
    assert_eq!((got.len(), counts.failed, counts.ended), (2, 0, 1));
    let (got, counts) =
        collected(usual, |_| Err(Status::invalid_argument("never")), |_| drop(tracing::info_span!("futile")));
    assert_eq!((got.len(), counts.failed, counts.ended), (1, 1, 1));
}

#[test]
fn what_the_collector_refuses_is_counted() {
    let some = |_| {
        let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "full".into() };
        Ok(ExportTraceServiceResponse { partial_success: Some(partial) })
    };
    let (_, counts) = collected(usual, some, |_| (0..5).for_each(|_| drop(tracing::info_span!("one of five"))));
    assert_eq!((counts.ended, counts.rejected, counts.failed), (5, 2, 0));
}

#[test]
fn a_collector_that_is_not_there_costs_the_spans_and_no_more() {
    let nowhere = Settings { timeout: Duration::from_millis(50), ..usual("http://127.0.0.1:1".into()) };
    let (counts, told) = Listening::sent(&nowhere, |_| drop(tracing::info_span!("lost")));
    assert_eq!(counts, Counts { ended: 1, failed: 1, ..Counts::default() });
    assert!(told[0].starts_with("Unavailable: cannot connect to 127.0.0.1:1: "), "{told:?}");
}

#[test]
fn a_collector_that_does_not_answer_in_time_costs_the_spans_and_no_more() {
    // The system accepts the connection, and nobody ever reads from it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let hasty = Settings { timeout: Duration::from_millis(50), ..usual(endpoint) };
    let (counts, told) = Listening::sent(&hasty, |_| drop(tracing::info_span!("lost")));
    assert_eq!(counts, Counts { ended: 1, failed: 1, ..Counts::default() });
    assert_eq!(told, ["DeadlineExceeded: no answer within 50ms"]);
}

#[test]
fn more_than_the_collector_takes_at_once_arrives_whole() {
    // Half a megabyte in one export, eight times what HTTP/2 takes without a word.
    let text = "x".repeat(1_000);
    let (got, counts) = collected(usual, taken, |_| {
        for _ in 0..512 {
            drop(tracing::info_span!("large", text));
        }
    });
    assert_eq!((got.len(), counts), (1, Counts { ended: 512, ..Counts::default() }));
    let spans = &got[0].resource_spans[0].scope_spans[0].spans;
    assert!(spans.len() == 512 && spans.iter().all(|span| span.attributes.len() == 1));
}

#[test]
fn headers_go_with_every_export() {
    let listening = Listening::start(None, taken);
    let headers = vec![("api-key".into(), "a=b, c".into()), ("tenant".into(), "x".repeat(20_000))];
    let settings = Settings { headers, ..usual(format!("http://{}", listening.addr)) };
    let (counts, told) = Listening::sent(&settings, |slim| {
        drop(tracing::info_span!("one"));
        slim.flush(LONG).unwrap();
        drop(tracing::info_span!("another"));
    });
    // The larger of them is longer than a frame, and than what this server takes.
    assert_eq!((counts.ended, counts.failed, told.len()), (2, 2, 2), "{told:?}");
    let settings = Settings { headers: vec![("api-key".into(), "a=b, c".into())], ..settings };
    Listening::sent(&settings, |slim| {
        drop(tracing::info_span!("one"));
        slim.flush(LONG).unwrap();
        drop(tracing::info_span!("another"));
    });
    let headers = listening.collector.headers.lock().unwrap();
    assert_eq!(headers.len(), 2);
    assert!(headers.iter().all(|headers| headers.get("api-key").unwrap() == "a=b, c"), "{headers:?}");
}

#[test]
fn a_header_that_cannot_be_sent_is_refused() {
    for (name, value) in [("Api-Key", "x"), ("api-key", "line\nbreak"), ("grpc-timeout", "1S")] {
        let settings = Settings { headers: vec![(name.into(), value.into())], ..usual("http://localhost:4317".into()) };
        let error = Slim::start(&settings, |_| ()).unwrap_err();
        assert!(matches!(error, SlimError::Settings(SettingsError::Header { .. })), "{error}");
    }
}

/// Who vouches for certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn make(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for this machine and its key, both in PEM.
    fn issued(&self) -> (String, String) {
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

#[test]
fn spans_arrive_over_tls_from_clients_that_are_authorised_to_collectors_that_are_trusted() {
    let (ours, other) = (Authority::make("ours"), Authority::make("other"));
    let (certificate, key) = ours.issued();
    let server = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let mutual = server.clone().client_ca_root(Certificate::from_pem(ours.pem()));
    for (what, server, tls, arrives) in [
        ("TLS", &server, Tls { authority: Some(ours.pem()), identity: None }, true),
        ("an unknown authority", &server, Tls { authority: Some(other.pem()), identity: None }, false),
        ("the system's authorities", &server, Tls::default(), false),
        ("mutual TLS", &mutual, Tls { authority: Some(ours.pem()), identity: Some(ours.issued()) }, true),
        ("no certificate", &mutual, Tls { authority: Some(ours.pem()), identity: None }, false),
        ("another's", &mutual, Tls { authority: Some(ours.pem()), identity: Some(other.issued()) }, false),
    ] {
        let listening = Listening::start(Some(server.clone()), taken);
        for host in ["127.0.0.1", "localhost"] {
            let endpoint = format!("https://{host}:{}", listening.addr.port());
            let settings = Settings { tls: tls.clone(), timeout: Duration::from_millis(500), ..usual(endpoint) };
            let (counts, told) = Listening::sent(&settings, |slim| {
                drop(tracing::info_span!("one"));
                // The second goes over the same connection, where there is one.
                let _ = slim.flush(LONG);
                drop(tracing::info_span!("another"));
            });
            let failed = if arrives { 0 } else { 2 };
            assert_eq!((counts.ended, counts.failed), (2, failed), "{what}: {told:?}");
        }
        assert_eq!(listening.collector.got.lock().unwrap().len(), if arrives { 4 } else { 0 }, "{what}");
    }
}

#[test]
fn certificates_that_are_none_are_refused_with_the_variable_to_mend() {
    let (certificate, key) = Authority::make("ours").issued();
    let nothing = || "no PEM".to_owned();
    for (tls, says) in [
        (Tls { authority: Some(nothing()), identity: None }, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        (Tls { authority: None, identity: Some((nothing(), key)) }, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        (Tls { authority: None, identity: Some((certificate, nothing())) }, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
    ] {
        let settings = Settings { tls, ..usual("https://localhost:4317".into()) };
        let error = Slim::start(&settings, |_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn an_endpoint_that_is_none_is_refused() {
    for endpoint in ["", "localhost:4317", "http://localhost:4317/v1/traces"] {
        let error = Slim::start(&usual(endpoint.into()), |_| ()).unwrap_err().to_string();
        assert!(error.contains("http://localhost:4317"), "{error}");
    }
}

/// Notes what is registered, and counts what is registered how often.
struct Counting(Arc<Mutex<BTreeMap<String, usize>>>);

impl metrics::Recorder for Counting {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        *self.0.lock().unwrap().entry(key.to_string()).or_default() += 1;
        metrics::Counter::from_arc(Arc::new(std::sync::atomic::AtomicU64::new(0)))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn a_series_is_registered_once_however_often_its_macro_is_called() {
    let registered = Arc::default();
    let recorder = CachingRecorder::new(Counting(Arc::clone(&registered)));
    metrics::with_local_recorder(&recorder, || {
        for round in 0..6 {
            metrics::counter!("orders", "status" => if round % 2 == 0 { "ok" } else { "error" }).increment(1);
        }
    });
    let registered = registered.lock().unwrap();
    assert_eq!(registered.values().copied().collect::<Vec<_>>(), [1, 1], "{registered:?}");
}

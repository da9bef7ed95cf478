//! What the layer writes, read back by OpenTelemetry's own messages; and the sending side against a collector.

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
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const LONG: Duration = Duration::from_secs(30);

/// What a collector got, and how it answers.
#[derive(Clone)]
struct Collector {
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    answer: fn(usize) -> Result<ExportTraceServiceResponse, Status>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut got = self.got.lock().unwrap();
        let answer = (self.answer)(got.len());
        got.push(request.into_inner());
        answer.map(Response::new)
    }
}

/// Has spans made under a layer whose collector answers so; what the collector got, and what the layer counted.
fn collected(
    settings: impl FnOnce(String) -> Settings,
    answer: fn(usize) -> Result<ExportTraceServiceResponse, Status>,
    spans: impl FnOnce(&Slim),
) -> (Vec<ExportTraceServiceRequest>, Counts) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let addr = listener.local_addr().unwrap();
    let collector = Collector { got: Arc::default(), answer };
    let service = TraceServiceServer::new(collector.clone());
    runtime.spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)),
    );
    let (layer, slim) = Slim::start(&settings(format!("http://{addr}")), |_| ()).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || spans(&slim));
    let counts = slim.shutdown(LONG).unwrap();
    let got = std::mem::take(&mut *collector.got.lock().unwrap());
    (got, counts)
}

fn usual(endpoint: String) -> Settings {
    Settings::new(endpoint, vec![("service.name".into(), "shop".into())])
}

#[expect(clippy::unnecessary_wraps, reason = "one of several ways to answer")]
fn taken(_: usize) -> Result<ExportTraceServiceResponse, Status> {
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
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let (layer, slim) = Slim::start(&nowhere, move |export| heard.lock().unwrap().push(export.outcome)).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        drop(tracing::info_span!("lost"));
    });
    let counts = slim.shutdown(LONG).unwrap();
    assert_eq!(counts, Counts { ended: 1, failed: 1, ..Counts::default() });
    assert!(told.lock().unwrap()[0].is_err());
}

#[test]
fn an_endpoint_that_is_none_is_refused() {
    for endpoint in ["", "localhost:4317", "https://localhost:4317"] {
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

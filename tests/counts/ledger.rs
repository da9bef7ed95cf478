//! The ledger and the trees against telemetry that is broken on purpose.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::PROGRAM;
use crate::common::lane::{NONCE, Orders, Relay, SEED};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use otelbench::experiment::mode::{self, Handlers, Metrics, Mode};
use otelbench::experiment::payload::Payload;
use otelbench::experiment::service::Payment;
use otelbench::lab::lane::host::{Lane, Whereabouts};
use otelbench::lab::trial::{order_trees, trees};
use otelbench::lab::workload::Workload;
use otelbench::record::account::Account;
use otelbench::record::load::{LoadResult, MixCounts};
use otelbench::record::received::Received;
use otelbench::sink::{ReceiverConfig, Sink};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

fn full() -> Mode {
    mode::named("full").unwrap()
}

/// Plays 100 orders on a lane in this mode; `through` may put something between the lane and the sink.
async fn played(mode: Mode, through: impl AsyncFnOnce(String) -> String) -> (u64, Account, Received) {
    let (played, account, received) = played_mix(mode, &Payload::default(), through).await;
    (played.load.completed, account, received)
}

/// As [`played`], of requests made of `payload`.
async fn played_mix(
    mode: Mode,
    payload: &Payload,
    through: impl AsyncFnOnce(String) -> String,
) -> (LoadResult, Account, Received) {
    let sink = Sink::start().unwrap();
    let orders = Orders { payload: payload.clone(), ..Orders::of(mode) };
    let receiver =
        sink.listen(ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), order_trees(orders.caller()))).unwrap();
    let (played, account) = orders.play(&through(receiver.endpoint()).await).await;
    (played, account, receiver.received())
}

async fn straight(endpoint: String) -> String {
    endpoint
}

#[tokio::test]
async fn complete_telemetry_closes_the_ledger_and_makes_right_trees() {
    let (orders, account, received) = played(full(), straight).await;
    assert_eq!(orders, 100);
    let spans = account.spans.unwrap();
    assert_eq!((spans.ended, received.spans, spans.dropped), (300, 300, 0));
    assert_eq!((received.trees.traces, received.trees.right), (100, 100), "{:?}", received.trees);
    assert_eq!(received.metrics.counters["orders.total"].to_string(), "100");
    assert_eq!(received.metrics.histogram_counts["order.latency_ms"], 100);
    assert_eq!(received.resource["service.name"], "order-service");
}

/// Of each 25 requests 19 are good orders, one is an order to be refused and five are health checks.
const MIX: &str = r#"{"users": 100000, "user_ids": "zipf:1.1", "error_share": 0.05,
    "mix": [{"endpoint": "order", "weight": 8, "items": 3}, {"endpoint": "healthz", "weight": 2}]}"#;

#[tokio::test]
async fn a_mix_with_refused_orders_closes_the_ledger_too() {
    let payload: Payload = serde_json::from_str(MIX).unwrap();
    let (played, account, received) = played_mix(full(), &payload, straight).await;
    assert_eq!((played.load.completed, played.load.failed["status_4xx"], played.load.scheduled), (96, 4, 100));
    assert_eq!(played.mix, MixCounts { refused_as_asked: 4, not_refused: 0, probes_answered: 20 });
    assert!(!played.validity.causes.iter().any(|cause| cause.contains("failed")), "{:?}", played.validity);
    // A refused order is an order with its whole tree, and a health check is none.
    let spans = account.spans.unwrap();
    assert_eq!((spans.ended, received.spans, spans.dropped), (240, 240, 0));
    assert_eq!((received.trees.traces, received.trees.right), (80, 80), "{:?}", received.trees);
    let counters = &received.metrics.counters;
    assert_eq!((counters["orders.total"], counters["orders.errors"]), (80.0, 4.0));
}

#[tokio::test]
async fn one_trace_spans_two_services_where_the_payment_is_one() {
    let payload: Payload = serde_json::from_str(&MIX.replace(r#""mix""#, r#""personal": true, "mix""#)).unwrap();
    for name in ["full", "tuned", "bare", "none"] {
        let orders =
            Orders { payload: payload.clone(), payment: Payment::Http, ..Orders::of(mode::named(name).unwrap()) };
        let sink = Sink::start().unwrap();
        let shape = trees(Payment::Http, orders.caller());
        let receiver = sink.listen(ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), shape)).unwrap();
        let (relay, endpoint) = Relay::to(receiver.endpoint()).await;
        let (played, account) = orders.play(&endpoint).await;
        // Those to be refused are refused over there, and the refusal comes back as it is.
        assert_eq!((played.load.completed, played.load.failed["status_4xx"]), (96, 4), "{name}: {:?}", played.load);
        assert_eq!(played.mix, MixCounts { refused_as_asked: 4, not_refused: 0, probes_answered: 20 }, "{name}");
        let (arrived, kept) = (receiver.received(), relay.kept());
        let Some(spans) = account.spans else {
            assert!(matches!(name, "bare" | "none") && kept.spans.is_empty(), "{name} made no spans");
            continue;
        };
        assert_eq!((spans.ended, arrived.spans), (4 * 80, 4 * 80), "{name}: {spans:?}");
        assert_eq!((spans.dropped, spans.failed, spans.rejected), (0, 0, 0), "{name}: {account:?}");
        assert_eq!((arrived.trees.traces, arrived.trees.right), (80, 80), "{name}: {:?}", arrived.trees);
        let there = kept.spans.iter().filter(|(service, _)| service == "payment-service");
        assert_eq!(there.filter(|(_, span)| span == "accept_payment").count(), 80, "{name}");
        let here = kept.spans.iter().filter(|(service, _)| service == "order-service");
        assert_eq!(here.filter(|(_, span)| span != "accept_payment").count(), 3 * 80, "{name}");
        assert_eq!(arrived.metrics.counters["orders.total"].to_string(), "80", "{name}");
    }
}

#[tokio::test]
async fn a_sink_that_expects_other_users_notices() {
    let sink = Sink::start().unwrap();
    let payload: Payload = serde_json::from_str(MIX).unwrap();
    let other_seed = Workload::new(NONCE, SEED + 1, &payload);
    let other =
        sink.listen(ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), order_trees(other_seed))).unwrap();
    played_mix(full(), &payload, async |_| other.endpoint()).await;
    let trees = other.received().trees;
    // Health checks have no caller's span, and a user is another's unless both drew the same.
    assert!(trees.traces == 80 && trees.foreign > 0 && trees.without_baggage > 0, "{trees:?}");
}

#[tokio::test]
async fn context_lost_across_a_spawn_is_noticed() {
    let (orders, account, received) = played(Mode { handlers: Handlers::BareSpawn, ..full() }, straight).await;
    // Every span arrives, so a count alone would call this right.
    assert_eq!((account.spans.unwrap().ended, received.spans), (3 * orders, 3 * orders));
    let trees = &received.trees;
    assert_eq!((trees.traces, trees.right, trees.foreign, trees.incomplete), (200, 0, 100, 100), "{trees:?}");
    assert!(trees.example.is_some());
}

/// Passes traces on, all but one span.
struct Lossy {
    collector: TraceServiceClient<tonic::transport::Channel>,
    spans: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl TraceService for Lossy {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut export = request.into_inner();
        let all = export.resource_spans.iter_mut().flat_map(|spans| &mut spans.scope_spans);
        for scope in all {
            // The 42nd span of the run.
            scope.spans.retain(|_| self.spans.fetch_add(1, Ordering::Relaxed) != 41);
        }
        self.collector.clone().export(export).await
    }
}

#[tokio::test]
async fn a_dropped_span_is_noticed_in_the_ledger_and_in_its_tree() {
    let lossy = async |endpoint: String| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let collector = TraceServiceClient::connect(endpoint).await.unwrap();
        let service = TraceServiceServer::new(Lossy { collector, spans: Arc::default() });
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        format!("http://{addr}")
    };
    // The relay passes on traces alone.
    let (_, account, received) = played(Mode { metrics: Metrics::Nowhere, ..full() }, lossy).await;
    let spans = account.spans.unwrap();
    assert_eq!((spans.ended, spans.dropped, spans.failed), (300, 0, 0));
    assert_eq!(received.spans, 299);
    let trees = received.trees;
    assert_eq!((trees.right, trees.wrong()), (99, 1), "{trees:?}");
}

#[tokio::test]
async fn spans_dropped_at_a_full_queue_are_counted_exactly() {
    for payment in [Payment::Inside, Payment::Http] {
        let mut orders = Orders { payment, ..Orders::of(full()) };
        let traces = orders.mode.traces.as_mut().unwrap();
        (traces.queue, traces.batch) = (1, 1);
        let sink = Sink::start().unwrap();
        let shape = trees(payment, orders.caller());
        let receiver = sink.listen(ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), shape)).unwrap();
        let (_, account) = orders.play(&receiver.endpoint()).await;
        let (spans, arrived) = (account.spans.unwrap(), receiver.received().spans);
        assert!(spans.dropped > 0, "a queue of one span never overflowed: {spans:?}");
        assert_eq!(spans.ended, arrived + spans.dropped + spans.failed, "{spans:?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_fails_every_span_and_no_order() {
    let nobody = async |_| "http://127.0.0.1:9".to_owned();
    let (orders, account, received) = played(Mode { metrics: Metrics::Nowhere, ..full() }, nobody).await;
    assert_eq!((orders, received.spans), (100, 0));
    let spans = account.spans.unwrap();
    assert_eq!((spans.ended, spans.dropped + spans.failed), (300, 300), "{account:?}");
    assert!(!account.diagnostics.is_empty());
}

#[tokio::test]
async fn each_process_has_an_id_of_its_own() {
    let instance = async |mode: Mode| played(mode, straight).await.2.resource["service.instance.id"].clone();
    let (one, other) = (instance(full()).await, instance(full()).await);
    assert!(one != other && !one.is_empty(), "{one} and {other}");
}

#[tokio::test]
async fn a_mode_with_an_invalid_filter_fails_with_the_reason() {
    let mut mode = full();
    mode.traces.as_mut().unwrap().filter = "order=[[".into();
    let odd = Orders::of(mode);
    let (start, setup) = (odd.start("http://127.0.0.1:9"), odd.setup());
    let error =
        Lane::launch(Path::new(PROGRAM), &BTreeMap::new(), "odd", start, setup, Whereabouts::Inside).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("arm `odd` failed") && message.contains("is not a filter"), "{message}");
    assert!(message.contains("| error: lane:"), "{message}");
}

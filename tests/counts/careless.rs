//! Careless handlers leak personal data, labels and debug spans; redaction, views and filters keep them in, to the last byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::common::lane::{Kept, Orders, Relay, stands_in};
use otelbench::experiment::mode::{self, Handlers, Logs, Metrics, Mode, SpanExporter, Traces, Views};
use otelbench::experiment::payload::Payload;
use otelbench::experiment::service::SPANS;
use otelbench::generator::Requests;
use otelbench::record::account::Account;
use otelbench::record::received::Received;
use otelbench::sink::{ReceiverConfig, Sink, TreeShape};
use otelbench::sut::service::Order;

fn careless(traces: Traces) -> Mode {
    Mode { handlers: Handlers::Careless, traces: Some(traces), ..mode::named("full").unwrap() }
}

/// Plays them between a lane and a sink that expects `spans`.
async fn played(orders: Orders, spans: &[(&str, Option<&str>)]) -> (u64, Account, Received, Kept) {
    let sink = Sink::start().unwrap();
    let shape = TreeShape::new(spans, Some(Arc::new(orders.caller())));
    let receiver = sink.listen(ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), shape)).unwrap();
    let (relay, endpoint) = Relay::to(receiver.endpoint()).await;
    let (played, account) = orders.play(&endpoint).await;
    (played.load.completed, account, receiver.received(), relay.kept())
}

/// Card number and e-mail address of each of the hundred orders.
fn personal(orders: &Orders) -> Vec<(String, String)> {
    let caller = orders.caller();
    let sent = |seq| {
        let mut request = Vec::new();
        caller.write(seq, &mut request);
        let body = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let order = Order::parse(&request[body..]).unwrap();
        (order.card.unwrap(), order.email.unwrap())
    };
    (0..100).map(sent).collect()
}

/// The orders of customers who gave card and address, in a mode that sends all three signals.
fn personal_orders(redact: bool) -> Orders {
    let mode = Mode { logs: Logs::Otlp, ..careless(Traces { redact, ..Traces::default() }) };
    Orders { payload: Payload { personal: true, ..Payload::default() }, ..Orders::of(mode) }
}

#[tokio::test]
async fn card_numbers_and_addresses_are_sent_without_redaction() {
    let orders = personal_orders(false);
    let sent = personal(&orders);
    let (completed, _, _, kept) = played(orders, SPANS).await;
    assert_eq!((completed, kept.records), (100, 100));
    for text in sent.iter().flat_map(|(card, email)| [card, email]) {
        assert!(stands_in(text, &kept.traces) && stands_in(text, &kept.logs), "{text} was not sent");
    }
}

#[tokio::test]
async fn no_byte_of_a_card_number_or_an_address_gets_past_redaction() {
    let orders = personal_orders(true);
    let sent = personal(&orders);
    let (completed, account, received, kept) = played(orders, SPANS).await;
    for text in sent.iter().flat_map(|(card, email)| [card, email]) {
        assert!(!kept.holds(text), "{text} was sent");
    }
    // All the rest arrives.
    for (signal, bytes) in [("traces", &kept.traces), ("logs", &kept.logs)] {
        assert!(stands_in("[card]", bytes) && stands_in("[email]", bytes), "{signal}");
        assert!(stands_in("charging card [card]", bytes), "{signal}");
    }
    assert_eq!((completed, kept.records, account.logs.unwrap().emitted), (100, 100, 100));
    assert_eq!((account.spans.unwrap().ended, received.spans, received.trees.right), (300, 300, 100), "{received:?}");
}

/// Orders of three thousand of a hundred thousand users, with these views on the metrics.
async fn metered(views: Views) -> (u64, Received, Kept) {
    // Without spans to send, but with the context that tells the user.
    let mode = careless(Traces { exporter: SpanExporter::Null, ..Traces::default() });
    let metrics = Metrics::Bridge { interval: Duration::from_secs(5), caching: false, views };
    let payload: Payload = Payload { users: 100_000.try_into().unwrap(), ..Payload::default() };
    let orders = Orders { payload, rate: 600.0, lasts: Duration::from_secs(5), ..Orders::of(Mode { metrics, ..mode }) };
    let (completed, _, received, kept) = played(orders, SPANS).await;
    (completed, received, kept)
}

#[tokio::test]
async fn a_label_for_each_user_overflows() {
    let (completed, received, kept) = metered(Views::default()).await;
    assert_eq!((completed, received.metrics.counters["orders.total"].to_string()), (3_000, "3000".into()));
    // Counter and histogram reach the SDK's limit of 2000 each, and the thousand users beyond are one series.
    assert_eq!(received.metrics.series, 2 * 2_001);
    assert!(stands_in("otel.metric.overflow", &kept.metrics), "two thousand users were too few");
    // Orders do not quite come in the order of their users.
    assert!(stands_in("user-01900", &kept.metrics) && !stands_in("user-02900", &kept.metrics));
}

#[tokio::test]
async fn a_view_drops_a_label_for_each_user() {
    let keep_labels = Some(vec!["status".to_owned()]);
    let (completed, received, kept) = metered(Views { keep_labels, ..Views::default() }).await;
    assert_eq!((completed, received.metrics.counters["orders.total"].to_string()), (3_000, "3000".into()));
    assert_eq!((received.metrics.series, received.metrics.histogram_counts["order.latency_ms"]), (2, 3_000));
    assert!(!stands_in("otel.metric.overflow", &kept.metrics) && !stands_in("user", &kept.metrics));
}

#[tokio::test]
async fn debug_spans_exist_only_where_the_filter_admits_them() {
    let orders = Orders::of(careless(Traces::default()));
    let (_, account, received, kept) = played(orders, SPANS).await;
    assert_eq!((account.spans.unwrap().ended, received.spans, received.trees.right), (300, 300, 100), "{received:?}");
    assert!(!kept.holds("check_stock"));

    let debugging = [SPANS, &[("check_stock", Some("reserve_inventory"))]].concat();
    let orders = Orders::of(careless(Traces { filter: "debug".into(), ..Traces::default() }));
    let (_, account, received, _) = played(orders, &debugging).await;
    assert_eq!((account.spans.unwrap().ended, received.spans, received.trees.right), (400, 400, 100), "{received:?}");
}

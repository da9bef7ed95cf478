use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind};
use opentelemetry::{Key, StringValue};
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
use proptest::prelude::*;

use super::*;

/// Test card numbers published by payment schemes, in common notations.
const CARDS: [&str; 8] = [
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "378282246310005",
    "3782 822463 10005",
    "5555555555554444",
    "6011111111111117",
    "4222222222222",
];

fn redact(text: &str) -> String {
    redacted(text).unwrap_or_else(|| text.to_owned())
}

#[test]
fn card_numbers_are_redacted_within_any_text() {
    for card in CARDS {
        for (before, after) in [("", ""), ("card ", "."), ("n=", ",x=1"), ("12 ", " 2027"), ("é", "é"), ("id7-", "")]
        {
            let text = redact(&format!("{before}{card}{after}"));
            assert_eq!(text, format!("{before}[card]{after}"), "{card}");
        }
    }
    assert_eq!(redact("4111111111111111 5555555555554444"), "[card] [card]");
    // Together with the two groups before it, there is a second number with a valid check digit.
    assert_eq!(redact("4000 0004 4111 1111 1111 1111"), "[card]");
}

#[test]
fn numbers_that_are_not_card_numbers_are_kept() {
    for text in [
        "4111111111111112",
        "4111 1111 1111 1112",
        "order 1234567890123",
        // The check digits are valid, but one is a timestamp in nanoseconds and two have too many or too few digits.
        "1700000000000000004",
        "41111111111111111111111111111117",
        "411111111117",
        "4111.1111.1111.1111",
        "0000000000000000",
        "",
    ] {
        assert_eq!(redacted(text), None, "{text}");
    }
}

#[test]
fn email_addresses_are_redacted_and_similar_texts_are_kept() {
    for (text, left) in [
        ("ada@example.com", "[email]"),
        ("to ada.b+c@mail.example.co.uk.", "to [email]."),
        ("<ada@example.com>, <b@example.org>", "<[email]>, <[email]>"),
        ("/u?mail=ada%40example.com&x=1", "/u?mail=[email]&x=1"),
        ("jürgen@müller.de", "[email]"),
        ("4111111111111111@example.com", "[email]"),
        ("user@host", "user@host"),
        ("@example.com", "@example.com"),
        ("a @ b.c", "a @ b.c"),
    ] {
        assert_eq!(redact(text), left);
    }
}

proptest! {
    #[test]
    fn no_personal_data_is_left_in_random_text(before in ".*", at in 0..CARDS.len(), after in ".*") {
        let card = CARDS[at];
        // Adjacent digits would make it a different number.
        prop_assume!(!before.ends_with(|c: char| c.is_ascii_digit()) && !after.starts_with(|c: char| c.is_ascii_digit()));
        let left = redact(&format!("{before}{card}{after} {before}ada@example.com{after}"));
        prop_assert!(!left.contains(card) && !left.contains("ada@example"), "{}", left);
    }

    #[test]
    fn text_without_an_at_sign_or_enough_digits_is_unchanged(text in "[a-zé .:/-]*[0-9]{0,12}[a-z ]*") {
        prop_assert_eq!(redacted(&text), None);
    }
}

/// An exporter that keeps the items.
#[derive(Clone, Debug, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<SpanData>>>,
    records: Arc<Mutex<Vec<SdkLogRecord>>>,
}

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.spans.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl LogExporter for Kept {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.records.lock().unwrap().extend(batch.iter().map(|(record, _)| record.clone()));
        Ok(())
    }
}

fn span(text: &str, number: i64) -> SpanData {
    let texts = Value::Array(Array::String(vec![StringValue::from(text.to_owned())]));
    let attributes = vec![
        KeyValue::new("text", text.to_owned()),
        KeyValue::new("texts", texts),
        KeyValue::new("number", number),
        KeyValue::new("numbers", Value::Array(Array::I64(vec![7, number]))),
        KeyValue::new("kept", "7"),
    ];
    let mut events = SpanEvents::default();
    events.events = vec![Event::new(text.to_owned(), SystemTime::UNIX_EPOCH, attributes.clone(), 0)];
    let mut links = SpanLinks::default();
    links.links = vec![Link::new(SpanContext::NONE, attributes.clone(), 0)];
    SpanData {
        span_context: SpanContext::NONE,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: text.to_owned().into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes,
        dropped_attributes_count: 0,
        events,
        links,
        status: Status::error(text.to_owned()),
        instrumentation_scope: InstrumentationScope::default(),
    }
}

#[tokio::test]
async fn spans_are_redacted_in_every_text_and_otherwise_unchanged() {
    let kept = Kept::default();
    let exporter = Redacted::new(kept.clone());
    let batch = vec![span("ada@example.com paid by 4111 1111 1111 1111", 4_111_111_111_111_111), span("nobody", 7)];
    SpanExporter::export(&exporter, batch).await.unwrap();
    let spans = kept.spans.lock().unwrap();
    let all = format!("{:?}", spans[0]);
    assert!(!all.contains("ada@") && !all.contains("4111") && all.contains("\"kept\""), "{all}");
    // The span's name, its status, two texts each in attributes, event and link, and the event's name.
    assert_eq!((all.matches("[email] paid by [card]").count(), spans[1].clone()), (9, span("nobody", 7)), "{all}");
}

#[tokio::test]
async fn log_records_are_redacted_in_every_text_and_otherwise_unchanged() {
    let record = |text: &str, number: i64| {
        let mut record = SdkLoggerProvider::builder().build().logger("").create_log_record();
        record.set_event_name("paid");
        record.set_target("shop");
        record.set_timestamp(SystemTime::UNIX_EPOCH);
        record.set_observed_timestamp(SystemTime::UNIX_EPOCH);
        record.set_severity_text("INFO");
        record.set_severity_number(Severity::Info);
        record.set_trace_context(7_u128.into(), 9_u64.into(), None);
        let text = || AnyValue::from(text.to_owned());
        record.set_body(text());
        let nested = [("a", text()), ("b", AnyValue::Int(number))].map(|(key, value)| (Key::new(key), value));
        record.add_attribute("map", AnyValue::Map(Box::new(nested.into_iter().collect())));
        record.add_attribute("list", AnyValue::ListAny(Box::new(vec![text(), AnyValue::Boolean(true)])));
        record.add_attribute("text", text());
        record
    };
    let kept = Kept::default();
    let exporter = Redacted::new(kept.clone());
    let scope = InstrumentationScope::default();
    let personal = record("ada@example.com paid by 4111-1111-1111-1111", 4_111_111_111_111_111);
    let harmless = record("nobody paid", 7);
    LogExporter::export(&exporter, LogBatch::new(&[(&personal, &scope), (&harmless, &scope)])).await.unwrap();
    let records = kept.records.lock().unwrap();
    let all = format!("{:?}", records[0]);
    assert!(!all.contains("ada@") && !all.contains("4111"), "{all}");
    assert_eq!((all.matches("[email] paid by [card]").count(), &records[1]), (4, &harmless), "{all}");
    assert_eq!(records[0].trace_context(), harmless.trace_context());
}

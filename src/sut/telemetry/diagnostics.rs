//! Collects the OpenTelemetry SDK's own diagnostics for the ledger.
//!
//! The SDK reports the number of spans dropped at its queue in one place only: a log event at shutdown. This layer listens
//! for it. It handles only events, which the service's hot path does not emit, so it adds no cost to the measured code.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Maximum number of distinct messages that are kept.
const KEPT: usize = 8;

/// Diagnostics collected so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Diagnostics(Arc<SdkReports>);

#[derive(Debug, Default)]
struct SdkReports {
    dropped_spans: AtomicU64,
    dropped_logs: AtomicU64,
    rejected_spans: AtomicU64,
    rejected_logs: AtomicU64,
    messages: Mutex<Vec<String>>,
}

impl Diagnostics {
    /// Spans dropped by the batch processors, as they report at shutdown.
    pub(super) fn dropped_spans(&self) -> u64 {
        self.0.dropped_spans.load(Relaxed)
    }

    /// Log records dropped by the batch processors, as they report at shutdown.
    pub(super) fn dropped_logs(&self) -> u64 {
        self.0.dropped_logs.load(Relaxed)
    }

    /// Spans rejected by the collector, as it reports in its responses.
    pub(super) fn rejected_spans(&self) -> u64 {
        self.0.rejected_spans.load(Relaxed)
    }

    /// Log records rejected by the collector, as it reports in its responses.
    pub(super) fn rejected_logs(&self) -> u64 {
        self.0.rejected_logs.load(Relaxed)
    }

    pub(super) fn messages(&self) -> Vec<String> {
        self.lock().clone()
    }

    pub(super) fn note(&self, message: String) {
        let mut messages = self.lock();
        if messages.len() < KEPT && !messages.contains(&message) {
            messages.push(message);
        }
    }

    pub(super) fn layer(&self) -> Listener {
        Listener(self.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `tracing` layer that listens to the SDK's events.
pub(super) struct Listener(Diagnostics);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || !metadata.target().starts_with("opentelemetry") {
            return;
        }
        let mut fields = EventFields { reports: &self.0.0, text: String::new() };
        event.record(&mut fields);
        let text = fields.text;
        self.0.note(format!("{}:{text}", metadata.name()));
    }
}

/// Adds up the counts among an event's fields, and formats all fields as text.
struct EventFields<'a> {
    reports: &'a SdkReports,
    text: String,
}

impl Visit for EventFields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            // Each processor reports its total once, at shutdown.
            "dropped_span_count" => drop(self.reports.dropped_spans.fetch_add(value, Relaxed)),
            "dropped_logs_count" => drop(self.reports.dropped_logs.fetch_add(value, Relaxed)),
            _ => {}
        }
        self.record_debug(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let count = value.unsigned_abs();
        match field.name() {
            "rejected_spans" => drop(self.reports.rejected_spans.fetch_add(count, Relaxed)),
            "rejected_log_records" => drop(self.reports.rejected_logs.fetch_add(count, Relaxed)),
            _ => {}
        }
        self.record_debug(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.text, " {}={value:?}", field.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn dropped_span_counts_are_added_up_and_events_of_other_crates_are_ignored() {
        let diagnostics = Diagnostics::default();
        let subscriber = tracing_subscriber::registry().with(diagnostics.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(name: "BatchSpanProcessor.SpansDropped", target: "opentelemetry_sdk", dropped_span_count = 7_u64);
            tracing::warn!(name: "BatchSpanProcessor.SpansDropped", target: "opentelemetry_sdk", dropped_span_count = 2_u64);
            tracing::warn!(name: "TonicTracesClient.PartialSuccess", target: "opentelemetry-otlp", rejected_spans = 3_i64);
            tracing::warn!(name: "BatchSpanProcessor.SpansDropped", target: "my_app", dropped_span_count = 11_u64);
        });
        assert_eq!((diagnostics.dropped_spans(), diagnostics.rejected_spans()), (9, 3));
        assert_eq!(diagnostics.messages().len(), 3);
    }
}

//! Removes card numbers and e-mail addresses from spans and log records before they are exported.
//!
//! It wraps an exporter, not a processor, so that the search runs on the export thread and not on the request threads. It
//! searches every text that can hold data of a caller: names, attributes, events, links, statuses and the bodies of log
//! records. It does not search keys, which are constants in the code, or metrics, whose labels a view can drop
//! ([`crate::experiment::mode::Views::keep_labels`]).

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::Status;
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLogRecord, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Replacement for a card number.
const CARD: &str = "[card]";
/// Replacement for an e-mail address.
const EMAIL: &str = "[email]";
/// Number of digits of a card number. Source: ISO/IEC 7812-1; the shortest in use have 13.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Redacts card numbers and e-mail addresses and passes the items on to an exporter.
#[derive(Debug)]
pub(super) struct Redacted<E> {
    inner: E,
    /// An empty record to clone; the SDK has no other way to create one.
    blank: SdkLogRecord,
}

impl<E> Redacted<E> {
    pub(super) fn new(inner: E) -> Self {
        Self { inner, blank: SdkLoggerProvider::builder().build().logger("").create_log_record() }
    }
}

impl<E: SpanExporter> SpanExporter for Redacted<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(redact_span);
        self.inner.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Redacted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let redacted: Vec<(SdkLogRecord, &InstrumentationScope)> =
            batch.iter().map(|(record, scope)| (redacted_record(record, self.blank.clone()), scope)).collect();
        let batch: Vec<(&SdkLogRecord, &InstrumentationScope)> =
            redacted.iter().map(|(record, scope)| (record, *scope)).collect();
        self.inner.export(LogBatch::new(&batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn redact_span(span: &mut SpanData) {
    redact_text(&mut span.name);
    span.attributes.iter_mut().for_each(redact_attribute);
    for event in &mut span.events.events {
        redact_text(&mut event.name);
        event.attributes.iter_mut().for_each(redact_attribute);
    }
    for link in &mut span.links.links {
        link.attributes.iter_mut().for_each(redact_attribute);
    }
    if let Status::Error { description } = &mut span.status {
        redact_text(description);
    }
}

fn redact_attribute(attribute: &mut KeyValue) {
    match &mut attribute.value {
        Value::String(text) => {
            if let Some(redacted) = redacted(text.as_str()) {
                *text = redacted.into();
            }
        }
        Value::I64(number) => {
            if let Some(redacted) = redacted_number(*number) {
                attribute.value = redacted.into();
            }
        }
        Value::Array(Array::String(texts)) => {
            for text in texts {
                if let Some(redacted) = redacted(text.as_str()) {
                    *text = redacted.into();
                }
            }
        }
        Value::Array(Array::I64(numbers)) => {
            for number in numbers {
                // All elements of an array have one type, so the number becomes 0 instead of a text.
                if redacted_number(*number).is_some() {
                    *number = 0;
                }
            }
        }
        _ => {}
    }
}

fn redact_text(text: &mut Cow<'static, str>) {
    if let Some(redacted) = redacted(text) {
        *text = redacted.into();
    }
}

/// Copies the record to `blank` without personal data, because attributes cannot be removed from an existing record.
fn redacted_record(record: &SdkLogRecord, mut blank: SdkLogRecord) -> SdkLogRecord {
    if let Some(name) = record.event_name() {
        blank.set_event_name(name);
    }
    if let Some(target) = record.target() {
        blank.set_target(target.clone());
    }
    if let Some(timestamp) = record.timestamp() {
        blank.set_timestamp(timestamp);
    }
    if let Some(timestamp) = record.observed_timestamp() {
        blank.set_observed_timestamp(timestamp);
    }
    if let Some(context) = record.trace_context() {
        blank.set_trace_context(context.trace_id, context.span_id, context.trace_flags);
    }
    if let Some(text) = record.severity_text() {
        blank.set_severity_text(text);
    }
    if let Some(number) = record.severity_number() {
        blank.set_severity_number(number);
    }
    if let Some(body) = record.body() {
        blank.set_body(redacted_any(body.clone()));
    }
    blank.add_attributes(record.attributes_iter().map(|(key, value)| (key.clone(), redacted_any(value.clone()))));
    blank
}

fn redacted_any(value: AnyValue) -> AnyValue {
    match value {
        AnyValue::String(text) => redacted(text.as_str()).map_or(AnyValue::String(text), AnyValue::from),
        AnyValue::Int(number) => redacted_number(number).map_or(AnyValue::Int(number), AnyValue::from),
        AnyValue::Bytes(bytes) => match std::str::from_utf8(&bytes).ok().and_then(redacted) {
            Some(redacted) => AnyValue::Bytes(Box::new(redacted.into_bytes())),
            None => AnyValue::Bytes(bytes),
        },
        AnyValue::ListAny(values) => AnyValue::ListAny(Box::new(values.into_iter().map(redacted_any).collect())),
        AnyValue::Map(values) => {
            AnyValue::Map(Box::new(values.into_iter().map(|(key, value)| (key, redacted_any(value))).collect()))
        }
        other => other,
    }
}

/// The replacement for a number that is a card number; `None` if it is not.
fn redacted_number(number: i64) -> Option<&'static str> {
    redacted(&number.to_string()).map(|_| CARD)
}

/// The text without card numbers and e-mail addresses; `None` if it contains none.
fn redacted(text: &str) -> Option<String> {
    let mut personal = cards(text);
    personal.extend(emails(text));
    if personal.is_empty() {
        return None;
    }
    personal.sort_by_key(|(found, _)| (found.start, Reverse(found.end)));
    let (mut redacted, mut kept_until) = (String::with_capacity(text.len()), 0);
    for (found, mark) in personal {
        // A match that overlaps the last one, such as a card number in an address, is already replaced except for its end.
        if found.start >= kept_until {
            redacted.push_str(&text[kept_until..found.start]);
            redacted.push_str(mark);
        }
        kept_until = kept_until.max(found.end);
    }
    redacted.push_str(&text[kept_until..]);
    Some(redacted)
}

/// Position of a card number or an address, and its replacement.
type PersonalData = (Range<usize>, &'static str);

/// Finds card numbers: groups of digits, separated by single spaces or dashes, with a valid length and check digit. Numbers
/// that start with 0 or 1 are skipped, so timestamps in nanoseconds are kept. Overlapping matches are all returned, because
/// it is unknown which one is meant.
fn cards(text: &str) -> Vec<PersonalData> {
    let longest_from = |groups: &[Range<usize>], first: usize| {
        // A group has one digit at least.
        let end = groups.len().min(first + CARD_DIGITS.end());
        let last = (first..end).rev().find(|last| is_card(text, &groups[first..=*last]))?;
        Some((groups[first].start..groups[last].end, CARD))
    };
    runs(text).iter().flat_map(|groups| (0..groups.len()).filter_map(|first| longest_from(groups, first))).collect()
}

/// Runs of digit groups that are separated by single spaces or dashes.
fn runs(text: &str) -> Vec<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    let mut runs: Vec<Vec<Range<usize>>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            at += 1;
            continue;
        }
        let group = at..at + digits;
        at = group.end;
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|last| divides(&bytes[last.end..group.start])) => run.push(group),
            _ => runs.push(vec![group]),
        }
    }
    runs
}

fn divides(between: &[u8]) -> bool {
    matches!(between, b" " | b"-")
}

fn is_card(text: &str, groups: &[Range<usize>]) -> bool {
    let count: usize = groups.iter().map(ExactSizeIterator::len).sum();
    if !CARD_DIGITS.contains(&count) {
        return false;
    }
    let digits: Vec<u8> =
        groups.iter().flat_map(|group| text[group.clone()].bytes()).map(|digit| digit - b'0').collect();
    digits[0] > 1 && passes_luhn(&digits)
}

/// Whether the check digit is right (Luhn algorithm). Source: ISO/IEC 7812-1, annex B.
fn passes_luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| u32::from(if place % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    sum.is_multiple_of(10)
}

/// Finds e-mail addresses: before the `@` the characters of RFC 5322 in any script, except those that delimit an address in
/// a URL or a key-value pair; after it a host name with a dot. The `@` may be URL-encoded.
fn emails(text: &str) -> Vec<PersonalData> {
    let local = |c: char| c.is_alphanumeric() || "._%+-'!#$*^`~".contains(c);
    let host = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
    let ats = text.match_indices('@').chain(text.match_indices("%40"));
    ats.filter_map(|(at, sign)| {
        let (before, after) = (&text[..at], &text[at + sign.len()..]);
        let start = before.trim_end_matches(local).len();
        let name = &after[..after.len() - after.trim_start_matches(host).len()];
        // A full stop after an address does not belong to it.
        let name = name.trim_end_matches(['.', '-']);
        let whole = start < at && name.trim_start_matches('.').contains('.');
        whole.then(|| (start..at + sign.len() + name.len(), EMAIL))
    })
    .collect()
}

#[cfg(test)]
mod tests;

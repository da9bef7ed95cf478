//! The tracing layer: gives each span its ids and writes it when it closes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::encode::{self, bytes, fixed64, number};
use crate::id;
use crate::shared::Shared;

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u64 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;
/// Field of `Span` that holds an attribute.
const SPAN_ATTRIBUTE: u32 = 9;
/// Field of `Event` that holds an attribute.
const EVENT_ATTRIBUTE: u32 = 3;
/// Length of the head of a span: ids, kind and times, each with its key.
const HEAD: usize = 18 + 10 + 10 + 2 + 9 + 9;

/// The layer. It takes a [`Registry`] below it.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(crate) shared: Arc<Shared>,
}

/// A span that is open.
#[derive(Debug)]
struct Open {
    trace_id: u128,
    id: u64,
    /// 0 where the span is a root.
    parent: u64,
    sampled: bool,
    failed: bool,
    started: u64,
    /// The caller's baggage as it came.
    baggage: Option<Arc<str>>,
    /// Attributes and events as they will be sent.
    written: Vec<u8>,
}

impl Open {
    /// A span under `parent`, or a root of a trace of its own.
    fn under(parent: Option<&Open>) -> Self {
        let (trace_id, over, sampled, baggage) = match parent {
            Some(parent) => (parent.trace_id, parent.id, parent.sampled, parent.baggage.clone()),
            None => (id::u128(), 0, true, None),
        };
        Self {
            trace_id,
            id: id::u64(),
            parent: over,
            sampled,
            failed: false,
            started: now(),
            baggage,
            written: Vec::new(),
        }
    }

    /// Appends the span, as field 2 of `ScopeSpans`.
    fn write(&self, name: &str, ended: u64, into: &mut Vec<u8>) {
        let parent = if self.parent == 0 { 0 } else { 10 };
        let status = if self.failed { 4 } else { 0 };
        let name_length = 1 + encode::varint_len(name.len() as u64) + name.len();
        let length = HEAD - 10 + parent + name_length + self.written.len() + status;
        into.reserve(1 + encode::varint_len(length as u64) + length);
        // Field 2, a message.
        into.push(2 << 3 | 2);
        encode::varint(into, length as u64);
        bytes(into, 1, &self.trace_id.to_be_bytes());
        bytes(into, 2, &self.id.to_be_bytes());
        if self.parent != 0 {
            bytes(into, 4, &self.parent.to_be_bytes());
        }
        bytes(into, 5, name.as_bytes());
        number(into, 6, INTERNAL);
        fixed64(into, 7, self.started);
        fixed64(into, 8, ended);
        into.extend_from_slice(&self.written);
        if self.failed {
            // Status, a message with its code in field 3.
            bytes(into, 15, &[3 << 3, ERROR as u8]);
        }
    }
}

impl<S> tracing_subscriber::Layer<S> for Layer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span.parent();
        let mut open = {
            let extensions = parent.as_ref().map(SpanRef::extensions);
            Open::under(extensions.as_ref().and_then(|extensions| extensions.get::<Open>()))
        };
        if open.sampled && !attributes.is_empty() {
            attributes.record(&mut encode::Attributes {
                into: &mut open.written,
                field: SPAN_ATTRIBUTE,
                message: None,
            });
        }
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        if open.sampled {
            values.record(&mut encode::Attributes { into: &mut open.written, field: SPAN_ATTRIBUTE, message: None });
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        if !open.sampled {
            return;
        }
        open.failed |= *event.metadata().level() == Level::ERROR;
        let (mut attributes, mut message) = (Vec::new(), String::new());
        event.record(&mut encode::Attributes {
            into: &mut attributes,
            field: EVENT_ATTRIBUTE,
            message: Some(&mut message),
        });
        let mut body = Vec::with_capacity(16 + message.len() + attributes.len());
        fixed64(&mut body, 1, now());
        bytes(&mut body, 2, if message.is_empty() { event.metadata().name() } else { &message }.as_bytes());
        body.extend_from_slice(&attributes);
        // Field 11, a message.
        bytes(&mut open.written, 11, &body);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let extensions = span.extensions();
        let Some(open) = extensions.get::<Open>().filter(|open| open.sampled) else { return };
        self.shared.ended(|into| open.write(span.name(), now(), into));
    }
}

/// Makes `span`, which has just been made and has no child yet, part of the trace that a W3C `traceparent` header names, with
/// the caller's `baggage` header. A header that is malformed is passed over, as the specification wants it: the span then
/// stays where it was. A span that no [`Layer`] sees is left alone.
pub fn continue_trace(span: &Span, traceparent: &str, baggage: Option<&str>) {
    let Some((trace_id, parent, sampled)) = parse(traceparent) else { return };
    with_open(span, |open| {
        open.trace_id = trace_id;
        open.parent = parent;
        open.sampled = sampled;
        open.baggage = baggage.map(Arc::from);
    });
}

/// The W3C `traceparent` header that makes a request part of `span`'s trace; `None` for a span that no [`Layer`] sees.
pub fn traceparent(span: &Span) -> Option<String> {
    with_open(span, |open| format!("00-{:032x}-{:016x}-{:02x}", open.trace_id, open.id, u8::from(open.sampled)))
}

/// The W3C `baggage` header that hands the caller's baggage on, as it came; `None` where there is none.
pub fn baggage_header(span: &Span) -> Option<String> {
    with_open(span, |open| open.baggage.as_deref().map(str::to_owned))?
}

/// The value under `key` in the caller's baggage, percent-encoding and all; `None` where there is none.
pub fn baggage(span: &Span, key: &str) -> Option<String> {
    with_open(span, |open| {
        let mut members = open.baggage.as_deref()?.split(',');
        members.find_map(|member| {
            let (name, value) = member.split(';').next()?.split_once('=')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    })?
}

fn with_open<T>(span: &Span, f: impl FnOnce(&mut Open) -> T) -> Option<T> {
    span.with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        let mut extensions = span.extensions_mut();
        extensions.get_mut::<Open>().map(f)
    })?
}

/// Trace id, parent and decision of a `traceparent` header, by <https://www.w3.org/TR/trace-context/#traceparent-header>.
fn parse(header: &str) -> Option<(u128, u64, bool)> {
    let mut parts = header.trim().split('-');
    let (version, trace_id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, digits| {
        // Upper case is not allowed, and a sign would pass for a digit.
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let shaped = hex(version, 2) && hex(trace_id, 32) && hex(parent, 16) && hex(flags, 2);
    if !shaped || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace_id, parent, flags & 1 == 1))
}

/// Nanoseconds since 1970; 0 on a clock that is set before.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Until the year 2554.
    since.as_nanos() as u64
}

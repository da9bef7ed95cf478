//! Decodes export requests of the three OTLP 1.x signals. Only the fields that are counted or checked are read; the rest
//! is skipped, so a payload is accepted even if a full parser would find an error in a skipped field.
//!
//! Field numbers: <https://github.com/open-telemetry/opentelemetry-proto>.

use super::identity::Attributes;
use super::points::{Metrics, metric};
use super::protobuf::{Fields, Malformed, Value, messages};
use crate::experiment::fault::Signal;

/// The gRPC method for exports of this signal.
pub(super) fn grpc_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// The HTTP path for exports of this signal.
pub(super) fn http_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
        Signal::Logs => "/v1/logs",
    }
}

/// An export request. Spans refer to their resource by its index in `resources`, metrics to their scope by its index in
/// `scopes`.
#[derive(Debug)]
pub(super) struct ExportRequest<'a> {
    pub(super) resources: Vec<Resource<'a>>,
    pub(super) scopes: Vec<Scope<'a>>,
    pub(super) items: Items<'a>,
}

/// The items of an export request.
#[derive(Debug)]
pub(super) enum Items<'a> {
    Spans(Vec<Span<'a>>),
    Metrics(Metrics<'a>),
    /// The trace id of each log record; 0 if it has none.
    Records(Vec<u128>),
}

impl Items<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Spans(spans) => spans.len(),
            Self::Metrics(metrics) => metrics.points.len(),
            Self::Records(records) => records.len(),
        }
    }
}

/// The sender of a group of items. Attribute values are `None` unless they are strings.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    pub(super) attributes: Vec<(&'a str, Option<&'a str>)>,
    /// All of them, whatever their values.
    pub(super) identifying: Attributes<'a>,
}

impl Resource<'_> {
    /// The `service.name` attribute.
    pub(super) fn service(&self) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| *key == "service.name").and_then(|(_, value)| *value)
    }
}

/// The library that made a group of items.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    /// Index of its resource.
    pub(super) resource: usize,
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) attributes: Attributes<'a>,
    pub(super) schema_url: &'a str,
}

/// The parts of a span that the check of its trace tree needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span<'a> {
    /// Index of its resource.
    pub(super) resource: usize,
    pub(super) trace_id: u128,
    pub(super) id: u64,
    pub(super) parent: u64,
    pub(super) name: &'a str,
    /// The `user_id` attribute, which the service copies from the caller's baggage.
    pub(super) user: Option<&'a str>,
}

impl<'a> ExportRequest<'a> {
    /// Decodes an export request.
    pub(super) fn decode(signal: Signal, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut groups = Groups::default();
        let items = match signal {
            Signal::Traces => Items::Spans(items(payload, &mut groups, span)?),
            Signal::Metrics => {
                Items::Metrics(items(payload, &mut groups, |message, place, read| metric(message, place.scope, read))?)
            }
            Signal::Logs => Items::Records(items(payload, &mut groups, record)?),
        };
        Ok(Self { resources: groups.resources, scopes: groups.scopes, items })
    }
}

/// The resources and scopes of a request.
#[derive(Default)]
struct Groups<'a> {
    resources: Vec<Resource<'a>>,
    scopes: Vec<Scope<'a>>,
}

/// Indices of the resource and the scope of an item.
#[derive(Clone, Copy)]
struct Place {
    resource: usize,
    scope: usize,
}

/// Decodes the items of a request. All signals are nested alike (request → resource → scope → item), with the same field
/// numbers.
fn items<'a, T: Default>(
    request: &'a [u8],
    groups: &mut Groups<'a>,
    mut item: impl FnMut(&'a [u8], Place, &mut T) -> Result<(), Malformed>,
) -> Result<T, Malformed> {
    let mut items = T::default();
    for group in messages(request, 1) {
        let number = groups.resources.len();
        let mut resource = Resource::default();
        for field in Fields::of(group?) {
            match field? {
                (1, value) => read_resource(value.bytes()?, &mut resource)?,
                (2, value) => {
                    let place = Place { resource: number, scope: groups.scopes.len() };
                    let scope = items_of_scope(value.bytes()?, place, |message| item(message, place, &mut items))?;
                    groups.scopes.push(scope);
                }
                _ => {}
            }
        }
        groups.resources.push(resource);
    }
    Ok(items)
}

fn items_of_scope<'a>(
    message: &'a [u8],
    place: Place,
    mut item: impl FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<Scope<'a>, Malformed> {
    let mut scope = Scope { resource: place.resource, ..Scope::default() };
    for field in Fields::of(message) {
        match field? {
            (1, value) => read_scope(value.bytes()?, &mut scope)?,
            (2, value) => item(value.bytes()?)?,
            (3, value) => scope.schema_url = value.text()?,
            _ => {}
        }
    }
    Ok(scope)
}

fn read_resource<'a>(message: &'a [u8], resource: &mut Resource<'a>) -> Result<(), Malformed> {
    resource.identifying = Attributes::of(message, 1);
    for attribute in messages(message, 1) {
        resource.attributes.push(key_value(attribute?)?);
    }
    Ok(())
}

fn read_scope<'a>(message: &'a [u8], scope: &mut Scope<'a>) -> Result<(), Malformed> {
    scope.attributes = Attributes::of(message, 3);
    for field in Fields::of(message) {
        match field? {
            (1, value) => scope.name = value.text()?,
            (2, value) => scope.version = value.text()?,
            _ => {}
        }
    }
    Ok(())
}

/// Decodes a `KeyValue`; the value is `None` unless it is a string.
fn key_value(message: &[u8]) -> Result<(&str, Option<&str>), Malformed> {
    let mut read = ("", None);
    for field in Fields::of(message) {
        match field? {
            (1, value) => read.0 = value.text()?,
            (2, value) => {
                for field in Fields::of(value.bytes()?) {
                    match field? {
                        (1, value) => read.1 = Some(value.text()?),
                        // Of a `oneof`, the last field that is set counts.
                        (2..=8, _) => read.1 = None,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(read)
}

/// Name of the attribute with the user from the caller's baggage.
const USER: &[u8] = b"user_id";

fn span<'a>(message: &'a [u8], place: Place, spans: &mut Vec<Span<'a>>) -> Result<(), Malformed> {
    let mut span = Span { resource: place.resource, ..Span::default() };
    for field in Fields::of(message) {
        match field? {
            (1, value) => span.trace_id = big_endian(value.bytes()?),
            (2, value) => span.id = big_endian(value.bytes()?) as u64,
            (4, value) => span.parent = big_endian(value.bytes()?) as u64,
            (5, value) => span.name = value.text()?,
            (9, value) => {
                let attribute = value.bytes()?;
                // The key usually comes first, so that most other attributes need not be decoded.
                let other = matches!(Fields::of(attribute).next(), Some(Ok((1, Value::Bytes(key)))) if key != USER);
                if !other && span.user.is_none() {
                    let (key, value) = key_value(attribute)?;
                    span.user = value.filter(|_| key.as_bytes() == USER);
                }
            }
            _ => {}
        }
    }
    spans.push(span);
    Ok(())
}

fn record(message: &[u8], _: Place, records: &mut Vec<u128>) -> Result<(), Malformed> {
    let mut trace_id = 0;
    for field in Fields::of(message) {
        if let (9, value) = field? {
            trace_id = big_endian(value.bytes()?);
        }
    }
    records.push(trace_id);
    Ok(())
}

/// Decodes an id. Ids of the wrong length are cut or padded and then match nothing.
fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}

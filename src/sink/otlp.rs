//! Decodes export requests of the three OTLP 1.x signals. Only the fields that are counted or checked are read; the rest
//! is skipped, so a payload is accepted even if a full parser would find an error in a skipped field.
//!
//! Field numbers: <https://github.com/open-telemetry/opentelemetry-proto>.

use super::protobuf::{Fields, Malformed, Value};
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

/// An export request. Spans refer to their resource by its index in `resources`.
#[derive(Debug)]
pub(super) struct ExportRequest<'a> {
    pub(super) resources: Vec<Resource<'a>>,
    pub(super) items: Items<'a>,
}

/// The items of an export request.
#[derive(Debug)]
pub(super) enum Items<'a> {
    Spans(Vec<Span<'a>>),
    Points(Vec<DataPoint<'a>>),
    /// The trace id of each log record; 0 if it has none.
    Records(Vec<u128>),
}

impl Items<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Spans(spans) => spans.len(),
            Self::Points(points) => points.len(),
            Self::Records(records) => records.len(),
        }
    }
}

/// The sender of a group of items. Attribute values are `None` unless they are strings.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    pub(super) attributes: Vec<(&'a str, Option<&'a str>)>,
}

impl Resource<'_> {
    /// The `service.name` attribute.
    pub(super) fn service(&self) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| *key == "service.name").and_then(|(_, value)| *value)
    }
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

/// A data point of a metric.
#[derive(Debug)]
pub(super) struct DataPoint<'a> {
    /// Name of the metric.
    pub(super) metric: &'a str,
    pub(super) attributes: PointAttributes<'a>,
    /// Start time in nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) total: Total,
}

/// The contribution of a data point to the totals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Total {
    /// The value of a monotonic sum.
    Counter { value: f64, delta: bool },
    /// The count of a histogram.
    Histogram { count: u64, delta: bool },
    /// Not totalled: a gauge, a non-monotonic sum, an exponential histogram or a summary.
    None,
}

/// The attributes of a data point, not yet decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct PointAttributes<'a> {
    point: &'a [u8],
    field: u32,
}

impl<'a> PointAttributes<'a> {
    /// The encoded bytes of each attribute. They are equal for points of one series if the same encoder wrote them.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        Fields::of(self.point).flatten().filter_map(move |(field, value)| match value {
            Value::Bytes(bytes) if field == self.field => Some(bytes),
            _ => None,
        })
    }
}

impl<'a> ExportRequest<'a> {
    /// Decodes an export request.
    pub(super) fn decode(signal: Signal, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut resources = Vec::new();
        let items = match signal {
            Signal::Traces => Items::Spans(items(payload, &mut resources, span)?),
            Signal::Metrics => Items::Points(items(payload, &mut resources, metric)?),
            Signal::Logs => Items::Records(items(payload, &mut resources, record)?),
        };
        Ok(Self { resources, items })
    }
}

/// Decodes the items of a request. All signals are nested alike (request → resource → scope → item), with the same field
/// numbers.
fn items<'a, T>(
    request: &'a [u8],
    resources: &mut Vec<Resource<'a>>,
    mut item: impl FnMut(&'a [u8], usize, &mut Vec<T>) -> Result<(), Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut items = Vec::new();
    for group in messages(request, 1) {
        let group = group?;
        let place = resources.len();
        let mut resource = Resource::default();
        for field in Fields::of(group) {
            match field? {
                (1, value) => read_resource(value.bytes()?, &mut resource)?,
                (2, value) => {
                    for message in messages(value.bytes()?, 2) {
                        item(message?, place, &mut items)?;
                    }
                }
                _ => {}
            }
        }
        resources.push(resource);
    }
    Ok(items)
}

/// The submessages in `field`.
fn messages(message: &[u8], field: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(move |read| match read {
        Ok((number, value)) if number == field => Some(value.bytes()),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

fn read_resource<'a>(message: &'a [u8], resource: &mut Resource<'a>) -> Result<(), Malformed> {
    for attribute in messages(message, 1) {
        resource.attributes.push(key_value(attribute?)?);
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

fn span<'a>(message: &'a [u8], resource: usize, spans: &mut Vec<Span<'a>>) -> Result<(), Malformed> {
    let mut span = Span { resource, ..Span::default() };
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

fn record(message: &[u8], _: usize, records: &mut Vec<u128>) -> Result<(), Malformed> {
    let mut trace_id = 0;
    for field in Fields::of(message) {
        if let (9, value) = field? {
            trace_id = big_endian(value.bytes()?);
        }
    }
    records.push(trace_id);
    Ok(())
}

/// Field numbers of the metric types in `Metric`.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL_HISTOGRAM: u32 = 10;
const SUMMARY: u32 = 11;

fn metric<'a>(message: &'a [u8], _: usize, points: &mut Vec<DataPoint<'a>>) -> Result<(), Malformed> {
    let mut name = "";
    let mut data = None;
    for field in Fields::of(message) {
        match field? {
            (1, value) => name = value.text()?,
            (kind @ (GAUGE | SUM | HISTOGRAM | EXPONENTIAL_HISTOGRAM | SUMMARY), value) => {
                data = Some((kind, value.bytes()?));
            }
            _ => {}
        }
    }
    let Some((kind, data)) = data else { return Ok(()) };
    let (mut delta, mut monotonic) = (false, false);
    for field in Fields::of(data) {
        match (kind, field?) {
            (SUM | HISTOGRAM, (2, value)) => delta = value.varint()? == DELTA,
            (SUM, (3, value)) => monotonic = value.varint()? != 0,
            _ => {}
        }
    }
    for message in messages(data, 1) {
        let message = message?;
        let field = match kind {
            HISTOGRAM => 9,
            EXPONENTIAL_HISTOGRAM => 1,
            _ => 7,
        };
        let attributes = PointAttributes { point: message, field };
        let mut point = DataPoint { metric: name, attributes, start: 0, total: Total::None };
        for field in Fields::of(message) {
            match (kind, field?) {
                (_, (2, value)) => point.start = value.fixed64()?,
                (HISTOGRAM, (4, value)) => point.total = Total::Histogram { count: value.fixed64()?, delta },
                (SUM, (4, value)) if monotonic => {
                    point.total = Total::Counter { value: f64::from_bits(value.fixed64()?), delta };
                }
                (SUM, (6, value)) if monotonic => {
                    point.total = Total::Counter { value: value.fixed64()?.cast_signed() as f64, delta };
                }
                (_, (number, value)) if number == attributes.field => drop(value.bytes()?),
                _ => {}
            }
        }
        points.push(point);
    }
    Ok(())
}

/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;

/// Decodes an id. Ids of the wrong length are cut or padded and then match nothing.
fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}

//! The three signals of OTLP 1.x as the sink reads them: of each message the fields that are counted or checked. The rest
//! is skipped as unread, so a payload that only a full parser would refuse is taken.
//!
//! Field numbers are those of <https://github.com/open-telemetry/opentelemetry-proto>.

use super::protobuf::{Fields, Malformed, Value};
use crate::experiment::fault::Signal;

/// The method that a gRPC exporter of this signal calls.
pub(super) fn grpc_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// Where an HTTP exporter of this signal posts to.
pub(super) fn http_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
        Signal::Logs => "/v1/logs",
    }
}

/// An export request: its items, each with the place of its resource in `resources`.
#[derive(Debug)]
pub(super) struct Export<'a> {
    pub(super) resources: Vec<Resource<'a>>,
    pub(super) items: Items<'a>,
}

/// What an export request carries.
#[derive(Debug)]
pub(super) enum Items<'a> {
    Spans(Vec<Span<'a>>),
    Points(Vec<Point<'a>>),
    /// The trace id of each log record; 0 for none.
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

/// Who sent.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    pub(super) attributes: Vec<(&'a str, Option<&'a str>)>,
}

impl Resource<'_> {
    /// The service that the resource names.
    pub(super) fn service(&self) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| *key == "service.name").and_then(|(_, value)| *value)
    }
}

/// A span, as far as its tree needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span<'a> {
    pub(super) resource: usize,
    pub(super) trace_id: u128,
    pub(super) id: u64,
    pub(super) parent: u64,
    pub(super) name: &'a str,
    /// The user that the service noted.
    pub(super) user: Option<&'a str>,
}

/// A data point.
#[derive(Debug)]
pub(super) struct Point<'a> {
    pub(super) metric: &'a str,
    pub(super) attributes: Attributes<'a>,
    pub(super) start: u64,
    pub(super) total: Total,
}

/// What a data point adds to the totals that are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Total {
    /// A monotonic sum's value.
    Counter { value: f64, delta: bool },
    /// A histogram's count.
    Histogram { count: u64, delta: bool },
    /// Nothing: a gauge, a sum that may fall, a summary.
    None,
}

/// The attributes of a data point, still encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a> {
    point: &'a [u8],
    field: u32,
}

impl<'a> Attributes<'a> {
    /// Each attribute's bytes. Two points of one series have equal ones, if one encoder made them.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        Fields::of(self.point).flatten().filter_map(move |(field, value)| match value {
            Value::Bytes(bytes) if field == self.field => Some(bytes),
            _ => None,
        })
    }
}

impl<'a> Export<'a> {
    /// Reads an export request.
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

/// All signals are nested alike: request → resource → scope → item, with the same field numbers.
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

/// The messages that lie in `field`.
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

/// A key, and its value where that is a text.
fn key_value(message: &[u8]) -> Result<(&str, Option<&str>), Malformed> {
    let mut read = ("", None);
    for field in Fields::of(message) {
        match field? {
            (1, value) => read.0 = value.text()?,
            (2, value) => {
                for field in Fields::of(value.bytes()?) {
                    match field? {
                        (1, value) => read.1 = Some(value.text()?),
                        // The last of the kinds of value that is set is the one.
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

/// The attribute in which a service notes the user that the baggage named.
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
                // The key comes first as a rule, and of all attributes one is read.
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

/// The kinds of metric, by their field in `Metric`.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL_HISTOGRAM: u32 = 10;
const SUMMARY: u32 = 11;

fn metric<'a>(message: &'a [u8], _: usize, points: &mut Vec<Point<'a>>) -> Result<(), Malformed> {
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
        let attributes = Attributes { point: message, field };
        let mut point = Point { metric: name, attributes, start: 0, total: Total::None };
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

/// An id as a number; ids of the wrong length are cut or padded, and then match nothing.
fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}

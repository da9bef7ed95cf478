//! Decodes metrics and their data points.

use super::identity::Attributes;
use super::protobuf::{Fields, Malformed, messages};

/// The metrics of a request, and the points of them all.
#[derive(Debug, Default)]
pub(super) struct Metrics<'a> {
    pub(super) metrics: Vec<Metric<'a>>,
    pub(super) points: Vec<DataPoint<'a>>,
}

/// A metric without its points.
#[derive(Debug)]
pub(super) struct Metric<'a> {
    /// Index of its scope.
    pub(super) scope: usize,
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) kind: MetricKind,
    pub(super) temporality: Temporality,
    pub(super) is_monotonic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum MetricKind {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// The time that a value covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Temporality {
    /// Not said, or an instant.
    Unspecified,
    /// Since the point before.
    Delta,
    /// Since the start time.
    Cumulative,
}

/// A data point of a metric.
#[derive(Debug)]
pub(super) struct DataPoint<'a> {
    /// Index of its metric.
    pub(super) metric: usize,
    pub(super) attributes: Attributes<'a>,
    /// Start and end of what it covers, in nanoseconds since 1970; 0 where unknown.
    pub(super) start: u64,
    pub(super) time: u64,
    /// The number, or of a histogram or summary the count. `None` if its flags say that there is none.
    pub(super) value: Option<Number>,
}

/// A number as OTLP has them. Whole numbers stay exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    fn count(count: u64) -> Self {
        i64::try_from(count).map_or(Self::Double(count as f64), Self::Int)
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Double(x) => x,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let sum = match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.checked_add(b).map(Self::Int),
            _ => None,
        };
        sum.unwrap_or(Self::Double(self.as_f64() + other.as_f64()))
    }

    pub(super) fn is_below(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a < b,
            _ => self.as_f64() < other.as_f64(),
        }
    }
}

/// `AGGREGATION_TEMPORALITY_*`.
fn temporality(number: u64) -> Temporality {
    match number {
        1 => Temporality::Delta,
        2 => Temporality::Cumulative,
        _ => Temporality::Unspecified,
    }
}

/// Decodes a metric of the scope with this index.
pub(super) fn metric<'a>(message: &'a [u8], scope: usize, read: &mut Metrics<'a>) -> Result<(), Malformed> {
    let (mut name, mut unit) = ("", "");
    let mut data = None;
    for field in Fields::of(message) {
        let (field, value) = field?;
        let kind = match field {
            1 => {
                name = value.text()?;
                continue;
            }
            3 => {
                unit = value.text()?;
                continue;
            }
            5 => MetricKind::Gauge,
            7 => MetricKind::Sum,
            9 => MetricKind::Histogram,
            10 => MetricKind::ExponentialHistogram,
            11 => MetricKind::Summary,
            _ => continue,
        };
        data = Some((kind, value.bytes()?));
    }
    let Some((kind, data)) = data else { return Ok(()) };
    let mut metric = Metric { scope, name, unit, kind, temporality: Temporality::Unspecified, is_monotonic: false };
    for field in Fields::of(data) {
        match (kind, field?) {
            (MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram, (2, value)) => {
                metric.temporality = temporality(value.varint()?);
            }
            (MetricKind::Sum, (3, value)) => metric.is_monotonic = value.varint()? != 0,
            _ => {}
        }
    }
    if kind == MetricKind::Summary {
        metric.temporality = Temporality::Cumulative;
    }
    let place = read.metrics.len();
    read.metrics.push(metric);
    for message in messages(data, 1) {
        read.points.push(point(message?, place, kind)?);
    }
    Ok(())
}

/// The flag of a point that its series has ended, or was not seen.
const NO_RECORDED_VALUE: u64 = 1;

fn point(message: &[u8], metric: usize, kind: MetricKind) -> Result<DataPoint<'_>, Malformed> {
    use MetricKind::{ExponentialHistogram, Gauge, Histogram, Sum, Summary};
    let (attributes, flags) = match kind {
        Gauge | Sum | Summary => (7, 8),
        Histogram => (9, 10),
        ExponentialHistogram => (1, 10),
    };
    // A count of 0 is not written.
    let value = matches!(kind, Histogram | ExponentialHistogram | Summary).then_some(Number::Int(0));
    let mut point = DataPoint { metric, attributes: Attributes::of(message, attributes), start: 0, time: 0, value };
    let mut is_recorded = true;
    for field in Fields::of(message) {
        match (kind, field?) {
            (_, (2, value)) => point.start = value.fixed64()?,
            (_, (3, value)) => point.time = value.fixed64()?,
            (Gauge | Sum, (4, value)) => point.value = Some(Number::Double(f64::from_bits(value.fixed64()?))),
            (_, (4, value)) => point.value = Some(Number::count(value.fixed64()?)),
            (Gauge | Sum, (6, value)) => point.value = Some(Number::Int(value.fixed64()?.cast_signed())),
            (_, (field, value)) if field == attributes => drop(value.bytes()?),
            (_, (field, value)) if field == flags => is_recorded = value.varint()? & NO_RECORDED_VALUE == 0,
            _ => {}
        }
    }
    point.value = point.value.filter(|_| is_recorded);
    Ok(point)
}

//! Counts metric series and adds up their totals.
//!
//! What a series is says the data model of OpenTelemetry: points with the same resource, scope, name, unit, kind,
//! temporality and attributes. A total is never guessed: where points are left out, or contradict each other, it is unknown,
//! with the reason.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::otlp::ExportRequest;
use super::points::{DataPoint, Metric, MetricKind, Metrics, Number, Temporality};
use super::{LONGEST_NAME, MOST_NAMES, MOST_SERIES};
use crate::experiment::units::grouped;
use crate::record::received::ReceivedMetrics;

/// The metric series received so far.
#[derive(Debug)]
pub(super) struct SeriesTally {
    bounds: Bounds,
    points: u64,
    /// Hashes of the series.
    series: HashSet<u64>,
    /// By a hash of the series, and where it is cumulative also of its start time: each process, also a restarted one, has
    /// its own total.
    runs: HashMap<u64, Run>,
    totals: Vec<Total>,
    /// Indices of the totals, by a hash of their kind, name and unit.
    places: HashMap<u64, usize>,
    /// Points of series that are not counted, and of metrics whose total has no room.
    beyond_series: u64,
    beyond_names: u64,
    /// Has random keys, so that no sender can provoke hash collisions.
    hasher: RandomState,
}

/// Limits of what is held: series, and as many totals of them; names of metrics.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    series: usize,
    names: usize,
}

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TotalKind {
    Counter,
    Histogram,
    Summary,
}

/// The total of a metric, over its runs.
#[derive(Debug)]
struct Total {
    kind: TotalKind,
    name: String,
    unit: String,
    /// Points by why they are not, or not surely, in the total.
    doubts: [u64; Doubt::ALL.len()],
}

/// Why a point is not, or not surely, in a total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    Beyond,
    NoTemporality,
    NotANumber,
    Contradicts,
}

/// The total of a series since one start.
#[derive(Debug)]
struct Run {
    /// Index of the total that it belongs to.
    total: usize,
    /// The newest point's time.
    time: u64,
    /// That point's value.
    last: Number,
    sum: Number,
}

/// The sum of any number of numbers, the same in any order of them.
#[derive(Clone, Debug, Default)]
struct Sum {
    ints: i128,
    doubles: Vec<f64>,
}

impl Sum {
    fn add(&mut self, number: Number) {
        match number {
            Number::Int(n) => self.ints += i128::from(n),
            Number::Double(x) => self.doubles.push(x),
        }
    }

    fn as_f64(&self) -> f64 {
        let mut doubles = self.doubles.clone();
        doubles.sort_unstable_by(f64::total_cmp);
        doubles.iter().fold(0.0, |sum, x| sum + x) + self.ints as f64
    }

    fn as_count(&self) -> u64 {
        if self.doubles.is_empty() { u64::try_from(self.ints.max(0)).unwrap_or(u64::MAX) } else { self.as_f64() as u64 }
    }
}

/// What the points of a metric have in common.
#[derive(Clone, Copy, Debug)]
struct Stream {
    identity: u64,
    temporality: Temporality,
    total: Place,
}

/// Where a value is added up.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the total with this index.
    Total(usize),
    /// Nowhere: what goes up and down has no total.
    Nowhere,
    /// Nowhere, as there is no room for the metric's name.
    NoRoom,
}

impl Doubt {
    const ALL: [Self; 4] = [Self::Beyond, Self::NoTemporality, Self::NotANumber, Self::Contradicts];

    fn sentence(self, points: u64, bounds: Bounds) -> String {
        let points = if points == 1 { "1 point".into() } else { format!("{} points", grouped(points)) };
        match self {
            Self::Beyond => {
                format!("{points} came beyond the {} series whose totals are kept", grouped(bounds.series as u64))
            }
            Self::NoTemporality => format!("{points} did not say whether they are delta or cumulative"),
            Self::NotANumber => format!("{points} had a value that is no finite number"),
            Self::Contradicts => format!(
                "{points} contradicted another of the same series: two senders share an identity, or a counter fell without \
                 a new start time"
            ),
        }
    }
}

impl Run {
    fn new(total: usize, point: &DataPoint<'_>, value: Number) -> Self {
        Self { total, time: point.time, last: value, sum: value }
    }

    /// Takes a later point. Returns whether it fits the points before.
    fn take(&mut self, point: &DataPoint<'_>, value: Number, temporality: Temporality) -> bool {
        // An exporter that got no answer sends a point once more.
        let again = point.time == self.time && point.time != 0;
        let fits = match temporality {
            Temporality::Delta if again && value == self.last => return true,
            Temporality::Delta => {
                self.sum = self.sum.plus(value);
                !again
            }
            _ if point.time < self.time => return true,
            _ => {
                let before = std::mem::replace(&mut self.sum, value);
                !(value.is_below(before) || again && value != before)
            }
        };
        (self.time, self.last) = (self.time.max(point.time), value);
        fits
    }
}

impl Default for SeriesTally {
    fn default() -> Self {
        Self::bounded(Bounds { series: MOST_SERIES, names: MOST_NAMES })
    }
}

impl SeriesTally {
    fn bounded(bounds: Bounds) -> Self {
        Self {
            bounds,
            points: 0,
            series: HashSet::new(),
            runs: HashMap::new(),
            totals: Vec::new(),
            places: HashMap::new(),
            beyond_series: 0,
            beyond_names: 0,
            hasher: RandomState::new(),
        }
    }

    /// Adds the first `accepted` points of a request.
    pub(super) fn add(&mut self, export: &ExportRequest<'_>, metrics: &Metrics<'_>, accepted: usize) {
        let hasher = &self.hasher;
        // Once for each request: a large resource may have any number of metrics.
        let resources: Vec<u64> = export.resources.iter().map(|sent| sent.identifying.identity(hasher)).collect();
        let scopes = export.scopes.iter().map(|scope| {
            let attributes = scope.attributes.identity(hasher);
            hasher.hash_one((resources[scope.resource], scope.name, scope.version, scope.schema_url, attributes))
        });
        let scopes: Vec<u64> = scopes.collect();
        let mut stream = None;
        for point in &metrics.points[..accepted] {
            let stream = match stream {
                Some((metric, stream)) if metric == point.metric => stream,
                _ => {
                    let metric = &metrics.metrics[point.metric];
                    let found = self.stream(metric, scopes[metric.scope]);
                    stream = Some((point.metric, found));
                    found
                }
            };
            self.point(point, stream);
        }
    }

    fn stream(&mut self, metric: &Metric<'_>, scope: u64) -> Stream {
        let Metric { name, unit, kind, temporality, is_monotonic, .. } = *metric;
        let identity = self.hasher.hash_one((scope, name, unit, kind, temporality, is_monotonic));
        let total = match kind {
            MetricKind::Sum if is_monotonic => self.place(TotalKind::Counter, name, unit),
            // Counts have no unit.
            MetricKind::Histogram | MetricKind::ExponentialHistogram => self.place(TotalKind::Histogram, name, ""),
            MetricKind::Summary => self.place(TotalKind::Summary, name, ""),
            MetricKind::Gauge | MetricKind::Sum => Place::Nowhere,
        };
        Stream { identity, temporality, total }
    }

    fn place(&mut self, kind: TotalKind, name: &str, unit: &str) -> Place {
        let next = self.totals.len();
        match self.places.entry(self.hasher.hash_one((kind, name, unit))) {
            Entry::Occupied(place) => Place::Total(*place.get()),
            Entry::Vacant(place) if next < self.bounds.names && name.len().max(unit.len()) <= LONGEST_NAME => {
                place.insert(next);
                let (name, unit) = (name.to_owned(), unit.to_owned());
                self.totals.push(Total { kind, name, unit, doubts: [0; Doubt::ALL.len()] });
                Place::Total(next)
            }
            Entry::Vacant(_) => Place::NoRoom,
        }
    }

    fn point(&mut self, point: &DataPoint<'_>, stream: Stream) {
        self.points += 1;
        let series = self.hasher.hash_one((stream.identity, point.attributes.identity(&self.hasher)));
        if self.series.len() < self.bounds.series {
            self.series.insert(series);
        } else if !self.series.contains(&series) {
            self.beyond_series += 1;
        }
        match (stream.total, point.value) {
            (Place::Total(total), Some(value)) => {
                if let Err(doubt) = self.add_up(series, total, point, value, stream.temporality) {
                    self.totals[total].doubts[doubt as usize] += 1;
                }
            }
            (Place::NoRoom, Some(_)) => self.beyond_names += 1,
            (Place::Nowhere, _) | (_, None) => {}
        }
    }

    fn add_up(
        &mut self,
        series: u64,
        total: usize,
        point: &DataPoint<'_>,
        value: Number,
        temporality: Temporality,
    ) -> Result<(), Doubt> {
        let run = match temporality {
            Temporality::Unspecified => return Err(Doubt::NoTemporality),
            Temporality::Delta => series,
            Temporality::Cumulative => self.hasher.hash_one((series, point.start)),
        };
        if !value.as_f64().is_finite() {
            return Err(Doubt::NotANumber);
        }
        let known = self.runs.len();
        match self.runs.entry(run) {
            Entry::Occupied(run) => {
                run.into_mut().take(point, value, temporality).then_some(()).ok_or(Doubt::Contradicts)
            }
            Entry::Vacant(_) if known >= self.bounds.series => Err(Doubt::Beyond),
            Entry::Vacant(run) => {
                run.insert(Run::new(total, point, value));
                Ok(())
            }
        }
    }

    /// The counts so far.
    pub(super) fn report(&self) -> ReceivedMetrics {
        let mut report =
            ReceivedMetrics { points: self.points, series: self.series.len() as u64, ..ReceivedMetrics::default() };
        let mut units = HashMap::<(TotalKind, &str), u32>::new();
        for total in &self.totals {
            *units.entry((total.kind, &total.name)).or_default() += 1;
        }
        for (total, sum) in self.totals.iter().zip(self.sums()) {
            // What is measured in two units cannot be added up.
            let is_alone = units[&(total.kind, total.name.as_str())] == 1;
            let name = if is_alone { total.name.clone() } else { format!("{} [{}]", total.name, total.unit) };
            let doubts = Doubt::ALL.into_iter().zip(total.doubts).filter(|(_, points)| *points > 0);
            let mut why: Vec<String> = doubts.map(|(doubt, points)| doubt.sentence(points, self.bounds)).collect();
            if sum.as_ref().is_some_and(|sum| !sum.as_f64().is_finite()) {
                why.push("it is too large for a number".into());
            }
            match (sum, total.kind) {
                _ if !why.is_empty() => drop(report.unknown_totals.insert(name, why.join("; "))),
                (None, _) => {}
                (Some(sum), TotalKind::Counter) => drop(report.counters.insert(name, sum.as_f64())),
                (Some(sum), TotalKind::Histogram) => drop(report.histogram_counts.insert(name, sum.as_count())),
                (Some(sum), TotalKind::Summary) => drop(report.summary_counts.insert(name, sum.as_count())),
            }
        }
        report
    }

    /// The sum of each total; `None` where no value came.
    fn sums(&self) -> Vec<Option<Sum>> {
        let mut sums = vec![None; self.totals.len()];
        for run in self.runs.values() {
            sums[run.total].get_or_insert_with(Sum::default).add(run.sum);
        }
        sums
    }

    /// What is missing in the counts because there was no room for it, in words.
    pub(super) fn exceeded(&self) -> Vec<String> {
        let series = format!("points of series beyond the {} that are counted", grouped(self.bounds.series as u64));
        let names = format!(
            "points of metrics beyond the {} that have a total, or with names of more than {LONGEST_NAME} bytes",
            grouped(self.bounds.names as u64)
        );
        [(self.beyond_series, series), (self.beyond_names, names)]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{what}: {}", grouped(n)))
            .collect()
    }
}

#[cfg(test)]
mod tests;

//! Counts what one receiver received: distinct spans, data points, counters and log records.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use memchr::memmem;

use super::otlp::{DataPoint, ExportRequest, Items, Resource, Total};
use super::protobuf::Malformed;
use super::trees::{TreeShape, Trees};
use crate::experiment::fault::Signal;
use crate::record::received::{Received, ReceivedLogs, ReceivedMetrics, UNNAMED};

/// Maximum number of series, of totals, and of traces known only from log records. Further ones are not counted.
const MOST_SERIES: usize = 1 << 20;
/// Maximum number of metric names, of service names and of resource attributes. Further ones are left out.
const MOST_NAMES: usize = 1 << 12;
/// Longest name or attribute, in bytes; longer ones are cut.
const LONGEST_NAME: usize = 1 << 10;

/// The counts of one receiver so far.
#[derive(Debug)]
pub struct ReceivedTally {
    trees: Trees,
    forbidden: Vec<(memmem::Finder<'static>, String, u64)>,
    services: BTreeMap<String, u64>,
    exports: u64,
    requests_refused: u64,
    refused_connections: u64,
    last_refused_connection: Option<String>,
    resource: BTreeMap<String, String>,
    points: u64,
    /// Hashes of the series, over the name of the metric and the attributes.
    series: HashSet<u64>,
    /// Totals by metric, and within it by the hash of series and start time: each process, also a restarted one, has its own
    /// total.
    counters: HashMap<String, HashMap<u64, f64>>,
    histograms: HashMap<String, HashMap<u64, u64>>,
    totals: usize,
    /// Has random keys, so that no sender can provoke hash collisions.
    hasher: RandomState,
    logs: ReceivedLogs,
    /// Log records by trace ids of which no span has arrived yet, and the order of these ids.
    waiting: HashMap<u128, u64>,
    waiting_order: VecDeque<u128>,
    /// Spans acknowledged so far.
    acknowledged: u64,
    /// Number of the span that is acknowledged but not counted.
    lost_span: Option<u64>,
}

impl ReceivedTally {
    /// No counts yet. Trees are checked against `shape`, and payloads are searched for each `forbidden` text.
    pub fn new(shape: TreeShape, forbidden: &[String]) -> Self {
        let finder = |text: &String| (memmem::Finder::new(text.as_bytes()).into_owned(), text.clone(), 0);
        Self {
            trees: Trees::new(shape),
            forbidden: forbidden.iter().map(finder).collect(),
            services: BTreeMap::new(),
            exports: 0,
            requests_refused: 0,
            refused_connections: 0,
            last_refused_connection: None,
            resource: BTreeMap::new(),
            points: 0,
            series: HashSet::new(),
            counters: HashMap::new(),
            histograms: HashMap::new(),
            totals: 0,
            hasher: RandomState::new(),
            logs: ReceivedLogs::default(),
            waiting: HashMap::new(),
            waiting_order: VecDeque::new(),
            acknowledged: 0,
            lost_span: None,
        }
    }

    /// Does not count the span with this number, from 1.
    #[must_use]
    pub fn losing(self, lost_span: Option<u64>) -> Self {
        Self { lost_span, ..self }
    }

    /// Searches a payload for the forbidden texts.
    pub fn search(&mut self, payload: &[u8]) {
        for (finder, _, found) in &mut self.forbidden {
            *found += u64::from(finder.find(payload).is_some());
        }
    }

    /// Counts an export request, except for its last items that are rejected. `rejected` maps the number of items to the number
    /// that is rejected. Returns that number.
    ///
    /// # Errors
    /// If the payload is not an export request of this signal. Nothing of it is counted then.
    pub fn add(&mut self, signal: Signal, payload: &[u8], rejected: impl FnOnce(u64) -> u64) -> Result<u64, Malformed> {
        let export = ExportRequest::decode(signal, payload)?;
        let items = export.items.len();
        let rejected = rejected(items as u64).min(items as u64);
        let accepted = items - rejected as usize;
        self.exports += 1;
        for resource in &export.resources {
            self.sender(resource);
        }
        match &export.items {
            Items::Spans(spans) => {
                let mut of_resource = (usize::MAX, 0);
                for span in &spans[..accepted] {
                    self.acknowledged += 1;
                    if self.lost_span == Some(self.acknowledged) {
                        continue;
                    }
                    let service = export.resources[span.resource].service();
                    let before = self.trees.distinct();
                    if self.trees.add(span, service)
                        && !self.waiting.is_empty()
                        && let Some(records) = self.waiting.remove(&span.trace_id)
                    {
                        self.logs.in_known_traces += records;
                    }
                    if of_resource.0 != span.resource {
                        self.count_service(&export.resources, of_resource);
                        of_resource = (span.resource, 0);
                    }
                    of_resource.1 += self.trees.distinct() - before;
                }
                self.count_service(&export.resources, of_resource);
            }
            Items::Points(points) => {
                for point in &points[..accepted] {
                    self.point(point);
                }
            }
            Items::Records(records) => {
                for trace_id in &records[..accepted] {
                    self.record(*trace_id);
                }
            }
        }
        Ok(rejected)
    }

    /// Adds spans to the service of the resource with index `place`.
    fn count_service(&mut self, resources: &[Resource<'_>], (place, spans): (usize, u64)) {
        let Some(resource) = resources.get(place) else { return };
        let name = cut(resource.service().unwrap_or(UNNAMED));
        if let Some(count) = self.services.get_mut(name) {
            *count += spans;
        } else if self.services.len() < MOST_NAMES && spans > 0 {
            self.services.insert(name.to_owned(), spans);
        }
    }

    fn point(&mut self, point: &DataPoint<'_>) {
        self.points += 1;
        let metric = cut(point.metric);
        // Added up, so that the order of the attributes does not matter.
        let attributes = point.attributes.iter().map(|attribute| self.hasher.hash_one(attribute));
        let series = attributes.fold(self.hasher.hash_one(metric), u64::wrapping_add);
        if self.series.len() < MOST_SERIES {
            self.series.insert(series);
        }
        let run = self.hasher.hash_one((series, point.start));
        let room = self.totals < MOST_SERIES;
        let added = match point.total {
            Total::Counter { value, delta } => {
                add_total(&mut self.counters, room, metric, run, |total| if delta { total + value } else { value })
            }
            Total::Histogram { count, delta } => add_total(&mut self.histograms, room, metric, run, |total: u64| {
                if delta { total.saturating_add(count) } else { count }
            }),
            Total::None => false,
        };
        self.totals += usize::from(added);
    }

    fn record(&mut self, trace_id: u128) {
        self.logs.records += 1;
        if trace_id == 0 {
            return;
        }
        if self.trees.knows(trace_id) {
            self.logs.in_known_traces += 1;
            return;
        }
        *self.waiting.entry(trace_id).or_insert_with(|| {
            self.waiting_order.push_back(trace_id);
            0
        }) += 1;
        // Some entries of the queue may have got their spans since; the bound holds for both all the same.
        if self.waiting_order.len() > MOST_SERIES
            && let Some(oldest) = self.waiting_order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
    }

    fn sender(&mut self, resource: &Resource<'_>) {
        for (key, value) in &resource.attributes {
            let value = cut(value.unwrap_or("(not a string)"));
            let known = self.resource.get(*key).map(String::as_str);
            if known != Some(value) && (known.is_some() || self.resource.len() < MOST_NAMES) {
                self.resource.insert(cut(key).to_owned(), value.to_owned());
            }
        }
    }

    /// Counts a request that was refused.
    pub(super) fn refuse_request(&mut self) {
        self.requests_refused += 1;
    }

    /// Counts a connection that was refused.
    pub(super) fn refuse_connection(&mut self, reason: String) {
        self.refused_connections += 1;
        self.last_refused_connection = Some(reason);
    }

    /// Everything received so far. `wire_bytes` are counted elsewhere.
    pub fn received(&self, wire_bytes: u64) -> Received {
        Received {
            spans: self.trees.distinct(),
            duplicated: self.trees.duplicated(),
            trees: self.trees.report(),
            services: self.services.clone(),
            metrics: ReceivedMetrics {
                points: self.points,
                series: self.series.len() as u64,
                counters: self.counters.iter().map(|(name, totals)| (name.clone(), totals.values().sum())).collect(),
                histogram_counts: self
                    .histograms
                    .iter()
                    .map(|(name, totals)| (name.clone(), totals.values().fold(0, |sum, n| n.saturating_add(sum))))
                    .collect(),
            },
            logs: self.logs.clone(),
            exports: self.exports,
            requests_refused: self.requests_refused,
            refused_connections: self.refused_connections,
            last_refused_connection: self.last_refused_connection.clone(),
            leaked: self.forbidden.iter().map(|(_, text, found)| (text.clone(), *found)).collect(),
            wire_bytes,
            resource: self.resource.clone(),
        }
    }
}

/// Updates the total of one run of a series, or starts a new total if there is room. Returns whether it is new.
fn add_total<T: Copy + Default>(
    metrics: &mut HashMap<String, HashMap<u64, T>>,
    room: bool,
    metric: &str,
    run: u64,
    update: impl FnOnce(T) -> T,
) -> bool {
    if !metrics.contains_key(metric) {
        if metrics.len() >= MOST_NAMES {
            return false;
        }
        metrics.insert(metric.to_owned(), HashMap::new());
    }
    let Some(totals) = metrics.get_mut(metric) else { return false };
    if let Some(total) = totals.get_mut(&run) {
        *total = update(*total);
        return false;
    }
    if room {
        totals.insert(run, update(T::default()));
    }
    room
}

/// Cuts a text to [`LONGEST_NAME`].
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_NAME)]
}

/// Number of items in an export request.
///
/// # Errors
/// If the payload is not an export request of this signal.
pub fn items(signal: Signal, payload: &[u8]) -> Result<u64, Malformed> {
    Ok(ExportRequest::decode(signal, payload)?.items.len() as u64)
}

#[cfg(test)]
mod tests;

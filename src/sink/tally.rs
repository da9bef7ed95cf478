//! Counts what one receiver received: distinct spans, data points, counters and log records.

use std::collections::{BTreeMap, HashMap, VecDeque};

use memchr::memmem;

use super::otlp::{ExportRequest, Items, Resource};
use super::protobuf::Malformed;
use super::series::SeriesTally;
use super::trees::{TreeShape, Trees};
use super::{LONGEST_NAME, MOST_NAMES, MOST_SERIES};
use crate::experiment::fault::Signal;
use crate::experiment::units::grouped;
use crate::record::received::{Received, ReceivedLogs, UNNAMED};

/// The counts of one receiver so far.
#[derive(Debug)]
pub struct ReceivedTally {
    trees: Trees,
    forbidden: Vec<(memmem::Finder<'static>, String, u64)>,
    services: BTreeMap<String, u64>,
    /// Spans of further services.
    unlisted_spans: u64,
    exports: u64,
    requests_refused: u64,
    refused_connections: u64,
    last_refused_connection: Option<String>,
    resource: BTreeMap<String, String>,
    metrics: SeriesTally,
    logs: ReceivedLogs,
    /// Log records by trace ids of which no span has arrived yet, and the order of these ids.
    waiting: HashMap<u128, u64>,
    waiting_order: VecDeque<u128>,
    /// Maximum number of these ids.
    most_waiting: usize,
    /// Log records that no longer wait, for want of room.
    forgotten_records: u64,
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
            unlisted_spans: 0,
            exports: 0,
            requests_refused: 0,
            refused_connections: 0,
            last_refused_connection: None,
            resource: BTreeMap::new(),
            metrics: SeriesTally::default(),
            logs: ReceivedLogs::default(),
            waiting: HashMap::new(),
            waiting_order: VecDeque::new(),
            most_waiting: MOST_SERIES,
            forgotten_records: 0,
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
            Items::Metrics(metrics) => self.metrics.add(&export, metrics, accepted),
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
        let name = resource.service().unwrap_or(UNNAMED);
        if let Some(count) = self.services.get_mut(name) {
            *count += spans;
        } else if self.services.len() >= MOST_NAMES || name.len() > LONGEST_NAME {
            self.unlisted_spans += spans;
        } else if spans > 0 {
            self.services.insert(name.to_owned(), spans);
        }
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
        if self.waiting_order.len() > self.most_waiting
            && let Some(oldest) = self.waiting_order.pop_front()
        {
            self.forgotten_records += self.waiting.remove(&oldest).unwrap_or(0);
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
            metrics: self.metrics.report(),
            logs: self.logs.clone(),
            exports: self.exports,
            requests_refused: self.requests_refused,
            refused_connections: self.refused_connections,
            last_refused_connection: self.last_refused_connection.clone(),
            leaked: self.forbidden.iter().map(|(_, text, found)| (text.clone(), *found)).collect(),
            wire_bytes,
            resource: self.resource.clone(),
            exceeded: self.exceeded(),
        }
    }

    /// What is missing in the counts because there was no room for it, in words.
    fn exceeded(&self) -> Vec<String> {
        let (names, traces) = (grouped(MOST_NAMES as u64), grouped(self.most_waiting as u64));
        let services = format!("spans of services beyond {names}, or with names of more than {LONGEST_NAME} bytes");
        let records = format!("log records that wait for a span of their trace, beyond {traces} traces");
        let own = [(self.unlisted_spans, services), (self.forgotten_records, records)];
        let own = own.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what}: {}", grouped(n)));
        own.chain(self.metrics.exceeded()).collect()
    }
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

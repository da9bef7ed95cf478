//! The telemetry that one receiver received, as stored: spans and their trees, metrics, log records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name in [`Received::services`] of a service without a name.
pub const UNNAMED: &str = "(unnamed)";

/// The telemetry that one receiver acknowledged. A request that was refused, or got no response, counts only where a field
/// says so.
///
/// Memory stays bounded however much comes: beyond about a million series, and beyond some thousands of names of metrics
/// and services, further ones are not counted, and [`Received::doubts`] says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Received {
    /// Distinct spans.
    pub spans: u64,
    /// Spans that came once more.
    pub duplicated: u64,
    /// How the trace trees looked.
    pub trees: TreeReport,
    /// Distinct spans by the `service.name` of their resource.
    #[serde(default)]
    pub services: BTreeMap<String, u64>,
    /// Metrics.
    pub metrics: ReceivedMetrics,
    /// Log records.
    #[serde(default)]
    pub logs: ReceivedLogs,
    /// Export requests, of all signals.
    pub exports: u64,
    /// Requests refused because of what they were: malformed, too large, of a wrong type.
    #[serde(default)]
    pub requests_refused: u64,
    /// Connections refused: no TLS or no acceptable certificate where it is asked for, TLS where it is not, garbage, one
    /// too many, or silence.
    #[serde(default)]
    pub refused_connections: u64,
    /// Why the last of them was refused; null while none was.
    #[serde(default)]
    pub last_refused_connection: Option<String>,
    /// Payloads that held each forbidden text, decompressed, of every signal, acknowledged or not.
    #[serde(default)]
    pub leaked: BTreeMap<String, u64>,
    /// Bytes read from the connections: headers and framing included, and encrypted where TLS is used.
    pub wire_bytes: u64,
    /// The attributes of the resource that sent last.
    pub resource: BTreeMap<String, String>,
    /// What is missing in the counts because the receiver had no room for it, in words; empty when nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceeded: Vec<String>,
}

impl Received {
    /// What makes the counts incomplete or unknown, in words; empty when they are what was sent.
    pub fn doubts(&self) -> Vec<String> {
        let unknown = self.metrics.unknown_totals.iter();
        let unknown = unknown.map(|(name, why)| format!("the total of {name} is not known: {why}"));
        let exceeded = self.exceeded.iter().map(|what| format!("there was no room for {what}"));
        unknown.chain(exceeded).collect()
    }
}

/// The metrics that one receiver received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReceivedMetrics {
    /// Data points of any kind, over all exports.
    pub points: u64,
    /// Series seen, as OpenTelemetry's data model tells them apart: by resource, scope, name, unit, kind, temporality and
    /// attributes.
    pub series: u64,
    /// The total of every monotonic sum, over its series and their restarts. Where a name comes with several units, each
    /// has its own, as `name [unit]`.
    pub counters: BTreeMap<String, f64>,
    /// The count of every histogram, also exponential ones, over its series and their restarts.
    pub histogram_counts: BTreeMap<String, u64>,
    /// The count of every summary; likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub summary_counts: BTreeMap<String, u64>,
    /// Why a total is in none of the above although points came, by the name of the metric.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown_totals: BTreeMap<String, String>,
}

/// The log records that one receiver received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReceivedLogs {
    /// Log records.
    pub records: u64,
    /// Those that carry the trace id of a trace of which a span came too, before or after.
    pub in_known_traces: u64,
}

/// How the traces of one receiver looked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TreeReport {
    /// Distinct trace ids.
    pub traces: u64,
    /// Whole, and as they should be.
    pub right: u64,
    /// Lacking a span.
    pub incomplete: u64,
    /// With a span under the wrong parent, one too many, one from another service, or one of an unknown name.
    pub misshapen: u64,
    /// Whose id or root's parent is not the caller's.
    pub foreign: u64,
    /// Whose payment does not name the caller's user.
    pub without_baggage: u64,
    /// One that is wrong, in words; null when all are right.
    pub example: Option<String>,
}

impl TreeReport {
    /// Traces that are not as they should be.
    pub fn wrong(&self) -> u64 {
        self.traces - self.right
    }
}

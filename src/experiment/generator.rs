//! How the load generator is set up: its settings, and how many threads a rate takes. What plays the load is
//! [`crate::generator`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::experiment::payload::Payload;
use crate::experiment::request_header::RequestHeader;
use crate::experiment::units::Rate;

/// Requests per second that one shard sends on time: about a third of its maximum, because a saturated thread cannot start
/// an arrival when it is due.
const SHARD_RATE: f64 = 50_000.0;

/// Settings of the generator of a lane, the same from the scenario that is stored to the lane that runs it.
///
/// A field that is added here reaches scenario, lane protocol and generator at once. Give it a default and leave it out of
/// what is written where it has that: documents and lanes of earlier builds do not know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GeneratorSettings {
    /// Content of the requests.
    #[serde(default)]
    pub payload: Payload,
    /// Headers of every request, beside those that the generator writes itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub request_headers: Vec<RequestHeader>,
    /// How the generator waits for the next arrival.
    pub pacing: Pacing,
    /// Keep-alive connections.
    pub connections: usize,
    /// Threads of the generator, which share them.
    #[serde(default = "one_shard")]
    pub shards: usize,
    /// Longest time from writing a request to the end of its answer.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub timeout: Duration,
}

impl Default for GeneratorSettings {
    fn default() -> Self {
        Self {
            payload: Payload::default(),
            request_headers: Vec::new(),
            pacing: Pacing::default().resolved(),
            connections: 16,
            shards: one_shard(),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Documents from before there were several have been measured with one.
fn one_shard() -> usize {
    1
}

/// How the generator waits for the next arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Pacing {
    /// Chosen for this machine: `timer`.
    #[default]
    Auto,
    /// Sleep on a kernel timer with nanosecond resolution.
    Timer,
    /// Busy-wait: exact, and takes a whole core.
    Spin,
    /// Sleep on Tokio's timer, in steps of 1 ms: requests arrive in clumps, and the service looks cheaper than it is.
    Coarse,
}

impl Pacing {
    /// Replaces `auto` with the choice for this machine.
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            Self::Auto => Self::Timer,
            chosen => chosen,
        }
    }
}

/// Number of shards for a peak rate of `peak`, or for the maximum rate if that is `None`, on a machine with `cores` cores:
/// one per 50 000 requests per second, on at most half of the cores, which leaves the other half to the service.
pub fn shards(peak: Option<Rate>, cores: usize) -> usize {
    let most = (cores / 2).max(1);
    // In range: a rate is at most ten million.
    peak.map_or(most, |peak| ((peak.as_f64() / SHARD_RATE).ceil() as usize).clamp(1, most))
}

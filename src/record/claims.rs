//! Claims put to the test, and the evidence for them, as stored in a result document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::isolated::Isolated;
use crate::record::probes::ProbeFinding;
use crate::record::records::Records;

/// Everything that was measured for the claims beside the main run; stored, so that the claims can be judged again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ClaimEvidence {
    /// Telemetry calls in isolation; null where none was measured.
    pub isolated: Option<Isolated>,
    /// Short runs of other scenarios, by name.
    #[serde(rename = "trials")]
    pub scenarios: BTreeMap<String, Records>,
    /// Clients that tried a receiver which asks for certificates.
    #[serde(rename = "encounters")]
    pub tls_attempts: Vec<TlsAttempt>,
    /// Findings of probes.
    pub findings: Vec<ProbeFinding>,
    /// Why other probes could not be carried out, by their names.
    pub unprobed: BTreeMap<String, String>,
    /// Everything else that could not be measured, and why.
    pub missing: Vec<String>,
}

/// A client at a receiver that accepts only certificates of its authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TlsAttempt {
    /// The certificate that the client shows, in words.
    pub shows: String,
    /// Whether the receiver must refuse it.
    #[serde(rename = "stranger")]
    pub unauthorised: bool,
    /// Spans that it ended.
    pub ended: u64,
    /// Spans that the receiver accepted.
    pub received: u64,
    /// Connections that the receiver refused.
    pub refused_connections: u64,
    /// Why it refused the last of them; null where it refused none.
    pub refused_connection: Option<String>,
}

/// Whether a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ClaimVerdict {
    /// The claim holds.
    Confirmed,
    /// It does not hold.
    Refuted,
    /// The data cannot decide, or the claim can be read in two ways with different verdicts.
    Inconclusive,
}

impl ClaimVerdict {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// How a figure was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EstimatorKind {
    /// In the service under load, one arm against another.
    EndToEnd,
    /// The telemetry calls alone, in a tight loop. It resolves nanoseconds, and misses the cost of data that telemetry displaces
    /// from the caches of the service.
    Isolated,
    /// By counting.
    Observed,
}

impl EstimatorKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndToEnd => "end-to-end",
            Self::Isolated => "isolated",
            Self::Observed => "observed",
        }
    }
}

/// The side of its limit on which a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Below it.
    Below,
    /// Above it.
    Above,
    /// Between minus the limit and the limit.
    Within,
    /// Not above it: a count.
    AtMost,
}

/// A figure and the limit it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClaimFigure {
    /// The bound that the claim names; null where it names none.
    pub limit: Option<f64>,
    /// The side of it on which the figure has to be; null where there is no limit.
    #[serde(default)]
    pub bound: Option<Bound>,
    /// Unit of the limit and the figure.
    pub unit: String,
    /// The whole that a share is a share of, or the thing that a cost is the cost of.
    pub denominator: String,
    /// The measured value; null where it could not be measured.
    pub estimate: Option<f64>,
    /// The total, where the figure is a count of those that are wrong; null where it is no count.
    #[serde(default)]
    pub of: Option<f64>,
    /// Lower bound; null where the figure is a count.
    pub low: Option<f64>,
    /// Upper bound; null where the figure is a count.
    pub high: Option<f64>,
    /// Confidence of the interval. At 0.9 each of its bounds is that of a one-sided test at 5 %; null where there is none.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// How the figure was measured; null where there is none.
    #[serde(default)]
    pub estimator: Option<EstimatorKind>,
    /// Number of rounds behind it.
    #[serde(default)]
    pub rounds: u32,
}

/// One way to read a claim, measured and judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClaimReading {
    /// The thing that was looked at.
    pub subject: String,
    /// Whether the claim's words cover it; other readings are for comparison.
    pub counts: bool,
    /// The figure.
    #[serde(flatten)]
    pub figure: ClaimFigure,
    /// Whether it is as claimed; null where no limit is claimed.
    pub verdict: Option<ClaimVerdict>,
    /// Why, in a sentence.
    pub reason: String,
}

/// A claim put to the test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Claim {
    /// Its id.
    pub id: String,
    /// The claim, in a sentence.
    pub statement: String,
    /// The figure of the reading that decides.
    #[serde(flatten)]
    pub figure: ClaimFigure,
    /// The verdict on the whole.
    pub verdict: ClaimVerdict,
    /// Why, in a sentence; where the verdict is inconclusive, what would decide it.
    pub reason: String,
    /// Every reading.
    #[serde(default)]
    pub readings: Vec<ClaimReading>,
}

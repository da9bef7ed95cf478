//! What is said of a claim, as stored in a result document.

use serde::{Deserialize, Serialize};

/// Whether a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does.
    Confirmed,
    /// It does not.
    Refuted,
    /// The data cannot tell, or the claim can be read in two ways that come out differently.
    Inconclusive,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// How a figure came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// In the service under load, one arm against another.
    EndToEnd,
    /// The telemetry calls alone, in a tight loop: it resolves nanoseconds and misses what telemetry displaces from the
    /// caches of the service.
    Isolated,
    /// Something was counted.
    Observed,
}

impl Estimator {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndToEnd => "end-to-end",
            Self::Isolated => "isolated",
            Self::Observed => "observed",
        }
    }
}

/// On which side of its limit a figure has to be.
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
    /// At it: nothing more than the limit may be counted.
    AtMost,
}

/// A figure, what it is of, and what it is held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Figure {
    /// The bound that the claim names; null where it names none.
    pub limit: Option<f64>,
    /// On which side of it the figure has to be; null where there is none.
    #[serde(default)]
    pub bound: Option<Bound>,
    /// Unit of limit and figure.
    pub unit: String,
    /// What a share is a share of, and a cost the cost of.
    pub denominator: String,
    /// What was measured; null where it could not be.
    pub estimate: Option<f64>,
    /// What was looked at in all, where the figure is a count of those that are wrong; null where it is none.
    #[serde(default)]
    pub of: Option<f64>,
    /// Lower bound; null where the figure is a count.
    pub low: Option<f64>,
    /// Upper bound; null where the figure is a count.
    pub high: Option<f64>,
    /// Confidence of the interval. At 0.9 each of its bounds is that of a one-sided test at 5 %; null where there is none.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// How the figure came about; null where there is none.
    #[serde(default)]
    pub estimator: Option<Estimator>,
    /// Rounds that it rests on.
    #[serde(default)]
    pub rounds: u32,
}

/// One way to read a claim, measured and judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reading {
    /// What was looked at.
    pub subject: String,
    /// Whether the claim's words cover it. Others stand beside it for comparison.
    pub counts: bool,
    /// The figure.
    #[serde(flatten)]
    pub figure: Figure,
    /// Whether it is as claimed; null where no limit is claimed.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub reason: String,
}

/// A claim put to the test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Claim {
    /// Its id.
    pub id: String,
    /// What it says.
    pub statement: String,
    /// The figure of the reading that decides.
    #[serde(flatten)]
    pub figure: Figure,
    /// The verdict on the whole.
    pub verdict: Verdict,
    /// Why, in a sentence; where the verdict is inconclusive, what would decide it.
    pub reason: String,
    /// Every reading.
    #[serde(default)]
    pub readings: Vec<Reading>,
}

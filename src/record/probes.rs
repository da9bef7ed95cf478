//! Findings of probes, as printed and stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Figures by name, each with its unit in the name where it has one.
pub type ProbeFigures = BTreeMap<String, f64>;

/// Whether a probe found its pitfall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProbeVerdict {
    /// The pitfall is there.
    Found,
    /// It is not, at these versions of the crates.
    Absent,
    /// The probe could not tell.
    Unclear,
}

/// The observation of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProbeObservation {
    /// Whether the pitfall is there.
    pub verdict: ProbeVerdict,
    /// The observation, in one sentence.
    pub what: String,
    /// The numbers behind it.
    pub figures: ProbeFigures,
}

impl ProbeObservation {
    /// An observation that settles whether the pitfall is there.
    pub fn new<const N: usize>(found: bool, what: impl Into<String>, figures: [(&str, f64); N]) -> Self {
        Self {
            verdict: if found { ProbeVerdict::Found } else { ProbeVerdict::Absent },
            what: what.into(),
            figures: figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// The finding of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProbeFinding {
    /// The probe's name.
    pub probe: String,
    /// The pitfall in a line.
    pub title: String,
    /// The mechanism behind it, and where in the crates it is.
    pub pitfall: String,
    /// The observation of the pitfall.
    #[serde(flatten)]
    pub seen: ProbeObservation,
    /// The observation with [`ProbeFinding::advice`] followed; null where the probe cannot follow it.
    pub fixed: Option<ProbeObservation>,
    /// How to avoid it.
    pub advice: String,
}

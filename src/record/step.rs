//! The outcome of one step of a search for the highest rate.

use serde::{Deserialize, Serialize};

/// The outcome of one step at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Nothing was lost, and an SLO, where there is one, held.
    Held,
    /// Something was lost, or the SLO did not hold.
    Failed,
    /// The generator was starved of CPU, so that the step shows nothing.
    Starved,
}

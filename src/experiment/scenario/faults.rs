//! Faults of the collector of an arm.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::fault::{Contradiction, Fault, FaultError, Timeline};
use crate::experiment::units::stored_as_text;

/// Faults of a collector, one or several in their times: `hang`, `down@1s..2s slow:50ms@3s..4s`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Faults(pub Vec<Fault>);

stored_as_text!(Faults);

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, FaultsError> {
        let faults = text.split_whitespace().map(str::parse).collect::<Result<Vec<Fault>, FaultError>>()?;
        if faults.is_empty() {
            return Err(FaultsError::Fault(FaultError::Kind(text.into())));
        }
        Timeline::new(faults.clone())?;
        Ok(Self(faults))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&faults.join(" "))
    }
}

impl Faults {
    /// Whether nothing goes wrong.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a text does not say what goes wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FaultsError {
    /// One is no fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// Two cannot be at the same time.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

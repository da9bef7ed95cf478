//! Conditions that end a run before its last round.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::units::stored_as_text;

/// A condition that ends a run before its last round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Until {
    /// That every treatment differs from what it is compared with, by the bounds of a sequential test.
    Resolved,
    /// That the interval of every arm, relative to what it is compared with, reaches no further than this to either side.
    HalfWidth(f64),
}

stored_as_text!(Until);

/// A text says nothing that could end a run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` does not say when to stop; write resolved, or halfwidth:PCT% such as halfwidth:1%")]
pub struct UntilError(String);

impl FromStr for Until {
    type Err = UntilError;

    fn from_str(text: &str) -> Result<Self, UntilError> {
        match text.trim().split_once(':') {
            None if text.trim() == "resolved" => Ok(Self::Resolved),
            Some(("halfwidth", share)) => half_width(share).map(Self::HalfWidth).map_err(|_| UntilError(text.into())),
            _ => Err(UntilError(text.into())),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved => f.write_str("resolved"),
            // To a billionth, where the division by 100 and back no longer shows.
            Self::HalfWidth(share) => write!(f, "halfwidth:{}%", (share * 1e11).round() / 1e9),
        }
    }
}

/// The share that a half-width is written as: `1%`.
///
/// # Errors
/// A message that shows what would be right.
pub fn half_width(text: &str) -> Result<f64, String> {
    let percent = text.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
    let percent = percent.filter(|percent| *percent > 0.0 && *percent < 100.0);
    percent
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("`{text}` is not a half-width; write it as 1% or 0.5%"))
}

//! Published claims about the cost of telemetry, and a scenario's own, put to the test: a verdict each.
//!
//! [`catalogue`] says what is claimed and what it comes to, [`plan`] what has to be measured for it, [`evidence`] is what was,
//! and [`judge()`] rules. What is measured, and in which order, is the business of [`crate::commands::claims`].

pub mod catalogue;
pub mod evidence;
mod judge;
pub mod own;
pub mod plan;
mod question;
mod trials;
mod verdict;

use serde::{Deserialize, Serialize};

use crate::experiment::units::grouped;

pub use self::evidence::{Encounter, Evidence};
pub use self::judge::judge;
pub use self::own::OwnClaim;
pub use self::verdict::{Bound, Claim, Estimator, Figure, Reading, Verdict};

/// Which claims a run puts to the test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// The published ones of these ids.
    Published(Vec<String>),
    /// The scenario's own.
    Own(Vec<OwnClaim>),
}

/// A measured number in the digits that it deserves, thousands set apart.
pub(crate) fn digits(value: f64) -> String {
    if !value.is_finite() {
        return "unbounded".into();
    }
    let (sign, size) = (if value < 0.0 { "−" } else { "" }, value.abs());
    match size {
        // What is more than the integers hold saturates.
        size if size >= 99.95 => format!("{sign}{}", grouped(size.round() as u64)),
        size if size >= 9.995 => format!("{sign}{size:.1}"),
        size if size >= 0.0995 => format!("{sign}{size:.2}"),
        size if size >= 5e-5 => {
            // Two digits after the zeros, and no more than four decimals: what is smaller is nothing to any of these limits.
            let decimals = ((1.0 - size.log10().floor()) as usize).min(4);
            format!("{sign}{size:.decimals$}")
        }
        _ => "0".into(),
    }
}

/// A number that was given, as it was.
pub(crate) fn as_given(value: f64) -> String {
    if value < 0.0 { format!("−{}", -value) } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_can_be_read() {
        let written: Vec<String> =
            [12_345.6, 214.4, 42.34, 5.678, 1.0, 0.1, 0.618, 0.0123, 0.000_456, -3.21, 0.0, f64::INFINITY]
                .map(digits)
                .into();
        assert_eq!(
            written,
            ["12 346", "214", "42.3", "5.68", "1.00", "0.10", "0.62", "0.012", "0.0005", "−3.21", "0", "unbounded"]
        );
        assert_eq!([0.1, 1.5, 20.0, -2.0].map(as_given), ["0.1", "1.5", "20", "−2"]);
    }
}

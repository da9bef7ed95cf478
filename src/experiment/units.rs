//! Quantities with a unit: request rates and the way durations and rates are written.
//!
//! Values are checked where they are read, so the rest of the crate never meets a rate of zero.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One request, in the unit of [`Rate::over`]: millionths of a request per second, times nanoseconds.
pub const REQUEST: u128 = 1_000_000_000_000_000;

/// A request rate in requests per second: finite and greater than zero.
///
/// Held in millionths of a request per second so that the arrival times of a constant rate are exact
/// integer arithmetic, also for fractional rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate {
    micro: u64,
}

/// Why a number is not a [`Rate`].
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("a rate must be a number of requests per second from 0.001 to 10000000, such as 10000; got {0}")]
pub struct RateError(f64);

impl Rate {
    /// 10 000 requests per second, the rate of the claims under test.
    pub const TEN_THOUSAND: Self = Self { micro: 10_000_000_000 };
    /// The lowest rate that is accepted: one request in 1000 seconds.
    pub const MIN: Self = Self { micro: 1_000 };
    /// The highest rate that is accepted: ten million requests per second.
    pub const MAX: Self = Self { micro: 10_000_000_000_000 };

    /// 1000 requests per second, which any server should take.
    pub const A_THOUSAND: Self = Self { micro: 1_000_000_000 };

    /// The rate of `per_second` requests per second.
    ///
    /// # Errors
    /// When it is not between 0.001 and 10 million.
    pub fn per_second(per_second: f64) -> Result<Self, RateError> {
        if !(Self::MIN.as_f64()..=Self::MAX.as_f64()).contains(&per_second) {
            return Err(RateError(per_second));
        }
        // In range by the check above: at most 1e13.
        Ok(Self { micro: (per_second * 1e6).round() as u64 })
    }

    /// Requests per second.
    pub fn as_f64(self) -> f64 {
        self.micro as f64 / 1e6
    }

    /// Nanoseconds from the start until arrival `index` of a constant schedule, rounded down.
    pub fn arrival_ns(self, index: u64) -> u64 {
        self.time_ns(u128::from(index) * REQUEST)
    }

    /// Amount that this rate makes in `ns` nanoseconds, exactly, in units where [`REQUEST`] is one request.
    pub fn over(self, ns: u64) -> u128 {
        u128::from(self.micro) * u128::from(ns)
    }

    /// Nanoseconds in which this rate makes `amount`, in the units of [`Rate::over`], rounded down.
    pub fn time_ns(self, amount: u128) -> u64 {
        u64::try_from(amount / u128::from(self.micro)).unwrap_or(u64::MAX)
    }

    /// The rate that makes `amount`, in the units of [`Rate::over`], in `ns` nanoseconds, rounded; never zero.
    pub fn making(amount: u128, ns: u64) -> Self {
        let micro = (amount + u128::from(ns / 2)).checked_div(u128::from(ns)).unwrap_or(0);
        Self { micro: u64::try_from(micro).unwrap_or(u64::MAX).max(1) }
    }

    /// This rate multiplied by `factor`, which is at least 1. The product may exceed the highest accepted rate.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        // At most 1e13 before, so in range up to a factor of a million, and beyond it the cast saturates.
        Self { micro: (self.micro as f64 * factor).round() as u64 }
    }
}

impl TryFrom<f64> for Rate {
    type Error = RateError;

    fn try_from(per_second: f64) -> Result<Self, RateError> {
        Self::per_second(per_second)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> f64 {
        rate.as_f64()
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        Self::per_second(text.parse().map_err(|_| RateError(f64::NAN))?)
    }
}

impl fmt::Display for Rate {
    /// With a space between thousands: `10 000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.micro.is_multiple_of(1_000_000) {
            f.write_str(&grouped(self.micro / 1_000_000))
        } else {
            write!(f, "{}", self.as_f64())
        }
    }
}

/// `n` with a space between thousands: `1 234 567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Reads a duration as users write it: `500ms`, `2s`, `1m`.
///
/// # Errors
/// A message that shows the accepted form.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write a duration with its unit, such as 500ms, 2s or 1m"))
}

/// A duration greater than zero, for settings where zero has no meaning.
///
/// # Errors
/// A message that shows what would be right.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero, such as 500ms, 2s or 1m".into()),
        duration => Ok(duration),
    }
}

/// A duration as [`parse_duration`] reads it, without the spaces within `1s 500ms`, so that it is one word on a command line.
pub fn in_one_word(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// Stores a type that implements `FromStr` and `Display` as its text, as
/// `#[serde(try_from = "String", into = "String")]` requires.
macro_rules! stored_as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = <$type as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}
pub(crate) use stored_as_text;

/// A duration in microseconds, as stored documents hold it.
pub fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// The known name nearest to an unknown one, for an error message; `None` if none is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = known.into_iter().map(|known| (strsim::jaro_winkler(name, known), known));
    let alike = likeness.filter(|(similarity, _)| *similarity > 0.7);
    alike.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// A measured number with two or three significant digits, thousands separated.
pub(crate) fn in_few_digits(value: f64) -> String {
    if !value.is_finite() {
        return "unbounded".into();
    }
    let (sign, size) = (if value < 0.0 { "−" } else { "" }, value.abs());
    match size {
        // A value beyond the integers saturates.
        size if size >= 99.95 => format!("{sign}{}", grouped(size.round() as u64)),
        size if size >= 9.995 => format!("{sign}{size:.1}"),
        size if size >= 0.0995 => format!("{sign}{size:.2}"),
        size if size >= 5e-5 => {
            // Two digits after the zeros, and at most four decimals: no limit is that small.
            let decimals = ((1.0 - size.log10().floor()) as usize).min(4);
            format!("{sign}{size:.decimals$}")
        }
        _ => "0".into(),
    }
}

/// A number as the user wrote it, but for the minus sign.
pub(crate) fn as_given(value: f64) -> String {
    if value < 0.0 { format!("−{}", -value) } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_exact_integers_even_for_fractional_rates() {
        let thirds = Rate::per_second(3.0).unwrap();
        assert_eq!(thirds.arrival_ns(0), 0);
        assert_eq!(thirds.arrival_ns(1), 333_333_333);
        assert_eq!(thirds.arrival_ns(3), 1_000_000_000);
        let fractional = Rate::per_second(0.5).unwrap();
        assert_eq!(fractional.arrival_ns(7), 14_000_000_000);
        let odd = Rate::per_second(9_999.999_999).unwrap();
        assert_eq!(odd.arrival_ns(9_999_999_999), 1_000_000_000_000_000);
    }

    #[test]
    fn rates_out_of_range_are_rejected() {
        for bad in ["0", "-5", "nan", "inf", "ten", ""] {
            assert!(bad.parse::<Rate>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn thousands_are_separated_by_spaces() {
        assert_eq!(Rate::per_second(10_000.0).unwrap(), Rate::TEN_THOUSAND);
        assert_eq!(Rate::TEN_THOUSAND.to_string(), "10 000");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1 234 567");
    }

    #[test]
    fn measured_numbers_have_two_or_three_significant_digits() {
        let written: Vec<String> =
            [12_345.6, 214.4, 42.34, 5.678, 1.0, 0.1, 0.618, 0.0123, 0.000_456, -3.21, 0.0, f64::INFINITY]
                .map(in_few_digits)
                .into();
        assert_eq!(
            written,
            ["12 346", "214", "42.3", "5.68", "1.00", "0.10", "0.62", "0.012", "0.0005", "−3.21", "0", "unbounded"]
        );
        assert_eq!([0.1, 1.5, 20.0, -2.0].map(as_given), ["0.1", "1.5", "20", "−2"]);
    }
}

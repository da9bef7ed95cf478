//! Tables, and how numbers are written in their cells. Every renderer takes its digits from here.

use crate::experiment::units::grouped;
use crate::record::interval::Interval;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// One row per arm, or per check.
    pub rows: Vec<Row>,
}

/// One arm, or one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whether it is a treatment, or a check that fails, which a reader looks for first.
    pub is_treatment: bool,
    /// The cells, in the order of the columns.
    pub cells: Vec<String>,
}

/// In place of a number that was not measured.
const NOT_MEASURED: &str = "–";

pub(super) fn missing() -> String {
    NOT_MEASURED.into()
}

/// Decimals that show the width of an interval with one or two digits, and no more.
pub(super) fn digits(interval: Interval) -> usize {
    match interval.half_width() {
        width if width >= 10.0 => 0,
        width if width >= 0.5 => 1,
        _ => 2,
    }
}

pub(super) fn microseconds(us: f64) -> String {
    format!("{us:.1} µs")
}

/// A time in the unit that needs the fewest digits.
pub(super) fn duration(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Three significant digits, which is more than a search resolves.
pub(super) fn three_digits(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    match value.abs() {
        v if v >= 99.95 => {
            let unit = 10_f64.powf((v.log10().floor() - 2.0).max(0.0));
            // What is more than the integers hold saturates.
            format!("{sign}{}", grouped(((v / unit).round() * unit) as u64))
        }
        v if v >= 9.995 => format!("{sign}{v:.1}"),
        v => format!("{sign}{v:.2}"),
    }
}

/// A small number with two significant digits.
pub(super) fn significant(value: f64) -> String {
    match value {
        v if v >= 10.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

pub(super) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(n)) }
}

pub(super) fn megabytes(bytes: f64) -> String {
    format!("{:.0} MB", bytes / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_their_interval_deserves() {
        let interval = |low, high| Interval { estimate: f64::midpoint(low, high), low, high };
        assert_eq!(digits(interval(20.0, 22.0)), 1);
        assert_eq!(digits(interval(0.9, 1.1)), 2);
        assert_eq!(digits(interval(100.0, 150.0)), 0);
    }

    #[test]
    fn durations_take_the_unit_that_needs_few_digits() {
        let written: Vec<String> = [87.4, 1_234.0, 56_780.0, 2_000_000.0].map(duration).into();
        assert_eq!(written, ["87 µs", "1.23 ms", "57 ms", "2.00 s"]);
    }

    #[test]
    fn rates_and_ratios_have_three_digits() {
        let written: Vec<String> = [35_249.0, 319.4, 99.97, 42.34, 5.678, -1_234.0, 0.619].map(three_digits).into();
        assert_eq!(written, ["35 200", "319", "100", "42.3", "5.68", "−1 230", "0.62"]);
    }
}

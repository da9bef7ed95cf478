//! A service level objective: quantiles of the response time, and the longest that each may be.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::units::{in_one_word, micros, parse_positive_duration, stored_as_text};

/// Bounds on quantiles of the response time, all of which must hold; one or more, each quantile once.
///
/// Written the same way on the command line, in a scenario and in a result: `p99=10ms`, or `p50=1ms,p99=10ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slo(Vec<Objective>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Objective {
    quantile: Quantile,
    limit: Duration,
}

/// A quantile that an objective may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// Half of the requests are no slower.
    P50,
    /// 90 % are.
    P90,
    /// 99 % are.
    P99,
    /// 99.9 % are.
    P999,
    /// The slowest request.
    Max,
}

/// A text that is not an SLO.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{text}` is not an SLO: {why}; write quantiles of the response time (p50, p90, p99, p99.9 or max), each once and \
     with its limit, such as p99=10ms or p50=1ms,p99=10ms"
)]
pub struct SloError {
    text: String,
    why: String,
}

impl Quantile {
    fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "p50" => Some(Self::P50),
            "p90" => Some(Self::P90),
            "p99" => Some(Self::P99),
            "p99.9" | "p999" => Some(Self::P999),
            "max" => Some(Self::Max),
            _ => None,
        }
    }

    /// Share of the requests that are no slower.
    fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.9,
            Self::P99 => 0.99,
            Self::P999 => 0.999,
            Self::Max => 1.0,
        }
    }
}

impl Slo {
    /// Whether each quantile of the response time, in microseconds, is within its limit; not where nothing was measured.
    pub fn holds(&self, response_us: impl Fn(Quantile) -> Option<f64>) -> bool {
        self.0.iter().all(|o| response_us(o.quantile).is_some_and(|us| us <= micros(o.limit)))
    }

    /// Whether it is the generator's own lateness that breaks it: at every quantile that is over its limit `L`, the
    /// generator was late by `w`, more than half of `L`, and the response took no longer than `L + 2 w`.
    ///
    /// A stall of `w` makes requests late by `w`. What a service at a load of `ρ ≤ 1` then has to catch up with takes it
    /// `ρ · w`, so that is the most that a stall adds to a response: `2 w`.
    pub fn is_broken_by(
        &self,
        wake_us: impl Fn(Quantile) -> Option<f64>,
        response_us: impl Fn(Quantile) -> Option<f64>,
    ) -> bool {
        self.0.iter().all(|o| match (wake_us(o.quantile), response_us(o.quantile), micros(o.limit)) {
            (_, Some(response), limit) if response <= limit => true,
            (Some(wake), Some(response), limit) => wake > limit / 2.0 && response <= limit + 2.0 * wake,
            _ => false,
        })
    }

    /// The longest of the limits.
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|objective| objective.limit).max().unwrap_or_default()
    }

    /// How long constant arrivals must last for an overload by `share` to break the SLO.
    ///
    /// A server that is offered `1 + share` times what it can serve falls behind by `share` seconds every second, so the
    /// quantile `q` of a stretch of `T` is no shorter than `q · share · T`, and exceeds the limit `L` when
    /// `T > L / (q · share)`. The objective for which this is soonest breaks.
    pub fn shows_overload_in(&self, share: f64) -> Duration {
        let seconds =
            self.0.iter().map(|o| o.limit.as_secs_f64() / o.quantile.share() / share).fold(f64::MAX, f64::min);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let wrong = |why: String| SloError { text: text.into(), why };
        let mut objectives: Vec<Objective> = Vec::new();
        for part in text.split(',') {
            let Some((name, limit)) = part.split_once('=') else {
                return Err(wrong(format!("`{part}` has no limit")));
            };
            let quantile = Quantile::named(name.trim()).ok_or_else(|| wrong(format!("`{name}` is not a quantile")))?;
            let limit =
                parse_positive_duration(limit.trim()).map_err(|e| wrong(format!("the limit of {name}: {e}")))?;
            if objectives.iter().any(|objective| objective.quantile == quantile) {
                return Err(wrong(format!("{} stands twice", quantile.name())));
            }
            objectives.push(Objective { quantile, limit });
        }
        Ok(Self(objectives))
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Objective { quantile, limit }) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}={}", quantile.name(), in_one_word(*limit))?;
        }
        Ok(())
    }
}

stored_as_text!(Slo);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::Quantiles;

    fn slo(text: &str) -> Slo {
        text.parse().unwrap()
    }

    #[test]
    fn slos_are_parsed_and_displayed_alike() {
        for text in ["p99=10ms", "p50=1ms,p90=2ms,p99=10ms,p99.9=1s500ms,max=3s", "max=250us"] {
            assert_eq!(slo(text).to_string(), text);
            assert_eq!(serde_json::from_str::<Slo>(&serde_json::to_string(&slo(text)).unwrap()).unwrap(), slo(text));
        }
        assert_eq!(slo(" p999 = 5ms ").to_string(), "p99.9=5ms");
    }

    #[test]
    fn invalid_slos_are_rejected_with_an_example() {
        for (text, why) in [
            ("", "`` has no limit"),
            ("p99", "`p99` has no limit"),
            ("p95=10ms", "`p95` is not a quantile"),
            ("p99=10", "write a duration with its unit"),
            ("p99=0ms", "longer than zero"),
            ("p99=10ms,", "`` has no limit"),
            ("p99.9=10ms,p999=20ms", "p99.9 stands twice"),
        ] {
            let error = text.parse::<Slo>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("such as p99=10ms"), "{error}");
        }
    }

    #[test]
    fn an_slo_holds_only_if_every_objective_is_within_its_limit() {
        let measured = Quantiles {
            p50: Some(500.0),
            p90: Some(900.0),
            p99: Some(10_000.0),
            p999: Some(20_000.0),
            max: Some(30_000.0),
            reason: None,
        };
        for (text, holds) in [
            ("p99=10ms", true),
            ("p99=9999us", false),
            ("p50=1ms,p99=10ms", true),
            ("p50=499us,p99=10ms", false),
            ("p90=900us", true),
            ("p90=899us", false),
            ("p99.9=20ms", true),
            ("p99.9=19ms", false),
            ("max=30ms", true),
            ("max=29ms", false),
        ] {
            assert_eq!(slo(text).holds(|quantile| measured.at(quantile)), holds, "{text}");
        }
        assert!(!slo("p99=10ms").holds(|_| None));
    }

    #[test]
    fn a_broken_slo_is_blamed_on_the_generator_only_as_far_as_its_lateness_explains() {
        let quantiles = |p50, p99| Quantiles { p50: Some(p50), p99: Some(p99), ..Quantiles::default() };
        let slo = slo("p50=1ms,p99=10ms");
        for (wake, response, broken) in [
            // Late, and no slower than that makes it.
            (quantiles(20.0, 6_000.0), quantiles(900.0, 22_000.0), true),
            (quantiles(20.0, 6_000.0), quantiles(900.0, 22_001.0), false),
            // In time.
            (quantiles(20.0, 5_000.0), quantiles(900.0, 10_001.0), false),
            // Late at one quantile, and over the limit also at another.
            (quantiles(20.0, 6_000.0), quantiles(1_100.0, 22_000.0), false),
            (quantiles(600.0, 6_000.0), quantiles(1_100.0, 22_000.0), true),
            // An overload in which it was late as well.
            (quantiles(20.0, 8_000.0), quantiles(376_000.0, 465_000.0), false),
            (Quantiles::default(), quantiles(900.0, 22_000.0), false),
        ] {
            assert_eq!(
                slo.is_broken_by(|quantile| wake.at(quantile), |quantile| response.at(quantile)),
                broken,
                "{wake:?} {response:?}"
            );
        }
    }

    #[test]
    fn an_overload_shows_after_the_time_its_queue_takes_to_grow() {
        // Offered 2 % too much for 1 s, the queue is 20 ms long at the end and its median 10 ms.
        assert_eq!(slo("p50=10ms").shows_overload_in(0.02), Duration::from_secs(1));
        // The tighter objective breaks first.
        assert_eq!(slo("p50=10ms,max=10ms").shows_overload_in(0.02), Duration::from_millis(500));
    }
}

//! When requests are due: a pure function of profile, duration and seed.
//!
//! An open-loop generator must not let the server decide when the next request is sent, so the times are fixed before
//! the first is due. Nothing here knows a clock.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::units::Rate;

/// The shape of the arrival process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Evenly spaced: arrival `i` is due at `i / rate`, in exact integers.
    #[default]
    Constant,
    /// Independent exponential gaps of mean `1 / rate`, as many independent users make them.
    Poisson,
}

/// The intended send times of one stretch of load, in nanoseconds from its start, ascending.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: Rate,
    end_ns: u64,
    next: u64,
    gaps: Option<PoissonGaps>,
}

#[derive(Clone, Debug)]
struct PoissonGaps {
    rng: ChaCha8Rng,
    elapsed_ns: f64,
}

impl Schedule {
    /// All arrivals due within `duration` from the start. The same arguments give the same schedule.
    pub fn new(arrivals: Arrivals, rate: Rate, duration: Duration, seed: u64) -> Self {
        let gaps = match arrivals {
            Arrivals::Constant => None,
            Arrivals::Poisson => Some(PoissonGaps { rng: ChaCha8Rng::seed_from_u64(seed), elapsed_ns: 0.0 }),
        };
        Self { rate, end_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), next: 0, gaps }
    }
}

impl Iterator for Schedule {
    /// Nanoseconds from the start.
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let due = match &mut self.gaps {
            None => self.rate.arrival_ns(self.next),
            Some(gaps) => {
                // Inverse transform: -ln(1 - u) / rate, with u in [0, 1).
                let u: f64 = gaps.rng.random();
                gaps.elapsed_ns += -(1.0 - u).ln() * 1e9 / self.rate.as_f64();
                gaps.elapsed_ns as u64
            }
        };
        self.next += 1;
        (due < self.end_ns).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: f64) -> Rate {
        Rate::per_second(per_second).unwrap()
    }

    proptest! {
        #[test]
        fn schedules_are_ascending_repeatable_and_end_in_time(
            per_second in 1.0..20_000.0_f64, ms in 1_u64..2_000, seed: u64, poisson: bool,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let duration = Duration::from_millis(ms);
            let due: Vec<u64> = Schedule::new(arrivals, rate(per_second), duration, seed).collect();
            prop_assert!(due.is_sorted());
            prop_assert!(due.iter().all(|&t| u128::from(t) < duration.as_nanos()));
            prop_assert_eq!(&due, &Schedule::new(arrivals, rate(per_second), duration, seed).collect::<Vec<_>>());
            if !poisson {
                let expected = per_second * duration.as_secs_f64();
                prop_assert!((due.len() as f64 - expected).abs() <= 1.0, "{} of {expected}", due.len());
            }
        }
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_spread_of_an_exponential() {
        let due: Vec<u64> = Schedule::new(Arrivals::Poisson, rate(1_000.0), Duration::from_secs(100), 7).collect();
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let sd = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        // 100 000 gaps: the standard error of both is about 0.3 %, so 2 % never fails by chance.
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "mean {mean}");
        assert!((sd / 1e6 - 1.0).abs() < 0.02, "sd {sd}");
    }

    #[test]
    fn another_seed_gives_another_poisson_schedule() {
        let at = |seed| Schedule::new(Arrivals::Poisson, rate(100.0), Duration::from_secs(1), seed).collect::<Vec<_>>();
        assert_ne!(at(1), at(2));
    }
}

//! The highest rate that holds an SLO with no loss: which rate to try next, and what the steps so far say. Pure.
//!
//! A step is one stretch of load at one rate. From where it starts a search strides up or down until it has a rate that
//! held below one that did not, then halves that bracket on the logarithmic scale. Its answer is the highest rate that
//! held, within [`RESOLUTION`] of one that did not.
//!
//! - A machine hiccups, so the failure that an answer rests on must be seen twice. The second try comes last, when the
//!   bracket has closed on that rate: what disturbed the first is over by then, and no time went into failures that a
//!   lower one made void. A rate that holds is believed.
//! - A step whose own generator was starved of CPU, or so late that this explains a broken SLO, says nothing about the
//!   service. The search goes on below and comes back to it. When the generator is starved whenever the rate is tried, and
//!   the answer would rest on that, the search ends with this reason and no number.
//! - Every answer is measured anew. A search that starts near the answer of an earlier one is shorter, but both ends of its
//!   bracket were tried by itself; and where it starts is drawn within a resolution of there ([`near`]). Otherwise the
//!   searches of several rounds would share one grid of rates, and agree on a rounding error.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::experiment::slo::Slo;
use crate::experiment::units::{Rate, micros};
use crate::record::load::{LoadResult, MEDIAN_LATE_INVALID};

pub use crate::record::step::StepOutcome;

/// How far the rate that did not hold may be above the answer, as a share of it.
pub const RESOLUTION: f64 = 0.03;
/// Times that the rate above an answer must fail.
const FAILURES: u32 = 2;
/// Failures that turn out to be hiccups before none above them is trusted: they come in bursts, and each would be tried again.
const HICCUPS: usize = 2;
/// Times that the generator may be starved at a rate before the search gives up on it.
const STARVED: u32 = 3;
/// Steps after which a search gives up. Coming down from ten million a second to one takes fewer.
const MOST_STEPS: usize = 60;
/// The first stride of a search that knows nothing: the rate is doubled.
const FIRST_STRIDE: f64 = 2.0;
/// The first stride of a search that starts near an earlier answer: what one launch differs from another. One halving
/// brings it within the resolution.
const NEAR_STRIDE: f64 = 1.05;
/// The longest stride up: a step far above the capacity has its backlog to wait for.
const LONGEST_UP: f64 = 2.0;
/// The longest stride down: halving a wide bracket is cheaper than failing twice at each rate.
const LONGEST_DOWN: f64 = 4.0;
/// Requests in a step below which its quantiles say too little.
const FEWEST_REQUESTS: f64 = 20.0;

impl StepOutcome {
    /// Judges a step. That requests were written late is no excuse: a service that cannot keep up makes the generator wait
    /// for its connections. That the generator turned to them late is one: the failure is then its own.
    pub fn of(played: &LoadResult, slo: &Slo) -> Self {
        let LoadResult { load, mix, response_us, wake_us, .. } = played;
        let answered = played.answered() == load.scheduled && mix.not_refused == 0;
        if starved(played) {
            Self::Starved
        } else if answered && slo.holds(|q| response_us.at(q)) {
            Self::Held
        } else if answered
            && wake_us.as_ref().is_some_and(|wake| slo.is_broken_by(|q| wake.at(q), |q| response_us.at(q)))
        {
            Self::Starved
        } else {
            Self::Failed
        }
    }
}

/// Whether the generator was starved of CPU throughout, so that nothing of the step is the service's doing.
fn starved(played: &LoadResult) -> bool {
    let wake_us = played.wake_us.as_ref().and_then(|wake| wake.p50);
    wake_us.is_some_and(|us| us > micros(MEDIAN_LATE_INVALID))
}

/// A rate that was tried, and whether it held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The rate.
    pub rate: Rate,
    /// Whether it held.
    pub outcome: StepOutcome,
}

/// The next action of a search.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// It tries this rate.
    Try(Rate),
    /// Nothing: this is the capacity.
    Found(Rate),
    /// Nothing: it cannot decide, for this reason.
    Undecided(Undecided),
}

/// Why a search ends without a number. In words it is of requests and their SLO.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Undecided {
    /// The highest rate there is held.
    #[error("{0} requests per second held, and no more can be asked for")]
    Limitless(Rate),
    /// The lowest rate that says anything failed.
    #[error("the SLO is not held even at {0} requests per second")]
    NeverHeld(Rate),
    /// The generator was starved even at the lowest rate.
    #[error("the generator was starved of CPU even at {0} requests per second")]
    AlwaysStarved(Rate),
    /// The answer would rest on the generator.
    #[error("the generator was starved of CPU at {at} requests per second, and {held} held")]
    Starved {
        /// Where.
        at: Rate,
        /// The highest rate that held.
        held: Rate,
    },
    /// It took too long.
    #[error("{MOST_STEPS} steps brought no answer")]
    Endless,
}

/// A search. All it knows is where it starts and what its steps have shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    start: Rate,
    stride: f64,
    floor: Rate,
    steps: Vec<Step>,
}

impl Search {
    /// A search that starts at `start` and knows nothing. Its steps last `step`, so that below some rate they have too few
    /// requests.
    pub fn from(start: Rate, step: Duration) -> Self {
        let floor = clamped(FEWEST_REQUESTS / step.as_secs_f64());
        Self { start, stride: FIRST_STRIDE, floor, steps: Vec::new() }
    }

    /// A search that expects its answer around `start`.
    pub fn around(start: Rate, step: Duration) -> Self {
        Self { stride: NEAR_STRIDE, ..Self::from(start, step) }
    }

    /// Notes a step.
    pub fn note(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// The next action after the steps so far. Whether the search has ended, and how, does not depend on where it started.
    pub fn next(&self) -> Next {
        let Bracket { held, ceiling, rates } = Bracket::of(&self.steps);
        // Each stride is the square of the last.
        let stride = |longest: f64| (1..rates).fold(self.stride, |stride, _| (stride * stride).min(longest));
        let next = match (held, ceiling) {
            (None, None) => self.start,
            (Some(held), None) if held >= Rate::MAX => {
                return Next::Undecided(Undecided::Limitless(held));
            }
            (Some(held), None) => rounded(held.as_f64() * stride(LONGEST_UP)),
            (None, Some(ceiling)) if ceiling.rate <= self.floor => match ceiling.cause() {
                Some(CeilingCause::Failed) => return Next::Undecided(Undecided::NeverHeld(ceiling.rate)),
                Some(CeilingCause::Starved) => return Next::Undecided(Undecided::AlwaysStarved(ceiling.rate)),
                None => ceiling.rate,
            },
            (None, Some(ceiling)) => rounded(ceiling.rate.as_f64() / stride(LONGEST_DOWN)).max(self.floor),
            (Some(held), Some(ceiling)) if ceiling.rate.as_f64() <= held.as_f64() * (1.0 + RESOLUTION) => match ceiling
                .cause()
            {
                Some(CeilingCause::Failed) => return Next::Found(held),
                Some(CeilingCause::Starved) => return Next::Undecided(Undecided::Starved { at: ceiling.rate, held }),
                None => ceiling.rate,
            },
            (Some(held), Some(ceiling)) => rounded((held.as_f64() * ceiling.rate.as_f64()).sqrt()),
        };
        if self.steps.len() < MOST_STEPS { Next::Try(next) } else { Next::Undecided(Undecided::Endless) }
    }
}

/// The rates between which the answer lies, after the steps so far.
struct Bracket {
    /// The highest rate that held.
    held: Option<Rate>,
    /// The lowest above it, none of whose tries did.
    ceiling: Option<Ceiling>,
    /// How many rates were tried.
    rates: usize,
}

/// A rate that has not held so far.
#[derive(Clone, Copy)]
struct Ceiling {
    rate: Rate,
    failed: u32,
    starved: u32,
}

/// The reason why a search cannot go above its ceiling.
enum CeilingCause {
    Failed,
    Starved,
}

impl Ceiling {
    /// Its cause; `None` while it may have been a hiccup.
    fn cause(&self) -> Option<CeilingCause> {
        match (self.failed, self.starved) {
            (FAILURES.., _) => Some(CeilingCause::Failed),
            (_, STARVED..) => Some(CeilingCause::Starved),
            _ => None,
        }
    }
}

impl Bracket {
    fn of(steps: &[Step]) -> Self {
        // How often each rate held, failed, and starved the generator: in the order of the outcomes.
        let mut tries: BTreeMap<Rate, [u32; 3]> = BTreeMap::new();
        let mut hiccups = 0;
        for step in steps {
            let outcomes = tries.entry(step.rate).or_default();
            let hiccup = step.outcome == StepOutcome::Held && outcomes.iter().any(|times| *times > 0);
            outcomes[step.outcome as usize] += 1;
            hiccups += usize::from(hiccup);
            if hiccup && hiccups >= HICCUPS {
                tries.retain(|rate, _| *rate <= step.rate);
            }
        }
        let held = tries.iter().rfind(|(_, [held, ..])| *held > 0).map(|(rate, _)| *rate);
        let above = tries.iter().find(|(rate, _)| held.is_none_or(|held| **rate > held));
        let ceiling = above.map(|(&rate, &[_, failed, starved])| Ceiling { rate, failed, starved });
        Self { held, ceiling, rates: tries.len() }
    }
}

/// A rate within a resolution of `rate`, drawn by `seed`: evenly from half a resolution below it to half above.
pub fn near(rate: Rate, seed: u64) -> Rate {
    let drawn: f64 = ChaCha8Rng::seed_from_u64(seed).random();
    rounded(rate.as_f64() * (1.0 + RESOLUTION).powf(drawn - 0.5))
}

/// The rate of four significant digits: finer than any search, and short enough to be read.
fn rounded(per_second: f64) -> Rate {
    let digit = 10_f64.powf(per_second.log10().floor() - 3.0);
    clamped((per_second / digit).round() * digit)
}

fn clamped(per_second: f64) -> Rate {
    Rate::per_second(per_second).unwrap_or(if per_second > 1.0 { Rate::MAX } else { Rate::MIN })
}

#[cfg(test)]
mod tests;

//! When requests are due: a pure function of profile, duration and seed.
//!
//! An open-loop generator must not let the server decide when the next request is sent, so the times are fixed before
//! the first is due. Nothing here knows a clock.
//!
//! Every profile but `poisson` has a rate at every moment, and arrival `i` is due when the integral of the rate from the
//! start reaches `i`, rounded down to a nanosecond: arrival 0 at once, and as many in all as the integral over the stretch.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::units::{REQUEST, Rate, in_one_word, parse_duration, stored_as_text};

/// The shape of the arrival process, over one stretch of load; each stretch begins anew.
///
/// Written the same way on the command line, in a scenario and in a result. What is made from text has been checked, so
/// variants whose fields could contradict each other are made from text alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Arrivals {
    /// `constant`. Evenly spaced: arrival `i` is due at `i / rate`, in exact integers.
    #[default]
    Constant,
    /// `poisson`. Independent exponential gaps of mean `1 / rate`, as many independent users make them.
    Poisson,
    /// `ramp:1000..20000`. From one rate to another in a straight line. The rate that is asked for beside it is ignored.
    Ramp {
        /// At the start.
        from: Rate,
        /// At the end.
        to: Rate,
    },
    /// `steps:1000,5000,10000`. One rate after the other, each for an equal part of the stretch, to the nanosecond. The
    /// rate that is asked for beside it is ignored.
    #[non_exhaustive]
    Steps(Vec<Rate>),
    /// `bursts:x4,every=1s,lasts=100ms`. The rate asked for, and bursts of a multiple of it; the first is at the start.
    #[non_exhaustive]
    Bursts {
        /// How many times the rate asked for, from 1 to 1000.
        factor: f64,
        /// From the start of one burst to that of the next.
        every: Duration,
        /// Length of a burst; more than zero and less than `every`.
        lasts: Duration,
    },
    /// `sine:depth=0.5,period=2s`. Swings about the rate asked for: `rate × (1 + depth × sin(2π t / period))`.
    #[non_exhaustive]
    Sine {
        /// How far it swings, as a share of the rate: from 0 to below 1.
        depth: f64,
        /// From one crest to the next; more than zero.
        period: Duration,
    },
}

/// Why a text is not an arrival process.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is not an arrival process; write constant, poisson, ramp:FROM..TO, steps:RATE,RATE,…, \
     bursts:xFACTOR,every=TIME,lasts=TIME or sine:depth=DEPTH,period=TIME, with rates from 0.001 to 10000000 per second, \
     FACTOR from 1 to 1000, TIME such as 100ms or 2s, lasts shorter than every, and DEPTH from 0 to below 1"
)]
pub struct ArrivalsError(String);

impl FromStr for Arrivals {
    type Err = ArrivalsError;

    fn from_str(text: &str) -> Result<Self, ArrivalsError> {
        read(text).ok_or_else(|| ArrivalsError(text.into()))
    }
}

fn read(text: &str) -> Option<Arrivals> {
    let time = |text: &str| parse_duration(text).ok().filter(|duration| !duration.is_zero());
    match text.split_once(':') {
        None if text == "constant" => Some(Arrivals::Constant),
        None if text == "poisson" => Some(Arrivals::Poisson),
        Some(("ramp", rates)) => {
            let (from, to) = rates.split_once("..")?;
            Some(Arrivals::Ramp { from: from.parse().ok()?, to: to.parse().ok()? })
        }
        Some(("steps", rates)) => {
            rates.split(',').map(|rate| rate.parse().ok()).collect::<Option<_>>().map(Arrivals::Steps)
        }
        Some(("bursts", settings)) => {
            let (factor, times) = settings.strip_prefix('x')?.split_once(",every=")?;
            let (every, lasts) = times.split_once(",lasts=")?;
            let (factor, every, lasts) = (factor.parse().ok()?, time(every)?, time(lasts)?);
            let sound = (1.0..=1_000.0).contains(&factor) && lasts < every;
            sound.then_some(Arrivals::Bursts { factor, every, lasts })
        }
        Some(("sine", settings)) => {
            let (depth, period) = settings.strip_prefix("depth=")?.split_once(",period=")?;
            let (depth, period) = (depth.parse().ok()?, time(period)?);
            (0.0..1.0).contains(&depth).then_some(Arrivals::Sine { depth, period })
        }
        _ => None,
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |duration: &Duration| in_one_word(*duration);
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Poisson => f.write_str("poisson"),
            Self::Ramp { from, to } => write!(f, "ramp:{}..{}", from.as_f64(), to.as_f64()),
            Self::Steps(rates) => {
                let rates: Vec<String> = rates.iter().map(|rate| rate.as_f64().to_string()).collect();
                write!(f, "steps:{}", rates.join(","))
            }
            Self::Bursts { factor, every, lasts } => {
                write!(f, "bursts:x{factor},every={},lasts={}", time(every), time(lasts))
            }
            Self::Sine { depth, period } => write!(f, "sine:depth={depth},period={}", time(period)),
        }
    }
}

stored_as_text!(Arrivals);

impl Arrivals {
    /// The highest rate of a stretch for which `rate` was asked; the expected one where chance plays.
    pub fn peak(&self, rate: Rate) -> Rate {
        match self {
            Self::Constant | Self::Poisson => rate,
            Self::Ramp { from, to } => *from.max(to),
            Self::Steps(rates) => rates.iter().copied().max().unwrap_or(rate),
            Self::Bursts { factor, .. } => rate.times(*factor),
            Self::Sine { depth, .. } => rate.times(1.0 + depth),
        }
    }

    /// Whether a rate asked for beside this process is ignored.
    pub fn bring_their_own_rates(&self) -> bool {
        match self {
            Self::Ramp { .. } | Self::Steps(_) => true,
            Self::Constant | Self::Poisson | Self::Bursts { .. } | Self::Sine { .. } => false,
        }
    }

    /// The mean rate over a stretch of `duration` for which `rate` was asked; the expected one where chance plays.
    pub fn mean(&self, rate: Rate, duration: Duration) -> Rate {
        let end_ns = nanos(duration);
        let made = match self {
            Self::Constant | Self::Poisson => return rate,
            Self::Ramp { from, to } => from.over(end_ns).midpoint(to.over(end_ns)),
            Self::Steps(rates) => {
                let (step_ns, left_ns) = (end_ns / rates.len() as u64, end_ns % rates.len() as u64);
                rates.iter().map(|rate| rate.over(step_ns)).sum::<u128>() + rates[rates.len() - 1].over(left_ns)
            }
            Self::Bursts { factor, every, lasts } => {
                let (every_ns, lasts_ns) = (nanos(*every), nanos(*lasts));
                let (cycles, left_ns) = (end_ns / every_ns, end_ns % every_ns);
                let in_bursts_ns = cycles * lasts_ns + left_ns.min(lasts_ns);
                rate.times(*factor).over(in_bursts_ns) + rate.over(end_ns - in_bursts_ns)
            }
            // In range: below twice the product of two 64-bit numbers.
            Self::Sine { depth, period } => {
                (rate.over(1) as f64 * Swing::new(*depth, *period).stretched_ns(end_ns)) as u128
            }
        };
        Rate::making(made, end_ns)
    }
}

/// The intended send times of one stretch of load, in nanoseconds from its start, ascending.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    rate: Rate,
    end_ns: u64,
    next: u64,
    /// Drawn from by a Poisson process alone.
    gaps: PoissonGaps,
}

#[derive(Clone, Debug)]
struct PoissonGaps {
    rng: ChaCha8Rng,
    elapsed_ns: f64,
}

impl Schedule {
    /// All arrivals due within `duration` from the start. The same arguments give the same schedule.
    pub fn new(arrivals: Arrivals, rate: Rate, duration: Duration, seed: u64) -> Self {
        let gaps = PoissonGaps { rng: ChaCha8Rng::seed_from_u64(seed), elapsed_ns: 0.0 };
        Self { arrivals, rate, end_ns: nanos(duration), next: 0, gaps }
    }
}

impl Iterator for Schedule {
    /// Nanoseconds from the start.
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (rate, index) = (self.rate, self.next);
        let due = match &self.arrivals {
            Arrivals::Constant => rate.arrival_ns(index),
            Arrivals::Poisson => self.gaps.next_ns(rate),
            Arrivals::Ramp { from, to } => ramp_ns(*from, *to, self.end_ns, index)?,
            Arrivals::Steps(rates) => steps_ns(rates, self.end_ns, index)?,
            Arrivals::Bursts { factor, every, lasts } => bursts_ns(rate, *factor, nanos(*every), nanos(*lasts), index),
            Arrivals::Sine { depth, period } => {
                Swing::new(*depth, *period).inverted_ns(index as f64 * 1e9 / rate.as_f64())
            }
        };
        self.next = index.saturating_add(1);
        (due < self.end_ns).then_some(due)
    }

    /// As many calls of `next`, in the time of one but for `poisson`, whose gaps have to be drawn one by one.
    fn nth(&mut self, n: usize) -> Option<u64> {
        if self.arrivals == Arrivals::Poisson {
            for _ in 0..n {
                self.next()?;
            }
        } else {
            self.next = self.next.saturating_add(n as u64);
        }
        self.next()
    }
}

impl PoissonGaps {
    fn next_ns(&mut self, rate: Rate) -> u64 {
        // Inverse transform: -ln(1 - u) / rate, with u in [0, 1).
        let u: f64 = self.rng.random();
        self.elapsed_ns += -(1.0 - u).ln() * 1e9 / rate.as_f64();
        self.elapsed_ns as u64
    }
}

/// When the integral of a rate that goes straight from `from` to `to` reaches `index`; `None` when it does not.
fn ramp_ns(from: Rate, to: Rate, end_ns: u64, index: u64) -> Option<u64> {
    // In integers, so that rounding neither adds an arrival at the end nor loses one.
    if 2 * REQUEST * u128::from(index) >= from.over(end_ns) + to.over(end_ns) {
        return None;
    }
    // The root of from × t + (to - from) × t² / (2 × end) = index that lies within the stretch, in the form that neither
    // divides by the slope, which may be zero, nor subtracts nearly equal numbers.
    let (from, to, index, end) = (from.as_f64(), to.as_f64(), index as f64, end_ns as f64 / 1e9);
    // The square of the rate at that moment: no less than that of either end, but for rounding.
    let squared = (from * from + 2.0 * (to - from) * index / end).max(0.0);
    let due = 2.0 * index / (from + squared.sqrt()) * 1e9;
    Some((due as u64).min(end_ns - 1))
}

/// When the integral of rates that follow each other in equal parts reaches `index`, in exact integers.
fn steps_ns(rates: &[Rate], end_ns: u64, index: u64) -> Option<u64> {
    let (last, before) = rates.split_last()?;
    let step_ns = end_ns / rates.len() as u64;
    let (mut start_ns, mut left) = (0, REQUEST * u128::from(index));
    for rate in before {
        let made = rate.over(step_ns);
        if left < made {
            return Some(start_ns + rate.time_ns(left));
        }
        start_ns += step_ns;
        left -= made;
    }
    // The last also has the few nanoseconds that the division leaves.
    Some(start_ns.saturating_add(last.time_ns(left)))
}

/// When the integral of a rate with bursts reaches `index`, in exact integers.
fn bursts_ns(rate: Rate, factor: f64, every_ns: u64, lasts_ns: u64, index: u64) -> u64 {
    let burst = rate.times(factor);
    let in_burst = burst.over(lasts_ns);
    let in_cycle = in_burst + rate.over(every_ns - lasts_ns);
    let made = REQUEST * u128::from(index);
    let (cycles, left) = (made / in_cycle, made % in_cycle);
    let within_ns = if left < in_burst { burst.time_ns(left) } else { lasts_ns + rate.time_ns(left - in_burst) };
    u64::try_from(cycles * u128::from(every_ns)).unwrap_or(u64::MAX).saturating_add(within_ns)
}

/// Newton's steps that are tried before an interval is only halved; they take three to five where they get along.
const NEWTON_STEPS: u32 = 12;

/// Time as a rate that swings like a sine stretches it.
///
/// The integral of `rate × (1 + depth × sin(2π t / period))` is `rate × stretched(t)` with
/// `stretched(t) = t + depth × period / π × sin²(π t / period)`, so the rate itself need not be known here.
struct Swing {
    depth: f64,
    period_ns: f64,
    /// By how much stretched time is ahead at most.
    lead_ns: f64,
}

impl Swing {
    fn new(depth: f64, period: Duration) -> Self {
        let period_ns = period.as_nanos() as f64;
        Self { depth, period_ns, lead_ns: depth * period_ns / PI }
    }

    fn stretched_ns(&self, ns: u64) -> f64 {
        self.stretched_and_slope(ns).0
    }

    /// Stretched time, and how fast it goes.
    fn stretched_and_slope(&self, ns: u64) -> (f64, f64) {
        let t = ns as f64;
        let (sin, cos) = (PI * t / self.period_ns).sin_cos();
        (t + self.lead_ns * sin * sin, 1.0 + 2.0 * self.depth * sin * cos)
    }

    /// The last nanosecond at which stretched time is not beyond `goal_ns`.
    ///
    /// The equation, Kepler's, has no solution in closed form. Stretched time only ever rises, as `depth` is below 1, so
    /// the interval that holds the nanosecond in question can be narrowed down to it alone. Newton's method does that in
    /// a few steps, each aimed at the side that is still open; where the slope is nearly zero it would overshoot or creep,
    /// and the interval is halved instead.
    fn inverted_ns(&self, goal_ns: f64) -> u64 {
        let (mut low, mut high) = ((goal_ns - self.lead_ns) as u64, (goal_ns as u64).saturating_add(1));
        let mut aim = (goal_ns - self.lead_ns / 2.0) as u64;
        let mut steps = 0;
        while high - low > 1 {
            let at = if steps < NEWTON_STEPS && low < aim && aim < high { aim } else { low.midpoint(high) };
            steps += 1;
            let (stretched, slope) = self.stretched_and_slope(at);
            let root_ns = at as f64 - (stretched - goal_ns) / slope;
            if stretched <= goal_ns {
                low = at;
                aim = (root_ns as u64).saturating_add(1);
            } else {
                high = at;
                aim = root_ns as u64;
            }
        }
        low
    }
}

/// Longer than five centuries is as long as that.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

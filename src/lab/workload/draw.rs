//! Random draws for a request, as a pure function of its number.

use std::num::NonZeroU32;

use super::mixed;
use crate::experiment::payload::{Entry, Payload, Share, UserIds};

/// Cards that are dealt one after the other, from a deck shuffled anew each time it is used up: of as many draws as the
/// deck has cards, each kind comes exactly as often as it should, in an order that no period of something else can
/// fall in step with.
#[derive(Clone, Debug)]
pub(super) struct Deck {
    /// Up to where the cards of each kind reach in the deck as it is before it is shuffled.
    ends: Vec<u64>,
    size: u64,
}

impl Deck {
    /// A deck in which each kind has its share of the weights; their sum is neither 0 nor above 2^63.
    fn new(weights: &[u64]) -> Self {
        let divisor = weights.iter().copied().fold(0, gcd);
        let ends: Vec<u64> = weights
            .iter()
            .scan(0, |end, weight| {
                *end += weight / divisor;
                Some(*end)
            })
            .collect();
        let size = ends.last().copied().unwrap_or(1);
        Self { ends, size }
    }

    /// The kind of card number `seq`.
    pub(super) fn draw(&self, seq: u64, seed: u64) -> usize {
        let place = shuffled(seq % self.size, self.size, mixed(seed ^ mixed(seq / self.size)));
        self.ends.partition_point(|end| *end <= place)
    }

    /// The deck of a mix. Entry `i` is kind `2 i`, and kind `2 i + 1` where it is to be refused.
    pub(super) fn of(payload: &Payload) -> Self {
        let refused = u64::from(payload.error_share.millionths());
        let whole = u64::from(Share::WHOLE);
        let weights: Vec<u64> = payload
            .mix
            .entries()
            .iter()
            .flat_map(|entry| match entry {
                Entry::Order { weight, .. } => [u64::from(*weight) * (whole - refused), u64::from(*weight) * refused],
                Entry::Healthz { weight } => [u64::from(*weight) * whole, 0],
            })
            .collect();
        Self::new(&weights)
    }
}

/// The number below `bound` that random `bits` lead to: as even as 64 bits can be over so many.
fn below(bound: u64, bits: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// Euclid's algorithm.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Where `place` comes to lie when so many places are shuffled as `key` says. The shuffle is one of the next power of two,
/// made of steps that can be undone; whatever falls outside is shuffled again until it falls inside. Source: J. Black and
/// P. Rogaway (2002), "Ciphers with arbitrary finite domains", CT-RSA, method 2. That likes some places of a small deck
/// better than others, so the deck is cut as well.
fn shuffled(mut place: u64, size: u64, key: u64) -> u64 {
    if size == 1 {
        return 0;
    }
    let bits = u64::BITS - (size - 1).leading_zeros();
    let (mask, half) = (u64::MAX >> (u64::BITS - bits), bits.div_ceil(2));
    loop {
        for part in [key, key.rotate_left(21), key.rotate_left(42)] {
            place = place.wrapping_add(part).wrapping_mul(part >> 7 | 1) & mask;
            place ^= place >> half;
        }
        if place < size {
            let cut = below(size, mixed(key));
            return (place + cut) % size;
        }
    }
}

/// How the user of an order is drawn.
#[derive(Clone, Debug)]
pub(super) enum Users {
    InTurn(u64),
    Uniform(u64),
    Zipf(Zipf),
}

impl Users {
    pub(super) fn new(users: NonZeroU32, ids: UserIds) -> Self {
        match ids {
            UserIds::InTurn => Self::InTurn(users.get().into()),
            UserIds::Uniform => Self::Uniform(users.get().into()),
            UserIds::Zipf { exponent } => Self::Zipf(Zipf::new(users, exponent)),
        }
    }

    /// The user of order `seq`, from 0.
    pub(super) fn draw(&self, seq: u64, seed: u64) -> u64 {
        match self {
            Self::InTurn(users) => seq % users,
            Self::Uniform(users) => below(*users, mixed(seed ^ seq)),
            Self::Zipf(zipf) => zipf.draw(mixed(seed ^ seq)) - 1,
        }
    }
}

/// Ranks from 1 to `most`, rank `k` with a probability proportional to `k` to the power of `-exponent`.
///
/// By rejection-inversion: a table would take 8 bytes per user out of the caches of the machine that is measured, and
/// seconds to make for millions of users. Source: W. Hörmann and G. Derflinger (1996), "Rejection-inversion to generate
/// variates from monotone discrete distributions", ACM TOMACS 6 (3), 169–184; names as there.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    exponent: f64,
    most: f64,
    /// `H(3/2) - h(1)` and `H(most + 1/2)`, between which the variate to be inverted lies.
    from: f64,
    to: f64,
    /// No further than this above a rank it is taken without a closer look.
    squeeze: f64,
}

impl Zipf {
    fn new(users: NonZeroU32, exponent: f64) -> Self {
        let mut zipf = Self { exponent, most: users.get().into(), from: 0.0, to: 0.0, squeeze: 0.0 };
        zipf.from = zipf.integral(1.5) - 1.0;
        zipf.to = zipf.integral(zipf.most + 0.5);
        zipf.squeeze = 2.0 - zipf.inverted(zipf.integral(2.5) - zipf.height(2.0));
        zipf
    }

    /// The rank that `bits` lead to; another try takes bits made of them.
    fn draw(&self, mut bits: u64) -> u64 {
        loop {
            // 53 bits, as many as a number in [0, 1) has.
            let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
            let u = self.to + unit * (self.from - self.to);
            let x = self.inverted(u);
            let rank = (x + 0.5).floor().clamp(1.0, self.most);
            if rank - x <= self.squeeze || u >= self.integral(rank + 0.5) - self.height(rank) {
                // A whole number within 32 bits.
                return rank as u64;
            }
            bits = mixed(bits);
        }
    }

    /// `h`: the weight of a rank.
    fn height(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// `H`: the integral of `h` from 1, `(x^(1 - exponent) - 1) / (1 - exponent)`, in the form that holds also near 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        if t == 0.0 { log } else { log * t.exp_m1() / t }
    }

    /// The inverse of `H`.
    fn inverted(&self, u: f64) -> f64 {
        // Rounding must not take it out of the domain of the logarithm.
        let t = (u * (1.0 - self.exponent)).max(-1.0);
        if t == 0.0 { u.exp() } else { (u * t.ln_1p() / t).exp() }
    }
}

#[cfg(test)]
mod tests;

//! The paired t-test, its interval, and what it could have seen.

use super::student;
use crate::record::interval::Interval;

/// Differences between pairs, summarised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    n: usize,
    mean: f64,
    /// Sample variance of a single difference.
    variance: f64,
    /// Variance of the mean that no number of rounds takes away.
    between_runs: f64,
}

impl Paired {
    /// Summarises differences; `None` for fewer than two, which have no spread.
    pub fn of(differences: &[f64]) -> Option<Self> {
        let n = differences.len();
        if n < 2 {
            return None;
        }
        let mean = differences.iter().sum::<f64>() / n as f64;
        let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
        Some(Self { n, mean, variance: squares / (n - 1) as f64, between_runs: 0.0 })
    }

    /// The same with `extra` added to the variance of the mean, in squared units of the differences: what differs between
    /// runs and is therefore the same in all rounds of one.
    #[must_use]
    pub fn with_variance(self, extra: f64) -> Self {
        Self { between_runs: self.between_runs + extra, ..self }
    }

    /// How many differences.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard error of the mean.
    pub fn standard_error(&self) -> f64 {
        self.standard_error_of(self.n)
    }

    /// Student's interval for the mean difference: mean ± t(1 − α/2, n − 1) · s/√n.
    pub fn interval(&self, confidence: f64) -> Interval {
        let reach = self.t(0.5 + confidence / 2.0) * self.standard_error();
        Interval { estimate: self.mean, low: self.mean - reach, high: self.mean + reach }
    }

    /// One-sided p of the hypothesis that the true mean is `limit` or more; small where it is below.
    pub fn p_below(&self, limit: f64) -> f64 {
        let distance = self.mean - limit;
        // Without spread and without a distance there is no evidence, as at t = 0.
        let t = if distance == 0.0 { 0.0 } else { distance / self.standard_error() };
        student::cdf(t, self.freedom())
    }

    /// One-sided p of the hypothesis that the true mean is `limit` or less; small where it is above.
    pub fn p_above(&self, limit: f64) -> f64 {
        Self { mean: -self.mean, ..*self }.p_below(-limit)
    }

    /// The smallest true difference that a test at this confidence detects with the given power:
    /// (t(1 − α/2, n − 1) + t(power, n − 1)) · s/√n. Source: the usual approximation to the power of the t-test, for
    /// instance Zar, Biostatistical Analysis, 5th ed., eq. 7.10.
    pub fn detectable(&self, confidence: f64, power: f64) -> f64 {
        (self.t(0.5 + confidence / 2.0) + self.t(power)) * self.standard_error()
    }

    /// Rounds in all at which the interval reaches no further than `half_width` from the mean, if the spread seen is the
    /// true one; `None` where that takes more than 100 000, or what differs between runs alone is wider.
    pub fn rounds_for_half_width(&self, half_width: f64, confidence: f64) -> Option<u32> {
        first_rounds(|n| {
            student::quantile(0.5 + confidence / 2.0, (n - 1) as f64) * self.standard_error_of(n) <= half_width
        })
    }

    /// Standard error of the mean of `n` differences of this spread.
    pub(super) fn standard_error_of(&self, n: usize) -> f64 {
        (self.variance / n as f64 + self.between_runs).sqrt()
    }

    /// Half the width that the interval of so many differences of this spread has on the mean.
    pub fn expected_half_width(n: usize, standard_deviation: f64, confidence: f64) -> f64 {
        let expected = Self { n, mean: 0.0, variance: standard_deviation.powi(2), between_runs: 0.0 };
        expected.interval(confidence).half_width()
    }

    fn freedom(&self) -> f64 {
        (self.n - 1) as f64
    }

    fn t(&self, p: f64) -> f64 {
        student::quantile(p, self.freedom())
    }
}

/// More rounds than this nobody plays, and an extrapolation that far says nothing.
const ROUNDS_MAX: usize = 100_000;

/// The smallest number of rounds, two or more, that is `enough`, which must stay true once it is.
pub(super) fn first_rounds(enough: impl Fn(usize) -> bool) -> Option<u32> {
    let (mut short, mut sufficient) = (1, ROUNDS_MAX);
    if !enough(sufficient) {
        return None;
    }
    while sufficient - short > 1 {
        let middle = short.midpoint(sufficient);
        if enough(middle) {
            sufficient = middle;
        } else {
            short = middle;
        }
    }
    u32::try_from(sufficient).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn one_difference_has_no_interval() {
        assert_eq!(Paired::of(&[1.0]), None);
    }

    /// Standard normal, by Box and Muller (1958).
    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says_and_detects_what_it_says() {
        const RUNS: usize = 4_000;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut covered, mut detected) = (0, 0);
        for _ in 0..RUNS {
            let noise: Vec<f64> = (0..8).map(|_| normal(&mut rng)).collect();
            let truth = Paired::of(&noise).unwrap();
            covered += usize::from(!truth.interval(0.95).excludes_zero());
            // With sd 1 known, the detectable effect at n = 8 is (2.3646 + 0.8960) / √8.
            let shifted: Vec<f64> = noise.iter().map(|d| d + 3.2606 / 8_f64.sqrt()).collect();
            detected += usize::from(Paired::of(&shifted).unwrap().interval(0.95).excludes_zero());
        }
        // Binomial spread at 4 000 runs: sd 0.34 % at 95 %, 0.63 % at 80 %; four of each.
        let (covered, detected) = (covered as f64 / RUNS as f64, detected as f64 / RUNS as f64);
        assert!((0.936..0.964).contains(&covered), "covered {covered}");
        // The approximation of the detectable effect is a little conservative.
        assert!((0.775..0.85).contains(&detected), "detected {detected}");
    }

    #[test]
    fn variance_between_runs_widens_the_interval_and_no_number_of_rounds_narrows_it() {
        let paired = Paired::of(&[0.03, 0.01, 0.02, 0.04]).unwrap();
        let widened = paired.with_variance(1e-4).with_variance(2e-4);
        let expected = (paired.standard_error().powi(2) + 3e-4).sqrt();
        assert!((widened.standard_error() - expected).abs() < 1e-15);
        assert_eq!((widened.n(), widened.mean()), (4, paired.mean()));
        assert!(widened.p_above(0.0) > paired.p_above(0.0));
        assert!(paired.rounds_for_half_width(0.01, 0.95).is_some_and(|rounds| rounds > 4));
        assert_eq!(widened.rounds_for_half_width(0.01, 0.95), None);
    }

    #[test]
    fn without_spread_only_a_distance_tells() {
        let paired = Paired::of(&[0.5; 4]).unwrap();
        assert_eq!((paired.p_below(0.6), paired.p_below(0.4), paired.p_below(0.5)), (0.0, 1.0, 0.5));
        assert_eq!(paired.interval(0.95), Interval { estimate: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(paired.rounds_for_half_width(0.1, 0.95), Some(2));
    }

    proptest! {
        #[test]
        fn swapping_the_sides_negates_everything_exactly(d in prop::collection::vec(-1e3..1e3_f64, 2..20)) {
            let swapped: Vec<f64> = d.iter().map(|x| -x).collect();
            let (a, b) = (Paired::of(&d).unwrap(), Paired::of(&swapped).unwrap());
            let (x, y) = (a.interval(0.95), b.interval(0.95));
            prop_assert_eq!((x.estimate, x.low, x.high), (-y.estimate, -y.high, -y.low));
            prop_assert_eq!(a.detectable(0.95, 0.8), b.detectable(0.95, 0.8));
        }
    }
}

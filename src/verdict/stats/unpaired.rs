//! Differences between runs that were not paired: Welch's, with room for a variance between runs.

use super::{Ruling, student};
use crate::record::interval::Interval;

/// Beyond so many degrees of freedom Student's t is the normal distribution to a ten-thousandth, and its quantiles are
/// computed with more error than that.
const MOST_FREEDOM: f64 = 1e4;
/// Power at which the rounds needed are stated.
const POWER: f64 = 0.8;
/// More rounds than this nobody plays, and an extrapolation that far says nothing.
const MOST_ROUNDS: f64 = 100_000.0;

/// A mean with its standard error, and how well that error is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    mean: f64,
    /// Of the mean.
    variance: f64,
    /// The part of it that no number of rounds takes away.
    between_runs: f64,
    freedom: f64,
}

impl Estimate {
    /// The mean of `values` with its standard error s/√n on n − 1 degrees of freedom; `None` for fewer than two,
    /// which have no spread.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n < 2 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let freedom = (n - 1) as f64;
        Some(Self { mean, variance: squares / freedom / n as f64, between_runs: 0.0, freedom })
    }

    /// A value without error.
    pub fn exact(value: f64) -> Self {
        Self { mean: value, variance: 0.0, between_runs: 0.0, freedom: MOST_FREEDOM }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The variance of the mean.
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// The same in the other direction.
    #[must_use]
    pub fn negated(&self) -> Self {
        Self { mean: -self.mean, ..*self }
    }

    /// The difference to an independent estimate, its degrees of freedom after Welch and Satterthwaite. Source: B. L.
    /// Welch (1947), "The generalization of 'Student's' problem when several different population variances are
    /// involved", Biometrika 34, 28–35.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let variance = self.variance + other.variance;
        let doubt = self.variance.powi(2) / self.freedom + other.variance.powi(2) / other.freedom;
        Self {
            mean: self.mean - other.mean,
            between_runs: self.between_runs + other.between_runs,
            variance,
            freedom: freedom(variance, doubt),
        }
    }

    /// The same difference between two runs, each of which has a deviation of its own.
    #[must_use]
    pub fn with(&self, between: &BetweenRuns) -> Self {
        let further = 2.0 * between.variance;
        // What is doubtful about the part is what is doubtful about the whole that it was taken from.
        let doubt = self.variance.powi(2) / self.freedom + (2.0 * between.spread).powi(2) / between.freedom;
        let variance = self.variance + further;
        Self { mean: self.mean, variance, between_runs: self.between_runs + further, freedom: freedom(variance, doubt) }
    }

    /// The two-sided interval: mean ± t(1 − α/2, ν) · se.
    pub fn interval(&self, confidence: f64) -> Interval {
        let reach = student::quantile(0.5 + confidence / 2.0, self.freedom) * self.variance.sqrt();
        Interval { estimate: self.mean, low: self.mean - reach, high: self.mean + reach }
    }

    /// One-sided p of the hypothesis that the truth is at most `limit`: small where it is above.
    pub fn p_above(&self, limit: f64) -> f64 {
        self.negated().p_below(-limit)
    }

    /// One-sided p of the hypothesis that the truth is at least `limit`: small where it is below.
    pub fn p_below(&self, limit: f64) -> f64 {
        let distance = self.mean - limit;
        // Without spread and without a distance there is no evidence, as at t = 0.
        let t = if distance == 0.0 { 0.0 } else { distance / self.variance.sqrt() };
        student::cdf(t, self.freedom)
    }

    /// The smallest true value that a two-sided test against zero detects with the given power: (t(1 − α/2, ν) + t(power,
    /// ν)) · se, as [`super::Paired::detectable`].
    pub fn detectable(&self, confidence: f64, power: f64) -> f64 {
        let t = |p| student::quantile(p, self.freedom);
        (t(0.5 + confidence / 2.0) + t(power)) * self.variance.sqrt()
    }

    /// Rules on the claim that the truth is at most `limit`, at one-sided level `alpha` either way, for an estimate that
    /// rests on so many rounds.
    pub fn below(&self, limit: f64, alpha: f64, rounds: u32) -> Ruling {
        // What is known without error is above its limit or it is not.
        let exact = self.variance <= 0.0;
        if self.p_below(limit) < alpha || (exact && self.mean <= limit) {
            Ruling::Confirmed
        } else if self.p_above(limit) < alpha {
            Ruling::Refuted
        } else {
            Ruling::Inconclusive { rounds_needed: self.rounds_needed(limit, alpha, rounds) }
        }
    }

    /// Rounds at which a truth like this estimate is told from `limit` with 80 % power, by the normal approximation: what
    /// is between runs stays, and the rest of the variance shrinks with their number.
    fn rounds_needed(&self, limit: f64, alpha: f64, rounds: u32) -> Option<u32> {
        let z = student::normal_quantile(1.0 - alpha) + student::normal_quantile(POWER);
        let variance = ((self.mean - limit) / z).powi(2);
        let needed = (self.variance - self.between_runs) * f64::from(rounds) / (variance - self.between_runs);
        // Rounds that were played have not decided, whatever the approximation says.
        let needed = needed.ceil().max(f64::from(rounds + 1));
        (variance > self.between_runs && needed <= MOST_ROUNDS).then_some(needed as u32)
    }
}

/// A sum of variances has (Σ v)² / Σ (v² / ν) degrees of freedom; `doubt` is the denominator. Source: F. E. Satterthwaite
/// (1946), "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 110–114.
fn freedom(variance: f64, doubt: f64) -> f64 {
    if doubt > 0.0 { (variance.powi(2) / doubt).clamp(1.0, MOST_FREEDOM) } else { MOST_FREEDOM }
}

/// How much runs of the same code differ beyond the noise within each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BetweenRuns {
    /// The variance τ² of a run's own deviation.
    variance: f64,
    /// The variance of the runs' means, of which τ² is what their standard errors do not explain.
    spread: f64,
    freedom: f64,
}

impl BetweenRuns {
    /// Fewest runs that are an estimate.
    pub const FEWEST: usize = 3;

    /// Estimated from runs of the same code: τ̂² = max(0, var(means) − mean(se²)), by the method of moments. `None` of fewer
    /// than three runs. Source: R. `DerSimonian` and N. Laird (1986), "Meta-analysis in clinical trials", Controlled Clinical
    /// Trials 7, 177–188, for equal weights.
    pub fn of(runs: &[Estimate]) -> Option<Self> {
        if runs.len() < Self::FEWEST {
            return None;
        }
        let means: Vec<f64> = runs.iter().map(|run| run.mean).collect();
        let means = Estimate::of(&means)?;
        let spread = means.variance * runs.len() as f64;
        let within = runs.iter().map(|run| run.variance).sum::<f64>() / runs.len() as f64;
        Some(Self { variance: (spread - within).max(0.0), spread, freedom: means.freedom })
    }

    /// Taken for granted: runs deviate by this standard deviation.
    pub fn assumed(deviation: f64) -> Self {
        let variance = deviation.powi(2);
        Self { variance, spread: variance, freedom: f64::INFINITY }
    }

    /// The standard deviation τ.
    pub fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fixture::normal;
    use crate::verdict::stats::Paired;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const A: [f64; 8] = [1.2, 0.7, 1.9, 1.1, 0.4, 1.6, 1.3, 0.8];
    const B: [f64; 5] = [2.4, 1.0, 3.9, 2.2, 1.7];

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    #[test]
    fn agrees_with_scipy() {
        // scipy 1.17.1, with a = A and b = B: r = stats.ttest_ind(b, a, equal_var=False); r.df; r.confidence_interval(0.95);
        // stats.ttest_ind(numpy.array(b) - 0.2, a, equal_var=False, alternative="greater").pvalue;
        // stats.ttest_ind(numpy.array(b) - 2.5, a, equal_var=False, alternative="less").pvalue
        let difference = Estimate::of(&B).unwrap().minus(&Estimate::of(&A).unwrap());
        assert!(close(difference.mean(), 1.115) && close(difference.freedom, 5.056_351_642_129_399), "{difference:?}");
        let interval = difference.interval(0.95);
        assert!(close(interval.low, -0.192_645_542_186_408_6), "{interval:?}");
        assert!(close(interval.high, 2.422_645_542_186_408), "{interval:?}");
        assert!(close(difference.p_above(0.2), 0.066_174_471_666_717_39), "{:.12}", difference.p_above(0.2));
        assert!(close(difference.p_below(2.5), 0.020_804_800_445_556_656), "{:.12}", difference.p_below(2.5));
    }

    #[test]
    fn variance_between_runs_widens_the_interval_with_the_doubt_about_it() {
        // numpy and scipy, with means = [0.01, 0.03, -0.02, 0.015] of se² 1e-4 each: S = numpy.var(means, ddof=1);
        // tau2 = S - 1e-4; v, d = the variance and degrees of freedom of b - a; V = v + 2 * tau2;
        // df = V**2 / (v**2 / d + (2 * S)**2 / 3); stats.t.interval(0.95, df, loc=1.115, scale=V**0.5);
        // (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * V**0.5
        let runs =
            [0.01, 0.03, -0.02, 0.015].map(|mean| Estimate { variance: 1e-4, freedom: 7.0, ..Estimate::exact(mean) });
        let between = BetweenRuns::of(&runs).unwrap();
        assert!(close(between.deviation(), 0.018_427_786_989_579_985), "{:.15}", between.deviation());
        let difference = Estimate::of(&B).unwrap().minus(&Estimate::of(&A).unwrap()).with(&between);
        assert!(close(difference.freedom, 5.082_652_851_932_049), "{difference:?}");
        let interval = difference.interval(0.95);
        assert!(
            close(interval.low, -0.192_340_767_541_167_25) && close(interval.high, 2.422_340_767_541_167_2),
            "{interval:?}"
        );
        assert!(
            close(difference.detectable(0.95, 0.8), 1.776_591_591_530_534),
            "{:?}",
            difference.detectable(0.95, 0.8)
        );
    }

    #[test]
    fn an_assumed_variance_costs_no_degrees_of_freedom() {
        let known = Estimate::exact(0.0).with(&BetweenRuns::assumed(0.5)).interval(0.95);
        assert!((known.high - 1.959_964 * 0.5_f64.sqrt()).abs() < 4e-4, "{known:?}");
    }

    #[test]
    fn runs_that_differ_no_more_than_their_noise_have_nothing_between_them() {
        let run = |mean| Estimate { variance: 1.0, freedom: 7.0, ..Estimate::exact(mean) };
        assert_eq!(BetweenRuns::of(&[run(0.1), run(0.0), run(-0.1)]).unwrap().deviation(), 0.0);
        assert_eq!(BetweenRuns::of(&[run(0.1), run(5.0)]), None);
    }

    /// Share of comparisons of two runs of the same code, with a deviation of `tau` per run, whose interval excludes zero.
    fn false_alarms(tau: f64, history: usize, with: impl Fn(&[Estimate]) -> Option<BetweenRuns>) -> f64 {
        const COMPARISONS: usize = 4_000;
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut run = || {
            let deviation = tau * normal(&mut rng);
            // As an A/A run on a quiet virtual machine: eight rounds of sd 1.8 %.
            Estimate::of(&(0..8).map(|_| deviation + 0.018 * normal(&mut rng)).collect::<Vec<_>>()).unwrap()
        };
        let alarm = |_: &usize| {
            let stored: Vec<Estimate> = (0..history).map(|_| run()).collect();
            let difference = run().minus(&run());
            let difference = with(&stored).map_or(difference, |between| difference.with(&between));
            difference.interval(0.95).excludes_zero()
        };
        (0..COMPARISONS).filter(alarm).count() as f64 / COMPARISONS as f64
    }

    #[test]
    fn runs_that_differ_by_a_percent_raise_false_alarms_unless_that_is_allowed_for() {
        // Binomial spread at 4 000 comparisons: sd 0.34 % at 5 %, 0.7 % at 26 %.
        let ignored = false_alarms(0.01, 0, |_| None);
        assert!((0.22..0.30).contains(&ignored), "{ignored}");
        let assumed = false_alarms(0.01, 0, |_| Some(BetweenRuns::assumed(0.01)));
        assert!((0.035..0.065).contains(&assumed), "{assumed}");
        for history in [3, 5, 8] {
            for tau in [0.0, 0.01, 0.02] {
                let estimated = false_alarms(tau, history, BetweenRuns::of);
                assert!(estimated < 0.062, "{estimated} with {history} runs that differ by {tau}");
            }
        }
    }

    #[test]
    fn one_value_gives_no_estimate() {
        assert_eq!(Estimate::of(&[1.0]), None);
    }

    #[test]
    fn an_exact_value_is_on_one_side_of_any_limit() {
        let exact = Estimate::exact(0.1);
        assert_eq!((exact.p_above(0.05), exact.p_below(0.05)), (0.0, 1.0));
        assert_eq!(exact.below(0.1, 0.05, 8), Ruling::Confirmed);
        assert_eq!(exact.below(0.099, 0.05, 8), Ruling::Refuted);
        assert_eq!(exact.interval(0.95), Interval { estimate: 0.1, low: 0.1, high: 0.1 });
    }

    #[test]
    fn more_rounds_decide_unless_the_runs_themselves_differ_too_much() {
        // Eight rounds of sd 0.1 in each of two runs, at 0.02 from the limit; z = 1.644854 + 0.841621: the variance must come
        // down from 0.0025 to (0.02 / 2.486475)² = 6.46989e-5, which takes 38.64 times the rounds.
        let spread: f64 = 0.1;
        let apart = Estimate { mean: 0.03, variance: spread.powi(2) / 4.0, between_runs: 0.0, freedom: 14.0 };
        assert_eq!(apart.below(0.05, 0.05, 8), Ruling::Inconclusive { rounds_needed: Some(310) });
        // With half of that variance between runs it takes (0.0025 − b) / (6.46989e-5 − b) − 1 times more of the rest.
        let b = 3.234_945e-5;
        let between = Estimate { variance: 0.0025 + b, between_runs: b, ..apart };
        assert_eq!(between.below(0.05, 0.05, 8), Ruling::Inconclusive { rounds_needed: Some(619) });
        let too_much = Estimate { variance: 0.0025 + 7e-5, between_runs: 7e-5, ..apart };
        assert_eq!(too_much.below(0.05, 0.05, 8), Ruling::Inconclusive { rounds_needed: None });
    }

    proptest! {
        #[test]
        fn of_one_sample_it_is_what_the_paired_test_says(d in prop::collection::vec(-1e3..1e3_f64, 2..20)) {
            let (one, paired) = (Estimate::of(&d).unwrap().interval(0.95), Paired::of(&d).unwrap().interval(0.95));
            prop_assert!(close(one.low, paired.low) && close(one.high, paired.high), "{:?} {:?}", one, paired);
        }

        #[test]
        fn swapping_the_runs_negates_the_difference(a in prop::collection::vec(-1e3..1e3_f64, 2..20), b in prop::collection::vec(-1e3..1e3_f64, 2..20)) {
            let (a, b) = (Estimate::of(&a).unwrap(), Estimate::of(&b).unwrap());
            let (x, y) = (a.minus(&b).interval(0.95), b.minus(&a).interval(0.95));
            prop_assert!(close(x.low, -y.high) && close(x.high, -y.low));
        }
    }
}

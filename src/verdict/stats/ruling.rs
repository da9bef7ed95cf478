//! Verdicts on a claimed limit.

use super::paired::{Paired, first_rounds};
use super::permutation::sign_flip_p_below;
use super::student;

/// Power at which the rounds needed are stated.
const POWER: f64 = 0.8;

/// Whether differences confirm a claim about their true mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It holds.
    Confirmed,
    /// It does not.
    Refuted,
    /// Too few rounds, too much noise, or two tests that disagree.
    Inconclusive {
        /// Rounds in all that decide with 80 % power if mean and spread are as observed; `None` where that is not known,
        /// or takes more than 100 000.
        rounds_needed: Option<u32>,
    },
}

/// Rules on the claim that the true mean is below `limit`, at one-sided level `alpha` either way: confirmed where the upper
/// bound of Student's interval is below, refuted where the lower is above. The sign-flip test must agree wherever it
/// has patterns enough to reach `alpha`; where they disagree nothing is decided.
pub fn below(differences: &[f64], limit: f64, alpha: f64) -> Ruling {
    let Some(paired) = Paired::of(differences) else { return Ruling::Inconclusive { rounds_needed: None } };
    let opposite: Vec<f64> = differences.iter().map(|d| -d).collect();
    if paired.p_below(limit) < alpha && !objects(differences, limit, alpha) {
        Ruling::Confirmed
    } else if paired.p_above(limit) < alpha && !objects(&opposite, -limit, alpha) {
        Ruling::Refuted
    } else {
        let distance = (paired.mean() - limit).abs();
        Ruling::Inconclusive { rounds_needed: rounds_needed(&paired, |n| power(&paired, distance, n, alpha)) }
    }
}

/// Rules on the claim that the true mean is within ±`margin`: confirmed where two one-sided tests at `alpha` put it below
/// `margin` and above −`margin`, which is where the 1 − 2·`alpha` interval is inside; refuted where that is wholly
/// outside. Each test is cross-checked as in [`below`]. Source: Schuirmann (1987), "A comparison of the two one-sided
/// tests procedure and the power approach", J. Pharmacokinet. Biopharm. 15, 657–680.
pub fn within(differences: &[f64], margin: f64, alpha: f64) -> Ruling {
    let Some(paired) = Paired::of(differences) else { return Ruling::Inconclusive { rounds_needed: None } };
    let opposite: Vec<f64> = differences.iter().map(|d| -d).collect();
    match (below(differences, margin, alpha), below(&opposite, margin, alpha)) {
        (Ruling::Confirmed, Ruling::Confirmed) => Ruling::Confirmed,
        (Ruling::Refuted, _) | (_, Ruling::Refuted) => Ruling::Refuted,
        _ => {
            let (near, far) = (margin - paired.mean().abs(), margin + paired.mean().abs());
            Ruling::Inconclusive {
                rounds_needed: rounds_needed(&paired, |n| {
                    let of = |distance: f64| power(&paired, distance, n, alpha);
                    // Inside both tests must succeed; outside one is enough.
                    if near > 0.0 { of(near) + of(far) - 1.0 } else { of(-near) }
                }),
            }
        }
    }
}

/// Whether the sign-flip test, where it can speak, does not find the differences below `limit`.
fn objects(differences: &[f64], limit: f64, alpha: f64) -> bool {
    0.5_f64.powf(differences.len() as f64) <= alpha && sign_flip_p_below(differences, limit) > alpha
}

/// Chance that `n` rounds of this spread find a true mean this far from the limit, by the approximation of
/// [`Paired::detectable`].
fn power(paired: &Paired, distance: f64, n: usize, alpha: f64) -> f64 {
    let freedom = (n - 1) as f64;
    let t = if distance == 0.0 { 0.0 } else { distance / paired.standard_error_of(n) };
    student::cdf(t - student::quantile(1.0 - alpha, freedom), freedom)
}

/// The first number of rounds with power enough; more than were played, which have not decided.
fn rounds_needed(paired: &Paired, power: impl Fn(usize) -> f64) -> Option<u32> {
    first_rounds(|n| n > paired.n() && power(n) >= POWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEADY: [f64; 8] = [0.018, 0.021, 0.019, 0.022, 0.020, 0.017, 0.023, 0.020];

    #[test]
    fn a_limit_is_ruled_on_by_the_bound_that_faces_it() {
        assert_eq!(below(&STEADY, 0.03, 0.05), Ruling::Confirmed);
        assert_eq!(below(&STEADY, 0.01, 0.05), Ruling::Refuted);
        // At the observed mean no number of rounds decides.
        assert_eq!(below(&STEADY, 0.020, 0.05), Ruling::Inconclusive { rounds_needed: None });
        let Ruling::Inconclusive { rounds_needed: Some(rounds) } = below(&STEADY, 0.0205, 0.05) else { panic!() };
        // 6.18 (s / distance)^2 = 98.9 on the normal scale; a little more on that of t.
        assert!((99..104).contains(&rounds), "{rounds}");
        for few in [&STEADY[..0], &STEADY[..1]] {
            assert_eq!(below(few, 1.0, 0.05), Ruling::Inconclusive { rounds_needed: None });
            assert_eq!(within(few, 1.0, 0.05), Ruling::Inconclusive { rounds_needed: None });
        }
    }

    #[test]
    fn a_margin_is_ruled_on_from_both_sides() {
        let opposite = STEADY.map(|d| -d);
        for differences in [STEADY, opposite] {
            assert_eq!(within(&differences, 0.03, 0.05), Ruling::Confirmed);
            assert_eq!(within(&differences, 0.01, 0.05), Ruling::Refuted);
            assert!(matches!(
                within(&differences, 0.0205, 0.05),
                Ruling::Inconclusive { rounds_needed: Some(99..104) }
            ));
        }
        // Around zero both tests must succeed: z(0.95) + z(0.9) instead of z(0.95) + z(0.8), 8.56 instead of 6.18.
        let around_zero: Vec<f64> = STEADY.iter().map(|d| d - 0.020).collect();
        assert!(matches!(within(&around_zero, 0.0005, 0.05), Ruling::Inconclusive { rounds_needed: Some(137..142) }));
    }

    /// Two rounds without a difference and four with the same one, as of a counter that steps: Student's test puts the mean
    /// above zero with p = 0.0125. That four coins all show heads has a chance of 1 in 16.
    #[test]
    fn where_the_sign_flip_test_disagrees_nothing_is_decided() {
        let differences = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let paired = Paired::of(&differences).unwrap();
        assert!(paired.p_above(0.0) < 0.02);
        let Ruling::Inconclusive { rounds_needed: Some(rounds) } = below(&differences, 0.0, 0.05) else { panic!() };
        assert!(rounds > differences.len() as u32);
        // With four differences the sign-flip test has no say: 1 of 16 patterns is more than 5 %.
        assert_eq!(below(&STEADY[..4], 0.01, 0.05), Ruling::Refuted);
    }
}

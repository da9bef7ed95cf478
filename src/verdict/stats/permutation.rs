//! The sign-flip test: the cross-check of the t-test that assumes no distribution but symmetry.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest number of differences for which every sign pattern is counted.
const EXHAUSTIVE: usize = 30;
/// Random patterns beyond that; the standard error of a p of 0.05 is then 0.0007.
const PATTERNS: u32 = 100_000;
/// Sums of the same numbers in other signs or another order differ by rounding where they should tie. Rounding is below
/// n · 2⁻⁵³ of the sum of magnitudes, for which this leaves room up to ten thousand differences.
const ROUNDING: f64 = 1e-12;

/// Two-sided p-value of the hypothesis that the differences are symmetric around zero: the share of sign patterns whose
/// mean is at least as far from zero. Exact up to 30 differences; beyond, estimated from 100 000 seeded patterns with
/// the observed one counted in. Source: Fisher, The Design of Experiments (1935), § 21; Phipson and Smyth (2010).
pub fn sign_flip_p(differences: &[f64]) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    let tolerance = ROUNDING * differences.iter().map(|d| d.abs()).sum::<f64>();
    // Every pattern has its opposite, so as many sums lie as far above zero as below.
    if observed <= tolerance { 1.0 } else { (2.0 * share_up_to(differences, -observed + tolerance)).min(1.0) }
}

/// One-sided p-value of the hypothesis that the differences are symmetric around `limit` or more: the share of sign
/// patterns of what they differ from it whose mean is at most the one observed. Small where the differences are below the
/// limit. Exact or estimated as [`sign_flip_p`].
pub fn sign_flip_p_below(differences: &[f64], limit: f64) -> f64 {
    let distances: Vec<f64> = differences.iter().map(|d| d - limit).collect();
    let magnitudes: f64 = differences.iter().map(|d| d.abs() + limit.abs()).sum();
    share_up_to(&distances, distances.iter().sum::<f64>() + ROUNDING * magnitudes)
}

/// The share of sign patterns whose sum is at most `threshold`.
fn share_up_to(values: &[f64], threshold: f64) -> f64 {
    if values.len() <= EXHAUSTIVE { counted(values, threshold) } else { drawn(values, threshold) }
}

/// By every pattern. The sums of all are the sums of two halves, which sorted need one pass instead of a product: for 20
/// values two lists of 1 024 instead of a million patterns. Source: Horowitz and Sahni (1974), "Computing partitions with
/// applications to the knapsack problem", J. ACM 21, 277–292.
fn counted(values: &[f64], threshold: f64) -> f64 {
    let (left, right) = values.split_at(values.len() / 2);
    let (left, right) = (sorted_sums(left), sorted_sums(right));
    let mut fitting = right.len();
    let mut count = 0;
    for sum in &left {
        while fitting > 0 && sum + right[fitting - 1] > threshold {
            fitting -= 1;
        }
        count += fitting;
    }
    count as f64 / (left.len() * right.len()) as f64
}

/// The sums of `values` under every sign pattern, ascending.
fn sorted_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0];
    for value in values {
        let value = value.abs();
        sums = sums.iter().map(|sum| sum - value).chain(sums.iter().map(|sum| sum + value)).collect();
        // Two ascending runs, which a stable sort merges in one pass.
        sums.sort_by(f64::total_cmp);
    }
    sums
}

/// By random patterns, with the observed one, which is among those sought, counted in.
fn drawn(values: &[f64], threshold: f64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let found = (0..PATTERNS)
        .filter(|_| values.iter().map(|value| if rng.random() { -value } else { *value }).sum::<f64>() <= threshold)
        .count();
    (found + 1) as f64 / f64::from(PATTERNS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cases_are_counted_by_hand() {
        // Of the 8 patterns of (1, 2, 3) only two reach |6|.
        assert_eq!(sign_flip_p(&[1.0, 2.0, 3.0]), 0.25);
        assert_eq!(sign_flip_p(&[1.0, -1.0]), 1.0);
        assert_eq!(sign_flip_p(&[0.0; 6]), 1.0);
        // All of one sign: 2 of 2^8.
        assert_eq!(sign_flip_p(&[5.0, 5.1, 4.9, 5.2, 5.0, 4.8, 5.3, 5.0]), 2.0 / 256.0);
    }

    #[test]
    fn beyond_what_is_counted_the_estimate_agrees_with_the_exact_value() {
        let long: Vec<f64> = (0..=EXHAUSTIVE).map(|i| (i % 5) as f64 - 1.6).collect();
        let threshold = -long.iter().sum::<f64>().abs() + 1e-9;
        let (exact, estimate) = (counted(&long, threshold), drawn(&long, threshold));
        // Four standard errors at 100 000 patterns.
        assert!((estimate - exact).abs() < 0.006 && exact > 0.01, "{estimate} against {exact}");
        assert_eq!(sign_flip_p(&long), 2.0 * estimate);
    }

    /// Three tenths less three tenths is not zero in binary; the patterns that tie with the observed one count.
    #[test]
    fn sums_that_tie_but_for_rounding_count_as_ties() {
        assert_eq!(sign_flip_p(&[0.1, 0.2, -0.3]), 1.0);
        assert_eq!(sign_flip_p_below(&[0.1, 0.2, -0.3], 0.0), 5.0 / 8.0);
        assert_eq!(sign_flip_p_below(&[0.4, 0.5, 0.0], 0.3), 5.0 / 8.0);
    }

    #[test]
    fn below_a_limit_is_above_it_from_the_other_side() {
        let differences = [0.31, 0.12, 0.73, -0.2, 0.46, 0.27];
        // Sums that equal the observed one are in both shares; here it alone is.
        let (below, above) = (sign_flip_p_below(&differences, 0.4), sign_flip_p_below(&differences.map(|d| -d), -0.4));
        assert_eq!(below + above, 1.0 + 1.0 / 64.0);
        assert_eq!(sign_flip_p_below(&differences, 1.0), 1.0 / 64.0);
    }
}

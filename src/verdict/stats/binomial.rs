//! How many of so many, where each has its chance.

use statrs::distribution::{Binomial, DiscreteCDF};

/// The smallest number of successes that `trials` with this chance each exceed with a probability of at most 1 − `q`: the
/// quantile `q` of the binomial distribution. 0 where `chance` or `q` is no probability.
pub fn binomial_quantile(trials: u64, chance: f64, q: f64) -> u64 {
    match Binomial::new(chance, trials) {
        Ok(distribution) if q > 0.0 && q <= 1.0 => {
            (0..trials).find(|successes| distribution.cdf(*successes) >= q).unwrap_or(trials)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_scipy() {
        // scipy 1.17.1: stats.binom.ppf(q, n, p)
        for (trials, chance, q, expected) in
            [(100, 0.05, 0.95, 9), (3, 0.05, 0.95, 1), (100, 0.95, 0.05, 91), (3, 0.95, 0.05, 2), (40, 0.8, 0.05, 28)]
        {
            assert_eq!(binomial_quantile(trials, chance, q), expected, "{trials} of {chance} at {q}");
        }
        assert_eq!((binomial_quantile(0, 0.5, 0.5), binomial_quantile(5, 0.5, 1.0)), (0, 5));
        assert_eq!(binomial_quantile(5, f64::NAN, 0.5), 0);
    }
}

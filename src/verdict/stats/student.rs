//! Student's t distribution, for any number of differences.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// P(T ≤ t) with `freedom` degrees of freedom.
pub(super) fn cdf(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |distribution| distribution.cdf(t))
}

/// The t below which T falls with probability `p`; infinite at 0 and 1, not a number where `p` is no probability.
pub(super) fn quantile(p: f64, freedom: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, freedom) {
        Ok(distribution) if (0.0..=1.0).contains(&p) => distribution.inverse_cdf(p),
        _ => f64::NAN,
    }
}

/// P(Z > z) of the standard normal distribution.
pub(super) fn normal_sf(z: f64) -> f64 {
    Normal::standard().sf(z)
}

/// The z below which Z falls with probability `p`.
pub(super) fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

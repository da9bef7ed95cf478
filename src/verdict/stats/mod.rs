//! Statistics of paired comparisons. Pure; every formula with its source.
//!
//! The unit is the round: each value here is one round's difference between an arm and the baseline of the same round.
//! How these methods do on the noise of real machines — slow drift, bursts, heavy tails — is shown by the simulations among
//! the tests of [`crate::verdict::analysis`]; each function by itself is tested against SciPy.

mod binomial;
mod holm;
mod paired;
mod permutation;
mod rank;
mod ruling;
mod spending;
mod steps;
mod student;
mod unpaired;

pub use self::binomial::binomial_quantile;
pub use self::holm::holm;
pub use self::paired::Paired;
pub use self::permutation::{sign_flip_p, sign_flip_p_below};
pub use self::rank::hodges_lehmann;
pub use self::ruling::{Ruling, below, within};
pub use self::spending::{LOOKS, Looks, PRECISION_CONFIDENCE, PRECISION_ROUNDS_MIN, nominal_levels};
pub use self::steps::{FEWEST, steps};
pub use self::unpaired::{BetweenRuns, Estimate};

#[cfg(test)]
mod tests;

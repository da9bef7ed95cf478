//! Statistics of paired comparisons. Pure; every formula with its source.
//!
//! The unit is the round: each value here is one round's difference between an arm and the baseline of the same round.

mod paired;
mod permutation;

pub use self::paired::{Interval, Paired};
pub use self::permutation::sign_flip_p;

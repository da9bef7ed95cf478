//! Judges claims about the cost of telemetry from the records. Pure: the same evidence gives the same verdicts, and a stored
//! result is judged anew when it is read.
//!
//! The questions of a claim are in [`crate::experiment::claims`]. Each is measured in the records or counted, each reading gets
//! a verdict, and the readings together decide the claim.

mod count;
mod judge;
mod overall;
mod ruling;

pub use self::judge::judge;

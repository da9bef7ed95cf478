//! The highest rate of spans that a batch pipeline takes without loss, the limit that theory sets, and settings for a rate.
//!
//! One thread sends the batches, one after the other, and a span that finds the queue full is dropped. So a pipeline sends
//! at most [`bound`] = batch / export time spans a second, plus, in a step of limited length, the spans that are still in its
//! queue at the end ([`lent`]). [`model`] is that theory and the settings it recommends, [`study`] decides which steps are
//! played, and [`findings()`] follow from them. [`emitter`] is the process that makes the spans: a fresh one for each step,
//! because the SDK says how many spans it dropped only when it shuts down.

pub mod emitter;
mod findings;
pub mod model;
pub mod study;

pub use self::findings::findings;
pub use self::model::{Unreachable, absorbed, bound, lent, recommend};
pub use self::study::{Emitter, StudyError, conduct};

//! How many spans a second a batch pipeline takes with no loss, against what theory allows, and which settings a rate needs.
//!
//! One thread sends the batches, one after the other, and a span that finds the queue full is dropped. So a pipeline sends
//! [`bound`] = batch / export time spans a second at most, and for the length of a step its queue lends what it holds
//! ([`lent`]): nothing that is measured here can be above the sum of both. [`model`] is that theory and what it recommends,
//! [`study`] what is tried in which order and what the steps say; both are pure. [`emitter`] is the process that makes the
//! spans, a fresh one for each step, because the SDK tells what it has dropped only when it shuts down.

pub mod emitter;
pub mod model;
pub mod study;

pub use self::model::{Batching, ExportTime, Unreachable, absorbed, bound, lent, recommend};
pub use self::study::{Findings, Purpose, Setup, Step, StudyError};

//! The cost of telemetry calls in isolation: the second estimator, beside the end-to-end one.
//!
//! Some claims are about costs that are too small for a run of lanes. A bound of 0.1 % of a core takes some two thousand
//! rounds when rounds differ by 1.8 %. A tight loop around the calls themselves resolves nanoseconds. An [`Estimator`] is such
//! a loop: the telemetry is installed exactly as in a lane of the same mode, and one kind of call is repeated on one thread and
//! timed by that thread's own CPU clock.
//!
//! Its limits, which are why it is printed beside the end-to-end estimate and never instead of it:
//!
//! - In a loop the code and the data of telemetry are in the caches and its branches are predicted. A service does other
//!   things between two calls, finds them gone, and pays for its own that telemetry has displaced. The real cost is higher.
//! - Only the calling thread is on the account. What exporters spend on theirs, and what they take from the caches of
//!   others, is not.
//! - No thread contends with another, except in the estimators of contention. Where threads share cores, they may not
//!   run at the same time, and contention looks cheaper than it is.
//!
//! It includes a cost that a service would not have: the program counts its allocations and the spans that end, which takes
//! some nanoseconds each. A lane pays for the same.
//!
//! A recorder and a subscriber are installed once per process, and one process is one sample of layout and addresses:
//! two launches of the same loop differ by more than its repetitions do. So the launch is the unit of replication. In
//! each round of [`measure`] every estimator is launched once, in balanced random order, and has one value.
//!
//! Within a launch, the value is the median over batches of the time per operation, less that of the same loop without the call
//! ([`IsolatedReading`]). A loop that did nothing would look fast, so each launch has to prove what it did: counters,
//! histograms and spans must match the number of operations exactly, at the recorder, in the service's side of the ledger and
//! at the sink; otherwise the launch has failed.

mod catalogue;
mod launch;
mod launched;
mod proof;
mod timing;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use thiserror::Error;

use crate::experiment::mode::Mode;
use crate::experiment::plan::Plan;
use crate::experiment::units::nearest;
use crate::lab::lane::LOOPBACK;
use crate::os::subprocess::{SubprocessError, TIMEOUT, capture_stdout, without_otel_environment};
use crate::record::isolated::Isolated;
use crate::sink::{ReceiverConfig, Sink, TreeShape};

pub use self::catalogue::all;
pub use self::launch::{LaunchError, launch};
pub use self::launched::{IsolatedReading, Launched};

use self::launched::{ControlSpan, Footprint, Operation};

/// The hidden subcommand that makes a process one launch.
pub const SUBCOMMAND: &str = "isolated-launch";

/// One kind of call, under one telemetry configuration.
#[derive(Clone, Debug)]
pub struct Estimator {
    /// The name it is asked for by.
    pub name: String,
    /// A line that describes its value, with the unit.
    pub what: String,
    /// The telemetry that is installed.
    mode: Mode,
    /// The operation that is timed.
    operation: Operation,
    /// The telemetry that each operation leaves behind.
    footprint: Footprint,
    /// The expected fate of a span made after the loop.
    control: ControlSpan,
}

/// No estimator has this name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown estimator `{name}`{}; the estimators are {}", hint(.nearest.as_ref()), .known.join(", "))]
pub struct UnknownEstimator {
    name: String,
    nearest: Option<String>,
    known: Vec<String>,
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

/// The estimator called `name`.
///
/// # Errors
/// When there is none; the error suggests the nearest name. Those that scale go up to the cores of this machine.
pub fn named(name: &str) -> Result<Estimator, UnknownEstimator> {
    let all = all();
    all.iter().find(|estimator| estimator.name == name).cloned().ok_or_else(|| {
        let known: Vec<String> = all.into_iter().map(|estimator| estimator.name).collect();
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        UnknownEstimator { name: name.into(), nearest, known }
    })
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum IsolatedError {
    /// There is no such estimator.
    #[error(transparent)]
    Unknown(#[from] UnknownEstimator),
    /// The sink could not be started.
    #[error("cannot start the sink that isolated launches send to: {0}")]
    Sink(#[from] io::Error),
    /// A launch failed, or did something else than it measured.
    #[error("estimator `{estimator}`, round {round}: {why}")]
    Launch {
        /// The estimator.
        estimator: String,
        /// The round, from 1.
        round: usize,
        /// The reason.
        why: String,
    },
}

/// Launches each of the named estimators once per round, in an order that `seed` decides. `executable` must be this program.
/// `progress` is called before each launch. A repeated name counts once.
///
/// It blocks, for some 200 ms per launch. `OTEL_*` variables of the user have no effect.
///
/// # Errors
/// When there is no such estimator, or a launch fails; a launch that cannot prove what it did has failed.
pub fn measure(
    executable: &Path,
    names: &[&str],
    rounds: u32,
    seed: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<Isolated, IsolatedError> {
    let estimators = names
        .iter()
        .map(|name| Ok(((*name).to_owned(), named(name)?)))
        .collect::<Result<BTreeMap<String, Estimator>, UnknownEstimator>>()?;
    let sink = Sink::start()?;
    let mut readings: BTreeMap<String, Vec<f64>> = estimators.keys().map(|name| (name.clone(), Vec::new())).collect();
    let arms: Vec<String> = estimators.keys().cloned().collect();
    for (round, order) in (1..).zip(Plan::new(&arms, rounds, 1, seed).order) {
        for name in order {
            progress(&format!("round {round} of {rounds}: {name}"));
            let launched = launch_once(executable, &estimators[&name], &sink);
            let failed = |why: String| IsolatedError::Launch { estimator: name.clone(), round, why };
            let reading = launched.map_err(failed)?;
            readings.entry(name).or_default().push(reading.ns);
        }
    }
    Ok(Isolated { rounds, readings })
}

/// Launches an estimator once, and verifies that it did what it measured.
fn launch_once(executable: &Path, estimator: &Estimator, sink: &Sink) -> Result<IsolatedReading, String> {
    let any_tree = TreeShape::new(&[], None);
    let receiver = sink.listen(ReceiverConfig::at(LOOPBACK, any_tree)).map_err(|error| error.to_string())?;
    let mut command = without_otel_environment(executable);
    command.args([SUBCOMMAND, &estimator.name, &receiver.endpoint()]);
    let answer = capture_stdout(&mut command, TIMEOUT).map_err(|error| error.to_string())?;
    let launched: Launched = serde_json::from_str(&answer).map_err(|error| SubprocessError::from(error).to_string())?;
    proof::verify(estimator.footprint, estimator.control, &launched, &receiver.received())?;
    Ok(launched.reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_estimator_has_a_name_of_its_own_and_says_its_unit() {
        let names: std::collections::BTreeSet<String> = all().into_iter().map(|estimator| estimator.name).collect();
        assert_eq!(names.len(), all().len());
        for estimator in all() {
            assert!(estimator.what.contains("ns"), "{}: {}", estimator.name, estimator.what);
            assert_eq!(estimator.mode.contradiction(), None, "{}", estimator.name);
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_known_one() {
        let error = named("counter-macro-bridg").unwrap_err().to_string();
        assert!(
            error.starts_with("unknown estimator `counter-macro-bridg`, did you mean `counter-macro-bridge`?"),
            "{error}"
        );
        assert!(!named("zzz").unwrap_err().to_string().contains("did you mean"));
    }
}

//! What telemetry calls cost in isolation: the second estimator, beside the end-to-end one.
//!
//! Some claims are about less than a run of lanes can resolve. A bound of 0.1 % of a core takes some two thousand rounds when
//! rounds differ by 1.8 %. A tight loop around the calls themselves resolves nanoseconds, and that is what an
//! [`Estimator`] is: telemetry put in place exactly as a lane of the same mode has it, and one kind of call, again and
//! again on one thread, by that thread's own CPU clock.
//!
//! What it misses, and why it is printed beside the end-to-end estimate and never instead of it:
//!
//! - In a loop the code and the data of telemetry are in the caches and its branches are predicted. A service does other
//!   things between two calls, finds them gone, and pays for its own that telemetry has displaced. The real cost is higher.
//! - Only the calling thread is on the account. What exporters spend on theirs, and what they take from the caches of
//!   others, is not.
//! - Nobody waits, and no thread contends for what another records into, but in the estimators that are about that. Where
//!   one core serves many threads, those that should be at it at once may not be, and contention looks cheaper than it is.
//!
//! What is in it and would not be in a service: the counts that this program keeps of its allocations and of the spans that
//! end, some nanoseconds each. A lane pays for the same.
//!
//! A recorder and a subscriber are installed once per process, and one process is one sample of layout and addresses:
//! two launches of the same loop differ by more than its repetitions do. So the launch is the unit of replication. In
//! each round of [`measure`] every estimator is launched once, in balanced random order, and has one value.
//!
//! Within a launch the value is the median over batches of what an operation took, less what the same loop takes when it does
//! all but the call ([`Reading`]). And a loop that measured nothing would look fast: so each launch is held against what
//! it left behind. Counters, histograms and spans must be exactly as many as operations were made, at the recorder, at the
//! service's side of the ledger and at the sink; else the launch has failed.

mod catalogue;
mod launch;
mod proof;
mod timing;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::mode::Mode;
use crate::experiment::plan::Plan;
use crate::experiment::units::nearest;
use crate::lab::lane::LOOPBACK;
use crate::os::subprocess::{Apart, PATIENCE, said, unconfigured};
use crate::sink::{ReceiverConfig, Sink, TreeShape};

pub use self::catalogue::all;
pub use self::launch::{LaunchError, Launched, Reading, launch};

use self::launch::Work;
use self::proof::{Control, Leaves};

/// The hidden subcommand that makes a process one launch.
pub const SUBCOMMAND: &str = "isolated-launch";

/// One kind of call, under one telemetry configuration.
#[derive(Clone, Debug)]
pub struct Estimator {
    /// The name it is asked for by.
    pub name: String,
    /// What its value is, in a line with the unit.
    pub what: String,
    /// What is put in place.
    mode: Mode,
    /// What is called.
    work: Work,
    /// What each operation leaves behind.
    leaves: Leaves,
    /// What becomes of a span made after the loop.
    control: Control,
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

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Isolated {
    /// Rounds, in each of which every estimator was launched once.
    pub rounds: u32,
    /// By estimator, nanoseconds of CPU per operation: one value for each round, in the order of the rounds.
    pub readings: BTreeMap<String, Vec<f64>>,
}

impl Isolated {
    /// The values of an estimator, in ns, in the order of the rounds; `None` where it was not measured.
    pub fn of(&self, name: &str) -> Option<&[f64]> {
        self.readings.get(name).map(Vec::as_slice)
    }

    /// How much more `a` takes than `b`, in ns, in each round; `None` where one of them was not measured in every round.
    pub fn difference(&self, a: &str, b: &str) -> Option<Vec<f64>> {
        let (a, b) = (self.of(a)?, self.of(b)?);
        let whole = |values: &[f64]| values.len() == self.rounds as usize;
        (whole(a) && whole(b)).then(|| a.iter().zip(b).map(|(a, b)| a - b).collect())
    }
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum IsolatedError {
    /// There is no such estimator.
    #[error(transparent)]
    Unknown(#[from] UnknownEstimator),
    /// Telemetry has nowhere to go.
    #[error("cannot start the sink that isolated launches send to: {0}")]
    Sink(#[from] io::Error),
    /// A launch did not end well, or did not do what it measured.
    #[error("estimator `{estimator}`, round {round}: {why}")]
    Launch {
        /// The estimator.
        estimator: String,
        /// The round, from 1.
        round: usize,
        /// What happened.
        why: String,
    },
}

/// Launches each of the named estimators once in each of so many rounds, in an order that `seed` decides. `executable` must be
/// this program. Before each launch `progress` hears of it. A name that comes twice counts once.
///
/// It blocks, for some 200 ms per launch. What the user has set by `OTEL_*` variables has no effect.
///
/// # Errors
/// When there is no such estimator, or a launch fails; a launch that cannot prove that it did what it measured has failed.
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
            let launched = launched(executable, &estimators[&name], &sink);
            let failed = |why: String| IsolatedError::Launch { estimator: name.clone(), round, why };
            let reading = launched.map_err(failed)?;
            readings.entry(name).or_default().push(reading.ns);
        }
    }
    Ok(Isolated { rounds, readings })
}

/// One launch, and the proof that it did what it measured.
fn launched(executable: &Path, estimator: &Estimator, sink: &Sink) -> Result<Reading, String> {
    let any_tree = TreeShape::new(&[], None);
    let receiver = sink.listen(ReceiverConfig::at(LOOPBACK, any_tree)).map_err(|error| error.to_string())?;
    let mut command = unconfigured(executable);
    command.args([SUBCOMMAND, &estimator.name, &receiver.endpoint()]);
    let answer = said(&mut command, PATIENCE).map_err(|error| error.to_string())?;
    let launched: Launched = serde_json::from_str(&answer).map_err(|error| Apart::from(error).to_string())?;
    proof::held(estimator.leaves, estimator.control, &launched, &receiver.received())?;
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

    #[test]
    fn differences_are_of_the_same_round() {
        let readings = [("a", vec![10.0, 20.0, 40.0]), ("b", vec![1.0, 5.0, 2.0]), ("cut", vec![1.0])];
        let readings = readings.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        let isolated = Isolated { rounds: 3, readings };
        assert_eq!(isolated.difference("a", "b"), Some(vec![9.0, 15.0, 38.0]));
        assert_eq!(isolated.difference("b", "a"), Some(vec![-9.0, -15.0, -38.0]));
        assert_eq!(isolated.difference("a", "missing"), None);
        // Without the rounds that it lacks nothing says which of the others its values belong to.
        assert_eq!(isolated.difference("a", "cut"), None);
        let stored = serde_json::to_string(&isolated).unwrap();
        assert_eq!(serde_json::from_str::<Isolated>(&stored).unwrap(), isolated);
    }
}

//! Pitfalls of the Rust telemetry stack, each shown on the real crates.
//!
//! A [`Probe`] reproduces a pitfall and looks at the result; where there is a remedy, it applies that as well and looks again.
//! Recorders and subscribers are installed once per process, and some pitfalls hang their process: so each attempt runs in a
//! process of its own ([`Probe::run`]), which is killed when its time is over.
//!
//! The compiler finds one pitfall by itself: a span entered by hand and held across an await makes a handler that is not
//! `Send`, and axum refuses it.
//!
//! ```compile_fail
//! async fn order() {
//!     let _entered = tracing::info_span!("order").entered();
//!     tokio::task::yield_now().await;
//! }
//! let _ = axum::Router::<()>::new().route("/order", axum::routing::post(order));
//! ```
//!
//! With the span around the future, axum accepts it:
//!
//! ```
//! use tracing::Instrument;
//!
//! async fn order() {
//!     tokio::task::yield_now().instrument(tracing::info_span!("order")).await;
//! }
//! let _ = axum::Router::<()>::new().route("/order", axum::routing::post(order));
//! ```

#![allow(clippy::float_cmp, reason = "the figures that are compared are whole numbers, which a float holds exactly")]

mod apparatus;
mod bridge;
mod environment;
mod export;
mod install;
mod runtime;
mod spans;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::experiment::units::nearest;
use crate::os::subprocess::{SubprocessError, TIMEOUT, capture_stdout, without_otel_environment};
use crate::record::probes::{ProbeFinding, ProbeObservation};

pub use self::environment::{SUBCOMMAND as ENVIRONMENT_SUBCOMMAND, outcome as environment_outcome};

/// The hidden subcommand that makes a process carry out one attempt.
pub const SUBCOMMAND: &str = "probe-attempt";

/// A call that normally takes milliseconds counts as deadlocked after this time.
const DEADLOCKED: Duration = Duration::from_secs(10);

/// Why an attempt could not be carried out.
pub type AttemptError = Box<dyn Error + Send + Sync>;

type Attempt = fn() -> Result<ProbeObservation, AttemptError>;

/// One pitfall, and how to reproduce it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The name users ask for it by.
    pub name: &'static str,
    /// The pitfall in a line.
    pub title: &'static str,
    /// The mechanism behind it, and where in the crates it is.
    pub pitfall: &'static str,
    /// How to avoid it.
    pub advice: &'static str,
    /// Reproduces the pitfall.
    defect: Attempt,
    /// Does the same with the advice followed; `None` where the crates offer no way.
    fix: Option<Attempt>,
    hang: Hang,
}

/// The meaning of an attempt that does not end.
#[derive(Clone, Copy, Debug)]
enum Hang {
    /// The probe could not be carried out.
    Failure,
    /// The pitfall was found, if the attempt takes this long.
    Finding {
        /// The call that does not return.
        what: &'static str,
        after: Duration,
    },
}

/// A probe could not be carried out.
#[derive(Debug, Error)]
#[error("probe `{probe}` could not be carried out: {why}")]
pub struct ProbeError {
    /// The probe's name.
    pub probe: String,
    /// The reason.
    pub why: String,
}

/// No probe has this name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown probe `{name}`{}; the probes are {}", hint(.nearest.as_ref()), names().join(", "))]
pub struct UnknownProbe {
    name: String,
    nearest: Option<&'static str>,
}

fn hint(nearest: Option<&&'static str>) -> String {
    nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

/// Which of a probe's two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The one that reproduces the pitfall.
    Defect,
    /// The one that follows the advice.
    Fix,
}

impl Which {
    /// Its name on the command line.
    fn as_str(self) -> &'static str {
        match self {
            Self::Defect => "defect",
            Self::Fix => "fix",
        }
    }
}

/// Every probe: metrics, installation, export, runtimes, spans, environment.
pub fn all() -> Vec<Probe> {
    [bridge::probes(), install::probes(), export::probes(), runtime::probes(), spans::probes(), environment::probes()]
        .into_iter()
        .flatten()
        .collect()
}

/// The probe called `name`.
///
/// # Errors
/// When there is none; the error suggests the nearest name.
pub fn named(name: &str) -> Result<Probe, UnknownProbe> {
    all()
        .into_iter()
        .find(|probe| probe.name == name)
        .ok_or_else(|| UnknownProbe { name: name.into(), nearest: nearest(name, names()) })
}

/// The names of all probes.
pub fn names() -> Vec<&'static str> {
    all().into_iter().map(|probe| probe.name).collect()
}

impl Probe {
    /// Carries out one attempt in this process; it may install things, and it may never return.
    ///
    /// # Errors
    /// When it cannot be carried out, or the probe has no such attempt.
    pub fn attempt(&self, which: Which) -> Result<ProbeObservation, AttemptError> {
        match (which, self.fix) {
            (Which::Defect, _) => (self.defect)(),
            (Which::Fix, Some(fix)) => fix(),
            (Which::Fix, None) => Err("this probe has no fix".into()),
        }
    }

    /// Runs the probe: each attempt in a process of its own, launched from `executable`, which must be this program.
    ///
    /// # Errors
    /// When an attempt cannot be carried out.
    pub fn run(&self, executable: &Path) -> Result<ProbeFinding, ProbeError> {
        let failed = |why: String| ProbeError { probe: self.name.into(), why };
        let patience = match self.hang {
            Hang::Finding { after, .. } => after,
            Hang::Failure => TIMEOUT,
        };
        let judged = |attempt: Result<ProbeObservation, SubprocessError>| match (attempt, self.hang) {
            (Err(SubprocessError::TimedOut(after)), Hang::Finding { what, .. }) => Ok(hung(what, after)),
            (attempt, _) => attempt.map_err(|error| failed(error.to_string())),
        };
        let seen = judged(attempt_in_subprocess(executable, self.name, Which::Defect, patience))?;
        let fixed =
            self.fix.map(|_| judged(attempt_in_subprocess(executable, self.name, Which::Fix, TIMEOUT))).transpose()?;
        Ok(ProbeFinding {
            probe: self.name.into(),
            title: self.title.into(),
            pitfall: self.pitfall.into(),
            seen,
            fixed,
            advice: self.advice.into(),
        })
    }
}

fn hung(what: &str, after: Duration) -> ProbeObservation {
    let seconds = after.as_secs();
    let what = format!("{what} had not returned after {seconds} s, and the process was killed.");
    ProbeObservation::new(true, what, [("hung_s", after.as_secs_f64())])
}

fn attempt_in_subprocess(
    executable: &Path,
    probe: &str,
    which: Which,
    patience: Duration,
) -> Result<ProbeObservation, SubprocessError> {
    let mut command = without_otel_environment(executable);
    command.args([SUBCOMMAND, probe, which.as_str()]);
    Ok(serde_json::from_str(&capture_stdout(&mut command, patience)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_has_a_unique_name_and_gives_advice() {
        let probes = all();
        let mut names = names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), probes.len());
        for probe in probes {
            assert!(
                probe.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{}",
                probe.name
            );
            for text in [probe.pitfall, probe.advice] {
                assert!(text.ends_with('.') && text.len() > 20, "{}: {text}", probe.name);
            }
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_known_one() {
        let error = named("gauge-inc").unwrap_err().to_string();
        assert!(error.contains("unknown probe `gauge-inc`, did you mean `gauge-increment`?"), "{error}");
        assert!(!named("zzz").unwrap_err().to_string().contains("did you mean"));
    }
}

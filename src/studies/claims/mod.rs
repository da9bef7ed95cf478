//! Measures the evidence for claims that the main run does not give: telemetry calls in isolation, probes, and clients at a
//! receiver over TLS. [`plan`] decides which of them a set of claims needs.

pub mod plan;
mod tls;

use std::path::Path;

use crate::lab::progress::Steps;
use crate::record::isolated::Isolated;
use crate::record::probes::ProbeFinding;
use crate::studies::isolated::{self, IsolatedError};
use crate::studies::probe::{self, ProbeError};

pub use self::tls::tls_attempts;

/// Launches the named estimators in isolation, so many rounds each, and shows the progress.
///
/// # Errors
/// As [`isolated::measure`].
pub fn measure_isolated(
    executable: &Path,
    names: &[String],
    rounds: u32,
    seed: u64,
    quiet: bool,
) -> Result<Isolated, IsolatedError> {
    let steps = Steps::new(names.len() * rounds as usize, quiet);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut first = true;
    let mut progress = |what: &str| {
        if !std::mem::take(&mut first) {
            steps.done();
        }
        steps.begin(what);
    };
    let measured = isolated::measure(executable, &names, rounds, seed, &mut progress);
    steps.finish();
    measured
}

/// Carries out the named probes, and shows the progress.
pub fn run_probes(executable: &Path, names: &[&str], quiet: bool) -> Vec<Result<ProbeFinding, ProbeError>> {
    let steps = Steps::new(names.len(), quiet);
    let probes = names.iter().filter_map(|name| probe::named(name).ok());
    let findings = probes
        .map(|probe| {
            steps.begin(probe.name);
            let found = probe.run(executable);
            steps.done();
            found
        })
        .collect();
    steps.finish();
    findings
}

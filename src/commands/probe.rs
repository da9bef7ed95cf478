//! `otelbench probe`, and the hidden subcommands it launches.

use super::{Failure, colour, put, put_json};
use crate::experiment::scenario::Format;
use crate::lab::progress::Steps;
use crate::os::subprocess::end_with_parent;
use crate::record::probes::ProbeFinding;
use crate::report::{probes_markdown, probes_table};
use crate::studies::probe::{self, Probe, ProbeError, Which};

/// Runs the probes and prints what they found.
///
/// # Errors
/// When a probe could not be carried out, after the findings of the others are printed.
pub fn run(probes: &[Probe], format: Format, quiet: bool) -> Result<(), Failure> {
    let executable = std::env::current_exe()
        .map_err(|error| Failure::Usage(format!("cannot find the path of this program: {error}")))?;
    let progress = Steps::new(probes.len(), quiet);
    let (mut findings, mut failures) = (Vec::<ProbeFinding>::new(), Vec::<ProbeError>::new());
    for probe in probes {
        progress.begin(probe.name);
        match probe.run(&executable) {
            Ok(finding) => findings.push(finding),
            Err(error) => failures.push(error),
        }
        progress.done();
    }
    progress.finish();
    match format {
        Format::Json => put_json(&findings)?,
        Format::Table => put(&probes_table(&findings, colour()))?,
        Format::Markdown => put(&probes_markdown(&findings))?,
    }
    if failures.is_empty() {
        return Ok(());
    }
    let said: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::Invalid(said.join("\nerror: ")))
}

/// Carries out one attempt of a probe and prints the observation.
///
/// # Errors
/// When it cannot be carried out.
pub fn attempt(probe: &Probe, which: Which) -> Result<(), Failure> {
    end_with_parent();
    let observation = probe.attempt(which).map_err(|error| Failure::Invalid(error.to_string()))?;
    put_json(&observation)
}

/// Tries one environment variable and prints what came of it.
///
/// # Errors
/// When it cannot be tried.
pub fn environment(variable: &str, endpoint: &str) -> Result<(), Failure> {
    end_with_parent();
    let outcome =
        probe::environment_outcome(variable, endpoint).map_err(|error| Failure::Invalid(error.to_string()))?;
    put_json(&outcome)
}

//! `otelbench claims`: measures and judges published claims, or a scenario's own.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::runtime::Handle;

use super::run::{self, Cut, cannot, clock_seed, default_out, play, processes, write};
use super::{Failure, colour, put, signalled, signals};
use crate::cli::FailOn;
use crate::experiment::scenario::{Format, Settings};
use crate::record::claims::{Claim, ClaimEvidence, ClaimVerdict};
use crate::record::result::Document;
use crate::report;
use crate::studies::claims::plan::ClaimPlan;
use crate::studies::claims::{measure_isolated, run_probes, tls_attempts};

/// Measures and judges claims.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(file: Option<&Path>, flags: Settings, only: &[String], fail_on: Option<FailOn>) -> Result<(), Failure> {
    let settings = run::settings(file, flags)?;
    let (format, quiet) = (settings.format.unwrap_or_default(), settings.quiet.unwrap_or(false));
    let (out, seed) = (settings.out.clone(), settings.seed);
    let plan = ClaimPlan::of(settings, only).map_err(|error| Failure::Usage(error.to_string()))?;
    let started = SystemTime::now();
    let out = out.unwrap_or_else(|| default_out(&plan.scenario.name, started));
    let seed = seed.unwrap_or_else(|| clock_seed(started));

    let (document, cut) = measure(plan, seed, &out, quiet)?;

    write(&document, &out)?;
    show(&document, format)?;
    if !quiet {
        eprintln!("result: {}", out.display());
    }
    run::judged(&document, cut, &out)?;
    judged(&document.claims, fail_on)
}

/// Carries out the plan, one part after the other. Where it is cut short, the earlier parts are kept.
fn measure(plan: ClaimPlan, seed: u64, out: &Path, quiet: bool) -> Result<(Document, Option<Cut>), Failure> {
    let (document, cut) = play(&plan.scenario, seed, out, quiet)?;
    let mut evidence = ClaimEvidence::default();
    let gathered = match cut {
        None => gather(plan, seed, out, quiet, &mut evidence),
        Some(cut) => Err(Stopped::Cut(cut)),
    };
    let cut = match gathered {
        Ok(()) => None,
        Err(Stopped::Cut(cut)) => {
            evidence.missing.push("everything after the measurement was cut short".into());
            Some(cut)
        }
        Err(Stopped::Failed(failure)) => return Err(failure),
    };
    let evidence = (evidence != ClaimEvidence::default()).then_some(evidence);
    Ok((Document::with(document.into_records(), evidence), cut))
}

/// Why the measurement stops.
enum Stopped {
    Cut(Cut),
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Measures the evidence beside the main run.
fn gather(plan: ClaimPlan, seed: u64, out: &Path, quiet: bool, evidence: &mut ClaimEvidence) -> Result<(), Stopped> {
    let ClaimPlan { scenario, isolated, isolated_rounds: rounds, scenarios, probes, tls_attempts: tls } = plan;
    let begin = |what: &str| {
        if !quiet {
            eprintln!("{what}");
        }
    };
    for short in scenarios {
        let name = short.name();
        let played = short.scenario(scenario.rps, scenario.slice);
        let played = played.map_err(|error| Failure::Usage(format!("the scenario `{name}`: {error}")))?;
        begin(&format!("the scenario `{name}`"));
        let (document, cut) = play(&played, seed, &beside(out, name), quiet)?;
        evidence.scenarios.insert(name.to_owned(), document.into_records());
        cut.map_or(Ok(()), |cut| Err(Stopped::Cut(cut)))?;
    }
    if !isolated.is_empty() {
        begin("telemetry calls in isolation");
        match in_background(move |executable| measure_isolated(executable, &isolated, rounds, seed, quiet))? {
            Ok(isolated) => evidence.isolated = Some(isolated),
            Err(error) => evidence.missing.push(format!("telemetry calls in isolation: {error}")),
        }
    }
    if !probes.is_empty() {
        begin("probes");
    }
    for probed in in_background(move |executable| run_probes(executable, &probes, quiet))? {
        match probed {
            Ok(finding) => evidence.findings.push(finding),
            Err(error) => drop(evidence.unprobed.insert(error.probe, error.why)),
        }
    }
    if tls {
        begin("clients at a receiver over TLS");
        match in_background(|executable| Handle::current().block_on(tls_attempts(executable)))? {
            Ok(attempts) => evidence.tls_attempts = attempts,
            Err(why) => evidence.missing.push(format!("clients at a receiver over TLS: {why}")),
        }
    }
    Ok(())
}

/// The path for the records of a short scenario: `results/claims.json` has `results/claims-users.jsonl` beside it.
fn beside(out: &Path, name: &str) -> PathBuf {
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    out.with_file_name(format!("{stem}-{name}.json"))
}

/// Does blocking `work`, which gets the path of this program, unless a signal comes first. Processes that it launched then end
/// with this one.
fn in_background<T: Send + 'static>(work: impl FnOnce(&Path) -> T + Send + 'static) -> Result<T, Stopped> {
    let (executable, runtime) = processes()?;
    let done = runtime.block_on(async {
        let mut told = signals().map_err(|e| cannot("listen for signals", &e))?;
        tokio::select! {
            done = tokio::task::spawn_blocking(move || work(&executable)) => {
                Ok(done.map_err(|e| cannot("go on", &std::io::Error::other(e)))?)
            }
            signal = signalled(&mut told) => Err(Stopped::Cut(Cut::Signalled(signal))),
        }
    });
    runtime.shutdown_background();
    done
}

/// Prints the verdicts.
pub(super) fn show(document: &Document, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => put(&document.to_json()),
        Format::Table => put(&report::claims::table(document, colour())),
        Format::Markdown => put(&report::claims::markdown(document)),
    }
}

/// Fails as `fail_on` has it.
fn judged(claims: &[Claim], fail_on: Option<FailOn>) -> Result<(), Failure> {
    let said = |verdict: ClaimVerdict| {
        let of_it = claims.iter().filter(|claim| claim.verdict == verdict);
        of_it.map(|claim| format!("{}: {}", claim.id, claim.reason)).collect::<Vec<String>>()
    };
    let (refuted, open) = (said(ClaimVerdict::Refuted), said(ClaimVerdict::Inconclusive));
    match fail_on {
        Some(_) if !refuted.is_empty() => Err(Failure::Gate(format!("refuted: {}", refuted.join("\n  ")))),
        Some(FailOn::Inconclusive) if !open.is_empty() => {
            Err(Failure::Inconclusive(format!("inconclusive: {}", open.join("\n  "))))
        }
        _ => Ok(()),
    }
}

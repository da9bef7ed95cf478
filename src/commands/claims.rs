//! `otelbench claims`: published claims, or a scenario's own, each measured and judged.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;

use super::run::{self, Cut, cannot, clock_seed, default_out, play, processes, write};
use super::{Failure, colour, put, signalled, signals};
use crate::cli::FailOn;
use crate::experiment::mode::{self, Export, Mode, Tls, UnknownMode};
use crate::experiment::scenario::{Format, Settings};
use crate::experiment::units::Rate;
use crate::lab::certificates::Certificates;
use crate::lab::lane::LOOPBACK;
use crate::lab::progress::Steps;
use crate::record::result::Document;
use crate::report;
use crate::sink::{ReceiverConfig, Sink, TreeShape};
use crate::studies::isolated::{self, Isolated, IsolatedError};
use crate::studies::pipeline::Batching;
use crate::studies::pipeline::emitter::{self, Order};
use crate::studies::probe::{self, Finding, ProbeError};
use crate::sut::telemetry::{ClientTls, Destination};
use crate::verdict::claims::plan::Plan;
use crate::verdict::claims::{Claim, Encounter, Evidence, Verdict};

/// Time that a stranger's export may take, retries included.
const A_TRY: Duration = Duration::from_secs(1);

/// Measures what the claims take and judges them.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(file: Option<&Path>, flags: Settings, only: &[String], fail_on: Option<FailOn>) -> Result<(), Failure> {
    let settings = run::settings(file, flags)?;
    let (format, quiet) = (settings.format.unwrap_or_default(), settings.quiet.unwrap_or(false));
    let (out, seed) = (settings.out.clone(), settings.seed);
    let plan = Plan::of(settings, only).map_err(|error| Failure::Usage(error.to_string()))?;
    let started = SystemTime::now();
    let out = out.unwrap_or_else(|| default_out(&plan.scenario.name, started));
    let seed = seed.unwrap_or_else(|| clock_seed(started));

    let (document, cut) = measured(plan, seed, &out, quiet)?;

    write(&document, &out)?;
    show(&document, format)?;
    if !quiet {
        eprintln!("result: {}", out.display());
    }
    run::judged(&document, cut, &out)?;
    judged(&document.claims, fail_on)
}

/// Measures what the plan says, one thing after the other; what is cut short leaves what was measured before.
fn measured(plan: Plan, seed: u64, out: &Path, quiet: bool) -> Result<(Document, Option<Cut>), Failure> {
    let (document, cut) = play(&plan.scenario, seed, out, quiet)?;
    let mut evidence = Evidence::default();
    let gathered = match cut {
        None => gather(plan, seed, out, quiet, &mut evidence),
        Some(cut) => Err(Stopped::Cut(cut)),
    };
    let cut = match gathered {
        Ok(()) => None,
        Err(Stopped::Cut(cut)) => {
            evidence.missing.push("what was to come when the measurement was cut short".into());
            Some(cut)
        }
        Err(Stopped::Failed(failure)) => return Err(failure),
    };
    let evidence = (evidence != Evidence::default()).then_some(evidence);
    Ok((Document::with(document.into_records(), evidence), cut))
}

/// Why no more is measured.
enum Stopped {
    Cut(Cut),
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Measures what the claims take beside the run.
fn gather(plan: Plan, seed: u64, out: &Path, quiet: bool, evidence: &mut Evidence) -> Result<(), Stopped> {
    let Plan { scenario, isolated, isolated_rounds: rounds, trials, probes, strangers } = plan;
    let begin = |what: &str| {
        if !quiet {
            eprintln!("{what}");
        }
    };
    for trial in trials {
        let played = trial.scenario(scenario.rps, scenario.slice);
        let played = played.map_err(|error| Failure::Usage(format!("the trial `{}`: {error}", trial.name())))?;
        begin(&format!("the trial `{}`", trial.name()));
        let (document, cut) = play(&played, seed, &beside(out, trial.name()), quiet)?;
        evidence.trials.insert(trial.name().to_owned(), document.into_records());
        cut.map_or(Ok(()), |cut| Err(Stopped::Cut(cut)))?;
    }
    if !isolated.is_empty() {
        begin("telemetry calls in isolation");
        match alone(move |executable| in_isolation(executable, &isolated, rounds, seed, quiet))? {
            Ok(isolated) => evidence.isolated = Some(isolated),
            Err(error) => evidence.missing.push(format!("telemetry calls in isolation: {error}")),
        }
    }
    if !probes.is_empty() {
        begin("probes");
    }
    for probed in alone(move |executable| probed(executable, &probes, quiet))? {
        match probed {
            Ok(finding) => evidence.findings.push(finding),
            Err(error) => drop(evidence.unprobed.insert(error.probe, error.why)),
        }
    }
    if strangers {
        begin("strangers at a receiver over TLS");
        match alone(|executable| Handle::current().block_on(encounters(executable)))? {
            Ok(encounters) => evidence.encounters = encounters,
            Err(why) => evidence.missing.push(format!("whom a receiver over TLS refuses: {why}")),
        }
    }
    Ok(())
}

/// Where the records of a trial go: `results/claims.json` has `results/claims-users.jsonl` beside it.
fn beside(out: &Path, name: &str) -> PathBuf {
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    out.with_file_name(format!("{stem}-{name}.json"))
}

/// Does `work`, which blocks and is told where this program is, unless a signal ends it first. What it launched then ends with
/// this process.
fn alone<T: Send + 'static>(work: impl FnOnce(&Path) -> T + Send + 'static) -> Result<T, Stopped> {
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

fn in_isolation(
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

fn probed(executable: &Path, names: &[&str], quiet: bool) -> Vec<Result<Finding, ProbeError>> {
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

/// Has clients send spans to a receiver that asks for a certificate: one with the right one, and strangers.
async fn encounters(executable: &Path) -> Result<Vec<Encounter>, String> {
    let (certificates, strangers) = Certificates::with_unauthorised_clients().map_err(|e| e.to_string())?;
    let sink = Sink::start().map_err(|e| e.to_string())?;
    let known = [("the right certificate", certificates.client.clone())].map(|client| (client, false));
    let mut encounters = Vec::new();
    for ((shows, client), stranger) in known.into_iter().chain(strangers.map(|client| (client, true))) {
        let any_tree = TreeShape::new(&[(emitter::SPAN, None)], None);
        let reception =
            ReceiverConfig { tls: Some(certificates.server.clone()), ..ReceiverConfig::at(LOOPBACK, any_tree) };
        let receiver = sink.listen(reception).map_err(|e| e.to_string())?;
        let order = sending(receiver.endpoint(), client).map_err(|e| e.to_string())?;
        let emitted = emitter::launched(executable, &order).await.map_err(|e| e.to_string())?;
        let seen = receiver.received();
        encounters.push(Encounter {
            shows: shows.into(),
            stranger,
            ended: emitted.spans,
            received: seen.spans,
            refused_connections: seen.refused_connections,
            refused_connection: seen.last_refused_connection,
        });
    }
    Ok(encounters)
}

/// A few spans to `endpoint`.
fn sending(endpoint: String, client: ClientTls) -> Result<Order, UnknownMode> {
    let mode = mode::named("traces")?;
    // Mutual TLS insists on a certificate, which not everybody has who tries.
    let tls = if client.identity.is_some() { Tls::Mutual } else { Tls::None };
    let export = Export { tls, timeout: Some(A_TRY), ..mode.export };
    let batching = Batching { queue: 2_048, batch: 512, delay: Duration::from_secs(1) };
    let destination = Destination { endpoint: Some(endpoint), tls: Some(client) };
    Ok(Order::new(Mode { export, ..mode }, batching, destination, Rate::A_THOUSAND, Duration::from_millis(20)))
}

/// Prints the verdicts.
pub(super) fn show(document: &Document, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => put(&document.to_json()),
        Format::Table => put(&report::claims::table(document, colour())),
        Format::Markdown => put(&report::claims::markdown(document)),
    }
}

/// What the verdicts come to for the exit code.
fn judged(claims: &[Claim], fail_on: Option<FailOn>) -> Result<(), Failure> {
    let said = |verdict: Verdict| {
        let of_it = claims.iter().filter(|claim| claim.verdict == verdict);
        of_it.map(|claim| format!("{}: {}", claim.id, claim.reason)).collect::<Vec<String>>()
    };
    let (refuted, open) = (said(Verdict::Refuted), said(Verdict::Inconclusive));
    match fail_on {
        Some(_) if !refuted.is_empty() => Err(Failure::Gate(format!("refuted: {}", refuted.join("\n  ")))),
        Some(FailOn::Inconclusive) if !open.is_empty() => {
            Err(Failure::Inconclusive(format!("inconclusive: {}", open.join("\n  "))))
        }
        _ => Ok(()),
    }
}

//! `otelbench run`: scenario → plan → trial → records → result → report.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Runtime;

use super::{Failure, Signal, enough_descriptors, enough_ports, gated, print, signalled, signals};
use crate::experiment::plan::Plan;
use crate::experiment::scenario::{Format, Isolation, Scenario, ScenarioError, Settings, Transport};
use crate::experiment::service::Payment;
use crate::lab::progress::Progress;
use crate::lab::trial::{self, LiveLanes, TrialError};
use crate::os::cores::KeptAwake;
use crate::record::machine::{Machine, Tool};
use crate::record::records::{Header, RecordLog, SCHEMA};
use crate::record::result::Document;
use crate::verdict::budget::{self, Observed};
use crate::verdict::gate;

/// Why a trial stopped before its end.
#[derive(Debug)]
pub(super) enum Cut {
    /// A lane did not start, or died.
    Failed(TrialError),
    /// Somebody asked for it.
    Signalled(Signal),
}

/// Measures what the file and the flags ask for; the flags win.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(file: Option<&Path>, flags: Settings) -> Result<(), Failure> {
    conduct(file, flags, Scenario::resolve)
}

/// Measures the scenario that `resolve` makes of the file and the flags, and reports on it.
pub(super) fn conduct(
    file: Option<&Path>,
    flags: Settings,
    resolve: impl FnOnce(Settings) -> Result<Scenario, ScenarioError>,
) -> Result<(), Failure> {
    let settings = settings(file, flags)?;
    let (format, quiet) = (settings.format.unwrap_or_default(), settings.quiet.unwrap_or(false));
    let (out, seed) = (settings.out.clone(), settings.seed);
    let scenario = resolve(settings).map_err(|error| Failure::Usage(error.to_string()))?;
    let started = SystemTime::now();
    let seed = seed.unwrap_or_else(|| clock_seed(started));
    let out = out.unwrap_or_else(|| default_out(&scenario.name, started));
    let scenario = match scenario.budget {
        None => scenario,
        Some(budget) => allotted(scenario, budget, seed, &out, quiet)?,
    };
    let played = play(&scenario, seed, &out, quiet)?;
    report(played, &out, format, quiet)
}

/// Merges flags and file; the flags win.
pub(super) fn settings(file: Option<&Path>, flags: Settings) -> Result<Settings, Failure> {
    match file {
        Some(path) => Ok(flags.or(Settings::from_file(path).map_err(|error| Failure::Usage(error.to_string()))?)),
        None => Ok(flags),
    }
}

/// Continues the run that `records` holds, by its own plan and from its first round that was not played to its end.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn resume(records: &Path, file: Option<&Path>, flags: &Settings) -> Result<(), Failure> {
    let (out, format, quiet) = (flags.out.clone(), flags.format, flags.quiet);
    let nothing_else = Settings { out: out.clone(), format, quiet, ..Settings::default() };
    if file.is_some() || *flags != nothing_else {
        let why = "the run goes on by its own plan; beside it only --out, --format and --quiet can be given";
        return Err(Failure::Usage(format!("--resume {}: {why}", records.display())));
    }
    let (format, quiet) = (format.unwrap_or_default(), quiet.unwrap_or(false));
    let out = out.unwrap_or_else(|| records.with_extension("json"));
    let document = Document::read(records).map_err(|error| Failure::Usage(format!("--resume: {error}")))?;
    if !document.partial {
        let why = "this run was played to its end; there is nothing to resume";
        return Err(Failure::Usage(format!("--resume {}: {why}", records.display())));
    }
    let mut kept = document.into_records().of_whole_rounds();
    same_conditions(&kept.header).map_err(|what| {
        Failure::Invalid(format!(
            "--resume {}: {what}, so its rounds and new ones are not comparable",
            records.display()
        ))
    })?;
    kept.header.resumed_at.push(humantime::format_rfc3339_seconds(SystemTime::now()).to_string());
    let header = kept.header.clone();
    make_way(&out)?;
    let log = RecordLog::resume(&records_beside(&out), kept).map_err(|e| refused(&out, &e))?;
    let played = conduct_plan(&header.scenario, header.plan, log, quiet)?;
    report(played, &out, format, quiet)
}

/// Whether what was recorded was recorded by this build and on this machine; else what differs.
fn same_conditions(header: &Header) -> Result<(), String> {
    let (tool, machine) = (Tool::this(), Machine::this());
    if header.tool != tool {
        let named =
            |tool: &Tool| format!("{} at {} ({})", tool.version, tool.git.as_deref().unwrap_or("?"), tool.profile);
        return Err(format!("it was begun by otelbench {}, and this is {}", named(&header.tool), named(&tool)));
    }
    if header.machine != machine {
        return Err("it was begun on another machine".into());
    }
    Ok(())
}

/// The result, and what cut it short if anything did.
pub(super) type Outcome = (Document, Option<Cut>);

/// Plays `scenario` in the order that `seed` gives, each record going to the file beside `out` as it is made.
///
/// # Errors
/// When it cannot begin.
pub(super) fn play(scenario: &Scenario, seed: u64, out: &Path, quiet: bool) -> Result<Outcome, Failure> {
    let plan = Plan::new(&scenario.arm_names(), scenario.rounds, scenario.slices, seed);
    let header = Header {
        schema: SCHEMA.into(),
        tool: Tool::this(),
        machine: Machine::this(),
        started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        resumed_at: Vec::new(),
        scenario: scenario.clone(),
        plan: plan.clone(),
    };
    let log = open_log(out, header)?;
    conduct_plan(scenario, plan, log, quiet)
}

/// Plays what is left of a plan.
fn conduct_plan(scenario: &Scenario, plan: Plan, mut log: RecordLog, quiet: bool) -> Result<Outcome, Failure> {
    enough_descriptors(scenario.generator.connections, descriptors(scenario))?;
    enough_ports(scenario.generator.connections)?;
    let cut = measure(scenario, plan, &mut log, quiet)?;
    Ok((Document::of(log.into_records()), cut))
}

/// The scenario with the rounds and slices that give the narrowest intervals within `budget`, as a pilot run of its
/// baseline has them. The pilot's own time is part of it, its records have a file of their own, and its rounds count for
/// nothing else.
fn allotted(scenario: Scenario, budget: Duration, seed: u64, out: &Path, quiet: bool) -> Result<Scenario, Failure> {
    let begun = Instant::now();
    let (document, cut) = play(&budget::pilot(&scenario), seed, &out.with_extension("pilot.json"), quiet)?;
    let took = begun.elapsed();
    judged(&document, cut, &out.with_extension("pilot.json"))?;
    let observed = Observed::of(&document.into_records(), took).ok_or_else(|| {
        Failure::Invalid(
            "the pilot run of --budget measured too little to plan by; its records are beside --out".into(),
        )
    })?;
    let left = budget.saturating_sub(took);
    let allotment = budget::allot(&observed, scenario.arms.len(), left).ok_or_else(|| {
        let least = humantime::format_duration(budget::least(&observed, scenario.arms.len()) + took);
        let written = humantime::format_duration(budget);
        Failure::Usage(format!(
            "--budget {written}: that is too short for {} arms; make it {least}",
            scenario.arms.len()
        ))
    })?;
    if !quiet {
        eprintln!("{}", allotment.in_words());
    }
    Ok(Scenario { rounds: allotment.rounds, slices: allotment.slices, ..scenario })
}

/// Stores and prints a result; how it ended, for the exit code.
fn report((document, cut): Outcome, out: &Path, format: Format, quiet: bool) -> Result<(), Failure> {
    write(&document, out)?;
    if !document.records.is_empty() || cut.is_none() {
        print(&document, format)?;
    }
    if !quiet {
        eprintln!("result: {}", out.display());
    }
    judged(&document, cut, out)?;
    let gates = document.gates().map_err(|unknown| Failure::Usage(unknown.to_string()))?;
    if let (false, Some(many)) = (quiet, gate::too_many(gates.len())) {
        eprintln!("warning: {many}");
    }
    gated(&gates)
}

/// Writes the result to `out`.
pub(super) fn write(document: &Document, out: &Path) -> Result<(), Failure> {
    document.write(out).map_err(|e| {
        let records = records_beside(out);
        Failure::Invalid(format!("cannot write the result: {e}; the records are in {}", records.display()))
    })
}

/// How the run ended, for the exit code.
pub(super) fn judged(document: &Document, cut: Option<Cut>, out: &Path) -> Result<(), Failure> {
    match cut {
        Some(Cut::Signalled(signal)) => Err(Failure::Interrupted(signal)),
        Some(Cut::Failed(error)) => {
            let records = records_beside(out);
            Err(Failure::Invalid(format!("{error}\nwhat was measured until then is in {}", records.display())))
        }
        None if document.validity.is_invalid() => {
            Err(Failure::Invalid(format!("the measurement is invalid: {}", document.validity.causes.join("; "))))
        }
        None => Ok(()),
    }
}

/// Where the records of a result go while they are made.
fn records_beside(out: &Path) -> PathBuf {
    out.with_extension("jsonl")
}

/// This executable and a runtime, to launch processes and talk to them.
pub(super) fn processes() -> Result<(PathBuf, Runtime), Failure> {
    let executable = env::current_exe().map_err(|e| cannot("find this executable", &e))?;
    // The worker thread sees a second signal also while the first is being dealt with.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    Ok((executable, runtime.map_err(|e| cannot("start the runtime", &e))?))
}

pub(super) fn cannot(what: &str, error: &std::io::Error) -> Failure {
    Failure::Invalid(format!("cannot {what}: {error}"))
}

/// Plays the plan, until it is done, fails, or a signal ends it.
fn measure(scenario: &Scenario, plan: Plan, log: &mut RecordLog, quiet: bool) -> Result<Option<Cut>, Failure> {
    let (executable, runtime) = processes()?;
    // In this process, so that what it costs is on no lane's account.
    let _awake = KeptAwake::on(&scenario.placement.awake).map_err(|e| cannot("keep the cores awake", &e))?;
    let mut lanes = LiveLanes::new(executable, scenario.clone(), plan).map_err(|e| cannot("start the sink", &e))?;
    let mut progress = Progress::new(scenario.rounds, trial::load_time(scenario), quiet);
    let cut = runtime.block_on(async {
        let mut told = signals().map_err(|e| cannot("listen for signals", &e))?;
        let mut watch = |event| progress.show(&event);
        tokio::select! {
            played = trial::run(&mut lanes, log, &mut watch) => Ok(played.err().map(Cut::Failed)),
            signal = signalled(&mut told) => Ok(Some(Cut::Signalled(signal))),
        }
    });
    progress.finish();
    // Lanes that still run are killed; a slice under way is not worth waiting for.
    let entered = runtime.enter();
    drop(lanes);
    drop(entered);
    cut
}

fn open_log(out: &Path, header: Header) -> Result<RecordLog, Failure> {
    make_way(out)?;
    RecordLog::create(&records_beside(out), header).map_err(|e| refused(out, &e))
}

fn refused(out: &Path, reason: &dyn std::fmt::Display) -> Failure {
    Failure::Usage(format!("--out {}: the result cannot be written there: {reason}", out.display()))
}

/// Makes the folder that a result goes to, before anything is measured.
pub(super) fn make_way(out: &Path) -> Result<(), Failure> {
    if out.is_dir() {
        return Err(refused(out, &"it is a directory; name a file, such as results/run.json"));
    }
    if out.extension().is_some_and(|extension| extension == "jsonl") {
        return Err(refused(out, &"the records go to the .jsonl file beside it; name a .json file"));
    }
    match out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::create_dir_all(folder).map_err(|e| refused(out, &e)),
        None => Ok(()),
    }
}

/// Descriptors that connections take in the process that holds most of them.
fn descriptors(scenario: &Scenario) -> usize {
    let connections = scenario.generator.connections;
    // A lane holds both ends of those to its payment service, at most one for every order under way.
    let payments = match scenario.service.payment {
        Payment::Inside => 0,
        Payment::Http => connections * 2,
    };
    match (scenario.transport, scenario.isolation) {
        (Transport::Direct, _) => 0,
        // And both ends of the generator's.
        (Transport::Tcp, Isolation::InProcess) => connections * 2 + payments,
        // The parent holds one end for every lane of a round.
        (Transport::Tcp, Isolation::Process) => (connections * scenario.arms.len()).max(connections + payments),
    }
}

/// Where a result goes that was told no place.
pub(super) fn default_out(name: &str, started: SystemTime) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(started).to_string().replace(['-', ':'], "");
    PathBuf::from("results").join(format!("{time}-{name}.json"))
}

pub(super) fn clock_seed(started: SystemTime) -> u64 {
    started.duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

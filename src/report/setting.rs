//! The experiment in a few lines: its title, the machine, the threads, the rounds, the payload.

use super::cells::count;
use crate::experiment::payload::{Entry, Payload, Share};
use crate::experiment::scenario::{Collector, Isolation, Role, Scenario, Transport, Until};
use crate::experiment::service::Payment;
use crate::record::machine::{Machine, Tool};
use crate::record::result::Document;

/// Which arms were measured against which, and at which load.
pub(super) fn title(document: &Document) -> String {
    let scenario = &document.header.scenario;
    let treatments: Vec<&str> =
        scenario.arms.iter().filter(|arm| arm.role == Role::Treatment).map(|arm| arm.name.as_str()).collect();
    let asked = if treatments.is_empty() { "A/A".to_owned() } else { treatments.join(", ") };
    let baseline = scenario.arms.first().map_or("", |arm| match &arm.executable {
        None => arm.name.as_str(),
        Some(_) => "another build",
    });
    match &scenario.slo {
        None => {
            format!("{}: {asked} against {baseline} at {} requests per second", scenario.name, scenario.mean_rate())
        }
        Some(slo) => {
            format!("{}: {asked} against {baseline}, the highest rate within {slo} and without loss", scenario.name)
        }
    }
}

/// Where and how it was measured, a line each.
pub(super) fn setting(document: &Document) -> Vec<String> {
    let header = &document.header;
    let scenario = &header.scenario;
    let slice = humantime::format_duration(scenario.slice);
    let played = match scenario.slo {
        None => format!("{} × {slice}", scenario.slices),
        Some(_) => format!("a search in steps of {slice}"),
    };
    let mut lines = vec![
        machine(&header.machine),
        format!(
            "{} rounds of {played} per arm, {} arrivals, seed {}{}",
            document.rounds.complete,
            scenario.arrivals,
            header.plan.seed,
            if scenario.placement.awake.is_empty() { "" } else { ", cores kept awake" },
        ),
        format!("{}, {}", threads(scenario), collector(&scenario.collector)),
    ];
    lines.extend(stopping(document));
    lines.extend(other_build(document));
    lines.extend((scenario.generator.payload != Payload::default()).then(|| payload(&scenario.generator.payload)));
    lines
}

fn machine(machine: &Machine) -> String {
    let mut parts = vec![machine.cpu_model.clone().unwrap_or_else(|| "unknown processor".into())];
    parts.push(count(machine.cores as u64, "core"));
    parts.extend(machine.kernel.clone());
    if machine.hypervisor == Some(true) {
        parts.push("virtual".into());
    }
    parts.join(", ")
}

/// Connections and threads, and the cores that they were pinned to.
fn threads(scenario: &Scenario) -> String {
    match (scenario.transport, scenario.isolation) {
        (Transport::Direct, _) => format!(
            "no sockets, {} at a time, service and generator on one thread{}, both in CPU/req",
            count(scenario.generator.connections as u64, "call"),
            on_cores(&scenario.placement.service),
        ),
        (Transport::Tcp, isolation) => format!(
            "{}, {}{}{}, generator in the {}{}",
            count(scenario.generator.connections as u64, "connection"),
            count(scenario.service.threads as u64, "service thread"),
            if scenario.service.payment == Payment::Http { " and as many of the payment service" } else { "" },
            on_cores(&scenario.placement.service),
            if isolation == Isolation::Process { "parent" } else { "lane" },
            on_cores(&scenario.placement.generator),
        ),
    }
}

fn collector(collector: &Collector) -> &str {
    match collector {
        Collector::Embedded => "embedded sink",
        Collector::Endpoint(url) => url,
        Collector::Environment => "collector named by OTEL_EXPORTER_OTLP_*",
    }
}

/// The condition that could end the run early, and whether it did.
fn stopping(document: &Document) -> Option<String> {
    let until = document.header.scenario.until?;
    let rounds = &document.rounds;
    let ended =
        if rounds.complete < rounds.planned && !document.partial { "came to that" } else { "did not end early" };
    let levels = match until {
        Until::Resolved => ", looked at as O'Brien and Fleming have it",
        Until::HalfWidth(_) => "",
    };
    Some(format!("at most {} rounds, until {until}{levels}: {ended}", rounds.planned))
}

/// The two builds, where arms of another one were measured beside this.
fn other_build(document: &Document) -> Option<String> {
    let path = document.header.scenario.arms.iter().find_map(|arm| arm.executable.as_ref())?;
    let named = |tool: &Tool| match &tool.git {
        Some(git) => format!("{} at {git}", tool.version),
        None => tool.version.clone(),
    };
    let this = &document.header.tool;
    // A lane that is of this very build does not say so.
    let other = document.lanes.iter().find_map(|lane| lane.tool.as_ref()).unwrap_or(this);
    Some(format!("this build: {}; @base and the placebo: {}, {}", named(this), path.display(), named(other)))
}

/// The payload, where it is not the default.
fn payload(payload: &Payload) -> String {
    let mut parts = vec![format!("{}, {}", count(payload.users.get().into(), "user"), payload.user_ids)];
    if payload.error_share > Share::default() {
        parts.push(format!("{} % of the orders refused as asked", f64::from(payload.error_share.millionths()) / 1e4));
    }
    parts.extend(payload.mix.entries().iter().map(|entry| match entry {
        Entry::Order { weight, items } => format!("{weight} × order of {}", count((*items).into(), "item")),
        Entry::Healthz { weight } => format!("{weight} × healthz"),
    }));
    parts.join(", ")
}

fn on_cores(cores: &[usize]) -> String {
    match cores {
        [] => String::new(),
        [core] => format!(" on core {core}"),
        cores => format!(" on cores {}", cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

//! A document in words: every string and number formatted once, here.

use super::capacity;
use super::ledger::ledger;
use super::selftest;
use crate::experiment::metric::Metric;
use crate::experiment::payload::{Entry, Payload, Share};
use crate::experiment::scenario::{Collector, Isolation, Payment, Role, Scenario, Transport, Until};
use crate::experiment::units::grouped;
use crate::record::interval::Interval;
use crate::record::load::Verdict;
use crate::record::machine::Tool;
use crate::record::result::{ArmSummary, Delta, Document};
use crate::verdict::analysis::CONFIDENCE;

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What was run.
    pub title: String,
    /// Where and how, a line each.
    pub setting: Vec<String>,
    /// What a self-test checked, a row each.
    pub checks: Option<Grid>,
    /// What the short runs of a self-test say of each arm.
    pub repeats: Option<Grid>,
    /// What each arm costs.
    pub costs: Grid,
    /// Where the spans of each arm went, where there is something to say of it.
    pub ledger: Option<Grid>,
    /// What keeps the run, or part of it, from being trusted.
    pub warnings: Vec<String>,
    /// What the placebo shows.
    pub noise_floor: Option<String>,
    /// One sentence per treatment.
    pub sentences: Vec<String>,
    /// What became of the gates.
    pub gates: Vec<String>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// One row per arm, or per check.
    pub rows: Vec<Row>,
}

/// One arm, or one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whether it is a treatment, or a check that fails, which a reader looks for first.
    pub is_treatment: bool,
    /// The cells, in the order of the columns.
    pub cells: Vec<String>,
}

/// Loss, in percent of the spans, from which on the cost of an arm says little: what was lost was not paid for in full.
const LOSS_IS_THE_FINDING: f64 = 1.0;

/// Where a number could not be measured.
const NOT_MEASURED: &str = "–";

impl View {
    /// The view of a document.
    pub fn of(document: &Document) -> Self {
        let scenario = &document.header.scenario;
        let treatments = || document.arms.iter().filter(|arm| arm.role == Role::Treatment);
        let (columns, rows, sentences) = match &scenario.slo {
            None => (
                columns(document),
                document.arms.iter().map(|arm| row(arm, document)).collect(),
                treatments().filter_map(|arm| sentence(arm, document, scenario)).collect(),
            ),
            Some(slo) => (
                capacity::columns(&confidence(document)),
                document.arms.iter().map(|arm| capacity::row(arm, document)).collect(),
                treatments().filter_map(|arm| capacity::sentence(arm, document, slo)).collect(),
            ),
        };
        Self {
            title: title(document),
            setting: setting(document),
            checks: document.selftest.as_ref().map(selftest::checks),
            repeats: document.selftest.as_ref().and_then(selftest::repeats),
            costs: Grid { columns, rows },
            ledger: ledger(document),
            warnings: warnings(document),
            noise_floor: noise_floor(document),
            sentences: if document.validity.verdict == Verdict::Invalid { Vec::new() } else { sentences },
            gates: match document.gates() {
                Ok(judged) => judged.iter().map(|judged| format!("Gate {}.", judged.in_words())).collect(),
                Err(unknown) => vec![unknown.to_string()],
            },
        }
    }
}

fn columns(document: &Document) -> Vec<String> {
    let delta = format!("Δ µs/req ({})", confidence(document));
    ["arm", "CPU/req", &delta, "p50", "p99", "p99.9", "allocs", "RSS", "spans lost"].map(str::to_owned).into()
}

/// The confidence of the intervals in percent, with the digits that tell it from another.
fn confidence(document: &Document) -> String {
    let confidence = document.deltas.first().map_or(CONFIDENCE, |delta| delta.confidence) * 100.0;
    let digits = usize::from((confidence - confidence.round()).abs() > 0.05) * 2;
    format!("{confidence:.digits$} %")
}

/// What the arms of a document are compared by first of all.
fn headline(document: &Document) -> Metric {
    if document.header.scenario.slo.is_some() { Metric::Capacity } else { Metric::Cpu }
}

fn title(document: &Document) -> String {
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

pub(super) fn setting(document: &Document) -> Vec<String> {
    let header = &document.header;
    let scenario = &header.scenario;
    let machine = &header.machine;
    let mut place = vec![machine.cpu_model.clone().unwrap_or_else(|| "unknown processor".into())];
    place.push(count(machine.cores as u64, "core"));
    place.extend(machine.kernel.clone());
    if machine.hypervisor == Some(true) {
        place.push("virtual".into());
    }
    let threads = match (scenario.transport, scenario.isolation) {
        (Transport::Direct, _) => format!(
            "no sockets, {} at a time, service and generator on one thread{}, both in CPU/req",
            count(scenario.connections as u64, "call"),
            on_cores(&scenario.placement.service),
        ),
        (Transport::Tcp, isolation) => format!(
            "{}, {}{}{}, generator in the {}{}",
            count(scenario.connections as u64, "connection"),
            count(scenario.service_threads as u64, "service thread"),
            if scenario.payment == Payment::Http { " and as many of the payment service" } else { "" },
            on_cores(&scenario.placement.service),
            if isolation == Isolation::Process { "parent" } else { "lane" },
            on_cores(&scenario.placement.generator),
        ),
    };
    let collector = match &scenario.collector {
        Collector::Embedded => "embedded sink".to_owned(),
        Collector::Endpoint(url) => url.clone(),
        Collector::Environment => "collector named by OTEL_EXPORTER_OTLP_*".to_owned(),
    };
    let slice = humantime::format_duration(scenario.slice);
    let played = match scenario.slo {
        None => format!("{} × {slice}", scenario.slices),
        Some(_) => format!("a search in steps of {slice}"),
    };
    let mut lines = vec![
        place.join(", "),
        format!(
            "{} rounds of {played} per arm, {} arrivals, seed {}{}",
            document.rounds.complete,
            scenario.arrivals,
            header.plan.seed,
            if scenario.placement.awake.is_empty() { "" } else { ", cores kept awake" },
        ),
        format!("{threads}, {collector}"),
    ];
    lines.extend(stopping(document));
    lines.extend(other_build(document));
    lines.extend((scenario.payload != Payload::default()).then(|| sent(&scenario.payload)));
    lines
}

/// What could end the run early, and whether it did.
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

/// Which build the arms of another one are of, where there is one, and which this is.
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

/// What was sent, where that is not the usual.
fn sent(payload: &Payload) -> String {
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

fn row(arm: &ArmSummary, document: &Document) -> Row {
    let change = match arm.role {
        Role::Baseline => "baseline".into(),
        Role::Placebo | Role::Treatment => delta(document, &arm.name, Metric::Cpu).map_or_else(missing, change),
    };
    Row {
        is_treatment: arm.role == Role::Treatment,
        cells: vec![
            arm.name.clone(),
            arm.cpu_us_per_request.total.map_or_else(missing, microseconds),
            change,
            arm.response_us.p50.map_or_else(missing, duration),
            arm.response_us.p99.map_or_else(missing, duration),
            arm.response_us.p999.map_or_else(missing, duration),
            arm.allocations_per_request.map_or_else(missing, |n| format!("{n:.1}")),
            arm.rss_bytes.map_or_else(missing, |bytes| format!("{:.0} MB", bytes / 1e6)),
            lost_cell(arm),
        ],
    }
}

pub(super) fn missing() -> String {
    NOT_MEASURED.into()
}

pub(super) fn delta<'a>(document: &'a Document, arm: &str, metric: Metric) -> Option<&'a Delta> {
    document.deltas.iter().find(|delta| delta.arm == arm && delta.metric == metric)
}

/// A difference with its interval, and whether it is one.
fn change(delta: &Delta) -> String {
    let Some(absolute) = delta.absolute else { return missing() };
    let digits = digits(absolute);
    let range = format!("{:+.digits$} ({:.digits$} … {:.digits$})", absolute.estimate, absolute.low, absolute.high);
    if delta.resolved { range } else { format!("{range} n.r.") }
}

/// Decimals that show the width of an interval with one or two digits, and no more.
fn digits(interval: Interval) -> usize {
    match interval.half_width() {
        width if width >= 10.0 => 0,
        width if width >= 0.5 => 1,
        _ => 2,
    }
}

pub(super) fn microseconds(us: f64) -> String {
    format!("{us:.1} µs")
}

/// A time in the unit that needs the fewest digits.
pub(super) fn duration(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Three significant digits, which is more than a search resolves.
pub(super) fn three_digits(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    match value.abs() {
        v if v >= 99.95 => {
            let unit = 10_f64.powf((v.log10().floor() - 2.0).max(0.0));
            // What is more than the integers hold saturates.
            format!("{sign}{}", grouped(((v / unit).round() * unit) as u64))
        }
        v if v >= 9.995 => format!("{sign}{v:.1}"),
        v => format!("{sign}{v:.2}"),
    }
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(n)) }
}

/// The share of spans that did not arrive.
pub(super) fn lost_cell(arm: &ArmSummary) -> String {
    match arm.telemetry.spans {
        None => NOT_MEASURED.into(),
        Some(spans) => match (spans.received, spans.lost()) {
            (None, _) => "unknown".into(),
            (Some(_), 0) => "0".into(),
            (Some(_), lost) => format!("{:.2} %", lost as f64 / spans.ended as f64 * 100.0),
        },
    }
}

pub(super) fn warnings(document: &Document) -> Vec<String> {
    let mut warnings = document.selftest.as_ref().map_or_else(Vec::new, |found| selftest::warnings(found, document));
    if document.validity.verdict == Verdict::Invalid {
        warnings.push("The measurement is invalid, so no difference is given.".into());
        warnings.extend(document.validity.causes.iter().cloned());
    }
    let rounds = &document.rounds;
    if document.partial && document.selftest.is_none() {
        warnings.push(format!(
            "The run was cut short: {} of {} rounds were played to their end.",
            rounds.complete, rounds.planned
        ));
    }
    if document.validity.verdict != Verdict::Invalid && !rounds.void.is_empty() {
        warnings.push(format!("{} of {} rounds are void and count for no arm.", rounds.void.len(), rounds.planned));
        warnings.extend(document.validity.causes.iter().cloned());
    }
    if document.deltas.iter().any(|d| d.metric == headline(document) && d.resolved && is_placebo(document, &d.arm)) {
        warnings.push(
            "The placebo differs from the baseline, though they are the same: this run has noise that its intervals do \
             not know of, and a difference of that size says nothing."
                .into(),
        );
    }
    for arm in &document.arms {
        if document.validity.verdict != Verdict::Invalid {
            warnings.extend(degraded(arm, document));
        }
        warnings.extend(telemetry_warnings(arm));
    }
    warnings
}

/// Slices of which something is to be said, though they count.
fn degraded(arm: &ArmSummary, document: &Document) -> Option<String> {
    let example = arm.validity.causes.first()?;
    if document.header.scenario.slo.is_some() {
        return Some(format!("{}: a step that gave an answer was degraded, such as: {example}.", arm.name));
    }
    let slices = document
        .records
        .iter()
        .filter(|slice| slice.arm == arm.name && slice.played.validity.verdict == Verdict::Degraded)
        .count();
    (slices > 0).then(|| format!("{}: {} degraded, such as: {example}.", arm.name, count(slices as u64, "slice")))
}

fn is_placebo(document: &Document, arm: &str) -> bool {
    document.arms.iter().any(|other| other.name == arm && other.role == Role::Placebo)
}

fn telemetry_warnings(arm: &ArmSummary) -> Vec<String> {
    let mut warnings = Vec::new();
    let telemetry = &arm.telemetry;
    if let Some(trees) = telemetry.trees.as_ref().filter(|trees| trees.wrong() > 0) {
        warnings.push(format!(
            "{}: {} of {} traces are not the tree they should be, such as: {}.",
            arm.name,
            grouped(trees.wrong()),
            grouped(trees.traces),
            trees.example.as_deref().unwrap_or("none was kept"),
        ));
    }
    if let Some(metrics) = telemetry.metrics
        && metrics.agrees() == Some(false)
    {
        warnings.push(format!(
            "{}: the service counted {} orders, but {} were answered.",
            arm.name,
            grouped(metrics.requests_counted.unwrap_or(0)),
            grouped(metrics.requests_completed),
        ));
    }
    if let Some(refused) = &telemetry.refused_connection {
        let connections = count(telemetry.refused_connections, "connection");
        warnings.push(format!("{}: the sink refused {connections}, such as: {refused}.", arm.name));
    }
    if let Some(logs) = telemetry.logs
        && let Some(received) = logs.received.filter(|received| *received != logs.emitted)
    {
        warnings.push(format!(
            "{}: of {} log records {} arrived ({} dropped, {} in failed exports, {} rejected, {} unaccounted for).",
            arm.name,
            grouped(logs.emitted),
            grouped(received),
            grouped(logs.dropped),
            grouped(logs.failed),
            grouped(logs.rejected),
            logs.unaccounted.unwrap_or(0),
        ));
    }
    if let Some(unaccounted) = telemetry.spans.and_then(|spans| spans.unaccounted).filter(|n| *n != 0) {
        warnings.push(format!("{}: {unaccounted} spans are unaccounted for: the ledger does not close.", arm.name));
    }
    warnings
}

pub(super) fn noise_floor(document: &Document) -> Option<String> {
    let placebo = document.arms.iter().find(|arm| arm.role == Role::Placebo)?;
    let delta = delta(document, &placebo.name, headline(document))?;
    let (Some(relative), Some(absolute)) = (delta.relative, delta.absolute) else { return None };
    let (what, absolute) = match delta.metric {
        Metric::Capacity => ("capacity", format!("{:+.0} RPS", absolute.estimate)),
        _ => ("CPU", format!("{:+.2} µs", absolute.estimate)),
    };
    let verdict = if delta.resolved { "which is more than chance explains" } else { "as it should, not resolved" };
    Some(format!(
        "Noise floor: the placebo, the same as the baseline, differs by {:+.1} % of {what} ({:+.1} … {:+.1}), or {absolute}, {verdict}.",
        relative.estimate * 100.0,
        relative.low * 100.0,
        relative.high * 100.0,
    ))
}

/// What a treatment costs, in plain words.
fn sentence(arm: &ArmSummary, document: &Document, scenario: &Scenario) -> Option<String> {
    let delta = delta(document, &arm.name, Metric::Cpu)?;
    let fate = fate(arm);
    let (Some(absolute), Some(relative)) = (delta.absolute, delta.relative) else {
        let reason = delta.reason.as_deref().unwrap_or("it was not measured");
        return Some(format!("{}: its cost is not known: {reason}; {fate}.", arm.name));
    };
    if !delta.resolved {
        let (us, share) = (delta.mde_absolute.unwrap_or(f64::NAN), delta.mde_relative.unwrap_or(f64::NAN) * 100.0);
        return Some(format!(
            "{}: a difference in CPU is not resolved; this run would have seen {us:.1} µs per request ({share:.0} %) or more; {fate}.",
            arm.name,
        ));
    }
    let (digits, rate) = (digits(absolute), scenario.mean_rate());
    let than = scenario.arms.iter().find(|other| other.name == arm.name).and_then(|arm| arm.against.as_deref());
    let than = than.map_or_else(String::new, |base| format!(" against {base}"));
    let verb = if absolute.estimate >= 0.0 { "costs" } else { "saves" };
    let (low, high) =
        if absolute.estimate >= 0.0 { (absolute.low, absolute.high) } else { (-absolute.high, -absolute.low) };
    Some(format!(
        "{} {verb} {:.digits$} µs of CPU per request{than} ({}: {low:.digits$}–{high:.digits$}), ×{:.2}; that is {} cores at {} RPS; {fate}.",
        arm.name,
        absolute.estimate.abs(),
        confidence(document),
        1.0 + relative.estimate,
        significant(absolute.estimate.abs() * rate.as_f64() / 1e6),
        rate,
    ))
}

/// A small number with two significant digits.
fn significant(value: f64) -> String {
    match value {
        v if v >= 10.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// What became of the telemetry.
pub(super) fn fate(arm: &ArmSummary) -> String {
    let Some(spans) = arm.telemetry.spans else {
        return match arm.telemetry.metrics.and_then(|metrics| metrics.agrees()) {
            Some(true) => "every order was counted".into(),
            Some(false) => "orders were miscounted".into(),
            None => "it makes no telemetry to lose".into(),
        };
    };
    match spans.received {
        None => "what arrived is not known here".into(),
        Some(_) if spans.lost() == 0 => "nothing was lost".into(),
        Some(_) => {
            let share = spans.lost() as f64 / spans.ended as f64 * 100.0;
            let ways: Vec<String> = [
                (spans.dropped.cast_signed(), "dropped at the full queue"),
                (spans.failed.cast_signed(), "in failed exports"),
                (spans.abandoned.cast_signed(), "left waiting when the shutdown gave up"),
                (spans.rejected.cast_signed(), "rejected"),
                (spans.unaccounted.unwrap_or(0), "unaccounted for"),
            ]
            .into_iter()
            .filter(|(n, _)| *n != 0)
            .map(|(n, way)| format!("{n} {way}"))
            .collect();
            let finding = if share >= LOSS_IS_THE_FINDING { ", which is the finding here, not the cost" } else { "" };
            format!("{share:.2} % of the spans were lost ({}){finding}", ways.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_their_interval_deserves() {
        let interval = |low, high| Interval { estimate: f64::midpoint(low, high), low, high };
        assert_eq!(digits(interval(20.0, 22.0)), 1);
        assert_eq!(digits(interval(0.9, 1.1)), 2);
        assert_eq!(digits(interval(100.0, 150.0)), 0);
    }

    #[test]
    fn durations_take_the_unit_that_needs_few_digits() {
        let written: Vec<String> = [87.4, 1_234.0, 56_780.0, 2_000_000.0].map(duration).into();
        assert_eq!(written, ["87 µs", "1.23 ms", "57 ms", "2.00 s"]);
    }

    #[test]
    fn rates_and_ratios_have_three_digits() {
        let written: Vec<String> = [35_249.0, 319.4, 99.97, 42.34, 5.678, -1_234.0, 0.619].map(three_digits).into();
        assert_eq!(written, ["35 200", "319", "100", "42.3", "5.68", "−1 230", "0.62"]);
    }
}

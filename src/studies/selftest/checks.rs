//! Judges each check from the runs of a self-test. Pure.
//!
//! On a machine that measures well, a check fails in at most 5 % of the self-tests; where it rests on statistics, its text says
//! so. A check by arithmetic alone never fails there.

use std::time::Duration;

use crate::experiment::metric::Metric;
use crate::experiment::scenario::{Arm, Known, Role};
use crate::experiment::units::{grouped, micros};
use crate::record::interval::Interval;
use crate::record::load::{ValidityLevel, decode};
use crate::record::records::{LaneRecord, SliceRecord};
use crate::record::result::{Delta, Document, TelemetrySummary};
use crate::record::selftest::Check;
use crate::record::usage::CpuUs;
use crate::verdict::analysis::{self, CONFIDENCE};
use crate::verdict::stats::Paired;

/// How much longer a known delay may turn out: tokio's timer and the poll beneath it each round up to a millisecond.
const TIMER: Duration = Duration::from_millis(2);
/// Share of a stall by which a busy machine may lengthen it.
const STALL_TOLERANCE: f64 = 0.1;
/// Relative resolution of the histograms.
const HISTOGRAM: f64 = 0.001;
/// Share of the process's CPU time that the roles of its threads may miss.
const CPU_TOLERANCE: f64 = 0.01;

/// The baseline does not differ from itself.
pub fn placebo(run: &Document) -> Check {
    let delta = run.header.scenario.arms.iter().find(|arm| arm.role == Role::Placebo).map(|arm| delta(run, &arm.name));
    let (passed, seen) = match delta {
        Some(Ok(delta)) => (!delta.resolved && delta.absolute.is_some(), described(delta)),
        Some(Err(reason)) => (false, reason),
        None => (false, "there is no placebo".into()),
    };
    Check {
        name: "A/A".into(),
        passed,
        expected: "the placebo, which is the baseline once more, shows no resolved difference in CPU per request; by chance it \
                   does in 1 of 20 healthy self-tests"
            .into(),
        seen,
        advice: "Run it again with another --seed. If it fails again, something favours one of two equal arms: stop other \
                 programs on this machine, or play more rounds with --rounds."
            .into(),
    }
}

/// Every injected cost lies in its interval.
pub fn injected(run: &Document) -> Check {
    let arms = injections(run);
    let confidence = 1.0 - (1.0 - CONFIDENCE) / arms.len().max(1) as f64;
    let found: Vec<(bool, String)> = arms
        .iter()
        .map(|(arm, us)| match paired(run, &arm.name, Metric::Cpu) {
            Ok(paired) => {
                let interval = paired.interval(confidence);
                let inside = interval.low <= *us && *us <= interval.high;
                let word = if inside { "in" } else { "NOT in" };
                (inside, format!("{} {us:.2} µs {word} {:.2} … {:.2}", arm.name, interval.low, interval.high))
            }
            Err(reason) => (false, format!("{}: {reason}", arm.name)),
        })
        .collect();
    Check {
        name: "injected cost".into(),
        passed: all(&found),
        expected: format!(
            "the CPU time that {} arms burn on purpose per request lies in the interval of each, at {:.2} % each, so that \
             by chance at most 1 of 20 healthy self-tests fails",
            arms.len(),
            confidence * 100.0
        ),
        seen: listed(&found),
        advice:
            "The cost of a request is measured too high or too low here. Run it again with another --seed; if the same \
                 arms fail, trust no difference of that size."
                .into(),
    }
}

/// An injected cost that is large enough for this run is resolved.
pub fn detected(run: &Document) -> Check {
    let arms = injections(run);
    let power = 1.0 - (1.0 - CONFIDENCE) / arms.len().max(1) as f64;
    let mut due = 0;
    let found: Vec<(bool, String)> = arms
        .iter()
        .map(|(arm, us)| match (delta(run, &arm.name), paired(run, &arm.name, Metric::Cpu)) {
            (Ok(delta), Ok(paired)) => {
                let sure = paired.detectable(CONFIDENCE, power);
                let is_due = *us >= sure;
                due += usize::from(is_due);
                let word = match (delta.resolved, is_due) {
                    (true, _) => "resolved",
                    (false, true) => "NOT resolved",
                    (false, false) => "not resolved, and too small to expect it",
                };
                (delta.resolved || !is_due, format!("{} {us:.2} µs of {sure:.2} {word}", arm.name))
            }
            (Err(reason), _) | (_, Err(reason)) => (false, format!("{}: {reason}", arm.name)),
        })
        .collect();
    let mut seen = listed(&found);
    if due == 0 {
        seen += "; no cost was large enough for this run";
    }
    Check {
        name: "detection".into(),
        passed: all(&found) && due > 0,
        expected: format!(
            "every injected cost is resolved that is large enough for this run to find it with a power of {:.2} %, and at \
             least one is that large; by chance at most 1 of 20 healthy self-tests fails",
            power * 100.0
        ),
        seen,
        advice: "Play more rounds with --rounds, or longer slices with --slice; if even a cost of 10 % is not found then, the \
                 machine is too noisy."
            .into(),
    }
}

/// A known delay shows in the response time, and adds little else.
pub fn delay(run: &Document) -> Check {
    let Some((arm, delay)) = find(run, |known| match known {
        Known::Delay(delay) => Some(delay),
        _ => None,
    }) else {
        return unplayed("known delay");
    };
    let (least, most) = (micros(delay), micros(delay + TIMER));
    let judged = base_name(run)
        .and_then(|base| trusted(run)?.differences(&arm.name, base, Metric::ResponseP50))
        .and_then(|found| Ok((interval_of(&found.absolute)?, run.values(&arm.name, Metric::ResponseP50)?)));
    let (passed, seen) = match judged {
        Err(reason) => (false, reason),
        Ok((interval, medians)) => {
            let shortest = medians.into_iter().fold(f64::INFINITY, f64::min);
            let passed = shortest >= least * (1.0 - HISTOGRAM) && interval.high >= least && interval.low <= most;
            let [estimate, low, high] = [interval.estimate, interval.low, interval.high].map(|us| us / 1e3);
            let seen = format!(
                "p50 of {:.2} ms or more in every round; {estimate:+.2} ms ({low:+.2} … {high:+.2}) against the arm without it",
                shortest / 1e3
            );
            (passed, seen)
        }
    };
    Check {
        name: "known delay".into(),
        passed,
        expected: format!(
            "a payment of {:.0} ms shows in full in the p50 of every round, and its 95 % interval adds {:.0} to {:.0} ms, \
             including the rounding of timers",
            least / 1e3,
            least / 1e3,
            most / 1e3
        ),
        seen,
        advice:
            "Response times are off by more than the timers explain. Stop other programs on this machine; the CPU figures \
                 may hold nevertheless."
                .into(),
    }
}

/// A stopped server shows in the response times of all requests that were due meanwhile, sent or not.
pub fn stall(run: &Document) -> Check {
    let Some((arm, stop)) = find(run, |known| match known {
        Known::Stop(stop) => Some(stop),
        _ => None,
    }) else {
        return unplayed("known stall");
    };
    let limit = stop / 2;
    let scenario = &run.header.scenario;
    let per_us = scenario.mean_rate().as_f64() / 1e6;
    // A request takes longer than the limit if more than the limit of the stall lies ahead when it is due.
    let due = per_us * micros(stop.saturating_sub(limit));
    let least = (due * (1.0 - HISTOGRAM)).floor() - 1.0;
    let most = (due + per_us * micros(stop) * STALL_TOLERANCE).ceil() + 1.0;
    let slices = run.records.iter().filter(|slice| slice.arm == arm.name);
    let mut slow: Vec<f64> = slices.filter_map(|slice| longer_than(slice, limit)).map(|n| n as f64).collect();
    slow.sort_unstable_by(f64::total_cmp);
    let planned = (scenario.rounds * scenario.slices) as usize;
    let (fewest, middle) = (slow.first().copied(), slow.get(slow.len() / 2).copied());
    let passed = slow.len() == planned && fewest.is_some_and(|n| n >= least) && middle.is_some_and(|n| n <= most);
    let seen = match (fewest, middle) {
        (Some(fewest), Some(middle)) => format!("at least {fewest}, {middle} in the median of {planned} slices"),
        _ => "no slice was played".into(),
    };
    Check {
        name: "known stall".into(),
        passed,
        expected: format!(
            "when a service is stopped for {} ms at {} requests per second, by arithmetic {due:.0} requests take more than \
             {} ms: {least:.0} or more in every slice, {most:.0} or fewer in the median one",
            stop.as_millis(),
            scenario.mean_rate(),
            limit.as_millis(),
        ),
        seen,
        advice: "Too few: waiting times are missing from the response times, and no tail can be trusted. Too many: the machine \
                 itself stalls."
            .into(),
    }
}

/// A span that the sink loses silently is missing from the ledger and from its tree.
pub fn lost_span(run: &Document) -> Check {
    let Some((arm, ())) = find(run, |known| matches!(known, Known::LostSpan(_)).then_some(())) else {
        return unplayed("lost span");
    };
    let (lanes, telemetry) = telemetry(run, arm);
    let (passed, seen) = match telemetry.spans.zip(telemetry.trees.map(|trees| trees.wrong())) {
        None => (false, "no lane ran to its end".into()),
        Some((spans, wrong)) => (
            lanes > 0 && spans.unaccounted == Some(lanes.cast_signed()) && wrong == lanes,
            format!(
                "{} of {} spans unaccounted for and {wrong} wrong trees in {lanes} lanes",
                spans.unaccounted.map_or_else(|| "an unknown number".into(), |n| n.to_string()),
                grouped(spans.ended),
            ),
        ),
    };
    Check {
        name: "lost span".into(),
        passed,
        expected: "a span that the sink acknowledges and loses shows as 1 span unaccounted for and 1 wrong tree, in every lane"
            .into(),
        seen,
        advice: "The ledger does not notice the loss: no loss of 0 can be trusted.".into(),
    }
}

/// Every span that ended has arrived, and every answered order was counted.
pub fn ledger(run: &Document) -> Check {
    let whole = run.header.scenario.arms.iter().find(|arm| arm.known.is_none()).map(|arm| telemetry(run, arm).1);
    let summary = whole.and_then(|telemetry| Some((telemetry.spans?, telemetry.metrics?, telemetry.trees?)));
    let (passed, seen) = match summary {
        None => (false, "no lane ran to its end".into()),
        Some((spans, metrics, trees)) => {
            let orders = metrics.requests_completed;
            let arrived = spans.ended > 0 && spans.received == Some(spans.ended) && spans.unaccounted == Some(0);
            let once = spans.duplicated == Some(0);
            let counted = metrics.requests_counted == Some(orders) && metrics.requests_uncertain == 0;
            let right = trees.right == orders && trees.wrong() == 0;
            let number = |n: Option<u64>| n.map_or_else(|| "an unknown number".into(), grouped);
            let seen = format!(
                "{} spans ended, {} received; {} orders answered, {} counted, {} right trees, {} wrong",
                grouped(spans.ended),
                number(spans.received),
                grouped(orders),
                number(metrics.requests_counted),
                grouped(trees.right),
                grouped(trees.wrong()),
            );
            (arrived && once && counted && right, seen)
        }
    };
    Check {
        name: "ledger".into(),
        passed,
        expected:
            "every span that ended is received once; every order that was answered is counted and has one right tree"
                .into(),
        seen,
        advice:
            "Telemetry is lost or miscounted here even at a low rate: an overhead measured like this is not that of \
                 telemetry that arrives."
                .into(),
    }
}

/// Every arrival is accounted for, and the CPU time of all roles adds up to that of the process.
pub fn identity(runs: &[&Document]) -> Check {
    let slices = || runs.iter().flat_map(|run| &run.records);
    let open = slices().filter(|slice| !slice.played.load.adds_up()).count();
    let missed: f64 = slices().map(|slice| (slice.spent.cpu_us.process - roles(&slice.spent.cpu_us)).abs()).sum();
    let share = missed / slices().map(|slice| slice.spent.cpu_us.process).sum::<f64>();
    let n = slices().count();
    Check {
        name: "identity".into(),
        // Without slices the share is not a number.
        passed: open == 0 && share <= CPU_TOLERANCE,
        expected: format!(
            "in every slice, scheduled is completed + failed + timed out + missed + unsent + in flight; the CPU time of all \
             roles adds up to that of the process within {:.0} %",
            CPU_TOLERANCE * 100.0
        ),
        seen: format!(
            "{open} of {} slices do not add up; the clocks differ by {:.3} %",
            grouped(n as u64),
            share * 100.0
        ),
        advice: "The CPU time of some thread, or some request, is missing from the accounts: no cost per request can be trusted."
            .into(),
    }
}

/// The arms that burn CPU time on purpose, with the amount.
pub(super) fn injections(run: &Document) -> Vec<(&Arm, f64)> {
    let treatments = run.header.scenario.arms.iter().filter(|arm| arm.role == Role::Treatment);
    treatments.filter_map(|arm| Some((arm, arm.injected_us?))).collect()
}

/// The document, unless the measurement is invalid.
pub(super) fn trusted(run: &Document) -> Result<&Document, String> {
    match run.validity.level {
        ValidityLevel::Invalid => Err(format!("the measurement is invalid: {}", run.validity.causes.join("; "))),
        ValidityLevel::Valid | ValidityLevel::Degraded => Ok(run),
    }
}

/// The difference in CPU between an arm and the baseline.
pub(super) fn delta<'a>(run: &'a Document, arm: &str) -> Result<&'a Delta, String> {
    let deltas = &trusted(run)?.deltas;
    let found = deltas.iter().find(|delta| delta.arm == arm && delta.metric == Metric::Cpu);
    found.filter(|delta| delta.absolute.is_some()).ok_or_else(|| "it was not measured in two rounds".into())
}

fn paired(run: &Document, arm: &str, metric: Metric) -> Result<Paired, String> {
    let differences = trusted(run)?.differences(arm, base_name(run)?, metric)?;
    Paired::of(&differences.absolute).ok_or_else(|| "it was not measured in two rounds".into())
}

fn interval_of(differences: &[f64]) -> Result<Interval, String> {
    let paired = Paired::of(differences).ok_or("it was not measured in two rounds")?;
    Ok(paired.interval(CONFIDENCE))
}

fn base_name(run: &Document) -> Result<&str, String> {
    let baseline = run.header.scenario.arms.iter().find(|arm| arm.role == Role::Baseline);
    baseline.map(|arm| arm.name.as_str()).ok_or_else(|| "there is no baseline".into())
}

fn find<T>(run: &Document, what: impl Fn(Known) -> Option<T>) -> Option<(&Arm, T)> {
    run.header.scenario.arms.iter().find_map(|arm| Some((arm, what(arm.known?)?)))
}

/// How many lanes of an arm ended, and where their telemetry went. All lanes count: whether a span is lost does not depend on
/// how late the generator was.
fn telemetry(run: &Document, arm: &Arm) -> (u64, TelemetrySummary) {
    let lanes: Vec<&LaneRecord> = run.lanes.iter().filter(|lane| lane.arm == arm.name).collect();
    (lanes.len() as u64, analysis::telemetry(arm, &lanes))
}

/// Completed requests that took longer than `limit`; `None` where the distribution cannot be read.
fn longer_than(slice: &SliceRecord, limit: Duration) -> Option<u64> {
    let histogram = decode(&slice.played.hdr.response_ns)?;
    // In range: the limit is shorter than a slice.
    Some(histogram.len() - histogram.count_between(0, limit.as_nanos() as u64))
}

fn roles(cpu: &CpuUs) -> f64 {
    cpu.request + cpu.exporter + cpu.generator + cpu.other
}

/// A difference in CPU per request, in words.
fn described(delta: &Delta) -> String {
    let resolved = if delta.resolved { "resolved" } else { "not resolved" };
    match delta.absolute {
        None => "it was not measured in two rounds".into(),
        Some(interval) => {
            format!("{:+.2} µs ({:+.2} … {:+.2}), {resolved}", interval.estimate, interval.low, interval.high)
        }
    }
}

fn all(found: &[(bool, String)]) -> bool {
    !found.is_empty() && found.iter().all(|(holds, _)| *holds)
}

fn listed(found: &[(bool, String)]) -> String {
    let words: Vec<&str> = found.iter().map(|(_, words)| words.as_str()).collect();
    if words.is_empty() { "no cost was injected".into() } else { words.join("; ") }
}

fn unplayed(name: &str) -> Check {
    Check {
        name: name.into(),
        passed: false,
        expected: "it is played".into(),
        seen: "no arm has it".into(),
        advice: "This is a bug in otelbench; please report it.".into(),
    }
}

#[cfg(test)]
mod tests;

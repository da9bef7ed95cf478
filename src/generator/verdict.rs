//! The generator's verdict on itself: whether the requested load was applied and, if not, why.
//!
//! Every cause starts with one of the names in [`cause`](crate::record::load::cause), followed by the evidence.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::record::load::{LoadCounts, MEDIAN_LATE_INVALID, MixCounts, Validity, ValidityLevel, cause};

/// Share of arrivals that may be lost or fail before the stretch no longer represents the requested load.
const LOST_INVALID: f64 = 0.01;
/// If at least 1 % of the requests, and at least ten, are later than this, latencies are doubtful; CPU time per request
/// still holds.
const TAIL_LATE_DEGRADED: Duration = Duration::from_millis(5);
const TAIL: f64 = 0.01;
const TAIL_REQUESTS: f64 = 10.0;

/// Steal time, as a share of all cores, above which a stretch is degraded.
const STOLEN_DEGRADED: f64 = 0.05;
/// Factor by which the median service time rises between half-idle and fully busy connections, above which the server is
/// called slow: the load slows it down, and more connections would not help.
const SLOWED_DOWN: f64 = 1.5;
/// Requests that the half-idle median needs; with fewer, the fastest request is taken instead.
const UNCROWDED_REQUESTS: u64 = 20;
/// As [`SLOWED_DOWN`], when compared with the fastest request.
const SLOWED_DOWN_FROM_FASTEST: f64 = 4.0;
/// Ratio of the longest service time to the median, above which the server is said to have stalled.
const STOOD_STILL: f64 = 10.0;

/// The failure class of a refused request.
const REFUSALS: &str = "status_4xx";

/// Evidence for the verdict. Histograms are in nanoseconds.
pub(super) struct LoadEvidence<'a> {
    pub counts: &'a LoadCounts,
    pub mix: &'a MixCounts,
    /// How late the generator itself started each arrival.
    pub wake: &'a Histogram<u64>,
    /// From the intended to the actual write of each completed request.
    pub lateness: &'a Histogram<u64>,
    /// From the write of each completed request to its response.
    pub service: &'a Histogram<u64>,
    /// The same for requests that started and ended while at least half of the connections were idle.
    pub uncrowded: &'a Histogram<u64>,
    /// The same for requests that took the last idle connection.
    pub crowded: &'a Histogram<u64>,
    pub connections: usize,
    /// Length of the schedule that was played.
    pub due_in: Duration,
    /// From the first arrival to the last response.
    pub elapsed: Duration,
    /// Whether the stretch was cut short. Unsent and in-flight requests are then no fault.
    pub cut_short: bool,
    /// Longest run-queue delay of any generator thread: runnable, but without a CPU.
    pub without_core: Duration,
    /// Steal time of the hypervisor, over all cores.
    pub stolen: Duration,
}

impl LoadEvidence<'_> {
    fn left_over(&self, n: u64) -> u64 {
        if self.cut_short { 0 } else { n }
    }
}

pub(super) fn judge(evidence: &LoadEvidence<'_>) -> Validity {
    let counts = evidence.counts;
    let mut validity = Validity::default();
    if counts.scheduled == 0 {
        let what = "the stretch is shorter than the gap between arrivals";
        validity.find(ValidityLevel::Invalid, format!("{}: {what}", cause::NOTHING_DUE));
        return validity;
    }
    judge_machine(evidence, &mut validity);
    judge_waiting(evidence, &mut validity);
    judge_answers(evidence, &mut validity);
    validity
}

/// Checks whether the machine gave the generator enough CPU time.
fn judge_machine(evidence: &LoadEvidence<'_>, validity: &mut Validity) {
    if let Some(level) = lateness_level(evidence.wake) {
        let evidence = format!(
            "half of the arrivals were started {} late or more, 1 in 100 {} or more; a generator thread waited {} for a CPU",
            in_words(quantile(evidence.wake, 0.5)),
            in_words(quantile(evidence.wake, 0.99)),
            in_words(evidence.without_core)
        );
        validity.find(level, format!("{}: {evidence}", cause::STARVED));
    }
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = evidence.stolen.as_secs_f64() / (evidence.elapsed.as_secs_f64() * cores as f64);
    if share > STOLEN_DEGRADED {
        let evidence = format!("the hypervisor took {:.0} % of this machine's CPU time", share * 100.0);
        validity.find(ValidityLevel::Degraded, format!("{}: {evidence}", cause::STOLEN));
    }
}

/// Checks whether arrivals found a connection. Lateness of the generator itself is not blamed on the server.
fn judge_waiting(evidence: &LoadEvidence<'_>, validity: &mut Validity) {
    let counts = evidence.counts;
    let never_sent = counts.missed + evidence.left_over(counts.unsent);
    let found = lateness_level(evidence.lateness).max((never_sent > 0).then(|| grade(never_sent, counts)));
    let Some(level) = found else { return };
    if found > lateness_level(evidence.wake) {
        let (name, why) = why_all_were_busy(evidence);
        let waited = format!(
            "1 in 100 requests was sent {} late or more, {:.1} % were never sent",
            in_words(quantile(evidence.lateness, 0.99)),
            share(never_sent, counts) * 100.0
        );
        validity.find(level, format!("{name}: {why}; {waited}"));
    }
    if counts.missed > 0 {
        let what = format!("the backlog was full for {:.1} % of the arrivals", share(counts.missed, counts) * 100.0);
        validity.find(grade(counts.missed, counts), format!("{}: {what}", cause::BACKLOG));
    }
}

/// Why arrivals had to wait for a connection: the cause and the evidence. This is a heuristic; one stretch is no proof.
fn why_all_were_busy(evidence: &LoadEvidence<'_>) -> (&'static str, String) {
    let timed_out = evidence.counts.timed_out;
    if timed_out >= evidence.connections as u64 {
        return (cause::SILENT, format!("{timed_out} requests were not answered in time"));
    }
    let (median, longest) = (quantile(evidence.service, 0.5), quantile(evidence.service, 1.0));
    let waited = quantile(evidence.lateness, 1.0);
    // After a stall, no arrival waits much longer than the stall; on a slow server, waits add up.
    if longest.as_secs_f64() > STOOD_STILL * median.as_secs_f64() && waited < 2 * longest {
        let evidence = format!("the longest service time was {}, the median {}", in_words(longest), in_words(median));
        return (cause::STALLED, evidence);
    }
    let together = quantile(evidence.crowded, 0.5);
    let (alone, factor, when) = if evidence.uncrowded.len() < UNCROWDED_REQUESTS {
        (quantile(evidence.service, 0.0), SLOWED_DOWN_FROM_FASTEST, "at best")
    } else {
        (quantile(evidence.uncrowded, 0.5), SLOWED_DOWN, "with half of the connections idle")
    };
    if together.as_secs_f64() > factor * alone.as_secs_f64() {
        let all = format!("with all {} busy", evidence.connections);
        return (cause::SLOW, format!("service time is {} {when} and {} {all}", in_words(alone), in_words(together)));
    }
    let rate = evidence.counts.scheduled as f64 / evidence.due_in.as_secs_f64();
    // Little's law: requests in flight = rate × service time.
    let needed = (rate * median.as_secs_f64()).ceil();
    let evidence = format!(
        "all {} connections were busy; at a median service time of {} this rate needs about {needed}",
        evidence.connections,
        in_words(median)
    );
    (cause::CONNECTION_CAP, evidence)
}

/// Checks whether the requests that were sent were answered.
fn judge_answers(evidence: &LoadEvidence<'_>, validity: &mut Validity) {
    let counts = evidence.counts;
    // If arrivals are still unsent, requests in flight may not have reached their time-out yet.
    let in_flight = if counts.unsent == 0 { evidence.left_over(counts.in_flight) } else { 0 };
    let unanswered = counts.timed_out + in_flight;
    if unanswered > 0 && !validity.names(cause::SILENT) {
        let what = format!("{unanswered} requests were not answered in time");
        validity.find(grade(unanswered, counts), format!("{}: {what}", cause::SILENT));
    }
    let mut failed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (class, n) in &counts.failed {
        // A refusal that was asked for is not a failure.
        let n = n - if class == REFUSALS { evidence.mix.refused_as_asked } else { 0 };
        if n > 0 {
            failed.entry(blame(class)).or_default().push(format!("{class} {n}"));
        }
    }
    let failures = counts.failures() - evidence.mix.refused_as_asked;
    // A server that dies also breaks off its open requests.
    if let Some(broken_off) = failed.remove(cause::FAILING) {
        let name = if failed.contains_key(cause::DEAD) { cause::DEAD } else { cause::FAILING };
        failed.entry(name).or_default().extend(broken_off);
    }
    for (name, classes) in failed {
        let what = format!("{failures} requests failed ({})", classes.join(", "));
        validity.find(grade(failures, counts), format!("{name}: {what}"));
    }
    let not_refused = evidence.mix.not_refused;
    if not_refused > 0 {
        let what = format!("{not_refused} invalid requests were not refused");
        validity.find(grade(not_refused, counts), format!("{}: {what}", cause::FAILING));
    }
}

/// The cause that a failure class is evidence of.
fn blame(class: &str) -> &'static str {
    match class {
        "refused" | "unreachable" => cause::DEAD,
        "no_descriptor" | "no_port" => cause::REFUSED_BY_SYSTEM,
        _ => cause::FAILING,
    }
}

fn share(n: u64, counts: &LoadCounts) -> f64 {
    n as f64 / counts.scheduled as f64
}

fn grade(lost: u64, counts: &LoadCounts) -> ValidityLevel {
    if share(lost, counts) > LOST_INVALID { ValidityLevel::Invalid } else { ValidityLevel::Degraded }
}

fn lateness_level(lateness: &Histogram<u64>) -> Option<ValidityLevel> {
    if quantile(lateness, 0.5) > MEDIAN_LATE_INVALID {
        Some(ValidityLevel::Invalid)
    } else {
        let tail = TAIL.max(TAIL_REQUESTS / lateness.len() as f64);
        (tail < 0.5 && quantile(lateness, 1.0 - tail) > TAIL_LATE_DEGRADED).then_some(ValidityLevel::Degraded)
    }
}

fn in_words(duration: Duration) -> String {
    match duration.as_secs_f64() * 1e3 {
        ms if ms < 1.0 => format!("{:.0} µs", ms * 1e3),
        ms => format!("{ms:.1} ms"),
    }
}

fn quantile(histogram: &Histogram<u64>, q: f64) -> Duration {
    Duration::from_nanos(histogram.value_at_quantile(q))
}

#[cfg(test)]
mod tests;

//! The cost of telemetry: the row and the sentence of an arm.

use super::cells::{Row, digits, duration, megabytes, microseconds, missing, significant};
use super::loss::{lost_cell, lost_clause};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::{Role, Scenario};
use crate::record::result::{ArmSummary, Delta, Document};
use crate::verdict::analysis::CONFIDENCE;

/// Heads of the columns.
pub(super) fn columns(document: &Document) -> Vec<String> {
    let delta = format!("Δ µs/req ({})", confidence(document));
    ["arm", "CPU/req", &delta, "p50", "p99", "p99.9", "allocs", "RSS", "spans lost"].map(str::to_owned).into()
}

/// The confidence of the intervals in percent, with the digits that tell it from another.
pub(super) fn confidence(document: &Document) -> String {
    let confidence = document.deltas.first().map_or(CONFIDENCE, |delta| delta.confidence) * 100.0;
    let digits = usize::from((confidence - confidence.round()).abs() > 0.05) * 2;
    format!("{confidence:.digits$} %")
}

/// One arm.
pub(super) fn row(arm: &ArmSummary, document: &Document) -> Row {
    let change = match arm.role {
        Role::Baseline => "baseline".into(),
        Role::Placebo | Role::Treatment => document.delta(&arm.name, Metric::Cpu).map_or_else(missing, change),
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
            arm.rss_bytes.map_or_else(missing, megabytes),
            lost_cell(arm),
        ],
    }
}

/// A difference with its interval, and whether it is one.
fn change(delta: &Delta) -> String {
    let Some(absolute) = delta.absolute else { return missing() };
    let digits = digits(absolute);
    let range = format!("{:+.digits$} ({:.digits$} … {:.digits$})", absolute.estimate, absolute.low, absolute.high);
    if delta.resolved { range } else { format!("{range} n.r.") }
}

/// The cost of a treatment in plain words.
pub(super) fn sentence(arm: &ArmSummary, document: &Document, scenario: &Scenario) -> Option<String> {
    let delta = document.delta(&arm.name, Metric::Cpu)?;
    let lost = lost_clause(arm);
    let (Some(absolute), Some(relative)) = (delta.absolute, delta.relative) else {
        let reason = delta.reason.as_deref().unwrap_or("it was not measured");
        return Some(format!("{}: its cost is not known: {reason}; {lost}.", arm.name));
    };
    if !delta.resolved {
        let (us, share) = (delta.mde_absolute.unwrap_or(f64::NAN), delta.mde_relative.unwrap_or(f64::NAN) * 100.0);
        return Some(format!(
            "{}: a difference in CPU is not resolved; this run would have seen {us:.1} µs per request ({share:.0} %) or more; {lost}.",
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
        "{} {verb} {:.digits$} µs of CPU per request{than} ({}: {low:.digits$}–{high:.digits$}), ×{:.2}; that is {} cores at {} RPS; {lost}.",
        arm.name,
        absolute.estimate.abs(),
        confidence(document),
        1.0 + relative.estimate,
        significant(absolute.estimate.abs() * rate.as_f64() / 1e6),
        rate,
    ))
}

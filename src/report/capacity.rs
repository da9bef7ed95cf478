//! The result of a search for the capacity: the row and the sentence of an arm.

use super::cells::{Row, duration, microseconds, missing, three_digits};
use super::loss::{lost_cell, lost_clause};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Role;
use crate::experiment::slo::Slo;
use crate::record::interval::Interval;
use crate::record::result::{ArmSummary, Document};

/// Heads of the columns; those after the ratio are of the steps that gave the answers.
pub(super) fn columns(confidence: &str) -> Vec<String> {
    // The values of an arm have intervals of their own.
    let ratio = format!("of baseline ({confidence})");
    ["arm", "RPS (95 %)", &ratio, "CPU/req", "p99", "spans lost"].map(str::to_owned).into()
}

/// One arm.
pub(super) fn row(arm: &ArmSummary, document: &Document) -> Row {
    let capacity = arm.capacity_rps.map_or_else(missing, |rps| match arm.intervals.get(&Metric::Capacity) {
        Some(interval) => spread(Interval { estimate: rps, ..*interval }),
        None => three_digits(rps),
    });
    let ratio = match (arm.role, document.delta(&arm.name, Metric::Capacity)) {
        (Role::Baseline, _) => "baseline".into(),
        (_, Some(delta)) => delta.relative.map_or_else(missing, |relative| {
            let note = if delta.resolved { "" } else { " n.r." };
            format!("×{}{note}", spread(times(relative)))
        }),
        (_, None) => missing(),
    };
    Row {
        is_treatment: arm.role == Role::Treatment,
        cells: vec![
            arm.name.clone(),
            capacity,
            ratio,
            arm.cpu_us_per_request.total.map_or_else(missing, microseconds),
            arm.response_us.p99.map_or_else(missing, duration),
            lost_cell(arm),
        ],
    }
}

/// The throughput left under a treatment, in plain words.
pub(super) fn sentence(arm: &ArmSummary, document: &Document, slo: &Slo) -> Option<String> {
    let delta = document.delta(&arm.name, Metric::Capacity)?;
    let lost = lost_clause(arm);
    let (Some(capacity), Some(baseline), Some(relative)) = (arm.capacity_rps, delta.baseline, delta.relative) else {
        let reason = delta.reason.as_deref().unwrap_or("it was not measured");
        return Some(format!("{}: its part of the capacity is not known: {reason}; {lost}.", arm.name));
    };
    if !delta.resolved {
        let seen = match delta.mde_relative.unwrap_or(f64::NAN) {
            share if share >= 1.0 => format!("a factor of {}", three_digits(1.0 + share)),
            share => format!("{:.0} %", share * 100.0),
        };
        return Some(format!(
            "{}: a difference in capacity is not resolved; this run would have seen {seen} or more; {lost}.",
            arm.name,
        ));
    }
    let base = document.header.scenario.arms.first().map_or("", |arm| arm.name.as_str());
    let change = relative.estimate.abs() * 100.0;
    let direction = if relative.estimate < 0.0 { "less" } else { "more" };
    Some(format!(
        "{} sustains {} RPS within {slo}, ×{} of {base}'s {}: {change:.0} % {direction} throughput; {lost}.",
        arm.name,
        three_digits(capacity),
        spread(times(relative)),
        three_digits(baseline),
    ))
}

fn times(relative: Interval) -> Interval {
    relative.map(|change| 1.0 + change)
}

fn spread(interval: Interval) -> String {
    let [estimate, low, high] = [interval.estimate, interval.low, interval.high].map(three_digits);
    format!("{estimate} ({low} … {high})")
}

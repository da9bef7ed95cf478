//! The telemetry that was lost on the way: a cell, a clause and the warnings of an arm.

use super::cells::{count, missing};
use crate::experiment::units::grouped;
use crate::record::result::ArmSummary;

/// Loss, in percent of the spans, from which on the cost of an arm says little: what was lost was not paid for in full.
const LOSS_IS_THE_FINDING: f64 = 1.0;

/// The share of spans that did not arrive.
pub(super) fn lost_cell(arm: &ArmSummary) -> String {
    match arm.telemetry.spans {
        None => missing(),
        Some(spans) => match (spans.received, spans.lost()) {
            (None, _) => "unknown".into(),
            (Some(_), 0) => "0".into(),
            (Some(_), lost) => format!("{:.2} %", lost as f64 / spans.ended as f64 * 100.0),
        },
    }
}

/// How much of the telemetry was lost, and on which way.
pub(super) fn lost_clause(arm: &ArmSummary) -> String {
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

/// Losses and mistakes of the telemetry that a reader has to know of.
pub(super) fn warnings(arm: &ArmSummary) -> Vec<String> {
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
    warnings
        .extend(telemetry.doubts.iter().map(|what| format!("{}: the sink's counts are incomplete: {what}.", arm.name)));
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

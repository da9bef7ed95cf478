//! Where the spans of each arm went, where that is more than can be said in a word.

use super::cells::{Grid, Row, duration, megabytes, missing};
use crate::experiment::scenario::Role;
use crate::experiment::units::grouped;
use crate::record::result::{ArmSummary, Document};

const COLUMNS: [&str; 10] =
    ["spans", "ended", "received", "dropped", "failed", "left", "rejected", "right trees", "shutdown", "peak RSS"];

/// The ledger of spans; `None` where every span of every arm arrived in a tree as it should be, and nothing was to go wrong.
pub(super) fn ledger(document: &Document) -> Option<Grid> {
    let arms = || document.arms.iter().filter(|arm| arm.telemetry.spans.is_some());
    let faulty = document.header.scenario.arms.iter().any(|arm| !arm.faults.is_none());
    let lost = |arm: &ArmSummary| arm.telemetry.spans.is_some_and(|spans| spans.lost() > 0);
    let wrong = |arm: &ArmSummary| arm.telemetry.trees.as_ref().is_some_and(|trees| trees.wrong() > 0);
    let shown = faulty || arms().any(|arm| lost(arm) || wrong(arm));
    shown.then(|| Grid { columns: COLUMNS.map(str::to_owned).into(), rows: arms().filter_map(row).collect() })
}

fn row(arm: &ArmSummary) -> Option<Row> {
    let spans = arm.telemetry.spans?;
    let trees = arm.telemetry.trees.as_ref().filter(|trees| trees.traces > 0);
    Some(Row {
        is_treatment: arm.role == Role::Treatment,
        cells: vec![
            arm.name.clone(),
            grouped(spans.ended),
            spans.received.map_or_else(missing, grouped),
            grouped(spans.dropped),
            grouped(spans.failed),
            grouped(spans.abandoned),
            grouped(spans.rejected),
            trees.map_or_else(missing, |trees| format!("{:.1} %", trees.right as f64 / trees.traces as f64 * 100.0)),
            arm.telemetry.shutdown_ms.map_or_else(missing, |ms| duration(ms * 1e3)),
            arm.rss_peak_bytes.map_or_else(missing, |bytes| megabytes(bytes as f64)),
        ],
    })
}

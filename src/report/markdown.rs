//! The report on a page.

use std::fmt::Write;

use super::cells::Grid;
use super::view::View;

/// Lays the view out as Markdown.
pub fn markdown(view: &View) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: &str| {
        let _ = writeln!(out, "{text}");
    };
    line(&format!("### {}", view.title));
    line("");
    for setting in &view.setting {
        line(&format!("- {setting}"));
    }
    line("");
    for (table, aligned) in [(&view.checks, LEFT), (&view.repeats, RIGHT)] {
        for row in table.iter().flat_map(|table| grid(table, aligned).into_iter().chain([String::new()])) {
            line(&row);
        }
    }
    for row in grid(&view.costs, RIGHT) {
        line(&row);
    }
    if let Some(ledger) = &view.ledger {
        line("");
        for row in grid(ledger, RIGHT) {
            line(&row);
        }
    }
    for warning in &view.warnings {
        line("");
        line(&format!("> **Warning.** {warning}"));
    }
    if let Some(floor) = &view.noise_floor {
        line("");
        line(floor);
    }
    for sentence in &view.sentences {
        line("");
        line(&format!("**{sentence}**"));
    }
    for gate in &view.gates {
        line("");
        line(gate);
    }
    out
}

/// How the columns after the first are aligned: sentences, and numbers.
const LEFT: &str = " --- |";
pub(super) const RIGHT: &str = " ---: |";

/// The lines of a table.
pub(super) fn grid(grid: &Grid, aligned: &str) -> Vec<String> {
    let mut lines =
        vec![format!("| {} |", grid.columns.join(" | ")), format!("| --- |{}", aligned.repeat(grid.columns.len() - 1))];
    lines.extend(grid.rows.iter().map(|row| {
        let mut cells = row.cells.clone();
        if row.is_treatment
            && let Some(name) = cells.first_mut()
        {
            *name = format!("**{name}**");
        }
        format!("| {} |", cells.join(" | "))
    }));
    lines
}

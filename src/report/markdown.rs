//! The report on a page.

use std::fmt::Write;

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
    line(&format!("| {} |", view.columns.join(" | ")));
    line(&format!("| --- |{}", " ---: |".repeat(view.columns.len() - 1)));
    for row in &view.rows {
        let mut cells = row.cells.clone();
        if row.is_treatment
            && let Some(name) = cells.first_mut()
        {
            *name = format!("**{name}**");
        }
        line(&format!("| {} |", cells.join(" | ")));
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
    out
}

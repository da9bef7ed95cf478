//! The report in a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use console::{measure_text_width, style};

use super::cells::Grid;
use super::view::View;

/// Widest line of the report, in columns.
pub(super) const WIDTH: usize = 100;

/// Lays the view out for a terminal of 100 columns; `colour` adds weight and colour, and no meaning.
pub fn table(view: &View, colour: bool) -> String {
    let bold = |text: &str| if colour { style(text).bold().force_styling(true).to_string() } else { text.to_owned() };
    let dim = |text: &str| if colour { style(text).dim().force_styling(true).to_string() } else { text.to_owned() };
    let yellow =
        |text: &str| if colour { style(text).yellow().force_styling(true).to_string() } else { text.to_owned() };

    let mut out: Vec<String> = wrapped(&view.title, "  ").iter().map(|line| bold(line)).collect();
    out.extend(view.setting.iter().flat_map(|line| wrapped(line, "")).map(|line| dim(&line)));
    out.push(String::new());
    if let Some(checks) = &view.checks {
        out.extend(prose(checks, bold));
        out.push(String::new());
    }
    if let Some(repeats) = &view.repeats {
        out.extend(grid(repeats, bold));
        out.push(String::new());
    }
    out.extend(grid(&view.costs, bold));
    let resolved_note = view.costs.rows.iter().flat_map(|row| &row.cells).any(|cell| cell.ends_with("n.r."));
    if resolved_note {
        out.push(dim("n.r.: not resolved, the interval does not exclude zero"));
    }
    if let Some(ledger) = &view.ledger {
        out.push(String::new());
        out.extend(grid(ledger, bold));
    }
    out.push(String::new());
    for warning in &view.warnings {
        out.extend(
            wrapped(warning, "  ")
                .iter()
                .enumerate()
                .map(|(i, line)| yellow(&format!("{}{line}", if i == 0 { "! " } else { "" }))),
        );
    }
    if !view.warnings.is_empty() {
        out.push(String::new());
    }
    for line in view.noise_floor.iter().flat_map(|floor| wrapped(floor, "")) {
        out.push(dim(&line));
    }
    for sentence in &view.sentences {
        out.extend(wrapped(sentence, "  ").iter().map(|line| bold(line)));
    }
    out.extend(view.gates.iter().flat_map(|gate| wrapped(gate, "  ")));
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out.join("\n") + "\n"
}

/// The lines of a table: a head, a rule, and the rows, of which `bold` makes those that a reader looks for stand out.
pub(super) fn grid(grid: &Grid, bold: impl Fn(&str) -> String) -> Vec<String> {
    let width = |lines: &[String]| lines.iter().map(|line| measure_text_width(line)).max().unwrap_or(0);
    let mut lines = laid_out(grid, 2);
    if width(&lines) > WIDTH {
        lines = laid_out(grid, 1);
    }
    let rule = "─".repeat(width(&lines));
    let stand_out = [true].into_iter().chain(grid.rows.iter().map(|row| row.is_treatment));
    for (line, _) in lines.iter_mut().zip(stand_out).filter(|(_, stands_out)| *stands_out) {
        *line = bold(line);
    }
    lines.insert(1, rule);
    lines
}

/// The lines of a table whose cells are sentences, broken within their columns.
fn prose(grid: &Grid, bold: impl Fn(&str) -> String) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH as u16);
    table.set_header(grid.columns.clone());
    for row in &grid.rows {
        table.add_row(row.cells.clone());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines[0] = bold(&lines[0]);
    lines.insert(1, "─".repeat(WIDTH));
    lines
}

/// The head and the rows, with so many blanks between columns.
fn laid_out(grid: &Grid, blanks: u16) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(grid.columns.clone());
    for row in &grid.rows {
        table.add_row(row.cells.clone());
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 == grid.columns.len() { 0 } else { blanks }));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Breaks a text into lines of at most [`WIDTH`] columns; all but the first begin with `indent`.
pub(super) fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let options = textwrap::Options::new(WIDTH - 2).subsequent_indent(indent);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

//! The report in a terminal.

use comfy_table::{CellAlignment, Table, presets};
use console::{measure_text_width, style};

use super::view::View;

/// Widest line of the report, in columns.
const WIDTH: usize = 100;

/// Lays the view out for a terminal of 100 columns; `colour` adds weight and colour, and no meaning.
pub fn table(view: &View, colour: bool) -> String {
    let bold = |text: &str| if colour { style(text).bold().force_styling(true).to_string() } else { text.to_owned() };
    let dim = |text: &str| if colour { style(text).dim().force_styling(true).to_string() } else { text.to_owned() };
    let yellow =
        |text: &str| if colour { style(text).yellow().force_styling(true).to_string() } else { text.to_owned() };

    let mut out = vec![bold(&view.title)];
    out.extend(view.setting.iter().flat_map(|line| wrapped(line, "")).map(|line| dim(&line)));
    out.push(String::new());
    for (index, line) in grid(view).lines().enumerate() {
        // The grid is a head, a rule, and then the rows.
        let treatment = index.checked_sub(2).and_then(|row| view.rows.get(row)).is_some_and(|row| row.is_treatment);
        out.push(if treatment || index == 0 { bold(line.trim_end()) } else { line.trim_end().to_owned() });
    }
    let resolved_note = view.rows.iter().flat_map(|row| &row.cells).any(|cell| cell.ends_with("n.r."));
    if resolved_note {
        out.push(dim("n.r.: not resolved, the interval does not exclude zero"));
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
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out.join("\n") + "\n"
}

fn grid(view: &View) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(view.columns.clone());
    for row in &view.rows {
        table.add_row(row.cells.clone());
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 == view.columns.len() { 0 } else { 2 }));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let drawn = table.to_string();
    let width = drawn.lines().map(measure_text_width).max().unwrap_or(0);
    match drawn.split_once('\n') {
        Some((head, rows)) => format!("{head}\n{}\n{rows}", "─".repeat(width)),
        None => drawn,
    }
}

/// Breaks a text into lines of at most [`WIDTH`] columns; all but the first begin with `indent`.
fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let options = textwrap::Options::new(WIDTH - 2).subsequent_indent(indent);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

//! `otelbench modes`.

use comfy_table::{Table, presets};

use super::{Failure, put, put_json};
use crate::experiment::mode::{self, Mode};
use crate::experiment::scenario::Format;

/// Lists the modes, or shows the parts of one as a scenario would write them.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(mode: Option<&Mode>, format: Format) -> Result<(), Failure> {
    match (mode, format) {
        (None, Format::Json) => put_json(&mode::all()),
        (Some(mode), Format::Json) => put_json(mode),
        (None, _) => list(),
        (Some(mode), _) => put(&parts(mode)),
    }
}

fn list() -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for mode in mode::all() {
        table.add_row([mode.name, mode.summary]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    put(&format!("{}\n", lines.join("\n")))
}

/// The parts of a mode, under the names that `[modes.…]` takes.
fn parts(mode: &Mode) -> String {
    let Mode { name, summary, .. } = mode;
    let mut parts = toml::Table::try_from(mode).expect("a mode is made of what TOML knows");
    parts.retain(|key, _| key != "name" && key != "summary");
    let parts = toml::to_string(&parts).expect("a table can be written");
    format!(
        "# {name}: {summary}\n# A mode of your own: [modes.mine] with like = \"{name}\", and what is different.\n{parts}"
    )
}

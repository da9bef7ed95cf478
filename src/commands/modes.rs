//! `otelbench modes`.

use comfy_table::{Table, presets};

use super::{Failure, put, put_json};
use crate::mode;
use crate::scenario::Format;

/// Lists the modes.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(format: Format) -> Result<(), Failure> {
    let modes = mode::all();
    if format == Format::Json {
        return put_json(&modes);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for mode in modes {
        table.add_row([mode.name, mode.summary]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    put(&format!("{}\n", lines.join("\n")))
}

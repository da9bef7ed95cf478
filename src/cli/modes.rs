//! Options of `modes`.

use clap::Args;

use super::named;
use crate::experiment::mode::{self, Mode};
use crate::experiment::scenario::Format;

/// `otelbench modes`.
#[derive(Debug, Args)]
pub struct ModesOptions {
    /// Mode whose parts to show
    #[arg(value_parser = mode::named)]
    pub mode: Option<Mode>,
    /// Format of the list
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    pub format: Format,
}

//! Options of `modes`.

use clap::Args;

use super::named;
use crate::experiment::mode::{self, Mode};
use crate::experiment::scenario::Format;

/// `otelbench modes`.
#[derive(Debug, Args)]
pub struct ModesArgs {
    /// Show the parts of this one
    #[arg(value_parser = mode::named)]
    pub mode: Option<Mode>,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    pub format: Format,
}

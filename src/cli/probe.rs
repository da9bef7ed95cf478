//! Options of `probe`.

use clap::Args;

use super::formats;
use crate::experiment::scenario::Format;
use crate::studies::probe::{self, Probe};

/// `otelbench probe`.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub struct ProbeOptions {
    /// Probes to run [default: all]
    #[arg(value_name = "NAME", value_parser = probe::named)]
    names: Vec<Probe>,
    /// Format of the report on stdout
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub format: Format,
    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,
}

impl ProbeOptions {
    /// The probes that are asked for, each once, in the order of the list.
    pub fn probes(&self) -> Vec<Probe> {
        let asked = |probe: &Probe| self.names.is_empty() || self.names.iter().any(|named| named.name == probe.name);
        probe::all().into_iter().filter(asked).collect()
    }
}

fn help() -> String {
    let probes = probe::all();
    let width = probes.iter().map(|probe| probe.name.len()).max().unwrap_or(0);
    let lines: Vec<String> = probes.iter().map(|probe| format!("  {:width$}  {}", probe.name, probe.title)).collect();
    format!(
        "Probes:\n{}\n\nExamples:\n  otelbench probe\n  otelbench probe gauge-increment telemetry-loop --format json",
        lines.join("\n")
    )
}

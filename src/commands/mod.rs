//! The subcommands, one file each.

pub mod capacity;
pub mod claims;
pub mod compare;
pub mod emit;
pub mod isolated;
pub mod lane;
pub mod load;
pub mod modes;
pub mod pipeline;
pub mod probe;
pub mod report;
pub mod run;
pub mod selftest;
pub mod serve;
pub mod sink;
pub mod trend;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::experiment::scenario::Format;
use crate::record::result::{Document, ResultError};
use crate::report::{View, markdown, table};
use crate::verdict::gate::{self, Conclusion, Judged};

/// Descriptors that a process needs beside its connections: pipes, timers, runtimes, exporters.
const OWN_DESCRIPTORS: u64 = 64;

/// Where the kernel says which local ports it gives to connections.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The widest range: all but those that need privileges.
const MOST_PORTS: usize = 65_535 - 1_024 + 1;

/// Why a command did not end well; each way has its exit code.
#[derive(Debug, Error)]
pub enum Failure {
    /// Usage or input: the message says what would be right.
    #[error("{0}")]
    Usage(String),
    /// A gate that was asked for does not hold, or a claim is refuted.
    #[error("{0}")]
    Gate(String),
    /// The data cannot decide a gate: the message says how many rounds would.
    #[error("{0}")]
    Inconclusive(String),
    /// The measurement is invalid.
    #[error("{0}")]
    Invalid(String),
    /// A signal ended it.
    #[error("interrupted by {}", .0.name())]
    Interrupted(Signal),
}

impl Failure {
    /// The exit code that the contract gives this failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Gate(_) => 1,
            Self::Usage(_) => 2,
            Self::Inconclusive(_) => 3,
            Self::Invalid(_) => 4,
            Self::Interrupted(signal) => signal.exit_code(),
        }
    }
}

/// A signal that asks the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Tells of the first SIGINT or SIGTERM; a second one ends the process at once. Call it on a runtime with a worker
/// thread, or a second signal waits for whatever blocks.
fn signals() -> io::Result<watch::Receiver<Option<Signal>>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (tell, told) = watch::channel(None);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
            }
        };
        tell.send_replace(Some(next().await));
        std::process::exit(next().await.exit_code().into());
    });
    Ok(told)
}

/// Waits for the first signal.
async fn signalled(told: &mut watch::Receiver<Option<Signal>>) -> Signal {
    match told.wait_for(Option::is_some).await.map(|signal| *signal) {
        Ok(Some(signal)) => signal,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Refuses what the open-file limit cannot carry, before anything is opened: `connections` on the command line need this
/// many descriptors in one process.
fn enough_descriptors(connections: usize, descriptors: usize) -> Result<(), Failure> {
    // Where the limit cannot be read, opening the connections will tell.
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let needed = descriptors as u64 + OWN_DESCRIPTORS;
    if needed <= limit {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--connections {connections}: this needs {needed} open files and the limit is {limit}; raise it with `ulimit -n {needed}`"
    )))
}

/// Refuses more connections to one address than this machine has local ports for, before anything is opened.
fn enough_ports(connections: usize) -> Result<(), Failure> {
    // Where the range cannot be read, opening the connections will tell.
    let Ok(range) = fs::read_to_string(PORT_RANGE) else { return Ok(()) };
    ports_within(&range, connections)
}

fn ports_within(range: &str, connections: usize) -> Result<(), Failure> {
    let bounds: Vec<usize> = range.split_whitespace().filter_map(|bound| bound.parse().ok()).collect();
    let [first, last] = bounds[..] else { return Ok(()) };
    let ports = (last + 1).saturating_sub(first);
    if connections <= ports {
        return Ok(());
    }
    let advice = if connections <= MOST_PORTS {
        "widen it with `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`".to_owned()
    } else {
        format!("it can be widened to {MOST_PORTS} ports, and no further")
    };
    Err(Failure::Usage(format!(
        "--connections {connections}: this machine has {ports} local ports for one address ({first} to {last}); {advice}"
    )))
}

/// Reads a stored result.
fn read(path: &Path) -> Result<Document, Failure> {
    Document::read(path).map_err(|error| Failure::Usage(error.to_string()))
}

/// Reads those of the files that are results, each with its path; a folder of results may hold other documents too.
fn stored(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Document)>, Failure> {
    let mut documents = Vec::new();
    for path in paths {
        match Document::read(path) {
            Ok(document) => documents.push((path.clone(), document)),
            Err(error @ (ResultError::Foreign { .. } | ResultError::NoSchema { .. })) => {
                eprintln!("warning: left out: {error}");
            }
            Err(error) => return Err(Failure::Usage(error.to_string())),
        }
    }
    Ok(documents)
}

/// Turns the judgement of gates into an exit code.
fn gated(judged: &[Judged]) -> Result<(), Failure> {
    match gate::conclude(judged) {
        Conclusion::Holds => Ok(()),
        Conclusion::Fails(message) => Err(Failure::Gate(message)),
        Conclusion::Undecided(message) => Err(Failure::Inconclusive(message)),
        Conclusion::Absent(message) => Err(Failure::Invalid(message)),
    }
}

/// Prints a document on stdout.
fn print(document: &Document, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Json => document.to_json(),
        Format::Table => table(&View::of(document), colour()),
        Format::Markdown => markdown(&View::of(document)),
    };
    put(&text)
}

/// Writes to stdout. A reader that has seen enough, such as `head`, is no error.
fn put(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Usage(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a value to stdout as JSON, one key per line.
fn put_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|error| Failure::Usage(error.to_string()))?;
    put(&format!("{json}\n"))
}

/// Whether stdout takes colour: a terminal, and <https://no-color.org> not set.
fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_than_local_ports_are_refused_with_what_to_do_about_it() {
        let refused = |range, connections| ports_within(range, connections).unwrap_err().to_string();
        assert!(ports_within("32768\t60999\n", 28_232).is_ok());
        let message = refused("32768\t60999\n", 28_233);
        assert!(message.contains("--connections 28233") && message.contains("28232 local ports"), "{message}");
        assert!(message.contains("sysctl -w net.ipv4.ip_local_port_range='1024 65535'"), "{message}");
        assert!(refused("1024 65535", 64_513).contains("no further"));
        // A file of another form is no reason to refuse anything.
        assert!(ports_within("", 100_000).is_ok());
    }
}

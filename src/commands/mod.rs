//! The subcommands, one file each.

pub mod lane;
pub mod load;
pub mod modes;
pub mod report;
pub mod run;
pub mod serve;
pub mod sink;

use std::io::{self, IsTerminal, Write};

use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::report::{View, markdown, table};
use crate::result::Document;
use crate::scenario::Format;

/// Descriptors that a process needs beside its connections: pipes, timers, runtimes, exporters.
const OWN_DESCRIPTORS: u64 = 64;

/// Why a command did not end well; each way has its exit code.
#[derive(Debug, Error)]
pub enum Failure {
    /// Usage or input: the message says what would be right.
    #[error("{0}")]
    Usage(String),
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
            Self::Usage(_) => 2,
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

//! This program once more, in a process of its own, for what installs things or may hang.
//!
//! Recorders and subscribers are installed once per process. So whoever tries them launches the program with a hidden
//! subcommand, reads its answer from stdout, and kills it when its time is over.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;

/// Longest such a process may take. Generous: on a machine so busy that one takes longer, nothing can be measured.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked whether it has ended.
const GLANCE: Duration = Duration::from_millis(5);

/// Why a process of its own has no answer.
#[derive(Debug, Error)]
pub(crate) enum Apart {
    #[error("cannot launch {0}: {1}")]
    Launch(String, io::Error),
    #[error("it did not end within {} s", .0.as_secs())]
    Hung(Duration),
    #[error("it ended with {0}: {1}")]
    Failed(ExitStatus, String),
    #[error("what it said is no answer: {0}")]
    Garbled(#[from] serde_json::Error),
}

/// This program in an environment without telemetry settings: what is looked at is what the crates do by themselves.
pub(crate) fn unconfigured(executable: &Path) -> Command {
    let mut command = Command::new(executable);
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(variable);
    }
    command
}

/// Runs `command` to its end and returns what it wrote to stdout; kills it when its time is over.
pub(crate) fn said(command: &mut Command, patience: Duration) -> Result<String, Apart> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        // It is held open for as long as this process lives, and says to the other that it does.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C goes to the whole group of the terminal: this process is who ends the other.
        .process_group(0)
        .spawn()
        .map_err(|error| Apart::Launch(program, error))?;
    let (stdout, stderr) = (gathered(child.stdout.take()), gathered(child.stderr.take()));
    let Some(status) = ended_within(&mut child, patience) else {
        // It may have ended in this moment; a process that is gone need not be killed.
        drop(child.kill());
        drop(child.wait());
        return Err(Apart::Hung(patience));
    };
    if status.success() {
        return Ok(text(stdout));
    }
    let why = text(stderr);
    let why = why.trim();
    Err(Apart::Failed(status, why.strip_prefix("error: ").unwrap_or(why).to_owned()))
}

/// Reads a pipe on a thread, so that a full pipe stops nobody.
fn gathered(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<String>> {
    pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // What was read until an error is what there is.
            drop(pipe.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    })
}

fn text(gathered: Option<JoinHandle<String>>) -> String {
    gathered.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            _ if started.elapsed() >= patience => return None,
            _ => thread::sleep(GLANCE),
        }
    }
}

/// Ends this process when its stdin does, which is when the parent is gone: one that hangs must not outlive who would
/// have killed it.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        // An error is an end as well.
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        // Nobody is left to report to.
        process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_killed_and_what_fails_is_quoted() {
        let shell = |script: &str, patience| said(Command::new("sh").args(["-c", script]), patience);
        let brief = Duration::from_millis(200);
        assert!(matches!(shell("sleep 100", brief), Err(Apart::Hung(after)) if after == brief));
        let failed = shell("echo no such thing >&2; exit 3", PATIENCE).unwrap_err().to_string();
        assert!(failed.contains("exit status: 3") && failed.ends_with("no such thing"), "{failed}");
        assert_eq!(shell("head -c 300000 /dev/zero | tr '\\0' x", PATIENCE).unwrap().len(), 300_000);
    }
}

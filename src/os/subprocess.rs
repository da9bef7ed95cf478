//! Runs this program once more, in a process of its own, for code that installs things or may hang.
//!
//! Recorders and subscribers are installed once per process. Code that tries them out launches the program with a hidden
//! subcommand, reads its answer from stdout, and kills it when its time is over.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;

/// Longest that such a process may take. Generous: on a machine so busy that one takes longer, nothing can be measured.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);
/// Time between two checks whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why a subprocess gave no answer.
#[derive(Debug, Error)]
pub(crate) enum SubprocessError {
    #[error("cannot launch {0}: {1}")]
    Launch(String, io::Error),
    #[error("it did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("it ended with {0}: {1}")]
    Failed(ExitStatus, String),
    #[error("cannot read its answer: {0}")]
    Answer(#[from] serde_json::Error),
}

/// A command for this program without the `OTEL_*` variables of the user, so that it shows what the crates do by themselves.
pub(crate) fn without_otel_environment(executable: &Path) -> Command {
    let mut command = Command::new(executable);
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(variable);
    }
    command
}

/// Runs `command` to its end and returns its stdout; kills it after `timeout`.
pub(crate) fn capture_stdout(command: &mut Command, timeout: Duration) -> Result<String, SubprocessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        // Held open for as long as this process lives: see `end_with_parent`.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C goes to the whole group of the terminal; this process decides when the child ends.
        .process_group(0)
        .spawn()
        .map_err(|error| SubprocessError::Launch(program, error))?;
    let (stdout, stderr) = (read_in_background(child.stdout.take()), read_in_background(child.stderr.take()));
    let Some(status) = wait(&mut child, timeout) else {
        // It may have ended in this moment; a process that is gone need not be killed.
        drop(child.kill());
        drop(child.wait());
        return Err(SubprocessError::TimedOut(timeout));
    };
    if status.success() {
        return Ok(text(stdout));
    }
    let why = text(stderr);
    let why = why.trim();
    Err(SubprocessError::Failed(status, why.strip_prefix("error: ").unwrap_or(why).to_owned()))
}

/// Reads a pipe on a thread of its own, so that the child never waits for a full pipe.
fn read_in_background(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<String>> {
    pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // On an error, keep what was read before it.
            drop(pipe.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    })
}

fn text(reader: Option<JoinHandle<String>>) -> String {
    reader.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            _ if started.elapsed() >= timeout => return None,
            _ => thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Ends this process when its stdin closes, which happens when the parent is gone: a process that hangs must not outlive the
/// parent that would have killed it.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        // An error means that stdin is closed, too.
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        // Nobody is left to report to.
        process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_process_is_killed_and_the_stderr_of_a_failing_one_is_quoted() {
        let shell = |script: &str, timeout| capture_stdout(Command::new("sh").args(["-c", script]), timeout);
        let brief = Duration::from_millis(200);
        assert!(matches!(shell("sleep 100", brief), Err(SubprocessError::TimedOut(after)) if after == brief));
        let failed = shell("echo no such thing >&2; exit 3", TIMEOUT).unwrap_err().to_string();
        assert!(failed.contains("exit status: 3") && failed.ends_with("no such thing"), "{failed}");
        assert_eq!(shell("head -c 300000 /dev/zero | tr '\\0' x", TIMEOUT).unwrap().len(), 300_000);
    }
}

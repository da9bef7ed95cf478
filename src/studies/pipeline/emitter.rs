//! The process that makes spans: the parent's side and its own.
//!
//! The program launches itself with a hidden subcommand and writes it one [`EmitRequest`] as a line of JSON; the answer is one
//! [`EmitReply`]. The process ends when its standard input does, so none outlives a parent that was killed.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::info_span;

use crate::experiment::mode::Mode;
use crate::experiment::units::{REQUEST, Rate};
use crate::os::subprocess;
use crate::record::pipeline::{Batching, Emitted};
use crate::sut::telemetry::{Destination, Telemetry, TelemetryError};

/// The hidden subcommand that makes a process an emitter.
pub const SUBCOMMAND: &str = "emit";
/// The name of the spans.
pub const SPAN: &str = "emitted";

/// Spans before the step, so that the connection is there.
const WARM_UP: u32 = 16;
/// Longest time that due spans are gathered.
const BURST: Duration = Duration::from_micros(500);
/// Longest wait for the queue to drain at the end of a step.
const DRAIN: Duration = Duration::from_mins(2);
/// Longest wait for an emitter, beyond the length of its step.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);
/// Variables whose values are in the request, so that they must not come from the environment.
const SET_BY_REQUEST: [&str; 3] =
    ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"];

/// One step, as the emitter is asked to play it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmitRequest {
    /// The telemetry to install.
    pub mode: Mode,
    /// Where telemetry goes.
    pub destination: Destination,
    /// Spans a second.
    pub rate: Rate,
    /// Length of the step.
    #[serde(with = "humantime_serde")]
    pub step: Duration,
}

impl EmitRequest {
    /// A request for spans through `mode`, which makes spans, with these batch settings.
    pub fn new(mut mode: Mode, batching: Batching, destination: Destination, rate: Rate, step: Duration) -> Self {
        if let Some(traces) = &mut mode.traces {
            (traces.queue, traces.batch, traces.delay) = (batching.queue, batching.batch, batching.delay);
        }
        Self { mode, destination, rate, step }
    }
}

/// The answer of the emitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmitReply {
    /// The step is over.
    Emitted(Box<Emitted>),
    /// It could not be played, for this reason.
    Failed(String),
}

/// Why an emitter did not play its step.
#[derive(Debug, Error)]
#[error("the emitter of spans {what}{}", quoted(.stderr))]
pub struct EmitterError {
    what: String,
    stderr: String,
}

impl EmitterError {
    /// The sink could not be started.
    pub fn no_sink(error: &io::Error) -> Self {
        Self { what: format!("has no sink to send to: {error}"), stderr: String::new() }
    }
}

fn quoted(stderr: &str) -> String {
    let lines: Vec<String> = stderr.lines().map(|line| format!("\n  | {line}")).collect();
    lines.concat()
}

/// Plays the one request on stdin.
///
/// # Errors
/// When the request cannot be read, or the answer cannot be written.
pub fn run(output: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let request = serde_json::from_str(&line).map_err(io::Error::other)?;
    subprocess::end_with_parent();
    let reply = match emit(&request) {
        Ok(emitted) => EmitReply::Emitted(Box::new(emitted)),
        Err(error) => EmitReply::Failed(error.to_string()),
    };
    writeln!(output, "{}", serde_json::to_string(&reply).map_err(io::Error::other)?)?;
    output.flush()
}

fn emit(request: &EmitRequest) -> Result<Emitted, TelemetryError> {
    let telemetry = Telemetry::install(&request.mode, &request.destination)?;
    (0..WARM_UP).for_each(|_| span());
    telemetry.flush_spans();
    let paced = paced(request.rate, request.step, span);
    let account = telemetry.shutdown(DRAIN);
    Ok(Emitted {
        spans: u64::from(WARM_UP) + paced.spans,
        took_ms: paced.took.as_secs_f64() * 1e3,
        latest_ms: paced.latest.as_secs_f64() * 1e3,
        account,
    })
}

/// A span as a service makes it, with an attribute beside those that its mode adds.
fn span() {
    info_span!("emitted", user_id = "user-1").in_scope(|| ());
}

/// The pacing of a step.
struct Paced {
    spans: u64,
    took: Duration,
    latest: Duration,
}

/// Calls `span` at a constant rate for `step`: all that are due, then a sleep of up to [`BURST`].
fn paced(rate: Rate, step: Duration, mut span: impl FnMut()) -> Paced {
    // A step is shorter than five centuries, and the spans of one fewer than can be counted.
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    let due_by = |ns: u64| (rate.over(ns) / REQUEST) as u64;
    let total = due_by(nanos(step)).max(1);
    let started = Instant::now();
    let (mut made, mut latest) = (0, Duration::ZERO);
    while made < total {
        let now = started.elapsed();
        let due = total.min(due_by(nanos(now)) + 1);
        if made < due {
            latest = latest.max(now.saturating_sub(Duration::from_nanos(rate.arrival_ns(made))));
            (made..due).for_each(|_| span());
            made = due;
        }
        if made < total {
            thread::sleep((now + BURST).saturating_sub(started.elapsed()));
        }
    }
    Paced { spans: total, took: started.elapsed(), latest }
}

/// Launches `executable` as an emitter for `request`. Dropping the future kills it.
///
/// # Errors
/// When it does not start, dies, or cannot install the mode.
pub async fn launched(executable: &Path, request: &EmitRequest) -> Result<Emitted, EmitterError> {
    let failed = |what: String| EmitterError { what, stderr: String::new() };
    let mut command = tokio::process::Command::new(executable);
    for name in SET_BY_REQUEST {
        command.env_remove(name);
    }
    let mut child = command
        .arg(SUBCOMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C goes to the whole group of the terminal: the parent decides when this ends.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be launched from {}: {error}", executable.display())))?;
    // It stays open until the answer is here, because its end would end the emitter.
    let mut stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let exchange = async {
        let line = serde_json::to_string(request).map_err(io::Error::other)?;
        if let Some(stdin) = &mut stdin {
            // An emitter that died before it read has said why on stderr.
            drop(stdin.write_all(format!("{line}\n").as_bytes()).await);
        }
        let (mut answer, mut words) = (String::new(), String::new());
        let answering = async {
            match stdout {
                Some(mut stdout) => stdout.read_to_string(&mut answer).await,
                None => Ok(0),
            }
        };
        let speaking = async {
            match stderr {
                Some(mut stderr) => stderr.read_to_string(&mut words).await,
                None => Ok(0),
            }
        };
        tokio::try_join!(answering, speaking)?;
        Ok::<_, io::Error>((answer, words))
    };
    let (answer, stderr) = match tokio::time::timeout(request.step + ANSWER_TIMEOUT, exchange).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => return Err(failed(format!("does not answer: {error}"))),
        Err(_) => return Err(failed(format!("did not end within {} s", (request.step + ANSWER_TIMEOUT).as_secs()))),
    };
    match serde_json::from_str(&answer) {
        Ok(EmitReply::Emitted(emitted)) => Ok(*emitted),
        Ok(EmitReply::Failed(why)) => Err(failed(format!("failed: {why}"))),
        Err(_) => Err(EmitterError { what: "died before it had an answer".into(), stderr }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_makes_exactly_the_spans_of_its_rate() {
        for (rate, ms, spans) in [(1_000.0, 20, 20), (100_000.0, 10, 1_000), (0.5, 1, 1)] {
            let (rate, step) = (Rate::per_second(rate).unwrap(), Duration::from_millis(ms));
            let mut made = 0;
            let paced = paced(rate, step, || made += 1);
            assert_eq!((paced.spans, made), (spans, spans), "{rate}");
            // No span before its time.
            assert!(paced.took >= Duration::from_nanos(rate.arrival_ns(spans - 1)), "{:?}", paced.took);
        }
    }
}

//! `otelbench pipeline`: finds the highest rate of spans that batch settings take without loss, and settings for a rate.

use std::env;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::run::{cannot, clock_seed, default_out, make_way, processes};
use super::{Failure, Signal, colour, put, signalled, signals};
use crate::cli::PipelineOptions;
use crate::experiment::mode::{Layer, Mode, Sampler, SpanExporter, Traces};
use crate::experiment::scenario::{Format, environment_names_a_collector};
use crate::experiment::units::Rate;
use crate::lab::lane::LOOPBACK;
use crate::lab::progress;
use crate::record::machine::{Machine, Tool};
use crate::record::pipeline::{
    Batching, Emitted, PipelineDocument, PipelineFindings, PipelineSetup, PipelineStep, SCHEMA,
};
use crate::record::result::{layout, write_whole};
use crate::report::pipeline;
use crate::sink::{Receiver, ReceiverConfig, Sink, TreeShape};
use crate::studies::pipeline::emitter::{self, EmitRequest, EmitterError};
use crate::studies::pipeline::{Emitter, StudyError, conduct, findings};
use crate::sut::telemetry::Destination;

/// Why the study stopped before its end.
enum StudyCut {
    Failed(StudyError),
    Signalled(Signal),
}

/// Plays the study, and stores and prints its result.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(options: PipelineOptions) -> Result<(), Failure> {
    let traces = sending(&options.mode)?;
    let batching = batching(&options, traces)?;
    let slim = traces.layer == Layer::Slim;
    let started = SystemTime::now();
    let out = options.out.clone().unwrap_or_else(|| default_out("pipeline", started));
    make_way(&out)?;
    let setup = PipelineSetup {
        mode: options.mode.name.clone(),
        batching,
        step: options.step,
        rounds: options.rounds.get(),
        target: options.spans_per_second,
        stall: options.stall,
        seed: options.seed.unwrap_or_else(|| clock_seed(started)),
    };
    let (format, quiet) = (options.format, options.quiet);

    let mut steps = Vec::new();
    let cut = measure(&setup, options, &mut steps)?;

    let document = PipelineDocument {
        schema: SCHEMA,
        tool: Tool::this(),
        machine: Machine::this(),
        started_at: humantime::format_rfc3339_seconds(started).to_string(),
        partial: cut.is_some(),
        findings: findings(&setup, &steps),
        setup,
        steps,
    };
    let json = layout::to_string(&document).map_err(|error| Failure::Usage(error.to_string()))?;
    write_whole(&out, &json)
        .map_err(|e| Failure::Invalid(format!("cannot write the result to {}: {e}", out.display())))?;
    match format {
        Format::Json => put(&json)?,
        Format::Table => put(&pipeline::table(&document.setup, &document.findings, slim, colour()))?,
        Format::Markdown => put(&pipeline::markdown(&document.setup, &document.findings, slim))?,
    }
    if !quiet {
        eprintln!("result: {}", out.display());
    }
    match cut {
        Some(StudyCut::Signalled(signal)) => Err(Failure::Interrupted(signal)),
        Some(StudyCut::Failed(error)) => Err(Failure::Invalid(error.to_string())),
        None => match document.findings.capacity {
            Some(_) => Ok(()),
            None => Err(Failure::Invalid(format!("no search found a capacity: {}", reasons(&document.findings)))),
        },
    }
}

fn reasons(findings: &PipelineFindings) -> String {
    let mut reasons: Vec<&str> = findings.rounds.iter().filter_map(|round| round.reason.as_deref()).collect();
    reasons.dedup();
    reasons.join("; ")
}

/// The trace settings of `mode`, which must send every span.
fn sending(mode: &Mode) -> Result<&Traces, Failure> {
    let refused = |why: &str| Failure::Usage(format!("--mode {}: {why}, such as full or tuned", mode.name));
    let traces = mode.traces.as_ref().ok_or_else(|| refused("it makes no spans; choose one that sends every span"))?;
    if traces.exporter == SpanExporter::Null {
        return Err(refused("its exporter drops every span; choose one that sends them"));
    }
    if traces.sampler != Sampler::Default {
        return Err(refused("its sampler keeps spans from the pipeline; choose one that sends every span"));
    }
    Ok(traces)
}

/// The settings to study: from the options, the `OTEL_BSP_*` variables, or the mode, in this order.
fn batching(options: &PipelineOptions, traces: &Traces) -> Result<Batching, Failure> {
    // As the SDK reads them: it ignores a value that is no number.
    let number = |name: &str| env::var(name).ok()?.parse::<usize>().ok().filter(|number| *number > 0);
    let delay = number("OTEL_BSP_SCHEDULE_DELAY").map(|ms| Duration::from_millis(ms as u64));
    let batching = Batching {
        queue: options
            .queue
            .map(NonZeroUsize::get)
            .or_else(|| number("OTEL_BSP_MAX_QUEUE_SIZE"))
            .unwrap_or(traces.queue),
        batch: options
            .batch
            .map(NonZeroUsize::get)
            .or_else(|| number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"))
            .unwrap_or(traces.batch),
        delay: options.delay.or(delay).unwrap_or(traces.delay),
    };
    if batching.batch > batching.queue {
        return Err(Failure::Usage(format!(
            "--batch {}: a queue of {} never holds so many; raise --queue or lower --batch",
            batching.batch, batching.queue
        )));
    }
    Ok(batching)
}

/// Plays the study, until it is done, fails, or a signal ends it.
fn measure(
    setup: &PipelineSetup,
    options: PipelineOptions,
    steps: &mut Vec<PipelineStep>,
) -> Result<Option<StudyCut>, Failure> {
    let (executable, runtime) = processes()?;
    let collector = match options.endpoint {
        Some(url) => SpanTarget::Elsewhere(Some(url.as_str().to_owned())),
        None if environment_names_a_collector() => SpanTarget::Elsewhere(None),
        None => SpanTarget::Embedded(Sink::start().map_err(|e| cannot("start the sink", &e))?),
    };
    let mut emitters = Emitters { executable, mode: options.mode, step: options.step, collector, quiet: options.quiet };
    runtime.block_on(async {
        let mut told = signals().map_err(|e| cannot("listen for signals", &e))?;
        tokio::select! {
            conducted = conduct(setup, &mut emitters, steps) => Ok(conducted.err().map(StudyCut::Failed)),
            // Dropping the study kills the emitter under way; a step is not worth waiting for.
            signal = signalled(&mut told) => Ok(Some(StudyCut::Signalled(signal))),
        }
    })
}

/// The destination of spans.
enum SpanTarget {
    Embedded(Sink),
    /// At this URL, or, without one, where the `OTEL_*` variables point.
    Elsewhere(Option<String>),
}

/// Real emitters, each a process of its own.
struct Emitters {
    executable: PathBuf,
    mode: Mode,
    step: Duration,
    collector: SpanTarget,
    quiet: bool,
}

impl Emitter for Emitters {
    async fn emit(&mut self, batching: Batching, rate: Rate) -> Result<(Emitted, Option<u64>), EmitterError> {
        let receiver = match &self.collector {
            SpanTarget::Embedded(sink) => Some(
                sink.listen(ReceiverConfig::at(LOOPBACK, TreeShape::new(&[(emitter::SPAN, None)], None)))
                    .map_err(|e| EmitterError::no_sink(&e))?,
            ),
            SpanTarget::Elsewhere(_) => None,
        };
        let endpoint = match (&self.collector, &receiver) {
            (SpanTarget::Elsewhere(url), _) => url.clone(),
            (_, receiver) => receiver.as_ref().map(Receiver::endpoint),
        };
        let destination = Destination { endpoint, tls: None };
        let request = EmitRequest::new(self.mode.clone(), batching, destination, rate, self.step);
        let playing = emitter::launched(&self.executable, &request);
        let emitted = if self.quiet {
            playing.await?
        } else {
            tokio::select! {
                emitted = playing => emitted?,
                never = progress::pass(format!("{rate} spans/s, batches of {}", batching.batch), self.step) => match never {},
            }
        };
        // The emitter has the answer to its last export, so the sink has every span it will get.
        Ok((emitted, receiver.map(|receiver| receiver.received().spans)))
    }
}

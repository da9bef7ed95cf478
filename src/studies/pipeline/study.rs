//! Decides which steps are played. An [`Emitter`] makes the spans of a step: real processes in the command, simulated ones in
//! tests. [`super::findings()`] follow from the steps alone.

use std::time::Duration;

use thiserror::Error;

use super::emitter::EmitterError;
use super::findings::findings;
use crate::experiment::units::Rate;
use crate::record::pipeline::{Batching, Emitted, PipelineSetup, PipelineStep, Recommendation, StepPurpose};
use crate::record::step::StepOutcome;
use crate::verdict::capacity::{self, Next, RESOLUTION, Search, Undecided};

/// Most tries of a verification whose emitter was starved.
const VERIFICATIONS: usize = 3;
/// Ratio of the two batch sizes whose export times show what a span adds.
const LARGER: usize = 4;

/// The step, of a length, and whether the pipeline took every span.
pub fn step(
    (purpose, rate, batching): (StepPurpose, Rate, Batching),
    length: Duration,
    emitted: Emitted,
    received: Option<u64>,
) -> PipelineStep {
    let step = PipelineStep { purpose, rate, batching, emitted, received, outcome: StepOutcome::Held };
    let outcome = outcome(&step, length);
    PipelineStep { outcome, ..step }
}

/// Whether the pipeline took every span. An emitter that was late at the end did not offer the rate; one that once made half a
/// queue of spans in a row filled the queue itself.
fn outcome(step: &PipelineStep, length: Duration) -> StepOutcome {
    let burst = step.emitted.latest_ms / 1e3 * step.rate.as_f64();
    if step.emitted.took_ms > length.as_secs_f64() * 1e3 * (1.0 + RESOLUTION) {
        StepOutcome::Starved
    } else if step.lost() == 0 {
        StepOutcome::Held
    } else if burst > step.batching.queue as f64 / 2.0 {
        StepOutcome::Starved
    } else {
        StepOutcome::Failed
    }
}

/// Plays steps.
pub trait Emitter {
    /// Makes spans at `rate` through a pipeline of these settings. Returns the sending side, and the spans received where that is
    /// known.
    fn emit(
        &mut self,
        batching: Batching,
        rate: Rate,
    ) -> impl Future<Output = Result<(Emitted, Option<u64>), EmitterError>>;
}

/// Why a study stopped before its end.
#[derive(Debug, Error)]
pub enum StudyError {
    /// A step could not be played.
    #[error(transparent)]
    Emitter(#[from] EmitterError),
    /// The collector does not accept spans.
    #[error("{failed} of {ended} spans were lost behind the queue, so no rate can be without loss{}", quoted(.diagnostics))]
    Collector {
        /// Spans in exports that failed or were rejected.
        failed: u64,
        /// All spans.
        ended: u64,
        /// Log lines of the SDK.
        diagnostics: Vec<String>,
    },
    /// The ledger does not close.
    #[error("{0} of {1} spans are neither received nor accounted for, so the other counts cannot be trusted")]
    Unaccounted(i64, u64),
    /// The mode makes fewer spans than it is asked for.
    #[error("only {0} of {1} spans were recorded: a sampler or a filter keeps the others from the pipeline")]
    NotRecorded(u64, u64),
}

fn quoted(diagnostics: &[String]) -> String {
    let lines: Vec<String> = diagnostics.iter().map(|line| format!("\n  | {line}")).collect();
    lines.concat()
}

/// Plays the study of `setup`, and adds each step to `steps`.
///
/// # Errors
/// When a step cannot be played, or shows that no further step can give an answer.
pub async fn conduct(
    setup: &PipelineSetup,
    emitter: &mut impl Emitter,
    steps: &mut Vec<PipelineStep>,
) -> Result<(), StudyError> {
    let mut study = RunningStudy { setup, emitter, steps };
    let mut start = None;
    for round in 0..setup.rounds {
        match study.search(round, start).await? {
            Ok(rate) => start = Some(rate),
            // It will not be lower in another round.
            Err(Undecided::NeverHeld(_)) => return Ok(()),
            Err(_) => {}
        }
    }
    if let (Some(target), Some(capacity)) = (setup.target, findings(setup, study.steps).capacity) {
        study.recommend(target, capacity).await?;
    }
    Ok(())
}

/// A study under way.
struct RunningStudy<'a, E> {
    setup: &'a PipelineSetup,
    emitter: &'a mut E,
    steps: &'a mut Vec<PipelineStep>,
}

impl<E: Emitter> RunningStudy<'_, E> {
    /// Searches for the highest rate without loss, starting near an earlier answer where there is one.
    async fn search(&mut self, round: u32, around: Option<Rate>) -> Result<Result<Rate, Undecided>, StudyError> {
        let near = |rate| capacity::near(rate, self.setup.seed ^ u64::from(round));
        let length = self.setup.step;
        let mut search = match around {
            Some(answer) => Search::around(near(answer), length),
            None => Search::from(near(self.setup.target.unwrap_or(Rate::TEN_THOUSAND)), length),
        };
        loop {
            match search.next() {
                Next::Found(rate) => return Ok(Ok(rate)),
                Next::Undecided(why) => return Ok(Err(why)),
                Next::Try(rate) => {
                    let outcome = self.step(StepPurpose::Search { round }, self.setup.batching, rate).await?;
                    search.note(capacity::Step { rate, outcome });
                }
            }
        }
    }

    /// Measures how long exports take, and verifies the settings that follow from it.
    async fn recommend(&mut self, target: Rate, capacity: f64) -> Result<(), StudyError> {
        // Half the capacity is far from any loss, and both batch sizes meet the same load.
        let rate = Rate::per_second(capacity / 2.0).unwrap_or(Rate::MIN).min(target);
        let Batching { queue, batch, delay } = self.setup.batching;
        for batch in [batch, batch * LARGER] {
            self.step(StepPurpose::Probe, Batching { queue: queue.max(batch * 2), batch, delay }, rate).await?;
        }
        if let Some(Recommendation { batching: Some(batching), .. }) = findings(self.setup, self.steps).recommendation {
            for _ in 0..VERIFICATIONS {
                if self.step(StepPurpose::Verify, batching, target).await? != StepOutcome::Starved {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn step(&mut self, purpose: StepPurpose, batching: Batching, rate: Rate) -> Result<StepOutcome, StudyError> {
        let (emitted, received) = self.emitter.emit(batching, rate).await?;
        let step = step((purpose, rate, batching), self.setup.step, emitted, received);
        let (spans, outcome) = (step.spans(), step.outcome);
        let (made, unaccounted) = (step.emitted.spans, step.unaccounted());
        let diagnostics = step.emitted.account.diagnostics.clone();
        self.steps.push(step);
        if spans.ended != made {
            return Err(StudyError::NotRecorded(spans.ended, made));
        }
        if spans.failed + spans.rejected > 0 {
            return Err(StudyError::Collector {
                failed: spans.failed + spans.rejected,
                ended: spans.ended,
                diagnostics,
            });
        }
        if unaccounted != 0 {
            return Err(StudyError::Unaccounted(unaccounted, spans.ended));
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::account::{Account, Exports, ServiceSpans};
    use crate::record::pipeline::{ExportTime, Verification};
    use crate::studies::pipeline::bound;
    use proptest::prelude::*;

    /// The batch processor in virtual time: exports of a fixed and a per-span cost, one after the other, and a queue.
    struct Simulated {
        step: Duration,
        export: ExportTime,
        /// One of so many spans is lost behind the processor, and no account has it.
        leak: Option<u64>,
    }

    impl Simulated {
        /// (ended, dropped) of a step.
        fn play(&self, batching: Batching, rate: Rate) -> (u64, u64) {
            let total = (rate.as_f64() * self.step.as_secs_f64()).floor() as u64;
            let (mut waiting, mut dropped, mut free_at) = (0_usize, 0, 0.0_f64);
            for span in 0..total {
                let now = span as f64 / rate.as_f64();
                // The worker takes a batch as soon as it is free and there is one.
                while free_at <= now && waiting >= batching.batch {
                    waiting -= batching.batch;
                    let ms = self.export.fixed_ms + self.export.per_span_us * batching.batch as f64 / 1e3;
                    free_at = free_at.max(now) + ms / 1e3;
                }
                if waiting < batching.queue { waiting += 1 } else { dropped += 1 }
            }
            (total, dropped)
        }
    }

    impl Emitter for Simulated {
        async fn emit(&mut self, batching: Batching, rate: Rate) -> Result<(Emitted, Option<u64>), EmitterError> {
            let (ended, dropped) = self.play(batching, rate);
            let took_ms = self.export.fixed_ms + self.export.per_span_us * batching.batch as f64 / 1e3;
            let account = Account {
                spans: Some(ServiceSpans { ended, dropped, ..ServiceSpans::default() }),
                span_exports: Some(Exports {
                    largest: batching.batch as u64,
                    largest_p50_ms: Some(took_ms),
                    largest_mean_ms: Some(took_ms),
                    ..Exports::default()
                }),
                ..Account::default()
            };
            let received = ended - dropped - self.leak.map_or(0, |leak| ended / leak);
            let emitted = Emitted { spans: ended, took_ms: self.step.as_secs_f64() * 1e3, latest_ms: 0.1, account };
            Ok((emitted, Some(received)))
        }
    }

    fn setup(queue: usize, batch: usize, target: Option<f64>) -> PipelineSetup {
        PipelineSetup {
            mode: "full".into(),
            batching: Batching { queue, batch, delay: Duration::from_secs(1) },
            step: Duration::from_secs(2),
            rounds: 2,
            target: target.map(|target| Rate::per_second(target).unwrap()),
            stall: Duration::from_secs(1),
            seed: 7,
        }
    }

    fn studied(setup: &PipelineSetup, fixed_ms: f64, per_span_us: f64) -> (Vec<PipelineStep>, Result<(), StudyError>) {
        let export = ExportTime { fixed_ms, per_span_us };
        let mut simulated = Simulated { step: setup.step, export, leak: None };
        let mut steps = Vec::new();
        let outcome = futures_util::FutureExt::now_or_never(conduct(setup, &mut simulated, &mut steps));
        (steps, outcome.expect("nothing is waited for"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn the_capacity_is_between_the_bound_and_the_bound_plus_the_queue(
            queue in 512_usize..4_096, batch in 64_usize..512, export_ms in 20.0..100.0_f64
        ) {
            let setup = setup(queue, batch, None);
            let (steps, outcome) = studied(&setup, export_ms, 0.0);
            prop_assert!(outcome.is_ok());
            let found = findings(&setup, &steps);
            let (capacity, predicted) = (found.capacity.unwrap(), found.predicted.unwrap());
            prop_assert!((predicted / bound(batch, export_ms) - 1.0).abs() < 1e-9);
            prop_assert!(capacity <= predicted + found.lent, "{capacity} of {predicted}");
            prop_assert!(capacity * (1.0 + 2.0 * RESOLUTION) >= predicted, "{capacity} of {predicted}");
        }
    }

    #[test]
    fn settings_for_a_target_are_recommended_and_verified() {
        let setup = setup(1_024, 512, Some(20_000.0));
        let (steps, outcome) = studied(&setup, 50.0, 0.0);
        outcome.unwrap();
        let found = findings(&setup, &steps);
        let recommended = found.recommendation.unwrap();
        assert_eq!(recommended.export, ExportTime { fixed_ms: 50.0, per_span_us: 0.0 });
        let expected = Batching { queue: 22_048, batch: 2_048, delay: Duration::from_secs(1) };
        assert_eq!(recommended.batching, Some(expected));
        assert_eq!(found.verification.unwrap(), Verification { outcome: StepOutcome::Held, ended: 40_000, lost: 0 });
        // What was asked of at first loses spans at that rate, and every one of them is counted.
        assert!(steps.iter().any(|step| step.outcome == StepOutcome::Failed && step.lost() > 0));
        assert_eq!(found.absorbed_ms, Some(51.2));
    }

    #[test]
    fn an_unreachable_target_gets_a_reason_instead_of_settings() {
        let setup = setup(1_024, 512, Some(60_000.0));
        let (steps, outcome) = studied(&setup, 1.0, 10.0);
        outcome.unwrap();
        let found = findings(&setup, &steps);
        let reason = found.recommendation.unwrap().reason.unwrap();
        assert!(reason.contains("10.0 µs a span"), "{reason}");
        assert_eq!(found.verification, None);
    }

    #[test]
    fn loss_at_every_rate_ends_the_study_with_its_reason() {
        let setup = setup(1, 1, None);
        let (steps, outcome) = studied(&setup, 60_000.0, 0.0);
        outcome.unwrap();
        let found = findings(&setup, &steps);
        assert_eq!(found.capacity, None);
        assert_eq!(found.rounds.len(), 1);
        assert_eq!(found.rounds[0].reason.as_deref(), Some("spans are lost even at 10 a second"));
    }

    #[test]
    fn an_unaccounted_span_ends_the_study() {
        let setup = setup(1_024, 512, None);
        let export = ExportTime { fixed_ms: 1.0, per_span_us: 0.0 };
        let mut simulated = Simulated { step: setup.step, export, leak: Some(1_000) };
        let outcome = futures_util::FutureExt::now_or_never(conduct(&setup, &mut simulated, &mut Vec::new()));
        let message = outcome.expect("nothing is waited for").unwrap_err().to_string();
        assert!(message.contains("neither received nor accounted for"), "{message}");
    }

    #[test]
    fn a_late_emitter_counts_as_starved() {
        let batching = Batching { queue: 1_000, batch: 512, delay: Duration::from_secs(1) };
        let judged = |took_ms: f64, latest_ms: f64, dropped: u64| {
            let spans = Some(ServiceSpans { ended: 10_000, dropped, ..ServiceSpans::default() });
            let account = Account { spans, ..Account::default() };
            let emitted = Emitted { spans: 10_000, took_ms, latest_ms, account };
            let rate = Rate::TEN_THOUSAND;
            step((StepPurpose::Probe, rate, batching), Duration::from_secs(1), emitted, None).outcome
        };
        assert_eq!(judged(1_000.0, 1.0, 0), StepOutcome::Held);
        assert_eq!(judged(1_000.0, 1.0, 1), StepOutcome::Failed);
        // 49 ms late at 10 000 a second are 490 spans at once, less than half of the queue.
        assert_eq!(judged(1_000.0, 49.0, 1), StepOutcome::Failed);
        assert_eq!(judged(1_000.0, 51.0, 1), StepOutcome::Starved);
        assert_eq!(judged(1_000.0, 51.0, 0), StepOutcome::Held);
        assert_eq!(judged(1_031.0, 51.0, 0), StepOutcome::Starved);
    }
}

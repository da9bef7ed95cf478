//! Which steps are played, and what they say. What makes the spans of a step, this module does not know: [`Emitting`] is real
//! in the command and simulated in tests. Whatever is said follows from the steps alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::emitter::{Emitted, EmitterError};
use super::model::{Batching, ExportTime, absorbed, bound, lent, recommend};
use crate::experiment::units::{Rate, grouped};
use crate::record::account::ServiceSpans;
use crate::record::interval::Interval;
use crate::verdict::analysis::CONFIDENCE;
use crate::verdict::capacity::{self, Next, RESOLUTION, Search, StepOutcome, Undecided};
use crate::verdict::stats::Paired;

/// Times that a verification is tried whose emitter was starved.
const VERIFICATIONS: usize = 3;
/// How much larger the second batch is, of the two whose export times tell what a span adds.
const LARGER: usize = 4;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The mode's name.
    pub mode: String,
    /// The settings whose capacity is searched.
    pub batching: Batching,
    /// Length of a step.
    #[serde(with = "humantime_serde")]
    pub step: Duration,
    /// Searches.
    pub rounds: u32,
    /// Spans a second that settings are recommended for; null where none are.
    pub target: Option<Rate>,
    /// The stall of the collector that they should take.
    #[serde(with = "humantime_serde")]
    pub stall: Duration,
    /// Draws where searches start.
    pub seed: u64,
}

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "purpose")]
pub enum Purpose {
    /// For the search of this round, from 0.
    Search {
        /// The round.
        round: u32,
    },
    /// To see what an export of this batch takes.
    Probe,
    /// To see the recommended settings at the target.
    Verify,
}

/// One step: a stretch of spans at one rate, from a process of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What for.
    #[serde(flatten)]
    pub purpose: Purpose,
    /// Spans a second.
    pub rate: Rate,
    /// The settings.
    pub batching: Batching,
    /// What came of it, on the sending side.
    #[serde(flatten)]
    pub emitted: Emitted,
    /// Distinct spans that the sink received; null where they went elsewhere.
    pub received: Option<u64>,
    /// What it says.
    pub outcome: StepOutcome,
}

impl Step {
    /// The step, of a length, that came to this.
    pub fn of(
        (purpose, rate, batching): (Purpose, Rate, Batching),
        length: Duration,
        emitted: Emitted,
        received: Option<u64>,
    ) -> Self {
        let mut step = Self { purpose, rate, batching, emitted, received, outcome: StepOutcome::Held };
        step.outcome = step.judged(length);
        step
    }

    /// Spans that ended and did not go out.
    pub fn lost(&self) -> u64 {
        let ServiceSpans { dropped, failed, rejected, .. } = self.spans();
        dropped + failed + rejected
    }

    /// Spans that nobody can say anything of; 0 where it is not known what was received.
    pub fn unaccounted(&self) -> i64 {
        let gone = |received: u64| received + self.lost() + self.spans().discarded;
        self.received.map_or(0, |received| self.spans().ended.cast_signed() - gone(received).cast_signed())
    }

    fn spans(&self) -> ServiceSpans {
        self.emitted.account.spans.unwrap_or_default()
    }

    /// Whether the pipeline took every span. An emitter that was behind at the end has not asked for the rate; and one that
    /// once made half a queue of spans in a row has filled the queue itself.
    fn judged(&self, length: Duration) -> StepOutcome {
        let burst = self.emitted.latest_ms / 1e3 * self.rate.as_f64();
        if self.emitted.took_ms > length.as_secs_f64() * 1e3 * (1.0 + RESOLUTION) {
            StepOutcome::Starved
        } else if self.lost() == 0 {
            StepOutcome::Held
        } else if burst > self.batching.queue as f64 / 2.0 {
            StepOutcome::Starved
        } else {
            StepOutcome::Failed
        }
    }

    /// The exports of full batches; `None` where none was full.
    fn full_exports(&self) -> Option<FullExports> {
        let exports = self.emitted.account.span_exports?;
        let (p50_ms, mean_ms) = exports.largest_p50_ms.zip(exports.largest_mean_ms)?;
        (exports.largest == self.batching.batch as u64).then_some(FullExports { p50_ms, mean_ms })
    }
}

/// Plays steps.
pub trait Emitting {
    /// Makes spans at `rate` through a pipeline of these settings: what came of it, and what was received where that is known.
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
    /// The collector is not one that takes spans.
    #[error("{failed} of {ended} spans were lost behind the queue, so no rate can be without loss{}", said(.diagnostics))]
    Collector {
        /// In exports that failed, or refused.
        failed: u64,
        /// All of them.
        ended: u64,
        /// What the SDK said.
        diagnostics: Vec<String>,
    },
    /// The ledger does not close.
    #[error("{0} of {1} spans are neither received nor accounted for, so nothing can be said of the rest")]
    Unaccounted(i64, u64),
    /// The mode makes fewer spans than it is asked for.
    #[error("of {1} spans only {0} were recorded: a sampler or a filter keeps the others from the pipeline")]
    NotRecorded(u64, u64),
}

fn said(diagnostics: &[String]) -> String {
    let lines: Vec<String> = diagnostics.iter().map(|line| format!("\n  | {line}")).collect();
    lines.concat()
}

/// Plays what `setup` asks for, and adds each step to `steps`.
///
/// # Errors
/// When a step cannot be played, or shows that no other will say anything.
pub async fn conduct(setup: &Setup, emitting: &mut impl Emitting, steps: &mut Vec<Step>) -> Result<(), StudyError> {
    let mut study = Playing { setup, emitting, steps };
    let mut start = None;
    for round in 0..setup.rounds {
        match study.search(round, start).await? {
            Ok(rate) => start = Some(rate),
            // It will not be lower in another round.
            Err(Undecided::NeverHeld(_)) => return Ok(()),
            Err(_) => {}
        }
    }
    if let (Some(target), Some(capacity)) = (setup.target, Findings::of(setup, study.steps).capacity) {
        study.recommend(target, capacity).await?;
    }
    Ok(())
}

/// A study that goes on.
struct Playing<'a, E> {
    setup: &'a Setup,
    emitting: &'a mut E,
    steps: &'a mut Vec<Step>,
}

impl<E: Emitting> Playing<'_, E> {
    /// Searches for the highest rate without loss; `around` an earlier answer, where there is one.
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
                    let outcome = self.step(Purpose::Search { round }, self.setup.batching, rate).await?;
                    search.note(capacity::Step { rate, outcome });
                }
            }
        }
    }

    /// Measures what exports take, and verifies the settings that follow from it.
    async fn recommend(&mut self, target: Rate, capacity: f64) -> Result<(), StudyError> {
        // Half the capacity is far from loss, and both batches meet the same load.
        let rate = Rate::per_second(capacity / 2.0).unwrap_or(Rate::MIN).min(target);
        let Batching { queue, batch, delay } = self.setup.batching;
        for batch in [batch, batch * LARGER] {
            self.step(Purpose::Probe, Batching { queue: queue.max(batch * 2), batch, delay }, rate).await?;
        }
        if let Some(Recommendation { batching: Some(batching), .. }) =
            Findings::of(self.setup, self.steps).recommendation
        {
            for _ in 0..VERIFICATIONS {
                if self.step(Purpose::Verify, batching, target).await? != StepOutcome::Starved {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn step(&mut self, purpose: Purpose, batching: Batching, rate: Rate) -> Result<StepOutcome, StudyError> {
        let (emitted, received) = self.emitting.emit(batching, rate).await?;
        let step = Step::of((purpose, rate, batching), self.setup.step, emitted, received);
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

/// What the steps say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// What each search came to.
    pub rounds: Vec<Round>,
    /// The highest rate without loss, in spans a second: the geometric mean of the rounds' answers. Null where no search had one.
    pub capacity: Option<f64>,
    /// Its interval; null of fewer than two answers, of which no spread can be told.
    pub interval: Option<Interval>,
    /// Rounds that the capacity rests on.
    pub decided: usize,
    /// What exports of full batches took at those rates, the geometric means of the rounds; null where none was full.
    pub exports: Option<FullExports>,
    /// Batch / mean export time, in spans a second.
    pub predicted: Option<f64>,
    /// Spans a second that a step may last above the prediction, by what the queue holds at its end.
    pub lent: f64,
    /// The rate that the next is said of: the target, or else the capacity.
    pub at: Option<Rate>,
    /// How long a stall the queue absorbs at that rate.
    pub absorbed_ms: Option<f64>,
    /// Settings for the target; null where there is none, or it did not come to that.
    pub recommendation: Option<Recommendation>,
    /// What they did at the target; null where they were not played.
    pub verification: Option<Verification>,
}

/// What exports of full batches took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullExports {
    /// By the median.
    pub p50_ms: f64,
    /// On the mean, which is what a row of them takes.
    pub mean_ms: f64,
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its answer, in spans a second.
    pub capacity: Option<Rate>,
    /// Why there is none.
    pub reason: Option<String>,
}

/// Settings for the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// What exports take, as measured of two batches.
    pub export: ExportTime,
    /// The settings.
    pub batching: Option<Batching>,
    /// Why there are none.
    pub reason: Option<String>,
}

/// What the recommended settings did at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// What it says.
    pub outcome: StepOutcome,
    /// Spans made.
    pub ended: u64,
    /// Of these, lost.
    pub lost: u64,
}

impl Findings {
    /// What `steps` say.
    pub fn of(setup: &Setup, steps: &[Step]) -> Self {
        let searches: Vec<(Next, Vec<&Step>)> = (0..setup.rounds)
            .map(|round| steps.iter().filter(|step| step.purpose == Purpose::Search { round }).collect::<Vec<_>>())
            .filter(|steps| !steps.is_empty())
            .map(|steps| (searched(&steps, setup.step), steps))
            .collect();
        let answers: Vec<f64> = searches
            .iter()
            .filter_map(|(next, _)| if let Next::Found(rate) = next { Some(rate.as_f64().ln()) } else { None })
            .collect();
        let capacity = geometric_mean(&answers);
        let exports: Vec<FullExports> = searches
            .iter()
            .filter_map(|(next, steps)| {
                let Next::Found(rate) = next else { return None };
                // The last of the tries at the answer.
                steps.iter().rfind(|step| step.rate == *rate && step.outcome == StepOutcome::Held)?.full_exports()
            })
            .collect();
        let over_rounds = |of: fn(&FullExports) -> f64| {
            geometric_mean(&exports.iter().map(|exports| of(exports).ln()).collect::<Vec<_>>())
        };
        let exports = over_rounds(|exports| exports.p50_ms).zip(over_rounds(|exports| exports.mean_ms));
        let exports = exports.map(|(p50_ms, mean_ms)| FullExports { p50_ms, mean_ms });
        let at = setup.target.or_else(|| Rate::per_second(capacity?).ok());
        let recommendation = setup.target.and_then(|target| recommendation(setup, target, steps));
        let verified = steps.iter().rfind(|step| step.purpose == Purpose::Verify);
        Self {
            rounds: searches.iter().map(|(next, _)| round(next)).collect(),
            capacity,
            interval: Paired::of(&answers).map(|logs| logs.interval(CONFIDENCE).map(f64::exp)),
            decided: answers.len(),
            exports,
            predicted: exports.map(|exports| bound(setup.batching.batch, exports.mean_ms)),
            lent: lent(setup.batching, setup.step),
            at,
            absorbed_ms: at.map(|rate| absorbed(setup.batching.queue, rate).as_secs_f64() * 1e3),
            recommendation,
            verification: verified.map(|step| Verification {
                outcome: step.outcome,
                ended: step.spans().ended,
                lost: step.lost(),
            }),
        }
    }
}

/// Of numbers whose logarithms these are; `None` of none.
fn geometric_mean(logs: &[f64]) -> Option<f64> {
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

/// What a search says after these steps; where it started does not matter for how it ended.
fn searched(steps: &[&Step], length: Duration) -> Next {
    let mut search = Search::from(steps[0].rate, length);
    for step in steps {
        search.note(capacity::Step { rate: step.rate, outcome: step.outcome });
    }
    search.next()
}

fn round(next: &Next) -> Round {
    match next {
        Next::Found(rate) => Round { capacity: Some(*rate), reason: None },
        Next::Undecided(why) => Round { capacity: None, reason: Some(in_spans(*why)) },
        Next::Try(_) => Round { capacity: None, reason: Some("it was cut short".into()) },
    }
}

/// Why a search has no answer, in the words of a pipeline.
fn in_spans(why: Undecided) -> String {
    match why {
        Undecided::Limitless(rate) => format!("{rate} spans/s were not lost, and no more can be asked for"),
        Undecided::NeverHeld(rate) => format!("spans are lost even at {rate} a second"),
        Undecided::AlwaysStarved(rate) => format!("the emitter was starved of CPU even at {rate} spans/s"),
        Undecided::Starved { at, held } => {
            format!("the emitter was starved of CPU at {at} spans/s, and none was lost at {held}")
        }
        Undecided::Endless => why.to_string(),
    }
}

fn recommendation(setup: &Setup, target: Rate, steps: &[Step]) -> Option<Recommendation> {
    let points: Vec<(usize, f64)> = steps
        .iter()
        .filter(|step| step.purpose == Purpose::Probe)
        // Of the few exports of a probe one that met a bad moment would make the mean; a step will tell whether that was right.
        .filter_map(|step| Some((step.batching.batch, step.full_exports()?.p50_ms)))
        .collect();
    let export = ExportTime::through(&points)?;
    let (batching, reason) = match recommend(target, setup.stall, export) {
        Ok(batching) => (Some(batching), None),
        Err(why) => (None, Some(why.to_string())),
    };
    Some(Recommendation { export, batching, reason })
}

impl Verification {
    /// What it came to, in words.
    pub fn in_words(self) -> String {
        let ended = grouped(self.ended);
        match self.outcome {
            StepOutcome::Held => format!("none of {ended} spans was lost"),
            StepOutcome::Failed => format!("it does not hold: {} of {ended} spans were lost", grouped(self.lost)),
            StepOutcome::Starved => "not known: the emitter was starved of CPU at this rate".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::account::{Account, Exports};
    use proptest::prelude::*;

    /// The batch processor in virtual time: exports of a fixed and a per-span cost, one after the other, and a queue.
    struct Simulated {
        step: Duration,
        export: ExportTime,
        /// Every so many spans one gets lost behind the processor, and nobody says so.
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

    impl Emitting for Simulated {
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

    fn setup(queue: usize, batch: usize, target: Option<f64>) -> Setup {
        Setup {
            mode: "full".into(),
            batching: Batching { queue, batch, delay: Duration::from_secs(1) },
            step: Duration::from_secs(2),
            rounds: 2,
            target: target.map(|target| Rate::per_second(target).unwrap()),
            stall: Duration::from_secs(1),
            seed: 7,
        }
    }

    fn studied(setup: &Setup, fixed_ms: f64, per_span_us: f64) -> (Vec<Step>, Result<(), StudyError>) {
        let export = ExportTime { fixed_ms, per_span_us };
        let mut simulated = Simulated { step: setup.step, export, leak: None };
        let mut steps = Vec::new();
        let outcome = futures_util::FutureExt::now_or_never(conduct(setup, &mut simulated, &mut steps));
        (steps, outcome.expect("nothing is waited for"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn the_capacity_is_between_the_bound_and_what_the_queue_lends(
            queue in 512_usize..4_096, batch in 64_usize..512, export_ms in 20.0..100.0_f64
        ) {
            let setup = setup(queue, batch, None);
            let (steps, outcome) = studied(&setup, export_ms, 0.0);
            prop_assert!(outcome.is_ok());
            let findings = Findings::of(&setup, &steps);
            let (capacity, predicted) = (findings.capacity.unwrap(), findings.predicted.unwrap());
            prop_assert!((predicted / bound(batch, export_ms) - 1.0).abs() < 1e-9);
            prop_assert!(capacity <= predicted + findings.lent, "{capacity} of {predicted}");
            prop_assert!(capacity * (1.0 + 2.0 * RESOLUTION) >= predicted, "{capacity} of {predicted}");
        }
    }

    #[test]
    fn settings_for_a_target_are_recommended_and_verified() {
        let setup = setup(1_024, 512, Some(20_000.0));
        let (steps, outcome) = studied(&setup, 50.0, 0.0);
        outcome.unwrap();
        let findings = Findings::of(&setup, &steps);
        let recommended = findings.recommendation.unwrap();
        assert_eq!(recommended.export, ExportTime { fixed_ms: 50.0, per_span_us: 0.0 });
        let expected = Batching { queue: 22_048, batch: 2_048, delay: Duration::from_secs(1) };
        assert_eq!(recommended.batching, Some(expected));
        assert_eq!(findings.verification.unwrap(), Verification { outcome: StepOutcome::Held, ended: 40_000, lost: 0 });
        // What was asked of at first loses spans at that rate, and every one of them is counted.
        assert!(steps.iter().any(|step| step.outcome == StepOutcome::Failed && step.lost() > 0));
        assert_eq!(findings.absorbed_ms, Some(51.2));
    }

    #[test]
    fn a_target_that_no_settings_reach_gets_the_reason() {
        let setup = setup(1_024, 512, Some(60_000.0));
        let (steps, outcome) = studied(&setup, 1.0, 10.0);
        outcome.unwrap();
        let findings = Findings::of(&setup, &steps);
        let reason = findings.recommendation.unwrap().reason.unwrap();
        assert!(reason.contains("10.0 µs a span"), "{reason}");
        assert_eq!(findings.verification, None);
    }

    #[test]
    fn loss_at_every_rate_ends_the_study_with_its_reason() {
        let setup = setup(1, 1, None);
        let (steps, outcome) = studied(&setup, 60_000.0, 0.0);
        outcome.unwrap();
        let findings = Findings::of(&setup, &steps);
        assert_eq!(findings.capacity, None);
        assert_eq!(findings.rounds.len(), 1);
        assert_eq!(findings.rounds[0].reason.as_deref(), Some("spans are lost even at 10 a second"));
    }

    #[test]
    fn a_span_that_nobody_accounts_for_ends_the_study() {
        let setup = setup(1_024, 512, None);
        let export = ExportTime { fixed_ms: 1.0, per_span_us: 0.0 };
        let mut simulated = Simulated { step: setup.step, export, leak: Some(1_000) };
        let outcome = futures_util::FutureExt::now_or_never(conduct(&setup, &mut simulated, &mut Vec::new()));
        let message = outcome.expect("nothing is waited for").unwrap_err().to_string();
        assert!(message.contains("neither received nor accounted for"), "{message}");
    }

    #[test]
    fn an_emitter_that_was_late_is_no_answer() {
        let batching = Batching { queue: 1_000, batch: 512, delay: Duration::from_secs(1) };
        let judged = |took_ms: f64, latest_ms: f64, dropped: u64| {
            let spans = Some(ServiceSpans { ended: 10_000, dropped, ..ServiceSpans::default() });
            let account = Account { spans, ..Account::default() };
            let emitted = Emitted { spans: 10_000, took_ms, latest_ms, account };
            let rate = Rate::TEN_THOUSAND;
            Step::of((Purpose::Probe, rate, batching), Duration::from_secs(1), emitted, None).outcome
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

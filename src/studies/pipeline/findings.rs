//! The findings from the steps of a study. Pure.

use std::time::Duration;

use super::model::{absorbed, bound, export_time, lent, recommend};
use crate::experiment::units::Rate;
use crate::record::pipeline::{
    FullExports, PipelineFindings, PipelineSetup, PipelineStep, Recommendation, SearchResult, StepPurpose, Verification,
};
use crate::record::step::StepOutcome;
use crate::verdict::analysis::CONFIDENCE;
use crate::verdict::capacity::{self, Next, Search, Undecided};
use crate::verdict::stats::Paired;

/// The findings that follow from `steps`.
pub fn findings(setup: &PipelineSetup, steps: &[PipelineStep]) -> PipelineFindings {
    let searches: Vec<(Next, Vec<&PipelineStep>)> = (0..setup.rounds)
        .map(|round| steps.iter().filter(|step| step.purpose == StepPurpose::Search { round }).collect::<Vec<_>>())
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
    let verified = steps.iter().rfind(|step| step.purpose == StepPurpose::Verify);
    PipelineFindings {
        rounds: searches.iter().map(|(next, _)| search_result(next)).collect(),
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

/// The geometric mean of the numbers with these logarithms; `None` for none.
fn geometric_mean(logs: &[f64]) -> Option<f64> {
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

/// The state of a search after these steps. Where it started does not matter for how it ended.
fn searched(steps: &[&PipelineStep], length: Duration) -> Next {
    let mut search = Search::from(steps[0].rate, length);
    for step in steps {
        search.note(capacity::Step { rate: step.rate, outcome: step.outcome });
    }
    search.next()
}

fn search_result(next: &Next) -> SearchResult {
    match next {
        Next::Found(rate) => SearchResult { capacity: Some(*rate), reason: None },
        Next::Undecided(why) => SearchResult { capacity: None, reason: Some(in_spans(*why)) },
        Next::Try(_) => SearchResult { capacity: None, reason: Some("it was cut short".into()) },
    }
}

/// Why a search found no capacity, in terms of spans.
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

fn recommendation(setup: &PipelineSetup, target: Rate, steps: &[PipelineStep]) -> Option<Recommendation> {
    let points: Vec<(usize, f64)> = steps
        .iter()
        .filter(|step| step.purpose == StepPurpose::Probe)
        // The median: with so few exports, one that met a bad moment would decide the mean. The verification shows whether it holds.
        .filter_map(|step| Some((step.batching.batch, step.full_exports()?.p50_ms)))
        .collect();
    let export = export_time(&points)?;
    let (batching, reason) = match recommend(target, setup.stall, export) {
        Ok(batching) => (Some(batching), None),
        Err(why) => (None, Some(why.to_string())),
    };
    Some(Recommendation { export, batching, reason })
}

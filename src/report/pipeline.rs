//! The findings of a pipeline study, in a handful of lines.

use console::style;
use textwrap::Options;

use super::cells::{duration, three_digits};
use crate::experiment::units::{grouped, in_one_word};
use crate::record::pipeline::{Batching, PipelineFindings, PipelineSetup, Recommendation, Verification};
use crate::record::step::StepOutcome;

/// Widest line, in columns.
const WIDTH: usize = 100;
/// Where the text of a line begins.
const INDENT: usize = 13;

/// One line, with its name.
struct NamedLine {
    name: &'static str,
    text: String,
}

/// The findings for a terminal of 100 columns; `colour` adds weight, and no meaning.
pub fn table(setup: &PipelineSetup, findings: &PipelineFindings, slim: bool, colour: bool) -> String {
    let bold = |text: &str| if colour { style(text).bold().force_styling(true).to_string() } else { text.to_owned() };
    let mut out = vec![bold(&title(setup)), String::new()];
    for NamedLine { name, text } in lines(setup, findings, slim) {
        let first = format!("{name:INDENT$}");
        let rest = " ".repeat(INDENT);
        let options = Options::new(WIDTH - 2).initial_indent(&first).subsequent_indent(&rest);
        out.extend(textwrap::wrap(&text, options).into_iter().map(std::borrow::Cow::into_owned));
    }
    out.join("\n") + "\n"
}

/// The findings as Markdown.
pub fn markdown(setup: &PipelineSetup, findings: &PipelineFindings, slim: bool) -> String {
    let lines =
        lines(setup, findings, slim).into_iter().map(|NamedLine { name, text }| format!("- **{name}**: {text}\n"));
    format!("### {}\n\n{}", title(setup), lines.collect::<String>())
}

fn title(setup: &PipelineSetup) -> String {
    format!(
        "{} · {} · steps of {}, {} searches",
        setup.mode,
        settings(setup.batching),
        in_one_word(setup.step),
        setup.rounds
    )
}

fn settings(Batching { queue, batch, delay }: Batching) -> String {
    let [queue, batch] = [queue, batch].map(|spans| grouped(spans as u64));
    format!("queue {queue}, batches of {batch}, delay {}", in_one_word(delay))
}

fn lines(setup: &PipelineSetup, findings: &PipelineFindings, slim: bool) -> Vec<NamedLine> {
    let mut lines = vec![NamedLine { name: "capacity", text: capacity(setup, findings) }];
    let mut say = |name, text: Option<String>| lines.extend(text.map(|text| NamedLine { name, text }));
    let predicted = findings.predicted.zip(findings.exports).map(|(predicted, exports)| {
        format!(
            "at most {} spans/s: exports of {} spans, one after the other, take {} (p50; mean {}); within {} the queue takes up \
             to {} spans/s more",
            three_digits(predicted),
            grouped(setup.batching.batch as u64),
            duration(exports.p50_ms * 1e3),
            duration(exports.mean_ms * 1e3),
            in_one_word(setup.step),
            three_digits(findings.lent),
        )
    });
    say("predicted", predicted);
    let stall = findings.absorbed_ms.zip(findings.at).map(|(ms, at)| {
        format!("the queue absorbs a stall of {} at {} spans/s", duration(ms * 1e3), three_digits(at.as_f64()))
    });
    say("stall", stall);
    say("recommended", findings.recommendation.as_ref().map(|recommended| recommendation(setup, recommended, slim)));
    say("verified", findings.verification.map(verification));
    lines
}

fn capacity(setup: &PipelineSetup, findings: &PipelineFindings) -> String {
    let Some(capacity) = findings.capacity else {
        let reason = findings.rounds.iter().find_map(|round| round.reason.clone());
        return format!("not known: {}", reason.unwrap_or_else(|| "no search was played".into()));
    };
    let spread = findings.interval.map_or_else(String::new, |interval| {
        format!(" (95 %: {} … {})", three_digits(interval.low), three_digits(interval.high))
    });
    let undecided = match setup.rounds as usize - findings.decided {
        0 => String::new(),
        rounds => format!("; {rounds} of {} searches found no capacity", setup.rounds),
    };
    format!("{} spans/s without loss{spread}{undecided}", three_digits(capacity))
}

fn recommendation(setup: &PipelineSetup, recommended: &Recommendation, slim: bool) -> String {
    let Some(batching) = recommended.batching else {
        return format!("nothing: {}", recommended.reason.as_deref().unwrap_or_default());
    };
    let target = setup.target.map(|target| target.to_string()).unwrap_or_default();
    let how = if slim {
        String::new()
    } else {
        format!(
            " (OTEL_BSP_MAX_QUEUE_SIZE={} OTEL_BSP_MAX_EXPORT_BATCH_SIZE={} OTEL_BSP_SCHEDULE_DELAY={})",
            batching.queue,
            batching.batch,
            batching.delay.as_millis()
        )
    };
    format!("for {target} spans/s and a stall of {}: {}{how}", in_one_word(setup.stall), settings(batching))
}

fn verification(tried: Verification) -> String {
    let ended = grouped(tried.ended);
    match tried.outcome {
        StepOutcome::Held => format!("none of {ended} spans was lost"),
        StepOutcome::Failed => format!("it does not hold: {} of {ended} spans were lost", grouped(tried.lost)),
        StepOutcome::Starved => "not known: the emitter was starved of CPU at this rate".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::units::Rate;
    use crate::record::interval::Interval;
    use crate::record::pipeline::{ExportTime, FullExports, SearchResult};
    use std::time::Duration;

    #[test]
    fn a_study_reads_well_in_100_columns() {
        let batching = Batching { queue: 10_000, batch: 512, delay: Duration::from_secs(5) };
        let setup = PipelineSetup {
            mode: "full".into(),
            batching,
            step: Duration::from_secs(1),
            rounds: 5,
            target: Some(Rate::TEN_THOUSAND),
            stall: Duration::from_secs(1),
            seed: 1,
        };
        let found = SearchResult { capacity: Some(Rate::TEN_THOUSAND), reason: None };
        let starved = SearchResult { capacity: None, reason: Some("the emitter was starved".into()) };
        let findings = PipelineFindings {
            rounds: vec![found.clone(), found.clone(), found.clone(), found, starved],
            capacity: Some(18_400.0),
            interval: Some(Interval { estimate: 18_400.0, low: 18_010.0, high: 18_790.0 }),
            decided: 4,
            exports: Some(FullExports { p50_ms: 50.8, mean_ms: 51.2 }),
            predicted: Some(10_000.0),
            lent: 10_512.0,
            at: setup.target,
            absorbed_ms: Some(1_000.0),
            recommendation: Some(Recommendation {
                export: ExportTime { fixed_ms: 50.0, per_span_us: 2.0 },
                batching: Some(Batching { queue: 11_024, batch: 1_024, delay: Duration::from_secs(1) }),
                reason: None,
            }),
            verification: Some(Verification { outcome: StepOutcome::Failed, ended: 10_000, lost: 12 }),
        };
        let text = table(&setup, &findings, false, false);
        assert!(text.lines().all(|line| console::measure_text_width(line) <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
        insta::assert_snapshot!(markdown(&setup, &findings, true));
    }
}

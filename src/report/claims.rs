//! Claims and their verdicts: a headline for each, its readings, and the reason.

use std::fmt::Write;

use console::{StyledObject, measure_text_width, pad_str, style};
use textwrap::Options;

use super::setting::setting;
use super::table::{WIDTH, wrapped};
use super::view::noise_floor;
use super::warnings::warnings;
use crate::experiment::claims::catalogue::NOT_TESTED;
use crate::experiment::claims::own::ClaimSelection;
use crate::experiment::units::{as_given, grouped, in_few_digits};
use crate::record::claims::{Bound, Claim, ClaimFigure, ClaimReading, ClaimVerdict};
use crate::record::result::Document;

/// Where the text begins: after the longest verdict and a gap.
const INDENT: usize = "inconclusive".len() + 2;
/// Where a reading begins.
const READING: usize = 4;
/// Width of the subject of a reading.
const SUBJECT: usize = 50;
/// Stands for the verdict of a reading that is for comparison only.
const BESIDE: &str = "beside";

/// The contents of a report on claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimsView {
    title: String,
    /// Where and how, a line each.
    setting: Vec<String>,
    claims: Vec<ClaimRow>,
    warnings: Vec<String>,
    /// The noise floor, and the limits of the tests.
    closing: Vec<String>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ClaimRow {
    verdict: ClaimVerdict,
    id: String,
    statement: String,
    why: String,
    /// Of the reading that decides.
    figure: String,
    limit: String,
    groups: Vec<ReadingGroup>,
}

/// Readings of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReadingGroup {
    /// Denominator and estimator.
    head: String,
    limit: String,
    readings: Vec<ReadingLine>,
}

/// One reading.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReadingLine {
    verdict: &'static str,
    subject: String,
    figure: String,
}

impl ClaimsView {
    /// The view of a document's claims.
    pub fn of(document: &Document) -> Self {
        let count = |verdict| document.claims.iter().filter(|claim| claim.verdict == verdict).count();
        let mut places = setting(document);
        if document.header.scenario.arms.is_empty() {
            places.truncate(1);
        }
        let missing = document.evidence.iter().flat_map(|evidence| {
            let unprobed = evidence.unprobed.iter().map(|(probe, why)| format!("the probe `{probe}`: {why}"));
            evidence.missing.iter().cloned().chain(unprobed)
        });
        let published = matches!(document.header.scenario.claims, Some(ClaimSelection::Published(_)));
        Self {
            title: format!(
                "{}: {} confirmed, {} refuted, {} inconclusive",
                document.header.scenario.name,
                count(ClaimVerdict::Confirmed),
                count(ClaimVerdict::Refuted),
                count(ClaimVerdict::Inconclusive),
            ),
            setting: places,
            claims: document.claims.iter().map(row).collect(),
            warnings: warnings(document)
                .into_iter()
                .chain(missing.map(|what| format!("Not measured: {what}.")))
                .collect(),
            closing: noise_floor(document).into_iter().chain(published.then(|| NOT_TESTED.to_owned())).collect(),
        }
    }
}

fn row(claim: &Claim) -> ClaimRow {
    let mut groups: Vec<ReadingGroup> = Vec::new();
    for reading in &claim.readings {
        let (head, limit) = (head(&reading.figure), limit(&reading.figure));
        let line = line(reading);
        match groups.iter_mut().find(|group| group.head == head && group.limit == limit) {
            Some(group) => group.readings.push(line),
            None => groups.push(ReadingGroup { head, limit, readings: vec![line] }),
        }
    }
    ClaimRow {
        verdict: claim.verdict,
        id: claim.id.clone(),
        statement: claim.statement.clone(),
        why: claim.reason.clone(),
        figure: shown(&claim.figure),
        limit: limit(&claim.figure),
        groups,
    }
}

fn head(figure: &ClaimFigure) -> String {
    match figure.estimator {
        Some(estimator) => format!("{}, {}", figure.denominator, estimator.as_str()),
        None => figure.denominator.clone(),
    }
}

/// The limit of a figure in words; empty where there is none.
fn limit(figure: &ClaimFigure) -> String {
    let (Some(limit), Some(bound)) = (figure.limit, figure.bound) else { return String::new() };
    let with_unit = format!("{} {}", as_given(limit), figure.unit);
    match bound {
        Bound::Below => format!("< {with_unit}"),
        Bound::Above => format!("> {with_unit}"),
        Bound::Within => format!("within ±{with_unit}"),
        Bound::AtMost => "none".into(),
    }
}

fn line(reading: &ClaimReading) -> ReadingLine {
    let verdict = match reading.verdict {
        Some(verdict) if reading.counts => verdict.as_str(),
        Some(_) | None => BESIDE,
    };
    ReadingLine { verdict, subject: reading.subject.clone(), figure: shown(&reading.figure) }
}

/// A figure with its interval, or a count with its total.
fn shown(figure: &ClaimFigure) -> String {
    let unit = &figure.unit;
    match (figure.estimate, figure.of, figure.low, figure.high) {
        (None, ..) => "not measured".into(),
        // Both are whole.
        (Some(wrong), Some(of), ..) => format!("{} of {} {unit}", grouped(wrong as u64), grouped(of as u64)),
        (Some(estimate), None, Some(low), Some(high)) => {
            format!("{} ({} … {}) {unit}", in_few_digits(estimate), in_few_digits(low), in_few_digits(high))
        }
        (Some(estimate), ..) => format!("{} {unit}", in_few_digits(estimate)),
    }
}

/// Lays the claims of a document out for a terminal of 100 columns; `colour` adds weight and colour, and no meaning.
pub fn table(document: &Document, colour: bool) -> String {
    let view = ClaimsView::of(document);
    let styled = |text: &str, how: fn(StyledObject<String>) -> StyledObject<String>| {
        if colour { how(style(text.to_owned()).force_styling(true)).to_string() } else { text.to_owned() }
    };
    let mut out: Vec<String> = wrapped(&view.title, "  ").iter().map(|line| styled(line, StyledObject::bold)).collect();
    let dim = |line: String| styled(&line, StyledObject::dim);
    out.extend(view.setting.iter().flat_map(|line| wrapped(line, "")).map(dim));
    for claim in &view.claims {
        let colour_of: fn(StyledObject<String>) -> StyledObject<String> = match claim.verdict {
            ClaimVerdict::Confirmed => StyledObject::green,
            ClaimVerdict::Refuted => StyledObject::red,
            ClaimVerdict::Inconclusive => StyledObject::yellow,
        };
        out.push(String::new());
        let verdict = styled(&format!("{:INDENT$}", claim.verdict.as_str()), colour_of);
        let headline = format!("{}  {}", claim.id, claim.statement);
        let mut lines = indented(&headline, INDENT).into_iter();
        if let Some(first) = lines.next() {
            out.push(verdict + &styled(first.trim_start(), StyledObject::bold));
        }
        out.extend(lines.map(|line| styled(&line, StyledObject::bold)));
        out.extend(indented(&claim.why, INDENT));
        for group in &claim.groups {
            let limit = if group.limit.is_empty() { String::new() } else { format!(": {}", group.limit) };
            out.extend(indented(&format!("{}{limit}", group.head), READING).into_iter().map(dim));
            out.extend(group.readings.iter().map(columns));
        }
    }
    out.push(String::new());
    let warning = |line: String| styled(&line, StyledObject::yellow);
    out.extend(view.warnings.iter().flat_map(|text| wrapped(&format!("! {text}"), "  ")).map(warning));
    out.extend(view.closing.iter().flat_map(|text| wrapped(text, "")).map(dim));
    out.join("\n") + "\n"
}

/// A reading in its columns.
fn columns(line: &ReadingLine) -> String {
    let room = WIDTH - READING - INDENT - SUBJECT - 2;
    let subject = pad_str(&line.subject, SUBJECT, console::Alignment::Left, None);
    let blanks = room.saturating_sub(measure_text_width(&line.figure));
    format!("{:READING$}  {:INDENT$}{subject}{:blanks$}{}", "", line.verdict, "", line.figure)
}

/// Breaks a text into lines that begin so many columns in.
fn indented(text: &str, columns: usize) -> Vec<String> {
    let lines = textwrap::wrap(text, Options::new(WIDTH - columns));
    lines.iter().map(|line| format!("{:columns$}{line}", "")).collect()
}

/// Lays the claims of a document out as Markdown: a row for each claim, and one for each of its readings.
pub fn markdown(document: &Document) -> String {
    let view = ClaimsView::of(document);
    let mut out = format!("### {}\n\n", view.title);
    // Writing to a string cannot fail.
    for line in &view.setting {
        let _ = writeln!(out, "- {line}");
    }
    out.push_str("\n| claim | reading | measured (90 %) | limit | verdict |\n| --- | --- | ---: | ---: | --- |\n");
    for claim in &view.claims {
        let _ = writeln!(
            out,
            "| **{}** | **{}**: {} | {} | {} | **{}** |",
            claim.id,
            claim.statement,
            claim.why,
            claim.figure,
            claim.limit,
            claim.verdict.as_str()
        );
        for group in &claim.groups {
            for line in &group.readings {
                let _ = writeln!(
                    out,
                    "| | {}; {} | {} | {} | {} |",
                    line.subject, group.head, line.figure, group.limit, line.verdict
                );
            }
        }
    }
    for warning in &view.warnings {
        let _ = writeln!(out, "\n> **Warning.** {warning}");
    }
    for text in &view.closing {
        let _ = writeln!(out, "\n{text}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::claims::catalogue;
    use crate::record::claims::{ClaimEvidence, TlsAttempt};
    use crate::record::isolated::Isolated;
    use crate::verdict::fixture::{self, noise};

    /// Claims of every verdict and every kind of figure.
    fn document() -> Document {
        let cost = |arm: &str, round| match arm {
            "metrics" => 20.0 * noise("round", round),
            "bridge" => 20.0 * noise("round", round) + 0.15 + 0.01 * (noise(arm, round) - 1.0),
            _ => 40.0 * noise(arm, round),
        };
        let mut records = fixture::run_of_modes("metrics,bridge,traces,full,full-http,full-mtls", 8, cost);
        let ids =
            ["bridge-cpu", "metric-export", "span-record", "queue-10k", "grpc-vs-http", "mtls", "single-recorder"];
        records.header.scenario.claims = Some(ClaimSelection::Published(ids.map(str::to_owned).into()));
        for lane in records.lanes.iter_mut().filter(|lane| lane.arm == "full" && lane.round > 0) {
            let spans = lane.account.spans.get_or_insert_default();
            (spans.ended, spans.dropped) = (spans.ended + 1_500, spans.dropped + 1_500);
        }
        let readings =
            [("order-metrics", 900.0), ("order-bridge", 1_050.0), ("span-none", 2.0), ("span-recorded", 1_204.0)];
        let rounds = |name: &str, ns: f64| (0..8).map(|round| ns * noise(name, round)).collect();
        let attempt = |shows: &str, unauthorised: bool| TlsAttempt {
            shows: shows.into(),
            unauthorised,
            ended: 36,
            received: if unauthorised { 0 } else { 36 },
            refused_connections: u64::from(unauthorised),
            refused_connection: unauthorised.then(|| "TLS handshake: peer sent no certificates".into()),
        };
        let evidence = ClaimEvidence {
            isolated: Some(Isolated {
                rounds: 8,
                readings: readings.map(|(name, ns)| (name.to_owned(), rounds(name, ns))).into(),
            }),
            tls_attempts: vec![attempt("the right certificate", false), attempt("no certificate", true)],
            unprobed: [("second-install".to_owned(), "it did not end within 60 s".to_owned())].into(),
            ..ClaimEvidence::default()
        };
        Document::with(records, Some(evidence))
    }

    #[test]
    fn claims_in_a_terminal_of_100_columns() {
        let text = table(&document(), false);
        assert!(text.lines().all(|line| measure_text_width(line) <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn claims_on_a_page() {
        insta::assert_snapshot!(markdown(&document()));
    }

    #[test]
    fn every_published_claim_finds_room_for_its_subjects() {
        for claim in catalogue::all() {
            for subject in claim.questions.iter().map(|question| question.subject.as_str()) {
                assert!(measure_text_width(subject) <= SUBJECT, "{}: {subject}", claim.id);
            }
        }
    }
}

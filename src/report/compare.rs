//! The report of a comparison of two stored results.

use console::style;

use super::cells::{Grid, Row, duration, microseconds, missing, three_digits};
use super::markdown::{RIGHT, grid as markdown_grid};
use super::table::{grid as table_grid, wrapped};
use crate::experiment::metric::Metric;
use crate::experiment::units::grouped;
use crate::record::interval::Interval;
use crate::verdict::compare::{Basis, ComparedMetric, Comparison, Side};
use crate::verdict::gate::Judged;

/// For a terminal of 100 columns; `colour` adds weight, and no meaning.
pub fn table(comparison: &Comparison, colour: bool) -> String {
    let bold = |text: &str| if colour { style(text).bold().force_styling(true).to_string() } else { text.to_owned() };
    let mut out: Vec<String> = wrapped(&title(comparison), "  ").iter().map(|line| bold(line)).collect();
    out.push(String::new());
    out.extend(table_grid(&grid(comparison), bold));
    out.extend(wrapped(&legend(comparison), ""));
    for text in comparison.notes.iter().map(|note| format!("! {note}")) {
        out.push(String::new());
        out.extend(wrapped(&text, "  "));
    }
    if !comparison.gates.is_empty() {
        out.push(String::new());
        out.extend(comparison.gates.iter().map(gate).flat_map(|line| wrapped(&line, "  ")));
    }
    out.push(String::new());
    out.extend(wrapped(&sentence(comparison), "  ").iter().map(|line| bold(line)));
    out.join("\n") + "\n"
}

/// For a page.
pub fn markdown(comparison: &Comparison) -> String {
    let mut blocks = vec![format!("### {}", title(comparison)), markdown_grid(&grid(comparison), RIGHT).join("\n")];
    blocks.push(legend(comparison));
    blocks.extend(comparison.notes.iter().map(|note| format!("> **Note.** {note}")));
    if !comparison.gates.is_empty() {
        blocks.push(comparison.gates.iter().map(|judged| format!("- {}", gate(judged))).collect::<Vec<_>>().join("\n"));
    }
    blocks.push(format!("**{}**", sentence(comparison)));
    blocks.join("\n\n") + "\n"
}

fn title(comparison: &Comparison) -> String {
    format!("{} against {}", side(&comparison.candidate), side(&comparison.base))
}

fn side(side: &Side) -> String {
    let commit = side.tool.git.as_deref().unwrap_or(&side.tool.version);
    format!("{commit} of {} ({} rounds)", side.started_at, side.rounds)
}

fn grid(comparison: &Comparison) -> Grid {
    let row = |line: &ComparedMetric| Row {
        is_treatment: line.resolved && line.basis != Basis::Level,
        cells: vec![
            line.arm.clone(),
            name(line.metric).into(),
            line.base.map_or_else(missing, |value| cell(line.basis, line.metric, value)),
            line.candidate.map_or_else(missing, |value| cell(line.basis, line.metric, value)),
            line.change.map_or_else(missing, in_percent),
            line.mde_relative.map_or_else(missing, |share| format!("{:.1} %", share * 100.0)),
            verdict(line).into(),
        ],
    };
    Grid {
        columns: ["arm", "metric", "base", "candidate", "change (95 %)", "sees", "verdict"].map(str::to_owned).to_vec(),
        rows: comparison.lines.iter().map(row).collect(),
    }
}

/// The metric, short enough for a column; its unit is that of the cells.
pub(super) fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Capacity => "capacity",
        Metric::Cpu => "CPU",
        Metric::CpuRequest => "CPU, requests",
        Metric::CpuExporter => "CPU, exporters",
        Metric::ResponseP50 => "p50",
        Metric::ResponseP90 => "p90",
        Metric::ResponseP99 => "p99",
        Metric::ResponseP999 => "p99.9",
        Metric::Allocations => "allocations",
        Metric::AllocatedBytes => "bytes allocated",
        Metric::Rss => "RSS",
    }
}

/// A relative change with its interval, where it has one.
pub(super) fn in_percent(change: Interval) -> String {
    let Interval { estimate, low, high } = change.map(|share| share * 100.0);
    if low < high { format!("{estimate:+.1} % ({low:+.1} … {high:+.1})") } else { format!("{estimate:+.1} %") }
}

/// A value in its unit, or as a ratio.
pub(super) fn cell(basis: Basis, metric: Metric, value: f64) -> String {
    if basis == Basis::Ratio {
        return format!("×{value:.3}");
    }
    match metric {
        Metric::Capacity => format!("{} RPS", three_digits(value)),
        Metric::Cpu | Metric::CpuRequest | Metric::CpuExporter => microseconds(value),
        Metric::ResponseP50 | Metric::ResponseP90 | Metric::ResponseP99 | Metric::ResponseP999 => duration(value),
        Metric::Allocations => format!("{value:.2}"),
        // A count of bytes is not negative.
        Metric::AllocatedBytes => grouped(value.round() as u64),
        Metric::Rss => format!("{:.1} MB", value / 1e6),
    }
}

fn verdict(line: &ComparedMetric) -> &'static str {
    let Some(change) = line.change else { return "not compared" };
    let worse = (change.estimate > 0.0) != line.metric.more_is_better();
    match (line.resolved, line.basis == Basis::Level, worse) {
        (false, false, _) if line.basis == Basis::Exact && change.estimate == 0.0 => "the same",
        (false, false, _) => "not resolved",
        (false, true, _) => "n.r., advisory",
        (true, false, true) => "worse",
        (true, false, false) => "better",
        (true, true, true) => "worse, advisory",
        (true, true, false) => "better, advisory",
    }
}

fn legend(comparison: &Comparison) -> String {
    let mut legend = vec![
        format!("×: ratio to {} of the same run, which is what carries over between runs", comparison.baseline),
        "sees: the smallest change that two such runs show with 80 % power".into(),
        "of twenty lines without a change one is resolved by chance".into(),
    ];
    legend.extend(
        comparison.history.map(|runs| format!("what differs between runs is estimated from {runs} stored ones")),
    );
    if comparison.lines.iter().any(|line| line.basis == Basis::Level) {
        legend.push("advisory: a level, which differs from day to day by more than most changes".into());
    }
    legend.join("; ")
}

fn gate(judged: &Judged) -> String {
    format!("Gate {}.", judged.in_words())
}

/// The conclusion in a sentence.
fn sentence(comparison: &Comparison) -> String {
    let portable = || comparison.lines.iter().filter(|line| line.basis != Basis::Level);
    let changed: Vec<String> = portable()
        .filter(|line| line.resolved)
        .filter_map(|line| {
            let change = line.change?.estimate * 100.0;
            let of = if line.basis == Basis::Ratio {
                format!(", relative to {}", comparison.baseline)
            } else {
                String::new()
            };
            Some(format!("{} of {} changed by {change:+.1} %{of}", name(line.metric), line.arm))
        })
        .collect();
    if !changed.is_empty() {
        return format!("{}.", changed.join("; "));
    }
    let seen = portable().filter(|line| matches!(line.metric, Metric::Cpu | Metric::Capacity)).filter_map(|line| {
        let mde = line.mde_relative? * 100.0;
        Some(format!("{mde:.1} % of {} in {}", name(line.metric), line.arm))
    });
    match seen.collect::<Vec<_>>().join(", ") {
        seen if seen.is_empty() => "Nothing could be compared.".into(),
        seen => format!("No change is resolved; these two runs would have shown {seen} or more."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::result::Document;
    use crate::verdict::compare::{Criteria, compare};
    use crate::verdict::fixture::{self, noise};

    fn document(day: f64, ratio: f64, seed: u32) -> Document {
        let mut records = fixture::run(8, |arm, round| {
            day * 20.0 * if arm == "full" { ratio } else { 1.0 } * noise(arm, round + 100 * seed)
        });
        records.header.started_at = format!("2026-01-{:02}T00:00:00Z", seed + 1);
        records.header.tool.git = Some(format!("c0ffee{seed:06}"));
        Document::of(records)
    }

    #[test]
    fn a_comparison_reads_well_in_100_columns() {
        let gates = ["cpu_us_per_request:full=5%", "allocations_per_request=1%", "response_us_p99:full=20%"];
        let criteria =
            |same_machine| Criteria { same_machine, gates: gates.map(|gate| gate.parse().unwrap()).to_vec() };
        let (base, candidate) = (document(1.0, 1.4, 0), document(1.1, 1.6, 1));
        let portable = compare(&base, &candidate, &[], &criteria(false)).unwrap();
        let history: Vec<Document> = (2..6).map(|seed| document(1.0, 1.4, seed)).collect();
        let all = compare(&base, &candidate, &history, &criteria(true)).unwrap();
        for comparison in [&portable, &all] {
            let text = table(comparison, false);
            assert!(
                text.lines().all(|line| console::measure_text_width(line) <= crate::report::table::WIDTH),
                "{text}"
            );
        }
        insta::assert_snapshot!(table(&portable, false));
        insta::assert_snapshot!(table(&all, false));
        insta::assert_snapshot!(markdown(&portable));
    }

    #[test]
    fn where_nothing_changed_the_sentence_says_what_would_have_been_seen() {
        let comparison = compare(&document(1.0, 1.4, 0), &document(1.0, 1.4, 1), &[], &Criteria::default()).unwrap();
        let sentence = sentence(&comparison);
        assert!(sentence.starts_with("No change is resolved; these two runs would have shown "), "{sentence}");
        assert!(sentence.contains("% of CPU in full"), "{sentence}");
    }
}

//! The report of a series of stored results.

use console::{style, truncate_str};

use super::cells::{Grid, Row};
use super::compare::{cell, in_percent, name};
use super::markdown::{RIGHT, grid as markdown_grid};
use super::table::{grid as table_grid, wrapped};
use crate::experiment::metric::Metric;
use crate::verdict::compare::Basis;
use crate::verdict::trend::{Series, Trend};

/// Columns that the name of a file may take.
const FILE: usize = 20;
/// From the lowest value of a series to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A part of the report, in order.
enum Block {
    Title(String),
    Grid(Grid),
    Text(String),
}

/// For a terminal of 100 columns; `colour` adds weight, and no meaning.
pub fn table(trend: &Trend, colour: bool) -> String {
    let bold = |text: &str| if colour { style(text).bold().force_styling(true).to_string() } else { text.to_owned() };
    let blocks = blocks(trend).into_iter().map(|block| match block {
        Block::Title(text) => wrapped(&text, "  ").iter().map(|line| bold(line)).collect(),
        Block::Grid(grid) => table_grid(&grid, bold),
        Block::Text(text) => wrapped(&text, "  "),
    });
    blocks.map(|lines: Vec<String>| lines.join("\n") + "\n").collect::<Vec<_>>().join("\n")
}

/// For a page.
pub fn markdown(trend: &Trend) -> String {
    let blocks = blocks(trend).into_iter().map(|block| match block {
        Block::Title(text) => format!("### {text}\n"),
        Block::Grid(grid) => markdown_grid(&grid, RIGHT).join("\n") + "\n",
        Block::Text(text) => text + "\n",
    });
    blocks.collect::<Vec<_>>().join("\n")
}

fn blocks(trend: &Trend) -> Vec<Block> {
    let mut blocks: Vec<Block> =
        trend.left_out.iter().map(|reason| Block::Text(format!("Left out: {reason}."))).collect();
    for group in &trend.groups {
        if !group.apart.is_empty() {
            let apart = group.apart.iter().map(|difference| difference.replace("the base", "those above"));
            let apart = apart.map(|difference| difference.replace("the candidate", "those below"));
            blocks.push(Block::Text(format!(
                "What follows does not compare with the first series: {}.",
                apart.collect::<Vec<_>>().join("; ")
            )));
        }
        for series in &group.series {
            blocks.push(Block::Title(title(series, trend.metric)));
            if let Some(basis) = series.basis.filter(|_| !series.points.is_empty()) {
                blocks.push(Block::Grid(grid(series, basis, trend.metric)));
            }
            blocks.push(Block::Text(sentence(series)));
        }
    }
    blocks
}

fn title(series: &Series, metric: Metric) -> String {
    let relative = match series.basis {
        Some(Basis::Ratio) => format!(" relative to {}", series.baseline),
        Some(Basis::Level) => " (advisory: levels differ from day to day)".into(),
        Some(Basis::Exact) | None => String::new(),
    };
    format!("{}: {}{relative} {}", series.arm, name(metric), sparkline(series)).trim_end().to_owned()
}

/// The series in a line.
fn sparkline(series: &Series) -> String {
    let values: Vec<f64> = series.points.iter().map(|point| point.value.estimate).collect();
    let (low, high) =
        values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    let bar = |value: &f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        // From 0 to 7 by the line above.
        BARS[(share * 7.0).round() as usize]
    };
    values.iter().map(bar).collect()
}

fn grid(series: &Series, basis: Basis, metric: Metric) -> Grid {
    let rows = series.points.iter().enumerate().map(|(index, point)| {
        let change = series.changes.iter().find(|change| change.at == index);
        let [value, low, high] =
            [point.value.estimate, point.value.low, point.value.high].map(|v| cell(basis, metric, v));
        let range = if low == high { value } else { format!("{value} ({low} … {high})") };
        Row {
            is_treatment: change.is_some(),
            cells: vec![
                point.started_at.clone(),
                point.git.clone().unwrap_or_else(|| "?".into()),
                range,
                change.map_or_else(String::new, |change| in_percent(change.change)),
                file(&point.file),
            ],
        }
    });
    let columns = ["started", "commit", "value (95 %)", "changed by", "file"].map(str::to_owned).to_vec();
    Grid { columns, rows: rows.collect() }
}

/// The name of a file, short enough for a column.
fn file(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    truncate_str(name, FILE, "…").into_owned()
}

fn sentence(series: &Series) -> String {
    if series.changes.is_empty() {
        return match &series.reason {
            Some(reason) => format!("Not known whether it changed: {reason}."),
            None => format!("No change shows in {} results.", series.points.len()),
        };
    }
    let changes = series.changes.iter().map(|change| {
        let commit = change.git.as_deref().unwrap_or("an unknown commit");
        format!("by {} with {commit} ({})", in_percent(change.change), file(&change.file))
    });
    format!("It changed {}.", changes.collect::<Vec<_>>().join(", then "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::result::Document;
    use crate::verdict::fixture::{self, noise};
    use crate::verdict::trend::trend;

    #[test]
    fn a_trend_reads_well_in_100_columns() {
        let result = |day: u32| {
            let ratio = if day < 7 { 1.4 } else { 1.5 };
            let mut records = fixture::run(4, |arm, round| {
                20.0 * if arm == "full" { ratio } else { 1.0 } * noise(arm, round + 100 * day)
            });
            records.header.started_at = format!("2026-01-{day:02}T00:00:00Z");
            records.header.tool.git = Some(format!("c0ffee{day:06}"));
            records.header.machine.cores = if day == 11 { 4 } else { 2 };
            (format!("results/nightly-{day}.json"), Document::of(records))
        };
        let trend = trend((1..=11).map(result).collect(), Metric::Cpu, false);
        let text = table(&trend, false);
        assert!(text.lines().all(|line| console::measure_text_width(line) <= crate::report::table::WIDTH), "{text}");
        insta::assert_snapshot!(text);
        insta::assert_snapshot!(markdown(&trend));
    }
}

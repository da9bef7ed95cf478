//! A series of stored results: where the cost of an arm changed. Pure.
//!
//! Results are put in order of time. Those that do not compare, because the machine, the scenario or the method changed,
//! make series of their own. Only values that carry over between runs are followed, as in [`crate::verdict::compare`].

use serde::Serialize;

use crate::experiment::metric::Metric;
use crate::record::interval::Interval;
use crate::record::result::Document;
use crate::verdict::analysis::CONFIDENCE;
use crate::verdict::compare::{Basis, Run, SAME, obstacles, unreliable};
use crate::verdict::stats::{Estimate, FEWEST, steps};

/// Chance that a series in which nothing changes shows a change.
const ALPHA: f64 = 0.05;
/// Standard errors that a change is at least: 1.96 leave 5 % to chance.
const SURE: f64 = 1.96;

/// A metric followed through a series of results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// The metric that is followed.
    pub metric: Metric,
    /// Results that cannot be relied on, with the reasons.
    pub left_out: Vec<String>,
    /// Results that compare with each other, in order of time.
    pub groups: Vec<Group>,
}

/// Results that compare with each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// In what they differ from the first group; empty for that one.
    pub apart: Vec<String>,
    /// One per arm.
    pub series: Vec<Series>,
}

/// One arm over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// The arm.
    pub arm: String,
    /// How the metric carries over between runs; null where it does not.
    pub basis: Option<Basis>,
    /// The arm that ratios are to.
    pub baseline: String,
    /// The results that have a value.
    pub points: Vec<Point>,
    /// Points at which the level changes.
    pub changes: Vec<LevelChange>,
    /// Why there are no changes to report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The file.
    pub file: String,
    /// The commit that was measured; null where that is not known.
    pub git: Option<String>,
    /// When.
    pub started_at: String,
    /// The geometric mean over its rounds, of the ratio or of the metric in its unit, with the interval that the rounds give.
    pub value: Interval,
}

/// A new level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelChange {
    /// The point it begins with, from 0.
    pub at: usize,
    /// The file of that point.
    pub file: String,
    /// Its commit.
    pub git: Option<String>,
    /// The new level relative to the one before, less one. The interval takes the place as given, so it is a little narrow.
    pub change: Interval,
}

/// Follows a metric through results, each with the name of its file.
pub fn trend(mut results: Vec<(String, Document)>, metric: Metric, same_machine: bool) -> Trend {
    results.sort_by(|a, b| a.1.header.started_at.cmp(&b.1.header.started_at));
    results.dedup_by(|a, b| a.1.header == b.1.header);
    let mut left_out = Vec::new();
    let mut groups: Vec<Vec<(String, Document)>> = Vec::new();
    for (file, document) in results {
        let reasons = unreliable(&file, &document);
        if !reasons.is_empty() {
            left_out.extend(reasons);
            continue;
        }
        match groups.iter_mut().find(|group| obstacles(&group[0].1.header, &document.header).is_empty()) {
            Some(group) => group.push((file, document)),
            None => groups.push(vec![(file, document)]),
        }
    }
    let apart = |group: &[(String, Document)]| obstacles(&groups[0][0].1.header, &group[0].1.header);
    let groups = groups.iter().map(|group| Group { apart: apart(group), series: follow(group, metric, same_machine) });
    let groups = groups.collect();
    Trend { metric, left_out, groups }
}

/// The arms of results that compare.
fn follow(group: &[(String, Document)], metric: Metric, same_machine: bool) -> Vec<Series> {
    let runs: Vec<(&str, Run)> = group.iter().map(|(file, document)| (file.as_str(), Run::of(document))).collect();
    let mut arms: Vec<String> = Vec::new();
    for (_, document) in group {
        let new = document.header.scenario.arm_names();
        arms.extend(new.into_iter().filter(|name| !arms.contains(name)).collect::<Vec<_>>());
    }
    // The baseline has no ratio to itself, which is no news.
    let all = arms.into_iter().map(|arm| one_arm(&runs, arm, metric, same_machine));
    all.filter(|series| series.basis.is_some() || series.arm != series.baseline).collect()
}

fn one_arm(runs: &[(&str, Run)], arm: String, metric: Metric, same_machine: bool) -> Series {
    let baseline = runs.first().map(|(_, run)| run.baseline.clone()).unwrap_or_default();
    let has_ratio = runs.iter().any(|(_, run)| run.reference(&arm).is_some());
    let basis = Basis::portable(metric).filter(|basis| *basis == Basis::Exact || has_ratio);
    let basis = basis.or(same_machine.then_some(Basis::Level));
    let mut series = Series { arm, basis, baseline, points: Vec::new(), changes: Vec::new(), reason: None };
    let Some(basis) = basis else {
        series.reason =
            Some("nothing of it carries over between stored runs; --same-machine follows it all the same".into());
        return series;
    };
    let mut estimates = Vec::new();
    for (file, run) in runs {
        match run.estimate(basis, &series.arm, metric) {
            Ok(estimate) => {
                estimates.push(estimate);
                series.points.push(Point {
                    file: (*file).into(),
                    git: run.header.tool.git.clone(),
                    started_at: run.header.started_at.clone(),
                    value: estimate.interval(CONFIDENCE).map(f64::exp),
                });
            }
            Err(reason) => series.reason = Some(format!("{file}: {reason}")),
        }
    }
    if estimates.len() < FEWEST {
        let have = estimates.len();
        series
            .reason
            .get_or_insert_with(|| format!("a change can be told from {FEWEST} results on, and there are {have}"));
        return series;
    }
    series.changes = changes(&estimates, basis, &series.points);
    series
}

fn changes(estimates: &[Estimate], basis: Basis, points: &[Point]) -> Vec<LevelChange> {
    let logs: Vec<f64> = estimates.iter().map(Estimate::mean).collect();
    let places = steps(&logs, ALPHA);
    let ends = places.iter().skip(1).copied().chain([logs.len()]);
    let begins = [0].into_iter().chain(places.iter().copied());
    let change = |((begin, at), end): ((usize, usize), usize)| {
        let step = Estimate::of(&logs[at..end])?.minus(&Estimate::of(&logs[begin..at])?);
        let noise = noise(&estimates[begin..at]) + noise(&estimates[at..end]);
        // The order of a few results may be strange by chance though each result leaves open more than they differ by, and
        // what is taken for the same between two results is so in a series.
        let small = step.mean().abs() <= SURE * noise.sqrt() || (basis == Basis::Exact && step.mean().abs() <= SAME);
        let (change, point) = (step.interval(CONFIDENCE).map(f64::exp_m1), &points[at]);
        (!small).then(|| LevelChange { at, file: point.file.clone(), git: point.git.clone(), change })
    };
    begins.zip(places.iter().copied()).zip(ends).filter_map(change).collect()
}

/// The variance of the mean of some results by what their own rounds leave open.
fn noise(estimates: &[Estimate]) -> f64 {
    estimates.iter().map(Estimate::variance).sum::<f64>() / (estimates.len() as f64).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fixture::{self, noise};

    /// A result of a day, in which `full` costs `ratio` times what `none` does.
    fn result(day: u32, ratio: f64) -> (String, Document) {
        let slow = 1.0 + 0.1 * f64::from(day % 3);
        let mut records = fixture::run(4, |arm, round| {
            slow * 20.0 * if arm == "full" { ratio } else { 1.0 } * noise(arm, round + 100 * day)
        });
        records.header.started_at = format!("2026-01-{day:02}T00:00:00Z");
        records.header.tool.git = Some(format!("commit-{day}"));
        (format!("{day}.json"), Document::of(records))
    }

    fn of<'a>(trend: &'a Trend, arm: &str) -> &'a Series {
        trend.groups[0].series.iter().find(|series| series.arm == arm).unwrap()
    }

    #[test]
    fn a_step_is_found_where_it_is_whatever_the_order_of_the_files_and_the_days() {
        let mut results: Vec<_> = (1..=12).map(|day| result(day, if day < 8 { 1.4 } else { 1.54 })).collect();
        results.reverse();
        let trend = trend(results, Metric::Cpu, false);
        let full = of(&trend, "full");
        let [change] = &full.changes[..] else { panic!("{:?}", full.changes) };
        assert_eq!((change.at, change.file.as_str(), change.git.as_deref()), (7, "8.json", Some("commit-8")));
        assert!(change.change.low > 0.08 && change.change.high < 0.12, "{change:?}");
        assert_eq!(of(&trend, "placebo").changes, []);
        assert!(trend.groups[0].series.iter().all(|series| series.arm != "none"));
    }

    #[test]
    fn few_results_say_how_many_it_takes() {
        let trend = trend((1..=5).map(|day| result(day, 1.4)).collect(), Metric::Cpu, false);
        let full = of(&trend, "full");
        assert_eq!(full.points.len(), 5);
        assert_eq!(full.reason.as_deref(), Some("a change can be told from 10 results on, and there are 5"));
    }

    #[test]
    fn results_that_do_not_compare_are_not_mixed() {
        let mut results: Vec<_> = (1..=4).map(|day| result(day, 1.4)).collect();
        results[2].1.header.machine.cores = 64;
        let mut records = results[3].1.clone().into_records();
        records.slices.pop();
        results[3].1 = Document::of(records);
        let trend = trend(results, Metric::Cpu, false);
        let sizes: Vec<usize> = trend.groups.iter().map(|group| group.series[0].points.len()).collect();
        assert_eq!(sizes, [2, 1]);
        assert!(trend.groups[0].apart.is_empty());
        assert!(trend.groups[1].apart[0].starts_with("machine.cores: 2"), "{:?}", trend.groups[1].apart);
        assert!(trend.left_out[0].starts_with("4.json is partial"), "{:?}", trend.left_out);
    }

    #[test]
    fn levels_are_followed_on_request_alone() {
        let results = || (1..=10).map(|day| result(day, 1.4)).collect::<Vec<_>>();
        let portable = trend(results(), Metric::ResponseP99, false);
        assert!(of(&portable, "full").reason.as_deref().is_some_and(|reason| reason.contains("--same-machine")));
        let level = trend(results(), Metric::ResponseP99, true);
        assert_eq!(of(&level, "none").points.len(), 10);
        let same = trend(results(), Metric::Allocations, false);
        assert!(of(&same, "none").changes.is_empty() && of(&same, "none").reason.is_none());
    }
}

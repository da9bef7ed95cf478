//! Evidence to verdicts. Pure: the same evidence gives the same verdicts, and a stored result is judged anew when it is read.
//!
//! A figure is the mean of one value per round, with the 90 % interval of Student, each of whose bounds is that of a
//! one-sided test at 5 %: [`stats::below`] and [`stats::within`] rule on it. A count is confirmed where no round has what
//! should not be there, refuted where more than half of them have, and else inconclusive.
//!
//! A claim as a whole is refuted where any of its readings is, confirmed where all are, and else inconclusive, with these
//! additions:
//!
//! - Where two estimators look at one thing and only one of them can decide, that one does. Where they decide differently,
//!   neither does.
//! - Where the claim can be read in several senses, such as a share of one core or of the machine, each has its verdict by
//!   the rule above, and the claim one only where all agree.
//!
//! So that one run confirms what another refutes, a reading must err against odds of 20 to 1 at least once.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::question::{LaneFigure, Per, Quantity, Question, Sighting, Stage, Test};
use super::verdict::{Bound, Claim, Estimator, Figure, Reading, Verdict};
use super::{Asked, as_given, catalogue, digits, own};
use crate::experiment::metric::Metric;
use crate::experiment::service::SPANS;
use crate::experiment::units::grouped;
use crate::record::load;
use crate::record::records::{LaneRecord, Records};
use crate::studies::probe::Finding;
use crate::verdict::analysis::{self, Analysis};
use crate::verdict::stats::{self, Paired, Ruling};

/// Level of each one-sided test.
const ALPHA: f64 = 0.05;
/// Confidence of the intervals that go with it.
const CONFIDENCE: f64 = 1.0 - 2.0 * ALPHA;

/// Judges the claims that the scenario asks about.
pub fn judge(records: &Records, evidence: &Evidence) -> Vec<Claim> {
    let Some(asked) = &records.header.scenario.claims else { return Vec::new() };
    let bench = Bench {
        run: Heard::of(records),
        trials: evidence.trials.iter().map(|(name, records)| (name.as_str(), Heard::of(records))).collect(),
        evidence,
    };
    match asked {
        Asked::Own(claims) => {
            claims.iter().map(|own| bench.claim(&own.id, &own.statement, &[own::question(own, records)])).collect()
        }
        Asked::Published(ids) => catalogue::all()
            .iter()
            .filter(|claim| ids.iter().any(|id| id == claim.id))
            .map(|claim| bench.claim(claim.id, claim.statement, &claim.questions))
            .collect(),
    }
}

/// Records, and what they say.
struct Heard<'a> {
    records: &'a Records,
    analysis: OnceCell<Analysis>,
}

/// What came of a quantity.
enum Found {
    /// One value for each round; of log-ratios, which are shown in percent, where `logs`.
    Rounds { values: Vec<f64>, logs: bool },
    /// How many are wrong, and of how many, in each round.
    Counts(Vec<(f64, f64)>),
}

/// Where everything lies that is looked at.
struct Bench<'a> {
    run: Heard<'a>,
    trials: BTreeMap<&'a str, Heard<'a>>,
    evidence: &'a Evidence,
}

impl<'a> Heard<'a> {
    fn of(records: &'a Records) -> Self {
        Self { records, analysis: OnceCell::new() }
    }

    /// What the records say, unless nothing that they say counts.
    fn analysis(&self) -> Result<&Analysis, String> {
        let analysis = self.analysis.get_or_init(|| analysis::analyse(self.records));
        match analysis.validity.verdict {
            load::Verdict::Invalid => Err(format!(
                "the measurement is invalid: {}",
                analysis.validity.causes.first().map_or("no cause was kept", String::as_str)
            )),
            load::Verdict::Valid | load::Verdict::Degraded => Ok(analysis),
        }
    }

    /// The lanes of an arm in the rounds that count, by their rounds.
    fn lanes(&self, arm: &str) -> Result<BTreeMap<u32, &'a LaneRecord>, String> {
        let analysis = self.analysis()?;
        let of_arm = self.records.lanes.iter().filter(|lane| lane.arm == arm);
        let lanes: BTreeMap<u32, &LaneRecord> =
            of_arm.filter(|lane| !analysis.rounds.void.contains(&lane.round)).map(|lane| (lane.round, lane)).collect();
        if lanes.is_empty() { Err(format!("no lane of {arm} ran to its end")) } else { Ok(lanes) }
    }

    /// What every lane of an arm says.
    fn each<T>(&self, arm: &str, says: impl Fn(&LaneRecord) -> Option<T>) -> Result<Vec<T>, String> {
        let said: Option<Vec<T>> = self.lanes(arm)?.into_values().map(says).collect();
        said.ok_or_else(|| format!("a lane of {arm} has no such figure"))
    }
}

impl<'a> Bench<'a> {
    fn claim(&self, id: &str, statement: &str, questions: &[Question]) -> Claim {
        let readings: Vec<Reading> = questions.iter().map(|question| self.reading(question)).collect();
        let (verdict, decides, reason) = overall(questions, &readings);
        Claim {
            id: id.into(),
            statement: statement.into(),
            figure: readings[decides].figure.clone(),
            verdict,
            reason,
            readings,
        }
    }

    fn reading(&self, question: &Question) -> Reading {
        let found = self.found(&question.quantity);
        let estimator = match &question.quantity {
            Quantity::Cost { .. } | Quantity::Relative { .. } | Quantity::Lanes { .. } => Estimator::EndToEnd,
            Quantity::Calls { .. } | Quantity::Times { .. } | Quantity::Scaling { .. } => Estimator::Isolated,
            Quantity::Count(_) => Estimator::Observed,
        };
        let (limit, bound) = match question.test {
            Test::Below(limit) => (Some(limit), Some(Bound::Below)),
            Test::Above(limit) => (Some(limit), Some(Bound::Above)),
            Test::Within(margin) => (Some(margin), Some(Bound::Within)),
            Test::None => (Some(0.0), Some(Bound::AtMost)),
            Test::Told => (None, None),
        };
        let mut figure = Figure {
            limit,
            bound,
            unit: question.unit.clone(),
            denominator: question.denominator.clone(),
            estimate: None,
            of: None,
            low: None,
            high: None,
            confidence: None,
            estimator: Some(estimator),
            rounds: 0,
        };
        let (verdict, reason) = match found {
            Err(why) => (Verdict::Inconclusive, format!("not measured: {why}")),
            Ok(Found::Counts(rounds)) => counted(&rounds, &mut figure),
            Ok(Found::Rounds { values, logs }) => ruled(&values, logs, question.test, &mut figure),
        };
        Reading {
            subject: question.subject.clone(),
            counts: question.counts,
            figure,
            verdict: (question.test != Test::Told).then_some(verdict),
            reason,
        }
    }

    fn stage(&self, stage: Stage) -> Result<&Heard<'a>, String> {
        match stage {
            Stage::Run => Ok(&self.run),
            Stage::Trial(trial) => {
                let name = trial.name();
                self.trials.get(name).ok_or_else(|| format!("the trial `{name}` was not played"))
            }
        }
    }

    fn found(&self, quantity: &Quantity) -> Result<Found, String> {
        let rounds = |values| Ok(Found::Rounds { values, logs: false });
        match quantity {
            Quantity::Cost { stage, arm, baseline, metric, per } => {
                let heard = self.stage(*stage)?;
                heard.analysis()?;
                let differences = analysis::differences(heard.records, arm, baseline, *metric)?;
                rounds(self.converted(differences.absolute, *per)?)
            }
            Quantity::Relative { arm, baseline, metric } => {
                self.run.analysis()?;
                let differences = analysis::differences(self.run.records, arm, baseline, *metric)?;
                let values = differences.log_ratios.ok_or("a round measured zero, and there is no ratio to that")?;
                Ok(Found::Rounds { values, logs: true })
            }
            Quantity::Lanes { arm, less, figure } => {
                let (more, less) = (self.lane_figures(arm, *figure)?, less.map(|arm| self.lane_figures(arm, *figure)));
                rounds(match less.transpose()? {
                    None => more.into_values().collect(),
                    Some(less) => more.iter().filter_map(|(round, more)| Some(more - less.get(round)?)).collect(),
                })
            }
            Quantity::Calls { more, less, per } => {
                let isolated = self.evidence.isolated.as_ref().ok_or("nothing was measured in isolation")?;
                let values = match less {
                    None => isolated.of(more).map(<[f64]>::to_vec),
                    Some(less) => isolated.difference(more, less),
                };
                let ns = values.ok_or_else(|| format!("`{more}` was not measured in isolation"))?;
                rounds(self.converted(ns.iter().map(|ns| ns / 1e3).collect(), *per)?)
            }
            Quantity::Times { more, less } => rounds(self.times(more, less)?),
            Quantity::Scaling { family } => {
                let isolated = self.evidence.isolated.as_ref().ok_or("nothing was measured in isolation")?;
                let threads = |name: &String| name.strip_prefix(family)?.parse::<usize>().ok();
                let most = isolated.readings.keys().filter_map(threads).max();
                let most = most.filter(|most| *most > 1).ok_or("it takes two cores or more to see it")?;
                rounds(self.times(&format!("{family}{most}"), &format!("{family}1"))?)
            }
            Quantity::Count(sighting) => self.sighting(sighting).map(Found::Counts),
        }
    }

    /// How many times as much one estimator says as another, in each round.
    fn times(&self, more: &str, less: &str) -> Result<Vec<f64>, String> {
        let isolated = self.evidence.isolated.as_ref().ok_or("nothing was measured in isolation")?;
        let of = |name: &str| isolated.of(name).ok_or_else(|| format!("`{name}` was not measured in isolation"));
        let (more, less) = (of(more)?, of(less)?);
        if more.len() != less.len() || less.iter().any(|ns| *ns <= 0.0) {
            return Err("a round lacks one of the two, or measured nothing".into());
        }
        Ok(more.iter().zip(less).map(|(more, less)| more / less).collect())
    }

    /// Microseconds per order, or bytes, turned into what is asked for.
    fn converted(&self, values: Vec<f64>, per: Per) -> Result<Vec<f64>, String> {
        let header = &self.run.records.header;
        // Microseconds per request, times requests per second, are millionths of a core.
        let cores = header.scenario.mean_rate().as_f64() / 1e6;
        let factor = match per {
            Per::Order => 1.0,
            Per::Cores => cores,
            Per::Core => cores * 100.0,
            Per::Machine => cores * 100.0 / header.machine.cores as f64,
            Per::Megabytes => 1e-6,
            Per::Span(arm) => 1.0 / self.spans_per_order(arm)?,
            Per::Service(arm) => {
                let arm = self.run.analysis()?.arms.iter().find(|summary| summary.name == arm);
                let service = arm.and_then(|arm| arm.cpu_us_per_request.total).ok_or("the service was not measured")?;
                100.0 / service
            }
        };
        Ok(values.into_iter().map(|value| value * factor).collect())
    }

    fn spans_per_order(&self, arm: &str) -> Result<f64, String> {
        let lanes = self.run.lanes(arm)?;
        let spans: u64 = lanes.values().filter_map(|lane| lane.account.spans).map(|spans| spans.ended).sum();
        let orders: u64 = lanes.values().map(|lane| lane.orders_completed + lane.orders_uncertain).sum();
        if spans == 0 || orders == 0 { Err(format!("{arm} made no spans")) } else { Ok(spans as f64 / orders as f64) }
    }

    fn lane_figures(&self, arm: &str, figure: LaneFigure) -> Result<BTreeMap<u32, f64>, String> {
        let missing = || format!("a lane of {arm} has no such figure");
        let says = |lane: &LaneRecord| match figure {
            LaneFigure::SpanExportMedian => lane.account.span_exports?.p50_ms,
            LaneFigure::SpanExportP99 => lane.account.span_exports?.p99_ms,
            LaneFigure::LargestExportMedian => lane.account.span_exports?.largest_p50_ms,
            LaneFigure::MetricExportMedian => lane.account.metric_exports?.p50_ms,
            LaneFigure::MetricExportSlowest => lane.account.metric_exports?.p99_ms,
            LaneFigure::MetricExportCpu => self.cpu_ms_per_periodic(arm, lane.round),
            LaneFigure::BytesPerSpan => {
                let received = lane.received.as_ref().filter(|received| received.spans > 0)?;
                Some(received.wire_bytes as f64 / received.spans as f64)
            }
        };
        let lanes = self.run.lanes(arm)?;
        lanes.into_iter().map(|(round, lane)| Ok((round, says(lane).ok_or_else(missing)?))).collect()
    }

    fn cpu_ms_per_periodic(&self, arm: &str, round: u32) -> Option<f64> {
        let slices = self.run.records.slices.iter().filter(|slice| slice.arm == arm && slice.round == round);
        let (us, exports) = slices
            .filter_map(|slice| slice.spent.periodic)
            .fold((0.0, 0), |(us, exports), done| (us + done.cpu_us, exports + done.exports));
        (exports > 0).then(|| us / exports as f64 / 1e3)
    }

    fn finding(&self, probe: &str) -> Result<&Finding, String> {
        let finding = self.evidence.findings.iter().find(|finding| finding.probe == probe);
        finding.ok_or_else(|| format!("the probe `{probe}` was not carried out"))
    }

    fn sighting(&self, sighting: &Sighting) -> Result<Vec<(f64, f64)>, String> {
        let whole = |wrong: u64, of: u64| (wrong as f64, of as f64);
        match *sighting {
            Sighting::LostSpans { arm } => self.run.each(arm, |lane| {
                let (ended, received) = (lane.account.spans?.ended, lane.received.as_ref()?.spans);
                Some(whole(ended.saturating_sub(received), ended))
            }),
            Sighting::WrongTraces { stage, arm } => self.stage(stage)?.each(arm, |lane| {
                let trees = &lane.received.as_ref()?.trees;
                Some(whole(trees.wrong(), trees.traces))
            }),
            Sighting::LeakedTexts { stage, arm } => self.stage(stage)?.each(arm, |lane| {
                let leaked = &lane.received.as_ref()?.leaked;
                Some(whole(leaked.values().filter(|payloads| **payloads > 0).count() as u64, leaked.len() as u64))
            }),
            Sighting::ExtraSpans { stage, arm } => self.stage(stage)?.each(arm, |lane| {
                let orders = lane.orders_completed;
                let extra = lane.received.as_ref()?.spans.saturating_sub(orders * SPANS.len() as u64);
                Some(whole(extra, orders))
            }),
            Sighting::SpansNotOf { stage, arm, service } => self.stage(stage)?.each(arm, |lane| {
                let received = lane.received.as_ref()?;
                let named = received.services.get(service).copied().unwrap_or(0);
                Some(whole(received.spans.saturating_sub(named), received.spans))
            }),
            Sighting::LanesWithout { stage, arm, attribute: (name, value) } => self.stage(stage)?.each(arm, |lane| {
                let resource = &lane.received.as_ref()?.resource;
                Some(whole(u64::from(resource.get(name).is_none_or(|said| said != value)), 1))
            }),
            Sighting::SeriesBeyond { stage, arm, other } => {
                let heard = self.stage(stage)?;
                let series = |lane: &LaneRecord| Some((lane.round, lane.received.as_ref()?.metrics.series));
                let without: BTreeMap<u32, u64> = heard.each(other, series)?.into_iter().collect();
                let with = heard.each(arm, series)?.into_iter();
                Ok(with.filter_map(|(round, n)| Some(whole(n.saturating_sub(*without.get(&round)?), n))).collect())
            }
            Sighting::StrangersHeard => {
                let (strangers, known): (Vec<_>, Vec<_>) =
                    self.evidence.encounters.iter().partition(|one| one.stranger);
                if known.is_empty() || known.iter().any(|one| one.received < one.ended) {
                    return Err("who shows the right certificate was not heard either".into());
                }
                let heard = strangers.iter().filter(|stranger| stranger.received > 0).count();
                Ok(vec![whole(heard as u64, strangers.len() as u64)])
            }
            Sighting::Unpanicked { probe, installs } => {
                match (self.finding(probe), self.evidence.unprobed.get(probe)) {
                    (Ok(_), _) => Ok(vec![whole(installs.into(), installs.into())]),
                    (Err(_), Some(why)) if why.contains("panicked") => Ok(vec![whole(0, installs.into())]),
                    (Err(why), _) => Err(why),
                }
            }
            Sighting::Probed { probe, count } => {
                let finding = self.finding(probe)?;
                let counted = count(&finding.seen.figures);
                Ok(vec![counted.ok_or_else(|| format!("the probe `{probe}` lacks a figure"))?])
            }
        }
    }
}

/// Rules on what was counted in each round.
fn counted(rounds: &[(f64, f64)], figure: &mut Figure) -> (Verdict, String) {
    let (wrong, of) = rounds.iter().fold((0.0, 0.0), |(wrong, of), round| (wrong + round.0, of + round.1));
    figure.rounds = rounds.len() as u32;
    if of <= 0.0 {
        return (Verdict::Inconclusive, "there was nothing to count".into());
    }
    (figure.estimate, figure.of) = (Some(wrong), Some(of));
    let seen = rounds.iter().filter(|(wrong, _)| *wrong > 0.0).count();
    // Both are whole, and far below the largest that there is.
    let share = format!("{} of {} {}", grouped(wrong as u64), grouped(of as u64), figure.unit);
    if seen == 0 {
        (Verdict::Confirmed, share)
    } else if 2 * seen > rounds.len() {
        (Verdict::Refuted, share)
    } else {
        (
            Verdict::Inconclusive,
            format!("{share}, in {seen} of {} rounds; more rounds would show how often", rounds.len()),
        )
    }
}

/// Rules on the values of the rounds.
fn ruled(values: &[f64], logs: bool, test: Test, figure: &mut Figure) -> (Verdict, String) {
    figure.rounds = values.len() as u32;
    let shown = |value: f64| if logs { value.exp_m1() * 100.0 } else { value };
    let scale = |percent: f64| if logs { (percent / 100.0).ln_1p() } else { percent };
    let Some(paired) = Paired::of(values) else {
        return (Verdict::Inconclusive, "an interval takes two rounds or more".into());
    };
    let interval = paired.interval(CONFIDENCE).map(shown);
    figure.estimate = Some(interval.estimate);
    (figure.low, figure.high) = (Some(interval.low), Some(interval.high));
    figure.confidence = Some(CONFIDENCE);
    let opposite = || values.iter().map(|value| -value).collect::<Vec<f64>>();
    let ruling = match test {
        Test::Below(limit) => stats::below(values, scale(limit), ALPHA),
        Test::Above(limit) => stats::below(&opposite(), -scale(limit), ALPHA),
        Test::Within(margin) => stats::within(values, scale(margin), ALPHA),
        Test::Told | Test::None => return (Verdict::Inconclusive, "told for comparison".into()),
    };
    let unit = &figure.unit;
    let limit = match test {
        Test::Within(margin) => format!("±{} {unit}", as_given(margin)),
        _ => format!("{} {unit}", as_given(figure.limit.unwrap_or(f64::NAN))),
    };
    let between = format!("{} … {} {unit}", digits(interval.low), digits(interval.high));
    match ruling {
        Ruling::Confirmed => (Verdict::Confirmed, format!("{between} is {} {limit}", side(test, true))),
        Ruling::Refuted => (Verdict::Refuted, format!("{between} is {} {limit}", side(test, false))),
        Ruling::Inconclusive { rounds_needed } => {
            let needed = match rounds_needed {
                Some(rounds) => format!("some {} rounds would decide", grouped(rounds.into())),
                None => "no number of rounds that is worth its time would decide".into(),
            };
            (Verdict::Inconclusive, format!("{between} does not tell on which side of {limit} it is; {needed}"))
        }
    }
}

/// On which side of the limit a figure is that keeps to it, or does not.
fn side(test: Test, keeps: bool) -> &'static str {
    match (test, keeps) {
        (Test::Within(_), true) => "within",
        (Test::Within(_), false) => "outside",
        (Test::Above(_), true) | (Test::Below(_) | Test::Told | Test::None, false) => "above",
        (Test::Above(_), false) | (Test::Below(_) | Test::Told | Test::None, true) => "below",
    }
}

/// The places of the readings of each subject, in which the estimators are.
type BySubject<'a> = Vec<(&'a str, Vec<usize>)>;

/// The verdict on a whole claim, the place of the reading that decides, and why.
fn overall(questions: &[Question], readings: &[Reading]) -> (Verdict, usize, String) {
    // By sense, then by subject, in the order of the questions: the verdict of each estimator, with its place.
    let mut senses: Vec<(Option<&str>, BySubject<'_>)> = Vec::new();
    for (place, (question, reading)) in questions.iter().zip(readings).enumerate() {
        if !question.counts || reading.verdict.is_none() {
            continue;
        }
        let sense = entry(&mut senses, question.sense.as_deref());
        entry(sense, question.subject.as_str()).push(place);
    }
    let verdict_at = |place: usize| readings[place].verdict.unwrap_or(Verdict::Inconclusive);
    let of_subject = |places: &[usize]| {
        let decided: Vec<usize> = places.iter().copied().filter(|p| verdict_at(*p) != Verdict::Inconclusive).collect();
        match decided.as_slice() {
            [] => (Verdict::Inconclusive, places[0]),
            [first, others @ ..] if others.iter().all(|other| verdict_at(*other) == verdict_at(*first)) => {
                (verdict_at(*first), *first)
            }
            [first, ..] => (Verdict::Inconclusive, *first),
        }
    };
    let of_sense = |subjects: &BySubject<'_>| {
        let found: Vec<(Verdict, usize)> = subjects.iter().map(|(_, places)| of_subject(places)).collect();
        let with = |verdict| found.iter().copied().find(|(found, _)| *found == verdict);
        let tightest = || found.iter().copied().max_by(|a, b| room(&readings[a.1]).total_cmp(&room(&readings[b.1])));
        with(Verdict::Refuted).or_else(|| with(Verdict::Inconclusive)).or_else(tightest)
    };
    let found: Vec<(Option<&str>, (Verdict, usize))> =
        senses.iter().filter_map(|(sense, subjects)| Some((*sense, of_sense(subjects)?))).collect();
    // Where all are kept, the one that is kept most narrowly says most.
    let telling =
        found.iter().rev().max_by(|(_, a), (_, b)| room_kept(readings, *a).total_cmp(&room_kept(readings, *b)));
    let Some(&(_, (verdict, decides))) = telling else {
        return (Verdict::Inconclusive, 0, "nothing of it can be judged".into());
    };
    if found.iter().any(|(_, (other, _))| *other != verdict) {
        let decides = found[0].1.1;
        let said: Vec<String> = found
            .iter()
            .map(|(sense, (verdict, _))| format!("{}: {}", sense.unwrap_or("as a whole"), verdict.as_str()))
            .collect();
        return (Verdict::Inconclusive, decides, format!("it depends on what is meant; {}", said.join(", ")));
    }
    (verdict, decides, why(questions, readings, decides, verdict))
}

/// How near to its limit the figure of a reading is, if it keeps to it.
fn room_kept(readings: &[Reading], (verdict, place): (Verdict, usize)) -> f64 {
    if verdict == Verdict::Confirmed { room(&readings[place]) } else { 0.0 }
}

/// How near to its limit a figure is that keeps to it: 1 is at it.
fn room(reading: &Reading) -> f64 {
    match (reading.figure.estimate, reading.figure.limit, reading.figure.bound) {
        (Some(estimate), Some(limit), Some(Bound::Below)) if limit > 0.0 => estimate / limit,
        (Some(estimate), Some(limit), Some(Bound::Within)) if limit > 0.0 => estimate.abs() / limit,
        (Some(estimate), Some(limit), Some(Bound::Above)) if estimate > 0.0 => limit / estimate,
        _ => 0.0,
    }
}

/// The sentence behind a verdict that all senses share.
fn why(questions: &[Question], readings: &[Reading], decides: usize, verdict: Verdict) -> String {
    let reading = &readings[decides];
    let alike = |place: &usize| questions[*place].counts && readings[*place].verdict.is_some();
    let covered: Vec<usize> = (0..readings.len()).filter(alike).collect();
    let Reading { subject, figure, reason, .. } = reading;
    let first = format!("{subject}, {} ({}): {reason}", figure.denominator, of_estimator(reading));
    let others: Vec<&Reading> =
        covered.iter().filter(|place| **place != decides).map(|place| &readings[*place]).collect();
    let twin = others
        .iter()
        .find(|other| other.subject == reading.subject && other.figure.denominator == reading.figure.denominator);
    let open = |reading: &Reading| reading.verdict == Some(Verdict::Inconclusive);
    match (verdict, twin) {
        (Verdict::Inconclusive, Some(twin)) if !open(twin) => {
            format!("{first}; {} it comes out otherwise: {}", of_estimator(twin), twin.reason)
        }
        (Verdict::Confirmed | Verdict::Refuted, Some(twin)) if open(twin) => {
            format!("{first}; {} it stays open", of_estimator(twin))
        }
        _ => {
            let same = others.iter().filter(|other| other.verdict == Some(verdict)).count();
            let is = if same == 1 { "is" } else { "are" };
            match (verdict, others.len()) {
                (Verdict::Inconclusive, _) | (_, 0) => first,
                (_, 1) if same == 1 => format!("{first}; the other is {} too", verdict.as_str()),
                (_, 1) => format!("{first}; the other is not"),
                (_, n) if n == same => format!("{first}; all {n} others are {} too", verdict.as_str()),
                (_, n) if same == 0 => format!("{first}; none of the {n} others is"),
                (_, n) => format!("{first}; of the {n} others {same} {is} {} too", verdict.as_str()),
            }
        }
    }
}

fn of_estimator(reading: &Reading) -> &'static str {
    reading.figure.estimator.map_or("", Estimator::as_str)
}

/// The value of `key` in a list that keeps its order; an empty one where there was none.
fn entry<K: PartialEq, V: Default>(list: &mut Vec<(K, V)>, key: K) -> &mut V {
    let place = list.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        list.push((key, V::default()));
        list.len() - 1
    });
    &mut list[place].1
}

/// The metrics that are times per request, which can be made a share of a core.
pub(super) fn is_cpu(metric: Metric) -> bool {
    matches!(metric, Metric::Cpu | Metric::CpuRequest | Metric::CpuExporter)
}

#[cfg(test)]
mod tests;

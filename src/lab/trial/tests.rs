//! The order of events, with scripted lanes: no process, no clock.

use super::*;
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Until;
use crate::record::load::ValidityLevel;
use crate::record::records::{Header, Records};
use crate::record::result::Document;
use crate::verdict::analysis::{self, Analysis};
use crate::verdict::fixture;

/// Lanes that do as they are told and note what was asked of them.
#[derive(Default)]
struct Scripted {
    asked: Vec<String>,
    loads: Vec<Load>,
    /// The n-th play of this arm is invalid.
    invalid: Option<(&'static str, usize)>,
    /// The n-th play of this arm finds the lane dead.
    dead: Option<(&'static str, usize)>,
    /// Up to which rate this arm answers within the SLO; every rate of the others.
    capacity: HashMap<&'static str, f64>,
    plays: HashMap<String, usize>,
}

impl Lanes for Scripted {
    async fn launch(&mut self, round: u32, arm: &Arm) -> Result<(), LaneError> {
        self.asked.push(format!("launch {round} {}", arm.name));
        Ok(())
    }

    fn begin(&mut self, arm: &str) {
        self.asked.push(format!("begin {arm}"));
    }

    async fn play(&mut self, arm: &str, load: Load) -> Result<(LoadResult, ResourceUsage), LaneError> {
        let nth = self.plays.entry(arm.into()).or_default();
        *nth += 1;
        self.asked.push(format!("play {arm} {}", humantime::format_duration(load.duration)));
        let overload = self.capacity.get(arm).is_some_and(|capacity| load.rate.as_f64() > *capacity);
        let asked = load.rate.as_f64();
        self.loads.push(load);
        if self.dead == Some((if arm == "full" { "full" } else { "none" }, *nth)) {
            return Err(LaneError { arm: arm.into(), what: "died".into(), stderr: vec!["boom".into()] });
        }
        let mut record = fixture::slice(0, 0, arm, if overload { 2_000.0 } else { 20.0 });
        record.played.rate.asked = Some(asked);
        if self.invalid.is_some_and(|(bad, n)| bad == arm && n == *nth) {
            record.played.validity.find(ValidityLevel::Invalid, "told to".into());
        }
        Ok((record.played, record.spent))
    }

    async fn finish(&mut self, arm: &str) -> Result<Ended, LaneError> {
        self.asked.push(format!("finish {arm}"));
        Ok(Ended { account: Account::default(), received: Some(Received::default()), tool: None })
    }
}

async fn played(rounds: u32, lanes: &mut Scripted) -> (Result<(), TrialError>, Records) {
    played_as(fixture::header("full", rounds), lanes).await
}

/// A trial that searches for capacities within p99=10ms.
async fn searched(rounds: u32, lanes: &mut Scripted) -> (Result<(), TrialError>, Records) {
    played_as(fixture::search(rounds, |_, _| 1e5).header, lanes).await
}

async fn played_as(header: Header, lanes: &mut Scripted) -> (Result<(), TrialError>, Records) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    let mut log = RecordLog::create(&path, header).unwrap();
    let outcome = run(lanes, &mut log, &mut |_| {}).await;
    // What is on disk is what is in memory, at whatever point the trial ended.
    assert_eq!(Records::read(&path).unwrap(), *log.records());
    (outcome, log.into_records())
}

#[tokio::test]
async fn a_round_launches_and_warms_every_arm_then_plays_the_plan_then_ends_every_lane() {
    let mut lanes = Scripted::default();
    let (outcome, records) = played(2, &mut lanes).await;
    outcome.unwrap();
    let plan = &records.header.plan;
    let mut expected = Vec::new();
    for (round, order) in plan.order.iter().enumerate() {
        // Each pass of slices meets every arm once, the first pass in the order of launch.
        for arm in &order[..3] {
            expected.push(format!("launch {round} {arm}"));
            expected.push(format!("play {arm} 500ms"));
        }
        for (index, arm) in order.iter().enumerate() {
            // The first of its slices.
            expected.extend((index < 3).then(|| format!("begin {arm}")));
            expected.push(format!("play {arm} 1s"));
        }
        expected.extend(order[..3].iter().map(|arm| format!("finish {arm}")));
    }
    assert_eq!(lanes.asked, expected);
    assert!(records.is_whole());
    assert_eq!(records.lanes.len(), 6);
}

#[tokio::test]
async fn warm_up_is_excluded_from_the_records_and_counted_in_the_ledger() {
    let (_, records) = played(1, &mut Scripted::default()).await;
    assert_eq!(records.slices.len(), 6);
    // One warm-up and two slices.
    assert!(records.lanes.iter().all(|lane| lane.orders_completed == 3 * fixture::REQUESTS));
}

#[tokio::test]
async fn no_request_of_a_lane_has_the_number_of_another() {
    let mut lanes = Scripted::default();
    played(1, &mut lanes).await.0.unwrap();
    for arm in ["none", "placebo", "full"] {
        let asked = lanes.asked.iter().filter(|asked| asked.starts_with("play"));
        let first: Vec<u64> =
            asked.zip(&lanes.loads).filter(|(asked, _)| asked.contains(arm)).map(|(_, load)| load.first_seq).collect();
        assert_eq!(first, [0, fixture::REQUESTS, 2 * fixture::REQUESTS]);
    }
}

#[tokio::test]
async fn a_lane_that_dies_ends_the_trial_and_keeps_what_was_recorded() {
    let mut lanes = Scripted { dead: Some(("full", 5)), ..Scripted::default() };
    let (outcome, records) = played(4, &mut lanes).await;
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("arm `full` died") && message.contains("| boom"), "{message}");
    // Its fifth play is the second round's first slice of it.
    assert!((6..12).contains(&records.slices.len()) && records.lanes.len() == 3, "{}", records.slices.len());
}

#[tokio::test]
async fn a_trial_that_can_no_longer_be_valid_is_not_played_on() {
    // One void round of 8 is more than a tenth.
    let mut lanes = Scripted { invalid: Some(("full", 2)), ..Scripted::default() };
    let (outcome, records) = played(8, &mut lanes).await;
    outcome.unwrap();
    assert!(records.slices.len() <= 6 && !records.is_whole());
    assert_eq!(records.slices.last().unwrap().played.validity.level, ValidityLevel::Invalid);
    // One of 12 is not.
    let mut lanes = Scripted { invalid: Some(("full", 2)), ..Scripted::default() };
    let (_, records) = played(12, &mut lanes).await;
    assert!(records.is_whole());
}

/// The capacities of all arms, found by the analysis of what was recorded.
fn capacities(analysis: &Analysis) -> Vec<(&str, f64)> {
    analysis.arms.iter().map(|arm| (arm.name.as_str(), arm.capacity_rps.unwrap())).collect()
}

#[tokio::test]
async fn searches_take_turns_and_what_is_recorded_says_what_they_found() {
    let truth = [("none", 35_000.0), ("placebo", 35_000.0), ("full", 21_000.0)];
    let mut lanes = Scripted { capacity: truth.into(), ..Scripted::default() };
    let (outcome, records) = searched(3, &mut lanes).await;
    outcome.unwrap();
    assert!(records.is_whole());
    let analysis = analysis::analyse(&records);
    for ((arm, found), (_, truth)) in capacities(&analysis).into_iter().zip(truth) {
        assert!(found <= truth && truth < found * 1.03, "{arm}: {found} of {truth}");
    }
    assert!(analysis.deltas.iter().all(|delta| delta.metric == Metric::Capacity && delta.rounds == 3));
    for round in 0..3 {
        let order = &records.header.plan.order[round as usize];
        let steps: Vec<&SliceRecord> = records.slices.iter().filter(|slice| slice.round == round).collect();
        // While all of them search, each turn has a step of every arm, in the plan's order.
        for (index, step) in steps[..9].iter().enumerate() {
            assert_eq!((&step.arm, step.slice), (&order[index % 3], index as u32 / 3));
        }
        let of_full = steps.iter().filter(|step| step.arm == "full").count();
        // The first search is from the rate asked for; those that know an answer are short.
        assert!(if round == 0 { (8..=12).contains(&of_full) } else { of_full <= 7 }, "round {round}: {of_full}");
    }
}

#[tokio::test]
async fn no_two_searches_start_at_one_rate() {
    let mut lanes =
        Scripted { capacity: [("none", 35e3), ("placebo", 35e3), ("full", 35e3)].into(), ..Scripted::default() };
    let (_, records) = searched(3, &mut lanes).await;
    let mut starts: Vec<f64> =
        records.slices.iter().filter(|slice| slice.slice == 0).map(|slice| slice.played.rate.asked.unwrap()).collect();
    starts.sort_by(f64::total_cmp);
    starts.dedup();
    assert_eq!(starts.len(), 9, "{starts:?}");
}

#[tokio::test]
async fn an_invalid_step_is_one_that_failed_and_voids_no_round() {
    let mut lanes = Scripted { invalid: Some(("full", 6)), ..Scripted::default() };
    lanes.capacity = [("none", 35e3), ("placebo", 35e3), ("full", 21e3)].into();
    let (outcome, records) = searched(2, &mut lanes).await;
    outcome.unwrap();
    assert_eq!(analysis::analyse(&records).validity.level, ValidityLevel::Valid);
    assert!(records.is_whole());
}

#[tokio::test]
async fn a_round_ends_when_a_search_cannot_decide_and_the_trial_when_none_of_two_rounds_could() {
    // Whatever the rate, `full` does not hold the SLO.
    let mut lanes =
        Scripted { capacity: [("none", 35e3), ("placebo", 35e3), ("full", 0.0)].into(), ..Scripted::default() };
    let (outcome, records) = searched(5, &mut lanes).await;
    outcome.unwrap();
    assert_eq!(records.lanes.len(), 2 * 3);
    let analysis = analysis::analyse(&records);
    assert_eq!((analysis.rounds.void, analysis.validity.level), (vec![0, 1], ValidityLevel::Invalid));
    assert!(analysis.validity.causes[0].starts_with("full: the SLO is not held even at"), "{:?}", analysis.validity);
}

#[tokio::test]
async fn a_trial_that_is_taken_up_again_plays_the_rest_of_the_same_plan() {
    let (_, whole) = played(4, &mut Scripted::default()).await;
    let mut dies = Scripted { dead: Some(("full", 5)), ..Scripted::default() };
    let (_, cut) = played(4, &mut dies).await;
    assert!(!cut.is_whole());

    let folder = tempfile::tempdir().unwrap();
    let mut log = RecordLog::resume(&folder.path().join("records.jsonl"), cut.of_whole_rounds()).unwrap();
    let mut lanes = Scripted::default();
    run(&mut lanes, &mut log, &mut |_| {}).await.unwrap();

    assert!(lanes.asked.iter().all(|asked| !asked.starts_with("launch 0")), "{:?}", lanes.asked);
    let played = |records: &Records| -> Vec<(u32, u32, String)> {
        records.slices.iter().map(|slice| (slice.round, slice.slice, slice.arm.clone())).collect()
    };
    assert_eq!(played(log.records()), played(&whole));
    assert!(log.records().is_whole());
}

#[tokio::test]
async fn a_trial_ends_at_the_look_that_decides_it() {
    let mut header = fixture::header("full", 30);
    header.scenario.until = Some(Until::HalfWidth(0.01));
    // Every slice costs the same, so the intervals have no width at all.
    let (outcome, records) = played_as(header, &mut Scripted::default()).await;
    outcome.unwrap();
    assert_eq!(records.rounds_ended(), 10);
    assert!(!Document::of(records).partial, "a run that came to its end is whole");
}

//! The order of events, with scripted lanes: no process, no clock.

use super::*;
use crate::fixture;
use crate::record::Records;

/// Lanes that do as they are told and note what was asked of them.
#[derive(Default)]
struct Scripted {
    asked: Vec<String>,
    loads: Vec<Load>,
    /// The n-th play of this arm is invalid.
    invalid: Option<(&'static str, usize)>,
    /// The n-th play of this arm finds the lane dead.
    dead: Option<(&'static str, usize)>,
    plays: HashMap<String, usize>,
}

impl Lanes for Scripted {
    async fn launch(&mut self, round: u32, arm: &Arm) -> Result<(), LaneError> {
        self.asked.push(format!("launch {round} {}", arm.name));
        Ok(())
    }

    async fn play(&mut self, arm: &str, load: Load) -> Result<(Played, Spent), LaneError> {
        let nth = self.plays.entry(arm.into()).or_default();
        *nth += 1;
        self.asked.push(format!("play {arm} {}", humantime::format_duration(load.duration)));
        self.loads.push(load);
        if self.dead == Some((if arm == "full" { "full" } else { "none" }, *nth)) {
            return Err(LaneError { arm: arm.into(), what: "died".into(), stderr: vec!["boom".into()] });
        }
        let mut record = fixture::slice(0, 0, arm, 20.0);
        if self.invalid.is_some_and(|(bad, n)| bad == arm && n == *nth) {
            record.played.validity.find(Verdict::Invalid, "told to".into());
        }
        Ok((record.played, record.spent))
    }

    async fn finish(&mut self, arm: &str) -> Result<(Account, Option<Received>), LaneError> {
        self.asked.push(format!("finish {arm}"));
        Ok((Account::default(), Some(Received::default())))
    }
}

async fn played(rounds: u32, lanes: &mut Scripted) -> (Result<(), TrialError>, Records) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    let mut log = RecordLog::create(&path, fixture::header("full", rounds)).unwrap();
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
        expected.extend(order.iter().map(|arm| format!("play {arm} 1s")));
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
    assert_eq!(records.slices.last().unwrap().played.validity.verdict, Verdict::Invalid);
    // One of 12 is not.
    let mut lanes = Scripted { invalid: Some(("full", 2)), ..Scripted::default() };
    let (_, records) = played(12, &mut lanes).await;
    assert!(records.is_whole());
}

//! When a run may end before its last round, and what that costs its intervals.
//!
//! Whoever looks after every round and stops at the first difference finds one in a fifth of all runs that have none. So the
//! looks are few, planned with the run, and each at a stricter level; and a run that stops once its intervals are narrow
//! enough has them somewhat wider.

use super::delta::headline;
use super::{CONFIDENCE, analyse};
use crate::experiment::scenario::{Role, Scenario, Until};
use crate::record::records::Records;
use crate::record::result::Delta;
use crate::verdict::stats::{Looks, PRECISION_CONFIDENCE, PRECISION_ROUNDS_MIN};

/// Confidence of the intervals of a run that has come to so many valid rounds. Of a run that is looked at, that of its latest
/// look, or before the first of the first.
pub(super) fn confidence(scenario: &Scenario, rounds: u32) -> f64 {
    match scenario.until {
        None => CONFIDENCE,
        Some(Until::HalfWidth(_)) => PRECISION_CONFIDENCE,
        Some(Until::Resolved) => {
            let looks = looks(scenario);
            let passed = looks.rounds().take_while(|look| *look <= rounds).last().or_else(|| looks.rounds().next());
            passed.and_then(|look| looks.level(look)).map_or(CONFIDENCE, |level| 1.0 - level)
        }
    }
}

fn looks(scenario: &Scenario) -> Looks {
    Looks::two_sided(scenario.rounds, 1.0 - CONFIDENCE)
}

/// Whether the scenario's stopping condition is met, so that the rounds that are left need not be played.
pub fn is_decided(records: &Records) -> bool {
    let scenario = &records.header.scenario;
    let Some(until) = scenario.until else { return false };
    let analysis = analyse(records);
    if analysis.validity.is_invalid() {
        return false;
    }
    let rounds = analysis.rounds.complete - analysis.rounds.void.len() as u32;
    let mut deltas = analysis.deltas.iter().filter(|delta| delta.metric == headline(scenario));
    match until {
        Until::Resolved => {
            let treated = |delta: &&Delta| role(scenario, &delta.arm) == Some(Role::Treatment);
            looks(scenario).level(rounds).is_some() && deltas.filter(treated).all(|delta| delta.resolved)
        }
        Until::HalfWidth(wanted) => {
            let narrow = |delta: &Delta| delta.relative.is_some_and(|relative| relative.half_width() <= wanted);
            rounds >= PRECISION_ROUNDS_MIN && deltas.all(narrow)
        }
    }
}

fn role(scenario: &Scenario, arm: &str) -> Option<Role> {
    scenario.arms.iter().find(|other| other.name == arm).map(|arm| arm.role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fixture;

    /// A run of at most `planned` rounds of which `played` were played; full costs so much more.
    fn run(until: Until, planned: u32, played: u32, more: f64) -> Records {
        let cost = |arm: &str, round| fixture::noise(arm, round) * if arm == "full" { 20.0 * more } else { 20.0 };
        let mut records = fixture::run(planned, cost);
        records.header.scenario.until = Some(until);
        records.slices.retain(|slice| slice.round < played);
        records.lanes.retain(|lane| lane.round < played);
        records
    }

    #[test]
    fn a_clear_difference_ends_the_run_at_a_look_and_at_no_other_round() {
        let decided = |played: &u32| is_decided(&run(Until::Resolved, 30, *played, 1.5));
        let ends: Vec<u32> = [2, 7, 8, 9, 11, 12, 13].into_iter().filter(decided).collect();
        assert_eq!(ends, [8, 12]);
        assert!([8, 12].iter().all(|played| !is_decided(&run(Until::Resolved, 30, *played, 1.0))));
    }

    #[test]
    fn each_look_has_its_own_stricter_level_and_the_last_is_near_the_nominal() {
        let scenario = run(Until::Resolved, 30, 1, 1.0).header.scenario;
        let levels: Vec<f64> = [3, 8, 11, 12, 30].map(|rounds| 1.0 - confidence(&scenario, rounds)).into();
        assert!(levels[0] == levels[1] && levels[1] == levels[2], "{levels:?}");
        assert!(levels[2] < levels[3] && levels[3] < levels[4] && levels[4] < 0.05, "{levels:?}");
        assert!(levels[1] < 0.001 && levels[4] > 0.03, "{levels:?}");
    }

    #[test]
    fn a_narrow_interval_ends_the_run_when_there_are_rounds_enough() {
        let decided = |wanted, played| is_decided(&run(Until::HalfWidth(wanted), 30, played, 1.2));
        assert!(decided(0.02, 10) && !decided(0.02, 9) && !decided(0.000_1, 12));
    }

    #[test]
    fn a_run_of_fixed_length_is_never_decided_early() {
        let mut records = run(Until::Resolved, 30, 12, 1.5);
        records.header.scenario.until = None;
        assert!(!is_decided(&records));
    }
}

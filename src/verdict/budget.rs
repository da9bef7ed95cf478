//! How many rounds and slices a given time is best spent on.
//!
//! Two launches of one program differ, and two slices of one launch do. More slices per launch make the second kind of noise
//! smaller and leave the first; a launch, with its warm-up, costs time of its own. What is best depends on how the two noises
//! and the two costs compare, and a short pilot run of the baseline shows all four. Source of the reasoning: Kalibera and
//! Jones (2013), "Rigorous benchmarking in reasonable time", ISMM, § 6.

use std::time::Duration;

use crate::experiment::scenario::{Role, Scenario};
use crate::record::records::Records;
use crate::verdict::analysis::{CONFIDENCE, cpu_of_slices};
use crate::verdict::stats::Paired;

/// Launches of the pilot, and slices in each. Few: their time is taken from the run's own.
const PILOT: (u32, u32) = (4, 4);
/// Fewest rounds worth playing: with fewer the cross-check by signs has no say.
const ROUNDS_MIN: u32 = 6;
/// Most slices of an arm in a round. Beyond, drifts within a round are no longer shared by its arms.
const SLICES_MAX: u32 = 16;
/// Noise between launches that is assumed at least, relative: four launches that happen to agree prove little. Two launches
/// of one program were seen to differ by about a percent.
const LAUNCH_NOISE_MIN: f64 = 0.005;

/// Noise and costs seen in a pilot run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    /// Standard deviation of CPU per request between launches, relative.
    pub launch_noise: f64,
    /// The same between slices of one launch.
    pub slice_noise: f64,
    /// Time of a launch beside its slices.
    pub launch: Duration,
    /// Time of a slice.
    pub slice: Duration,
}

/// How the time is spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allotment {
    /// Fresh launches of every arm.
    pub rounds: u32,
    /// Slices of each arm in each round.
    pub slices: u32,
    /// Half the width that an interval of a difference is expected to have, relative to the baseline.
    pub half_width: f64,
}

impl Allotment {
    /// The choice, in a sentence.
    pub fn in_words(&self) -> String {
        let Self { rounds, slices, half_width } = self;
        format!(
            "within the budget: {rounds} rounds of {slices} slices, for intervals of ±{:.1} % or so of CPU per request",
            half_width * 100.0
        )
    }
}

/// The scenario of the pilot: the baseline alone.
pub fn pilot(scenario: &Scenario) -> Scenario {
    let arms = scenario.arms.iter().filter(|arm| arm.role == Role::Baseline).take(1).cloned().collect();
    let (rounds, slices) = PILOT;
    Scenario { arms, rounds, slices, gates: Vec::new(), ..scenario.clone() }
}

impl Observed {
    /// From the records of a pilot that took so long in all; `None` where they are too few.
    pub fn of(records: &Records, took: Duration) -> Option<Self> {
        let lanes: Vec<Vec<f64>> =
            cpu_of_slices(records).iter().map(|slices| slices.iter().map(|us| us.ln()).collect()).collect();
        let per_lane = lanes.iter().map(Vec::len).min()?;
        let means: Vec<f64> = lanes.iter().map(|slices| mean(slices)).collect();
        let within = mean(&lanes.iter().map(|slices| variance(slices)).collect::<Option<Vec<f64>>>()?);
        // The mean of a lane holds the noise of its slices too.
        let between = variance(&means)? - within / per_lane as f64;
        let played = Duration::from_secs_f64(records.slices.iter().map(|slice| slice.spent.wall_us).sum::<f64>() / 1e6);
        let launches = lanes.len() as u32;
        Some(Self {
            launch_noise: between.max(0.0).sqrt().max(LAUNCH_NOISE_MIN),
            slice_noise: within.sqrt(),
            launch: took.saturating_sub(played) / launches,
            slice: played / records.slices.len().max(1) as u32,
        })
    }

    /// Time of a round.
    fn round(&self, arms: usize, slices: u32) -> Duration {
        (self.launch + self.slice * slices) * arms as u32
    }

    /// Half the width of the interval expected of a difference after so many rounds.
    fn half_width(&self, rounds: u32, slices: u32) -> f64 {
        let of_an_arm = self.launch_noise.powi(2) + self.slice_noise.powi(2) / f64::from(slices);
        Paired::expected_half_width(rounds as usize, (2.0 * of_an_arm).sqrt(), CONFIDENCE)
    }
}

/// The rounds and slices that give the narrowest interval within `time`; `None` where it is too short for any.
pub fn allot(observed: &Observed, arms: usize, time: Duration) -> Option<Allotment> {
    let choice = |slices: u32| {
        let rounds = (time.as_secs_f64() / observed.round(arms, slices).as_secs_f64()) as u32;
        (rounds >= ROUNDS_MIN).then(|| Allotment { rounds, slices, half_width: observed.half_width(rounds, slices) })
    };
    (1..=SLICES_MAX).filter_map(choice).min_by(|a, b| a.half_width.total_cmp(&b.half_width))
}

/// The shortest time that is enough, in whole seconds.
pub fn least(observed: &Observed, arms: usize) -> Duration {
    Duration::from_secs((observed.round(arms, 1) * ROUNDS_MIN).as_secs() + 1)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> Option<f64> {
    let paired = Paired::of(values)?;
    Some(paired.standard_error().powi(2) * paired.n() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fixture;

    fn observed(launch_noise: f64, slice_noise: f64) -> Observed {
        Observed { launch_noise, slice_noise, launch: Duration::from_millis(700), slice: Duration::from_secs(1) }
    }

    #[test]
    fn the_choice_is_near_the_optimum_that_theory_names() {
        // m = √(σ_slice² · c_launch / (σ_launch² · c_slice)), Kalibera and Jones (2013), § 6.
        for (launch_noise, slice_noise) in [(0.01, 0.03), (0.005, 0.04), (0.02, 0.02)] {
            let seen = observed(launch_noise, slice_noise);
            let theory = (slice_noise / launch_noise) * (0.7_f64 / 1.0).sqrt();
            let chosen = allot(&seen, 3, Duration::from_hours(1)).unwrap();
            assert!((f64::from(chosen.slices) - theory).abs() <= 1.0, "{} for {theory}", chosen.slices);
        }
    }

    #[test]
    fn the_time_is_used_and_not_exceeded() {
        let seen = observed(0.01, 0.03);
        for seconds in [60, 120, 600] {
            let time = Duration::from_secs(seconds);
            let chosen = allot(&seen, 4, time).unwrap();
            let used = seen.round(4, chosen.slices) * chosen.rounds;
            assert!(used <= time && used + seen.round(4, chosen.slices) > time, "{chosen:?}");
        }
        assert_eq!(allot(&seen, 4, least(&seen, 4).saturating_sub(Duration::from_secs(2))), None);
        assert!(allot(&seen, 4, least(&seen, 4)).is_some());
    }

    #[test]
    fn more_noise_between_launches_asks_for_more_launches() {
        let rounds = |launch_noise| allot(&observed(launch_noise, 0.03), 3, Duration::from_mins(5)).unwrap().rounds;
        assert!(rounds(0.03) > rounds(0.005));
    }

    #[test]
    fn noise_between_launches_is_separated_from_noise_between_slices() {
        let mut records = fixture::run(4, |_, round| 20.0 * (1.0 + 0.1 * f64::from(round % 2)));
        records.header.scenario = pilot(&records.header.scenario);
        records.slices.retain(|slice| slice.arm == "none");
        records.lanes.retain(|lane| lane.arm == "none");
        let launches_differ = Observed::of(&records, Duration::from_secs(12)).unwrap();
        assert!(launches_differ.slice_noise < 1e-6 && (launches_differ.launch_noise - 0.055).abs() < 0.001);
        for slice in &mut records.slices {
            *slice = fixture::slice(slice.round, slice.slice, "none", 20.0 * (1.0 + 0.1 * f64::from(slice.slice)));
        }
        let slices_differ = Observed::of(&records, Duration::from_secs(12)).unwrap();
        assert!(slices_differ.slice_noise > 0.06 && slices_differ.launch_noise == LAUNCH_NOISE_MIN);
        // 8 slices of a second, and 12 s in all for 4 launches.
        assert_eq!((slices_differ.launch, slices_differ.slice), (Duration::from_secs(1), Duration::from_secs(1)));
    }
}

//! Hand-made records for tests, with the searches for a capacity.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::experiment::plan::Plan;
use crate::experiment::slo::Slo;
use crate::record::records::Records;
use crate::verdict::capacity::{Next, Search, Step, StepOutcome, near};

pub(crate) use crate::record::fixture::*;

/// A search for the capacity of `full` within p99=10ms: its real steps, against services that hold what `capacity` says of
/// arm and round; at their capacity each request costs 20 µs.
pub(crate) fn search(rounds: u32, capacity: impl Fn(&str, u32) -> f64) -> Records {
    let mut header = header("full", rounds);
    let slo: Slo = "p99=10ms".parse().unwrap();
    header.scenario.slo = Some(slo.clone());
    header.scenario.slices = 1;
    header.plan = Plan::new(&header.scenario.arm_names(), rounds, 1, 7);
    let (mut slices, mut lanes) = (Vec::new(), Vec::new());
    for (round, order) in (0..rounds).zip(&header.plan.order) {
        for (place, arm) in (0..).zip(order) {
            let mut search =
                Search::from(near(header.scenario.rps, u64::from(round) * 100 + place), header.scenario.slice);
            for step in 0.. {
                let Next::Try(rate) = search.next() else { break };
                let held = rate.as_f64() <= capacity(arm, round);
                let mut record = slice(round, step, arm, if held { 20.0 } else { 2_000.0 });
                record.played.rate.asked = Some(rate.as_f64());
                search.note(Step { rate, outcome: StepOutcome::of(&record.played, &slo) });
                slices.push(record);
            }
        }
        lanes.extend(header.scenario.arms.iter().map(|arm| lane(round, &arm.name, arm.name == "full")));
    }
    Records { header, slices, lanes }
}

/// Standard normal, by Box and Muller (1958).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

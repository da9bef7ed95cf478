//! Scenario and seed to the order of play: rounds, and the slices within each. Pure.
//!
//! The order within a round follows a row of a Williams design, with arms and rows shuffled by the seed: over a full
//! design each arm stands equally often in every place and after every other arm, so neither a drift within rounds nor
//! a carry-over from the previous slice favours one of them. Source: E. J. Williams (1949), "Experimental designs
//! balanced for the estimation of residual effects of treatments", Aust. J. Sci. Res. A 2, 149–168.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Which arm plays when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// Seeds this order and the arrivals of every slice.
    pub seed: u64,
    /// Fresh launches of every arm.
    pub rounds: u32,
    /// Slices of each arm in each round; of a search, as many as it takes.
    pub slices: u32,
    /// For each round the names of the arms in the order their slices are played.
    pub order: Vec<Vec<String>>,
}

impl Plan {
    /// The plan for `arms`; the same arguments give the same plan.
    pub fn new(arms: &[String], rounds: u32, slices: u32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut arms = arms.to_vec();
        arms.shuffle(&mut rng);
        let mut deck: Vec<Vec<usize>> = Vec::new();
        let mut next_row = || {
            if deck.is_empty() {
                deck = williams(arms.len());
                deck.shuffle(&mut rng);
            }
            deck.pop().unwrap_or_default()
        };
        let order =
            (0..rounds).map(|_| (0..slices).flat_map(|_| next_row()).map(|arm| arms[arm].clone()).collect()).collect();
        Self { seed, rounds, slices, order }
    }

    /// The seed of what is random within one slice: the same for every arm, so that all meet the same arrivals.
    pub fn slice_seed(&self, round: u32, slice: u32) -> u64 {
        self.seed ^ (u64::from(round) << 32 | u64::from(slice)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The rows of a Williams design for `k` treatments: `k` rows when `k` is even, `2k` when it is odd.
fn williams(k: usize) -> Vec<Vec<usize>> {
    // First row 0, 1, k-1, 2, k-2, …: successive differences are all distinct.
    let first: Vec<usize> = (0..k).map(|i| if i % 2 == 1 { i.div_ceil(2) } else { (k - i / 2) % k }).collect();
    let mut rows: Vec<Vec<usize>> = (0..k).map(|shift| first.iter().map(|arm| (arm + shift) % k).collect()).collect();
    if !k.is_multiple_of(2) {
        let mirrored: Vec<Vec<usize>> = rows.iter().map(|row| row.iter().rev().copied().collect()).collect();
        rows.extend(mirrored);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn names(k: usize) -> Vec<String> {
        (0..k).map(|i| format!("arm-{i}")).collect()
    }

    #[test]
    fn a_williams_design_balances_positions_and_predecessors() {
        for k in 2..=9 {
            let rows = williams(k);
            let mut places: HashMap<(usize, usize), usize> = HashMap::new();
            let mut pairs: HashMap<(usize, usize), usize> = HashMap::new();
            for row in &rows {
                for (place, &arm) in row.iter().enumerate() {
                    *places.entry((place, arm)).or_default() += 1;
                }
                for pair in row.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_default() += 1;
                }
            }
            let each = rows.len() / k;
            assert!(places.len() == k * k && places.values().all(|&n| n == each), "k={k}");
            assert!(pairs.len() == k * (k - 1) && pairs.values().all(|&n| n == each), "k={k}");
        }
    }

    #[test]
    fn every_arm_plays_its_slices_in_every_round() {
        for k in 2..=5 {
            let plan = Plan::new(&names(k), 8, 3, 42);
            assert_eq!(plan.order.len(), 8);
            for round in &plan.order {
                for arm in names(k) {
                    assert_eq!(round.iter().filter(|a| **a == arm).count(), 3);
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        assert_eq!(Plan::new(&names(3), 8, 2, 1), Plan::new(&names(3), 8, 2, 1));
        assert_ne!(Plan::new(&names(3), 8, 2, 1).order, Plan::new(&names(3), 8, 2, 2).order);
    }

    #[test]
    fn slices_of_one_pass_share_their_arrivals_and_no_two_passes_do() {
        let plan = Plan::new(&names(2), 4, 4, 9);
        let mut seeds: Vec<u64> =
            (0..4).flat_map(|r| (0..4).map(move |s| (r, s))).map(|(r, s)| plan.slice_seed(r, s)).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 16);
    }
}

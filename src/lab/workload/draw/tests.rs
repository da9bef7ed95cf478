use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::*;
use proptest::prelude::*;

const DRAWS: u64 = 100_000;

/// How likely chance alone departs from `expected` as far as `observed` does, by the chi-square test. Classes of which
/// fewer than five are expected are put together.
fn chi_square_p(observed: &[u64], expected: &[f64]) -> f64 {
    let (mut statistic, mut classes) = (0.0, 0.0);
    let (mut seen, mut due) = (0.0, 0.0);
    for (o, e) in observed.iter().zip(expected) {
        (seen, due) = (seen + *o as f64, due + e);
        if due >= 5.0 {
            statistic += (seen - due) * (seen - due) / due;
            classes += 1.0;
            (seen, due) = (0.0, 0.0);
        }
    }
    ChiSquared::new(classes - 1.0).unwrap().sf(statistic)
}

/// How often each user orders.
fn orders(users: u32, ids: &str, seed: u64) -> Vec<u64> {
    let drawn = Users::new(NonZeroU32::new(users).unwrap(), ids.parse().unwrap());
    let mut counts = vec![0; users as usize];
    for seq in 0..DRAWS {
        counts[drawn.draw(seq, seed) as usize] += 1;
    }
    counts
}

/// The Zipf distribution as its definition has it.
fn zipf(users: u32, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=users).map(|rank| f64::from(rank).powf(-exponent)).collect();
    let whole: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / whole * DRAWS as f64).collect()
}

#[test]
fn zipf_draws_fit_their_exponent_and_no_other() {
    for (users, exponent) in [(2, 1.0), (50, 2.0), (1_000, 1.1), (1_000, 0.5), (1_000, 1.0), (100_000, 1.1), (300, 4.0)]
    {
        for seed in 1..=5 {
            let counts = orders(users, &format!("zipf:{exponent}"), seed);
            let p = chi_square_p(&counts, &zipf(users, exponent));
            assert!(p > 1e-4, "p is {p} for {users} users, exponent {exponent}, seed {seed}");
            let wrong = chi_square_p(&counts, &zipf(users, exponent + 0.1));
            assert!(wrong < 1e-4, "an exponent of {exponent} + 0.1 passes with p = {wrong} for {users} users");
        }
    }
}

#[test]
fn uniform_draws_are_even_but_not_too_even() {
    for seed in 1..=5 {
        let p = chi_square_p(&orders(1_000, "uniform", seed), &[DRAWS as f64 / 1_000.0; 1_000]);
        assert!((1e-4..1.0 - 1e-4).contains(&p), "p is {p} for seed {seed}");
    }
}

#[test]
fn users_in_turn_order_equally_often() {
    assert_eq!(orders(1_000, "in-turn", 1), [DRAWS / 1_000; 1_000]);
}

#[test]
fn a_single_user_is_always_drawn() {
    for ids in ["in-turn", "uniform", "zipf:0.001", "zipf:1", "zipf:10"] {
        assert_eq!(orders(1, ids, 1), [DRAWS]);
    }
}

proptest! {
    #[test]
    fn a_deck_deals_every_card_once(size in 1..2_000_u64, key: u64) {
        let mut dealt: Vec<u64> = (0..size).map(|place| shuffled(place, size, key)).collect();
        dealt.sort_unstable();
        prop_assert_eq!(dealt, (0..size).collect::<Vec<_>>());
    }

    #[test]
    fn each_kind_comes_exactly_as_often_as_its_weight_says(
        weights in prop::collection::vec(0..30_u64, 1..8).prop_filter("some weight", |w| w.iter().any(|w| *w > 0)),
        scale in 1..1_000_u64, pass in 0..1_000_000_u64, seed: u64,
    ) {
        let divisor = weights.iter().copied().fold(0, gcd);
        let exact: Vec<u64> = weights.iter().map(|weight| weight / divisor).collect();
        let size: u64 = exact.iter().sum();
        let deck = Deck::new(&weights.iter().map(|weight| weight * scale).collect::<Vec<_>>());
        let mut counts = vec![0; weights.len()];
        for seq in pass * size..(pass + 1) * size {
            counts[deck.draw(seq, seed)] += 1;
        }
        prop_assert_eq!(counts, exact);
    }
}

/// A card that liked a place in the deck would meet the same users each time, or the same connection.
#[test]
fn every_card_is_as_likely_in_every_place_and_after_every_other() {
    for size in [2, 3, 10, 16, 20, 100] {
        let mut weights = vec![1, size - 1];
        weights.retain(|weight| *weight > 0);
        let deck = Deck::new(&weights);
        let passes = 200_000 / size;
        let mut places = vec![0; size as usize];
        let mut steps = vec![0; size as usize];
        let mut before = 0;
        for pass in 0..passes {
            let place = (0..size).find(|place| deck.draw(pass * size + place, 3) == 0).unwrap();
            places[place as usize] += 1;
            steps[((place + size - before) % size) as usize] += 1;
            before = place;
        }
        let even = vec![passes as f64 / size as f64; size as usize];
        let p = [chi_square_p(&places, &even), chi_square_p(&steps, &even)];
        assert!(p.iter().all(|p| *p > 1e-4), "a deck of {size}: p is {p:?}");
    }
}

/// Draws are fixed by the seed: other requests under an old seed would make stored results another experiment.
#[test]
fn draws_of_a_seed_never_change() {
    let zipf = Users::new(NonZeroU32::new(100_000).unwrap(), "zipf:1.1".parse().unwrap());
    let users: Vec<u64> = (0..8).map(|seq| zipf.draw(seq, 7)).collect();
    let deck = Deck::new(&[9, 1]);
    let cards: Vec<usize> = (0..20).map(|seq| deck.draw(seq, 7)).collect();
    assert_eq!(
        (users, cards),
        (
            vec![148, 3, 154, 90, 9385, 15, 20, 0],
            [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]].concat()
        )
    );
}

//! How the method does on noise as machines make it, and how other methods would do on the same.
//!
//! Every test says what must hold of the shipped method, and of which other it must not hold: a simulation whose noise
//! cannot tell a good method from a bad one proves nothing. All of it is seeded, so each rate below is always the same. Of
//! 4 000 runs the standard error of a rate of 5 % is 0.34 %.

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::delta::compare;
use super::{CONFIDENCE, RoundValues};
use crate::experiment::metric::Metric;
use crate::experiment::plan::Plan;
use crate::record::interval::Interval;
use crate::record::result::Delta;
use crate::verdict::stats::{Looks, PRECISION_CONFIDENCE, PRECISION_ROUNDS_MIN, Paired, Ruling, below, holm};

const RUNS: u64 = 4_000;
const ARMS: [&str; 3] = ["none", "placebo", "full"];

/// In which order the arms play.
#[derive(Clone, Copy)]
enum Order {
    /// As the program plans it.
    Planned,
    /// The same in every round.
    Fixed,
    /// All rounds of one arm, then all of the next.
    Apart,
}

/// How the rounds are compared.
#[derive(Clone, Copy)]
enum Method {
    /// As the program does it.
    Shipped,
    /// Welch's test, which does not know which values are of the same round.
    Unpaired,
}

/// The machine's slowness over time, as a logarithm. What it is made of was assumed in view of what an A/A comparison on a
/// virtual machine shows: none of it is independent from slot to slot but the last.
struct Machine {
    rng: ChaCha8Rng,
    /// Drifts: autocorrelated by 0.9 from slot to slot, with a standard deviation of 3 %.
    drift: f64,
    /// Wanders off by 0.2 % per slot.
    walk: f64,
    /// Standing first, second or third in a round makes 1 % of difference.
    places: [f64; ARMS.len()],
}

impl Machine {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let drift = 0.03 * normal(&mut rng);
        let places = std::array::from_fn(|_| 0.01 * normal(&mut rng));
        Self { rng, drift, walk: 0.0, places }
    }

    fn slot(&mut self, place: usize) -> f64 {
        self.drift = 0.9 * self.drift + 0.03 * (1.0 - 0.9_f64 * 0.9).sqrt() * normal(&mut self.rng);
        self.walk += 0.002 * normal(&mut self.rng);
        // In one slot of 25 a neighbour takes 10 % on average.
        let neighbour =
            if self.rng.random::<f64>() < 0.04 { -0.1 * (1.0 - self.rng.random::<f64>()).ln() } else { 0.0 };
        self.drift + self.walk + self.places[place] + neighbour + 0.01 * t3(&mut self.rng)
    }
}

/// Standard normal, by Box and Muller (1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}

/// Student's t with 3 degrees of freedom, by Bailey (1994).
fn t3(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (3.0 * ((1.0 - u).powf(-2.0 / 3.0) - 1.0)).sqrt() * (TAU * v).cos()
}

/// Values of `none` and `full` in each round, where `full` truly costs `effect` more, as a logarithm.
fn play(order: Order, rounds: u32, effect: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let names = ARMS.map(String::from);
    let slots: Vec<String> = match order {
        Order::Planned => Plan::new(&names, rounds, 1, seed).order.concat(),
        Order::Fixed => names.iter().cycle().take(ARMS.len() * rounds as usize).cloned().collect(),
        Order::Apart => names.iter().flat_map(|name| vec![name.clone(); rounds as usize]).collect(),
    };
    let mut machine = Machine::new(seed);
    let (mut none, mut full) = (Vec::new(), Vec::new());
    for (slot, arm) in slots.iter().enumerate() {
        let slowness = machine.slot(slot % ARMS.len());
        match arm.as_str() {
            "none" => none.push(20.0 * slowness.exp()),
            "full" => full.push(20.0 * (slowness + effect).exp()),
            _ => {}
        }
    }
    (none, full)
}

/// The difference that the shipped method finds in these rounds.
fn difference_of(none: Vec<f64>, full: Vec<f64>, confidence: f64) -> Delta {
    let values = [("none", none), ("full", full)].map(|(arm, values)| (arm.to_owned(), Metric::Cpu, values));
    compare(Metric::Cpu, "full", "none", &RoundValues::made_of(values), confidence)
}

/// Whether Welch's test at 5 % finds a difference between the logarithms. Source: Welch (1947), Biometrika 34, 28–35.
fn welch(none: &[f64], full: &[f64]) -> bool {
    let of = |values: &[f64]| {
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        Paired::of(&logs).map(|mean| (mean.mean(), mean.standard_error().powi(2))).unwrap()
    };
    let ((a, u), (b, v)) = (of(none), of(full));
    let freedom = (u + v).powi(2) / (u * u + v * v) * (none.len() - 1) as f64;
    (a - b).abs() / (u + v).sqrt() > StudentsT::new(0.0, 1.0, freedom).unwrap().inverse_cdf(0.975)
}

/// The shares of seeds of which each of these is true.
fn shares<const N: usize>(happen: impl Fn(u64) -> [bool; N]) -> [f64; N] {
    let mut counts = [0; N];
    for seed in 0..RUNS {
        for (count, happened) in counts.iter_mut().zip(happen(seed)) {
            *count += u32::from(happened);
        }
    }
    counts.map(|count| f64::from(count) / RUNS as f64)
}

/// How often arms that do not differ are told apart.
fn false_alarms(method: Method, order: Order, rounds: u32) -> f64 {
    let [rate] = shares(|seed| {
        let (none, full) = play(order, rounds, 0.0, seed);
        [match method {
            Method::Shipped => difference_of(none, full, CONFIDENCE).resolved,
            Method::Unpaired => welch(&none, &full),
        }]
    });
    rate
}

#[test]
fn equal_arms_are_told_apart_in_at_most_one_run_of_twenty() {
    for rounds in [8, 12, 20] {
        let rate = false_alarms(Method::Shipped, Order::Planned, rounds);
        assert!(rate <= 0.055, "{rounds} rounds: {rate}");
    }
}

#[test]
fn equal_arms_are_told_apart_far_too_often_where_order_or_pairing_is_given_up() {
    for rounds in [8, 20] {
        let fixed = false_alarms(Method::Shipped, Order::Fixed, rounds);
        assert!(fixed > 0.08, "{rounds} rounds in a fixed order: {fixed}");
        let apart = false_alarms(Method::Unpaired, Order::Apart, rounds);
        assert!(apart > 0.25, "{rounds} rounds of one arm after those of the other: {apart}");
    }
}

/// An interval that is always right would be too wide, as one that does not know of the pairs is.
#[test]
fn the_interval_covers_the_true_cost_about_as_often_as_it_says() {
    for rounds in [8, 12, 20] {
        let covers = |interval: Option<Interval>| {
            interval.is_some_and(|interval| !interval.map(|ratio| ratio.ln_1p() - 0.1).excludes_zero())
        };
        let [mean, typical] = shares(|seed| {
            let (none, full) = play(Order::Planned, rounds, 0.1, seed);
            let delta = difference_of(none, full, CONFIDENCE);
            [covers(delta.relative), covers(delta.typical)]
        });
        assert!((0.935..=0.985).contains(&mean), "{rounds} rounds: {mean}");
        assert!((0.935..=0.985).contains(&typical), "the typical round of {rounds}: {typical}");
    }
}

/// Log-ratios of rounds as the program plays them on such a machine.
fn of_the_machine(rounds: u32, effect: f64, seed: u64) -> Vec<f64> {
    let (none, full) = play(Order::Planned, rounds, effect, seed);
    full.iter().zip(&none).map(|(full, none)| (full / none).ln()).collect()
}

/// Log-ratios of rounds that have nothing in common, with a normal noise of 5 %. The plan's balance makes the tests on a
/// machine's noise err less often than they may; here their errors are all that is allowed.
fn independent(rounds: u32, effect: f64, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..rounds).map(|_| effect + 0.05 * normal(&mut rng)).collect()
}

/// Makes the log-ratios of so many rounds, of this true mean, from this seed.
type Noise = fn(u32, f64, u64) -> Vec<f64>;
const NOISES: [(&str, Noise); 2] = [("machine", of_the_machine), ("independent", independent)];
/// A true cost that is just at the limit.
const LIMIT: f64 = 0.03;

#[test]
fn a_limit_just_met_is_rarely_said_to_be_kept_and_rarely_said_to_be_broken() {
    for (name, noise) in NOISES {
        for rounds in [8, 20] {
            let [confirmed, refuted] = shares(|seed| {
                let ruling = below(&noise(rounds, LIMIT, seed), LIMIT, 0.05);
                [ruling == Ruling::Confirmed, ruling == Ruling::Refuted]
            });
            assert!(confirmed <= 0.055, "{name}, {rounds} rounds: {confirmed}");
            assert!(refuted <= 0.055, "{name}, {rounds} rounds: {refuted}");
        }
    }
}

#[test]
fn looking_early_at_the_levels_of_the_looks_misleads_no_more_than_one_test_and_at_its_level_it_would() {
    // Looks at about the same fractions as in a run of 30, whose sign patterns would take long to count.
    const MAXIMUM: u32 = 20;
    let looks = Looks::one_sided(MAXIMUM, 0.05);
    let spent: Vec<(u32, f64)> = looks.rounds().map(|rounds| (rounds, looks.level(rounds).unwrap())).collect();
    let naive: Vec<(u32, f64)> = looks.rounds().map(|rounds| (rounds, 0.05)).collect();
    for (name, noise) in NOISES {
        let [spent, naive] = shares(|seed| {
            let ratios = noise(MAXIMUM, LIMIT, seed);
            [&spent, &naive].map(|looks| {
                let mut rulings = looks.iter().map(|(rounds, level)| below(&ratios[..*rounds as usize], LIMIT, *level));
                rulings.any(|ruling| ruling == Ruling::Confirmed)
            })
        });
        assert!(spent <= 0.055, "{name}: {spent}");
        assert!(naive > 0.08, "{name}, at the level of one test: {naive}");
    }
}

#[test]
fn a_run_that_ends_once_it_is_resolved_tells_equal_arms_apart_no_more_often_than_one_that_does_not() {
    const MAXIMUM: u32 = 20;
    let looks = Looks::two_sided(MAXIMUM, 1.0 - CONFIDENCE);
    let [spent, naive] = shares(|seed| {
        let (none, full) = play(Order::Planned, MAXIMUM, 0.0, seed);
        let resolved = |rounds: u32, confidence| {
            let so_far = |values: &[f64]| values[..rounds as usize].to_vec();
            difference_of(so_far(&none), so_far(&full), confidence).resolved
        };
        [
            looks.rounds().any(|rounds| resolved(rounds, 1.0 - looks.level(rounds).unwrap())),
            (6..=MAXIMUM).any(|rounds| resolved(rounds, CONFIDENCE)),
        ]
    });
    assert!(spent <= 0.055, "{spent}");
    assert!(naive > 0.08, "looked at after every round, at the level of one test: {naive}");
}

/// Whether the interval covers the truth of a run that stops once it is narrow, after `first` rounds or more.
fn covers_when_narrow(differences: &[f64], first: u32, confidence: f64, half_width: f64) -> bool {
    let interval = |rounds: usize| Paired::of(&differences[..rounds]).unwrap().interval(confidence);
    let stopped = (first as usize..differences.len()).map(interval).find(|so_far| so_far.half_width() <= half_width);
    !stopped.unwrap_or_else(|| interval(differences.len())).excludes_zero()
}

#[test]
fn stopping_at_a_precision_keeps_the_coverage_and_after_a_few_rounds_it_would_not() {
    for (name, noise) in NOISES {
        for half_width in [0.02, 0.03] {
            let [covered, hasty] = shares(|seed| {
                let ratios = noise(40, 0.0, seed);
                [
                    covers_when_narrow(&ratios, PRECISION_ROUNDS_MIN, PRECISION_CONFIDENCE, half_width),
                    covers_when_narrow(&ratios, 3, 0.95, half_width),
                ]
            });
            assert!((0.935..=0.985).contains(&covered), "{name}, ±{half_width}: {covered}");
            assert!(hasty < covered - 0.02, "{name}, ±{half_width} from 3 rounds on: {hasty}");
        }
    }
}

/// Four limits, each just met, in runs that have nothing in common, which is where several tests mislead most.
#[test]
fn four_gates_together_mislead_no_more_than_one_when_corrected() {
    for (name, noise) in NOISES {
        let [corrected, uncorrected] = shares(|seed| {
            let gate = |gate| Paired::of(&noise(8, LIMIT, 4 * seed + gate)).unwrap().p_below(LIMIT);
            let p = [0, 1, 2, 3].map(gate);
            [holm(&p).iter().any(|p| *p < 0.05), p.iter().any(|p| *p < 0.05)]
        });
        assert!(corrected <= 0.05, "{name}: {corrected}");
        assert!(uncorrected > 0.08, "{name}: {uncorrected}");
    }
}

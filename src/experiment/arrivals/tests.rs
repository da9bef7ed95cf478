use super::*;
use proptest::prelude::*;

fn rate(per_second: f64) -> Rate {
    Rate::per_second(per_second).unwrap()
}

fn due(arrivals: &str, per_second: f64, duration: Duration) -> Vec<u64> {
    Schedule::new(arrivals.parse().unwrap(), rate(per_second), duration, 7).collect()
}

/// Rates in thousandths, from 1 to 20 000 requests per second, slow ones as often as fast ones.
fn rates() -> impl Strategy<Value = Rate> {
    (0.0..4.3_f64).prop_map(|exponent| rate((10_f64.powf(exponent) * 1e3).round() / 1e3))
}

/// The same in millionths, from 0.001 to a million.
fn any_rates() -> impl Strategy<Value = Rate> {
    (-3.0..6.0_f64).prop_map(|exponent| rate(10_f64.powf(exponent)))
}

fn profiles() -> impl Strategy<Value = Arrivals> {
    profiles_of(rates)
}

/// Every profile that has a rate at every moment. A factor in quarters makes exact rates.
fn profiles_of<S: Strategy<Value = Rate> + 'static>(rates: impl Fn() -> S) -> impl Strategy<Value = Arrivals> {
    prop_oneof![
        Just(Arrivals::Constant),
        (rates(), rates()).prop_map(|(from, to)| Arrivals::Ramp { from, to }),
        prop::collection::vec(rates(), 1..8).prop_map(Arrivals::Steps),
        (4..32_u32, 2_000_000..200_000_000_u64, 1..100_u64).prop_map(|(quarters, every, percent)| Arrivals::Bursts {
            factor: f64::from(quarters) / 4.0,
            every: Duration::from_nanos(every),
            lasts: Duration::from_nanos(every * percent / 100),
        }),
        (0.0..0.99_f64, 10_000_000..1_000_000_000_u64)
            .prop_map(|(depth, period)| Arrivals::Sine { depth, period: Duration::from_nanos(period) }),
    ]
}

/// The rate of a profile as its definition says it, to be integrated without knowing how the schedule does it.
struct Definition<'a> {
    arrivals: &'a Arrivals,
    rate: f64,
    end_ns: u64,
}

impl Definition<'_> {
    /// Requests per second between two moments that no jump lies between, at `t` seconds.
    fn rate_at(&self, t: f64, from_ns: u64) -> f64 {
        match self.arrivals {
            Arrivals::Constant => self.rate,
            Arrivals::Poisson => unreachable!("a Poisson process has no such rate"),
            Arrivals::Ramp { from, to } => {
                from.as_f64() + (to.as_f64() - from.as_f64()) * t / (self.end_ns as f64 / 1e9)
            }
            Arrivals::Steps(rates) => {
                let step = from_ns / (self.end_ns / rates.len() as u64);
                rates[(step as usize).min(rates.len() - 1)].as_f64()
            }
            Arrivals::Bursts { factor, every, lasts } => {
                let in_burst = u128::from(from_ns) % every.as_nanos() < lasts.as_nanos();
                self.rate * if in_burst { *factor } else { 1.0 }
            }
            Arrivals::Sine { depth, period } => self.rate * (1.0 + depth * (2.0 * PI * t / period.as_secs_f64()).sin()),
        }
    }

    /// The first moment after `ns` at which the rate jumps.
    fn jump_after(&self, ns: u64) -> u64 {
        match self.arrivals {
            Arrivals::Steps(rates) => {
                let step_ns = self.end_ns / rates.len() as u64;
                let next = ns / step_ns + 1;
                if next < rates.len() as u64 { next * step_ns } else { u64::MAX }
            }
            Arrivals::Bursts { every, lasts, .. } => {
                let (every, lasts) = (nanos(*every), nanos(*lasts));
                let start = ns / every * every;
                if ns < start + lasts { start + lasts } else { start + every }
            }
            _ => u64::MAX,
        }
    }

    /// Requests from one moment to another, by Simpson's rule between jumps, in panels that are short beside a period.
    fn integral(&self, from_ns: u64, to_ns: u64) -> f64 {
        let panel_ns = match self.arrivals {
            Arrivals::Sine { period, .. } => nanos(*period) / 1_024,
            _ => u64::MAX,
        };
        let (mut made, mut start) = (0.0, from_ns);
        while start < to_ns {
            let stop = to_ns.min(self.jump_after(start)).min(start.saturating_add(panel_ns));
            let (a, b) = (start as f64 / 1e9, stop as f64 / 1e9);
            let [first, middle, last] = [a, f64::midpoint(a, b), b].map(|t| self.rate_at(t, start));
            made += (stop - start) as f64 / 1e9 / 6.0 * (first + 4.0 * middle + last);
            start = stop;
        }
        made
    }

    fn fastest(&self) -> f64 {
        match self.arrivals {
            Arrivals::Ramp { from, to } => from.as_f64().max(to.as_f64()),
            Arrivals::Steps(rates) => rates.iter().map(|rate| rate.as_f64()).fold(0.0, f64::max),
            Arrivals::Bursts { factor, .. } => self.rate * factor,
            Arrivals::Sine { depth, .. } => self.rate * (1.0 + depth),
            Arrivals::Constant | Arrivals::Poisson => self.rate,
        }
    }
}

proptest! {
    #[test]
    fn schedules_are_ascending_repeatable_and_end_in_time(
        arrivals in prop_oneof![Just(Arrivals::Poisson), profiles()], rate in rates(), ms in 1_u64..300, seed: u64,
    ) {
        let duration = Duration::from_millis(ms);
        let due: Vec<u64> = Schedule::new(arrivals.clone(), rate, duration, seed).collect();
        prop_assert!(due.is_sorted());
        prop_assert!(due.iter().all(|&t| u128::from(t) < duration.as_nanos()));
        prop_assert_eq!(&due, &Schedule::new(arrivals, rate, duration, seed).collect::<Vec<_>>());
    }

    #[test]
    fn an_arrival_is_due_in_the_nanosecond_in_which_the_integral_of_the_rate_reaches_it(
        arrivals in profiles(), rate in rates(), duration_ns in 1_000_000_u64..300_000_000,
    ) {
        let duration = Duration::from_nanos(duration_ns);
        let definition = Definition { arrivals: &arrivals, rate: rate.as_f64(), end_ns: duration_ns };
        let (mut made, mut before, mut count) = (0.0, 0, 0.0);
        // What rounding leaves of the sum; far less than a nanosecond's worth.
        let rounding = |made: f64| 1e-9 + 1e-10 * made;
        for due in Schedule::new(arrivals.clone(), rate, duration, 0) {
            made += definition.integral(before, due);
            let early = count - made;
            prop_assert!(
                -rounding(made) <= early && early <= definition.fastest() * 1e-9 + rounding(made),
                "the integral is {made} when arrival {count} is due, at {due} ns",
            );
            (before, count) = (due, count + 1.0);
        }
        let whole = made + definition.integral(before, duration_ns);
        prop_assert!(whole - rounding(whole) <= count && count < whole + 1.0 + rounding(whole), "{count} of {whole}");
        let mean = arrivals.mean(rate, duration).as_f64() * duration.as_secs_f64();
        // A mean is held in millionths of a request per second.
        prop_assert!((mean - whole).abs() <= 1e-6 + rounding(whole), "{whole} are due and {mean} are expected");
    }

    #[test]
    fn the_nth_is_the_last_of_as_many_one_by_one(
        arrivals in prop_oneof![profiles(), Just(Arrivals::Poisson)], rate in rates(), ms in 1_u64..300, seed: u64,
        strides in prop::collection::vec(0_usize..200, 1..20),
    ) {
        let mut leaping = Schedule::new(arrivals, rate, Duration::from_millis(ms), seed);
        let mut walking = leaping.clone();
        for n in strides {
            let walked = (0..=n).map(|_| walking.next()).last().unwrap();
            prop_assert_eq!(leaping.nth(n), walked, "{} further on", n);
        }
        // However far, there is nothing after the end.
        prop_assert_eq!((leaping.clone().nth(usize::MAX), leaping.nth(100_000_000_000)), (None, None));
    }

    /// As far off as whole arrivals allow, which from 1 000 requests per second on is at most 0.01 %. That leaping ends where
    /// walking does is another property.
    #[test]
    fn in_ten_seconds_the_mean_rate_is_met_to_one_arrival(arrivals in profiles_of(any_rates), rate in any_rates()) {
        let duration = Duration::from_secs(10);
        let expected = arrivals.mean(rate, duration).as_f64() * 10.0;
        let schedule = Schedule::new(arrivals, rate, duration, 0);
        // A mean is held in millionths of a request per second.
        let fewest = (expected - 1e-5).ceil().max(1.0) as usize;
        prop_assert!(schedule.clone().nth(fewest - 1).is_some(), "fewer than {fewest} of {expected}");
        let most = (expected + 1e-5).floor() as usize + 1;
        prop_assert_eq!(schedule.clone().nth(most), None, "more than {} of {}", most, expected);
    }

    #[test]
    fn newton_ends_where_halving_does(
        depth in prop_oneof![0.0..1.0_f64, 0.999..1.0_f64], period in 1..2_000_000_000_u64, share in 0.0..50.0_f64,
    ) {
        let swing = Swing::new(depth, Duration::from_nanos(period));
        let goal_ns = period as f64 * share;
        let (mut low, mut high) = (0, goal_ns as u64 + 1);
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            if swing.stretched_ns(middle) <= goal_ns { low = middle } else { high = middle }
        }
        // Near a slope of zero rounding alone decides between neighbours.
        let slope = 1.0 - depth;
        prop_assert!(swing.inverted_ns(goal_ns).abs_diff(low) as f64 <= 1e-4 / slope, "{} is not {low}", swing.inverted_ns(goal_ns));
    }

    #[test]
    fn a_profile_survives_being_written(
        arrivals in prop_oneof![
            profiles(),
            Just(Arrivals::Poisson),
            (1.0..=1_000.0_f64, 2..10_u64.pow(18)).prop_flat_map(|(factor, every)| (1..every).prop_map(move |lasts| {
                Arrivals::Bursts { factor, every: Duration::from_nanos(every), lasts: Duration::from_nanos(lasts) }
            })),
            (0.0..1.0_f64, 1..10_u64.pow(18))
                .prop_map(|(depth, period)| Arrivals::Sine { depth, period: Duration::from_nanos(period) }),
        ],
    ) {
        let text = arrivals.to_string();
        prop_assert!(!text.contains(' '), "{text}");
        prop_assert_eq!(text.parse::<Arrivals>().unwrap(), arrivals.clone());
        let json = serde_json::to_string(&arrivals).unwrap();
        prop_assert_eq!(&json, &format!("\"{text}\""));
        prop_assert_eq!(&serde_json::from_str::<Arrivals>(&json).unwrap(), &arrivals);
        let settings: crate::experiment::scenario::Settings = toml::from_str(&format!("arrivals = {json}")).unwrap();
        prop_assert_eq!(settings.arrivals, Some(arrivals));
    }
}

#[test]
fn invalid_profiles_are_rejected_with_an_example() {
    let refused = [
        "",
        "bursty",
        "Constant",
        "constant:",
        "poisson:5",
        "constant ", // names
        "ramp",
        "ramp:",
        "ramp:5",
        "ramp:0..5",
        "ramp:5..",
        "ramp:..5",
        "ramp:1..2..3",
        "ramp:-1..5",
        "ramp:1..nan",
        "steps",
        "steps:",
        "steps:1,",
        "steps:1,,2",
        "steps:1,0",
        "steps:1;2",
        "steps:1,20000000",
        "bursts:x4",
        "bursts:4,every=1s,lasts=100ms",
        "bursts:x0.5,every=1s,lasts=100ms",
        "bursts:x4,every=1s",
        "bursts:x4,every=1s,lasts=1s",
        "bursts:x4,every=1s,lasts=0s",
        "bursts:x4,every=1,lasts=100ms",
        "bursts:x4,lasts=100ms,every=1s",
        "bursts:xnan,every=1s,lasts=1ms",
        "bursts:x2000,every=1s,lasts=1ms",
        "bursts:x4,every=1s,lasts=100ms,more=1",
        "sine:",
        "sine:depth=0.5",
        "sine:depth=1,period=2s",
        "sine:depth=-0.1,period=2s",
        "sine:depth=0.5,period=0s",
        "sine:depth=0.5,period=2",
        "sine:period=2s,depth=0.5",
        "sine:depth=nan,period=2s",
    ];
    for text in refused {
        let message = text.parse::<Arrivals>().unwrap_err().to_string();
        let says = format!("`{text}` is not an arrival process; write constant, poisson, ramp:FROM..TO, steps:");
        assert!(message.starts_with(&says), "{message}");
        assert!(serde_json::from_value::<Arrivals>(text.into()).unwrap_err().to_string().contains(&says));
    }
}

#[test]
fn arrivals_of_a_profile_match_hand_calculated_times() {
    let second = Duration::from_secs(1);
    // 1000 t + 1000 t² is 750 after half a second, and 2000 after the whole.
    let ramp = due("ramp:1000..3000", 1.0, second);
    assert_eq!((ramp.len(), ramp[0], ramp[750]), (2_000, 0, 500_000_000));
    let fall = due("ramp:3000..1000", 1.0, second);
    assert_eq!((fall.len(), fall[0], fall[1_250]), (2_000, 0, 500_000_000));

    let steps = due("steps:1000,5000", 1.0, second);
    assert_eq!((steps.len(), &steps[499..502]), (3_000, &[499_000_000, 500_000_000, 500_200_000][..]));

    let bursts = due("bursts:x4,every=1s,lasts=100ms", 1_000.0, 2 * second);
    assert_eq!((bursts.len(), &bursts[399..402]), (2_600, &[99_750_000, 100_000_000, 101_000_000][..]));
    assert_eq!(bursts[1_299..1_302], [999_000_000, 1_000_000_000, 1_000_250_000]);

    // The half that is above the mean makes 1000 × (1 + 0.5 × 2 / π) = 1318.3; the other makes up for it.
    let sine = due("sine:depth=0.5,period=2s", 1_000.0, 2 * second);
    assert_eq!((sine.len(), sine.partition_point(|&t| t < 1_000_000_000)), (2_000, 1_319));
}

#[test]
fn an_empty_stretch_has_no_arrivals() {
    for arrivals in
        ["constant", "poisson", "ramp:1..2", "steps:1,2", "bursts:x4,every=1s,lasts=100ms", "sine:depth=0.5,period=2s"]
    {
        assert!(due(arrivals, 1_000.0, Duration::ZERO).is_empty(), "{arrivals}");
    }
}

/// A stored result can be played again only while the same seed means the same schedule.
#[test]
fn constant_and_poisson_schedules_never_change() {
    let ten_seconds = Duration::from_secs(10);
    let poisson = due("poisson", 1_000.0, ten_seconds);
    assert_eq!((poisson.len(), &poisson[..5]), (10_081, &[171_733, 355_643, 1_573_972, 2_871_308, 3_790_751][..]));
    let constant = due("constant", 9_999.999_999, ten_seconds);
    let digest = constant.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, t| (hash ^ t).wrapping_mul(0x0100_0000_01b3));
    assert_eq!((constant.len(), digest), (100_000, 0x212a_8656_150c_00a5));
}

#[test]
fn constant_arrivals_are_exact_and_their_rate_is_within_a_hundredth_of_a_percent() {
    for micro in [1_000_500_000_u64, 3_333_333_333, 9_999_999_999, 12_345_678_901] {
        let per_second = micro as f64 / 1e6;
        let due = due("constant", per_second, Duration::from_secs(10));
        for (i, &at) in (0_u128..).zip(&due) {
            assert_eq!(u128::from(at), i * 1_000_000_000_000_000 / u128::from(micro), "arrival {i} at {per_second}");
        }
        assert!((due.len() as f64 / 10.0 / per_second - 1.0).abs() <= 1e-4, "{} at {per_second}", due.len());
    }
}

/// The Anderson-Darling statistic A² of `gaps` against the exponential distribution of this mean.
fn anderson_darling(mut gaps: Vec<f64>, mean: f64) -> f64 {
    gaps.sort_by(f64::total_cmp);
    let n = gaps.len() as f64;
    // With F(x) = 1 - exp(-x / mean), ln F is ln(1 - exp(-x / mean)) and ln(1 - F) is -x / mean.
    let sum: f64 = gaps
        .iter()
        .zip(gaps.iter().rev())
        .zip(0_u32..)
        .map(|((low, high), i)| (2.0 * f64::from(i) + 1.0) * ((-(-low / mean).exp_m1()).ln() - high / mean))
        .sum();
    -n - sum / n
}

/// Stephens, EDF Statistics for Goodness of Fit and Some Comparisons, JASA 69 (1974): at 1 %, when the distribution is
/// known completely.
const CRITICAL: f64 = 3.857;

#[test]
fn poisson_gaps_are_exponential_and_uniform_ones_fail_the_test() {
    // One request per second, so that a nanosecond is no coarse unit for a gap.
    let long = Duration::from_secs(1_000_000);
    let due: Vec<u64> = Schedule::new(Arrivals::Poisson, rate(1.0), long, 7).take(100_001).collect();
    let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    assert_eq!(gaps.len(), 100_000);
    let statistic = anderson_darling(gaps.clone(), 1e9);
    assert!(statistic < CRITICAL, "A² is {statistic}");

    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let uniform: Vec<f64> = (0..100_000).map(|_| rng.random::<f64>() * 2e9).collect();
    let statistic = anderson_darling(uniform, 1e9);
    assert!(statistic > CRITICAL, "uniform gaps of the same mean pass: A² is {statistic}");
    // Nor does it take a rate that is wrong by two percent.
    let statistic = anderson_darling(gaps, 1.02e9);
    assert!(statistic > CRITICAL, "a wrong rate passes: A² is {statistic}");
}

#[test]
fn another_seed_gives_another_poisson_schedule() {
    let at = |seed| Schedule::new(Arrivals::Poisson, rate(100.0), Duration::from_secs(1), seed).collect::<Vec<_>>();
    assert_ne!(at(1), at(2));
}

#[test]
fn the_peak_is_the_highest_rate_of_the_stretch() {
    let rate = Rate::per_second(100.0).unwrap();
    for (arrivals, peak) in [
        ("constant", 100.0),
        ("poisson", 100.0),
        ("ramp:50..20", 50.0),
        ("steps:5,70,10", 70.0),
        ("bursts:x4,every=1s,lasts=100ms", 400.0),
        ("sine:depth=0.5,period=2s", 150.0),
    ] {
        assert_eq!(arrivals.parse::<Arrivals>().unwrap().peak(rate).as_f64(), peak, "{arrivals}");
    }
}

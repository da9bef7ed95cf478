//! Every function against what SciPy and statsmodels say: fixtures/statistics.json, made by the script beside it.

use serde::Deserialize;

use super::paired::first_rounds;
use super::{Paired, hodges_lehmann, holm, nominal_levels, sign_flip_p, sign_flip_p_below, student};
use crate::record::interval::Interval;

#[derive(Deserialize)]
struct Fixture {
    limits: Vec<f64>,
    samples: Vec<Sample>,
    t: Vec<Quantile>,
    rounds: Vec<Rounds>,
    holm: Vec<Adjusted>,
    spending: Vec<Spending>,
}

#[derive(Deserialize)]
struct Sample {
    name: String,
    differences: Vec<f64>,
    paired: PairedSample,
    sign_flip: SignFlip,
    hodges_lehmann: Centre,
}

#[derive(Deserialize)]
struct PairedSample {
    mean: f64,
    standard_error: f64,
    /// Confidence, low, high.
    intervals: Vec<(f64, f64, f64)>,
    p_below: Vec<f64>,
    p_above: Vec<f64>,
    detectable: f64,
    tost_p: f64,
}

#[derive(Deserialize)]
struct SignFlip {
    two_sided: f64,
    below: Vec<f64>,
}

#[derive(Deserialize)]
struct Centre {
    estimate: f64,
    /// Confidence, and the bounds where there are any.
    intervals: Vec<(f64, Option<(f64, f64)>)>,
}

#[derive(Deserialize)]
struct Quantile {
    freedom: f64,
    p: f64,
    t: f64,
}

#[derive(Deserialize)]
struct Rounds {
    mean: f64,
    sd: f64,
    target: f64,
    half_width: u32,
    below: u32,
}

#[derive(Deserialize)]
struct Adjusted {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct Spending {
    information: Vec<f64>,
    alpha: f64,
    levels: Vec<f64>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

fn assert_close(ours: f64, theirs: f64, relative: f64, what: &str) {
    assert!((ours - theirs).abs() <= relative * theirs.abs().max(1e-4), "{what}: {ours:e} against {theirs:e}");
}

#[test]
fn quantiles_of_students_t_agree_with_scipy() {
    for Quantile { freedom, p, t } in fixture().t {
        // The incomplete beta function loses digits where the degrees of freedom are many, and nobody needs them.
        let digits = if freedom > 1_000.0 { 1e-5 } else { 1e-9 };
        assert_close(student::quantile(p, freedom), t, digits, &format!("t({p}, {freedom})"));
    }
    assert_eq!((student::quantile(0.0, 7.0), student::quantile(1.0, 7.0)), (f64::NEG_INFINITY, f64::INFINITY));
    assert!(student::quantile(1.5, 7.0).is_nan() && student::quantile(f64::NAN, 7.0).is_nan());
}

#[test]
fn the_paired_t_test_agrees_with_scipy_and_statsmodels() {
    let Fixture { limits, samples, .. } = fixture();
    for Sample { name, differences, paired: theirs, .. } in samples {
        let ours = Paired::of(&differences).unwrap();
        assert_close(ours.mean(), theirs.mean, 1e-9, &name);
        assert_close(ours.standard_error(), theirs.standard_error, 1e-9, &name);
        for (confidence, low, high) in theirs.intervals {
            let interval = ours.interval(confidence);
            assert_close(interval.low, low, 1e-9, &name);
            assert_close(interval.high, high, 1e-9, &name);
        }
        for (limit, (below, above)) in limits.iter().zip(theirs.p_below.iter().zip(&theirs.p_above)) {
            assert_close(ours.p_below(*limit), *below, 1e-9, &name);
            assert_close(ours.p_above(*limit), *above, 1e-9, &name);
        }
        assert_close(ours.detectable(0.95, 0.8), theirs.detectable, 1e-9, &name);
        assert_close(ours.p_below(0.015).max(ours.p_above(-0.015)), theirs.tost_p, 1e-9, &name);
    }
}

#[test]
fn the_sign_flip_test_agrees_with_scipy() {
    let Fixture { limits, samples, .. } = fixture();
    for Sample { name, differences, sign_flip: theirs, .. } in samples {
        assert_close(sign_flip_p(&differences), theirs.two_sided, 1e-12, &name);
        for (limit, below) in limits.iter().zip(theirs.below) {
            assert_close(sign_flip_p_below(&differences, *limit), below, 1e-12, &format!("{name} below {limit}"));
        }
    }
}

#[test]
fn the_hodges_lehmann_interval_is_that_of_the_exact_signed_rank_distribution() {
    for Sample { name, differences, hodges_lehmann: theirs, .. } in fixture().samples {
        for (confidence, bounds) in theirs.intervals {
            let ours = hodges_lehmann(&differences, confidence);
            assert_eq!(ours.is_some(), bounds.is_some(), "{name} at {confidence}");
            let (Some(Interval { estimate, low, high }), Some(bounds)) = (ours, bounds) else { continue };
            assert_close(estimate, theirs.estimate, 1e-12, &name);
            assert_close(low, bounds.0, 1e-12, &name);
            assert_close(high, bounds.1, 1e-12, &name);
        }
    }
}

#[test]
fn rounds_needed_are_the_first_that_suffice_when_each_is_tried_in_turn() {
    for Rounds { mean, sd, target, half_width, below } in fixture().rounds {
        // Two differences of this mean and spread.
        let reach = sd / 2.0_f64.sqrt();
        let differences = [mean - reach, mean + reach];
        let paired = Paired::of(&differences).unwrap();
        assert_eq!(paired.rounds_for_half_width(target, 0.95), Some(half_width));
        let needed = super::Ruling::Inconclusive { rounds_needed: Some(below) };
        assert_eq!(super::below(&differences, target, 0.05), needed);
    }
    assert_eq!(first_rounds(|n| n >= 100_000), Some(100_000));
    assert_eq!(first_rounds(|n| n > 100_000), None);
}

#[test]
fn holm_agrees_with_statsmodels() {
    for Adjusted { p, adjusted } in fixture().holm {
        for (ours, theirs) in holm(&p).iter().zip(&adjusted) {
            assert_close(*ours, *theirs, 1e-12, &format!("{p:?}"));
        }
        assert_eq!(holm(&p).len(), p.len());
    }
    assert_eq!(holm(&[f64::NAN, 0.01]), [1.0, 0.02]);
    assert!(holm(&[]).is_empty());
}

#[test]
fn levels_of_looks_agree_with_the_multivariate_normal_distribution() {
    for Spending { information, alpha, levels } in fixture().spending {
        let ours = nominal_levels(&information, alpha);
        assert_eq!(ours.len(), levels.len());
        for (ours, theirs) in ours.iter().zip(&levels) {
            // What the other computation, by quasi-random points, is exact to.
            assert_close(*ours, *theirs, 1e-4, &format!("{information:?} at {alpha}"));
        }
    }
}

/// Bounds for five equal looks at a two-sided level of 5 %, as most texts on the matter print them.
#[test]
fn levels_of_looks_agree_with_the_published_bounds() {
    let levels = nominal_levels(&[0.2, 0.4, 0.6, 0.8, 1.0], 0.025);
    for (level, bound) in levels.iter().zip([4.877, 3.357, 2.680, 2.290, 2.031]) {
        assert!((student::normal_quantile(1.0 - level) - bound).abs() < 6e-4, "{levels:?}");
    }
}

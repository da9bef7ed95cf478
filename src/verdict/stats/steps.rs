//! Where the level of a short series changes.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Fewest values on each side of a step; of one alone nobody can tell a step from an outlier.
const SIDE: usize = 2;
/// Shuffles that a step is judged by; the standard error of a p of 0.05 is then 0.005.
const SHUFFLES: u32 = 1_999;

/// Fewest values in which a step can be found: of ten, the halves are as far apart in 4 of 252 orders, and a step that leaves
/// three on one side cannot be found any more.
pub const FEWEST: usize = 10;

/// The places where the level of `values` changes: the index of the first value of each new level, in order. A series whose
/// values could as well stand in any other order has none with a probability of 1 − `alpha` at least.
///
/// The stretch whose mean differs most from that of the rest is looked for, by √(k(n − k)/n) · |difference|; where no more
/// than `alpha` of the shuffled series show as much, the series is split at its sharper end, and each side is searched in its
/// turn. A stretch rather than a single step, because a regression that was repaired hides from a search for steps. Source:
/// A. B. Olshen, E. S. Venkatraman, R. Lucito and M. Wigler (2004), "Circular binary segmentation for the analysis of
/// array-based DNA copy number data", Biostatistics 5, 557–572.
pub fn steps(values: &[f64], alpha: f64) -> Vec<usize> {
    if values.len() < FEWEST {
        return Vec::new();
    }
    let (stretch, contrast) = strangest(values);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut shuffled = values.to_vec();
    let reached = (0..SHUFFLES)
        .filter(|_| {
            shuffled.shuffle(&mut rng);
            // Sums of the same numbers in another order differ by rounding alone where they should tie.
            strangest(&shuffled).1 >= contrast * (1.0 - 1e-12)
        })
        .count();
    // The order as it was is one of them: Phipson and Smyth (2010).
    let p = (reached + 1) as f64 / f64::from(SHUFFLES + 1);
    if p >= alpha || contrast <= 0.0 {
        return Vec::new();
    }
    let place = sharper_end(values, stretch);
    let (before, after) = values.split_at(place);
    let mut found = steps(before, alpha);
    found.push(place);
    found.extend(steps(after, alpha).iter().map(|later| place + later));
    found
}

/// The stretch whose mean differs most from that of the rest, and by how much.
fn strangest(values: &[f64]) -> (Range<usize>, f64) {
    let n = values.len();
    let mean = average(values);
    let sums: Vec<f64> = [0.0]
        .into_iter()
        .chain(values.iter().scan(0.0, |sum, value| {
            *sum += value - mean;
            Some(*sum)
        }))
        .collect();
    let mut strangest = (0..0, 0.0);
    for begin in (0..n).filter(|begin| *begin == 0 || *begin >= SIDE) {
        for end in (begin + SIDE..=n).filter(|end| *end == n || n - end >= SIDE) {
            let inside = (end - begin) as f64;
            let outside = n as f64 - inside;
            if outside > 0.0 {
                // The difference of the means is the sum · n / (inside · outside).
                let contrast = (sums[end] - sums[begin]).abs() * (n as f64 / (inside * outside)).sqrt();
                if contrast > strangest.1 {
                    strangest = (begin..end, contrast);
                }
            }
        }
    }
    strangest
}

/// The end of a stretch at which its mean differs more from what lies beyond, for what is known of both.
fn sharper_end(values: &[f64], stretch: Range<usize>) -> usize {
    let inside = &values[stretch.clone()];
    let step = |beyond: &[f64]| {
        let (k, m) = (inside.len() as f64, beyond.len() as f64);
        if beyond.is_empty() { 0.0 } else { (average(inside) - average(beyond)).abs() * (k * m / (k + m)).sqrt() }
    };
    let (before, after) = (&values[..stretch.start], &values[stretch.end..]);
    if step(before) >= step(after) { stretch.start } else { stretch.end }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fixture::normal;

    /// Values with noise of sd 1 % around the level that each index has.
    fn series(seed: u64, levels: impl Fn(usize) -> f64, n: usize) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|index| levels(index) + 0.01 * normal(&mut rng)).collect()
    }

    #[test]
    fn the_strangest_stretch_is_found_by_its_mean_and_its_length() {
        // 2, 2 against 1, 1, 1: the means differ by 1, and √(2 · 3 / 5) = 1.0954; any other stretch has less.
        let (stretch, contrast) = strangest(&[1.0, 1.0, 1.0, 2.0, 2.0]);
        assert!(stretch == (0..3) || stretch == (3..5), "{stretch:?}");
        assert!((contrast - 1.2_f64.sqrt()).abs() < 1e-12, "{contrast}");
        assert_eq!(strangest(&[1.0, 1.0, 3.0, 3.0, 3.0, 1.0, 1.0]).0, 2..5);
        assert_eq!(sharper_end(&[1.0, 1.0, 3.0, 3.0, 3.0, 0.0, 0.0], 2..5), 5);
        assert_eq!(sharper_end(&[0.0, 0.0, 3.0, 3.0, 3.0, 1.0, 1.0], 2..5), 2);
    }

    /// Of twenty series, how many have steps at these places and nowhere else.
    fn right(places: &[usize], levels: impl Fn(usize) -> f64 + Copy, n: usize) -> usize {
        (0..20).filter(|seed| steps(&series(*seed, levels, n), 0.05) == places).count()
    }

    #[test]
    fn a_step_of_five_percent_is_found_at_its_place() {
        let found = right(&[12], |index| if index < 12 { 0.0 } else { 0.05 }, 20);
        // Each side has its own chance of 5 % to show what is not there.
        assert!(found >= 16, "{found} of 20");
    }

    #[test]
    fn two_steps_are_found_and_so_is_one_down_again() {
        let hill = right(&[10, 20], |index| if (10..20).contains(&index) { 0.08 } else { 0.0 }, 30);
        let stairs = right(&[10, 20], |index| 0.08 * (index / 10) as f64, 30);
        assert!(hill >= 15 && stairs >= 15, "{hill} and {stairs} of 20");
    }

    #[test]
    fn a_flat_series_has_steps_no_more_often_than_asked() {
        const SERIES: u64 = 400;
        let alarms = |n: usize| {
            let alarms = (0..SERIES).filter(|seed| !steps(&series(1_000 + seed, |_| 0.3, n), 0.05).is_empty()).count();
            alarms as f64 / SERIES as f64
        };
        // Binomial spread at 400 series: sd 1.1 % at 5 %.
        let (ten, sixteen) = (alarms(10), alarms(16));
        assert!(ten < 0.09 && (0.01..0.09).contains(&sixteen), "{ten} of ten, {sixteen} of sixteen");
    }

    #[test]
    fn few_or_equal_values_have_no_step() {
        let step = |n: usize| (0..n).map(|index| if index < n / 2 { 0.0 } else { 9.0 }).collect::<Vec<_>>();
        assert_eq!(steps(&step(9), 0.05), Vec::<usize>::new());
        assert_eq!(steps(&[1.0; 20], 0.05), Vec::<usize>::new());
        assert_eq!(steps(&step(10), 0.05), [5]);
    }
}

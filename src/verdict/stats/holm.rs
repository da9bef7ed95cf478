//! Several questions at once.

/// Holm's adjusted p-values, in the order given: rejecting those at most α keeps the chance of any false rejection among
/// them at most α, however the tests depend on each other. A p that is not a number counts as 1. Source: Holm (1979), "A
/// simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 65–70.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let p: Vec<f64> = p.iter().map(|p| if p.is_nan() { 1.0 } else { *p }).collect();
    let mut ascending: Vec<usize> = (0..p.len()).collect();
    ascending.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = p.clone();
    let mut largest = 0.0_f64;
    for (rank, &test) in ascending.iter().enumerate() {
        // A test is rejected only after all with a smaller p.
        largest = largest.max(((p.len() - rank) as f64 * p[test]).min(1.0));
        adjusted[test] = largest;
    }
    adjusted
}

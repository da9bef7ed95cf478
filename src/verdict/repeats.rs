//! The short runs of a self-test, counted arm by arm: how often the interval held what was injected, and how often a
//! difference was called.

use crate::experiment::scenario::Role;
use crate::record::selftest::{Repeat, RepeatedDelta};

/// One arm over all valid runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmOfRepeats<'a> {
    /// Its name.
    pub name: &'a str,
    /// Baseline, placebo or treatment.
    pub role: Role,
    /// CPU time that each request burns on purpose, in microseconds.
    pub injected_us: f64,
    /// Valid runs.
    pub runs: u64,
    /// Runs whose interval holds the injected cost.
    pub inside: u64,
    /// Runs that call a difference.
    pub resolved: u64,
    /// Runs that print a detectable effect which is no larger than the injected cost.
    pub detectable: u64,
    /// Those of them that call a difference.
    pub detected: u64,
    /// The median of the detectable effects, in microseconds per request.
    pub mde_us: f64,
}

/// Each arm but the baseline, over all valid runs.
pub fn by_arm(repeats: &[Repeat]) -> Vec<ArmOfRepeats<'_>> {
    let valid: Vec<&Repeat> = repeats.iter().filter(|repeat| repeat.invalid.is_none()).collect();
    let Some(first) = valid.first() else { return Vec::new() };
    let arms = first.arms.iter().filter(|arm| arm.role != Role::Baseline);
    arms.map(|arm| {
        let same = valid.iter().flat_map(|repeat| &repeat.arms).filter(|other| other.name == arm.name);
        let deltas: Vec<&RepeatedDelta> = same.filter_map(|arm| arm.delta.as_ref()).collect();
        let count = |what: &dyn Fn(&RepeatedDelta) -> bool| deltas.iter().filter(|delta| what(delta)).count() as u64;
        let mut mdes: Vec<f64> = deltas.iter().map(|delta| delta.mde_absolute).collect();
        mdes.sort_unstable_by(f64::total_cmp);
        let detectable = |delta: &RepeatedDelta| arm.injected_us > 0.0 && arm.injected_us >= delta.mde_absolute;
        ArmOfRepeats {
            name: &arm.name,
            role: arm.role,
            injected_us: arm.injected_us,
            runs: deltas.len() as u64,
            inside: count(&|delta| delta.holds(arm.injected_us)),
            resolved: count(&|delta| delta.resolved),
            detectable: count(&detectable),
            detected: count(&|delta| detectable(delta) && delta.resolved),
            mde_us: mdes.get(mdes.len() / 2).copied().unwrap_or(f64::NAN),
        }
    })
    .collect()
}

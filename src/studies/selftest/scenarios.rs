//! The scenarios of a self-test. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::experiment::scenario::{Arm, Collector, Isolation, Known, Role, Scenario, ScenarioError, Settings};
use crate::experiment::units::Rate;

/// The injected costs of the checks, in percent of the baseline's CPU per request.
pub const INJECTED: [u32; 4] = [1, 2, 5, 10];
/// Those of the short runs.
pub const INJECTED_IN_REPEATS: [u32; 5] = [1, 2, 3, 5, 10];

/// Duration of a payment in the arm with a known delay.
const DELAY: Duration = Duration::from_millis(5);
/// Duration for which the process of the arm with a known stall is stopped. A quarter of the slice: with half of it, the
/// generator would rightly call the slice invalid.
const STOP: Duration = Duration::from_millis(200);
const STOPPED_SLICE: Duration = Duration::from_millis(800);
/// Requests per second where no cost is compared. Slow enough that neither a delayed payment nor a stopped process keeps all
/// connections busy for long, and that no span queue overflows: a dropped span is on another account than a lost one.
const SLOW_RATE: f64 = 500.0;
const KNOWN_ROUNDS: u32 = 4;

/// The span that the sink loses, in the middle of a tree.
const LOST_SPAN: u64 = 42;
const LEDGER_ROUNDS: u32 = 2;
const LEDGER_SLICE: Duration = Duration::from_millis(500);

/// Length and intensity of the runs; the user may set them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Requests per second where costs are compared.
    pub rps: Rate,
    /// Fresh launches of every arm.
    pub rounds: NonZeroU32,
    /// Slices of each arm in each round.
    pub slices: NonZeroU32,
    /// Length of a slice.
    pub slice: Duration,
    /// Load before the first.
    pub warmup: Duration,
}

/// The baseline alone, to effort the cost of a request.
///
/// # Errors
/// As [`Scenario::resolve`].
pub fn calibration(effort: Effort) -> Result<Scenario, ScenarioError> {
    let mut scenario = resolved("none", Effort { rounds: NonZeroU32::MIN.saturating_add(2), ..effort })?;
    scenario.arms.truncate(1);
    scenario.arms[0].injected_us = Some(0.0);
    Ok(scenario)
}

/// The baseline, its placebo, and arms that burn these percentages of `base_us` more.
///
/// # Errors
/// As [`Scenario::resolve`].
pub fn injected(effort: Effort, base_us: f64, percents: &[u32]) -> Result<Scenario, ScenarioError> {
    let mut scenario = resolved("none", effort)?;
    for arm in &mut scenario.arms {
        // A call that burns nothing has a cost, too.
        arm.injected_us = Some(0.0);
    }
    let mode = scenario.arms[0].mode.clone();
    scenario.arms.extend(percents.iter().map(|percent| {
        // Lanes take whole nanoseconds.
        let us = (base_us * f64::from(*percent) * 10.0).round() / 1e3;
        Arm { injected_us: Some(us), ..Arm::new(&format!("+{percent}%"), Role::Treatment, &mode) }
    }));
    Ok(scenario)
}

/// The baseline, an arm with late payments, and one whose process is stopped. The generator is in the parent, which is not
/// stopped.
///
/// # Errors
/// As [`Scenario::resolve`].
pub fn known(effort: Effort) -> Result<Scenario, ScenarioError> {
    let rounds = NonZeroU32::MIN.saturating_add(KNOWN_ROUNDS - 1);
    let mut scenario =
        resolved("none", Effort { rounds, slices: NonZeroU32::MIN, slice: STOPPED_SLICE, ..slow(effort) })?;
    scenario.isolation = Isolation::Process;
    // The requests that the stop held up are counted in the histogram of each slice.
    scenario.keep_histograms = true;
    let baseline = scenario.arms.swap_remove(0);
    let treated = |name, known| Arm { known: Some(known), ..Arm::new(name, Role::Treatment, &baseline.mode) };
    let (delayed, stopped) = (treated("delayed", Known::Delay(DELAY)), treated("stopped", Known::Stop(STOP)));
    scenario.arms = vec![baseline, delayed, stopped];
    Ok(scenario)
}

/// The full stack with a sink that keeps everything, and with one that loses a span.
///
/// # Errors
/// As [`Scenario::resolve`].
pub fn ledger(effort: Effort) -> Result<Scenario, ScenarioError> {
    let rounds = NonZeroU32::MIN.saturating_add(LEDGER_ROUNDS - 1);
    let slow = slow(effort);
    let mut scenario = resolved("full", Effort { rounds, slices: NonZeroU32::MIN, slice: LEDGER_SLICE, ..slow })?;
    let full = scenario.arms.swap_remove(0);
    let lossy = Arm { known: Some(Known::LostSpan(LOST_SPAN)), ..Arm::new("lost-span", Role::Treatment, &full.mode) };
    scenario.arms = vec![full, lossy];
    Ok(scenario)
}

fn slow(effort: Effort) -> Effort {
    // A rate in the range of rates.
    Rate::per_second(SLOW_RATE).map_or(effort, |rps| Effort { rps, ..effort })
}

/// A mode against itself, with the embedded sink, whatever the environment says.
fn resolved(mode: &str, effort: Effort) -> Result<Scenario, ScenarioError> {
    let mode: Vec<_> = mode.parse().into_iter().collect();
    let settings = Settings {
        name: Some("selftest".into()),
        rps: Some(effort.rps),
        baseline: mode.first().cloned(),
        mode: Some(mode),
        rounds: Some(effort.rounds),
        slices: Some(effort.slices),
        slice: Some(effort.slice),
        warmup: Some(effort.warmup),
        ..Settings::default()
    };
    Ok(Scenario { collector: Collector::Embedded, ..Scenario::resolve(settings)? })
}

//! What a self-test plays. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::experiment::scenario::{Arm, Collector, Isolation, Known, Role, Scenario, ScenarioError, Settings};
use crate::experiment::units::Rate;

/// What the injected costs of the checks add, in percent of the baseline's CPU per request.
pub const INJECTED: [u32; 4] = [1, 2, 5, 10];
/// Those of the repeats.
pub const INJECTED_IN_REPEATS: [u32; 5] = [1, 2, 3, 5, 10];

/// What a payment takes in the arm of a known delay.
const DELAY: Duration = Duration::from_millis(5);
/// How long the process of the arm of a known stall stands still. A quarter of the slice: were it half, the generator would
/// rightly call the stretch invalid.
const STOP: Duration = Duration::from_millis(200);
const STOPPED_SLICE: Duration = Duration::from_millis(800);
/// Requests per second where no cost is compared: slow enough that neither a delayed payment nor a stopped process keeps all
/// connections busy for long, and that no queue of spans overflows, since one dropped there is on another account.
const SLOW_RATE: f64 = 500.0;
const KNOWN_ROUNDS: u32 = 4;

/// The span that the sink loses: one in the middle of a tree.
const LOST_SPAN: u64 = 42;
const LEDGER_ROUNDS: u32 = 2;
const LEDGER_SLICE: Duration = Duration::from_millis(500);

/// How long and how hard is played; what the user may set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
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

/// The baseline alone, which says what a request costs here.
///
/// # Errors
/// As [`Scenario::resolve`].
pub fn calibration(measure: Measure) -> Result<Scenario, ScenarioError> {
    let mut scenario = resolved("none", Measure { rounds: NonZeroU32::MIN.saturating_add(2), ..measure })?;
    scenario.arms.truncate(1);
    scenario.arms[0].injected_us = Some(0.0);
    Ok(scenario)
}

/// The baseline, its placebo, and arms that burn these shares of `base_us` more, in percent.
///
/// # Errors
/// As [`Scenario::resolve`].
pub fn injected(measure: Measure, base_us: f64, percents: &[u32]) -> Result<Scenario, ScenarioError> {
    let mut scenario = resolved("none", measure)?;
    for arm in &mut scenario.arms {
        // The call that burns nothing costs something too.
        arm.injected_us = Some(0.0);
    }
    let mode = scenario.arms[0].mode.clone();
    scenario.arms.extend(percents.iter().map(|percent| {
        // Lanes are told whole nanoseconds.
        let us = (base_us * f64::from(*percent) * 10.0).round() / 1e3;
        Arm { injected_us: Some(us), ..Arm::new(&format!("+{percent}%"), Role::Treatment, &mode) }
    }));
    Ok(scenario)
}

/// The baseline, one that pays late, and one whose process is stopped; the generator is in the parent, which is not.
///
/// # Errors
/// As [`Scenario::resolve`].
pub fn known(measure: Measure) -> Result<Scenario, ScenarioError> {
    let rounds = NonZeroU32::MIN.saturating_add(KNOWN_ROUNDS - 1);
    let mut scenario =
        resolved("none", Measure { rounds, slices: NonZeroU32::MIN, slice: STOPPED_SLICE, ..slow(measure) })?;
    scenario.isolation = Isolation::Process;
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
pub fn ledger(measure: Measure) -> Result<Scenario, ScenarioError> {
    let rounds = NonZeroU32::MIN.saturating_add(LEDGER_ROUNDS - 1);
    let slow = slow(measure);
    let mut scenario = resolved("full", Measure { rounds, slices: NonZeroU32::MIN, slice: LEDGER_SLICE, ..slow })?;
    let full = scenario.arms.swap_remove(0);
    let lossy = Arm { known: Some(Known::LostSpan(LOST_SPAN)), ..Arm::new("lost-span", Role::Treatment, &full.mode) };
    scenario.arms = vec![full, lossy];
    Ok(scenario)
}

fn slow(measure: Measure) -> Measure {
    // A rate in the range of rates.
    Rate::per_second(SLOW_RATE).map_or(measure, |rps| Measure { rps, ..measure })
}

/// A mode against itself, and a sink to send to, whatever the environment says.
fn resolved(mode: &str, measure: Measure) -> Result<Scenario, ScenarioError> {
    let mode: Vec<_> = mode.parse().into_iter().collect();
    let settings = Settings {
        name: Some("selftest".into()),
        rps: Some(measure.rps),
        baseline: mode.first().cloned(),
        mode: Some(mode),
        rounds: Some(measure.rounds),
        slices: Some(measure.slices),
        slice: Some(measure.slice),
        warmup: Some(measure.warmup),
        ..Settings::default()
    };
    Ok(Scenario { collector: Collector::Embedded, ..Scenario::resolve(settings)? })
}

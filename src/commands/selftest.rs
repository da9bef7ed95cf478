//! `otelbench selftest`: plays known effects, and judges whether they are found.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::run::{Cut, clock_seed, default_out, judged, make_way, play, write};
use super::{Failure, print};
use crate::cli::SelftestOptions;
use crate::experiment::scenario::{Scenario, ScenarioError, Settings};
use crate::experiment::units::Rate;
use crate::record::result::Document;
use crate::record::selftest::Selftest;
use crate::studies::selftest::scenarios::{self, Effort, INJECTED, INJECTED_IN_REPEATS};
use crate::studies::selftest::{checks, repeats};

/// Proves on this machine that the numbers can be trusted, or names the checks that fail.
///
/// # Errors
/// [`Failure::Invalid`] where a check fails; else as the contract's exit codes have it.
pub fn run(options: &SelftestOptions) -> Result<(), Failure> {
    let SelftestOptions { aa, settings } = options;
    let (format, quiet) = (settings.format.unwrap_or_default(), settings.quiet.unwrap_or(false));
    let started = SystemTime::now();
    let out = settings.out.clone().unwrap_or_else(|| default_out("selftest", started));
    make_way(&out)?;
    let plays = Plays { out: &out, seed: settings.seed.unwrap_or_else(|| clock_seed(started)), quiet };
    let effort = effort_of(settings, 12, 500, 200);

    let (calibration, cut) = plays.play("the cost of a request", "calibration", scenarios::calibration(effort))?;
    if cut.is_some() {
        return judged(&calibration, cut, &plays.beside("calibration"));
    }
    let base_us = calibration.arms.first().and_then(|arm| arm.cpu_us_per_request.total).ok_or_else(|| {
        let causes = calibration.validity.causes.join("; ");
        Failure::Invalid(format!("the cost of a request could not be measured on this machine: {causes}"))
    })?;
    plays.say("injected costs");
    let scenario = scenarios::injected(effort, base_us, &INJECTED).map_err(usage)?;
    let (mut document, mut cut) = play(&scenario, plays.seed, &out, quiet)?;

    let mut selftest = Selftest { repeats_planned: *aa, ..Selftest::default() };
    if cut.is_none() {
        cut = plays.check(effort, &calibration, &document, &mut selftest)?;
    }
    if cut.is_none() && *aa > 0 {
        cut = plays.repeat(effort_of(settings, 8, 100, 100), base_us, &mut selftest)?;
    }
    document.partial |= cut.is_some();
    let failed = selftest.failed().join(", ");
    document.selftest = Some(selftest);
    write(&document, &out)?;
    print(&document, format)?;
    if !quiet {
        eprintln!("result: {}", out.display());
    }
    match cut {
        Some(_) => judged(&document, cut, &out),
        None if failed.is_empty() => Ok(()),
        None => Err(Failure::Invalid(format!("do not trust measurements on this machine; failed: {failed}"))),
    }
}

/// Rates and lengths: those of the settings, and these where they say nothing.
fn effort_of(settings: &Settings, rounds: u32, slice_ms: u64, warmup_ms: u64) -> Effort {
    Effort {
        rps: settings.rps.unwrap_or(Rate::TEN_THOUSAND),
        rounds: settings.rounds.or(NonZeroU32::new(rounds)).unwrap_or(NonZeroU32::MIN),
        slices: settings.slices.unwrap_or(NonZeroU32::MIN),
        slice: settings.slice.unwrap_or(Duration::from_millis(slice_ms)),
        warmup: settings.warmup.unwrap_or(Duration::from_millis(warmup_ms)),
    }
}

/// The common part of all runs of one self-test.
struct Plays<'a> {
    /// Where the result goes; the records of each play go beside it.
    out: &'a Path,
    seed: u64,
    quiet: bool,
}

impl Plays<'_> {
    /// Plays a scenario whose records go to a file of this name beside the result.
    fn play(
        &self,
        what: &str,
        name: &str,
        scenario: Result<Scenario, ScenarioError>,
    ) -> Result<(Document, Option<Cut>), Failure> {
        self.say(what);
        play(&scenario.map_err(usage)?, self.seed, &self.beside(name), self.quiet)
    }

    /// Plays the runs of the other checks, and makes all checks unless it is cut short.
    fn check(
        &self,
        effort: Effort,
        calibration: &Document,
        injected: &Document,
        selftest: &mut Selftest,
    ) -> Result<Option<Cut>, Failure> {
        selftest.checks = vec![checks::placebo(injected), checks::injected(injected), checks::detected(injected)];
        let (known, cut) = self.play("a known delay and a known stall", "known", scenarios::known(effort))?;
        if cut.is_some() {
            return Ok(cut);
        }
        selftest.checks.extend([checks::delay(&known), checks::stall(&known)]);
        let (ledger, cut) = self.play("the ledger", "ledger", scenarios::ledger(effort))?;
        if cut.is_some() {
            return Ok(cut);
        }
        let all = [calibration, injected, &known, &ledger];
        selftest.checks.extend([checks::lost_span(&ledger), checks::ledger(&ledger), checks::identity(&all)]);
        Ok(None)
    }

    /// Plays the short runs, each with records of its own, and judges them together. Those that were played before something
    /// cut them short are kept, and not judged.
    fn repeat(&self, effort: Effort, base_us: f64, selftest: &mut Selftest) -> Result<Option<Cut>, Failure> {
        let planned = selftest.repeats_planned;
        let folder = self.out.with_extension("aa");
        for number in 1..=planned {
            self.say(&format!("short run {number} of {planned}"));
            let scenario = scenarios::injected(effort, base_us, &INJECTED_IN_REPEATS).map_err(usage)?;
            let out = folder.join(format!("{number:03}.json"));
            let (run, cut) = play(&scenario, self.seed.wrapping_add(number.into()), &out, true)?;
            if cut.is_some() {
                return Ok(cut);
            }
            selftest.repeats.push(repeats::repeat(number, &run));
        }
        selftest.checks.extend(repeats::summary(&selftest.repeats, planned));
        Ok(None)
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.out.with_extension(format!("{name}.json"))
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            eprintln!("selftest: {what}");
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn usage(error: ScenarioError) -> Failure {
    Failure::Usage(error.to_string())
}

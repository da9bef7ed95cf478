//! Progress on stderr: a bar on a terminal, a line per round elsewhere.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::lab::trial::Event;

/// How often a bar is drawn anew.
const TICK: Duration = Duration::from_millis(120);
/// A bar whose end is known.
const WITH_END: &str = "{spinner} {msg:44} {bar:28} {percent:>3} %  {eta} left";

/// Shows a bar on a terminal while `what` runs for `lasts`, until it is dropped.
pub async fn pass(what: String, lasts: Duration) -> Infallible {
    let bar = ProgressBar::new(whole_micros(lasts)).with_finish(ProgressFinish::AndClear).with_message(what);
    bar.set_style(style(WITH_END));
    let (began, mut ticks) = (Instant::now(), tokio::time::interval(TICK));
    loop {
        ticks.tick().await;
        bar.set_position(whole_micros(began.elapsed().min(lasts)));
    }
}

/// The template is a constant; if it were wrong, indicatif's default would do.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Progress of a run: the current step, its share of the whole, and the time left.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    rounds: u32,
    /// Load of the step under way.
    step: Duration,
    quiet: bool,
}

impl Progress {
    /// Progress through `rounds` rounds of `load` in all, if that is known.
    pub fn new(rounds: u32, load: Option<Duration>, quiet: bool) -> Self {
        let (bar, template) = match load {
            _ if quiet => (ProgressBar::hidden(), ""),
            Some(load) => (ProgressBar::new(whole_micros(load)), WITH_END),
            None => (ProgressBar::new_spinner(), "{spinner} {msg:60} {elapsed}"),
        };
        bar.set_style(style(template));
        bar.enable_steady_tick(TICK);
        Self { bar, rounds, step: Duration::ZERO, quiet }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        self.step = match event {
            Event::Warming { round, arm, lasts } => {
                self.say(*round, &format!("launching and warming up {arm}"));
                *lasts
            }
            Event::Playing { round, arm, lasts } => {
                self.say(*round, &format!("load on {arm}"));
                *lasts
            }
            Event::Trying { round, arm, rate, lasts } => {
                self.say(*round, &format!("trying {rate} requests per second on {arm}"));
                *lasts
            }
            Event::Ending { round } => {
                self.say(*round, "ending the lanes");
                if self.bar.is_hidden() && !self.quiet {
                    eprintln!("round {} of {} played", round + 1, self.rounds);
                }
                Duration::ZERO
            }
            Event::Done => {
                self.bar.inc(whole_micros(self.step));
                Duration::ZERO
            }
        };
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, round: u32, what: &str) {
        self.bar.set_message(format!("round {} of {}: {what}", round + 1, self.rounds));
    }
}

/// Progress through a number of steps.
#[derive(Debug)]
pub struct Steps(ProgressBar);

impl Steps {
    /// Progress through so many steps.
    pub fn new(steps: usize, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(steps as u64) };
        bar.set_style(style("{spinner} {msg:32} {bar:28} {pos} of {len}  {elapsed}"));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Names the current step.
    pub fn begin(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Ends the current step.
    pub fn done(&self) {
        self.0.inc(1);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

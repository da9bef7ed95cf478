//! What is going on, on stderr: a bar on a terminal, a line per round elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::trial::Event;

/// Tells a person at the terminal what runs now, how far it is and how long it will take.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    rounds: u32,
    /// Load of the step under way.
    step: Duration,
    quiet: bool,
}

impl Progress {
    /// Progress through `rounds` rounds with this much load in all, where that is known.
    pub fn new(rounds: u32, load: Option<Duration>, quiet: bool) -> Self {
        let (bar, template) = match load {
            _ if quiet => (ProgressBar::hidden(), ""),
            Some(load) => {
                (ProgressBar::new(whole_micros(load)), "{spinner} {msg:44} {bar:28} {percent:>3} %  {eta} left")
            }
            None => (ProgressBar::new_spinner(), "{spinner} {msg:60} {elapsed}"),
        };
        let style = ProgressStyle::with_template(template);
        // The template is a constant; indicatif's own look is as good as an error.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(120));
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

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, round: u32, what: &str) {
        self.bar.set_message(format!("round {} of {}: {what}", round + 1, self.rounds));
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

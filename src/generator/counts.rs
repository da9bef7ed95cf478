//! Where every arrival went.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where every scheduled arrival went; `scheduled` is the sum of the rest, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LoadCounts {
    /// Arrivals that were due.
    pub scheduled: u64,
    /// Answered with a 2xx status, to the last byte.
    pub completed: u64,
    /// Answered with another status, or ended by an error, by class.
    pub failed: BTreeMap<String, u64>,
    /// Written, and not answered within the time-out.
    pub timed_out: u64,
    /// Due when the backlog was full, and given up at once.
    pub missed: u64,
    /// Still waiting for a connection when the stretch was over.
    pub unsent: u64,
    /// Written and still without an answer when the stretch was over.
    pub in_flight: u64,
}

/// What a request is to whoever counts the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work for the service, to be answered with a 2xx status.
    Work,
    /// Work that the service must refuse with a 4xx status.
    Faulty,
    /// No work, such as a health check; to be answered with a 2xx status.
    Probe,
}

/// What a mix adds to the counts of a load; all zero where everything sent was work that should succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MixCounts {
    /// Of those that failed: faulty, and refused with a 4xx status, as it was asked for.
    pub refused_as_asked: u64,
    /// Of those that completed: faulty, and not refused.
    pub not_refused: u64,
    /// Answered, whatever the status: requests that were no work.
    pub probes_answered: u64,
}

impl MixCounts {
    /// Adds what another account holds.
    pub fn add(&mut self, other: &Self) {
        self.refused_as_asked += other.refused_as_asked;
        self.not_refused += other.not_refused;
        self.probes_answered += other.probes_answered;
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl LoadCounts {
    /// Arrivals that failed, over all classes.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Adds what another account holds.
    pub fn add(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.completed += other.completed;
        for (class, n) in &other.failed {
            *self.failed.entry(class.clone()).or_default() += n;
        }
        self.timed_out += other.timed_out;
        self.missed += other.missed;
        self.unsent += other.unsent;
        self.in_flight += other.in_flight;
    }

    /// Whether every arrival is accounted for.
    pub fn adds_up(&self) -> bool {
        self.scheduled == self.completed + self.failures() + self.timed_out + self.missed + self.unsent + self.in_flight
    }
}

//! A log of exports, from which the service's side of the ledger is computed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::record::account::Exports;

/// The export log of one exporter.
#[derive(Debug)]
pub(super) struct ExportLog {
    failed: AtomicU64,
    failed_items: AtomicU64,
    exported_items: AtomicU64,
    durations_ns: Mutex<Durations>,
}

/// Durations of exports, in nanoseconds.
#[derive(Debug)]
struct Durations {
    all: Histogram<u64>,
    /// Number of items in the largest export so far.
    largest: u64,
    /// Durations of the exports of that size.
    of_the_largest: Histogram<u64>,
}

impl Durations {
    fn add(&mut self, other: &Self) {
        const SAME: &str = "all histograms have the same bounds";
        self.all.add(&other.all).expect(SAME);
        if other.largest > self.largest {
            self.largest = other.largest;
            self.of_the_largest.reset();
        }
        if other.largest == self.largest {
            self.of_the_largest.add(&other.of_the_largest).expect(SAME);
        }
    }
}

impl Default for ExportLog {
    fn default() -> Self {
        // One minute; the exporter's own time-out is 10 s.
        let empty = || Histogram::new_with_max(60_000_000_000, 3).expect("the bounds are the library's");
        Self {
            failed: AtomicU64::new(0),
            failed_items: AtomicU64::new(0),
            exported_items: AtomicU64::new(0),
            durations_ns: Mutex::new(Durations { all: empty(), largest: 0, of_the_largest: empty() }),
        }
    }
}

impl ExportLog {
    /// Records an export of `items` items.
    pub(super) fn exported(&self, items: u64, took: Duration, succeeded: bool) {
        if succeeded {
            self.exported_items.fetch_add(items, Relaxed);
        } else {
            self.failed.fetch_add(1, Relaxed);
            self.failed_items.fetch_add(items, Relaxed);
        }
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut durations = self.durations();
        durations.all.saturating_record(took_ns);
        if items > durations.largest {
            durations.largest = items;
            durations.of_the_largest.reset();
        }
        if items == durations.largest {
            durations.of_the_largest.saturating_record(took_ns);
        }
    }

    /// Adds the log of another exporter.
    pub(super) fn add(&self, other: &Self) {
        self.failed.fetch_add(other.failed.load(Relaxed), Relaxed);
        self.failed_items.fetch_add(other.failed_items(), Relaxed);
        self.exported_items.fetch_add(other.exported_items(), Relaxed);
        self.durations().add(&other.durations());
    }

    /// Number of items in failed exports.
    pub(super) fn failed_items(&self) -> u64 {
        self.failed_items.load(Relaxed)
    }

    /// Number of items in successful exports.
    pub(super) fn exported_items(&self) -> u64 {
        self.exported_items.load(Relaxed)
    }

    /// Number of exports so far, including failed ones.
    pub(super) fn exports(&self) -> u64 {
        self.durations().all.len()
    }

    pub(super) fn summary(&self) -> Exports {
        let durations = self.durations();
        let at = |of: &Histogram<u64>, q| (!of.is_empty()).then(|| of.value_at_quantile(q) as f64 / 1e6);
        Exports {
            count: durations.all.len(),
            failed: self.failed.load(Relaxed),
            p50_ms: at(&durations.all, 0.5),
            p99_ms: at(&durations.all, 0.99),
            largest: durations.largest,
            largest_p50_ms: at(&durations.of_the_largest, 0.5),
            largest_mean_ms: (durations.largest > 0).then(|| durations.of_the_largest.mean() / 1e6),
        }
    }

    fn durations(&self) -> std::sync::MutexGuard<'_, Durations> {
        // A panic while recording leaves the histogram of counts usable.
        self.durations_ns.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_the_largest_exports_exclude_smaller_ones() {
        let log = ExportLog::default();
        assert_eq!(log.summary().largest_p50_ms, None);
        for (items, ms) in [(100, 1), (100, 1), (512, 20), (40, 300), (40, 300), (512, 20), (40, 300)] {
            log.exported(items, Duration::from_millis(ms), true);
        }
        let summary = log.summary();
        assert_eq!((summary.count, summary.largest), (7, 512));
        let p50 = summary.largest_p50_ms.unwrap();
        assert!((p50 - 20.0).abs() < 0.03, "{p50}");
        log.exported(512, Duration::from_millis(80), true);
        let mean = log.summary().largest_mean_ms.unwrap();
        assert!((mean - 40.0).abs() < 0.06, "{mean}");
    }
}

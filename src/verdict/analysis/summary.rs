//! The measurements of one arm over its valid rounds.

use std::collections::BTreeMap;

use super::CONFIDENCE;
use super::ledger::telemetry;
use super::rounds::deciding_slices;
use super::values::RoundValues;
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Arm;
use crate::record::interval::Interval;
use crate::record::load::Validity;
use crate::record::records::{LaneRecord, Records, SliceRecord};
use crate::record::result::{ArmSummary, CpuPerRequest, ResponseUs};
use crate::verdict::stats::Paired;

pub(super) fn summarise(arm: &Arm, records: &Records, values: &RoundValues, valid: &[u32]) -> ArmSummary {
    let mut means = Means { arm: &arm.name, values, intervals: BTreeMap::new(), reasons: BTreeMap::new() };
    let cpu_us_per_request = CpuPerRequest {
        total: means.of(Metric::Cpu),
        request: means.of(Metric::CpuRequest),
        exporter: means.of(Metric::CpuExporter),
    };
    let response_us = ResponseUs {
        p50: means.of(Metric::ResponseP50),
        p90: means.of(Metric::ResponseP90),
        p99: means.of(Metric::ResponseP99),
        p999: means.of(Metric::ResponseP999),
    };
    let searched = records.header.scenario.slo.is_some();
    let capacity_rps = if searched { means.of(Metric::Capacity) } else { None };
    let allocations_per_request = means.of(Metric::Allocations);
    // Stored as an interval alone.
    means.of(Metric::AllocatedBytes);
    let rss_bytes = means.of(Metric::Rss);
    let deciding: Vec<&SliceRecord> =
        valid.iter().flat_map(|round| deciding_slices(records, *round, &arm.name)).collect();
    let lanes: Vec<&LaneRecord> =
        records.lanes.iter().filter(|lane| lane.arm == arm.name && valid.contains(&lane.round)).collect();
    ArmSummary {
        name: arm.name.clone(),
        mode: arm.mode.name.clone(),
        role: arm.role,
        requests: deciding.iter().map(|slice| slice.played.answered()).sum(),
        cpu_us_per_request,
        response_us,
        capacity_rps,
        allocations_per_request,
        rss_bytes,
        rss_peak_bytes: lanes.iter().filter_map(|lane| lane.account.rss_peak_bytes).max(),
        intervals: means.intervals,
        telemetry: telemetry(arm, &lanes),
        validity: if searched {
            // A failed step shows a limit of the service, and is nothing against the measurement.
            validity(deciding)
        } else {
            validity(records.slices.iter().filter(|slice| slice.arm == arm.name))
        },
        reasons: means.reasons,
    }
}

/// The findings in these slices.
fn validity<'a>(slices: impl IntoIterator<Item = &'a SliceRecord>) -> Validity {
    let mut validity = Validity::default();
    for slice in slices {
        validity.merge(&slice.played.validity);
    }
    validity
}

/// The means of an arm's metrics, with their intervals, and why some have none.
struct Means<'a> {
    arm: &'a str,
    values: &'a RoundValues,
    intervals: BTreeMap<Metric, Interval>,
    reasons: BTreeMap<Metric, String>,
}

impl Means<'_> {
    fn of(&mut self, metric: Metric) -> Option<f64> {
        match self.values.get(self.arm, metric) {
            Ok(rounds) => {
                if let Some(paired) = Paired::of(&rounds) {
                    self.intervals.insert(metric, paired.interval(CONFIDENCE));
                }
                Some(average(&rounds))
            }
            Err(reason) => {
                self.reasons.insert(metric, reason);
                None
            }
        }
    }
}

pub(super) fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

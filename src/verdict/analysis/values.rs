//! One value per arm, metric and round.

use std::collections::BTreeMap;

use super::rounds::{self, deciding_slices, slices_of};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Scenario;
use crate::experiment::slo::Quantile;
use crate::experiment::units::micros;
use crate::record::load::{Quantiles, decode};
use crate::record::records::{LaneRecord, Records, SliceRecord};

/// Requests in a round below which its 99.9th percentile rests on fewer than 20 of them.
const P999_REQUESTS: u64 = 20_000;

/// The value of each of some arms, by each metric, in each valid round, in the order of the rounds.
#[derive(Clone, Debug)]
pub struct RoundValues(BTreeMap<(String, Metric), Vec<Result<f64, String>>>);

/// The differences between one arm and another in each valid round, by one metric, in the order of the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Differences {
    /// The values of the other arm.
    pub base: Vec<f64>,
    /// How much more the arm took, in the metric's unit.
    pub absolute: Vec<f64>,
    /// The logarithm of the ratio of the two; `None` where a round measured zero.
    pub log_ratios: Option<Vec<f64>>,
}

impl RoundValues {
    /// Of every arm, in the valid rounds of a run.
    pub fn of_valid(records: &Records) -> Self {
        Self::of_arms(records, &records.header.scenario.arm_names())
    }

    /// Of some arms, in the valid rounds of a run.
    pub(super) fn of_arms(records: &Records, arms: &[String]) -> Self {
        let (rounds, _) = rounds::judge(records);
        Self::of(records, &rounds::valid(records, &rounds), arms)
    }

    /// Of some arms, in these rounds.
    pub(super) fn of(records: &Records, valid: &[u32], arms: &[String]) -> Self {
        let mut values: BTreeMap<(String, Metric), Vec<Result<f64, String>>> = BTreeMap::new();
        for round in valid {
            for arm in records.header.scenario.arms.iter().map(|arm| &arm.name).filter(|arm| arms.contains(arm)) {
                let slices = deciding_slices(records, *round, arm);
                let measured = ArmRound::of(&slices, &records.header.scenario);
                for metric in Metric::ALL {
                    values.entry((arm.clone(), metric)).or_default().push(measured.value(metric));
                }
            }
        }
        Self(values)
    }

    /// The values, or why there are none. A metric that one round lacks is not compared at all.
    ///
    /// # Errors
    /// When a round lacks the metric, or there is no such arm, or no round; in words.
    pub fn get(&self, arm: &str, metric: Metric) -> Result<Vec<f64>, String> {
        match self.0.get(&(arm.to_owned(), metric)) {
            Some(values) => values.iter().cloned().collect(),
            None => Err("no round was played to its end".into()),
        }
    }

    /// The differences between `arm` and `baseline`.
    ///
    /// # Errors
    /// As of [`RoundValues::get`].
    pub fn differences(&self, arm: &str, baseline: &str, metric: Metric) -> Result<Differences, String> {
        let (treated, base) = (self.get(arm, metric)?, self.get(baseline, metric)?);
        let positive = treated.iter().chain(&base).all(|value| *value > 0.0);
        let pairs = || treated.iter().zip(&base);
        Ok(Differences {
            absolute: pairs().map(|(t, b)| t - b).collect(),
            log_ratios: positive.then(|| pairs().map(|(t, b)| t.ln() - b.ln()).collect()),
            base,
        })
    }

    #[cfg(test)]
    pub(super) fn made_of(values: impl IntoIterator<Item = (String, Metric, Vec<f64>)>) -> Self {
        let of = |(arm, metric, of): (String, Metric, Vec<f64>)| ((arm, metric), of.into_iter().map(Ok).collect());
        Self(values.into_iter().map(of).collect())
    }
}

/// CPU time per request of each slice, for each lane; without those of which it is not known.
pub fn cpu_of_slices(records: &Records) -> Vec<Vec<f64>> {
    let lane = |lane: &LaneRecord| {
        let slices = slices_of(records, lane.round, &lane.arm);
        slices.filter_map(|slice| ArmRound::of(&[slice], &records.header.scenario).value(Metric::Cpu).ok()).collect()
    };
    records.lanes.iter().map(lane).collect()
}

/// One arm in one round: its slices added up.
struct ArmRound {
    /// Of a search, whose only slice is the step that gave its answer.
    capacity: Option<f64>,
    /// With a success, and thus a response time.
    completed: u64,
    /// As asked; costs are divided by it.
    answered: u64,
    request_us: f64,
    exporter_us: f64,
    allocations: Result<(f64, f64), String>,
    rss_bytes: Option<u64>,
    response_us: Quantiles,
}

impl ArmRound {
    fn of(slices: &[&SliceRecord], scenario: &Scenario) -> Self {
        let slice_us = micros(scenario.slice);
        let mut whole = Self {
            capacity: scenario.slo.as_ref().and(slices.first()).and_then(|step| step.played.rate.asked),
            completed: 0,
            answered: 0,
            request_us: 0.0,
            exporter_us: 0.0,
            allocations: Ok((0.0, 0.0)),
            rss_bytes: None,
            response_us: response_us(slices),
        };
        for slice in slices {
            whole.add(slice, slice_us);
        }
        whole
    }

    fn add(&mut self, slice: &SliceRecord, slice_us: f64) {
        let spent = &slice.spent;
        self.completed += slice.played.load.completed;
        self.answered += slice.played.answered();
        self.request_us += spent.cpu_us.request;
        // Work done once per interval is charged for the share of the interval that the slice lasted.
        let due = spent.periodic.filter(|p| p.exports > 0).map(|p| (p, slice_us / p.interval_us / p.exports as f64));
        let normalised = |raw: f64, periodic: f64| due.map_or(raw, |(_, share)| raw - periodic + periodic * share);
        self.exporter_us += normalised(spent.cpu_us.exporter, due.map_or(0.0, |(p, _)| p.cpu_us));
        if let Ok((count, bytes)) = &mut self.allocations {
            match spent.allocations {
                Some(a) => {
                    *count += normalised(a.count as f64, due.map_or(0.0, |(p, _)| p.allocations.count as f64));
                    *bytes += normalised(a.bytes as f64, due.map_or(0.0, |(p, _)| p.allocations.bytes as f64));
                }
                None => {
                    self.allocations = Err(spent.allocations_reason.clone().unwrap_or_else(|| "not counted".into()));
                }
            }
        }
        self.rss_bytes = Some(spent.rss_bytes);
    }

    fn value(&self, metric: Metric) -> Result<f64, String> {
        if self.answered == 0 {
            return Err("no request was answered as asked".into());
        }
        let per_request = |total: f64| total / self.answered as f64;
        match metric {
            Metric::Cpu => Ok(per_request(self.request_us + self.exporter_us)),
            Metric::CpuRequest => Ok(per_request(self.request_us)),
            Metric::CpuExporter => Ok(per_request(self.exporter_us)),
            Metric::ResponseP50 => self.response_us(Quantile::P50),
            Metric::ResponseP90 => self.response_us(Quantile::P90),
            Metric::ResponseP99 => self.response_us(Quantile::P99),
            Metric::ResponseP999 if self.completed < P999_REQUESTS => {
                Err(format!("withheld: a round has {} requests, and a p99.9 needs {P999_REQUESTS}", self.completed))
            }
            Metric::ResponseP999 => self.response_us(Quantile::P999),
            Metric::Allocations => self.allocations.clone().map(|(count, _)| per_request(count)),
            Metric::AllocatedBytes => self.allocations.clone().map(|(_, bytes)| per_request(bytes)),
            Metric::Capacity => self.capacity.ok_or_else(|| "it was not searched for".into()),
            Metric::Rss if self.capacity.is_some() => {
                Err("what a process holds after an overload does not tell of the rate it sustains".into())
            }
            Metric::Rss => self.rss_bytes.map(|bytes| bytes as f64).ok_or_else(|| "not measured".into()),
        }
    }

    fn response_us(&self, quantile: Quantile) -> Result<f64, String> {
        if self.completed == 0 {
            return Err("no request was completed".into());
        }
        self.response_us.at(quantile).ok_or_else(|| "the stored histogram cannot be read".into())
    }
}

/// Response times of slices together: of one as it was recorded, of several from their histograms.
fn response_us(slices: &[&SliceRecord]) -> Quantiles {
    if let [only] = slices {
        return only.played.response_us.clone();
    }
    let histograms = slices.iter().filter_map(|slice| decode(&slice.played.hdr.response_ns));
    let together = histograms.reduce(|mut sum, histogram| {
        // Histograms of one precision that grow by themselves always add up.
        let _ = sum.add(&histogram);
        sum
    });
    together.map_or_else(Quantiles::default, |sum| Quantiles::of(&sum))
}

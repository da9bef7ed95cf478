//! One run, with the values that are compared.

use super::{Basis, Side};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::Role;
use crate::record::records::Header;
use crate::record::result::Document;
use crate::verdict::analysis::RoundValues;
use crate::verdict::stats::Estimate;

/// A document with the values of its rounds.
pub(crate) struct Run<'a> {
    pub(crate) header: &'a Header,
    /// The arm that ratios are to.
    pub(crate) baseline: String,
    pub(super) rounds: u32,
    pub(super) values: RoundValues,
}

impl<'a> Run<'a> {
    pub(crate) fn of(document: &'a Document) -> Self {
        let header = &document.header;
        let baseline = header.scenario.arms.iter().find(|arm| arm.role == Role::Baseline);
        Self {
            header,
            baseline: baseline.map(|arm| arm.name.clone()).unwrap_or_default(),
            rounds: document.rounds.complete.saturating_sub(document.rounds.void.len() as u32),
            values: RoundValues::of_valid(&document.clone().into_records()),
        }
    }

    pub(super) fn side(&self) -> Side {
        Side { tool: self.header.tool.clone(), started_at: self.header.started_at.clone(), rounds: self.rounds }
    }

    /// The arm that the ratios of an arm are to; a baseline has none to itself.
    pub(crate) fn reference(&self, arm: &str) -> Option<&str> {
        let scenario = &self.header.scenario;
        let arm = scenario.arms.iter().find(|other| other.name == arm)?;
        scenario.reference(arm).map(|other| other.name.as_str()).filter(|other| *other != arm.name)
    }

    /// The mean of what the rounds say of an arm, on the scale on which it is compared: the logarithm.
    pub(crate) fn estimate(&self, basis: Basis, arm: &str, metric: Metric) -> Result<Estimate, String> {
        let logs = match basis {
            Basis::Ratio => {
                let reference = self.reference(arm).ok_or("it has no ratio to itself")?;
                self.values.differences(arm, reference, metric)?.log_ratios
            }
            Basis::Exact | Basis::Level => {
                let values = self.values.get(arm, metric)?;
                values.iter().all(|value| *value > 0.0).then(|| values.iter().map(|value| value.ln()).collect())
            }
        };
        let logs = logs.ok_or("no ratio: a round measured zero")?;
        Estimate::of(&logs).ok_or_else(|| "an interval needs two rounds or more".into())
    }

    /// The mean as it is shown.
    pub(super) fn mean(&self, basis: Basis, arm: &str, metric: Metric) -> Option<f64> {
        match basis {
            Basis::Ratio => self.estimate(basis, arm, metric).ok().map(|log| log.mean().exp()),
            Basis::Exact | Basis::Level => {
                let values = self.values.get(arm, metric).ok()?;
                Some(values.iter().sum::<f64>() / values.len() as f64)
            }
        }
    }
}

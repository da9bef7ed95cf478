//! From records to a result document: how its summary is computed, and checked when it is read again.

mod verify;

use std::path::Path;

use crate::experiment::gate::UnknownArm;
use crate::experiment::metric::Metric;
use crate::record::claims::ClaimEvidence;
use crate::record::records::Records;
use crate::record::result::{Document, ResultError, StoredResult};
use crate::verdict::analysis::{self, Differences};
use crate::verdict::claims;
use crate::verdict::gate::{self, Judged, LogRatio};

impl Document {
    /// The result of these records.
    pub fn of(records: Records) -> Self {
        Self::with(records, None)
    }

    /// The result of these records and of what else was measured for the claims.
    pub fn with(records: Records, evidence: Option<ClaimEvidence>) -> Self {
        let analysis = analysis::analyse(&records);
        let claims = claims::judge(&records, evidence.as_ref().unwrap_or(&ClaimEvidence::default()));
        let whole = |evidence: &ClaimEvidence| {
            evidence.missing.is_empty() && evidence.scenarios.values().all(Records::is_whole)
        };
        let played = records.is_whole() || analysis::is_decided(&records);
        Self {
            partial: !played || !evidence.as_ref().is_none_or(whole),
            validity: analysis.validity,
            rounds: analysis.rounds,
            arms: analysis.arms,
            deltas: analysis.deltas,
            claims,
            evidence,
            selftest: None,
            header: records.header,
            records: records.slices,
            lanes: records.lanes,
        }
    }

    /// Reads a result document, or the records file of a run that was cut short, and analyses it anew.
    ///
    /// # Errors
    /// When the file cannot be read, is no result, has another major version, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        let contradiction = |reason| ResultError::Contradiction { path: path.into(), reason };
        let (mut stored, json) = match StoredResult::read(path)? {
            StoredResult::Document { document, json } => (document, json),
            StoredResult::Records(records) => {
                verify::records(&records).map_err(contradiction)?;
                return Ok(Self::of(*records));
            }
        };
        // A self-test goes on when these records are whole, and rests on more than them.
        let (selftest, evidence, partial) = (stored.selftest.take(), stored.evidence.take(), stored.partial);
        let records = stored.into_records();
        verify::records(&records).map_err(contradiction)?;
        let computed = Self::with(records, evidence);
        let computed = Self { partial: computed.partial || (selftest.is_some() && partial), selftest, ..computed };
        verify::summary(&json, &computed).map_err(contradiction)?;
        Ok(computed)
    }

    /// The scenario's gates, judged, where arms of two builds were measured together; none otherwise, since gates on one
    /// build are for comparing stored results.
    ///
    /// # Errors
    /// When a gate names an arm that does not exist.
    pub fn gates(&self) -> Result<Vec<Judged>, UnknownArm> {
        let scenario = &self.header.scenario;
        let of_two_builds: Vec<(&str, &str)> =
            scenario.arms.iter().filter_map(|arm| Some((arm.name.as_str(), arm.against.as_deref()?))).collect();
        if of_two_builds.is_empty() || self.validity.is_invalid() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = of_two_builds.iter().map(|(name, _)| *name).collect();
        let measured = |metric: Metric, arm: &str| {
            let (_, base) = of_two_builds.iter().find(|(name, _)| *name == arm).ok_or("it was not measured")?;
            let differences = self.differences(arm, base, metric)?;
            differences.log_ratios.map(LogRatio::Rounds).ok_or_else(|| "a round measured zero".into())
        };
        Ok(gate::judge(gate::cases(&scenario.gates, &names, &names, measured)?))
    }

    /// The differences between `arm` and `baseline` in the valid rounds, by one metric.
    ///
    /// # Errors
    /// As of [`analysis::differences`].
    pub fn differences(&self, arm: &str, baseline: &str, metric: Metric) -> Result<Differences, String> {
        analysis::differences(&self.clone().into_records(), arm, baseline, metric)
    }

    /// The values of `arm` in the valid rounds, by one metric.
    ///
    /// # Errors
    /// As of [`analysis::values`].
    pub fn values(&self, arm: &str, metric: Metric) -> Result<Vec<f64>, String> {
        analysis::values(&self.clone().into_records(), arm, metric)
    }
}

#[cfg(test)]
mod tests;

//! The result document as stored: records and the summary that was computed from them. Plain data; the summary is computed
//! and checked by [`crate::verdict::document`].

mod file;
pub(crate) mod layout;
mod ledger;
mod summary;

use serde::{Deserialize, Serialize};

pub(crate) use self::file::write_whole;
pub use self::file::{ResultError, StoredResult};
pub use self::ledger::{LogLedger, MetricLedger, SpanLedger, TelemetrySummary};
pub use self::summary::{ArmSummary, CpuPerRequest, Delta, ResponseUs, Rounds};

use crate::experiment::metric::Metric;
use crate::record::claims::{Claim, ClaimEvidence};
use crate::record::load::Validity;
use crate::record::records::{Header, LaneRecord, Records, SliceRecord};
use crate::record::selftest::Selftest;

/// A whole result, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document {
    /// The experiment, the machine and the program.
    #[serde(flatten)]
    pub header: Header,
    /// Whether the run was cut short.
    pub partial: bool,
    /// Whether the run as a whole can be trusted. No delta is given of an invalid one.
    pub validity: Validity,
    /// How many rounds were planned, played and void.
    pub rounds: Rounds,
    /// One per slice, raw.
    pub records: Vec<SliceRecord>,
    /// One per lane, raw.
    pub lanes: Vec<LaneRecord>,
    /// The measurements of each arm, over its valid rounds.
    pub arms: Vec<ArmSummary>,
    /// Each arm against the baseline.
    pub deltas: Vec<Delta>,
    /// Claims put to the test; empty where none was.
    pub claims: Vec<Claim>,
    /// Measurements for the claims beside the records; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<ClaimEvidence>,
    /// Findings of a self-test; absent in other results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selftest: Option<Selftest>,
}

impl Document {
    /// The difference of `arm` to the baseline by one metric.
    pub fn delta(&self, arm: &str, metric: Metric) -> Option<&Delta> {
        self.deltas.iter().find(|delta| delta.arm == arm && delta.metric == metric)
    }

    /// The records it was made from.
    pub fn into_records(self) -> Records {
        Records { header: self.header, slices: self.records, lanes: self.lanes }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::record::records::SCHEMA;

    #[test]
    fn the_schema_in_the_repository_is_that_of_the_program() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/result-1.schema.json");
        let mut schema = schemars::schema_for!(Document);
        schema.insert("title".into(), SCHEMA.into());
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == generated, "run `UPDATE_SCHEMA=1 cargo test --lib schema` and look at the difference");
    }
}

//! The result document: what was recorded, and what it says.

mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::metric::Metric;
use crate::record::load::{Validity, Verdict};
use crate::record::records::{Header, LaneRecord, Records, RecordsError, SCHEMA, SliceRecord};
use crate::studies::selftest::Selftest;
use crate::verdict::analysis::{self, ArmSummary, Delta, Differences, Rounds};
use crate::verdict::claims::{self, Claim};
use crate::verdict::gate::{self, Evidence, Judged, UnknownArm};

/// A whole result, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document {
    /// What was run, where, and by what.
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
    /// What each arm measured, over its valid rounds.
    pub arms: Vec<ArmSummary>,
    /// Each arm against the baseline.
    pub deltas: Vec<Delta>,
    /// Claims put to the test; empty where none was.
    pub claims: Vec<Claim>,
    /// What was measured for them beside the records; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<claims::Evidence>,
    /// What a self-test found; absent in other results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selftest: Option<Selftest>,
}

/// What is wrong with a stored result.
#[derive(Debug, Error)]
pub enum ResultError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a result.
    #[error("{path} is not a result of otelbench: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is some other JSON.
    #[error("{path} is not a result of otelbench: it has no key `schema`")]
    NoSchema {
        /// The file.
        path: PathBuf,
    },
    /// Its schema is another.
    #[error("{path} has the schema `{schema}`; this program reads `{SCHEMA}`")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: String,
    },
    /// It was changed after it was written.
    #[error(
        "{path} contradicts itself, so it was changed after it was written, or is of a version that computed otherwise: {reason}"
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What contradicts what.
        reason: String,
    },
    /// It is a records file, and broken.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl Document {
    /// The result of these records.
    pub fn of(records: Records) -> Self {
        Self::with(records, None)
    }

    /// The result of these records and of what else was measured for the claims.
    pub fn with(records: Records, evidence: Option<claims::Evidence>) -> Self {
        let analysis = analysis::analyse(&records);
        let claims = claims::judge(&records, evidence.as_ref().unwrap_or(&claims::Evidence::default()));
        let whole = |evidence: &claims::Evidence| {
            evidence.missing.is_empty() && evidence.trials.values().all(Records::is_whole)
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

    /// What became of the scenario's gates, where arms of two builds were measured together; of one build they are for a
    /// comparison of stored results, and nothing is said of them here.
    ///
    /// # Errors
    /// When a gate is about no such arm.
    pub fn gates(&self) -> Result<Vec<Judged>, UnknownArm> {
        let scenario = &self.header.scenario;
        let of_two_builds: Vec<(&str, &str)> =
            scenario.arms.iter().filter_map(|arm| Some((arm.name.as_str(), arm.against.as_deref()?))).collect();
        if of_two_builds.is_empty() || self.validity.verdict == Verdict::Invalid {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = of_two_builds.iter().map(|(name, _)| *name).collect();
        let evidence = |metric: Metric, arm: &str| {
            let (_, base) = of_two_builds.iter().find(|(name, _)| *name == arm).ok_or("it was not measured")?;
            let differences = self.differences(arm, base, metric)?;
            differences.log_ratios.map(Evidence::Rounds).ok_or_else(|| "a round measured zero".into())
        };
        Ok(gate::judge(gate::cases(&scenario.gates, &names, &names, evidence)?))
    }

    /// What its valid rounds say of `arm` against `baseline`, by one metric.
    ///
    /// # Errors
    /// As of [`analysis::differences`].
    pub fn differences(&self, arm: &str, baseline: &str, metric: Metric) -> Result<Differences, String> {
        analysis::differences(&self.clone().into_records(), arm, baseline, metric)
    }

    /// What its valid rounds measured of `arm` by one metric.
    ///
    /// # Errors
    /// As of [`analysis::values`].
    pub fn values(&self, arm: &str, metric: Metric) -> Result<Vec<f64>, String> {
        analysis::values(&self.clone().into_records(), arm, metric)
    }

    /// The records it was made from.
    pub fn into_records(self) -> Records {
        Records { header: self.header, slices: self.records, lanes: self.lanes }
    }

    /// Reads a result document, or the records file of a run that was cut short, and analyses it anew.
    ///
    /// # Errors
    /// When the file cannot be read, is no result, has another major version, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        let contradiction = |reason| ResultError::Contradiction { path: path.into(), reason };
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let records = Records::read(path)?;
            verify::records(&records).map_err(contradiction)?;
            return Ok(Self::of(records));
        }
        let malformed = |reason: String| ResultError::Malformed { path: path.into(), reason };
        let bytes = fs::read(path).map_err(|source| ResultError::Io { path: path.into(), source })?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        match value.get("schema").and_then(serde_json::Value::as_str) {
            Some(SCHEMA) => {}
            Some(schema) => return Err(ResultError::Foreign { path: path.into(), schema: schema.into() }),
            None => return Err(ResultError::NoSchema { path: path.into() }),
        }
        let mut stored = Self::deserialize(&value).map_err(|e| malformed(e.to_string()))?;
        // A self-test goes on when these records are whole, and rests on more than them.
        let (selftest, evidence, partial) = (stored.selftest.take(), stored.evidence.take(), stored.partial);
        let records = stored.into_records();
        verify::records(&records).map_err(contradiction)?;
        let read = Self::with(records, evidence);
        let read = Self { partial: read.partial || (selftest.is_some() && partial), selftest, ..read };
        verify::summary(&value, &read).map_err(contradiction)?;
        Ok(read)
    }

    /// Writes it to `path`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ResultError> {
        write_whole(path, &self.to_json()).map_err(|source| ResultError::Io { path: path.into(), source })
    }

    /// As JSON, one key per line.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
        json.push('\n');
        json
    }
}

/// Writes `text` to `path`, whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("json.tmp");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fixture;

    fn stored(text: &str, name: &str) -> Result<Document, ResultError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        Document::read(&path)
    }

    fn document() -> Document {
        Document::of(fixture::run(3, |arm, round| 20.0 * fixture::noise(arm, round)))
    }

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

    #[test]
    fn a_document_keeps_to_the_schema_and_a_broken_one_does_not() {
        let schema = serde_json::to_value(schemars::schema_for!(Document)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut value = serde_json::to_value(document()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
        value["records"][0]["load"]["scheduled"] = "many".into();
        assert!(!validator.is_valid(&value));
    }

    #[test]
    fn gates_judge_the_arms_of_two_builds_and_nothing_else() {
        let gated = |more: f64, limit: &str| {
            let cost = |arm: &str, round| fixture::noise(arm, round) * if arm == "full" { 20.0 * more } else { 20.0 };
            let mut records = fixture::run(12, cost);
            records.header.scenario.gates = vec![format!("cpu_us_per_request={limit}").parse().unwrap()];
            let one_build = Document::of(records.clone());
            assert_eq!(one_build.gates(), Ok(Vec::new()));
            records.header.scenario.arms[2].against = Some("none".into());
            let judged = Document::of(records).gates().unwrap();
            assert_eq!(judged.len(), 1);
            judged[0].outcome.clone()
        };
        assert_eq!(gated(1.05, "2%"), gate::Outcome::Fails);
        assert_eq!(gated(1.0, "2%"), gate::Outcome::Holds);
        // An improvement is no regression.
        assert_eq!(gated(0.9, "0%"), gate::Outcome::Holds);
    }

    #[test]
    fn each_kind_of_broken_file_gets_its_own_message() {
        let json = document().to_json();
        let cut = &json[..json.len() / 2];
        for (text, says) in [
            ("", "is not a result"),
            (cut, "is not a result"),
            ("[]", "no key `schema`"),
            ("{\"schema\": \"otelbench.result/2\"}", "has the schema `otelbench.result/2`; this program reads"),
            ("{\"schema\": \"otelbench.result/1\"}", "missing field"),
        ] {
            let error = stored(text, "r.json").unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("r.json"), "{error}");
        }
        assert!(matches!(Document::read(Path::new("/nowhere/r.json")), Err(ResultError::Io { .. })));
    }

    #[test]
    fn a_self_test_is_kept_when_it_is_read_again_and_so_is_that_it_was_cut_short() {
        let selftest = Some(Selftest { repeats_planned: 3, ..Selftest::default() });
        let cut_short = Document { selftest, partial: true, ..document() };
        assert_eq!(stored(&cut_short.to_json(), "r.json").unwrap(), cut_short);
        // Of any other result its records say so.
        let other = Document { partial: true, ..document() };
        let error = stored(&other.to_json(), "r.json").unwrap_err().to_string();
        assert!(error.contains("partial is true"), "{error}");
    }

    #[test]
    fn every_stored_result_in_the_repository_agrees_with_itself() {
        let mut seen = 0;
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("results")).unwrap() {
            let path = entry.unwrap().path();
            let is_result = |text: &str| {
                let value = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
                value.get("schema").is_some_and(|schema| schema == SCHEMA)
            };
            let is_document = path.extension().is_some_and(|extension| extension == "json");
            if is_document && fs::read_to_string(&path).is_ok_and(|text| is_result(&text)) {
                Document::read(&path).unwrap();
                seen += 1;
            }
        }
        assert!(seen >= 10, "{seen} found");
    }

    #[test]
    fn a_result_that_was_changed_by_hand_is_refused_with_what_contradicts_what() {
        use serde_json::{Value, json};
        type Change = fn(&mut Value);
        let changes: [(Change, &str); 11] = [
            (
                |v| v["deltas"][9]["relative"]["estimate"] = json!(0.001),
                "deltas[9].relative.estimate is 0.001, and its records give",
            ),
            (|v| v["deltas"][0]["resolved"] = json!(true), "deltas[0].resolved is true"),
            (|v| drop(v["deltas"].as_array_mut().unwrap().pop()), "deltas is ["),
            (|v| v["arms"][2]["cpu_us_per_request"]["total"] = json!(20.0), "arms[2].cpu_us_per_request.total is 20.0"),
            (|v| v["validity"]["verdict"] = json!("invalid"), "validity.verdict is \"invalid\""),
            (|v| v["records"][0]["load"]["completed"] = json!(999), "1000 requests were scheduled"),
            (
                |v| {
                    v["records"][0]["load"]["completed"] = json!(999);
                    v["records"][0]["load"]["unsent"] = json!(1);
                },
                "999 requests were completed, and the histogram holds 1000",
            ),
            (|v| v["records"][0]["cpu_us"]["request"] = json!(1.0), "the roles of its threads"),
            (|v| v["records"][0]["arm"] = json!("tuned"), "a record of arm tuned in round 0, which is not in its plan"),
            (|v| v["records"][0]["round"] = json!(7), "in round 7, which is not in its plan"),
            (|v| v["records"].as_array_mut().unwrap().swap(0, 1), "the slices of round 0 are not those of its plan"),
        ];
        for (change, says) in changes {
            let mut value = serde_json::to_value(document()).unwrap();
            change(&mut value);
            let error = stored(&value.to_string(), "r.json").unwrap_err().to_string();
            assert!(error.contains("contradicts itself") && error.contains(says), "{says}: {error}");
        }
    }

    #[test]
    fn what_another_processor_rounds_otherwise_is_no_contradiction() {
        let mut value = serde_json::to_value(document()).unwrap();
        let estimate = value["deltas"][9]["relative"]["estimate"].as_f64().unwrap();
        value["deltas"][9]["relative"]["estimate"] = (estimate * (1.0 + 1e-12)).into();
        assert_eq!(stored(&value.to_string(), "r.json").unwrap(), document());
    }

    #[test]
    fn keys_that_this_version_does_not_know_are_ignored() {
        let mut value = serde_json::to_value(document()).unwrap();
        value["weather"] = "fair".into();
        value["records"][0]["mood"] = "good".into();
        assert_eq!(stored(&value.to_string(), "r.json").unwrap(), document());
    }
}

//! Documents that are computed, stored, read again and changed by hand.

use std::fs;

use super::*;
use crate::experiment::scenario::Scenario;
use crate::record::load::{Quantiles, encode, histogram};
use crate::record::records::SCHEMA;
use crate::record::selftest::Selftest;
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
    assert_eq!(gated(1.05, "2%"), gate::GateOutcome::Fails);
    assert_eq!(gated(1.0, "2%"), gate::GateOutcome::Holds);
    // An improvement is no regression.
    assert_eq!(gated(0.9, "0%"), gate::GateOutcome::Holds);
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
fn a_result_says_the_same_with_and_without_the_histograms_that_no_analysis_reads() {
    let cost = |arm: &str, round| 20.0 * fixture::noise(arm, round);
    let several = fixture::run(3, cost);
    let one = fixture::run_of(Scenario { slices: 1, ..several.header.scenario.clone() }, cost);
    let search = fixture::search(3, |arm, round| 8_000.0 * fixture::noise(arm, round));
    for mut records in [several, one, search] {
        for (number, record) in (1..).zip(&mut records.slices) {
            // Quantiles differ from each other and between slices; a step that failed remains one.
            let failed = record.played.response_us.p50 > Some(10_000.0);
            let mut response = histogram();
            for n in 1..=fixture::REQUESTS {
                response.record(if failed { n * 20_000 } else { n * n + n * number }).unwrap();
            }
            record.played.hdr.response_ns = encode(&response);
            record.played.response_us = Quantiles::of(&response);
        }
        let with = Document::of(records.clone());
        for record in &mut records.slices {
            record.played.hdr = record.played.hdr.clone().read_by_analysis(&records.header.scenario);
        }
        let without = Document::of(records);
        assert!(with.to_json().contains("service_ns") && !without.to_json().contains("service_ns"));
        let [with, mut without] = [&with, &without].map(|document| stored(&document.to_json(), "r.json").unwrap());
        without.records.clone_from(&with.records);
        assert_eq!(with.to_json(), without.to_json());
    }
}

#[test]
fn a_result_that_was_changed_by_hand_is_refused_with_what_contradicts_what() {
    use serde_json::{Value, json};
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 12] = [
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
        (|v| drop(v["records"][0].as_object_mut().unwrap().remove("hdr")), "and the histogram cannot be read"),
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
fn differences_in_the_last_digits_are_no_contradiction() {
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

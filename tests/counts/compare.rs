//! Stored results: that each is valid, and the exit codes and messages of comparing two, be they right or wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{document, otelbench, stderr, stdout};
use otelbench::record::load::ValidityLevel;
use otelbench::record::records::Records;
use otelbench::record::result::Document;
use serde_json::{Value, json};

/// A stored run of `full` against `none`: eight rounds of two slices.
fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results/full.json")
}

/// The stored run with what `change` makes of its records.
fn made(folder: &tempfile::TempDir, name: &str, change: impl FnOnce(&mut Records)) -> PathBuf {
    let mut records = Document::read(&stored()).unwrap().into_records();
    records.header.started_at = "2027-01-01T00:00:00Z".into();
    change(&mut records);
    let path = folder.path().join(name);
    Document::of(records).write(&path).unwrap();
    path
}

/// The stored run with what `change` makes of its text.
fn doctored(folder: &tempfile::TempDir, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut value: Value = serde_json::from_slice(&fs::read(stored()).unwrap()).unwrap();
    change(&mut value);
    let path = folder.path().join(name);
    fs::write(&path, value.to_string()).unwrap();
    path
}

/// Makes `full` so many times as dear.
fn dearer(factor: f64) -> impl FnOnce(&mut Records) {
    move |records| {
        for slice in records.slices.iter_mut().filter(|slice| slice.arm == "full") {
            let cpu = &mut slice.spent.cpu_us;
            let more = (cpu.request + cpu.exporter) * (factor - 1.0);
            cpu.request += more;
            cpu.process += more;
        }
    }
}

fn compared(base: &Path, candidate: &Path, options: &str) -> Output {
    otelbench("compare").arg(base).arg(candidate).args(options.split_whitespace()).output().unwrap()
}

fn ends(output: &Output, code: i32, says: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}{}", stdout(output));
    for words in says {
        assert!(message.contains(words), "`{words}` is not in: {message}");
    }
}

#[test]
fn gates_decide_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let same = made(&folder, "same.json", |_| ());
    let dear = made(&folder, "dear.json", dearer(1.2));
    let gate = "--max-regression cpu_us_per_request:full=10%";
    ends(&compared(&stored(), &same, gate), 0, &[]);
    ends(&compared(&stored(), &dear, ""), 0, &[]);
    ends(&compared(&stored(), &dear, gate), 1, &["cpu_us_per_request:full=10% fails: +2", "at best"]);
    ends(&compared(&dear, &stored(), gate), 0, &[]);
    let slightly = made(&folder, "slightly.json", dearer(1.06));
    let narrow = "--max-regression cpu_us_per_request:full=5%";
    ends(&compared(&stored(), &slightly, narrow), 3, &["is undecided", "no number of rounds"]);
    // Its p99.9 is noise above all.
    let tail = "--same-machine --max-regression response_us_p999:full=50%";
    ends(&compared(&stored(), &same, tail), 3, &["is undecided", "rounds would decide it"]);
}

#[test]
fn the_gates_of_the_candidates_scenario_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let gated = made(&folder, "gated.json", |records| {
        records.header.scenario.gates = vec!["cpu_us_per_request=10%".parse().unwrap()];
        dearer(1.3)(records);
    });
    ends(&compared(&stored(), &gated, ""), 1, &["cpu_us_per_request=10% in full fails"]);
    ends(&compared(&gated, &stored(), ""), 0, &[]);
}

#[test]
fn a_gate_with_nothing_to_judge_never_passes() {
    let folder = tempfile::tempdir().unwrap();
    let same = made(&folder, "same.json", |_| ());
    let gate = |text: &str| compared(&stored(), &same, &format!("--max-regression {text}"));
    ends(&gate("response_us_p99:full=50%"), 4, &["cannot be judged", "--same-machine"]);
    ends(&gate("capacity_rps=5%"), 4, &["cannot be judged", "otelbench capacity"]);
    ends(&gate("cpu_us_per_request:tuned=5%"), 2, &["no arm `tuned`; there are none, placebo, full"]);
    ends(&gate("cpu=5%"), 2, &["--max-regression", "did you mean `cpu_us_per_request`?"]);
    ends(&gate("cpu_us_per_request=5"), 2, &["--max-regression", "such as 5%"]);
    let uncounted = made(&folder, "uncounted.json", |records| {
        for slice in &mut records.slices {
            slice.spent.allocations = None;
            slice.spent.allocations_reason = Some("another allocator is installed".into());
        }
    });
    let allocations = compared(&stored(), &uncounted, "--max-regression allocations_per_request=50%");
    ends(&allocations, 4, &["in the candidate: another allocator is installed"]);
    ends(&compared(&stored(), &same, "--same-machine --max-regression response_us_p50=50%"), 0, &[]);
}

#[test]
fn many_gates_are_warned_of() {
    let gates = "--max-regression cpu_us_per_request=50% ".repeat(5);
    ends(&compared(&stored(), &stored(), &gates), 0, &["5 gates"]);
}

#[test]
fn results_that_differ_in_more_than_the_code_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = made(&folder, "elsewhere.json", |records| {
        records.header.machine.cpu_model = Some("Abacus 9000".into());
        records.header.scenario.generator.connections = 99;
    });
    let refused = compared(&stored(), &elsewhere, "");
    ends(
        &refused,
        4,
        &["elsewhere.json (the candidate)", "machine.cpu_model", "Abacus 9000", "scenario.connections: 16"],
    );
    assert_eq!(stdout(&refused), "");
    let partial = made(&folder, "partial.json", |records| drop(records.slices.pop()));
    ends(&compared(&stored(), &partial, ""), 4, &["the candidate is partial: 7 of 8 rounds"]);
    let invalid = made(&folder, "invalid.json", |records| {
        for slice in &mut records.slices {
            slice.played.validity.level = ValidityLevel::Invalid;
            slice.played.validity.causes = vec!["generator starved of CPU".into()];
        }
    });
    ends(&compared(&invalid, &stored(), ""), 4, &["the base is invalid: ", "generator starved of CPU"]);
}

#[test]
fn each_kind_of_wrong_file_has_its_own_message() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(stored()).unwrap();
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let summary = |v: &mut Value| v["deltas"][0]["baseline"] = json!(1.0);
    let cheaper = |v: &mut Value| v["records"][1]["cpu_us"]["request"] = json!(1.0);
    let fewer = |v: &mut Value| v["records"][0]["load"]["completed"] = json!(9_000);
    let mixed = |v: &mut Value| {
        let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/modes.json");
        let other: Value = serde_json::from_slice(&fs::read(other).unwrap()).unwrap();
        v["records"].as_array_mut().unwrap().extend(other["records"].as_array().unwrap().iter().cloned());
    };
    for (path, says) in [
        (
            doctored(&folder, "summary.json", summary),
            &["contradicts itself", "deltas[0].baseline is 1.0, and its records give"][..],
        ),
        (doctored(&folder, "cheaper.json", cheaper), &["contradicts itself", "round 0, slice", "µs of CPU"]),
        (doctored(&folder, "fewer.json", fewer), &["contradicts itself", "10000 requests were scheduled"]),
        (doctored(&folder, "mixed.json", mixed), &["contradicts itself", "not in its plan"]),
        (written("cut.json", &text[..text.len() / 2]), &["is not a result", "EOF"]),
        (written("empty.json", ""), &["is not a result", "EOF"]),
        (written("other.json", "{\"schema\": \"otelbench.result/2\"}"), &["`otelbench.result/2`; this program reads"]),
        (written("list.json", "[1]"), &["no key `schema`"]),
        (folder.path().join("missing.json"), &["No such file"]),
    ] {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for output in [
            compared(&stored(), &path, ""),
            compared(&path, &stored(), ""),
            otelbench("report").arg(&path).output().unwrap(),
        ] {
            ends(&output, 2, &[says, &[name.as_str()]].concat());
            assert_eq!(stdout(&output), "");
        }
    }
}

#[test]
fn a_folder_of_results_is_a_history_whatever_else_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let candidate = made(&folder, "candidate.json", dearer(1.03));
    for (day, factor) in [1.0, 1.002, 0.998, 1.001].into_iter().enumerate() {
        made(&folder, &format!("{day}.json"), |records| {
            records.header.started_at = format!("2026-12-0{}T00:00:00Z", day + 1);
            dearer(factor)(records);
        });
    }
    fs::write(folder.path().join("notes.json"), "{\"schema\": \"otelbench.pipeline/1\"}").unwrap();
    let mut files: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    files.sort();
    let output = compared(&stored(), &candidate, &format!("--format json --history {}", files.join(" ")));
    ends(&output, 0, &["left out", "notes.json has the schema `otelbench.pipeline/1`"]);
    let comparison: Value = serde_json::from_str(&stdout(&output)).unwrap();
    // The candidate is among the files, and does not count.
    assert_eq!(comparison["history"], 4, "{comparison}");
    let full = comparison["lines"].as_array().unwrap().iter().find(|line| line["arm"] == "full").unwrap();
    assert!(full["between_runs"].as_f64().unwrap() < 0.01, "{full}");
    // One that was changed by hand is no history.
    let edited = doctored(&folder, "edited.json", |v| v["arms"][0]["rss_bytes"] = json!(1.0));
    let history = format!("--history {}", edited.display());
    ends(&compared(&stored(), &candidate, &history), 2, &["edited.json", "arms[0].rss_bytes is 1.0"]);
}

#[test]
fn a_trend_shows_the_commit_that_changed_a_cost_and_leaves_out_what_is_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for day in 1..=10 {
        let factor = 1.0 + 0.002 * f64::from(day % 3) + if day < 6 { 0.0 } else { 0.1 };
        files.push(made(&folder, &format!("{day}.json"), |records| {
            records.header.started_at = format!("2026-12-{day:02}T00:00:00Z");
            records.header.tool.git = Some(format!("commit-{day}"));
            dearer(factor)(records);
        }));
    }
    let notes = folder.path().join("notes.json");
    fs::write(&notes, "[]").unwrap();
    let of = |files: &[PathBuf]| otelbench("trend").args(files).args(["--format", "json"]).output().unwrap();
    files.push(notes.clone());
    let output = of(&files);
    ends(&output, 0, &["left out", "notes.json is not a result"]);
    let trend: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let series = trend["groups"][0]["series"].as_array().unwrap();
    let full = series.iter().find(|series| series["arm"] == "full").unwrap();
    assert_eq!(full["changes"].as_array().map(Vec::len), Some(1), "{full}");
    assert_eq!(full["changes"][0]["git"], "commit-6");
    let few = of(&files[..3]);
    ends(&few, 0, &[]);
    assert!(stdout(&few).contains("from 10 results on, and there are 3"), "{}", stdout(&few));
    ends(&of(&[notes]), 2, &["none of the files is a result"]);
    let edited = doctored(&folder, "edited.json", |v| v["arms"][0]["rss_bytes"] = json!(1.0));
    ends(&of(&[edited]), 2, &["edited.json", "contradicts itself"]);
}

#[test]
fn every_stored_result_keeps_to_the_schema_and_is_valid() {
    let mut seen = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/results")).unwrap() {
        let path = entry.unwrap().path();
        // What the scripts there write are documents of other kinds.
        let is_result = |path| fs::read_to_string(path).is_ok_and(|text| text.contains("\"otelbench.result/1\""));
        if path.extension().is_some_and(|extension| extension == "json") && is_result(&path) {
            let document = document(&path);
            assert!(!document.partial && !document.validity.is_invalid(), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "no result found");
}

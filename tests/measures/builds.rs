//! Two builds compared within one run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::{PROGRAM, RPS, alone, beside_others, document, otelbench, stderr, stdout};
use otelbench::experiment::scenario::Role;

/// A short run of `full` in this build and the one at `other`, with a gate.
fn against(other: &Path, gate: &str, rounds: u32, out: &Path) -> std::process::Command {
    let line = format!("run --rps {RPS} --mode full --rounds {rounds} --slices 1 --slice 200ms --warmup 100ms");
    let mut command = otelbench(&line);
    command.arg("--max-regression").arg(gate).arg("--against").arg(other).arg("--out").arg(out);
    command
}

/// An executable script.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("other-build");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn another_build_runs_its_own_lanes_and_the_gate_holds_where_nothing_changed() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    // Another path to the same program, which notes that it was launched.
    let launched = folder.path().join("launched");
    let other = script(folder.path(), &format!("echo \"$1\" >> {}\nexec {PROGRAM} \"$@\"", launched.display()));
    let out = folder.path().join("run.json");
    let mut output = against(&other, "cpu_us_per_request:full=100%", 6, &out).output().unwrap();
    for _ in 1..3 {
        if output.status.code() == Some(0) {
            break;
        }
        // A machine that others use may hide also a difference of that size, but never shows one.
        assert!(matches!(output.status.code(), Some(3 | 4)), "{}{}", stdout(&output), stderr(&output));
        output = against(&other, "cpu_us_per_request:full=100%", 6, &out).output().unwrap();
    }
    assert!(stdout(&output).contains("Gate cpu_us_per_request:full=100% "), "{}", stdout(&output));
    assert!(!stdout(&output).contains(" fails: "), "{}", stdout(&output));
    let document = document(&out);
    let names: Vec<&str> = document.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["full@base", "placebo", "full"]);
    assert!(document.deltas.iter().any(|delta| delta.arm == "full" && delta.relative.is_some()));
    let lanes = fs::read_to_string(launched).unwrap();
    let of_other = document.header.scenario.arms.iter().filter(|arm| arm.role != Role::Treatment).count();
    assert!(lanes.lines().all(|line| line == "lane") && lanes.lines().count() >= of_other, "{lanes}");
}

#[test]
fn programs_that_are_no_lane_or_speak_another_protocol_are_refused_by_name() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run.json");
    let older = r#"read line; echo '{"reply":"ready","protocol":4,"addr":null,"tool":{"version":"0.0.9","git":null,"rustc":"","profile":""}}'; read line"#;
    for (text, says) in
        [("exit 0", "died"), (older, "speaks lane protocol 4"), ("read line; echo hello", "said `hello`")]
    {
        let other = script(folder.path(), text);
        let output = against(&other, "cpu_us_per_request=5%", 2, &out).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        let message = stderr(&output);
        assert!(message.contains(says) && (message.contains("full@base") || message.contains("placebo")), "{message}");
    }
}

#[test]
fn a_gate_on_what_was_not_measured_never_passes() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run.json");
    // A p99.9 needs more requests than this run has.
    let output = against(Path::new(PROGRAM), "response_us_p999=1000%", 2, &out).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
    assert!(
        stderr(&output).contains("response_us_p999=1000%") || stderr(&output).contains("invalid"),
        "{}",
        stderr(&output)
    );
}

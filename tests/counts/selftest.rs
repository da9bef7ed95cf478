//! `otelbench selftest`, played as small as it gets: that it plays and judges everything, whatever the machine makes of it.
//! The library's tests show that the checks are right; on a busy machine any of them may rightly fail here.

use std::process::Stdio;

use crate::common::{RPS, beside_others, document, otelbench, ran, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use otelbench::record::records::Records;

const CHECKS: [&str; 8] =
    ["A/A", "injected cost", "detection", "known delay", "known stall", "lost span", "ledger", "identity"];
const REPEATS: [&str; 4] = ["repeats: valid", "repeats: A/A", "repeats: injected", "repeats: detection"];

#[test]
fn a_self_test_makes_every_check_and_its_exit_code_is_that_of_the_rows() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("self.json");
    let size = "--rounds 2 --slice 100ms --warmup 50ms --aa 1 --seed 7";
    let output = otelbench(&format!("selftest --rps {RPS} {size}")).arg("--out").arg(&out).output().unwrap();
    let document = document(&out);
    let selftest = document.selftest.clone().unwrap();

    let names: Vec<&str> = selftest.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, [&CHECKS[..], &REPEATS].concat());
    let failed = selftest.failed();
    assert_eq!(output.status.code(), Some(if failed.is_empty() { 0 } else { 4 }), "{}", stderr(&output));
    for name in failed {
        assert!(stderr(&output).lines().last().unwrap().contains(name), "{}", stderr(&output));
    }
    let shown = stdout(&output);
    for check in &selftest.checks {
        let verdict = if check.passed { "pass " } else { "FAIL " };
        let is_row =
            |line: &str| line.strip_prefix(&check.name).is_some_and(|rest| rest.trim_start().starts_with(verdict));
        assert!(shown.lines().any(is_row), "{}: {shown}", check.name);
    }
    assert_eq!(stdout(&ran(&format!("report {}", out.display()))), shown);

    assert_eq!((selftest.repeats_planned, selftest.repeats.len()), (1, 1));
    for repeat in &selftest.repeats {
        let names: Vec<&str> = repeat.arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names, ["none", "placebo", "+1%", "+2%", "+3%", "+5%", "+10%"]);
        let records = Records::read(&folder.path().join(format!("self.aa/{:03}.jsonl", repeat.number))).unwrap();
        assert_eq!(records.header.plan.seed, repeat.seed);
        if repeat.invalid.is_none() {
            assert!(repeat.arms.iter().all(|arm| arm.cpu_us_per_request.len() == 2), "{repeat:?}");
        }
    }

    // A machine that is busy makes these longer, and never shorter.
    let known = Records::read(&folder.path().join("self.known.jsonl")).unwrap();
    for slice in known.slices {
        let response = &slice.played.response_us;
        match slice.arm.as_str() {
            "delayed" => assert!(response.p50.unwrap() >= 4_995.0, "{response:?}"),
            // The first request after the stop is due at most one gap later.
            "stopped" => assert!(response.max.unwrap() >= 0.999 * (200e3 - 1e6 / 500.0), "{response:?}"),
            other => assert_eq!(other, "none"),
        }
    }

    // These are counted, and noise has no part in them.
    for name in ["lost span", "ledger", "identity"] {
        let check = selftest.checks.iter().find(|check| check.name == name).unwrap();
        assert!(check.passed, "{check:?}");
    }
}

#[test]
fn a_self_test_that_is_interrupted_saves_what_it_has() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("self.json");
    let child = otelbench(&format!("selftest --rps {RPS} --rounds 2 --slice 100ms --warmup 0ms --quiet"))
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let known = folder.path().join("self.known.jsonl");
    until(|| std::fs::read_to_string(&known).is_ok_and(|text| text.lines().count() > 2));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let document = document(&out);
    assert!(document.partial && document.selftest.unwrap().checks.len() == 3);
    assert!(stdout(&output).contains("The self-test was cut short after 3 checks"), "{}", stdout(&output));
}

#[test]
fn a_place_where_no_result_can_go_is_refused_before_anything_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let output = otelbench("selftest --quiet --out").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--out") && stderr(&output).contains("is a directory"), "{}", stderr(&output));
}

//! Runs that do not reach their end: nothing measured is lost, no lane stays behind, and `--resume` goes on.

use std::fs;
use std::process::Stdio;

use crate::common::{Running, beside_others, document, is_alive, otelbench, ran, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use otelbench::record::records::Records;

/// Lines of the header, and of the three slices and three lanes of the first round.
const FIRST_ROUND: usize = 7;
/// So many that a busy machine, which makes rounds void, does not end the run before the test does.
const ROUNDS: u32 = 40;

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn interrupted_by(signal: Signal, code: i32) {
    let run = Running::start(ROUNDS);
    run.wait_for_lines(FIRST_ROUND + 1);
    let lanes = run.lanes();
    send(run.child.id().cast_signed(), signal);
    let (result, records) = (run.result(), run.records());
    let Running { child, folder, .. } = run;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    assert!(stdout(&output).contains("The run was cut short"), "{}", stdout(&output));
    let document = document(&result);
    assert!(document.partial && document.rounds.complete >= 1);
    assert_eq!(document.records, Records::read(&records).unwrap().slices);
    until(|| !lanes.iter().any(|pid| is_alive(*pid)));
    drop(folder);
}

#[test]
fn sigint_saves_and_reports_what_was_measured() {
    interrupted_by(Signal::SIGINT, 130);
}

#[test]
fn sigterm_saves_and_reports_what_was_measured() {
    interrupted_by(Signal::SIGTERM, 143);
}

#[test]
fn kill_9_leaves_no_lane_alive_and_loses_no_finished_record() {
    let mut run = Running::start(ROUNDS);
    run.wait_for_lines(FIRST_ROUND + 2);
    let lanes = run.lanes();
    assert!(!lanes.is_empty());
    let before = std::fs::read_to_string(run.records()).unwrap();
    send(run.child.id().cast_signed(), Signal::SIGKILL);
    run.child.wait().unwrap();
    until(|| !lanes.iter().any(|pid| is_alive(*pid)));
    let records = Records::read(&run.records()).unwrap();
    assert!(1 + records.slices.len() + records.lanes.len() >= before.lines().count());
    assert!(!run.result().exists());
    let report = ran(&format!("report {}", run.records().display()));
    assert!(report.status.success(), "{}", stderr(&report));
    assert!(stdout(&report).contains("The run was cut short"), "{}", stdout(&report));
}

#[test]
fn a_lane_that_dies_ends_the_run_with_its_name_and_keeps_the_records() {
    let run = Running::start(ROUNDS);
    run.wait_for_lines(FIRST_ROUND + 1);
    // Between two rounds there is a moment without lanes.
    until(|| run.lanes().first().is_some_and(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()));
    let result = run.result();
    let Running { child, folder, .. } = run;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(message.contains("the lane of arm `") && message.contains("died (signal: 9"), "{message}");
    assert!(message.contains("what was measured until then is in"), "{message}");
    assert!(document(&result).rounds.complete >= 1);
    drop(folder);
}

#[test]
fn a_run_that_was_killed_goes_on_by_the_same_plan_and_loses_no_round() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, ended) = {
        let mut run = Running::start(10);
        run.wait_for_lines(FIRST_ROUND + 2);
        send(run.child.id().cast_signed(), Signal::SIGKILL);
        run.child.wait().unwrap();
        fs::copy(run.records(), folder.path().join("run.jsonl")).unwrap();
        let records = Records::read(&run.records()).unwrap();
        (records.header.plan.clone(), records.of_whole_rounds())
    };
    let _turn = beside_others();
    let records = folder.path().join("run.jsonl");
    let resumed = otelbench(&format!("run --resume {}", records.display())).output().unwrap();
    assert!(matches!(resumed.status.code(), Some(0 | 4)), "{}", stderr(&resumed));
    let document = document(&folder.path().join("run.json"));
    assert_eq!(document.header.plan, plan);
    assert_eq!(document.header.resumed_at.len(), 1);
    assert_eq!(document.records[..ended.slices.len()], ended.slices);
    let played: Vec<&str> = document.records.iter().map(|slice| slice.arm.as_str()).collect();
    let planned: Vec<&str> = plan.order.iter().flatten().map(String::as_str).collect();
    // A run that turns out to be invalid is not played to its end.
    assert!(planned.starts_with(&played), "{played:?}");
    assert!(played.len() == planned.len() || document.partial);
    let again = ran(&format!("run --resume {} --rps 5", records.display()));
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
}

#[test]
fn sigint_ends_a_search_and_reports_the_rounds_that_were_searched_to_their_end() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let (out, records) = (folder.path().join("capacity.json"), folder.path().join("capacity.jsonl"));
    let search = "--slo p50=10ms --payment-delay 5ms --connections 1 --rps 100 --slice 400ms --warmup 100ms";
    let child = otelbench(&format!("capacity {search} --mode none --rounds 20"))
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| Records::read(&records).is_ok_and(|records| records.slices.iter().any(|slice| slice.round == 1)));
    send(child.id().cast_signed(), Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stdout(&output).contains("The run was cut short: 1 of 20 rounds"), "{}", stdout(&output));
    let document = document(&out);
    assert!(document.partial && document.rounds.complete == 1);
    assert_eq!(document.records, Records::read(&records).unwrap().slices);
}

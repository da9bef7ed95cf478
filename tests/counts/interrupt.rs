//! Runs that do not reach their end: nothing measured is lost, and no lane stays behind.

use crate::common::{Running, document, is_alive, ran, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use otelbench::record::records::Records;

/// Header, and the six slices and three lanes of the first round.
const FIRST_ROUND: usize = 10;

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn interrupted_by(signal: Signal, code: i32) {
    let run = Running::start();
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
    let mut run = Running::start();
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
    let run = Running::start();
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

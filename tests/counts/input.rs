//! Bad input gets one message that says how to mend it, exit code 2, and launches nothing.

use std::fs;
use std::net::TcpListener;
use std::process::Output;

use crate::common::{PROGRAM, otelbench, ran, stderr};

fn refused(output: &Output, says: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for words in says {
        assert!(message.contains(words), "`{words}` is not in: {message}");
    }
    assert!(output.stdout.is_empty());
}

/// Runs a scenario file with this text; nothing may be left in the folder of the result.
fn scenario(text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (file, results) = (folder.path().join("s.toml"), folder.path().join("results"));
    fs::write(&file, text).unwrap();
    let output = otelbench("run").arg(&file).arg("--out").arg(results.join("r.json")).output().unwrap();
    assert!(!results.exists(), "something was launched");
    output
}

#[test]
fn a_bad_scenario_is_refused_with_file_line_and_key() {
    refused(&scenario("rps = 100\nrsp = 200"), &["s.toml", "line 2", "unknown field `rsp`"]);
    refused(&scenario("rps = -1"), &["s.toml", "line 1", "rps = -1", "such as 10000"]);
    refused(&scenario("\nrounds = 0"), &["s.toml", "line 2", "rounds = 0"]);
    refused(&scenario("mode = \"fulll\""), &["s.toml", "line 1", "did you mean `full`?"]);
    refused(&scenario("rps = ["), &["s.toml", "line 1"]);
    refused(&scenario("rps = 5\narrivals = \"steps:1,9\""), &["--rps 5", "--arrivals steps:1,9", "leave --rps out"]);
    refused(&scenario("[[mix]]\nendpoint = \"order\"\nweight = 0"), &["s.toml", "line 3", "from 1 to 1000000"]);
    refused(&scenario("error_share = 0.1\nmix = [{ endpoint = \"healthz\" }]"), &["--error-share", "the mix has none"]);
    refused(&scenario("payment_delay = \"50\""), &["s.toml", "line 1", "payment_delay"]);
}

#[test]
fn a_scenario_that_cannot_be_read_is_refused() {
    refused(&ran("run /nowhere/s.toml"), &["/nowhere/s.toml", "No such file"]);
}

#[test]
fn a_bad_flag_is_refused_by_its_name() {
    refused(&ran("run --rps -5"), &["--rps", "such as 10000"]);
    refused(&ran("run --rounds 0"), &["--rounds"]);
    refused(&ran("run --mode ful"), &["--mode", "did you mean `full`?"]);
    refused(&ran("run --slice 0s"), &["--slice", "longer than zero"]);
    refused(&ran("run --slice 5"), &["--slice", "500ms"]);
    refused(&ran("run --arrivals bursty"), &["--arrivals", "constant, poisson"]);
    refused(&ran("run --arrivals ramp:5"), &["--arrivals", "ramp:FROM..TO"]);
    refused(&ran("run --rps 5 --arrivals ramp:1..9"), &["--rps 5", "--arrivals ramp:1..9", "leave --rps out"]);
    refused(&ran("run --users 0"), &["--users"]);
    refused(&ran("run --user-ids zipf:0"), &["--user-ids", "such as zipf:1.1"]);
    refused(&ran("run --error-share 1.5"), &["--error-share", "from 0 to 1"]);
    refused(&ran("run --request-header x-tenant"), &["--request-header", "write it as NAME:VALUE"]);
    refused(
        &ran("run --request-header Host:b"),
        &["--request-header", "the generator sets `host` itself; leave it out"],
    );
    refused(&ran("capacity --request-header baggage:b"), &["--request-header", "the generator sets `baggage` itself"]);
    refused(&ran("run --endpoint localhost"), &["--endpoint", "http://localhost:4317"]);
    refused(&ran("run --transport direct --isolation process"), &["--transport direct", "--isolation process"]);
    refused(&ran("run --transport direct --service-threads 2"), &["--transport direct", "--service-threads 2"]);
    refused(&ran("load http://127.0.0.1:1/ --transport direct"), &["--transport direct", "otelbench run"]);
    refused(&ran("run --mode full,full"), &["--mode", "twice"]);
    refused(&ran("run --mode none --no-placebo"), &["nothing to compare"]);
    refused(&ran("walk"), &["walk"]);
    refused(&ran("run --slo p99=10ms"), &["--slo is no option of `run`", "otelbench capacity"]);
    refused(&ran("claims --payment http"), &["--payment is no option of `claims`", "scenario file"]);
    refused(&ran("claims --personal"), &["--personal is no option of `claims`"]);
    refused(&ran("selftest --mode full"), &["--mode is no option of `selftest`"]);
}

#[test]
fn a_capacity_search_without_an_slo_or_with_steps_too_short_for_it_is_refused() {
    refused(&ran("capacity"), &["--slo p99=10ms"]);
    refused(&ran("capacity --slo p95=10ms"), &["--slo", "`p95` is not a quantile", "p50, p90, p99, p99.9 or max"]);
    refused(&ran("capacity --slo p99=100ms --slice 500ms"), &["--slice 500ms", "2s 21ms or longer"]);
    refused(&ran("capacity --slo p50=1ms,max=3s --timeout 1s"), &["--timeout 1s", "3s or longer"]);
    refused(&ran("capacity --slo p99=10ms --arrivals ramp:5..10"), &["--arrivals ramp:5..10", "constant or poisson"]);
    refused(&ran("capacity --slo p99=10ms --slices 2"), &["--slices"]);
    refused(&scenario("slo = \"p99\""), &["s.toml", "line 1", "`p99` has no limit"]);
}

#[test]
fn a_result_that_cannot_be_written_is_refused_before_anything_is_launched() {
    refused(&ran("run --out /proc/r.json"), &["--out", "/proc/r.json"]);
    refused(&ran("run --out /tmp"), &["--out", "directory"]);
    refused(&ran("run --out r.jsonl"), &["--out", ".json"]);
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for command in ["serve --mode none", "sink"] {
        refused(&ran(&format!("{command} --addr {addr}")), &["--addr", &addr.to_string(), "in use"]);
    }
}

#[test]
fn files_that_are_no_results_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    fs::write(&path, "{\"schema\": \"otelbench.result/9\"}").unwrap();
    refused(&ran(&format!("report {}", path.display())), &["otelbench.result/9", "otelbench.result/1"]);
    refused(&ran("report /nowhere/r.json"), &["/nowhere/r.json"]);
}

#[test]
fn more_connections_than_open_files_are_refused() {
    let run = |options: &str| {
        let command =
            format!("ulimit -n 256; exec {PROGRAM} run --connections 200 {options} --out target/unwritten/r.json");
        std::process::Command::new("sh").args(["-c", &command]).output().unwrap()
    };
    refused(&run("--mode full"), &["--connections 200", "ulimit -n 464"]);
    refused(&run("--mode full --isolation process"), &["--connections 200", "ulimit -n 664"]);
}

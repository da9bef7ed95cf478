//! `otelbench run`, end to end: real lanes, real telemetry, real clocks.

use std::thread;

use crate::common::{RPS, alone, document, otelbench, ran, stderr, stdout, valid};
use otelbench::experiment::scenario::{Role, Transport};
use otelbench::record::load::ValidityLevel;
use otelbench::record::result::Document;

/// Runs every mode in two short rounds; `extra` are further options.
fn measured(extra: &str) -> Document {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run.json");
    let output = valid(|| {
        let options = "--mode bare,metrics,full --rounds 2 --slices 1 --slice 700ms --warmup 200ms --seed 5";
        let mut command = otelbench(&format!("run --rps {RPS} {options} {extra}"));
        command.arg("--out").arg(&out);
        command
    });
    let table = stdout(&output);
    for arm in ["none", "placebo", "bare", "metrics", "full"] {
        assert!(table.lines().any(|line| line.starts_with(arm)), "{arm} is missing in:\n{table}");
    }
    document(&out)
}

fn check(document: &Document) {
    assert!(!document.partial);
    assert_eq!(document.records.len(), 10);
    for slice in &document.records {
        assert!(slice.played.load.adds_up(), "{slice:?}");
        // The roles add up to the process's own clock, to 1 % and what the cores do while the clocks are read, which takes
        // 200 µs at most, twice.
        let while_read_us = 2.0 * 200.0 * thread::available_parallelism().unwrap().get() as f64;
        let cpu = &slice.spent.cpu_us;
        let roles = cpu.request + cpu.exporter + cpu.generator + cpu.other;
        assert!(
            (roles - cpu.process).abs() <= cpu.process * 0.01 + while_read_us,
            "{} of {}: {cpu:?}",
            slice.arm,
            slice.round
        );
        // Called directly, the service runs on the generator's thread, and that is on its account.
        let apart = document.header.scenario.transport == Transport::Tcp;
        assert!(cpu.request > 0.0 && (cpu.generator > 0.0) == apart, "{cpu:?}");
        match slice.arm.as_str() {
            // Spans and periodic exports have threads of their own, and both are on the exporter's account.
            "full" => assert!(cpu.exporter > slice.spent.periodic.unwrap().cpu_us, "{cpu:?}"),
            "metrics" => assert!(cpu.exporter > 0.0, "{cpu:?}"),
            _ => assert!(cpu.exporter <= 0.0, "{}: {cpu:?}", slice.arm),
        }
        assert!(slice.spent.allocations.is_some_and(|allocations| allocations.count > 0));
        assert!(slice.spent.idle.wall_us > 0.0);
    }
    for arm in &document.arms {
        let orders: u64 =
            document.lanes.iter().filter(|lane| lane.arm == arm.name).map(|lane| lane.orders_completed).sum();
        let telemetry = &arm.telemetry;
        if arm.name == "full" {
            let (spans, trees) = (telemetry.spans.unwrap(), telemetry.trees.clone().unwrap());
            assert_eq!((spans.unaccounted, spans.ended), (Some(0), 3 * orders), "{spans:?}");
            assert_eq!((spans.received, spans.duplicated), (Some(spans.ended), Some(0)), "{spans:?}");
            assert_eq!((trees.traces, trees.right), (orders, orders), "{trees:?}");
            assert!(telemetry.wire_bytes.unwrap() > 100 * spans.ended, "{telemetry:?}");
            assert!(telemetry.diagnostics.is_empty(), "{:?}", telemetry.diagnostics);
        } else {
            assert!(telemetry.spans.is_none());
        }
        match arm.name.as_str() {
            "full" | "metrics" => assert_eq!(telemetry.metrics.unwrap().requests_counted, Some(orders)),
            _ => assert!(telemetry.metrics.is_none()),
        }
    }
    // Allocations are exact enough that two rounds order the modes.
    let allocations = |name: &str| {
        let arm = document.arms.iter().find(|arm| arm.name == name).unwrap();
        arm.allocations_per_request.unwrap()
    };
    assert!((allocations("none") - allocations("placebo")).abs() < 1.0);
    assert!(allocations("full") > allocations("metrics") + 50.0);
    assert!(allocations("metrics") > allocations("none") && allocations("none") >= allocations("bare") - 1.0);
    assert!(document.deltas.iter().all(|delta| delta.arm != "none"));
    assert_eq!(document.arms.iter().filter(|arm| arm.role == Role::Treatment).count(), 3);
}

#[test]
fn every_mode_is_measured_with_the_generator_in_the_lane() {
    check(&measured("--isolation in-process"));
}

#[test]
fn every_mode_is_measured_with_the_generator_in_the_parent() {
    let document = measured("--isolation process --arrivals poisson");
    check(&document);
}

#[test]
fn a_mix_of_requests_is_measured_and_its_refusals_are_no_fault() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("mix.toml"), folder.path().join("run.json"));
    let mix = "users = 50\nuser_ids = \"zipf:1.1\"\n[[mix]]\nendpoint = \"order\"\nitems = 3\nweight = 4\n\
               [[mix]]\nendpoint = \"healthz\"";
    std::fs::write(&file, mix).unwrap();
    let flags = "--mode metrics,full --rounds 2 --slices 1 --slice 500ms --warmup 200ms --seed 5 --error-share 0.05";
    let output = valid(|| {
        let mut command = otelbench(&format!("run --rps {RPS} {flags}"));
        command.arg(&file).arg("--out").arg(&out);
        command
    });
    assert!(stdout(&output).contains("50 users, zipf:1.1, 5 % of the orders refused as asked, 4 × order of 3 items"));
    let document = document(&out);
    let payload = &document.header.scenario.generator.payload;
    assert_eq!((payload.users.get(), payload.error_share.millionths()), (50, 50_000));
    for slice in &document.records {
        let (counts, mix) = (&slice.played.load, &slice.played.mix);
        assert!(mix.refused_as_asked > 0 && mix.probes_answered > 0 && mix.not_refused == 0, "{mix:?}");
        assert_eq!((counts.failures(), slice.played.answered()), (mix.refused_as_asked, counts.scheduled));
    }
    for round in 0..2 {
        let mut sent = document.records.iter().filter(|slice| slice.round == round).map(|slice| slice.played.mix);
        let first = sent.next().unwrap();
        assert!(sent.all(|mix| mix == first), "the arms of a round were not sent the same");
    }
    for arm in &document.arms {
        let lanes = || document.lanes.iter().filter(|lane| lane.arm == arm.name);
        let orders: u64 = lanes().map(|lane| lane.orders_completed).sum();
        assert_eq!(lanes().map(|lane| lane.orders_uncertain).sum::<u64>(), 0);
        let slices = document.records.iter().filter(|slice| slice.arm == arm.name);
        assert_eq!(arm.requests, slices.map(|slice| slice.played.load.scheduled).sum::<u64>());
        assert!(arm.cpu_us_per_request.total.is_some() && arm.response_us.p50.is_some());
        if let Some(metrics) = arm.telemetry.metrics {
            assert_eq!(metrics.requests_counted, Some(orders));
        }
        if let Some(spans) = arm.telemetry.spans {
            let trees = arm.telemetry.trees.as_ref().unwrap();
            assert_eq!(
                (spans.ended, spans.unaccounted, trees.right, trees.traces),
                (3 * orders, Some(0), orders, orders)
            );
        }
    }
}

#[test]
fn every_mode_is_measured_without_sockets() {
    let document = measured("--transport direct --payment-delay 5ms");
    assert_eq!(document.header.scenario.transport, Transport::Direct);
    check(&document);
    for slice in &document.records {
        // The generator's own work is part of what the service's thread did.
        assert!(slice.spent.cpu_us.request >= slice.played.generator_cpu_us, "{slice:?}");
        assert!(slice.played.response_us.p50.unwrap() >= 5_000.0 * 0.999, "{:?}", slice.played.response_us);
    }
}

#[test]
fn a_rate_that_cannot_be_reached_is_invalid_and_gives_no_delta() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run.json");
    let output = otelbench("run --rps 400000 --mode full --rounds 2 --slice 400ms --warmup 0s --timeout 500ms")
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(stderr(&output).contains("invalid") && stderr(&output).contains("backlog overflow"), "{}", stderr(&output));
    assert!(!stdout(&output).contains("costs"), "{}", stdout(&output));
    let document = document(&out);
    assert_eq!((document.validity.level, document.deltas.len()), (ValidityLevel::Invalid, 0));
    assert!(!document.records.is_empty());
}

#[test]
fn a_stored_result_is_rendered_again_in_every_format() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run.json");
    let run = valid(|| {
        let options = "--mode none --rounds 2 --slices 1 --slice 200ms --warmup 100ms --format json --quiet";
        let mut command = otelbench(&format!("run --rps {RPS} {options}"));
        command.arg("--out").arg(&out);
        command
    });
    assert_eq!(stderr(&run), "");
    assert_eq!(stdout(&run), std::fs::read_to_string(&out).unwrap());
    let path = out.display();
    assert_eq!(stdout(&ran(&format!("report {path} --format json"))), stdout(&run));
    assert!(stdout(&ran(&format!("report {path}"))).contains("A/A against none"));
    assert!(stdout(&ran(&format!("report {path} --format markdown"))).contains("| placebo |"));
    let records = out.with_extension("jsonl");
    assert_eq!(stdout(&ran(&format!("report {} --format json", records.display()))), stdout(&run));
}

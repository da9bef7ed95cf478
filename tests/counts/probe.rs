//! `otelbench probe`, end to end: each probe finds its pitfall on the real crates, and no longer does once its advice is
//! followed. What is asserted are figures; nothing here depends on how fast the machine is.

#![allow(clippy::float_cmp, reason = "the figures are whole numbers, which a float holds exactly")]

use std::process::Stdio;

use crate::common::{PROGRAM, children_of, is_alive, otelbench, ran, stderr, stdout, until};
use serde_json::Value;

/// A probe's finding.
struct Said(Value);

impl Said {
    fn verdict(&self) -> &str {
        self.0["verdict"].as_str().unwrap()
    }

    fn figure(&self, name: &str) -> f64 {
        self.0["figures"][name].as_f64().unwrap_or_else(|| panic!("no figure {name} in {}", self.0))
    }

    fn figures<const N: usize>(&self, names: [&str; N]) -> [f64; N] {
        names.map(|name| self.figure(name))
    }
}

/// Runs one probe; returns its finding, and the one with its advice followed.
fn probe(name: &str) -> (Said, Option<Said>) {
    let output = ran(&format!("probe {name} --format json"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "progress is for terminals");
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let [finding] = found.as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!(finding["probe"], name);
    for text in ["title", "pitfall", "what", "advice"] {
        assert!(!finding[text].as_str().unwrap().is_empty(), "{finding}");
    }
    let fixed = &finding["fixed"];
    (Said(finding.clone()), (!fixed.is_null()).then(|| Said(fixed.clone())))
}

/// Runs a probe that must find its pitfall, and must not once its advice is followed; returns both.
fn found_and_fixed(name: &str) -> (Said, Said) {
    let (found, fixed) = probe(name);
    let fixed = fixed.unwrap_or_else(|| panic!("{name} was not fixed"));
    assert_eq!((found.verdict(), fixed.verdict()), ("found", "absent"), "{}", found.0);
    (found, fixed)
}

#[test]
fn a_gauge_incremented_by_the_macro_stays_at_one_increment() {
    let (found, fixed) = found_and_fixed("gauge-increment");
    assert_eq!(found.figures(["increments", "exported"]), [5.0, 1.0]);
    assert_eq!(fixed.figures(["increments", "exported"]), [5.0, 5.0]);
}

#[test]
fn an_absolute_counter_adds_its_value_at_each_call_of_the_macro() {
    let (found, fixed) = found_and_fixed("counter-absolute");
    assert_eq!(found.figure("exported"), found.figure("value") * found.figure("calls"));
    assert_eq!(fixed.figure("exported"), fixed.figure("value"));
}

#[test]
fn a_described_metric_splits_in_two() {
    let (found, fixed) = found_and_fixed("described-metric");
    assert_eq!(found.figures(["streams", "increments", "increments_with_unit", "warnings"]), [2.0, 5.0, 1.0, 0.0]);
    assert_eq!(fixed.figures(["streams", "increments", "increments_with_unit"]), [1.0, 5.0, 5.0]);
}

#[test]
fn seconds_share_one_bucket() {
    let (found, fixed) = found_and_fixed("seconds-buckets");
    assert_eq!(found.figures(["values", "in_fullest_bucket", "buckets_used"]), [999.0, 999.0, 1.0]);
    // 1 to 999 ms lie in the buckets up to 0.005, 0.01, … 0.75 and 1 s, of which the last two are the widest.
    assert_eq!(fixed.figures(["values", "in_fullest_bucket", "buckets_used"]), [999.0, 250.0, 10.0]);
}

#[test]
fn the_series_past_the_limit_loses_its_label() {
    let (found, fixed) = found_and_fixed("cardinality-overflow");
    let names = ["series_asked", "series_with_label", "recorded_as_overflow"];
    assert_eq!(found.figures(names), [2_001.0, 2_000.0, 1.0]);
    assert_eq!(fixed.figures(names), [2_001.0, 2_001.0, 0.0]);
}

#[test]
fn an_invalid_name_records_nothing() {
    let (found, fixed) = found_and_fixed("invalid-metric-name");
    assert_eq!(found.figures(["increments", "exported", "logged"]), [5.0, 0.0, 5.0]);
    assert_eq!(fixed.figures(["increments", "exported", "logged"]), [5.0, 5.0, 0.0]);
}

#[test]
fn cumulative_metrics_that_are_too_large_never_arrive_again() {
    let (found, fixed) = found_and_fixed("metrics-over-4mb");
    // The first export arrives: 900 series and the counter. Then nothing does.
    let names = ["exports", "refused", "series_arrived", "counter_arrived"];
    assert_eq!(found.figures(names), [3.0, 2.0, 901.0, 1.0]);
    assert_eq!(fixed.figures(names), [3.0, 0.0, 1_801.0, 3.0]);
}

#[test]
fn a_second_installation_gets_nothing() {
    let (found, fixed) = found_and_fixed("second-install");
    assert_eq!(found.figures(["refused", "counts_at_second", "spans_at_second"]), [2.0, 0.0, 0.0]);
    assert_eq!(fixed.figures(["counts_at_second", "spans_at_second"]), [1.0, 1.0]);
}

#[test]
fn a_second_provider_leaves_the_first_unflushed() {
    let (found, fixed) = found_and_fixed("second-provider");
    assert_eq!(found.figures(["spans", "at_second", "unexported"]), [2.0, 0.0, 2.0]);
    assert_eq!(fixed.figures(["spans", "at_second", "unexported"]), [2.0, 1.0, 0.0]);
}

#[test]
fn exports_make_spans_of_their_own() {
    let (found, fixed) = found_and_fixed("telemetry-loop");
    assert!(found.figure("foreign_per_export") > 1.0, "{}", found.0);
    assert_eq!(fixed.figures(["spans_asked", "spans_arrived"]), [10.0, 10.0]);
}

#[test]
fn failed_exports_are_reported_as_ok() {
    let (found, fixed) = found_and_fixed("failed-export-ok");
    assert_eq!(found.figures(["lost", "flush_ok", "shutdown_ok", "told"]), [5.0, 1.0, 1.0, 0.0]);
    assert_eq!(fixed.figures(["lost", "told"]), [5.0, 5.0]);
}

#[test]
fn drops_at_a_full_queue_are_only_logged() {
    let (found, fixed) = found_and_fixed("queue-full");
    assert_eq!(found.figures(["ended", "dropped", "logged", "flush_ok", "shutdown_ok"]), [100.0, 92.0, 92.0, 1.0, 1.0]);
    assert_eq!(fixed.figures(["ended", "dropped", "logged"]), [100.0, 0.0, 0.0]);
}

#[test]
fn spans_are_not_delivered_while_their_own_runtime_waits() {
    let (found, fixed) = found_and_fixed("span-flush-one-worker");
    let names = ["flush_ok", "delivered_at_flush", "shutdown_ok", "delivered_at_shutdown"];
    assert_eq!(found.figures(names), [0.0; 4]);
    assert_eq!(fixed.figures(names), [1.0; 4]);
}

#[test]
fn a_metric_flush_on_the_only_worker_hangs_and_is_killed() {
    let (found, fixed) = found_and_fixed("metric-flush-one-worker");
    assert!(found.figure("hung_s") > 0.0);
    assert_eq!(fixed.figures(["flush_ok", "delivered"]), [1.0, 1.0]);
}

#[test]
fn a_guard_held_across_an_await_adopts_spans_of_other_requests() {
    let (found, fixed) = found_and_fixed("guard-across-await");
    // All but one: the last request to enter is the one whose span is current when the others go on.
    assert_eq!(found.figures(["requests", "wrong_parents", "not_root"]), [10.0, 9.0, 9.0]);
    assert_eq!(fixed.figures(["requests", "wrong_parents", "not_root"]), [10.0, 0.0, 0.0]);
}

#[test]
fn a_spawned_task_loses_trace_and_baggage() {
    let (found, fixed) = found_and_fixed("context-across-spawn");
    assert_eq!(found.figures(["in_trace", "with_baggage"]), [0.0, 0.0]);
    assert_eq!(fixed.figures(["in_trace", "with_baggage"]), [1.0, 1.0]);
}

#[test]
fn a_parent_set_too_late_is_refused() {
    let (found, fixed) = found_and_fixed("set-parent-late");
    assert_eq!(found.figures(["accepted", "in_callers_trace"]), [0.0, 0.0]);
    assert_eq!(fixed.figures(["accepted", "in_callers_trace"]), [1.0, 1.0]);
}

#[test]
fn deep_nests_keep_their_chain_and_the_verdict_is_the_intervals() {
    let (said, fixed) = probe("nesting");
    assert!(fixed.is_none());
    assert_eq!(said.figures(["chains", "chains_right"]), [4.0, 4.0]);
    let [low, ratio, high] = said.figures(["ratio_low", "ratio_1000_to_10", "ratio_high"]);
    assert!(low <= ratio && ratio <= high && low > 0.0, "{}", said.0);
    let expected = if low > 1.1 {
        "found"
    } else if high > 1.1 {
        "unclear"
    } else {
        "absent"
    };
    assert_eq!(said.verdict(), expected, "{}", said.0);
}

#[test]
fn a_span_is_entered_at_every_poll_and_once_more() {
    let (found, _) = probe("enter-per-poll");
    assert_eq!(found.verdict(), "found");
    // Five polls, and the drop of the future.
    assert_eq!(found.figures(["waits", "entered", "left"]), [4.0, 6.0, 6.0]);
}

#[test]
fn internal_logging_no_longer_deadlocks() {
    let (said, _) = probe("log-on-enter");
    assert_eq!(said.verdict(), "absent", "{}", said.0);
    assert_eq!(said.figures(["spans", "ended", "said"]), [100.0, 100.0, 200.0]);
}

#[test]
fn a_child_opened_by_a_processor_deadlocks_and_is_killed() {
    let (found, fixed) = found_and_fixed("span-in-processor");
    assert!(found.figure("hung_s") > 0.0);
    assert_eq!(fixed.figures(["spans", "ended", "said", "unreleased"]), [100.0, 100.0, 100.0, 0.0]);
}

#[test]
fn a_span_opened_while_another_closes_keeps_its_parent_open() {
    let (found, fixed) = found_and_fixed("span-while-closing");
    assert_eq!(found.figures(["spans", "ended", "said", "unreleased"]), [100.0, 1.0, 1.0, 1.0]);
    // The advice says so: roots are not released either, but hold nothing else.
    assert_eq!(fixed.figures(["spans", "ended", "said", "unreleased"]), [100.0; 4]);
}

#[test]
fn each_otel_variable_is_honoured_or_ignored_as_listed() {
    let (found, _) = probe("ignored-variables");
    assert_eq!(found.verdict(), "found");
    for honoured in [
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    ] {
        assert_eq!(found.figure(honoured), 1.0, "{honoured}");
    }
    for ignored in [
        "OTEL_SDK_DISABLED",
        "OTEL_PROPAGATORS",
        "OTEL_TRACES_EXPORTER",
        "OTEL_METRICS_EXPORTER",
        "OTEL_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_CONCURRENT_EXPORTS",
        "OTEL_METRIC_EXPORT_TIMEOUT",
    ] {
        assert_eq!(found.figure(ignored), 0.0, "{ignored}");
        assert!(found.0["what"].as_str().unwrap().contains(ignored));
    }
    // Without TLS in the build these cannot be tried, and then there is no figure.
    for tls in ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"] {
        let figure = &found.0["figures"][format!("OTEL_EXPORTER_OTLP_{tls}")];
        assert!(figure.is_null() || *figure == 0.0, "{tls}: {figure}");
    }
}

#[test]
fn otel_variables_of_the_user_do_not_change_the_findings() {
    let mut command = otelbench("probe seconds-buckets set-parent-late --format table");
    let output = command.env("OTEL_TRACES_SAMPLER", "always_off").env("OTEL_SDK_DISABLED", "true").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(table.contains("2 found, 0 absent; 2 gone once the advice is followed"), "{table}");
    // In the order of the list, whatever the order on the command line.
    assert!(table.find("seconds-buckets").unwrap() < table.find("set-parent-late").unwrap());
    assert!(table.lines().all(|line| console::measure_text_width(line) <= 100), "{table}");
}

#[test]
fn an_attempt_that_hangs_does_not_outlive_its_parent() {
    let mut program = otelbench("probe span-in-processor").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut attempts = Vec::new();
    until(|| {
        attempts = children_of(program.id().cast_signed());
        !attempts.is_empty()
    });
    program.kill().unwrap();
    program.wait().unwrap();
    until(|| attempts.iter().all(|attempt| !is_alive(*attempt)));
}

#[test]
fn a_probe_that_fails_to_run_is_an_error_and_hides_no_finding() {
    // So few files are enough for a child, and not for a collector and a connection.
    let mut shell = std::process::Command::new("sh");
    let script = format!("ulimit -n 11; exec {PROGRAM} probe queue-full metrics-over-4mb --format json");
    let output = shell.args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(message.contains("probe `metrics-over-4mb` could not be carried out"), "{message}");
    assert!(message.contains("Too many open files"), "{message}");
    let findings: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(findings.as_array().unwrap().len(), 1);
    assert_eq!(findings[0]["probe"], "queue-full");
}

#[test]
fn an_unknown_probe_is_refused_with_the_nearest_name() {
    let output = ran("probe gauge-incremnt");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `gauge-increment`?"), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
}

//! The isolated estimators, each in processes of its own as users have them. The tests assert structure and order, never
//! speed.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use crate::common::{PROGRAM, otelbench, ran, stderr, stdout};
use otelbench::record::isolated::Isolated;
use otelbench::studies::isolated::{self, IsolatedError};

fn measured(names: &[&str], rounds: u32, seed: u64) -> (Isolated, Vec<String>) {
    let mut said = Vec::new();
    let isolated =
        isolated::measure(Path::new(PROGRAM), names, rounds, seed, &mut |line| said.push(line.to_owned())).unwrap();
    (isolated, said)
}

/// Every launch is checked against the telemetry it left behind, so a value also means that the estimator did its work.
fn each_has_a_value(of: impl Fn(&str) -> bool) {
    let all = isolated::all();
    let names: Vec<&str> = all.iter().map(|estimator| estimator.name.as_str()).filter(|name| of(name)).collect();
    assert!(!names.is_empty());
    let (isolated, _) = measured(&names, 1, 1);
    assert_eq!(isolated.readings.len(), names.len());
    for name in names {
        let [ns] = isolated.of(name).unwrap() else { panic!("{name}: {isolated:?}") };
        // What finds nobody listening may be too little to tell.
        let unheard = name.ends_with("-none") || name == "span-filtered";
        assert!(ns.is_finite() && (*ns > 0.0 || unheard), "{name}: {ns}");
    }
}

#[test]
fn counters_and_histograms_have_a_value() {
    each_has_a_value(|name| name.starts_with("counter-") || name.starts_with("histogram-"));
}

#[test]
fn counters_on_several_threads_have_a_value() {
    each_has_a_value(|name| name.starts_with("scaling-"));
}

#[test]
fn orders_have_a_value() {
    each_has_a_value(|name| name.starts_with("order-"));
}

#[test]
fn spans_have_a_value() {
    each_has_a_value(|name| name.starts_with("span-"));
}

#[test]
fn nested_spans_have_a_value() {
    each_has_a_value(|name| name.starts_with("depth-"));
}

#[test]
fn every_round_launches_each_once_in_an_order_of_its_own() {
    let names = ["counter-macro-none", "span-none"];
    let (isolated, said) = measured(&names, 4, 7);
    assert_eq!(isolated.rounds, 4);
    assert!(names.iter().all(|name| isolated.of(name).unwrap().len() == 4), "{isolated:?}");
    assert_eq!(isolated.difference(names[0], names[1]).unwrap().len(), 4);
    for (round, launches) in (1..).zip(said.chunks(2)) {
        for name in names {
            let line = format!("round {round} of 4: {name}");
            assert_eq!(launches.iter().filter(|said| **said == line).count(), 1, "{said:?}");
        }
    }
    // Balanced: of four rounds each is the first in two.
    for name in names {
        assert_eq!(said.iter().step_by(2).filter(|first| first.ends_with(name)).count(), 2, "{said:?}");
    }
    // The same seed gives the same order, and a name that comes twice counts once.
    let (again, order) = measured(&[names[0], names[1], names[0]], 4, 7);
    assert_eq!((order, again.of(names[0]).unwrap().len()), (said, 4));
}

#[test]
fn otel_variables_of_the_user_do_not_change_the_readings() {
    // With this sampler no span would arrive, and the launch would fail.
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "isolated::spans_have_a_value"]).env("OTEL_TRACES_SAMPLER", "always_off");
    let output = command.output().unwrap();
    assert!(output.status.success() && stdout(&output).contains("1 passed"), "{}", stdout(&output));
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_before_anything_is_launched() {
    let mut said = 0;
    let error =
        isolated::measure(Path::new("/nowhere"), &["span-none", "span-filtred"], 1, 1, &mut |_| said += 1).unwrap_err();
    assert!(matches!(error, IsolatedError::Unknown(_)) && said == 0);
    assert!(error.to_string().contains("`span-filtred`, did you mean `span-filtered`?"), "{error}");
    let output = ran(&format!("{} span-filtred http://localhost:1", isolated::SUBCOMMAND));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `span-filtered`?"), "{}", stderr(&output));
}

#[test]
fn a_launch_that_does_nothing_is_refused_with_estimator_and_round() {
    let error = isolated::measure(Path::new("true"), &["span-none"], 1, 1, &mut |_| ()).unwrap_err();
    assert!(error.to_string().starts_with("estimator `span-none`, round 1: cannot read its answer"), "{error}");
    let error = isolated::measure(Path::new("/nowhere"), &["span-none"], 1, 1, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("round 1: cannot launch /nowhere"), "{error}");
}

#[test]
fn a_launch_ends_with_its_parent() {
    // It takes connections and never answers, so that the launch has to wait for its first export.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut launch = otelbench(&format!("{} order-full {endpoint}", isolated::SUBCOMMAND));
    let output = launch.stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), String::new()));
}

#[test]
fn the_subcommand_is_hidden() {
    let help = otelbench("--help").output().unwrap();
    assert!(!stdout(&help).contains(isolated::SUBCOMMAND));
}

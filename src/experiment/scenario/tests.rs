use std::fs;
use std::path::Path;

use super::arms::OTHER_BUILD;
use super::*;
use crate::experiment::generator::Pacing;

fn parse(text: &str) -> Result<Settings, String> {
    Settings::read(text, Path::new("s.toml")).map_err(|error| error.to_string())
}

#[test]
fn errors_in_a_file_name_the_line_and_the_key() {
    for (text, line, says) in [
        ("rps = 1000\nrsp = 2000\n", "line 2", "unknown field `rsp`"),
        ("\nrps = -5\n", "line 2", "a rate must be"),
        ("rounds = 0\n", "line 1", "nonzero"),
        ("mode = \"ful\"\n", "line 1", "did you mean `full`?"),
        ("mode = [\"metrics\", \"ful\"]\n", "line 1", "did you mean `full`?"),
        ("baseline = \"non\"\n", "line 1, `baseline`", "did you mean `none`?"),
        ("rps = 5\n[modes.mine]\nlike = \"ful\"\n", "line 2", "mode `mine`: unknown mode `ful`, did you mean `full`?"),
        ("[modes.mine]\nlike = \"full\"\ntraces.quee = 1\n", "line 1", "unknown field `quee`"),
        ("mode = \"mine\"\n[modes.yours]\nlike = \"full\"\n", "line 1, `mode`", "naive, tuned, yours"),
        ("slice = \"0s\"\n", "line 1", "longer than zero"),
        ("slice = \"10\"\n", "line 1", "500ms"),
        ("arrivals = \"ramp:5\"\n", "line 1", "ramp:FROM..TO"),
        ("endpoint = \"localhost\"\n", "line 1", "http://localhost:4317"),
        ("rps = \n", "line 1", "rps"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(line) && error.contains(says), "{text:?} gave {error}");
    }
}

#[test]
fn errors_in_a_claim_name_the_line_and_the_key() {
    const RIGHT: [&str; 7] = [
        "[[claims]]",
        "id = \"budget\"",
        "statement = \"full costs less than 20 µs per request\"",
        "metric = \"cpu_us_per_request\"",
        "arm = \"full\"",
        "limit = 20",
        "unit = \"us\"",
    ];
    let with = |line: usize, text: &str| {
        let mut lines = RIGHT.map(str::to_owned);
        text.clone_into(&mut lines[line - 1]);
        lines.join("\n")
    };
    assert!(parse(&RIGHT.join("\n")).is_ok());
    for (line, text, says) in [
        (4, "metric = \"cpu\"", "unknown variant `cpu`"),
        (5, "arm = \"ful\"", "`claims.arm`: unknown mode `ful`, did you mean `full`?"),
        (5, "arm = \"full\"\nbaseline = \"non\"", "line 6, `claims.baseline`: unknown mode `non`"),
        (6, "limit = \"20\"", "expected f64"),
        (7, "unit = \"ms\"", "unknown variant `ms`"),
        (7, "unit = \"us\"\nlimti = 3", "line 8"),
        (7, "unit = \"us\"\nestimator = \"isolated\"", "expected `end-to-end`"),
    ] {
        let error = parse(&with(line, text)).unwrap_err();
        let line = if says.starts_with("line") { String::new() } else { format!("line {line}") };
        assert!(error.contains(&line) || error.contains("line 8"), "{text} gave {error}");
        assert!(error.contains(says), "{text} gave {error}");
    }
    // What no one key is to blame for is found at its table.
    for (line, text, says) in [
        (7, "", "missing field `unit`"),
        (7, "unit = \"bytes\"", "claim `budget`: `claims.unit` does not go with its metric; write us, %, % of a core"),
        (6, "limit = inf", "claim `budget`: `claims.limit` must be a number"),
        (4, "metric = \"capacity_rps\"", "`otelbench capacity`"),
        (2, "id = \" \"", "`claims.id` must not be empty"),
    ] {
        let error = parse(&with(line, text)).unwrap_err();
        assert!(error.contains("line 1") && error.contains(says), "{text} gave {error}");
    }
    let error = parse(&[RIGHT.join("\n"), RIGHT.join("\n")].join("\n")).unwrap_err();
    assert!(error.contains("two claims are called `budget`"), "{error}");
}

#[test]
fn a_mode_of_the_scenarios_own_is_asked_for_like_any_other() {
    let file = parse("[modes.small]\nlike = \"full\"\ntraces.queue = 2048").unwrap();
    let flags = Settings { mode: Some(vec!["small".parse().unwrap()]), ..Settings::default() };
    let scenario = Scenario::resolve(flags.or(file)).unwrap();
    assert_eq!(scenario.arm_names(), ["none", PLACEBO, "small"]);
    assert_eq!(scenario.arms[2].mode.traces.as_ref().map(|traces| traces.queue), Some(2_048));
    let nowhere = Settings { mode: Some(vec!["smal".parse().unwrap()]), ..Settings::default() };
    let error = Scenario::resolve(nowhere).unwrap_err().to_string();
    assert!(error.starts_with("--mode: unknown mode `smal`"), "{error}");
}

#[test]
fn a_flag_wins_over_the_file() {
    let file = parse("rps = 1000\nrounds = 3\nmode = \"metrics,full\"").unwrap();
    let flags = Settings { rps: Some(Rate::per_second(500.0).unwrap()), ..Settings::default() };
    let scenario = Scenario::resolve(flags.or(file)).unwrap();
    assert_eq!(scenario.rps.as_f64(), 500.0);
    assert_eq!(scenario.rounds, 3);
    assert_eq!(scenario.arm_names(), ["none", PLACEBO, "metrics", "full"]);
}

#[test]
fn arrivals_of_a_flag_win_over_the_rate_of_the_file_and_a_rate_contradicts_those_of_the_file() {
    let ramp = "arrivals = \"ramp:1000..3000\"";
    let won = Scenario::resolve(parse(ramp).unwrap().or(parse("rps = 50").unwrap())).unwrap();
    assert_eq!(won.mean_rate().as_f64(), 2_000.0);
    let contradiction = Scenario::resolve(parse("rps = 50").unwrap().or(parse(ramp).unwrap()));
    assert!(matches!(contradiction, Err(ScenarioError::TwoRates(_))));
}

#[test]
fn gates_are_written_in_a_scenario_as_in_a_flag() {
    let scenario = |text| Scenario::resolve(parse(text).unwrap()).unwrap();
    let gates = scenario("max_regression = [\"cpu_us_per_request:full=5%\", \"rss_bytes=10%\"]").gates;
    assert_eq!(gates.iter().map(Gate::to_string).collect::<Vec<_>>(), ["cpu_us_per_request:full=5%", "rss_bytes=10%"]);
    assert_eq!(scenario("max_regression = \"rss_bytes=10%\"").gates, gates[1..]);
    let flags = Settings { max_regression: Some(gates[..1].to_vec()), ..Settings::default() };
    let won = Scenario::resolve(flags.or(parse("max_regression = \"rss_bytes=10%\"").unwrap())).unwrap();
    assert_eq!(won.gates, gates[..1]);
    let error = parse("rps = 5\nmax_regression = \"cpu=5%\"").unwrap_err();
    assert!(error.contains("line 2") && error.contains("did you mean `cpu_us_per_request`?"), "{error}");
}

#[test]
fn request_headers_are_written_in_a_scenario_as_in_a_flag_and_stored() {
    let stored = |settings| {
        let scenario = Scenario::resolve(settings).unwrap();
        let json = serde_json::to_value(&scenario).unwrap();
        assert_eq!(serde_json::from_value::<Scenario>(json.clone()).unwrap(), scenario);
        json.get("request_headers").cloned()
    };
    let several = "request_headers = [\"x-tenant:blue\", \"Authorization: Bearer abc\"]";
    assert_eq!(
        stored(parse(several).unwrap()),
        Some(serde_json::json!(["x-tenant: blue", "authorization: Bearer abc"]))
    );
    assert_eq!(stored(parse("request_headers = \"a:b\"").unwrap()), Some(serde_json::json!(["a: b"])));
    let flags = Settings { request_headers: Some(vec!["c:d".parse().unwrap()]), ..Settings::default() };
    assert_eq!(stored(flags.or(parse(several).unwrap())), Some(serde_json::json!(["c: d"])));
    // Documents are as they were where there is none.
    assert_eq!(stored(Settings::default()), None);
    let error = parse("rps = 5\nrequest_headers = \"Host: b\"").unwrap_err();
    assert!(error.contains("line 2") && error.contains("the generator sets `host` itself"), "{error}");
    let many = Settings { request_headers: Some(vec!["a:b".parse().unwrap(); 51]), ..Settings::default() };
    assert!(matches!(Scenario::resolve(many), Err(ScenarioError::TooManyHeaders { many: 51, most: 50 })));
}

#[test]
fn a_resolved_scenario_says_what_auto_came_to() {
    let scenario = Scenario::resolve(Settings::default()).unwrap();
    assert_eq!(scenario.generator.pacing, Pacing::Timer);
}

#[test]
fn direct_calls_are_made_in_clumps_from_where_the_service_would_be_unless_told_otherwise() {
    let resolved = |text| Scenario::resolve(parse(text).unwrap());
    let (direct, tcp) = (resolved("transport = \"direct\"").unwrap(), resolved("service_threads = 1").unwrap());
    assert_eq!((direct.generator.pacing, direct.service.threads), (Pacing::Coarse, 1));
    assert_eq!(direct.placement.generator, tcp.placement.service);
    assert_eq!(direct.placement.service, tcp.placement.service);
    assert_eq!(resolved("transport = \"direct\"\npacing = \"spin\"").unwrap().generator.pacing, Pacing::Spin);
    assert_eq!(tcp.generator.pacing, Pacing::Timer);
}

#[test]
fn the_baseline_is_one_arm_even_when_it_is_named_among_the_treatments() {
    let scenario = Scenario::resolve(parse("mode = \"none,full\"").unwrap()).unwrap();
    assert_eq!(scenario.arm_names(), ["none", PLACEBO, "full"]);
}

#[test]
fn arrivals_may_bring_their_own_rates() {
    assert!(matches!(
        Scenario::resolve(parse("rps = 50\narrivals = \"ramp:1..2\"").unwrap()),
        Err(ScenarioError::TwoRates(_))
    ));
    let mean = |text| Scenario::resolve(parse(text).unwrap()).unwrap().mean_rate().as_f64();
    assert_eq!(mean("rps = 50\narrivals = \"poisson\""), 50.0);
    assert_eq!(mean("arrivals = \"steps:1000,2000\""), 1_500.0);
    assert_eq!(mean("rps = 50\narrivals = \"bursts:x4,every=1s,lasts=500ms\""), 125.0);
}

#[test]
fn of_two_builds_each_mode_is_compared_with_itself() {
    let build = std::env::current_exe().unwrap();
    let settings = |text| Settings { against: Some(build.clone()), ..parse(text).unwrap() };
    let scenario = Scenario::resolve(settings("mode = \"none,full\"")).unwrap();
    assert_eq!(scenario.arm_names(), ["none@base", PLACEBO, "none", "full@base", "full"]);
    for arm in &scenario.arms {
        let other = arm.name.ends_with(OTHER_BUILD) || arm.name == PLACEBO;
        assert_eq!(arm.executable.is_some(), other, "{}", arm.name);
        if arm.role != Role::Baseline {
            let reference = scenario.reference(arm).unwrap();
            assert_eq!(reference.name, format!("{}{OTHER_BUILD}", arm.mode.name));
        }
    }
    let refused = |settings| Scenario::resolve(settings).unwrap_err();
    assert!(matches!(refused(settings("baseline = \"none\"")), ScenarioError::TwoBaselines(_)));
    assert!(matches!(refused(settings("fault = \"hang\"")), ScenarioError::FaultAgainst(_)));
    let nowhere = Settings { against: Some("/nowhere/otelbench".into()), ..Settings::default() };
    assert!(refused(nowhere).to_string().starts_with("--against /nowhere/otelbench: "));
}

#[test]
fn contradictions_are_refused() {
    let twice = Scenario::resolve(parse("mode = \"full,full\"").unwrap());
    assert!(matches!(twice, Err(ScenarioError::TwiceNamed(name)) if name == "full"));
    let nothing = Scenario::resolve(parse("mode = \"none\"\nno_placebo = true").unwrap());
    assert!(matches!(nothing, Err(ScenarioError::NothingToCompare(_))));
    let direct = |more| Scenario::resolve(parse(&format!("transport = \"direct\"\n{more}")).unwrap());
    assert!(matches!(direct("isolation = \"process\""), Err(ScenarioError::DirectAcrossProcesses)));
    assert!(matches!(direct("service_threads = 2"), Err(ScenarioError::DirectOnManyThreads("--service-threads", 2))));
    assert!(matches!(direct("shards = 3"), Err(ScenarioError::DirectOnManyThreads("--shards", 3))));
    assert!(matches!(direct("payment = \"http\""), Err(ScenarioError::DirectWithPaymentService)));
    assert!(direct("service_threads = 1\nisolation = \"in-process\"\npayment = \"inside\"").is_ok());
}

#[test]
fn every_scenario_kept_in_the_repository_resolves() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            Scenario::resolve(Settings::from_file(&path).unwrap()).unwrap();
            seen += 1;
        }
    }
    assert!(seen > 0, "no scenario found");
}

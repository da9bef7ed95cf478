use std::path::PathBuf;

use super::*;
use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::Pacing;
use crate::experiment::payload::UserIds;
use crate::experiment::placement::{IdleCores, Pinning};
use crate::experiment::scenario::{Isolation, Settings, Transport, Until};
use crate::experiment::service::Payment;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_of_run_reaches_the_settings() {
    let line = "otelbench run s.toml --rps 5 --mode metrics,full --baseline bare --no-placebo --rounds 3 --slices 4 \
                --slice 2s --warmup 1s --seed 9 --arrivals poisson --users 9 --user-ids uniform --error-share 0.5 --personal \
                --pacing spin --pinning none --idle-cores awake --shards 2 --transport tcp --isolation process \
                --connections 7 --timeout 3s --payment http --payment-delay 50ms --service-threads 2 --request-header x-tenant:blue --endpoint http://h:1 --fault hang \
                --against b --max-regression rss_bytes=5% --until resolved --budget 5m --out o.json \
                --format json --quiet --keep-histograms";
    let Ok(Cli { command: Command::Run(args) }) = Cli::try_parse_from(line.split_whitespace()) else {
        panic!("the line is not accepted")
    };
    let (file, settings) = args.into_parts();
    assert_eq!(file, Some(PathBuf::from("s.toml")));
    let Settings {
        name: None,
        rps: Some(_),
        mode: Some(modes),
        modes: None,
        baseline: Some(_),
        no_placebo: Some(true),
        rounds: Some(_),
        slices: Some(_),
        until: Some(Until::Resolved),
        budget: Some(_),
        slice: Some(_),
        warmup: Some(_),
        seed: Some(9),
        arrivals: Some(Arrivals::Poisson),
        users: Some(_),
        user_ids: Some(UserIds::Uniform),
        error_share: Some(_),
        personal: Some(true),
        request_headers: Some(_),
        mix: None,
        pacing: Some(Pacing::Spin),
        pinning: Some(Pinning::None),
        idle_cores: Some(IdleCores::Awake),
        shards: Some(_),
        transport: Some(Transport::Tcp),
        isolation: Some(Isolation::Process),
        connections: Some(_),
        slo: None,
        claims: None,
        timeout: Some(_),
        payment: Some(Payment::Http),
        payment_delay: Some(_),
        service_threads: Some(_),
        endpoint: Some(_),
        fault: Some(_),
        against: Some(_),
        max_regression: Some(_),
        out: Some(_),
        format: Some(Format::Json),
        quiet: Some(true),
        keep_histograms: Some(true),
    } = settings
    else {
        panic!("an option is lost: {settings:?}")
    };
    assert_eq!(modes.len(), 2);
}

#[test]
fn capacity_takes_the_options_of_run_but_for_slices() {
    let line = "otelbench capacity s.toml --slo p50=1ms,p99=10ms --rps 5 --mode full --rounds 3 --slice 2s --quiet";
    let Ok(Cli { command: Command::Capacity(args) }) = Cli::try_parse_from(line.split_whitespace()) else {
        panic!("the line is not accepted")
    };
    let (file, settings) = args.into_parts();
    assert_eq!(file, Some(PathBuf::from("s.toml")));
    assert_eq!(settings.slo, "p50=1ms,p99=10ms".parse().ok());
    assert!(settings.rps.is_some() && settings.mode.is_some() && settings.slice.is_some(), "{settings:?}");
    let error = Cli::try_parse_from("otelbench capacity --slices 2".split_whitespace()).unwrap_err();
    assert!(error.to_string().contains("--slices"), "{error}");
}

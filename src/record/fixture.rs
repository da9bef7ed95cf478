//! Hand-made records for tests: every number in them is known.

use std::time::Duration;

use crate::experiment::plan::Plan;
use crate::experiment::scenario::{Scenario, Settings};
use crate::generator::answered;
use crate::record::account::{Account, Exports, ServiceSpans};
use crate::record::machine::{Machine, Tool};
use crate::record::received::{Received, TreeReport};
use crate::record::records::{Header, LaneRecord, Records, SCHEMA, SliceRecord};
use crate::record::usage::{Count, CpuUs, Idle, ResourceUsage};

/// Requests in every slice.
pub(crate) const REQUESTS: u64 = 1_000;

/// A header for `mode` against `none` with a placebo, over so many rounds of two slices.
pub(crate) fn header(mode: &str, rounds: u32) -> Header {
    let toml = format!("name = \"fixture\"\nmode = \"{mode}\"\nrounds = {rounds}\nseed = 7\nservice_threads = 1");
    let settings: Settings = toml::from_str(&toml).unwrap();
    let mut scenario = Scenario::resolve(settings).unwrap();
    // These depend on the machine and its environment.
    scenario.placement.generator = vec![0];
    scenario.placement.service = vec![1];
    scenario.collector = crate::experiment::scenario::Collector::Embedded;
    let plan = Plan::new(&scenario.arm_names(), scenario.rounds, scenario.slices, 7);
    Header {
        schema: SCHEMA.into(),
        tool: Tool { version: "0.0.0".into(), git: None, rustc: "rustc".into(), profile: "release".into() },
        machine: Machine {
            cpu_model: Some("Abacus 9000".into()),
            cores: 2,
            memory_bytes: Some(1 << 34),
            kernel: Some("Linux 6.0".into()),
            governor: None,
            hypervisor: Some(true),
        },
        started_at: "2026-01-01T00:00:00Z".into(),
        resumed_at: Vec::new(),
        scenario,
        plan,
    }
}

/// A slice in which each request cost the service so many microseconds of CPU and took ten times as long.
pub(crate) fn slice(round: u32, slice: u32, arm: &str, us_per_request: f64) -> SliceRecord {
    let total = us_per_request * REQUESTS as f64;
    SliceRecord {
        round,
        slice,
        arm: arm.into(),
        played: answered(REQUESTS, Duration::from_nanos((us_per_request * 1e4) as u64)),
        spent: ResourceUsage {
            wall_us: 1e6,
            cpu_us: CpuUs {
                request: total * 0.75,
                exporter: total * 0.25,
                generator: 5_000.0,
                other: 10.0,
                process: total + 5_010.0,
                unaccounted: 0.0,
            },
            periodic: None,
            allocations: Some(Count { count: 31 * REQUESTS, bytes: 4_096 * REQUESTS }),
            allocations_reason: None,
            rss_bytes: 12_000_000,
            idle: Idle { wall_us: 1e6, cpu_us: 100.0 },
            steal_us: 0.0,
        },
    }
}

/// The lane of an arm that lost nothing; with spans when asked.
pub(crate) fn lane(round: u32, arm: &str, traced: bool) -> LaneRecord {
    let orders = 2 * REQUESTS;
    let mut received = Received { exports: 3, wire_bytes: 100_000, ..Received::default() };
    let mut account = Account::default();
    if traced {
        account.spans = Some(ServiceSpans { ended: 3 * orders, ..ServiceSpans::default() });
        account.span_exports = Some(Exports { count: 12, p50_ms: Some(1.5), p99_ms: Some(3.0), ..Exports::default() });
        account.metric_exports = Some(Exports { count: 3, p50_ms: Some(0.5), p99_ms: Some(0.9), ..Exports::default() });
        received.spans = 3 * orders;
        received.trees = TreeReport { traces: orders, right: orders, ..TreeReport::default() };
        received.metrics.points = 6;
        received.metrics.counters.insert(crate::experiment::service::ORDERS_TOTAL.into(), orders as f64);
    }
    LaneRecord {
        round,
        arm: arm.into(),
        orders_completed: orders,
        orders_uncertain: 0,
        account,
        received: Some(received),
        tool: None,
    }
}

/// A whole run of `full` in which the cost of a request is what `cost` says of arm and round.
pub(crate) fn run(rounds: u32, cost: impl Fn(&str, u32) -> f64) -> Records {
    run_of_modes("full", rounds, cost)
}

/// The same of these modes, separated by commas.
pub(crate) fn run_of_modes(modes: &str, rounds: u32, cost: impl Fn(&str, u32) -> f64) -> Records {
    let header = header(modes, rounds);
    let mut slices = Vec::new();
    let mut lanes = Vec::new();
    for (round, order) in (0..rounds).zip(&header.plan.order) {
        for (place, arm) in order.iter().enumerate() {
            let earlier = order[..place].iter().filter(|other| *other == arm).count() as u32;
            slices.push(slice(round, earlier, arm, cost(arm, round)));
        }
        lanes.extend(header.scenario.arms.iter().map(|arm| lane(round, &arm.name, arm.mode.traces.is_some())));
    }
    Records { header, slices, lanes }
}

/// A whole run of this scenario, in which a request costs what `cost` says of arm and round; its lanes lost nothing.
pub(crate) fn run_of(scenario: Scenario, cost: impl Fn(&str, u32) -> f64) -> Records {
    let plan = Plan::new(&scenario.arm_names(), scenario.rounds, scenario.slices, 7);
    let header = Header { scenario, plan, ..header("full", 1) };
    let (mut slices, mut lanes) = (Vec::new(), Vec::new());
    for (round, order) in (0..).zip(&header.plan.order) {
        slices.extend(order.iter().map(|arm| slice(round, 0, arm, cost(arm, round))));
        let arms = header.scenario.arms.iter();
        lanes.extend(arms.map(|arm| lane(round, &arm.name, arm.mode.traces.is_some())));
    }
    Records { header, slices, lanes }
}

/// Multiplicative noise of about one percent that differs by arm and round, and is the same every time.
pub(crate) fn noise(arm: &str, round: u32) -> f64 {
    let mixed = arm.bytes().fold(u64::from(round) + 1, |h, b| (h ^ u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    1.0 + ((mixed >> 40) as f64 / f64::from(1 << 24) - 0.5) * 0.02
}

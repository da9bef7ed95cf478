//! What the generator pays per request beside the wire: the schedule, the request, and reading the meter around a slice.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use otelbench::arrivals::{Arrivals, Schedule};
use otelbench::generator::Requests;
use otelbench::meter::Meter;
use otelbench::scenario::{Scenario, Settings};
use otelbench::units::Rate;
use otelbench::workload::Workload;

fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    let second = Duration::from_secs(1);
    group.throughput(Throughput::Elements(10_000));
    for text in [
        "constant",
        "poisson",
        "ramp:5000..15000",
        "steps:5000,10000,15000",
        "bursts:x4,every=100ms,lasts=10ms",
        "sine:depth=0.5,period=500ms",
    ] {
        let arrivals: Arrivals = text.parse().expect("it is written as it should be");
        group.bench_function(text, |b| {
            let rate = black_box(Rate::TEN_THOUSAND);
            b.iter(|| Schedule::new(arrivals.clone(), rate, second, 1).map(black_box).count());
        });
    }
    group.finish();
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    for (name, settings) in [
        ("as usual", ""),
        ("zipf", "users = 100000\nuser_ids = \"zipf:1.1\""),
        ("a share refused", "error_share = 0.01"),
        ("a mix", "mix = [{ endpoint = \"order\", weight = 9, items = 3 }, { endpoint = \"healthz\" }]"),
        ("50 items", "mix = [{ endpoint = \"order\", items = 50 }]"),
    ] {
        let settings: Settings = toml::from_str(settings).expect("it is written as it should be");
        let scenario = Scenario::resolve(settings).expect("nothing in it is a contradiction");
        let workload = Workload::new(1, 1, &scenario.payload);
        let (mut bytes, mut seq) = (Vec::new(), 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                seq += 1;
                workload.write(black_box(seq), &mut bytes)
            });
        });
    }
    group.finish();
}

fn meter(c: &mut Criterion) {
    let meter = Meter::new(&[]);
    c.bench_function("meter reading", |b| b.iter(|| meter.read()));
}

criterion_group!(benches, schedules, requests, meter);
criterion_main!(benches);

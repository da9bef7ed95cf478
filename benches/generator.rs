//! What the generator pays per request beside the wire: the schedule, the request, and reading the meter around a slice.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use otelbench::arrivals::{Arrivals, Schedule};
use otelbench::generator::Requests;
use otelbench::meter::Meter;
use otelbench::units::Rate;
use otelbench::workload::Workload;

fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    let second = Duration::from_secs(1);
    group.throughput(Throughput::Elements(10_000));
    for (name, arrivals) in [("constant", Arrivals::Constant), ("poisson", Arrivals::Poisson)] {
        group.bench_function(name, |b| {
            b.iter(|| Schedule::new(arrivals, black_box(Rate::TEN_THOUSAND), second, 1).map(black_box).count());
        });
    }
    group.finish();
}

fn requests(c: &mut Criterion) {
    let requests = Workload::new(1).requests();
    let mut bytes = requests.template();
    let mut seq = 0;
    c.bench_function("request", |b| {
        b.iter(|| {
            seq += 1;
            requests.number(black_box(seq), &mut bytes);
        });
    });
}

fn meter(c: &mut Criterion) {
    let meter = Meter::new(&[]);
    c.bench_function("meter reading", |b| b.iter(|| meter.read()));
}

criterion_group!(benches, schedules, requests, meter);
criterion_main!(benches);

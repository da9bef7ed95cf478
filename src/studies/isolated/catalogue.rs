//! Every estimator.

use super::Estimator;
use super::launched::{Access, ControlSpan, Footprint, Operation, SeriesUse};
use crate::experiment::mode::{Metrics, Mode, named};
use crate::os::cores;

/// Depths to which spans are nested.
const DEPTHS: [u64; 4] = [1, 10, 100, 1_000];
/// Modes of the order service that have an estimator.
const ORDERS: [&str; 8] = ["bare", "none", "metrics", "bridge", "bridge-cached", "traces", "full", "tuned"];

/// Every estimator, metrics first. Those of scaling go up to the cores that this process may use.
pub fn all() -> Vec<Estimator> {
    let cores = cores::allowed_cores().len().max(1);
    [metrics(), scaling(&thread_counts(cores)), ORDERS.map(order).to_vec(), spans(), DEPTHS.map(depth).to_vec()]
        .concat()
}

/// A built-in mode.
fn mode(name: &str) -> Mode {
    named(name).expect("it is in the catalogue of modes")
}

/// The mode that installs a recorder, by the name that estimators call the recorder.
fn recorder(name: &str) -> Mode {
    mode(if name == "prometheus" { "metrics" } else { name })
}

fn metrics() -> Vec<Estimator> {
    let kinds = [("counter", "increment of a counter"), ("histogram", "value into a histogram")];
    let ways = [
        ("macro", Access::Macro, "prometheus"),
        ("macro", Access::Macro, "bridge"),
        ("cached", Access::Handle, "prometheus"),
        ("cached", Access::Handle, "bridge"),
        ("macro", Access::Macro, "none"),
    ];
    let estimator = |(kind, what), (how, by, to)| {
        let recorded = u64::from(to != "none");
        let (operation, footprint) = match kind {
            "counter" => (Operation::Counter(by), Footprint { orders: recorded, ..Footprint::default() }),
            _ => (Operation::Histogram(by), Footprint { latencies: recorded, ..Footprint::default() }),
        };
        let by = match by {
            Access::Macro => "the macro",
            Access::Handle => "a handle that was kept",
        };
        let into =
            if to == "none" { "with no recorder installed".to_owned() } else { format!("into the {to} recorder") };
        Estimator {
            name: format!("{kind}-{how}-{to}"),
            what: format!("ns of CPU per {what} through {by}, {into}"),
            mode: recorder(to),
            operation,
            footprint,
            control: ControlSpan::Disabled,
        }
    };
    kinds.into_iter().flat_map(|kind| ways.map(|way| estimator(kind, way))).collect()
}

/// From one thread to one per core, doubling, and as many as there are cores.
fn thread_counts(cores: usize) -> Vec<usize> {
    let doubling = std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count < cores);
    doubling.chain([cores]).collect()
}

fn scaling(thread_counts: &[usize]) -> Vec<Estimator> {
    let mut estimators = Vec::new();
    for to in ["prometheus", "bridge"] {
        for (name, series, what) in
            [("one", SeriesUse::One, "all into one series"), ("many", SeriesUse::Many, "each into a series of its own")]
        {
            estimators.extend(thread_counts.iter().map(|&threads| Estimator {
                name: format!("scaling-counter-{to}-{name}-{threads}"),
                what: format!(
                    "ns of CPU per increment of a counter with a label through a kept handle, {}, into the {to} recorder",
                    if threads == 1 { "on one thread".into() } else { format!("on each of {threads} threads at once, {what}") }
                ),
                mode: recorder(to),
                operation: Operation::Threads(threads, series),
                footprint: Footprint {
                    orders: 1,
                    series: Some(if series == SeriesUse::One { 1 } else { threads as u64 }),
                    ..Footprint::default()
                },
                control: ControlSpan::Disabled,
            }));
        }
    }
    estimators
}

fn order(name: &str) -> Estimator {
    let mode = mode(name);
    let recorded = u64::from(mode.metrics != Metrics::Nowhere);
    let traced = mode.traces.is_some();
    Estimator {
        name: format!("order-{name}"),
        what: format!(
            "ns of CPU per order on the thread that answers it, including the service's own work, in mode {name}"
        ),
        mode,
        operation: Operation::Order,
        footprint: Footprint { spans: if traced { 3 } else { 0 }, orders: recorded, latencies: recorded, series: None },
        control: if traced { ControlSpan::Recorded } else { ControlSpan::Disabled },
    }
}

fn spans() -> Vec<Estimator> {
    let one = Footprint { spans: 1, ..Footprint::default() };
    let none = Footprint::default();
    let to_nowhere = "tracing-opentelemetry, batch processor, an exporter that drops them";
    let estimator = |name: &str, what: String, mode, operation, footprint, control| Estimator {
        name: name.into(),
        what: format!("ns of CPU per span, made, entered, left and closed: {what}"),
        mode,
        operation,
        footprint,
        control,
    };
    let slim = Mode { metrics: Metrics::Nowhere, ..mode("tuned") };
    vec![
        estimator("span-none", "no subscriber".into(), mode("none"), Operation::Span, none, ControlSpan::Disabled),
        estimator(
            "span-filtered",
            format!("at DEBUG under a filter at INFO, before {to_nowhere}"),
            mode("spans-null"),
            Operation::DebugSpan,
            none,
            ControlSpan::Recorded,
        ),
        estimator(
            "span-unsampled",
            "tracing-opentelemetry with a sampler that records none".into(),
            mode("spans-off"),
            Operation::Span,
            none,
            ControlSpan::Unsampled,
        ),
        estimator("span-recorded", to_nowhere.into(), mode("spans-null"), Operation::Span, one, ControlSpan::Recorded),
        estimator(
            "span-tuned",
            "the slim layer, sent to a sink".into(),
            slim,
            Operation::Span,
            one,
            ControlSpan::Recorded,
        ),
    ]
}

fn depth(depth: u64) -> Estimator {
    Estimator {
        name: format!("depth-{depth}"),
        what: format!("ns of CPU per span of a nest {depth} deep, each made and entered within the one before"),
        mode: mode("spans-null"),
        operation: Operation::Depth(depth),
        footprint: Footprint { spans: 1, ..Footprint::default() },
        control: ControlSpan::Recorded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_counts_double_up_to_the_number_of_cores() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(2), [1, 2]);
        assert_eq!(thread_counts(6), [1, 2, 4, 6]);
        assert_eq!(thread_counts(8), [1, 2, 4, 8]);
    }
}

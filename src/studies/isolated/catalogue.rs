//! The estimators there are.

use super::Estimator;
use super::launch::{By, Series, Work};
use super::proof::{Control, Leaves};
use crate::experiment::mode::{Metrics, Mode, named};
use crate::os::cores;

/// How deep spans are nested.
const DEPTHS: [u64; 4] = [1, 10, 100, 1_000];
/// Modes of the order service that have an estimator.
const ORDERS: [&str; 8] = ["bare", "none", "metrics", "bridge", "bridge-cached", "traces", "full", "tuned"];

/// Every estimator, metrics first: those that scale go up to the cores that this process may use.
pub fn all() -> Vec<Estimator> {
    let cores = cores::allowed_cores().len().max(1);
    [metrics(), scaling(&thread_counts(cores)), ORDERS.map(order).to_vec(), spans(), DEPTHS.map(depth).to_vec()]
        .concat()
}

/// A mode that is built in.
fn mode(name: &str) -> Mode {
    named(name).expect("it is in the catalogue of modes")
}

/// A recorder by the name that estimators know it by, and the mode that installs it.
fn recorder(name: &str) -> Mode {
    mode(if name == "prometheus" { "metrics" } else { name })
}

fn metrics() -> Vec<Estimator> {
    let kinds = [("counter", "increment of a counter"), ("histogram", "value into a histogram")];
    let ways = [
        ("macro", By::Macro, "prometheus"),
        ("macro", By::Macro, "bridge"),
        ("cached", By::Handle, "prometheus"),
        ("cached", By::Handle, "bridge"),
        ("macro", By::Macro, "none"),
    ];
    let estimator = |(kind, what), (how, by, to)| {
        let recorded = u64::from(to != "none");
        let (work, leaves) = match kind {
            "counter" => (Work::Counter(by), Leaves { orders: recorded, ..Leaves::default() }),
            _ => (Work::Histogram(by), Leaves { latencies: recorded, ..Leaves::default() }),
        };
        let by = match by {
            By::Macro => "the macro",
            By::Handle => "a handle that was kept",
        };
        let into =
            if to == "none" { "with no recorder installed".to_owned() } else { format!("into the {to} recorder") };
        Estimator {
            name: format!("{kind}-{how}-{to}"),
            what: format!("ns of CPU per {what} through {by}, {into}"),
            mode: recorder(to),
            work,
            leaves,
            control: Control::Disabled,
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
            [("one", Series::One, "all into one series"), ("many", Series::Many, "each into a series of its own")]
        {
            estimators.extend(thread_counts.iter().map(|&threads| Estimator {
                name: format!("scaling-counter-{to}-{name}-{threads}"),
                what: format!(
                    "ns of CPU per increment of a counter with a label through a kept handle, {}, into the {to} recorder",
                    if threads == 1 { "on one thread".into() } else { format!("on each of {threads} threads at once, {what}") }
                ),
                mode: recorder(to),
                work: Work::Threads(threads, series),
                leaves: Leaves {
                    orders: 1,
                    series: Some(if series == Series::One { 1 } else { threads as u64 }),
                    ..Leaves::default()
                },
                control: Control::Disabled,
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
            "ns of CPU per order on the thread that answers it, the service's own work included, in mode {name}"
        ),
        mode,
        work: Work::Order,
        leaves: Leaves { spans: if traced { 3 } else { 0 }, orders: recorded, latencies: recorded, series: None },
        control: if traced { Control::Recorded } else { Control::Disabled },
    }
}

fn spans() -> Vec<Estimator> {
    let one = Leaves { spans: 1, ..Leaves::default() };
    let none = Leaves::default();
    let to_nowhere = "tracing-opentelemetry, batch processor, an exporter that drops them";
    let estimator = |name: &str, what: String, mode, work, leaves, control| Estimator {
        name: name.into(),
        what: format!("ns of CPU per span, made, entered, left and closed: {what}"),
        mode,
        work,
        leaves,
        control,
    };
    let slim = Mode { metrics: Metrics::Nowhere, ..mode("tuned") };
    vec![
        estimator("span-none", "no subscriber".into(), mode("none"), Work::Span, none, Control::Disabled),
        estimator(
            "span-filtered",
            format!("at DEBUG under a filter at INFO, before {to_nowhere}"),
            mode("spans-null"),
            Work::DebugSpan,
            none,
            Control::Recorded,
        ),
        estimator(
            "span-unsampled",
            "tracing-opentelemetry with a sampler that records none".into(),
            mode("spans-off"),
            Work::Span,
            none,
            Control::Unsampled,
        ),
        estimator("span-recorded", to_nowhere.into(), mode("spans-null"), Work::Span, one, Control::Recorded),
        estimator("span-tuned", "the slim layer, sent to a sink".into(), slim, Work::Span, one, Control::Recorded),
    ]
}

fn depth(depth: u64) -> Estimator {
    Estimator {
        name: format!("depth-{depth}"),
        what: format!("ns of CPU per span of a nest {depth} deep, each made and entered within the one before"),
        mode: mode("spans-null"),
        work: Work::Depth(depth),
        leaves: Leaves { spans: 1, ..Leaves::default() },
        control: Control::Recorded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_double_up_to_the_cores_and_the_last_count_is_theirs() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(2), [1, 2]);
        assert_eq!(thread_counts(6), [1, 2, 4, 6]);
        assert_eq!(thread_counts(8), [1, 2, 4, 8]);
    }
}

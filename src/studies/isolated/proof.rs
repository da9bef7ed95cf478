//! Whether a launch did what it measured: what its operations left behind, counted where it arrived.

use opentelemetry::trace::TraceContextExt;
use serde::{Deserialize, Serialize};
use tracing::info_span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::launch::Launched;
use crate::experiment::service::{ORDER_LATENCY, ORDERS_TOTAL};
use crate::record::received::Received;

/// What is left behind; of all but series, by each operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaves {
    /// Spans, at the exporter.
    pub(super) spans: u64,
    /// Increments of [`ORDERS_TOTAL`].
    pub(super) orders: u64,
    /// Values of [`ORDER_LATENCY`].
    pub(super) latencies: u64,
    /// Series of [`ORDERS_TOTAL`], however many operations there are, where that is what is measured; no other metric is
    /// then recorded.
    pub(super) series: Option<u64>,
}

/// What becomes of a span at INFO that is made once the loop is over. Where the operations leave nothing behind, this tells
/// a filter or a sampler from a subscriber that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Control {
    /// Nobody listens.
    Disabled,
    /// OpenTelemetry knows it, and does not record it.
    Unsampled,
    /// It is recorded, and is one span more that must arrive.
    Recorded,
}

impl Control {
    /// Makes one, and looks.
    pub(super) fn observed() -> Self {
        let span = info_span!("control");
        let context = span.context();
        let in_opentelemetry = context.span().span_context().clone();
        match (span.is_disabled(), in_opentelemetry.is_valid() && !in_opentelemetry.is_sampled()) {
            (true, _) => Self::Disabled,
            (false, true) => Self::Unsampled,
            (false, false) => Self::Recorded,
        }
    }
}

/// Holds what a launch left behind against what its operations should have left.
///
/// # Errors
/// When the two differ: then what it measured is not what it says.
pub(super) fn held(leaves: Leaves, control: Control, launched: &Launched, received: &Received) -> Result<(), String> {
    if launched.control != control {
        return Err(format!(
            "what it measured was not in place: a span made after the loop was {:?}, not {control:?}",
            launched.control
        ));
    }
    let made = launched.made;
    let spans = launched.account.spans.unwrap_or_default();
    let lost = spans.dropped + spans.failed + spans.rejected + spans.abandoned;
    let at_sink = |totals: Option<f64>| totals.map_or(0, |total| total.round() as u64);
    let scraped = |series: &str| values(launched.exposition.as_deref(), series).sum::<u64>();
    let expected_spans = made * leaves.spans + u64::from(control == Control::Recorded);
    let series = received.metrics.series + values(launched.exposition.as_deref(), "orders_total").count() as u64;
    let counts = [
        ("spans ended", spans.ended, expected_spans),
        ("spans lost", lost, 0),
        ("spans arrived", spans.discarded + received.spans, expected_spans),
        (
            "orders counted",
            at_sink(received.metrics.counters.get(ORDERS_TOTAL).copied()) + scraped("orders_total"),
            made * leaves.orders,
        ),
        (
            "latencies recorded",
            received.metrics.histogram_counts.get(ORDER_LATENCY).copied().unwrap_or(0)
                + scraped("order_latency_ms_count"),
            made * leaves.latencies,
        ),
        ("series", leaves.series.map_or(0, |_| series), leaves.series.unwrap_or(0)),
    ];
    match counts.iter().find(|(_, counted, expected)| counted != expected) {
        None => Ok(()),
        Some((what, counted, expected)) => Err(format!(
            "it did not do what it measured: {made} operations should come to {expected} {what}, and it is {counted}"
        )),
    }
}

/// The value of each series of a metric, as Prometheus writes it; none where nothing was scraped.
fn values<'a>(exposition: Option<&'a str>, name: &'a str) -> impl Iterator<Item = u64> + 'a {
    exposition.unwrap_or_default().lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest.strip_prefix(' ')? };
        value.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::account::{Account, ServiceSpans};
    use crate::record::received::ReceivedMetrics;
    use crate::studies::isolated::Reading;

    const ORDER: Leaves = Leaves { spans: 3, orders: 1, latencies: 1, series: None };

    fn launched(made: u64, spans: ServiceSpans) -> Launched {
        let reading = Reading { estimator: "x".into(), ns: 1.0, operations: 1, batches: 1 };
        let account = Account { spans: Some(spans), ..Account::default() };
        Launched { reading, made, control: Control::Recorded, account, exposition: None }
    }

    fn received(spans: u64, orders: f64, latencies: u64) -> Received {
        let metrics = ReceivedMetrics {
            counters: [(ORDERS_TOTAL.to_owned(), orders)].into(),
            histogram_counts: [(ORDER_LATENCY.to_owned(), latencies)].into(),
            ..ReceivedMetrics::default()
        };
        Received { spans, metrics, ..Received::default() }
    }

    fn ended(ended: u64) -> ServiceSpans {
        ServiceSpans { ended, ..ServiceSpans::default() }
    }

    #[test]
    fn a_launch_that_left_all_of_it_behind_is_held_to_be_true() {
        // Ten orders, and the span after them.
        assert_eq!(held(ORDER, Control::Recorded, &launched(10, ended(31)), &received(31, 10.0, 10)), Ok(()));
        let discarded = ServiceSpans { discarded: 31, ..ended(31) };
        assert_eq!(held(ORDER, Control::Recorded, &launched(10, discarded), &received(0, 10.0, 10)), Ok(()));
    }

    #[test]
    fn one_too_few_or_too_many_of_anything_is_refused_by_name() {
        let refused =
            |launched: &Launched, received: &Received| held(ORDER, Control::Recorded, launched, received).unwrap_err();
        let whole = launched(10, ended(31));
        for (launched, received, what) in [
            (launched(10, ended(30)), received(31, 10.0, 10), "31 spans ended"),
            (launched(10, ServiceSpans { dropped: 1, ..ended(31) }), received(31, 10.0, 10), "0 spans lost"),
            (whole.clone(), received(30, 10.0, 10), "31 spans arrived"),
            (whole.clone(), received(31, 0.0, 10), "10 orders counted, and it is 0"),
            (whole.clone(), received(31, 11.0, 10), "10 orders counted, and it is 11"),
            (whole.clone(), received(31, 10.0, 9), "10 latencies recorded"),
        ] {
            let error = refused(&launched, &received);
            assert!(error.contains(what), "{error}");
        }
        let unsampled = Launched { control: Control::Unsampled, ..whole };
        assert!(refused(&unsampled, &received(31, 10.0, 10)).contains("Unsampled, not Recorded"));
    }

    #[test]
    fn as_many_series_as_are_said_must_be_there() {
        let leaves = Leaves { orders: 1, series: Some(2), ..Leaves::default() };
        let scraped = |text: &str| Launched {
            control: Control::Disabled,
            exposition: Some(text.into()),
            ..launched(10, ServiceSpans::default())
        };
        let two = scraped("orders_total{thread=\"0\"} 4\norders_total{thread=\"1\"} 6\n");
        assert_eq!(held(leaves, Control::Disabled, &two, &Received::default()), Ok(()));
        let one = scraped("orders_total{thread=\"0\"} 10\n");
        let error = held(leaves, Control::Disabled, &one, &Received::default()).unwrap_err();
        assert!(error.contains("2 series, and it is 1"), "{error}");
    }

    #[test]
    fn what_a_scrape_shows_is_read_series_by_series() {
        let text = "# TYPE orders_total counter\norders_total 41\norders_total_other 9\n\
                    order_latency_ms_count{status=\"ok\"} 5\norder_latency_ms_count{status=\"error\"} 2\n\
                    order_latency_ms_sum{status=\"ok\"} 8.5\n";
        let read = |name| values(Some(text), name).collect::<Vec<u64>>();
        assert_eq!(read("orders_total"), [41]);
        assert_eq!(read("order_latency_ms_count"), [5, 2]);
        assert_eq!(values(None, "orders_total").count(), 0);
    }
}

//! Proof that a launch did what it measured: the telemetry of its operations, counted where it arrived.

use super::launched::{ControlSpan, Footprint, Launched};
use crate::experiment::service::{ORDER_LATENCY, ORDERS_TOTAL};
use crate::record::received::Received;

/// Compares the telemetry of a launch with what its operations should have left behind.
///
/// # Errors
/// When the two differ: the launch then measured something else than it says.
pub(super) fn verify(
    expected: Footprint,
    control: ControlSpan,
    launched: &Launched,
    received: &Received,
) -> Result<(), String> {
    if launched.control != control {
        return Err(format!(
            "it did not run under the telemetry of its mode: a span made after the loop was {:?}, not {control:?}",
            launched.control
        ));
    }
    if let Some(doubt) = received.doubts().first() {
        return Err(format!("what it did is not known: {doubt}"));
    }
    let made = launched.made;
    let spans = launched.account.spans.unwrap_or_default();
    let lost = spans.dropped + spans.failed + spans.rejected + spans.abandoned;
    let at_sink = |totals: Option<f64>| totals.map_or(0, |total| total.round() as u64);
    let scraped = |series: &str| values(launched.exposition.as_deref(), series).sum::<u64>();
    let expected_spans = made * expected.spans + u64::from(control == ControlSpan::Recorded);
    let series = received.metrics.series + values(launched.exposition.as_deref(), "orders_total").count() as u64;
    let counts = [
        ("spans ended", spans.ended, expected_spans),
        ("spans lost", lost, 0),
        ("spans arrived", spans.discarded + received.spans, expected_spans),
        (
            "orders counted",
            at_sink(received.metrics.counters.get(ORDERS_TOTAL).copied()) + scraped("orders_total"),
            made * expected.orders,
        ),
        (
            "latencies recorded",
            received.metrics.histogram_counts.get(ORDER_LATENCY).copied().unwrap_or(0)
                + scraped("order_latency_ms_count"),
            made * expected.latencies,
        ),
        ("series", expected.series.map_or(0, |_| series), expected.series.unwrap_or(0)),
    ];
    match counts.iter().find(|(_, counted, expected)| counted != expected) {
        None => Ok(()),
        Some((what, counted, expected)) => Err(format!(
            "it did not do what it measured: {made} operations should leave {expected} {what}, and left {counted}"
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
    use crate::studies::isolated::IsolatedReading;

    const ORDER: Footprint = Footprint { spans: 3, orders: 1, latencies: 1, series: None };

    fn launched(made: u64, spans: ServiceSpans) -> Launched {
        let reading = IsolatedReading { estimator: "x".into(), ns: 1.0, operations: 1, batches: 1 };
        let account = Account { spans: Some(spans), ..Account::default() };
        Launched { reading, made, control: ControlSpan::Recorded, account, exposition: None }
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
    fn a_launch_whose_telemetry_all_arrived_is_accepted() {
        // Ten orders, and the span after them.
        assert_eq!(verify(ORDER, ControlSpan::Recorded, &launched(10, ended(31)), &received(31, 10.0, 10)), Ok(()));
        let discarded = ServiceSpans { discarded: 31, ..ended(31) };
        assert_eq!(verify(ORDER, ControlSpan::Recorded, &launched(10, discarded), &received(0, 10.0, 10)), Ok(()));
    }

    #[test]
    fn a_count_that_is_off_by_one_is_rejected_by_name() {
        let refused = |launched: &Launched, received: &Received| {
            verify(ORDER, ControlSpan::Recorded, launched, received).unwrap_err()
        };
        let whole = launched(10, ended(31));
        for (launched, received, what) in [
            (launched(10, ended(30)), received(31, 10.0, 10), "31 spans ended"),
            (launched(10, ServiceSpans { dropped: 1, ..ended(31) }), received(31, 10.0, 10), "0 spans lost"),
            (whole.clone(), received(30, 10.0, 10), "31 spans arrived"),
            (whole.clone(), received(31, 0.0, 10), "10 orders counted, and left 0"),
            (whole.clone(), received(31, 11.0, 10), "10 orders counted, and left 11"),
            (whole.clone(), received(31, 10.0, 9), "10 latencies recorded"),
        ] {
            let error = refused(&launched, &received);
            assert!(error.contains(what), "{error}");
        }
        let unsampled = Launched { control: ControlSpan::Unsampled, ..whole };
        assert!(refused(&unsampled, &received(31, 10.0, 10)).contains("Unsampled, not Recorded"));
    }

    #[test]
    fn a_total_that_the_sink_does_not_know_is_rejected_with_its_reason() {
        let mut arrived = received(31, 10.0, 10);
        arrived.metrics.unknown_totals.insert(ORDERS_TOTAL.into(), "two senders".into());
        let error = verify(ORDER, ControlSpan::Recorded, &launched(10, ended(31)), &arrived).unwrap_err();
        assert!(error.contains("orders.total is not known: two senders"), "{error}");
    }

    #[test]
    fn a_missing_series_is_rejected() {
        let footprint = Footprint { orders: 1, series: Some(2), ..Footprint::default() };
        let scraped = |text: &str| Launched {
            control: ControlSpan::Disabled,
            exposition: Some(text.into()),
            ..launched(10, ServiceSpans::default())
        };
        let two = scraped("orders_total{thread=\"0\"} 4\norders_total{thread=\"1\"} 6\n");
        assert_eq!(verify(footprint, ControlSpan::Disabled, &two, &Received::default()), Ok(()));
        let one = scraped("orders_total{thread=\"0\"} 10\n");
        let error = verify(footprint, ControlSpan::Disabled, &one, &Received::default()).unwrap_err();
        assert!(error.contains("2 series, and left 1"), "{error}");
    }

    #[test]
    fn a_scrape_is_read_series_by_series() {
        let text = "# TYPE orders_total counter\norders_total 41\norders_total_other 9\n\
                    order_latency_ms_count{status=\"ok\"} 5\norder_latency_ms_count{status=\"error\"} 2\n\
                    order_latency_ms_sum{status=\"ok\"} 8.5\n";
        let read = |name| values(Some(text), name).collect::<Vec<u64>>();
        assert_eq!(read("orders_total"), [41]);
        assert_eq!(read("order_latency_ms_count"), [5, 2]);
        assert_eq!(values(None, "orders_total").count(), 0);
    }
}

//! Trees of spans in every order, with every defect, and in long streams.

use super::*;

struct OneCaller;

impl Caller for OneCaller {
    fn user_of(&self, trace_id: u128, parent_span: u64) -> Option<String> {
        (trace_id == 7 && parent_span == 99).then(|| "ada".into())
    }
}

fn shape() -> TreeShape {
    let spans = [("order", None), ("stock", Some("order")), ("pay", Some("stock"))];
    TreeShape::new(&spans, Some(Arc::new(OneCaller)))
}

fn span(trace_id: u128, name: &'static str, id: u64, parent: u64) -> Span<'static> {
    Span { resource: 0, trace_id, id, parent, name, user: (name == "pay").then_some("ada") }
}

fn report(spans: &[Span<'_>]) -> TreeReport {
    let mut trees = Trees::new(shape());
    for span in spans {
        trees.add(span, None);
    }
    trees.report()
}

fn good() -> [Span<'static>; 3] {
    [span(7, "pay", 3, 2), span(7, "order", 1, 99), span(7, "stock", 2, 1)]
}

#[test]
fn a_right_tree_is_recognised_in_any_order_of_spans() {
    assert_eq!(report(&good()), TreeReport { traces: 1, right: 1, ..TreeReport::default() });
}

#[test]
fn every_tree_defect_is_counted_by_its_kind() {
    let [pay, order, stock] = good();
    let silent = Span { user: None, ..pay };
    let misplaced = span(7, "stock", 2, 55);
    let unknown = span(7, "mystery", 4, 1);
    let twice = span(7, "stock", 5, 1);
    let count = |spans: &[Span<'_>]| {
        let r = report(spans);
        assert!(r.example.is_some());
        (r.foreign, r.misshapen, r.incomplete, r.without_baggage)
    };
    assert_eq!(count(&[order, stock]), (0, 0, 1, 0), "a span dropped");
    assert_eq!(count(&[order, misplaced, pay]), (0, 1, 0, 0), "a wrong parent");
    assert_eq!(count(&[order, stock, pay, unknown]), (0, 1, 0, 0), "an unknown span");
    assert_eq!(count(&[order, stock, pay, twice]), (0, 1, 0, 0), "an extra span");
    assert_eq!(count(&[order, stock, silent]), (0, 0, 0, 1), "baggage lost");
    assert_eq!(count(&[span(7, "order", 1, 98)]), (1, 0, 0, 0), "another caller's span");
    assert_eq!(count(&[span(8, "order", 1, 99)]), (1, 0, 0, 0), "another caller's trace");
    assert_eq!(count(&[span(9, "pay", 3, 0)]), (1, 0, 0, 0), "context lost across a spawn");
    assert_eq!(count(&[stock]), (1, 0, 0, 0), "no root");
}

#[test]
fn a_duplicate_span_counts_once_even_after_its_tree_was_judged() {
    let mut trees = Trees::new(shape());
    let stock = good()[2];
    for span in [stock, stock].iter().chain(&good()).chain(&good()) {
        trees.add(span, None);
    }
    assert_eq!((trees.distinct(), trees.duplicated()), (3, 5));
    assert_eq!(trees.report(), TreeReport { traces: 1, right: 1, ..TreeReport::default() });
}

#[test]
fn an_extra_span_makes_a_tree_wrong_even_after_it_was_judged() {
    let mut trees = Trees::new(shape());
    for span in good().iter().chain(&[span(7, "stock", 5, 1), span(7, "stock", 6, 1)]) {
        trees.add(span, None);
    }
    let report = trees.report();
    assert_eq!((report.traces, report.right, report.misshapen, trees.distinct()), (1, 0, 1, 5));
    assert!(report.example.is_some_and(|example| example.contains("extra span")));
}

#[test]
fn a_span_from_another_service_than_expected_makes_a_tree_wrong() {
    let misshapen = |services: [&str; 3]| {
        let mut trees = Trees::new(shape().from_service("pay", "payments").from_service("order", "orders"));
        for (span, service) in good().iter().zip(services) {
            trees.add(span, Some(service));
        }
        trees.report().misshapen
    };
    assert_eq!(misshapen(["payments", "orders", "whatever"]), 0);
    assert_eq!(misshapen(["orders", "orders", "orders"]), 1);
    assert_eq!(misshapen(["payments", "payments", "orders"]), 1, "the root");
}

/// A caller that has sent every request.
struct Anyone;

impl Caller for Anyone {
    fn user_of(&self, _: u128, _: u64) -> Option<String> {
        Some("ada".into())
    }
}

#[test]
fn a_complete_right_tree_is_closed_at_once() {
    let mut trees = Trees::new(shape());
    let [pay, order, stock] = good();
    for (span, open) in [(pay, 1), (stock, 2), (order, 0)] {
        trees.add(&span, None);
        assert_eq!(trees.open_spans, open);
    }
    assert_eq!((trees.traces.len(), trees.report().right), (1, 1));
}

#[test]
fn memory_stays_bounded_over_a_long_stream_and_every_span_is_counted() {
    let bounds = Bounds { open_spans: 100, closed: 50 };
    let mut trees = Trees::bounded(TreeShape { caller: Some(Arc::new(Anyone)), ..shape() }, bounds);
    let (mut most, mut queued) = (0, 0);
    for trace_id in 1..=100_000 {
        let whole = trace_id % 10 != 0;
        for span in [span(trace_id, "order", 1, 9), span(trace_id, "stock", 2, 1), span(trace_id, "pay", 3, 2)] {
            if whole || span.name != "pay" {
                trees.add(&span, None);
            }
        }
        most = most.max(trees.traces.len());
        queued = queued.max(trees.opened.len() + trees.closed.len());
    }
    assert!(most <= 50 + 51 && queued <= 50 + 2 * 51 + 64, "{most} traces were held, {queued} queued");
    let report = trees.report();
    assert_eq!((report.traces, report.right, report.incomplete), (100_000, 90_000, 10_000));
    assert_eq!((trees.distinct(), trees.duplicated()), (290_000, 0));
    // The last trace is still held, the first is not.
    trees.add(&span(99_999, "pay", 3, 2), None);
    trees.add(&span(1, "pay", 3, 2), None);
    assert_eq!((trees.distinct(), trees.duplicated(), trees.report().traces), (290_001, 1, 100_001));
}

#[test]
fn a_trace_with_thousands_of_spans_is_one_wrong_tree_of_bounded_size() {
    let mut trees = Trees::new(shape());
    for id in 1..=10_000 {
        trees.add(&span(7, "stock", id, 1), None);
    }
    assert_eq!((trees.distinct(), trees.open_spans, trees.report().wrong()), (10_000, MOST_SPANS, 1));
}

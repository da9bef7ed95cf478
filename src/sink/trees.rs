//! Whether each trace is the tree it should be: one root under the caller's span, right parents, the caller's baggage.
//!
//! A tree that is whole and right is judged at once; of it only the ids of its spans are kept for a while, to know a span
//! that comes once more. The others are judged at the end, or when there are too many of them. So what is held does not
//! grow with the length of the stream:
//!
//! - A span that comes again more than [`CLOSED`] traces after its own was whole counts as one of a new trace.
//! - A trace that lacks spans while so many others do that together they hold [`OPEN_SPANS`] is judged as it stands, oldest
//!   first. A span of it that comes later still counts, and its trace stays wrong.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::otlp::Span;
use crate::record::received::TreeReport;

/// Spans held of traces that are not whole; some tens of megabytes.
const OPEN_SPANS: usize = 1 << 19;

/// Judged traces whose spans are remembered: 26 s of 10 000 traces per second, longer than exporters try again.
const CLOSED: usize = 1 << 18;

/// Spans of one trace that are told apart. The tree of one with more is wrong, and its further spans all count.
const MOST_SPANS: usize = 256;

/// A user whose name is longer is not remembered, and then does not match.
const LONGEST_USER: usize = 256;

/// The caller's side: whom a trace id and the caller's span id belong to.
pub trait Caller: Send + Sync {
    /// The user whose request carried this trace id from this span, or `None` when nobody's did.
    fn user_of(&self, trace_id: u128, parent_span: u64) -> Option<String>;
}

/// The shape that every tree should have.
#[derive(Clone, Default)]
pub struct TreeShape {
    /// The spans; empty where any tree is right.
    pub spans: Vec<ShapeSpan>,
    /// Who called; `None` where that is not known.
    pub caller: Option<Arc<dyn Caller>>,
}

/// One span of a [`TreeShape`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeSpan {
    /// Its name.
    pub name: String,
    /// The name of its parent; `None` stands under the caller's span.
    pub parent: Option<String>,
    /// The `service.name` that it comes from; `None` where that does not matter.
    pub service: Option<String>,
}

impl TreeShape {
    /// A shape of spans, each with its parent's name, and who called if that is known.
    pub fn new(spans: &[(&str, Option<&str>)], caller: Option<Arc<dyn Caller>>) -> Self {
        let spans = spans.iter().map(|(name, parent)| ShapeSpan {
            name: (*name).into(),
            parent: parent.map(str::to_owned),
            service: None,
        });
        Self { spans: spans.collect(), caller }
    }

    /// The same, but the span called `name` comes from `service`.
    #[must_use]
    pub fn from_service(mut self, name: &str, service: &str) -> Self {
        for span in self.spans.iter_mut().filter(|span| span.name == name) {
            span.service = Some(service.to_owned());
        }
        self
    }

    /// The place of the span that has this name, and whether it is this service's.
    fn place(&self, name: &str, service: Option<&str>) -> (Option<usize>, bool) {
        let fits = |span: &ShapeSpan| span.service.is_none() || span.service.as_deref() == service;
        match self.spans.iter().position(|span| span.name == name && fits(span)) {
            Some(place) => (Some(place), true),
            None => (self.spans.iter().position(|span| span.name == name), false),
        }
    }
}

impl fmt::Debug for TreeShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeShape").field("spans", &self.spans).finish_non_exhaustive()
    }
}

/// The traces being put together.
#[derive(Debug)]
pub(super) struct Trees {
    shape: TreeShape,
    bounds: Bounds,
    traces: HashMap<u128, Trace>,
    /// Open traces in the order of their first spans, and since the last sweep those that were closed.
    opened: VecDeque<u128>,
    /// Closed traces in the order they were closed.
    closed: VecDeque<u128>,
    open: usize,
    open_spans: usize,
    spans: u64,
    duplicated: u64,
    judged: TreeReport,
}

/// How much is held.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    open_spans: usize,
    closed: usize,
}

#[derive(Debug)]
enum Trace {
    Open(Tree),
    /// Judged; the ids of its spans, and whether it was right.
    Closed(Box<[u64]>, bool),
}

/// The spans of one trace so far.
#[derive(Debug, Default)]
struct Tree {
    spans: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    id: u64,
    parent: u64,
    /// Place of its name in the shape; `None` for an unknown name.
    place: Option<usize>,
    /// Whether it came from the service that the shape names, if it names one.
    at_home: bool,
    user: Option<Box<str>>,
}

/// What is wrong with a tree, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Foreign,
    Misshapen,
    Incomplete,
    WithoutBaggage,
}

impl Trees {
    pub(super) fn new(shape: TreeShape) -> Self {
        Self::bounded(shape, Bounds { open_spans: OPEN_SPANS, closed: CLOSED })
    }

    fn bounded(shape: TreeShape, bounds: Bounds) -> Self {
        Self {
            shape,
            bounds,
            traces: HashMap::new(),
            opened: VecDeque::new(),
            closed: VecDeque::new(),
            open: 0,
            open_spans: 0,
            spans: 0,
            duplicated: 0,
            judged: TreeReport::default(),
        }
    }

    /// Adds a span that came from `service`. Returns whether it is the first of its trace.
    pub(super) fn add(&mut self, span: &Span<'_>, service: Option<&str>) -> bool {
        let mut first = false;
        let tree = match self.traces.entry(span.trace_id) {
            Entry::Occupied(entry) => match entry.into_mut() {
                Trace::Open(tree) => tree,
                Trace::Closed(ids, right) => {
                    if ids.contains(&span.id) {
                        self.duplicated += 1;
                        return false;
                    }
                    self.spans += 1;
                    // One span too many, and the tree was called right.
                    if std::mem::take(right) && !self.shape.spans.is_empty() {
                        self.judged.right -= 1;
                        self.judged.misshapen += 1;
                        let late = || {
                            let (name, id, parent) = (span.name, span.id, span.parent);
                            format!(
                                "trace {:032x} has a span too many: {name} {id:016x} under {parent:016x}",
                                span.trace_id
                            )
                        };
                        self.judged.example.get_or_insert_with(late);
                    }
                    return false;
                }
            },
            Entry::Vacant(entry) => {
                first = true;
                self.open += 1;
                self.opened.push_back(span.trace_id);
                match entry
                    .insert(Trace::Open(Tree { spans: Vec::with_capacity(self.shape.spans.len().min(MOST_SPANS)) }))
                {
                    Trace::Open(tree) => tree,
                    Trace::Closed(..) => return false,
                }
            }
        };
        if tree.spans.iter().any(|other| other.id == span.id) {
            self.duplicated += 1;
            return first;
        }
        self.spans += 1;
        if tree.spans.len() == MOST_SPANS {
            return first;
        }
        let (place, at_home) = self.shape.place(span.name, service);
        tree.spans.push(Seen {
            id: span.id,
            parent: span.parent,
            place,
            at_home,
            user: span.user.filter(|user| user.len() <= LONGEST_USER).map(Box::from),
        });
        self.open_spans += 1;
        let whole = !self.shape.spans.is_empty() && tree.spans.len() == self.shape.spans.len();
        if whole && fault(&self.shape, span.trace_id, tree).is_none() {
            self.close(span.trace_id);
        }
        while self.open_spans > self.bounds.open_spans
            && let Some(oldest) = self.opened.pop_front()
        {
            self.close(oldest);
        }
        // Once half of the queue was closed: what this costs is a constant per trace.
        if self.opened.len() > 2 * self.open + 64 {
            self.opened.retain(|trace_id| matches!(self.traces.get(trace_id), Some(Trace::Open(_))));
        }
        first
    }

    /// Whether a span of this trace came, as long as that is remembered.
    pub(super) fn knows(&self, trace_id: u128) -> bool {
        self.traces.contains_key(&trace_id)
    }

    /// Judges a trace that is open, and keeps its ids.
    fn close(&mut self, trace_id: u128) {
        let Some(trace) = self.traces.get_mut(&trace_id) else { return };
        let Trace::Open(tree) = trace else { return };
        let right = judge_into(&mut self.judged, &self.shape, trace_id, tree);
        self.open -= 1;
        self.open_spans -= tree.spans.len();
        *trace = Trace::Closed(tree.spans.iter().map(|span| span.id).collect(), right);
        self.closed.push_back(trace_id);
        if self.closed.len() > self.bounds.closed
            && let Some(oldest) = self.closed.pop_front()
        {
            self.traces.remove(&oldest);
        }
    }

    /// Distinct spans so far.
    pub(super) fn distinct(&self) -> u64 {
        self.spans
    }

    /// Spans that came once more.
    pub(super) fn duplicated(&self) -> u64 {
        self.duplicated
    }

    pub(super) fn report(&self) -> TreeReport {
        let mut report = self.judged.clone();
        for trace_id in &self.opened {
            if let Some(Trace::Open(tree)) = self.traces.get(trace_id) {
                judge_into(&mut report, &self.shape, *trace_id, tree);
            }
        }
        report
    }
}

/// Adds a trace to the report; returns whether it is right.
fn judge_into(report: &mut TreeReport, shape: &TreeShape, trace_id: u128, tree: &Tree) -> bool {
    report.traces += 1;
    let Some(fault) = fault(shape, trace_id, tree) else {
        report.right += 1;
        return true;
    };
    match fault {
        Fault::Foreign => report.foreign += 1,
        Fault::Misshapen => report.misshapen += 1,
        Fault::Incomplete => report.incomplete += 1,
        Fault::WithoutBaggage => report.without_baggage += 1,
    }
    report.example.get_or_insert_with(|| describe(shape, trace_id, tree, fault));
    false
}

fn fault(shape: &TreeShape, trace_id: u128, tree: &Tree) -> Option<Fault> {
    if shape.spans.is_empty() {
        return None;
    }
    let at = |place: usize| tree.spans.iter().filter(move |span| span.place == Some(place));
    let root = shape.spans.iter().position(|span| span.parent.is_none()).and_then(|place| at(place).next());
    let user = match (&shape.caller, root) {
        (Some(caller), Some(root)) => match caller.user_of(trace_id, root.parent) {
            Some(user) => Some(user),
            None => return Some(Fault::Foreign),
        },
        // Without its root a tree of the caller's cannot be told from a foreign one but by what it holds.
        (Some(_), None) => return Some(Fault::Foreign),
        (None, _) => None,
    };
    if tree.spans.iter().any(|span| !span.at_home) {
        return Some(Fault::Misshapen);
    }
    for (place, ShapeSpan { parent, .. }) in shape.spans.iter().enumerate() {
        let mut here = at(place);
        let Some(span) = here.next() else { return Some(Fault::Incomplete) };
        if here.next().is_some() {
            return Some(Fault::Misshapen);
        }
        if let Some(parent) = parent {
            let expected = shape.spans.iter().position(|span| span.name == *parent).and_then(|place| at(place).next());
            match expected {
                None => return Some(Fault::Incomplete),
                Some(expected) if expected.id != span.parent => return Some(Fault::Misshapen),
                Some(_) => {}
            }
        }
    }
    let named = tree.spans.iter().any(|span| span.user.as_deref() == user.as_deref());
    (user.is_some() && !named).then_some(Fault::WithoutBaggage)
}

fn describe(shape: &TreeShape, trace_id: u128, tree: &Tree, fault: Fault) -> String {
    let what = match fault {
        Fault::Foreign => "is not the caller's",
        Fault::Misshapen => "has a span in the wrong place",
        Fault::Incomplete => "lacks a span",
        Fault::WithoutBaggage => "does not carry the caller's baggage",
    };
    let spans: Vec<String> = tree
        .spans
        .iter()
        .map(|span| {
            let name = span.place.map_or("(unknown)", |place| shape.spans[place].name.as_str());
            let stray = if span.place.is_some() && !span.at_home { " of another service" } else { "" };
            format!("{name} {:016x} under {:016x}{stray}", span.id, span.parent)
        })
        .collect();
    format!("trace {trace_id:032x} {what}: {}", spans.join(", "))
}

#[cfg(test)]
mod tests {
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
    fn a_tree_is_right_in_whatever_order_its_spans_come() {
        assert_eq!(report(&good()), TreeReport { traces: 1, right: 1, ..TreeReport::default() });
    }

    #[test]
    fn each_fault_is_noticed_and_named() {
        let [pay, order, stock] = good();
        let silent = Span { user: None, ..pay };
        let hung_up_wrong = span(7, "stock", 2, 55);
        let unknown = span(7, "mystery", 4, 1);
        let twice = span(7, "stock", 5, 1);
        let count = |spans: &[Span<'_>]| {
            let r = report(spans);
            assert!(r.example.is_some());
            (r.foreign, r.misshapen, r.incomplete, r.without_baggage)
        };
        assert_eq!(count(&[order, stock]), (0, 0, 1, 0), "a span dropped");
        assert_eq!(count(&[order, hung_up_wrong, pay]), (0, 1, 0, 0), "a wrong parent");
        assert_eq!(count(&[order, stock, pay, unknown]), (0, 1, 0, 0), "an unknown span");
        assert_eq!(count(&[order, stock, pay, twice]), (0, 1, 0, 0), "a span too many");
        assert_eq!(count(&[order, stock, silent]), (0, 0, 0, 1), "baggage lost");
        assert_eq!(count(&[span(7, "order", 1, 98)]), (1, 0, 0, 0), "another caller's span");
        assert_eq!(count(&[span(8, "order", 1, 99)]), (1, 0, 0, 0), "another caller's trace");
        assert_eq!(count(&[span(9, "pay", 3, 0)]), (1, 0, 0, 0), "context lost across a spawn");
        assert_eq!(count(&[stock]), (1, 0, 0, 0), "no root");
    }

    #[test]
    fn a_span_that_comes_twice_counts_once_also_when_its_tree_is_closed() {
        let mut trees = Trees::new(shape());
        let stock = good()[2];
        for span in [stock, stock].iter().chain(&good()).chain(&good()) {
            trees.add(span, None);
        }
        assert_eq!((trees.distinct(), trees.duplicated()), (3, 5));
        assert_eq!(trees.report(), TreeReport { traces: 1, right: 1, ..TreeReport::default() });
    }

    #[test]
    fn a_span_too_many_is_noticed_also_when_its_tree_is_closed() {
        let mut trees = Trees::new(shape());
        for span in good().iter().chain(&[span(7, "stock", 5, 1), span(7, "stock", 6, 1)]) {
            trees.add(span, None);
        }
        let report = trees.report();
        assert_eq!((report.traces, report.right, report.misshapen, trees.distinct()), (1, 0, 1, 5));
        assert!(report.example.is_some_and(|example| example.contains("too many")));
    }

    #[test]
    fn a_span_must_come_from_the_service_that_the_shape_names() {
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

    /// A caller whose every request is known.
    struct Anyone;

    impl Caller for Anyone {
        fn user_of(&self, _: u128, _: u64) -> Option<String> {
            Some("ada".into())
        }
    }

    #[test]
    fn a_tree_that_is_whole_and_right_is_not_held_open() {
        let mut trees = Trees::new(shape());
        let [pay, order, stock] = good();
        for (span, open) in [(pay, 1), (stock, 2), (order, 0)] {
            trees.add(&span, None);
            assert_eq!(trees.open_spans, open);
        }
        assert_eq!((trees.traces.len(), trees.report().right), (1, 1));
    }

    #[test]
    fn a_long_stream_holds_no_more_than_its_bounds_and_forgets_no_count() {
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
        // The last is remembered, the first is not.
        trees.add(&span(99_999, "pay", 3, 2), None);
        trees.add(&span(1, "pay", 3, 2), None);
        assert_eq!((trees.distinct(), trees.duplicated(), trees.report().traces), (290_001, 1, 100_001));
    }

    #[test]
    fn a_trace_of_endless_spans_is_one_wrong_tree_of_bounded_size() {
        let mut trees = Trees::new(shape());
        for id in 1..=10_000 {
            trees.add(&span(7, "stock", id, 1), None);
        }
        assert_eq!((trees.distinct(), trees.open_spans, trees.report().wrong()), (10_000, MOST_SPANS, 1));
    }
}

//! Checks the tree of each trace: one root under the caller's span, right parents, the caller's baggage.
//!
//! A tree is judged as soon as it is complete and right. After that only the ids of its spans are kept for a while, to
//! recognise duplicates. Other trees are judged at the end, or when there are too many of them. Memory is therefore bounded,
//! with two consequences:
//!
//! - A duplicate that arrives more than [`CLOSED`] traces after its tree was complete counts as the span of a new trace.
//! - When incomplete traces together hold [`OPEN_SPANS`] spans, the oldest are judged as they are. A span that arrives later
//!   still counts, but its trace stays wrong.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::otlp::Span;
use crate::record::received::TreeReport;

/// Maximum number of spans of incomplete traces; some tens of megabytes.
const OPEN_SPANS: usize = 1 << 19;

/// Judged traces whose span ids are kept: 26 s at 10 000 traces per second, longer than exporters retry.
const CLOSED: usize = 1 << 18;

/// Maximum number of spans of one trace that are checked. A larger tree is wrong, and all its further spans count.
const MOST_SPANS: usize = 256;

/// Longest user name, in bytes, that is compared; a longer one never matches.
const LONGEST_USER: usize = 256;

/// Knows which requests the caller sent.
pub trait Caller: Send + Sync {
    /// The user of the request with this trace id and parent span, or `None` if there was no such request.
    fn user_of(&self, trace_id: u128, parent_span: u64) -> Option<String>;
}

/// The expected shape of every trace tree.
#[derive(Clone, Default)]
pub struct TreeShape {
    /// The expected spans; empty if any tree is right.
    pub spans: Vec<ShapeSpan>,
    /// The caller; `None` if it is not known.
    pub caller: Option<Arc<dyn Caller>>,
}

/// One span of a [`TreeShape`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeSpan {
    /// Name of the span.
    pub name: String,
    /// Name of the parent span; `None` for the root, whose parent is the caller's span.
    pub parent: Option<String>,
    /// Expected `service.name`; `None` if any is right.
    pub service: Option<String>,
}

impl TreeShape {
    /// A shape of spans, each with the name of its parent.
    pub fn new(spans: &[(&str, Option<&str>)], caller: Option<Arc<dyn Caller>>) -> Self {
        let spans = spans.iter().map(|(name, parent)| ShapeSpan {
            name: (*name).into(),
            parent: parent.map(str::to_owned),
            service: None,
        });
        Self { spans: spans.collect(), caller }
    }

    /// Expects the span `name` to come from `service`.
    #[must_use]
    pub fn from_service(mut self, name: &str, service: &str) -> Self {
        for span in self.spans.iter_mut().filter(|span| span.name == name) {
            span.service = Some(service.to_owned());
        }
        self
    }

    /// The index of the span with this name, and whether `service` is the expected one.
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

/// The traces received so far.
#[derive(Debug)]
pub(super) struct Trees {
    shape: TreeShape,
    bounds: Bounds,
    traces: HashMap<u128, Trace>,
    /// Open traces in the order of their first spans. It may contain traces closed since the last sweep.
    opened: VecDeque<u128>,
    /// Closed traces in the order in which they were closed.
    closed: VecDeque<u128>,
    open: usize,
    open_spans: usize,
    spans: u64,
    duplicated: u64,
    judged: TreeReport,
}

/// Limits of what is held: spans of open traces, and closed traces.
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
    spans: Vec<TreeSpan>,
}

/// One span of a [`Tree`].
#[derive(Debug)]
struct TreeSpan {
    id: u64,
    parent: u64,
    /// Index of its name in the shape; `None` for an unknown name.
    place: Option<usize>,
    /// Whether it comes from the expected service.
    at_home: bool,
    user: Option<Box<str>>,
}

/// The defect of a wrong tree, the most informative first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TreeDefect {
    Foreign,
    Misshapen,
    Incomplete,
    WithoutBaggage,
}

impl TreeSpan {
    fn new(shape: &TreeShape, span: &Span<'_>, service: Option<&str>) -> Self {
        let (place, at_home) = shape.place(span.name, service);
        let user = span.user.filter(|user| user.len() <= LONGEST_USER).map(Box::from);
        Self { id: span.id, parent: span.parent, place, at_home, user }
    }
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
        let (tree, first) = match self.traces.entry(span.trace_id) {
            Entry::Occupied(entry) => match entry.into_mut() {
                Trace::Open(tree) => (tree, false),
                Trace::Closed(ids, right) => {
                    if ids.contains(&span.id) {
                        self.duplicated += 1;
                        return false;
                    }
                    self.spans += 1;
                    if std::mem::take(right) && !self.shape.spans.is_empty() {
                        correct_for_extra_span(&mut self.judged, span);
                    }
                    return false;
                }
            },
            Entry::Vacant(entry) => {
                self.open += 1;
                self.opened.push_back(span.trace_id);
                let spans = Vec::with_capacity(self.shape.spans.len().min(MOST_SPANS));
                match entry.insert(Trace::Open(Tree { spans })) {
                    Trace::Open(tree) => (tree, true),
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
        tree.spans.push(TreeSpan::new(&self.shape, span, service));
        self.open_spans += 1;
        let complete = !self.shape.spans.is_empty() && tree.spans.len() == self.shape.spans.len();
        if complete && defect(&self.shape, span.trace_id, tree).is_none() {
            self.close(span.trace_id);
        }
        self.enforce_bounds();
        first
    }

    /// Closes the oldest traces until the open spans are within bounds, and sweeps the queue of open traces.
    fn enforce_bounds(&mut self) {
        while self.open_spans > self.bounds.open_spans
            && let Some(oldest) = self.opened.pop_front()
        {
            self.close(oldest);
        }
        // Swept once half of the queue is closed, so the cost per trace is constant.
        if self.opened.len() > 2 * self.open + 64 {
            self.opened.retain(|trace_id| matches!(self.traces.get(trace_id), Some(Trace::Open(_))));
        }
    }

    /// Whether a span of this trace was received, as far as it is still held.
    pub(super) fn knows(&self, trace_id: u128) -> bool {
        self.traces.contains_key(&trace_id)
    }

    /// Judges an open trace and keeps its span ids.
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

    /// Distinct spans received so far.
    pub(super) fn distinct(&self) -> u64 {
        self.spans
    }

    /// Duplicate spans received so far.
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

/// Corrects the report when a trace that was judged right gets one more span.
fn correct_for_extra_span(report: &mut TreeReport, span: &Span<'_>) {
    report.right -= 1;
    report.misshapen += 1;
    report.example.get_or_insert_with(|| {
        let Span { trace_id, name, id, parent, .. } = span;
        format!("trace {trace_id:032x} has an extra span: {name} {id:016x} under {parent:016x}")
    });
}

/// Adds a trace to the report; returns whether it is right.
fn judge_into(report: &mut TreeReport, shape: &TreeShape, trace_id: u128, tree: &Tree) -> bool {
    report.traces += 1;
    let Some(defect) = defect(shape, trace_id, tree) else {
        report.right += 1;
        return true;
    };
    match defect {
        TreeDefect::Foreign => report.foreign += 1,
        TreeDefect::Misshapen => report.misshapen += 1,
        TreeDefect::Incomplete => report.incomplete += 1,
        TreeDefect::WithoutBaggage => report.without_baggage += 1,
    }
    report.example.get_or_insert_with(|| describe(shape, trace_id, tree, defect));
    false
}

/// The defect of a tree, or `None` if it is right.
fn defect(shape: &TreeShape, trace_id: u128, tree: &Tree) -> Option<TreeDefect> {
    if shape.spans.is_empty() {
        return None;
    }
    let at = |place: usize| tree.spans.iter().filter(move |span| span.place == Some(place));
    let root = shape.spans.iter().position(|span| span.parent.is_none()).and_then(|place| at(place).next());
    let user = match (&shape.caller, root) {
        (Some(caller), Some(root)) => match caller.user_of(trace_id, root.parent) {
            Some(user) => Some(user),
            None => return Some(TreeDefect::Foreign),
        },
        // Without its root, there is no parent span by which to recognise the caller's request.
        (Some(_), None) => return Some(TreeDefect::Foreign),
        (None, _) => None,
    };
    if tree.spans.iter().any(|span| !span.at_home) {
        return Some(TreeDefect::Misshapen);
    }
    for (place, ShapeSpan { parent, .. }) in shape.spans.iter().enumerate() {
        let mut here = at(place);
        let Some(span) = here.next() else { return Some(TreeDefect::Incomplete) };
        if here.next().is_some() {
            return Some(TreeDefect::Misshapen);
        }
        if let Some(parent) = parent {
            let expected = shape.spans.iter().position(|span| span.name == *parent).and_then(|place| at(place).next());
            match expected {
                None => return Some(TreeDefect::Incomplete),
                Some(expected) if expected.id != span.parent => return Some(TreeDefect::Misshapen),
                Some(_) => {}
            }
        }
    }
    let named = tree.spans.iter().any(|span| span.user.as_deref() == user.as_deref());
    (user.is_some() && !named).then_some(TreeDefect::WithoutBaggage)
}

fn describe(shape: &TreeShape, trace_id: u128, tree: &Tree, defect: TreeDefect) -> String {
    let what = match defect {
        TreeDefect::Foreign => "was not started by the caller",
        TreeDefect::Misshapen => "has a misplaced span",
        TreeDefect::Incomplete => "lacks a span",
        TreeDefect::WithoutBaggage => "does not carry the caller's baggage",
    };
    let spans: Vec<String> = tree
        .spans
        .iter()
        .map(|span| {
            let name = span.place.map_or("(unknown)", |place| shape.spans[place].name.as_str());
            let stray = if span.place.is_some() && !span.at_home { " from another service" } else { "" };
            format!("{name} {:016x} under {:016x}{stray}", span.id, span.parent)
        })
        .collect();
    format!("trace {trace_id:032x} {what}: {}", spans.join(", "))
}

#[cfg(test)]
mod tests;

//! Whether each trace is the tree it should be: one root under the caller's span, right parents, the caller's baggage.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde::{Deserialize, Serialize};

/// Traces remembered. Older ones are closed, so that a sink left running stays within about a gigabyte.
const REMEMBERED: usize = 4_000_000;

/// The attribute in which a service notes the user that the baggage named.
const USER: &str = "user_id";

/// The caller's side: whom a trace id and the caller's span id belong to.
pub trait Caller: Send + Sync {
    /// The user whose request carried this trace id from this span, or `None` when nobody's did.
    fn user_of(&self, trace_id: u128, parent_span: u64) -> Option<String>;
}

/// The shape that every tree should have.
#[derive(Clone, Default)]
pub struct TreeShape {
    /// Each span's name and that of its parent; `None` stands under the caller's span. Empty where any tree is right.
    pub spans: Vec<(String, Option<String>)>,
    /// Who called; `None` where that is not known.
    pub caller: Option<Arc<dyn Caller>>,
}

impl TreeShape {
    /// A shape of spans, each with its parent's name, and who called if that is known.
    pub fn new(spans: &[(&str, Option<&str>)], caller: Option<Arc<dyn Caller>>) -> Self {
        let spans = spans.iter().map(|(name, parent)| ((*name).to_owned(), parent.map(str::to_owned))).collect();
        Self { spans, caller }
    }
}

impl fmt::Debug for TreeShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeShape").field("spans", &self.spans).finish_non_exhaustive()
    }
}

/// How the traces of one receiver looked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TreeReport {
    /// Distinct trace ids.
    pub traces: u64,
    /// Whole, and as they should be.
    pub right: u64,
    /// Lacking a span.
    pub incomplete: u64,
    /// With a span under the wrong parent, one too many, or one of an unknown name.
    pub misshapen: u64,
    /// Whose id or root's parent is not the caller's.
    pub foreign: u64,
    /// Whose payment does not name the caller's user.
    pub without_baggage: u64,
    /// One that is wrong, in words; null when all are right.
    pub example: Option<String>,
}

impl TreeReport {
    /// Traces that are not as they should be.
    pub fn wrong(&self) -> u64 {
        self.traces - self.right
    }
}

/// The traces being put together.
#[derive(Debug)]
pub(super) struct Trees {
    shape: TreeShape,
    open: HashMap<u128, Tree>,
    order: VecDeque<u128>,
    spans: u64,
    duplicated: u64,
    closed: TreeReport,
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
        Self {
            shape,
            open: HashMap::new(),
            order: VecDeque::new(),
            spans: 0,
            duplicated: 0,
            closed: TreeReport::default(),
        }
    }

    pub(super) fn add(&mut self, span: &Span) {
        let trace_id = big_endian(&span.trace_id);
        let seen = Seen {
            id: big_endian(&span.span_id) as u64,
            parent: big_endian(&span.parent_span_id) as u64,
            place: self.shape.spans.iter().position(|(name, _)| *name == span.name),
            user: text(&span.attributes, USER).map(Box::from),
        };
        let tree = match self.open.entry(trace_id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.order.push_back(trace_id);
                entry.insert(Tree::default())
            }
        };
        if tree.spans.iter().any(|other| other.id == seen.id) {
            self.duplicated += 1;
        } else {
            self.spans += 1;
            tree.spans.push(seen);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
            && let Some(tree) = self.open.remove(&oldest)
        {
            judge_into(&mut self.closed, &self.shape, oldest, &tree);
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
        let mut report = self.closed.clone();
        for trace_id in &self.order {
            judge_into(&mut report, &self.shape, *trace_id, &self.open[trace_id]);
        }
        report
    }
}

fn judge_into(report: &mut TreeReport, shape: &TreeShape, trace_id: u128, tree: &Tree) {
    report.traces += 1;
    let Some(fault) = fault(shape, trace_id, tree) else {
        report.right += 1;
        return;
    };
    match fault {
        Fault::Foreign => report.foreign += 1,
        Fault::Misshapen => report.misshapen += 1,
        Fault::Incomplete => report.incomplete += 1,
        Fault::WithoutBaggage => report.without_baggage += 1,
    }
    report.example.get_or_insert_with(|| describe(shape, trace_id, tree, fault));
}

fn fault(shape: &TreeShape, trace_id: u128, tree: &Tree) -> Option<Fault> {
    if shape.spans.is_empty() {
        return None;
    }
    let at = |place: usize| tree.spans.iter().filter(move |span| span.place == Some(place));
    let root = shape.spans.iter().position(|(_, parent)| parent.is_none()).and_then(|place| at(place).next());
    let user = match (&shape.caller, root) {
        (Some(caller), Some(root)) => match caller.user_of(trace_id, root.parent) {
            Some(user) => Some(user),
            None => return Some(Fault::Foreign),
        },
        // Without its root a tree of the caller's cannot be told from a foreign one but by what it holds.
        (Some(_), None) => return Some(Fault::Foreign),
        (None, _) => None,
    };
    if tree.spans.iter().any(|span| span.place.is_none()) {
        return Some(Fault::Misshapen);
    }
    for (place, (_, parent)) in shape.spans.iter().enumerate() {
        let mut here = at(place);
        let Some(span) = here.next() else { return Some(Fault::Incomplete) };
        if here.next().is_some() {
            return Some(Fault::Misshapen);
        }
        if let Some(parent) = parent {
            let expected = shape.spans.iter().position(|(name, _)| name == parent).and_then(|place| at(place).next());
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
            let name = span.place.map_or("(unknown)", |place| shape.spans[place].0.as_str());
            format!("{name} {:016x} under {:016x}", span.id, span.parent)
        })
        .collect();
    format!("trace {trace_id:032x} {what}: {}", spans.join(", "))
}

/// An id as a number; ids of the wrong length are cut or padded, and then match nothing.
fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}

/// The text that the attribute called `key` holds.
fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.key == key).and_then(text_of)
}

/// The text that an attribute holds.
pub(super) fn text_of(attribute: &KeyValue) -> Option<&str> {
    match &attribute.value {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => Some(text.as_str()),
        _ => None,
    }
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

    fn span(trace_id: u128, name: &str, id: u64, parent: u64) -> Span {
        let user = KeyValue {
            key: USER.into(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue("ada".into())) }),
            ..KeyValue::default()
        };
        Span {
            trace_id: trace_id.to_be_bytes().into(),
            span_id: id.to_be_bytes().into(),
            parent_span_id: parent.to_be_bytes().into(),
            name: name.into(),
            attributes: if name == "pay" { vec![user] } else { vec![] },
            ..Span::default()
        }
    }

    fn report(spans: &[Span]) -> TreeReport {
        let mut trees = Trees::new(shape());
        for span in spans {
            trees.add(span);
        }
        trees.report()
    }

    fn good() -> [Span; 3] {
        [span(7, "pay", 3, 2), span(7, "order", 1, 99), span(7, "stock", 2, 1)]
    }

    #[test]
    fn a_tree_is_right_in_whatever_order_its_spans_come() {
        assert_eq!(report(&good()), TreeReport { traces: 1, right: 1, ..TreeReport::default() });
    }

    #[test]
    fn each_fault_is_noticed_and_named() {
        let [pay, order, stock] = good();
        let silent = Span { attributes: vec![], ..pay.clone() };
        let hung_up_wrong = span(7, "stock", 2, 55);
        let unknown = span(7, "mystery", 4, 1);
        let twice = span(7, "stock", 5, 1);
        let count = |spans: &[Span]| {
            let r = report(spans);
            assert!(r.example.is_some());
            (r.foreign, r.misshapen, r.incomplete, r.without_baggage)
        };
        assert_eq!(count(&[order.clone(), stock.clone()]), (0, 0, 1, 0), "a span dropped");
        assert_eq!(count(&[order.clone(), hung_up_wrong, pay.clone()]), (0, 1, 0, 0), "a wrong parent");
        assert_eq!(count(&[order.clone(), stock.clone(), pay.clone(), unknown]), (0, 1, 0, 0), "an unknown span");
        assert_eq!(count(&[order.clone(), stock.clone(), pay, twice]), (0, 1, 0, 0), "a span too many");
        assert_eq!(count(&[order, stock.clone(), silent]), (0, 0, 0, 1), "baggage lost");
        assert_eq!(count(&[span(7, "order", 1, 98)]), (1, 0, 0, 0), "another caller's span");
        assert_eq!(count(&[span(8, "order", 1, 99)]), (1, 0, 0, 0), "another caller's trace");
        assert_eq!(count(&[span(9, "pay", 3, 0)]), (1, 0, 0, 0), "context lost across a spawn");
        assert_eq!(count(&[stock]), (1, 0, 0, 0), "no root");
    }

    #[test]
    fn a_span_that_comes_twice_counts_once() {
        let mut trees = Trees::new(shape());
        for span in good().iter().chain(good().iter()) {
            trees.add(span);
        }
        assert_eq!((trees.distinct(), trees.duplicated()), (3, 3));
        assert_eq!(trees.report().right, 1);
    }
}

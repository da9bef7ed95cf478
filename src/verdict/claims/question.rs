//! What a claim comes to: questions, each of a quantity that was measured and of where it has to be.

use super::trials::Trial;
use crate::experiment::metric::Metric;
use crate::studies::probe::Figures;

/// One way to read a claim.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// What is looked at. Where two estimators look at one thing they have one subject.
    pub(super) subject: String,
    /// Which of several ways to read the claim this is; `None` where all of its readings have to hold together.
    pub(super) sense: Option<String>,
    /// What a share is a share of, and a cost the cost of.
    pub(super) denominator: String,
    /// Of the quantity.
    pub(super) unit: String,
    /// Whether the claim's words cover it; the others are for comparison.
    pub(super) counts: bool,
    /// Where the quantity has to be.
    pub(super) test: Test,
    pub(super) quantity: Quantity,
}

/// Where a quantity has to be for the claim to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Test {
    /// Below the limit.
    Below(f64),
    /// Above it.
    Above(f64),
    /// Between minus the margin and the margin.
    Within(f64),
    /// Anywhere: it is told and not judged.
    Told,
    /// A count, which has to be zero.
    None,
}

/// Which records are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Those of the run.
    Run,
    /// Those of this trial.
    Trial(Trial),
}

/// What is measured.
#[derive(Clone, Debug)]
pub(super) enum Quantity {
    /// End to end: what an arm has more of than another.
    Cost { stage: Stage, arm: String, baseline: String, metric: Metric, per: Per },
    /// End to end: by how many percent an arm has more than another.
    Relative { arm: String, baseline: String, metric: Metric },
    /// A figure of each lane of an arm, less that of another arm's lane of the same round.
    Lanes { arm: &'static str, less: Option<&'static str>, figure: LaneFigure },
    /// In isolation: what an estimator says, less what another does.
    Calls { more: String, less: Option<String>, per: Per },
    /// In isolation: how many times as much an estimator says as another.
    Times { more: String, less: String },
    /// In isolation: how many times as long a record takes at the most threads as at one, of the estimators whose names
    /// begin so and end with the threads.
    Scaling { family: String },
    /// Something is counted that should not be there.
    Count(Sighting),
}

/// What microseconds, of CPU time per order, are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Per {
    /// Nothing: they stay what they are, as does a metric that is no time.
    Order,
    /// Microseconds per span, of which an order in this arm has some.
    Span(&'static str),
    /// Percent of one core at the rate of the run.
    Core,
    /// Percent of all cores at the rate of the run.
    Machine,
    /// Cores at the rate of the run.
    Cores,
    /// Percent of the CPU time that this arm spends on a request.
    Service(&'static str),
    /// Bytes to megabytes.
    Megabytes,
}

/// A figure of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneFigure {
    /// Median time of an export of spans, in ms.
    SpanExportMedian,
    /// 99th percentile of the same.
    SpanExportP99,
    /// Median time of those exports of spans that were the largest of their lane, in ms.
    LargestExportMedian,
    /// Median time of an export of metrics, in ms.
    MetricExportMedian,
    /// 99th percentile of the same: of the few that a lane makes, the slowest.
    MetricExportSlowest,
    /// CPU time of an export of metrics, in ms.
    MetricExportCpu,
    /// Bytes read from the connections for each span.
    BytesPerSpan,
}

/// What is counted: how many are wrong, of how many.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sighting {
    /// Spans that ended and were not received.
    LostSpans { arm: &'static str },
    /// Traces that are not the tree they should be, the caller's user on its payment included.
    WrongTraces { stage: Stage, arm: &'static str },
    /// Card numbers and e-mail addresses that stood in a payload, of those looked for.
    LeakedTexts { stage: Stage, arm: &'static str },
    /// Spans received beyond those that every order has, of the orders.
    ExtraSpans { stage: Stage, arm: &'static str },
    /// Spans whose resource is not named so, of all.
    SpansNotOf { stage: Stage, arm: &'static str, service: &'static str },
    /// Lanes whose last payload came from a resource without this attribute, of all.
    LanesWithout { stage: Stage, arm: &'static str, attribute: (&'static str, &'static str) },
    /// Series received beyond those of another arm, of all.
    SeriesBeyond { stage: Stage, arm: &'static str, other: &'static str },
    /// Strangers whose spans were taken, of all who came.
    StrangersHeard,
    /// Second installs that a probe got through without a panic, of so many.
    Unpanicked { probe: &'static str, installs: u32 },
    /// What a probe saw.
    Probed { probe: &'static str, count: fn(&Figures) -> Option<(f64, f64)> },
}

//! The questions that a claim asks: each names a quantity to measure and the limit that it is tested against.

use super::own::{LimitUnit, OwnClaim};
use super::scenarios::ClaimScenario;
use crate::experiment::metric::Metric;

/// One way to read a claim.
#[derive(Clone, Debug)]
pub struct ClaimQuestion {
    /// The thing that is looked at. Where two estimators look at one thing, they have one subject.
    pub subject: String,
    /// Names the sense, where the claim can be read in several; `None` where all of its readings have to hold together.
    pub sense: Option<String>,
    /// The whole that a share is a share of, or the thing that a cost is the cost of.
    pub denominator: String,
    /// Unit of the quantity.
    pub unit: String,
    /// Whether the claim's words cover it; other questions are for comparison.
    pub counts: bool,
    /// Where the quantity has to be.
    pub test: Test,
    /// The quantity.
    pub quantity: Quantity,
}

/// Where a quantity has to be for the claim to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test {
    /// Below the limit.
    Below(f64),
    /// Above it.
    Above(f64),
    /// Between minus the margin and the margin.
    Within(f64),
    /// A count, which has to be zero.
    Zero,
    /// Anywhere: it is reported and not judged.
    ReportOnly,
}

/// The run whose records a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The main run.
    Run,
    /// A short run of its own.
    Scenario(ClaimScenario),
}

/// A quantity that is measured.
#[derive(Clone, Debug)]
pub enum Quantity {
    /// End to end: the difference between two arms.
    Cost {
        /// The run.
        source: Source,
        /// The arm.
        arm: String,
        /// The arm that it is compared with.
        baseline: String,
        /// The metric.
        metric: Metric,
        /// The unit that the difference is converted to.
        per: Per,
    },
    /// End to end: the difference between two arms of the main run in percent.
    Relative {
        /// The arm.
        arm: String,
        /// The arm that it is compared with.
        baseline: String,
        /// The metric.
        metric: Metric,
    },
    /// A figure of each lane of an arm, less that of another arm's lane in the same round.
    Lanes {
        /// The arm.
        arm: &'static str,
        /// The other arm, where there is one.
        less: Option<&'static str>,
        /// The figure.
        figure: LaneFigure,
    },
    /// In isolation: the value of an estimator, less that of another.
    Calls {
        /// The estimator.
        more: String,
        /// The other estimator, where there is one.
        less: Option<String>,
        /// The unit that the value is converted to.
        per: Per,
    },
    /// In isolation: the value of an estimator as a multiple of another's.
    Times {
        /// The estimator.
        more: String,
        /// The other.
        less: String,
    },
    /// In isolation: the duration of a record on the most threads as a multiple of that on one.
    Scaling {
        /// The beginning of the estimators' names, which end with the number of threads.
        family: String,
    },
    /// The number of things that should not be there.
    Count(CountCheck),
}

/// Converts microseconds of CPU time per order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// No conversion; also for a metric that is no time.
    Order,
    /// To microseconds per span of this arm.
    Span(&'static str),
    /// To percent of one core at the rate of the run.
    Core,
    /// To percent of all cores at the rate of the run.
    Machine,
    /// To cores at the rate of the run.
    Cores,
    /// To percent of the CPU time that this arm spends on a request.
    Service(&'static str),
    /// From bytes to megabytes.
    Megabytes,
}

/// A figure of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneFigure {
    /// Median duration of a span export, in ms.
    SpanExportMedian,
    /// 99th percentile of the same.
    SpanExportP99,
    /// Median duration of the span exports that were the largest of their lane, in ms.
    LargestExportMedian,
    /// Median duration of a metric export, in ms.
    MetricExportMedian,
    /// 99th percentile of the same: of the few that a lane makes, the slowest.
    MetricExportSlowest,
    /// CPU time of a metric export, in ms.
    MetricExportCpu,
    /// Bytes read from the connections for each span.
    BytesPerSpan,
}

/// A count of things that are wrong, out of how many.
#[derive(Clone, Copy, Debug)]
pub enum CountCheck {
    /// Spans that ended and were not received.
    LostSpans {
        /// The arm, in the main run.
        arm: &'static str,
    },
    /// Traces that are not the tree they should be; the payment must carry the caller's user.
    WrongTraces {
        /// The run.
        source: Source,
        /// The arm.
        arm: &'static str,
    },
    /// Card numbers and e-mail addresses found in a payload, of those looked for.
    LeakedTexts {
        /// The run.
        source: Source,
        /// The arm.
        arm: &'static str,
    },
    /// Spans received beyond those that every order has, of the orders.
    ExtraSpans {
        /// The run.
        source: Source,
        /// The arm.
        arm: &'static str,
    },
    /// Spans from a resource with another service name, of all.
    SpansOfOtherServices {
        /// The run.
        source: Source,
        /// The arm.
        arm: &'static str,
        /// The name that the service should have.
        service: &'static str,
    },
    /// Lanes whose last payload came from a resource without this attribute, of all.
    LanesWithoutAttribute {
        /// The run.
        source: Source,
        /// The arm.
        arm: &'static str,
        /// Name and value.
        attribute: (&'static str, &'static str),
    },
    /// Series received beyond those of another arm, of all.
    ExtraSeries {
        /// The run.
        source: Source,
        /// The arm.
        arm: &'static str,
        /// The arm without the label.
        other: &'static str,
    },
    /// Unauthorised clients whose spans were accepted, of all that tried.
    UnauthorisedClients,
    /// Second installs that a probe got through without a panic, of so many.
    InstallsWithoutPanic {
        /// The probe.
        probe: &'static str,
        /// Second installs that it attempts.
        installs: u32,
    },
    /// A count among the figures of a probe.
    Probe {
        /// The probe.
        probe: &'static str,
        /// The count.
        count: ProbeCount,
    },
}

/// A count among the figures of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeCount {
    /// Spans under the wrong parent, of the requests.
    WrongParents,
    /// Second installs that returned no error, of two.
    InstallsWithoutError,
    /// Lost spans that neither a call nor a counter reported, of those lost.
    UnreportedLosses,
    /// Dropped spans that no call reported, of those dropped.
    UnreportedDrops,
    /// Dropped spans that the log did not report, of those dropped.
    UnloggedDrops,
}

impl ClaimQuestion {
    /// The question of a scenario's own claim, about a run with this baseline.
    pub fn of_own(own: &OwnClaim, baseline: &str) -> Self {
        let (arm, metric) = (own.arm.clone(), own.metric);
        let baseline = own.baseline.as_deref().unwrap_or(baseline).to_owned();
        let subject = format!("{arm} − {baseline}");
        let per = match own.unit {
            LimitUnit::Microseconds | LimitUnit::Bytes | LimitUnit::Allocations => Some(Per::Order),
            LimitUnit::PercentOfCore => Some(Per::Core),
            LimitUnit::PercentOfMachine => Some(Per::Machine),
            LimitUnit::Percent => None,
        };
        let (unit, denominator) = match own.unit {
            LimitUnit::Microseconds if metric.is_cpu() => ("µs", "per request".to_owned()),
            LimitUnit::Microseconds => ("µs", "of the response time".to_owned()),
            LimitUnit::Bytes if metric == Metric::AllocatedBytes => ("B", "per request".to_owned()),
            LimitUnit::Bytes => ("B", "at the end of the round".to_owned()),
            LimitUnit::Allocations => ("allocations", "per request".to_owned()),
            LimitUnit::Percent => ("%", format!("of {baseline}")),
            LimitUnit::PercentOfCore => ("%", "of one core".to_owned()),
            LimitUnit::PercentOfMachine => ("%", "of the machine".to_owned()),
        };
        let quantity = match per {
            Some(per) => Quantity::Cost { source: Source::Run, arm, baseline, metric, per },
            None => Quantity::Relative { arm, baseline, metric },
        };
        let test = Test::Below(own.limit);
        Self { subject, sense: None, denominator, unit: unit.into(), counts: true, test, quantity }
    }
}

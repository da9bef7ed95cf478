//! The published claims, and how each is measured.
//!
//! Where a claim names no limit, the limit is ours, and the statement gives it in brackets.

use super::question::{ClaimQuestion, CountCheck, LaneFigure, Per, ProbeCount, Quantity, Source, Test};
use super::scenarios::{self, ClaimScenario};
use crate::experiment::metric::Metric;

/// A published claim.
#[derive(Clone, Debug)]
pub struct PublishedClaim {
    /// The id that users select it by.
    pub id: &'static str,
    /// The claim, in our words.
    pub statement: &'static str,
    /// Each way to read it.
    pub questions: Vec<ClaimQuestion>,
}

const PAYMENT: Source = Source::Scenario(ClaimScenario::Payment);
const PERSONAL: Source = Source::Scenario(ClaimScenario::Personal);
const USERS: Source = Source::Scenario(ClaimScenario::Users);
const ENVIRONMENT: Source = Source::Scenario(ClaimScenario::Environment);

/// Closes every report.
pub const NOT_TESTED: &str =
    "Reported gains of customers (more requests per second, faster diagnosis) cannot be tested here, and are not.";

/// Largest duration of a record on many threads, as a multiple of that on one.
const SCALES: f64 = 1.5;
/// Percent of the service's CPU time below which something counts as free.
const FREE: f64 = 1.0;
/// Smallest factor by which deep nesting must raise the cost of a span for depth to matter.
const DEEP: f64 = 1.5;

/// Every published claim, in the order of the report.
pub fn all() -> Vec<PublishedClaim> {
    let claim = |id, statement, questions| PublishedClaim { id, statement, questions };
    vec![
        claim("metric-record", "recording a metric costs < 1 µs", metric_record()),
        claim(
            "metric-scaling",
            "metric recording is lock-free and scales (a record takes less than 1.5 times as long on every core)",
            metric_scaling(),
        ),
        claim("bridge-cpu", "the bridge from metrics to OpenTelemetry costs < 0.1 % CPU", bridge_cpu()),
        claim("metric-export", "a metric export takes < 2 ms per 5 s cycle", metric_export()),
        claim("span-record", "at 10 000 RPS recording a span costs < 1 µs", span_record()),
        claim("span-export", "a batch export takes < 5 ms", span_export()),
        claim("batch-cpu", "the batch processor that exports every 5 s costs < 0.5 % CPU", batch_cpu()),
        claim("queue-10k", "a queue of 10 000 spans is enough", queue()),
        claim("grpc-vs-http", "OTLP over gRPC beats OTLP over HTTP", grpc_vs_http()),
        claim(
            "zero-cost-off",
            "with no recorder installed the instrumentation is free (within 1 % of the service's CPU)",
            zero_cost_off(),
        ),
        claim("auto-context", "span context follows spawned tasks automatically", auto_context()),
        claim("baggage", "baggage such as user_id reaches the next service", baggage()),
        claim("view-drops-label", "a view drops the user's label and bounds cardinality", view_drops_label()),
        claim(
            "level-filter",
            "filtering at INFO makes debug spans free (none received, each within 1 % of the service's CPU)",
            level_filter(),
        ),
        claim("redaction", "sensitive span attributes are redacted before export", redaction()),
        claim("mtls", "OTLP over mutual TLS works, and refuses unauthorised clients", mtls()),
        claim("resource", "OTEL_RESOURCE_ATTRIBUTES reaches the backend", resource()),
        claim(
            "span-depth",
            "nesting must stay under 10 levels (a span at 100 costs more than 1.5 times one at 10)",
            span_depth(),
        ),
        claim("single-recorder", "installing a second recorder panics", single_recorder()),
        claim("self-metrics", "the pipeline exposes how much it exported, and what it lost", self_metrics()),
        claim(
            "choice-table",
            "metrics alone are cheapest, then metrics with tracing, then metrics with OpenTelemetry and tracing",
            choice_table(),
        ),
    ]
}

fn question(
    subject: impl Into<String>,
    denominator: &str,
    unit: &str,
    test: Test,
    quantity: Quantity,
) -> ClaimQuestion {
    let (denominator, unit) = (denominator.to_owned(), unit.to_owned());
    ClaimQuestion { subject: subject.into(), sense: None, denominator, unit, counts: true, test, quantity }
}

/// Makes each question a sense of its own, named by its denominator: their verdicts may differ.
fn alternatives(questions: Vec<ClaimQuestion>) -> Vec<ClaimQuestion> {
    questions
        .into_iter()
        .map(|question| ClaimQuestion { sense: Some(question.denominator.clone()), ..question })
        .collect()
}

/// The same question, for comparison only.
fn beside(question: ClaimQuestion) -> ClaimQuestion {
    ClaimQuestion { counts: false, ..question }
}

fn count(subject: &str, denominator: &str, unit: &str, check: CountCheck) -> ClaimQuestion {
    question(subject, denominator, unit, Test::Zero, Quantity::Count(check))
}

fn cost(arm: &str, baseline: &str, metric: Metric, per: Per) -> Quantity {
    Quantity::Cost { source: Source::Run, arm: arm.into(), baseline: baseline.into(), metric, per }
}

fn calls(more: &str, less: Option<&str>, per: Per) -> Quantity {
    Quantity::Calls { more: more.into(), less: less.map(str::to_owned), per }
}

fn metric_record() -> Vec<ClaimQuestion> {
    let mut questions = Vec::new();
    for recorder in ["prometheus", "bridge"] {
        for call in ["counter", "histogram"] {
            for (how, words) in [("macro", "through the macro"), ("cached", "kept handle")] {
                let quantity = calls(&format!("{call}-{how}-{recorder}"), None, Per::Order);
                let subject = format!("{call}, {words}, {recorder}");
                questions.push(question(subject, "per record", "µs", Test::Below(1.0), quantity));
            }
        }
    }
    questions
}

fn metric_scaling() -> Vec<ClaimQuestion> {
    let mut questions = Vec::new();
    for recorder in ["prometheus", "bridge"] {
        for (series, words) in [("one", "one series"), ("many", "a series per thread")] {
            let family = format!("scaling-counter-{recorder}-{series}-");
            let subject = format!("counter, {words}, {recorder}");
            let denominator = "CPU time of a record on every core over that on one";
            questions.push(question(subject, denominator, "×", Test::Below(SCALES), Quantity::Scaling { family }));
        }
    }
    questions
}

/// A share of one core and of the machine, each end to end and, where calls are given, in isolation.
fn shares(subject: &str, limit: f64, end_to_end: [Quantity; 2], isolated: Option<[Quantity; 2]>) -> Vec<ClaimQuestion> {
    let denominators = ["of one core", "of the machine"];
    let quantities = [Some(end_to_end), isolated];
    let asked = quantities.into_iter().flatten().flat_map(|both| denominators.into_iter().zip(both));
    let shares = asked.map(|(share, quantity)| question(subject, share, "%", Test::Below(limit), quantity));
    alternatives(shares.collect())
}

fn bridge_cpu() -> Vec<ClaimQuestion> {
    let end_to_end = [Per::Core, Per::Machine].map(|per| cost("bridge", "metrics", Metric::Cpu, per));
    let isolated = [Per::Core, Per::Machine].map(|per| calls("order-bridge", Some("order-metrics"), per));
    shares("bridge − metrics", 0.1, end_to_end, Some(isolated))
}

fn metric_export() -> Vec<ClaimQuestion> {
    let mut questions = Vec::new();
    for arm in ["bridge", "full"] {
        for (denominator, figure) in [
            ("time of the median export", LaneFigure::MetricExportMedian),
            ("time of a lane's slowest export", LaneFigure::MetricExportSlowest),
            ("CPU time of an export", LaneFigure::MetricExportCpu),
        ] {
            let quantity = Quantity::Lanes { arm, less: None, figure };
            questions.push(question(arm, denominator, "ms", Test::Below(2.0), quantity));
        }
    }
    alternatives(questions)
}

fn span_record() -> Vec<ClaimQuestion> {
    let (subject, per_span) = ("a span recorded", "per span, on the request's thread");
    let end_to_end = cost("traces", "none", Metric::CpuRequest, Per::Span("traces"));
    let isolated = calls("span-recorded", Some("span-none"), Per::Order);
    [end_to_end, isolated].map(|quantity| question(subject, per_span, "µs", Test::Below(1.0), quantity)).into()
}

fn span_export() -> Vec<ClaimQuestion> {
    let mut questions = Vec::new();
    for arm in ["traces", "full"] {
        for (denominator, figure) in [
            ("time of the median export", LaneFigure::SpanExportMedian),
            ("time of 99 % of the exports", LaneFigure::SpanExportP99),
            ("time of the median of the largest", LaneFigure::LargestExportMedian),
        ] {
            let quantity = Quantity::Lanes { arm, less: None, figure };
            questions.push(question(arm, denominator, "ms", Test::Below(5.0), quantity));
        }
    }
    alternatives(questions)
}

fn batch_cpu() -> Vec<ClaimQuestion> {
    let end_to_end = [Per::Core, Per::Machine].map(|per| cost("traces", "none", Metric::CpuExporter, per));
    shares("the exporter's threads", 0.5, end_to_end, None)
}

fn queue() -> Vec<ClaimQuestion> {
    let lost = |subject, arm| count(subject, "spans lost", "spans", CountCheck::LostSpans { arm });
    vec![
        lost("traces, queue of 10 000", "traces"),
        lost("full, queue of 10 000", "full"),
        beside(lost("traces, queue of 2048", DEFAULT_QUEUE)),
    ]
}

/// The arm with the SDK's default span queue.
pub const DEFAULT_QUEUE: &str = "traces-queue-2048";

fn grpc_vs_http() -> Vec<ClaimQuestion> {
    let subject = "full − full-http";
    let lanes = |figure| Quantity::Lanes { arm: "full", less: Some("full-http"), figure };
    let cpu = cost("full", "full-http", Metric::CpuExporter, Per::Span("full"));
    alternatives(vec![
        question(subject, "CPU time of the exporter per span", "µs", Test::Below(0.0), cpu),
        question(subject, "time of the median export", "ms", Test::Below(0.0), lanes(LaneFigure::SpanExportMedian)),
        question(subject, "bytes on the wire per span", "B", Test::Below(0.0), lanes(LaneFigure::BytesPerSpan)),
    ])
}

fn zero_cost_off() -> Vec<ClaimQuestion> {
    let (subject, denominator) = ("none − bare", "of the service's CPU per request");
    let end_to_end = Quantity::Relative { arm: "none".into(), baseline: "bare".into(), metric: Metric::Cpu };
    let isolated = calls("order-none", Some("order-bare"), Per::Service("bare"));
    [end_to_end, isolated].map(|quantity| question(subject, denominator, "%", Test::Within(FREE), quantity)).into()
}

/// Asks for the wrong traces of an arm.
fn traces_of(subject: &str, denominator: &str, source: Source, arm: &'static str) -> ClaimQuestion {
    count(subject, denominator, "traces", CountCheck::WrongTraces { source, arm })
}

fn auto_context() -> Vec<ClaimQuestion> {
    let alone = "wrong traces, without help";
    vec![
        traces_of("the published handler, adapted to compile", alone, Source::Run, "naive"),
        traces_of("a bare spawn", alone, PAYMENT, scenarios::BARE_SPAWN),
        beside(count(
            "a guard held across await, which axum refuses",
            "spans under the wrong parent",
            "spans",
            CountCheck::Probe { probe: "guard-across-await", count: ProbeCount::WrongParents },
        )),
        beside(traces_of("the context handed on", "wrong traces, with help", Source::Run, "full")),
    ]
}

fn baggage() -> Vec<ClaimQuestion> {
    let read = |sense: &str, subject, arm| {
        let question = traces_of(subject, "traces that are wrong or whose payment lacks the user", PAYMENT, arm);
        ClaimQuestion { sense: Some(sense.into()), ..question }
    };
    let (helped, alone) = ("where the context is handed on", "where it is not");
    vec![
        read(helped, "the context handed to the task", "full"),
        read(alone, "a bare spawn", scenarios::BARE_SPAWN),
        read(alone, "the published handler, adapted to compile", "naive"),
    ]
}

fn view_drops_label() -> Vec<ClaimQuestion> {
    let series = |subject, arm| {
        let check = CountCheck::ExtraSeries { source: USERS, arm, other: "bridge" };
        count(subject, "more series than without the label", "series", check)
    };
    let memory = |subject, arm: &str| {
        let (arm, baseline) = (arm.into(), "bridge".into());
        let quantity = Quantity::Cost { source: USERS, arm, baseline, metric: Metric::Rss, per: Per::Megabytes };
        beside(question(subject, "more memory than without the label", "MB", Test::ReportOnly, quantity))
    };
    vec![
        series("with the view", scenarios::VIEWED),
        // The SDK keeps 2 000 series of an instrument and merges the rest.
        beside(series("without it, up to the SDK's own limit", scenarios::LABELLED)),
        memory("with the view", scenarios::VIEWED),
        memory("without it", scenarios::LABELLED),
    ]
}

fn level_filter() -> Vec<ClaimQuestion> {
    let received = |subject, arm| {
        let check = CountCheck::ExtraSpans { source: PERSONAL, arm };
        count(subject, "debug spans received", "spans", check)
    };
    let filtered = calls("span-filtered", Some("span-none"), Per::Service("none"));
    vec![
        received("filter at info", scenarios::LEAKING),
        question("a filtered span", "of the service's CPU per request", "%", Test::Within(FREE), filtered),
        beside(received("filter at debug", scenarios::DEBUGGING)),
    ]
}

fn redaction() -> Vec<ClaimQuestion> {
    let found = |subject, arm| {
        let check = CountCheck::LeakedTexts { source: PERSONAL, arm };
        count(subject, "card numbers and addresses found", "texts", check)
    };
    vec![found("with redaction", scenarios::REDACTING), beside(found("without it", scenarios::LEAKING))]
}

fn mtls() -> Vec<ClaimQuestion> {
    let lost = CountCheck::LostSpans { arm: "full-mtls" };
    let dearer = cost("full-mtls", "full", Metric::Cpu, Per::Order);
    vec![
        count("with the right certificate", "spans lost", "spans", lost),
        count(
            "no certificate, a foreign one, an expired one",
            "at a receiver over TLS",
            "unauthorised clients",
            CountCheck::UnauthorisedClients,
        ),
        beside(question("full-mtls − full", "CPU per request", "µs", Test::ReportOnly, dearer)),
    ]
}

fn resource() -> Vec<ClaimQuestion> {
    let source = ENVIRONMENT;
    let spans = CountCheck::SpansOfOtherServices { source, arm: "full", service: scenarios::SERVICE };
    let lanes = |arm| CountCheck::LanesWithoutAttribute { source, arm, attribute: scenarios::ATTRIBUTE };
    vec![
        count("spans, service.name", "from a resource without it", "spans", spans),
        count("full, another attribute", "from a resource without it", "lanes", lanes("full")),
        count("bridge, another attribute", "from a resource without it", "lanes", lanes("bridge")),
    ]
}

fn span_depth() -> Vec<ClaimQuestion> {
    let times = |more: &str, test| {
        let quantity = Quantity::Times { more: format!("depth-{more}"), less: "depth-10".into() };
        question(format!("{more} levels"), "cost of a span over that at 10 levels", "×", test, quantity)
    };
    vec![times("100", Test::Above(DEEP)), beside(times("1000", Test::ReportOnly)), beside(times("1", Test::ReportOnly))]
}

fn single_recorder() -> Vec<ClaimQuestion> {
    let without_panic = |subject, probe, installs| {
        count(
            subject,
            "second installs without a panic",
            "installs",
            CountCheck::InstallsWithoutPanic { probe, installs },
        )
    };
    vec![
        without_panic("a recorder and a subscriber", "second-install", 2),
        without_panic("a tracer provider", "second-provider", 1),
        beside(count(
            "a recorder and a subscriber",
            "second installs without an error",
            "installs",
            CountCheck::Probe { probe: "second-install", count: ProbeCount::InstallsWithoutError },
        )),
    ]
}

fn self_metrics() -> Vec<ClaimQuestion> {
    let lost = |subject, without, probe, count| {
        let denominator = format!("spans lost without {without}");
        self::count(subject, &denominator, "spans", CountCheck::Probe { probe, count })
    };
    vec![
        lost("failing exports", "any error or counter", "failed-export-ok", ProbeCount::UnreportedLosses),
        lost("a full queue", "any error or counter", "queue-full", ProbeCount::UnreportedDrops),
        beside(lost("a full queue", "a log line at shutdown", "queue-full", ProbeCount::UnloggedDrops)),
    ]
}

fn choice_table() -> Vec<ClaimQuestion> {
    let cores = |subject, arm, baseline, test| {
        question(subject, "cores at the rate of the run", "cores", test, cost(arm, baseline, Metric::Cpu, Per::Cores))
    };
    vec![
        cores("metrics-tracing − metrics", "metrics-tracing", "metrics", Test::Above(0.0)),
        cores("full − metrics-tracing", "full", "metrics-tracing", Test::Above(0.0)),
        beside(cores("edge: metrics − none", "metrics", "none", Test::ReportOnly)),
        beside(cores("one busy host: metrics-tracing − none", "metrics-tracing", "none", Test::ReportOnly)),
        beside(cores("distributed: full − none", "full", "none", Test::ReportOnly)),
    ]
}

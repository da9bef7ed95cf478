//! The published claims, and how each is measured.
//!
//! A limit that a claim does not name is ours, and stands in the claim's statement in brackets.

use super::question::{LaneFigure, Per, Quantity, Question, Sighting, Stage, Test};
use super::trials;
use crate::experiment::metric::Metric;
use crate::studies::probe::Figures;

/// A published claim.
#[derive(Clone, Debug)]
pub struct Published {
    /// What users ask for it by.
    pub id: &'static str,
    /// What it says, in our words.
    pub statement: &'static str,
    pub(super) questions: Vec<Question>,
}

impl Published {
    /// What is looked at for it.
    #[cfg(test)]
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.questions.iter().map(|question| question.subject.as_str())
    }
}

/// Said at the end of every report.
pub const NOT_TESTED: &str =
    "What a customer gained (more requests per second, a shorter diagnosis) cannot be tested here, and is not.";

/// Slowest that a record may become at many threads, as a multiple of its time at one.
const SCALES: f64 = 1.5;
/// Percent of the service's CPU time within which a cost is none.
const FREE: f64 = 1.0;
/// How many times as dear deep nesting must make a span for depth to matter.
const DEEP: f64 = 1.5;

/// Every published claim, in the order of the report.
pub fn all() -> Vec<Published> {
    let claim = |id, statement, questions| Published { id, statement, questions };
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
        claim("auto-context", "span context follows spawned tasks by itself", auto_context()),
        claim("baggage", "baggage such as user_id reaches the next service", baggage()),
        claim("view-drops-label", "a view drops the user's label and bounds cardinality", view_drops_label()),
        claim(
            "level-filter",
            "filtering at INFO makes debug spans free (none received, each within 1 % of the service's CPU)",
            level_filter(),
        ),
        claim("redaction", "sensitive span attributes are redacted before export", redaction()),
        claim("mtls", "OTLP over mutual TLS works, and refuses strangers", mtls()),
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

fn question(subject: impl Into<String>, denominator: &str, unit: &str, test: Test, quantity: Quantity) -> Question {
    let (denominator, unit) = (denominator.to_owned(), unit.to_owned());
    Question { subject: subject.into(), sense: None, denominator, unit, counts: true, test, quantity }
}

/// The same questions as so many ways to read the claim, by their denominators: they need not come out alike.
fn alternatives(questions: Vec<Question>) -> Vec<Question> {
    questions.into_iter().map(|question| Question { sense: Some(question.denominator.clone()), ..question }).collect()
}

/// The same for comparison.
fn beside(question: Question) -> Question {
    Question { counts: false, ..question }
}

fn count(subject: &str, denominator: &str, unit: &str, sighting: Sighting) -> Question {
    question(subject, denominator, unit, Test::None, Quantity::Count(sighting))
}

fn cost(arm: &str, baseline: &str, metric: Metric, per: Per) -> Quantity {
    Quantity::Cost { stage: Stage::Run, arm: arm.into(), baseline: baseline.into(), metric, per }
}

fn calls(more: &str, less: Option<&str>, per: Per) -> Quantity {
    Quantity::Calls { more: more.into(), less: less.map(str::to_owned), per }
}

fn metric_record() -> Vec<Question> {
    let mut questions = Vec::new();
    for recorder in ["prometheus", "bridge"] {
        for call in ["counter", "histogram"] {
            for (how, words) in [("macro", "by macro"), ("cached", "handle kept")] {
                let quantity = calls(&format!("{call}-{how}-{recorder}"), None, Per::Order);
                let subject = format!("{call}, {words}, {recorder}");
                questions.push(question(subject, "per record", "µs", Test::Below(1.0), quantity));
            }
        }
    }
    questions
}

fn metric_scaling() -> Vec<Question> {
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

/// A share of the CPU in both readings, each end to end and in isolation where calls are given.
fn shares(subject: &str, limit: f64, end_to_end: [Quantity; 2], isolated: Option<[Quantity; 2]>) -> Vec<Question> {
    let denominators = ["of one core", "of the machine"];
    let quantities = [Some(end_to_end), isolated];
    let asked = quantities.into_iter().flatten().flat_map(|both| denominators.into_iter().zip(both));
    let shares = asked.map(|(share, quantity)| question(subject, share, "%", Test::Below(limit), quantity));
    alternatives(shares.collect())
}

fn bridge_cpu() -> Vec<Question> {
    let end_to_end = [Per::Core, Per::Machine].map(|per| cost("bridge", "metrics", Metric::Cpu, per));
    let isolated = [Per::Core, Per::Machine].map(|per| calls("order-bridge", Some("order-metrics"), per));
    shares("bridge − metrics", 0.1, end_to_end, Some(isolated))
}

fn metric_export() -> Vec<Question> {
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

fn span_record() -> Vec<Question> {
    let (subject, per_span) = ("a span recorded", "per span, on the request's thread");
    let end_to_end = cost("traces", "none", Metric::CpuRequest, Per::Span("traces"));
    let isolated = calls("span-recorded", Some("span-none"), Per::Order);
    [end_to_end, isolated].map(|quantity| question(subject, per_span, "µs", Test::Below(1.0), quantity)).into()
}

fn span_export() -> Vec<Question> {
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

fn batch_cpu() -> Vec<Question> {
    let end_to_end = [Per::Core, Per::Machine].map(|per| cost("traces", "none", Metric::CpuExporter, per));
    shares("the exporter's threads", 0.5, end_to_end, None)
}

fn queue() -> Vec<Question> {
    let lost = |subject, arm| count(subject, "spans lost", "spans", Sighting::LostSpans { arm });
    vec![
        lost("traces, queue of 10 000", "traces"),
        lost("full, queue of 10 000", "full"),
        beside(lost("traces, queue of 2048", DEFAULT_QUEUE)),
    ]
}

/// The arm whose span queue is the SDK's default.
pub(super) const DEFAULT_QUEUE: &str = "traces-queue-2048";

fn grpc_vs_http() -> Vec<Question> {
    let subject = "full − full-http";
    let lanes = |figure| Quantity::Lanes { arm: "full", less: Some("full-http"), figure };
    let cpu = cost("full", "full-http", Metric::CpuExporter, Per::Span("full"));
    alternatives(vec![
        question(subject, "CPU time of the exporter per span", "µs", Test::Below(0.0), cpu),
        question(subject, "time of the median export", "ms", Test::Below(0.0), lanes(LaneFigure::SpanExportMedian)),
        question(subject, "bytes on the wire per span", "B", Test::Below(0.0), lanes(LaneFigure::BytesPerSpan)),
    ])
}

fn zero_cost_off() -> Vec<Question> {
    let (subject, denominator) = ("none − bare", "of the service's CPU per request");
    let end_to_end = Quantity::Relative { arm: "none".into(), baseline: "bare".into(), metric: Metric::Cpu };
    let isolated = calls("order-none", Some("order-bare"), Per::Service("bare"));
    [end_to_end, isolated].map(|quantity| question(subject, denominator, "%", Test::Within(FREE), quantity)).into()
}

/// What the traces of an arm look like.
fn traces_of(subject: &str, denominator: &str, stage: Stage, arm: &'static str) -> Question {
    count(subject, denominator, "traces", Sighting::WrongTraces { stage, arm })
}

fn auto_context() -> Vec<Question> {
    let alone = "traces that are wrong, without help";
    let misplaced = |seen: &Figures| Some((*seen.get("wrong_parents")?, *seen.get("requests")?));
    vec![
        traces_of("the handler as printed, as near as it compiles", alone, Stage::Run, "naive"),
        traces_of("a bare spawn", alone, trials::PAYMENT, trials::BARE_SPAWN),
        beside(count(
            "a guard held across await, which axum refuses",
            "spans under a strange parent",
            "spans",
            Sighting::Probed { probe: "guard-across-await", count: misplaced },
        )),
        beside(traces_of("the context handed on", "traces that are wrong, with help", Stage::Run, "full")),
    ]
}

fn baggage() -> Vec<Question> {
    let read = |sense: &str, subject, arm| {
        let question =
            traces_of(subject, "traces that are wrong, or whose payment lacks the user", trials::PAYMENT, arm);
        Question { sense: Some(sense.into()), ..question }
    };
    let (helped, alone) = ("where the context is handed on", "where it is not");
    vec![
        read(helped, "the context handed to the task", "full"),
        read(alone, "a bare spawn", trials::BARE_SPAWN),
        read(alone, "the handler as printed, as near as it compiles", "naive"),
    ]
}

fn view_drops_label() -> Vec<Question> {
    let series = |subject, arm| {
        let sighting = Sighting::SeriesBeyond { stage: trials::USERS, arm, other: "bridge" };
        count(subject, "series beyond those without the label", "series", sighting)
    };
    let memory = |subject, arm: &str| {
        let (arm, baseline) = (arm.into(), "bridge".into());
        let quantity = Quantity::Cost { stage: trials::USERS, arm, baseline, metric: Metric::Rss, per: Per::Megabytes };
        beside(question(subject, "memory beyond that without the label", "MB", Test::Told, quantity))
    };
    vec![
        series("with the view", trials::VIEWED),
        // The SDK keeps 2 000 series of an instrument and joins the rest.
        beside(series("without it, up to the SDK's own limit", trials::LABELLED)),
        memory("with the view", trials::VIEWED),
        memory("without it", trials::LABELLED),
    ]
}

fn level_filter() -> Vec<Question> {
    let received = |subject, arm| {
        let sighting = Sighting::ExtraSpans { stage: trials::PERSONAL, arm };
        count(subject, "debug spans received", "spans", sighting)
    };
    let filtered = calls("span-filtered", Some("span-none"), Per::Service("none"));
    vec![
        received("filter at info", trials::LEAKING),
        question("a span filtered out", "of the service's CPU per request", "%", Test::Within(FREE), filtered),
        beside(received("filter at debug", trials::DEBUGGING)),
    ]
}

fn redaction() -> Vec<Question> {
    let found = |subject, arm| {
        let sighting = Sighting::LeakedTexts { stage: trials::PERSONAL, arm };
        count(subject, "card numbers and addresses found", "texts", sighting)
    };
    vec![found("with redaction", trials::REDACTING), beside(found("without it", trials::LEAKING))]
}

fn mtls() -> Vec<Question> {
    let lost = Sighting::LostSpans { arm: "full-mtls" };
    let dearer = cost("full-mtls", "full", Metric::Cpu, Per::Order);
    vec![
        count("with the right certificate", "spans lost", "spans", lost),
        count("none, a stranger's, an expired one", "strangers heard", "strangers", Sighting::StrangersHeard),
        beside(question("full-mtls − full", "CPU per request", "µs", Test::Told, dearer)),
    ]
}

fn resource() -> Vec<Question> {
    let stage = trials::ENVIRONMENT;
    let spans = Sighting::SpansNotOf { stage, arm: "full", service: trials::SERVICE };
    let lanes = |arm| Sighting::LanesWithout { stage, arm, attribute: trials::ATTRIBUTE };
    vec![
        count("spans, service.name", "from a resource without it", "spans", spans),
        count("full, another attribute", "from a resource without it", "lanes", lanes("full")),
        count("bridge, another attribute", "from a resource without it", "lanes", lanes("bridge")),
    ]
}

fn span_depth() -> Vec<Question> {
    let times = |more: &str, test| {
        let quantity = Quantity::Times { more: format!("depth-{more}"), less: "depth-10".into() };
        question(format!("{more} levels"), "cost of a span over that at 10 levels", "×", test, quantity)
    };
    vec![times("100", Test::Above(DEEP)), beside(times("1000", Test::Told)), beside(times("1", Test::Told))]
}

fn single_recorder() -> Vec<Question> {
    let unpanicked = |subject, probe, installs| {
        count(subject, "second installs without a panic", "installs", Sighting::Unpanicked { probe, installs })
    };
    let refused = |seen: &Figures| Some((2.0 - *seen.get("refused")?, 2.0));
    vec![
        unpanicked("a recorder and a subscriber", "second-install", 2),
        unpanicked("a tracer provider", "second-provider", 1),
        beside(count(
            "a recorder and a subscriber",
            "second installs without an error",
            "installs",
            Sighting::Probed { probe: "second-install", count: refused },
        )),
    ]
}

fn self_metrics() -> Vec<Question> {
    let untold = |seen: &Figures| {
        let (lost, told) = (*seen.get("lost")?, *seen.get("told")?);
        // An error of the flush or the shutdown would have told.
        let told = if *seen.get("flush_ok")? + *seen.get("shutdown_ok")? < 2.0 { lost } else { told };
        Some((lost - told, lost))
    };
    let unlogged = |seen: &Figures| Some((*seen.get("dropped")? - *seen.get("logged")?, *seen.get("dropped")?));
    let dropped = |seen: &Figures| {
        let told = if *seen.get("flush_ok")? + *seen.get("shutdown_ok")? < 2.0 { *seen.get("dropped")? } else { 0.0 };
        Some((*seen.get("dropped")? - told, *seen.get("dropped")?))
    };
    let untold_of = |subject, probe, count: fn(&Figures) -> Option<(f64, f64)>| {
        self::count(subject, "lost spans that nothing told of", "spans", Sighting::Probed { probe, count })
    };
    vec![
        untold_of("exports that fail: no call and no count", "failed-export-ok", untold),
        untold_of("a queue that is full: no call and no count", "queue-full", dropped),
        beside(untold_of("a queue that is full: the log at shutdown", "queue-full", unlogged)),
    ]
}

fn choice_table() -> Vec<Question> {
    let cores = |subject, arm, baseline, test| {
        question(subject, "cores at the rate of the run", "cores", test, cost(arm, baseline, Metric::Cpu, Per::Cores))
    };
    vec![
        cores("metrics-tracing − metrics", "metrics-tracing", "metrics", Test::Above(0.0)),
        cores("full − metrics-tracing", "full", "metrics-tracing", Test::Above(0.0)),
        beside(cores("edge: metrics − none", "metrics", "none", Test::Told)),
        beside(cores("one busy host: metrics-tracing − none", "metrics-tracing", "none", Test::Told)),
        beside(cores("distributed: full − none", "full", "none", Test::Told)),
    ]
}

//! Spans: whose child a span becomes, and what entering it costs.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{
    FutureExt, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span as SdkSpan, SpanData, SpanProcessor};
use tokio::runtime::{Builder, Runtime};
use tracing::{Instrument, Span, Subscriber, span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use super::apparatus::{KeptSpans, SCOPE, counted, is_child, is_root, keeping, lock, span, traced};
use super::{AttemptError, DEADLOCKED, Hang, Probe};
use crate::record::probes::{ProbeObservation, ProbeVerdict};

/// The probes of this file.
pub(super) fn probes() -> Vec<Probe> {
    vec![
        Probe {
            name: "guard-across-await",
            title: "a span entered by hand across an await adopts unrelated spans",
            pitfall: "`Span::enter` lasts until its guard is dropped, even while the task waits: every span opened on the thread \
                      meanwhile becomes a child of it. axum refuses such a handler, because the guard is not Send.",
            advice: "Instrument the future (`.instrument(span)` or `#[instrument]`): the span is then left at every await.",
            defect: || interleaved(false),
            fix: Some(|| interleaved(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "context-across-spawn",
            title: "a spawned task has neither the trace nor the baggage",
            pitfall: "`tokio::spawn` passes on neither tracing's current span nor OpenTelemetry's current context: spans in the \
                      task begin traces of their own.",
            advice: "Spawn `task.with_current_context().in_current_span()`, in this order: the span alone does not carry \
                     baggage, and entered last it covers the context that does.",
            defect: || spawned(false),
            fix: Some(|| spawned(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "set-parent-late",
            title: "`set_parent` on a span that was entered is refused",
            pitfall: "tracing-opentelemetry 0.32 and later start the span as it is entered, and a span that has started keeps \
                      its parent. Inside an `#[instrument]`ed function `Span::current().set_parent` returns an error, which \
                      is easily dropped, and the caller's trace is lost.",
            advice: "Make the span, `set_parent`, and then enter it or instrument the future with it.",
            defect: || remote_parent(false),
            fix: Some(|| remote_parent(true)),
            hang: Hang::Failure,
        },
        Probe {
            name: "nesting",
            title: "deep nesting makes each span more expensive",
            pitfall: "tracing-subscriber looks through the spans that the thread is in, all of them, each time one is entered: \
                      the cost of a span grows with its depth.",
            advice: "Nest by meaning, not in loops or recursion: tens of levels hardly matter, hundreds do.",
            defect: || Ok(nesting()),
            fix: None,
            hang: Hang::Failure,
        },
        Probe {
            name: "enter-per-poll",
            title: "an instrumented future enters and leaves its span at every poll",
            pitfall: "A request that waits n times is polled n + 1 times, and each poll enters and leaves the span; so does \
                      dropping the future. tracing-opentelemetry attaches a context and reads clocks each time.",
            advice: "Put spans around work and not around waiting, and turn off what you do not read: \
                     `with_tracked_inactivity(false)`; `with_context_activation(false)` where no code asks OpenTelemetry for \
                     the current context.",
            defect: enter_per_poll,
            fix: None,
            hang: Hang::Failure,
        },
        Probe {
            name: "log-on-enter",
            title: "the SDK's internal logging deadlocks as a span is entered",
            pitfall: "tracing-opentelemetry up to 0.32 held a span's extensions while it called into the SDK; a log event from \
                      there locked them again (tracing-opentelemetry#250).",
            advice: "Use tracing-opentelemetry 0.33 or later, which keeps the lock out of the call and skips such events.",
            defect: || from_a_processor(On::Both, Says::Event),
            fix: None,
            hang: Hang::Finding { what: "The first span that was entered", after: DEADLOCKED },
        },
        Probe {
            name: "span-in-processor",
            title: "a span processor that opens a child of the span deadlocks",
            pitfall: "tracing-opentelemetry starts the OpenTelemetry span under the lock of its own data. A processor or \
                      sampler, or anything it calls, that opens a `tracing` span with that span as its parent waits for \
                      the same lock (tracing-opentelemetry#260).",
            advice: "Open no `tracing` span in processors and samplers; where it must be, make it a root (`parent: None`).",
            defect: || from_a_processor(On::Start, Says::Child),
            fix: Some(|| from_a_processor(On::Start, Says::Root)),
            hang: Hang::Finding { what: "The first span that was entered", after: DEADLOCKED },
        },
        Probe {
            name: "span-while-closing",
            title: "a span opened while another closes keeps its parent from ending",
            pitfall: "tracing-subscriber removes a closed span only where no other close is under way on the thread. A \
                      processor that opens and drops a span as another ends (an instrumented function will do) leaks it, \
                      and with it its parent, which then never ends and is never exported.",
            advice: "Call no instrumented code from `on_end`; where it must be, make the span a root (`parent: None`): it \
                     still leaks, but takes no other with it.",
            defect: || from_a_processor(On::End, Says::Span),
            fix: Some(|| from_a_processor(On::End, Says::Root)),
            hang: Hang::Failure,
        },
    ]
}

fn current_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn interleaved(instrumented: bool) -> Result<ProbeObservation, AttemptError> {
    const TASKS: usize = 10;
    let (kept, runtime) = (KeptSpans::default(), current_thread()?);
    let provider = keeping(&kept);
    let work = async |task: usize| {
        tokio::task::yield_now().await;
        drop(tracing::info_span!("stock", otel.name = format!("stock {task}")).entered());
    };
    let request = async |task: usize| {
        let order = tracing::info_span!("order", otel.name = format!("order {task}"));
        if instrumented {
            work(task).instrument(order).await;
        } else {
            let _entered = order.enter();
            work(task).await;
        }
    };
    tracing::subscriber::with_default(traced(&provider), || {
        runtime.block_on(join_all((0..TASKS).map(request)));
    });
    let spans = kept.spans();
    let mut wrong = 0;
    for task in 0..TASKS {
        wrong += usize::from(!is_child(&spans, &format!("stock {task}"), &format!("order {task}"))?);
    }
    let strange =
        (0..TASKS).filter(|task| span(&spans, &format!("order {task}")).is_ok_and(|order| !is_root(order))).count();
    Ok(ProbeObservation::new(
        wrong + strange > 0,
        format!(
            "Of {TASKS} requests that take turns on one thread, {wrong} have their inner span under another's, and {strange} \
             are themselves children of another."
        ),
        [("requests", TASKS as f64), ("wrong_parents", wrong as f64), ("not_root", strange as f64)],
    ))
}

fn spawned(carried: bool) -> Result<ProbeObservation, AttemptError> {
    let (kept, runtime) = (KeptSpans::default(), current_thread()?);
    let provider = keeping(&kept);
    let pay = async || {
        drop(tracing::info_span!("payment").entered());
        Context::current().baggage().get("user").is_some()
    };
    let handler = async {
        let task = {
            let _user = Context::current().with_baggage([KeyValue::new("user", "ada")]).attach();
            if carried { tokio::spawn(pay().with_current_context().in_current_span()) } else { tokio::spawn(pay()) }
        };
        task.await
    };
    let with_baggage = tracing::subscriber::with_default(traced(&provider), || {
        runtime.block_on(handler.instrument(tracing::info_span!("order")))
    })?;
    let in_trace = is_child(&kept.spans(), "payment", "order")?;
    Ok(ProbeObservation::new(
        !in_trace || !with_baggage,
        format!(
            "The span of the spawned task is {}, and the task {} the caller's baggage.",
            if in_trace { "a child of the handler's" } else { "in a trace of its own" },
            if with_baggage { "has" } else { "does not have" },
        ),
        [("in_trace", f64::from(u8::from(in_trace))), ("with_baggage", f64::from(u8::from(with_baggage)))],
    ))
}

/// The caller's span, from another service.
fn caller() -> SpanContext {
    SpanContext::new(TraceId::from(7_u128), SpanId::from(9_u64), TraceFlags::SAMPLED, true, TraceState::NONE)
}

#[tracing::instrument(skip_all, name = "order")]
fn handler(remote: Context) -> bool {
    Span::current().set_parent(remote).is_ok()
}

fn remote_parent(before_entering: bool) -> Result<ProbeObservation, AttemptError> {
    let kept = KeptSpans::default();
    let provider = keeping(&kept);
    let remote = Context::new().with_remote_span_context(caller());
    let accepted = tracing::subscriber::with_default(traced(&provider), || {
        if before_entering {
            let order = tracing::info_span!("order");
            let accepted = order.set_parent(remote).is_ok();
            order.in_scope(|| {});
            accepted
        } else {
            handler(remote)
        }
    });
    let spans = kept.spans();
    let order = span(&spans, "order")?;
    let joined = order.span_context.trace_id() == caller().trace_id() && order.parent_span_id == caller().span_id();
    Ok(ProbeObservation::new(
        !accepted || !joined,
        format!(
            "`set_parent` returned {}, and the span is {}.",
            if accepted { "Ok" } else { "an error" },
            if joined { "in the caller's trace" } else { "not in the caller's trace" },
        ),
        [("accepted", f64::from(u8::from(accepted))), ("in_callers_trace", f64::from(u8::from(joined)))],
    ))
}

/// Times an interleaved comparison is repeated.
const REPEATS: usize = 21;

/// A remark on times measured in this build.
const BUILD: &str = if cfg!(debug_assertions) { " (a debug build, several times slower)" } else { "" };

/// The median of [`REPEATS`] values and the order statistics 6 and 16, between which the true median lies with 97.3 %: the
/// binomial distribution of the number of values below it, whatever the distribution of the values.
fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[REPEATS / 2], values[5], values[REPEATS - 6])
}

/// Opens `depth` spans, each in the one before, and closes them again.
fn nest(depth: usize) {
    let mut open: Vec<_> = (0..depth).map(|_| tracing::info_span!("level").entered()).collect();
    while let Some(innermost) = open.pop() {
        drop(innermost);
    }
}

fn nesting() -> ProbeObservation {
    const DEPTHS: [usize; 4] = [1, 10, 100, 1_000];
    /// Growth below a tenth is not worth a warning.
    const GROWS: f64 = 1.1;
    let mut chains = 0;
    for depth in DEPTHS {
        let kept = KeptSpans::default();
        tracing::subscriber::with_default(traced(&keeping(&kept)), || nest(depth));
        // The innermost ends first.
        let spans = kept.spans();
        let linked = spans.windows(2).all(|pair| pair[0].parent_span_id == pair[1].span_context.span_id());
        let one_trace = spans.iter().all(|s| s.span_context.trace_id() == spans[0].span_context.trace_id());
        chains += usize::from(spans.len() == depth && linked && one_trace && spans.last().is_some_and(is_root));
    }
    let provider = SdkTracerProvider::builder().build();
    let mut cost = [const { Vec::new() }; DEPTHS.len()];
    tracing::subscriber::with_default(traced(&provider), || {
        DEPTHS.into_iter().for_each(nest);
        for repeat in 0..REPEATS {
            for turn in 0..DEPTHS.len() {
                let which = (repeat + turn) % DEPTHS.len();
                let started = Instant::now();
                (0..DEPTHS[DEPTHS.len() - 1] / DEPTHS[which]).for_each(|_| nest(black_box(DEPTHS[which])));
                cost[which].push(started.elapsed().as_nanos() as f64 / DEPTHS[DEPTHS.len() - 1] as f64);
            }
        }
    });
    let ratios = cost[3].iter().zip(&cost[1]).map(|(deep, shallow)| deep / shallow).collect();
    let (ratio, low, high) = median(ratios);
    let [one, ten, hundred, thousand] = cost.map(|values| median(values).0);
    let wrong = DEPTHS.len() - chains;
    let observation = ProbeObservation::new(
        wrong > 0 || low > GROWS,
        format!(
            "A span costs {one:.0}, {ten:.0}, {hundred:.0} and {thousand:.0} ns in nests of 1, 10, 100 and 1000 (1000 against 10: \
             ×{ratio:.2}, {low:.2} … {high:.2}); {chains} of {} chains are right{BUILD}.",
            DEPTHS.len()
        ),
        [
            ("ns_at_1", one),
            ("ns_at_10", ten),
            ("ns_at_100", hundred),
            ("ns_at_1000", thousand),
            ("ratio_1000_to_10", ratio),
            ("ratio_low", low),
            ("ratio_high", high),
            ("chains_right", chains as f64),
            ("chains", DEPTHS.len() as f64),
        ],
    );
    let undecided = wrong == 0 && low <= GROWS && high > GROWS;
    if undecided { ProbeObservation { verdict: ProbeVerdict::Unclear, ..observation } } else { observation }
}

/// Counts how often spans are entered and left.
#[derive(Clone, Debug, Default)]
struct Turnstile(Arc<[AtomicU64; 2]>);

impl<S: Subscriber> Layer<S> for Turnstile {
    fn on_enter(&self, _: &span::Id, _: LayerContext<'_, S>) {
        self.0[0].fetch_add(1, Relaxed);
    }

    fn on_exit(&self, _: &span::Id, _: LayerContext<'_, S>) {
        self.0[1].fetch_add(1, Relaxed);
    }
}

/// A request that waits `times`, so that it is polled once more than that.
async fn waits(times: u32) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

fn enter_per_poll() -> Result<ProbeObservation, AttemptError> {
    const WAITS: u32 = 4;
    let runtime = current_thread()?;
    let turnstile = Turnstile::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(turnstile.clone()), || {
        runtime.block_on(waits(WAITS).instrument(tracing::info_span!("order")));
    });
    let [entered, left] = [0, 1].map(|n| turnstile.0[n].load(Relaxed));
    let by_default = ns_per_enter(&runtime, |layer| layer);
    let lean = ns_per_enter(&runtime, |layer| layer.with_tracked_inactivity(false).with_context_activation(false));
    let (ns, low, high) = by_default;
    Ok(ProbeObservation::new(
        entered > 1,
        format!(
            "One request that waits {WAITS} times enters its span {entered} times and leaves it {left} times, at {ns:.0} ns \
             ({low:.0} … {high:.0}) each time; {:.0} ns with inactivity and context activation off{BUILD}.",
            lean.0
        ),
        [
            ("waits", f64::from(WAITS)),
            ("entered", entered as f64),
            ("left", left as f64),
            ("ns_per_enter", ns),
            ("ns_per_enter_low", low),
            ("ns_per_enter_high", high),
            ("ns_per_enter_lean", lean.0),
        ],
    ))
}

type OtelLayer = tracing_opentelemetry::OpenTelemetryLayer<Registry, opentelemetry_sdk::trace::SdkTracer>;

/// The extra cost of a poll with a span around it, in ns: median and interval of interleaved pairs.
fn ns_per_enter(runtime: &Runtime, set: impl FnOnce(OtelLayer) -> OtelLayer) -> (f64, f64, f64) {
    const POLLS: u32 = 2_000;
    let provider = SdkTracerProvider::builder().build();
    let layer = set(tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE)));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let timed = |future: &mut dyn FnMut()| {
            let started = Instant::now();
            future();
            started.elapsed().as_nanos() as f64
        };
        let mut bare = || runtime.block_on(waits(POLLS));
        let mut instrumented = || runtime.block_on(waits(POLLS).instrument(tracing::info_span!("order")));
        bare();
        instrumented();
        let differences = (0..REPEATS).map(|repeat| {
            let (with, without) = if repeat % 2 == 0 {
                let with = timed(&mut instrumented);
                (with, timed(&mut bare))
            } else {
                let without = timed(&mut bare);
                (timed(&mut instrumented), without)
            };
            (with - without) / f64::from(POLLS)
        });
        median(differences.collect())
    })
}

/// When a span processor uses `tracing` itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Start,
    End,
    Both,
}

/// The way in which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Logs an event, as the SDK does.
    Event,
    /// Opens a span, as an instrumented function does.
    Span,
    /// Opens a span that names the current one as its parent.
    Child,
    /// Opens a span that is a root.
    Root,
}

/// A processor that uses `tracing` itself.
#[derive(Debug)]
struct Talkative {
    on: On,
    says: Says,
    said: Arc<AtomicU64>,
    /// The spans it made.
    made: Arc<Mutex<Vec<span::Id>>>,
}

impl Talkative {
    fn say(&self, span: Option<&SpanData>) {
        // Its own spans come here too.
        if span.is_none_or(|span| span.name == "audit") {
            return;
        }
        let made = match self.says {
            Says::Event => {
                tracing::warn!(target: "opentelemetry_sdk", "a span passes");
                Span::none()
            }
            Says::Span => tracing::info_span!("audit"),
            Says::Child => tracing::info_span!(parent: &Span::current(), "audit"),
            Says::Root => tracing::info_span!(parent: None, "audit"),
        };
        lock(&self.made).extend(made.id());
        drop(made);
        self.said.fetch_add(1, Relaxed);
    }
}

impl SpanProcessor for Talkative {
    fn on_start(&self, span: &mut SdkSpan, _: &Context) {
        if self.on != On::End {
            self.say(span.exported_data().as_ref());
        }
    }

    fn on_end(&self, span: SpanData) {
        if self.on != On::Start {
            self.say(Some(&span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn from_a_processor(on: On, says: Says) -> Result<ProbeObservation, AttemptError> {
    const SPANS: usize = 100;
    let (kept, said, made) = (KeptSpans::default(), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Talkative { on, says, said: Arc::clone(&said), made: Arc::clone(&made) })
        .with_simple_exporter(kept.clone())
        .build();
    // `tracing` drops what is said inside a scoped subscriber; only an installed one hears it, and can deadlock.
    tracing::subscriber::set_global_default(traced(&provider))?;
    nest(SPANS);
    let unreleased = held(&lock(&made));
    let (said, ended) = (said.load(Relaxed), kept.spans().iter().filter(|span| span.name == "level").count());
    let spans = |what| format!("{}, {unreleased} of them never released", counted(said as usize, what));
    let made = match says {
        Says::Event => counted(said as usize, "log event"),
        Says::Span | Says::Child => spans("span"),
        Says::Root => spans("root span"),
    };
    Ok(ProbeObservation::new(
        ended != SPANS,
        format!("{ended} of {SPANS} nested spans ended; meanwhile a processor made {made}."),
        [("spans", SPANS as f64), ("ended", ended as f64), ("said", said as f64), ("unreleased", unreleased as f64)],
    ))
}

/// Number of these dropped spans that the registry still holds.
fn held(spans: &[span::Id]) -> usize {
    tracing::dispatcher::get_default(|dispatch| {
        let registry = dispatch.downcast_ref::<Registry>();
        spans.iter().filter(|id| registry.is_some_and(|registry| registry.span_data(id).is_some())).count()
    })
}

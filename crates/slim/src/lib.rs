//! Spans and metrics at a fraction of the usual cost, for services that have a tracing subscriber and an OTLP collector
//! and need nothing between them.
//!
//! [`Slim`] is a tracing layer that writes each closing span as OTLP itself, straight into the message that will be sent;
//! a thread of its own sends it by gRPC. There is no span object of the SDK's, no attribute that nobody asked for, nothing
//! on enter and exit, and no second and third form of a span on its way to the wire. It carries fields as attributes,
//! events (at ERROR they set the span's status), and the W3C trace context and baggage of whom [`continue_trace`] was told.
//! It does not do: samplers (it follows the caller's decision, and records where there is none), links, `otel.*` fields,
//! and TLS.
//!
//! ```no_run
//! use otelbench::slim::{self, Settings, Slim};
//! use tracing_subscriber::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let resource = vec![("service.name".into(), "shop".into())];
//! let (layer, spans) = Slim::start(&Settings::new("http://localhost:4317", resource), |_| ())?;
//! tracing_subscriber::registry().with(layer).init();
//!
//! let span = tracing::info_span!("order");
//! slim::continue_trace(&span, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("user_id=ada"));
//! span.in_scope(|| tracing::info_span!("payment", amount = 10.5).in_scope(|| { /* … */ }));
//! drop(span);
//!
//! spans.shutdown(std::time::Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```
//!
//! [`CachingRecorder`] stands before any `metrics` recorder and keeps the handles it makes, so that a macro finds its
//! handle again. Before `metrics-exporter-opentelemetry`, which builds an instrument at every call of a macro, that is most
//! of the cost; and what is kept in a handle (a gauge's value, a counter's total) outlives the call.

mod encode;
mod export;
mod layer;
mod queue;
mod recorder;

pub use self::export::{Counts, Exported, Settings, Slim, SlimError, THREAD};
pub use self::layer::{Layer, baggage, baggage_header, continue_trace, traceparent};
pub use self::recorder::CachingRecorder;

#[cfg(test)]
mod tests;

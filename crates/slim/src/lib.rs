//! Spans and metrics at a fraction of the usual cost, for services that have a tracing subscriber and an OTLP collector
//! and need nothing between them.
//!
//! [`Slim`] is a tracing layer that writes each closing span as OTLP itself, straight into the message that will be sent;
//! a thread of its own sends it by gRPC. There is no span object of the SDK's, no attribute that nobody asked for, nothing
//! on enter and exit, and no second and third form of a span on its way to the wire. It carries fields as attributes,
//! events (at ERROR they set the span's status), and the W3C trace context and baggage that [`continue_trace`] was given.
//!
//! ```no_run
//! use otelbench_slim::{Settings, Slim};
//! use tracing_subscriber::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let resource = vec![("service.name".into(), "shop".into())];
//! let (layer, spans) = Slim::start(&Settings::from_env(resource)?, |_| ())?;
//! tracing_subscriber::registry().with(layer).init();
//!
//! let span = tracing::info_span!("order");
//! otelbench_slim::continue_trace(&span, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("user_id=ada"));
//! span.in_scope(|| tracing::info_span!("payment", amount = 10.5).in_scope(|| { /* … */ }));
//! drop(span);
//!
//! let counts = spans.shutdown(std::time::Duration::from_secs(5))?;
//! assert_eq!(counts.ended, 2);
//! # Ok(())
//! # }
//! ```
//!
//! [`CachingRecorder`] stands before any `metrics` recorder and keeps the handles it makes, so that a macro finds its
//! handle again. Before `metrics-exporter-opentelemetry`, which builds an instrument at every call of a macro, that is most
//! of the cost; and what is kept in a handle (a gauge's value, a counter's total) outlives the call.
//!
//! # How spans travel
//!
//! A span that closes is appended to the queue's part of its thread. The thread named [`THREAD`] takes a full batch of them
//! wherever they lie, sends it, waits for the answer, and takes the next; what fills no batch goes out after
//! [`Settings::delay`]. A span that finds the queue full is dropped and counted: [`Slim::counts`] says what became of all.
//! So at most [`Settings::batch`] spans per export time go out, and under load no fewer.
//!
//! # What it does not do
//!
//! - Sample: it follows the caller's decision, and records where there is none.
//! - Read the fields that `tracing-opentelemetry` gives a meaning to (`otel.name`, `otel.kind`, `otel.status_code`,
//!   `otel.status_description`): they are attributes like any other. Every span is of kind `INTERNAL`.
//! - Links, `tracestate` (a caller's is not handed on), scopes, and resource attributes other than texts.
//! - `follows_from`, and parents in OpenTelemetry's `Context`: the parent is the span of `tracing`.
//! - OTLP by HTTP, compression, and the variables beside those of [`Settings::from_env`]: `OTEL_BSP_*`, `OTEL_SERVICE_NAME`,
//!   `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_PROTOCOL` and `…_COMPRESSION` are not read.

mod batch;
mod connection;
mod encode;
mod endpoint;
mod error;
mod export;
mod grpc;
mod hpack;
mod http2;
mod id;
mod layer;
mod queue;
mod recorder;
mod settings;
mod shared;

pub use self::error::{SettingsError, SlimError};
pub use self::export::{Exported, Slim, THREAD};
pub use self::layer::{Layer, baggage, baggage_header, continue_trace, traceparent};
pub use self::recorder::CachingRecorder;
pub use self::settings::{Settings, Tls};
pub use self::shared::Counts;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests;

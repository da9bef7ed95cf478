//! A service in a few lines: an order with its payment, traced to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, or
//! to one on this machine.
//!
//! ```text
//! cargo run -p otelbench-slim --example order
//! ```

#![allow(clippy::print_stdout, reason = "an example says what it did")]

use std::error::Error;
use std::time::Duration;

use otelbench_slim::{Settings, Slim, continue_trace, traceparent};
use tracing::{error, info_span};
use tracing_subscriber::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let resource = vec![("service.name".into(), "shop".into())];
    let settings = Settings::from_env(resource)?;
    let (layer, spans) = Slim::start(&settings, |export| match export.outcome {
        Ok(refused) => println!("sent {} spans in {:?}; {refused} were refused", export.spans, export.took),
        Err(why) => println!("{} spans were lost: {why}", export.spans),
    })?;
    tracing_subscriber::registry().with(layer).init();

    // As the headers of a request say it.
    order("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "user_id=ada");

    let counts = spans.shutdown(Duration::from_secs(10))?;
    println!("{counts:?}");
    Ok(())
}

fn order(caller: &str, baggage: &str) {
    let span = info_span!("order", items = 3);
    continue_trace(&span, caller, Some(baggage));
    span.in_scope(|| {
        let payment = info_span!("payment", user = otelbench_slim::baggage(&span, "user_id"), amount = 10.5);
        println!("the payment service would be called with traceparent: {}", traceparent(&payment).unwrap_or_default());
        payment.in_scope(|| error!(code = 42, "declined"));
    });
}

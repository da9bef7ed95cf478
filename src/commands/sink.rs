//! `otelbench sink`.

use std::net::SocketAddr;

use super::{Failure, put, put_json, signalled, signals};
use crate::experiment::fault::{Fault, Timeline};
use crate::experiment::scenario::Format;
use crate::experiment::service::SPANS;
use crate::experiment::units::grouped;
use crate::record::received::Received;
use crate::sink::{ReceiverConfig, Sink, TreeShape};

/// Receives telemetry until a signal, then prints what came.
///
/// # Errors
/// When the faults contradict each other or the address is taken; and the signal that ended it.
pub fn run(addr: SocketAddr, faults: Vec<Fault>, format: Format) -> Result<(), Failure> {
    Timeline::new(faults.clone()).map_err(|e| Failure::Usage(format!("--fault: {e}")))?;
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| usage(&e))?;
    let sink = Sink::start().map_err(|e| usage(&e))?;
    let address = sink
        .listen(ReceiverConfig { faults, ..ReceiverConfig::at(addr, TreeShape::new(SPANS, None)) })
        .map_err(|e| Failure::Usage(format!("--addr {addr}: cannot listen there: {e}")))?;
    eprintln!("OTLP receiver (gRPC and HTTP) on {}; Ctrl-C stops it and prints what it received", address.endpoint());
    let signal = runtime.block_on(async {
        let mut told = signals().map_err(|e| usage(&e))?;
        Ok(signalled(&mut told).await)
    })?;
    let received = address.received();
    match format {
        Format::Json => put_json(&received)?,
        Format::Table | Format::Markdown => put(&in_words(&received))?,
    }
    Err(Failure::Interrupted(signal))
}

fn in_words(received: &Received) -> String {
    let (trees, logs) = (&received.trees, &received.logs);
    let mut lines = vec![
        format!("spans       {}, and {} once more", grouped(received.spans), grouped(received.duplicated)),
        format!("traces      {}, {} of them order trees", grouped(trees.traces), grouped(trees.right)),
        format!("points      {} in {} series", grouped(received.metrics.points), grouped(received.metrics.series)),
        format!("logs        {}, {} of them in known traces", grouped(logs.records), grouped(logs.in_known_traces)),
        format!("exports     {}", grouped(received.exports)),
        format!(
            "refused     {} requests, {} connections",
            grouped(received.requests_refused),
            grouped(received.refused_connections)
        ),
        format!("wire bytes  {}", grouped(received.wire_bytes)),
        format!("service     {}", received.resource.get("service.name").map_or("–", String::as_str)),
    ];
    let metrics = &received.metrics;
    lines.extend(metrics.counters.iter().map(|(name, total)| format!("counter     {name} = {total}")));
    lines.extend(
        metrics.histogram_counts.iter().map(|(name, count)| format!("histogram   {name}: {}", grouped(*count))),
    );
    lines.extend(metrics.summary_counts.iter().map(|(name, count)| format!("summary     {name}: {}", grouped(*count))));
    lines.extend(received.doubts().iter().map(|what| format!("incomplete  {what}")));
    lines.extend(received.last_refused_connection.iter().map(|why| format!("refused     a connection: {why}")));
    lines.extend(trees.example.iter().map(|example| format!("not a tree  {example}")));
    lines.join("\n") + "\n"
}

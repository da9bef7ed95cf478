//! Clients at a receiver that asks for certificates: one that it must accept, and several that it must refuse.

use std::path::Path;
use std::time::Duration;

use crate::experiment::mode::{self, Export, Mode, Tls, UnknownMode};
use crate::experiment::units::Rate;
use crate::lab::certificates::Certificates;
use crate::lab::lane::LOOPBACK;
use crate::record::claims::TlsAttempt;
use crate::record::pipeline::Batching;
use crate::sink::{ReceiverConfig, Sink, TreeShape};
use crate::studies::pipeline::emitter::{self, EmitRequest};
use crate::sut::telemetry::{ClientTls, Destination};

/// Longest time that the export of a refused client may take, retries included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Clients send spans to a receiver that asks for a certificate: first one with the right certificate, then unauthorised ones.
///
/// # Errors
/// When certificates, sink or clients cannot be set up; a refused client is no error.
pub async fn tls_attempts(executable: &Path) -> Result<Vec<TlsAttempt>, String> {
    let (certificates, unauthorised) = Certificates::with_unauthorised_clients().map_err(|e| e.to_string())?;
    let sink = Sink::start().map_err(|e| e.to_string())?;
    let authorised = [("the right certificate", certificates.client.clone())].map(|client| (client, false));
    let mut attempts = Vec::new();
    for ((shows, client), unauthorised) in authorised.into_iter().chain(unauthorised.map(|client| (client, true))) {
        let any_tree = TreeShape::new(&[(emitter::SPAN, None)], None);
        let reception =
            ReceiverConfig { tls: Some(certificates.server.clone()), ..ReceiverConfig::at(LOOPBACK, any_tree) };
        let receiver = sink.listen(reception).map_err(|e| e.to_string())?;
        let request = few_spans(receiver.endpoint(), client).map_err(|e| e.to_string())?;
        let emitted = emitter::launched(executable, &request).await.map_err(|e| e.to_string())?;
        let seen = receiver.received();
        attempts.push(TlsAttempt {
            shows: shows.into(),
            unauthorised,
            ended: emitted.spans,
            received: seen.spans,
            refused_connections: seen.refused_connections,
            refused_connection: seen.last_refused_connection,
        });
    }
    Ok(attempts)
}

/// A few spans to `endpoint`.
fn few_spans(endpoint: String, client: ClientTls) -> Result<EmitRequest, UnknownMode> {
    let mode = mode::named("traces")?;
    // The mutual mode requires a certificate, which one of the clients lacks.
    let tls = if client.identity.is_some() { Tls::Mutual } else { Tls::None };
    let export = Export { tls, timeout: Some(EXPORT_TIMEOUT), ..mode.export };
    let batching = Batching { queue: 2_048, batch: 512, delay: Duration::from_secs(1) };
    let destination = Destination { endpoint: Some(endpoint), tls: Some(client) };
    Ok(EmitRequest::new(Mode { export, ..mode }, batching, destination, Rate::A_THOUSAND, Duration::from_millis(20)))
}

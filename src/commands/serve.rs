//! `otelbench serve`.

use std::time::Duration;

use tokio::net::TcpListener;

use super::{Failure, signalled, signals};
use crate::cli::ServeOptions;
use crate::experiment::scenario::Endpoint;
use crate::record::account::Account;
use crate::sut::service::{self, Config};
use crate::sut::telemetry::{Destination, Telemetry};

/// Longest wait for requests under way, and for telemetry to be taken out.
const BOUND: Duration = Duration::from_secs(5);

/// Serves orders in one mode until a signal, then drains and flushes.
///
/// # Errors
/// When the address is taken or the mode cannot be put in place; and the signal that ended it.
pub fn run(options: &ServeOptions) -> Result<(), Failure> {
    let ServeOptions { mode, addr, endpoint, .. } = options;
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name(service::THREAD)
        .enable_all()
        .build()
        .map_err(|e| usage(&e))?;
    let listener = runtime
        .block_on(TcpListener::bind(*addr))
        .map_err(|e| Failure::Usage(format!("--addr {addr}: cannot listen there: {e}")))?;
    let bound = listener.local_addr().map_err(|e| usage(&e))?;
    let telemetry =
        Telemetry::install(mode, &Destination::at(endpoint.as_ref().map(Endpoint::as_str))).map_err(|e| usage(&e))?;
    let config = Config { settings: options.service(), payment_service: None };
    let routes = service::router(mode.handlers, &config, telemetry.scrape());
    eprintln!("order service in mode {} on http://{bound}; Ctrl-C stops it", mode.name);

    let (signal, served) = runtime.block_on(async {
        let mut told = signals().map_err(|e| usage(&e))?;
        let mut waiting = told.clone();
        let shutdown = async move {
            signalled(&mut waiting).await;
        };
        let served = service::run(listener, routes, shutdown, BOUND).await;
        Ok((signalled(&mut told).await, served))
    })?;
    if let Err(error) = served {
        eprintln!("warning: {error}");
    }
    tell(&telemetry.shutdown(BOUND));
    Err(Failure::Interrupted(signal))
}

fn tell(account: &Account) {
    if let Some(spans) = account.spans {
        eprintln!("spans: {} ended, {} dropped, {} in failed exports", spans.ended, spans.dropped, spans.failed);
    }
    for message in &account.diagnostics {
        eprintln!("telemetry: {message}");
    }
}

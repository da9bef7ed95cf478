//! Options of `serve`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::experiment::mode::{self, Mode};
use crate::experiment::scenario::Endpoint;
use crate::experiment::service::ServiceSettings;
use crate::experiment::units::parse_duration;

/// `otelbench serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeOptions {
    /// Telemetry mode
    #[arg(long, default_value = "full", value_parser = mode::named)]
    pub mode: Mode,
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub addr: SocketAddr,
    /// OTLP/gRPC collector [default: the one the `OTEL_*` variables name, or the SDK's]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<Endpoint>,
    /// Simulated payment duration
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_duration)]
    payment_delay: Duration,
}

impl ServeOptions {
    /// The settings of the service.
    pub fn service(&self) -> ServiceSettings {
        ServiceSettings { payment_delay: self.payment_delay, ..ServiceSettings::default() }
    }
}

const EXAMPLES: &str = "\
Examples:
  otelbench serve --mode full --addr 127.0.0.1:3000 --endpoint http://localhost:4317
  curl -X POST http://127.0.0.1:3000/order \\
    -d '{\"user\":\"ada\",\"items\":[\"tea\"],\"quantity\":2,\"amount\":9.5}'";

//! Options of `sink`.

use std::net::SocketAddr;

use clap::Args;

use super::named;
use crate::experiment::fault::Fault;
use crate::experiment::scenario::Format;

/// `otelbench sink`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SinkOptions {
    /// Address to listen on, for OTLP/gRPC and OTLP/HTTP alike
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    pub addr: SocketAddr,
    /// Fault to show, and when, as below. Can be repeated
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<Fault>,
    /// Format of the report at the end
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    pub format: Format,
}

const EXAMPLES: &str = "\
Faults are written [SIGNAL/]KIND[:ARG][@FROM[..UNTIL]], the times from when it listens; SIGNAL is traces, metrics or logs:
  down                    the port is closed, and connections are cut
  slow:TIME               answers come later
  hang                    requests are read and never answered
  reject:unavailable      requests are refused as by a collector that is overloaded
  reject:exhausted[,retry=TIME]  ... or that asks to slow down
  partial:N%              that share of every request is rejected
  reset[:N%]              the connection is cut in the middle of the payload
  limit:SIZE              larger messages are refused

Examples:
  otelbench sink --addr 127.0.0.1:4317 --format json
  otelbench sink --fault down@10s..20s
  otelbench sink --fault slow:500ms --fault metrics/limit:64KiB
  otelbench sink --fault reject:exhausted,retry=200ms@5s..8s --fault reset:10%@8s

Stop it with Ctrl-C; it then prints what it received.";

//! Options of `load`.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri};

use super::named;
use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::Pacing;
use crate::experiment::placement::IdleCores;
use crate::experiment::scenario::{Format, Transport};
use crate::experiment::units::{Rate, RateError, parse_positive_duration};

/// How many requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As many as the arrivals make at this rate, or by themselves.
    Rate(Rate),
    /// As many as the connections allow.
    Max,
}

/// `otelbench load`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LoadOptions {
    /// Target, such as <http://127.0.0.1:3000/healthz>
    pub url: Uri,
    /// Requests per second, or max: as fast as the connections allow; ramp and steps bring their own [default: 1000]
    #[arg(long, value_name = "N|max", allow_negative_numbers = true, value_parser = rate_or_max)]
    pub rps: Option<Pace>,
    /// Length of the load
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_positive_duration)]
    pub duration: Duration,
    /// Keep-alive connections
    #[arg(long, value_name = "N", default_value = "16")]
    pub connections: NonZeroUsize,
    /// Generator threads, which share the connections [default: one per 50000 requests per second, on at most half the cores]
    #[arg(long, value_name = "N")]
    pub shards: Option<NonZeroUsize>,
    /// Arrival process, as `run --help` lists them
    #[arg(long, value_name = "PROCESS", default_value = "constant")]
    pub arrivals: Arrivals,
    /// Speak HTTP/2 without TLS, with prior knowledge (h2c)
    #[arg(long)]
    pub http2: bool,
    /// Requests that each HTTP/2 connection carries at a time [default: 1]
    #[arg(long, value_name = "N")]
    pub streams: Option<NonZeroUsize>,
    /// How the generator waits for the next arrival; coarse clumps requests to 1 ms
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = named::<Pacing>(&["auto", "timer", "spin", "coarse"]))]
    pub pacing: Pacing,
    /// Whether idle cores sleep, or are kept awake by threads of the lowest class
    #[arg(long, value_name = "WHAT", default_value = "auto", value_parser = named::<IdleCores>(&["auto", "sleep", "awake"]))]
    pub idle_cores: IdleCores,
    /// How requests reach the target; direct is for run alone
    #[arg(long, value_name = "HOW", default_value = "tcp", value_parser = named::<Transport>(&["tcp", "direct"]))]
    pub transport: Transport,
    /// Method of the requests [default: GET, or POST with a body]
    #[arg(long)]
    pub method: Option<Method>,
    /// Header of the requests, such as 'content-type: application/json'. Can be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// Body of the requests
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub body: String,
    /// Longest time from writing a request to the end of its answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    pub timeout: Duration,
    /// Seed of random arrivals
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// Format of the report on stdout
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    pub format: Format,
}

const EXAMPLES: &str = "\
Examples:
  otelbench load http://127.0.0.1:3000/healthz --rps 5000 --duration 30s
  otelbench load http://127.0.0.1:3000/order --rps 2000 --arrivals poisson \\
    --body '{\"user\":\"ada\",\"items\":[\"tea\"],\"quantity\":2,\"amount\":9.5}'
  otelbench load http://127.0.0.1:3000/healthz --rps max --connections 32 --format json
  otelbench load http://127.0.0.1:3000/healthz --http2 --connections 2 --streams 50";

fn rate_or_max(text: &str) -> Result<Pace, String> {
    match text {
        "max" => Ok(Pace::Max),
        number => number.parse().map(Pace::Rate).map_err(|e: RateError| format!("{e}, or max")),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
    });
    match parsed {
        None => Err("write a header as 'name: value'".into()),
        Some((name, _)) if name == "host" || name == "content-length" || name == "transfer-encoding" => {
            Err(format!("{name} is set from the target and the body"))
        }
        Some(header) => Ok(header),
    }
}

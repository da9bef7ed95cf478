//! Options of `load`.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri};

use super::named;
use crate::commands::Failure;
use crate::commands::load::{Assignment, Pace};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::Pacing;
use crate::experiment::placement::IdleCores;
use crate::experiment::scenario::{Format, Transport};
use crate::experiment::units::{RateError, parse_positive_duration};

/// `otelbench load`.
#[derive(Debug, Args)]
#[command(after_help = LOAD_EXAMPLES)]
pub struct LoadArgs {
    /// The target, such as <http://127.0.0.1:3000/healthz>
    url: Uri,
    /// Requests per second, or max: as fast as the connections allow; ramp and steps bring their own [default: 1000]
    #[arg(long, value_name = "N|max", allow_negative_numbers = true, value_parser = rate_or_max)]
    rps: Option<Pace>,
    /// How long to send
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_positive_duration)]
    duration: Duration,
    /// Keep-alive connections
    #[arg(long, value_name = "N", default_value = "16")]
    connections: NonZeroUsize,
    /// Threads that share them [default: one per 50000 requests per second, on at most half the cores]
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroUsize>,
    /// Arrival process, as `run --help` lists them
    #[arg(long, value_name = "PROCESS", default_value = "constant")]
    arrivals: Arrivals,
    /// Speak HTTP/2 without TLS, with prior knowledge (h2c)
    #[arg(long)]
    http2: bool,
    /// Requests that each HTTP/2 connection carries at a time [default: 1]
    #[arg(long, value_name = "N")]
    streams: Option<NonZeroUsize>,
    /// How the generator waits for the next arrival; coarse clumps to 1 ms
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = named::<Pacing>(&["auto", "timer", "spin", "coarse"]))]
    pacing: Pacing,
    /// What cores do that have no work: sleep, or be kept awake by threads of the lowest class
    #[arg(long, value_name = "WHAT", default_value = "auto", value_parser = named::<IdleCores>(&["auto", "sleep", "awake"]))]
    idle_cores: IdleCores,
    /// What carries the requests; direct is for run alone
    #[arg(long, value_name = "HOW", default_value = "tcp", value_parser = named::<Transport>(&["tcp", "direct"]))]
    transport: Transport,
    /// The request's method [default: GET, or POST with a body]
    #[arg(long)]
    method: Option<Method>,
    /// A header, such as 'content-type: application/json'; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The request's body
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    body: String,
    /// Time a request may take from when it was written
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    timeout: Duration,
    /// Seed of random arrivals
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = named::<Format>(&["table", "json"]))]
    format: Format,
}

const LOAD_EXAMPLES: &str = "\
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

impl LoadArgs {
    /// What the flags ask for.
    ///
    /// # Errors
    /// A usage error where the flags contradict each other.
    pub fn into_assignment(self) -> Result<Assignment, Failure> {
        if self.transport == Transport::Direct {
            let why = "only `otelbench run` has its service at hand to call; a URL is loaded over tcp";
            return Err(Failure::Usage(format!("--transport direct: {why}")));
        }
        let streams = match (self.http2, self.streams) {
            (false, Some(n)) => {
                let why = "an HTTP/1.1 connection carries one request at a time; add --http2, or raise --connections";
                return Err(Failure::Usage(format!("--streams {n}: {why}")));
            }
            (http2, streams) => http2.then(|| streams.map_or(1, NonZeroUsize::get)),
        };
        Ok(Assignment {
            url: self.url,
            rps: self.rps,
            duration: self.duration,
            connections: self.connections.get(),
            shards: self.shards.map(NonZeroUsize::get),
            idle_cores: self.idle_cores,
            streams,
            arrivals: self.arrivals,
            pacing: self.pacing,
            method: self.method.unwrap_or(if self.body.is_empty() { Method::GET } else { Method::POST }),
            headers: self.header,
            body: self.body,
            timeout: self.timeout,
            seed: self.seed,
            format: self.format,
        })
    }
}

//! `otelbench load`: the load generator alone, against any HTTP target.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use nix::sys::resource::{Resource, getrlimit};

use super::{Failure, put, signalled, signals};
use crate::arrivals::Arrivals;
use crate::generator::{Client, Generator, Load, Pacing, Played, Quantiles, Requests, Target, Verdict};
use crate::scenario::Format;
use crate::units::{Rate, grouped};

/// Descriptors that this program needs beside its connections.
const OWN_DESCRIPTORS: u64 = 32;

/// What to send where, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// The target.
    pub url: Uri,
    /// Requests per second; `None` for as fast as the connections allow.
    pub rate: Option<Rate>,
    /// How long arrivals are due.
    pub duration: Duration,
    /// Keep-alive connections.
    pub connections: usize,
    /// Arrival process.
    pub arrivals: Arrivals,
    /// How to wait for the next arrival.
    pub pacing: Pacing,
    /// The request's method.
    pub method: http::Method,
    /// Headers beside `host` and `content-length`.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The request's body.
    pub body: String,
    /// Time a request may take from when it was written.
    pub timeout: Duration,
    /// Seeds random arrivals.
    pub seed: u64,
    /// What to print.
    pub format: Format,
}

/// Puts the load on, and reports on it; a signal cuts it short.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(order: &Order) -> Result<(), Failure> {
    let addr = resolve(&order.url)?;
    enough_descriptors(order.connections)?;
    let failed = |error: std::io::Error| Failure::Invalid(format!("cannot put load on {addr}: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)?;
    let target = Target {
        addr,
        requests: Arc::new(Constant(request(order))),
        connections: order.connections,
        client: Client::Raw,
        pacing: order.pacing,
        // Where the target runs is not known here.
        cores: Vec::new(),
        timeout: order.timeout,
    };
    let (played, signal) = runtime.block_on(async {
        let mut told = signals().map_err(failed)?;
        let generator = Generator::start(target).await.map_err(failed)?;
        let playing = play(&generator, order);
        tokio::pin!(playing);
        tokio::select! {
            played = &mut playing => Ok((played.map_err(failed)?, None)),
            signal = signalled(&mut told) => {
                generator.cut_short();
                Ok((playing.await.map_err(failed)?, Some(signal)))
            }
        }
    })?;
    match order.format {
        Format::Json => {
            let json = serde_json::to_string_pretty(&played).map_err(|e| Failure::Usage(e.to_string()))?;
            put(&format!("{json}\n"))?;
        }
        Format::Table | Format::Markdown => put(&in_words(&played))?,
    }
    match signal {
        Some(signal) => Err(Failure::Interrupted(signal)),
        None if played.validity.verdict == Verdict::Invalid => {
            Err(Failure::Invalid(format!("the measurement is invalid: {}", played.validity.causes.join("; "))))
        }
        None => Ok(()),
    }
}

async fn play(generator: &Generator, order: &Order) -> std::io::Result<Played> {
    match order.rate {
        None => generator.saturate(order.duration).await,
        Some(rate) => {
            let (arrivals, duration) = (order.arrivals.clone(), order.duration);
            generator.play(Load { arrivals, rate, duration, seed: order.seed, first_seq: 0 }).await
        }
    }
}

/// The same request every time.
struct Constant(Vec<u8>);

impl Requests for Constant {
    fn template(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn number(&self, _: u64, _: &mut [u8]) {}
}

/// The request as it goes over the wire.
fn request(order: &Order) -> Vec<u8> {
    let path = order.url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let host = order.url.authority().map_or("", http::uri::Authority::as_str);
    let mut request = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", order.method).into_bytes();
    for (name, value) in &order.headers {
        request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    if !order.body.is_empty() {
        request.extend(format!("content-length: {}\r\n", order.body.len()).into_bytes());
    }
    request.extend([b"\r\n", order.body.as_bytes()].concat());
    request
}

fn resolve(url: &Uri) -> Result<SocketAddr, Failure> {
    let (Some("http"), Some(host)) = (url.scheme_str(), url.host()) else {
        return Err(Failure::Usage(format!("`{url}` cannot be loaded; write it as http://127.0.0.1:3000/order")));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = (host, url.port_u16().unwrap_or(80)).to_socket_addrs();
    let not_found = |why: &str| Failure::Usage(format!("`{url}`: the host {host} has no address: {why}"));
    found.map_err(|e| not_found(&e.to_string()))?.next().ok_or_else(|| not_found("the resolver knows none"))
}

/// Refuses what the open-file limit cannot carry, before anything is opened.
fn enough_descriptors(connections: usize) -> Result<(), Failure> {
    // Where the limit cannot be read, opening the connections will tell.
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let needed = connections as u64 + OWN_DESCRIPTORS;
    if needed <= limit {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--connections {connections}: this needs {needed} open files and the limit is {limit}; raise it with `ulimit -n {needed}`"
    )))
}

fn in_words(played: &Played) -> String {
    let (counts, rate) = (&played.load, &played.rate);
    let asked = rate.asked.map_or_else(|| "as fast as possible".into(), |asked| format!("{asked} asked"));
    let mut lines = vec![
        format!("rate       {:.1} requests per second achieved, {asked}", rate.achieved),
        format!("completed  {} of {} scheduled", grouped(counts.completed), grouped(counts.scheduled)),
    ];
    lines.extend(counts.failed.iter().map(|(class, n)| format!("failed     {} {class}", grouped(*n))));
    for (what, n) in [
        ("timed out", counts.timed_out),
        ("missed", counts.missed),
        ("unsent", counts.unsent),
        ("in flight", counts.in_flight),
    ] {
        if n > 0 {
            lines.push(format!("{what:<10} {}", grouped(n)));
        }
    }
    lines.push(format!("{:<10} {:>10} {:>10} {:>10} {:>10} {:>10}", "µs", "p50", "p90", "p99", "p99.9", "max"));
    lines.push(quantiles("response", &played.response_us));
    lines.push(quantiles("service", &played.service_us));
    lines.push(quantiles("lateness", &played.lateness_us));
    lines.extend(played.validity.causes.iter().map(|cause| format!("! {cause}")));
    lines.join("\n") + "\n"
}

fn quantiles(name: &str, of: &Quantiles) -> String {
    let cell = |value: Option<f64>| value.map_or_else(|| "–".into(), |us| format!("{us:.1}"));
    let cells = [of.p50, of.p90, of.p99, of.p999, of.max].map(|value| format!("{:>10}", cell(value)));
    format!("{name:<10} {}", cells.join(" "))
}

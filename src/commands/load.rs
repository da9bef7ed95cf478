//! `otelbench load`: the load generator alone, against any HTTP target.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::{Failure, enough_descriptors, enough_ports, put, put_json, signalled, signals};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::{Pacing, shards};
use crate::experiment::placement::{IdleCores, Pinning, Placement};
use crate::experiment::scenario::{Format, TwoRates};
use crate::experiment::units::{Rate, grouped};
use crate::generator::{Client, Constant, Generator, Load, Target};
use crate::lab::progress;
use crate::os::cores;
use crate::os::cores::KeptAwake;
use crate::record::load::{LoadResult, Quantiles, Verdict};

/// How many requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As many as the arrivals make at this rate, or by themselves.
    Rate(Rate),
    /// As many as the connections allow.
    Max,
}

/// What to send where, and how.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The target.
    pub url: Uri,
    /// Requests per second; `None` where nothing was said.
    pub rps: Option<Pace>,
    /// How long arrivals are due.
    pub duration: Duration,
    /// Keep-alive connections.
    pub connections: usize,
    /// Threads that share them; `None` for what the rate needs.
    pub shards: Option<usize>,
    /// What cores do that have no work.
    pub idle_cores: IdleCores,
    /// HTTP/2 with so many requests at a time on each connection; `None` for HTTP/1.1.
    pub streams: Option<usize>,
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
pub fn run(assignment: &Assignment) -> Result<(), Failure> {
    let pace = pace(assignment)?;
    let addr = resolve(&assignment.url)?;
    enough_descriptors(assignment.connections, assignment.connections)?;
    enough_ports(assignment.connections)?;
    let failed = |error: std::io::Error| Failure::Invalid(format!("cannot put load on {addr}: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)?;
    let cores = cores::allowed_cores();
    let peak = match pace {
        Pace::Rate(rate) => Some(assignment.arrivals.peak(rate)),
        Pace::Max => None,
    };
    let shards = assignment.shards.unwrap_or_else(|| shards(peak, cores.len()));
    // Where the target runs is not known here: it is left to the scheduler, and taken to need one core.
    let placement = Placement::of(Pinning::None, assignment.idle_cores, &cores, shards, 1);
    let _awake = KeptAwake::on(&placement.awake).map_err(failed)?;
    let target = Target {
        requests: Arc::new(Constant(request(assignment))),
        connections: assignment.connections,
        shards,
        client: assignment.streams.map_or(Client::Raw(addr), |streams| Client::Http2 { addr, streams }),
        pacing: assignment.pacing,
        may_spin: placement.spare,
        cores: placement.generator,
        timeout: assignment.timeout,
    };
    let (played, signal) = runtime.block_on(async {
        let mut told = signals().map_err(failed)?;
        let generator = Generator::start(target).await.map_err(failed)?;
        let playing = play(&generator, assignment, pace);
        tokio::pin!(playing);
        tokio::select! {
            played = &mut playing => Ok((played.map_err(failed)?, None)),
            signal = signalled(&mut told) => {
                generator.cut_short();
                Ok((playing.await.map_err(failed)?, Some(signal)))
            }
            never = progress::pass(format!("load on {addr}"), assignment.duration) => match never {},
        }
    })?;
    match assignment.format {
        Format::Json => put_json(&played)?,
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

/// The pace asked for, or the usual one.
fn pace(assignment: &Assignment) -> Result<Pace, Failure> {
    let arrivals = &assignment.arrivals;
    match assignment.rps {
        Some(Pace::Max) if *arrivals != Arrivals::Constant => Err(Failure::Usage(format!(
            "--rps max and --arrivals {arrivals} contradict each other: as fast as the connections allow, nothing waits to \
             be due; leave --arrivals out, or give --rps a number"
        ))),
        Some(Pace::Rate(rate)) => {
            TwoRates::refuse(Some(rate), arrivals).map_err(|error| Failure::Usage(error.to_string()))?;
            Ok(Pace::Rate(rate))
        }
        Some(Pace::Max) => Ok(Pace::Max),
        None => Ok(Pace::Rate(Rate::A_THOUSAND)),
    }
}

async fn play(generator: &Generator, assignment: &Assignment, pace: Pace) -> std::io::Result<LoadResult> {
    match pace {
        Pace::Max => generator.saturate(assignment.duration).await,
        Pace::Rate(rate) => {
            let (arrivals, duration) = (assignment.arrivals.clone(), assignment.duration);
            generator.play(Load { arrivals, rate, duration, seed: assignment.seed, first_seq: 0 }).await
        }
    }
}

/// The request as it goes over the wire.
fn request(assignment: &Assignment) -> Vec<u8> {
    let path = assignment.url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let host = assignment.url.authority().map_or("", http::uri::Authority::as_str);
    let mut request = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", assignment.method).into_bytes();
    for (name, value) in &assignment.headers {
        request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    if !assignment.body.is_empty() {
        request.extend(format!("content-length: {}\r\n", assignment.body.len()).into_bytes());
    }
    request.extend([b"\r\n", assignment.body.as_bytes()].concat());
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

fn in_words(played: &LoadResult) -> String {
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

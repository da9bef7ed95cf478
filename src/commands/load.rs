//! `otelbench load`: the load generator alone, against any HTTP target.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::sync::Arc;

use http::{Method, Uri};

use super::{Failure, enough_descriptors, enough_ports, put, put_json, signalled, signals};
use crate::cli::{LoadOptions, Pace};
use crate::experiment::arrivals::Arrivals;
use crate::experiment::generator::shards;
use crate::experiment::placement::{Pinning, Placement};
use crate::experiment::scenario::{Format, Transport, TwoRates};
use crate::experiment::units::{Rate, grouped};
use crate::generator::{Client, Constant, Generator, Load, Target};
use crate::lab::progress;
use crate::os::cores;
use crate::os::cores::KeptAwake;
use crate::record::load::{LoadResult, Quantiles};

/// Puts the load on, and reports on it; a signal cuts it short.
///
/// # Errors
/// As the contract's exit codes have it.
pub fn run(options: &LoadOptions) -> Result<(), Failure> {
    let (pace, client) = (pace(options)?, client(options)?);
    let addr = resolve(&options.url)?;
    let connections = options.connections.get();
    enough_descriptors(connections, connections)?;
    enough_ports(connections)?;
    let failed = |error: std::io::Error| Failure::Invalid(format!("cannot put load on {addr}: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)?;
    let cores = cores::allowed_cores();
    let peak = match pace {
        Pace::Rate(rate) => Some(options.arrivals.peak(rate)),
        Pace::Max => None,
    };
    let shards = options.shards.map_or_else(|| shards(peak, cores.len()), NonZeroUsize::get);
    // Where the target runs is not known here: it is left to the scheduler, and taken to need one core.
    let placement = Placement::of(Pinning::None, options.idle_cores, &cores, shards, 1);
    let _awake = KeptAwake::on(&placement.awake).map_err(failed)?;
    let target = Target {
        requests: Arc::new(Constant(request(options))),
        connections,
        shards,
        client: client(addr),
        pacing: options.pacing,
        may_spin: placement.spare,
        cores: placement.generator,
        timeout: options.timeout,
    };
    let (played, signal) = runtime.block_on(async {
        let mut told = signals().map_err(failed)?;
        let generator = Generator::start(target).await.map_err(failed)?;
        let playing = play(&generator, options, pace);
        tokio::pin!(playing);
        tokio::select! {
            played = &mut playing => Ok((played.map_err(failed)?, None)),
            signal = signalled(&mut told) => {
                generator.cut_short();
                Ok((playing.await.map_err(failed)?, Some(signal)))
            }
            never = progress::pass(format!("load on {addr}"), options.duration) => match never {},
        }
    })?;
    match options.format {
        Format::Json => put_json(&played)?,
        Format::Table | Format::Markdown => put(&in_words(&played))?,
    }
    match signal {
        Some(signal) => Err(Failure::Interrupted(signal)),
        None if played.validity.is_invalid() => {
            Err(Failure::Invalid(format!("the measurement is invalid: {}", played.validity.causes.join("; "))))
        }
        None => Ok(()),
    }
}

/// The pace asked for, or the usual one.
fn pace(options: &LoadOptions) -> Result<Pace, Failure> {
    let arrivals = &options.arrivals;
    match options.rps {
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

/// The client that the flags ask for, once there is an address.
fn client(options: &LoadOptions) -> Result<impl FnOnce(SocketAddr) -> Client + use<>, Failure> {
    if options.transport == Transport::Direct {
        let why = "only `otelbench run` has its service at hand to call; a URL is loaded over tcp";
        return Err(Failure::Usage(format!("--transport direct: {why}")));
    }
    let streams = match (options.http2, options.streams) {
        (false, Some(n)) => {
            let why = "an HTTP/1.1 connection carries one request at a time; add --http2, or raise --connections";
            return Err(Failure::Usage(format!("--streams {n}: {why}")));
        }
        (http2, streams) => http2.then(|| streams.map_or(1, NonZeroUsize::get)),
    };
    Ok(move |addr| streams.map_or(Client::Raw(addr), |streams| Client::Http2 { addr, streams }))
}

async fn play(generator: &Generator, options: &LoadOptions, pace: Pace) -> std::io::Result<LoadResult> {
    match pace {
        Pace::Max => generator.saturate(options.duration).await,
        Pace::Rate(rate) => {
            let (arrivals, duration) = (options.arrivals.clone(), options.duration);
            generator.play(Load { arrivals, rate, duration, seed: options.seed, first_seq: 0 }).await
        }
    }
}

/// The request as it goes over the wire.
fn request(options: &LoadOptions) -> Vec<u8> {
    let path = options.url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let host = options.url.authority().map_or("", http::uri::Authority::as_str);
    let usual = if options.body.is_empty() { Method::GET } else { Method::POST };
    let method = options.method.as_ref().unwrap_or(&usual);
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
    for (name, value) in &options.header {
        request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    if !options.body.is_empty() {
        request.extend(format!("content-length: {}\r\n", options.body.len()).into_bytes());
    }
    request.extend([b"\r\n", options.body.as_bytes()].concat());
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

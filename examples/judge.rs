//! A trivial server that judges load generators: it timestamps every arrival and reports the deviation from a constant rate.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /`, `POST /order` | a small fixed body; the arrival is timestamped when the request body has been read |
//! | `POST /reset` | forgets all arrivals |
//! | `GET /stats?rate=R` | statistics since the reset, compared with R requests per second; without `rate`, no lateness |
//!
//! The judge does not know when a generator meant to send, so it fits the schedule: the latest one with rate R for which no
//! arrival is early. The fit favours all generators alike: it cannot see a delay that all arrivals share. Lateness also
//! contains the delay of the network and of this thread, which is the same for all. The judge shares no code with otelbench.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Router, serve};
use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Initial capacity of the buffer, in arrivals: 40 s at 100 000 per second.
const ROOM: usize = 4_000_000;
/// Time from the first arrival during which arrivals are counted but not compared with the schedule: some generators open
/// their connections one by one, and the fit would carry that delay through the whole run.
const START_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free port. The address is printed as the first line on stdout
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
}

/// The arrivals since the last reset.
struct Play {
    since: Instant,
    cpu: Duration,
    /// In nanoseconds from `since`; sorted, because a single thread takes the timestamps.
    arrivals: Vec<u64>,
}

thread_local! {
    // Everything runs on one thread.
    static PLAY: RefCell<Play> =
        RefCell::new(Play { since: Instant::now(), cpu: cpu(), arrivals: Vec::with_capacity(ROOM) });
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Args::parse().addr).await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    let routes = Router::new()
        .route("/", get(arrive))
        .route("/order", post(arrive))
        .route("/reset", post(reset))
        .route("/stats", get(stats));
    // Without it, Nagle's algorithm may delay a response until the last one is acknowledged.
    serve(listener.tap_io(|stream| drop(stream.set_nodelay(true))), routes).await
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux keeps this clock for every process").into()
}

async fn arrive(_: Bytes) -> &'static str {
    PLAY.with_borrow_mut(|play| play.arrivals.push(play.since.elapsed().as_nanos() as u64));
    "ok\n"
}

async fn reset() {
    PLAY.with_borrow_mut(|play| {
        play.arrivals.clear();
        play.since = Instant::now();
        play.cpu = cpu();
    });
}

async fn stats(RawQuery(query): RawQuery) -> Response {
    let rate = query.as_deref().map(|query| query.strip_prefix("rate=").and_then(|rate| rate.parse::<f64>().ok()));
    match rate {
        Some(Some(rate)) if rate > 0.0 => report(Some(rate)).into_response(),
        None => report(None).into_response(),
        Some(_) => (StatusCode::BAD_REQUEST, "rate=R: arrivals per second, above 0\n").into_response(),
    }
}

/// The statistics since the reset, as JSON. Unknown values are null.
fn report(rate: Option<f64>) -> String {
    PLAY.with_borrow(|play| {
        let cpu = cpu().saturating_sub(play.cpu);
        let Play { arrivals, .. } = play;
        let seconds = arrivals.last().zip(arrivals.first()).map_or(0.0, |(last, first)| (last - first) as f64 / 1e9);
        let judged = settled(arrivals);
        // Simultaneous arrivals get timestamps about 5 µs apart, the time this thread takes to answer one. The share of
        // gaps below 5 µs therefore depends on the server's speed, the share below 20 µs on the generator.
        // 0/0 is NaN, which serde_json writes as null.
        json!({
            "count": arrivals.len(),
            "duration_s": seconds,
            "per_second": arrivals.len().saturating_sub(1) as f64 / seconds,
            "cpu_us_per_request": cpu.as_secs_f64() * 1e6 / arrivals.len() as f64,
            "lateness_us": rate.map(|rate| lateness(judged, rate)),
            "gaps_below": { "5_us": gaps_below(judged, 5), "20_us": gaps_below(judged, 20) },
        })
        .to_string()
    })
}

/// The arrivals after the start-up.
fn settled(arrivals: &[u64]) -> &[u64] {
    let from = arrivals.first().map_or(0, |first| first + START_UP.as_nanos() as u64);
    &arrivals[arrivals.partition_point(|at| *at < from)..]
}

/// Lateness of the arrivals, in microseconds, against the latest schedule of `rate` for which none is early.
fn lateness(arrivals: &[u64], rate: f64) -> Value {
    // Lateness against a schedule that starts at 0; the smallest value is the start of the fitted schedule.
    let mut late: Vec<f64> =
        arrivals.iter().enumerate().map(|(i, at)| (*at as f64 - i as f64 * 1e9 / rate) / 1e3).collect();
    late.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * late.len() as f64).ceil() as usize;
        late.get(rank.saturating_sub(1)).map(|value| value - late[0])
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) })
}

/// The share of gaps between consecutive arrivals that are shorter than `us` microseconds.
fn gaps_below(arrivals: &[u64], us: u64) -> f64 {
    let short = arrivals.windows(2).filter(|pair| pair[1] - pair[0] < us * 1_000).count();
    short as f64 / arrivals.len().saturating_sub(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_the_delay_added_to_a_constant_rate() {
        let constant: Vec<u64> = (0..1_000).map(|i| 7_777 + i * 100_000).collect();
        assert_eq!(lateness(&constant, 1e4), json!({ "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0 }));
        // Ten arrivals at once, when the last of them is due.
        let clumped: Vec<u64> = constant.chunks(10).flat_map(|ten| [ten[9]; 10]).collect();
        assert_eq!(lateness(&clumped, 1e4), json!({ "p50": 400.0, "p90": 800.0, "p99": 900.0, "max": 900.0 }));
        // Against twice the rate, the arrivals fall behind by half of the run.
        assert_eq!(lateness(&constant, 2e4)["max"], 49_950.0);
        assert_eq!(lateness(&[], 1e4)["max"], Value::Null);
    }

    #[test]
    fn gaps_and_start_up_exclude_their_upper_bounds() {
        assert!((gaps_below(&[0, 4_999, 9_999], 5) - 0.5).abs() < 1e-12);
        assert_eq!(settled(&[5, 1_000_000_004, 1_000_000_005]), [1_000_000_005]);
    }
}

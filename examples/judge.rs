//! A trivial server that judges load generators: it stamps every arrival and tells how far from a constant rate they lay.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /`, `POST /order` | a small fixed body; the handler's entry, with the body read, is the arrival |
//! | `POST /reset` | forgets everything so far |
//! | `GET /stats?rate=R` | what arrived since the reset, held against R per second; without `rate`, no lateness |
//!
//! No generator tells the judge when it meant to send, so the schedule is fitted: the latest one of rate R for which no
//! arrival is early. The fit is generous to every generator alike: a delay that all arrivals share is not seen. What the
//! wire and this one thread add is in the lateness too, and the same for all. The judge shares no code with otelbench.

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

/// Arrivals there is room for before the buffer has to grow: 40 s at 100 000 per second.
const ROOM: usize = 4_000_000;
/// From the first arrival on, time whose arrivals are counted but not held against a schedule: some generators open
/// their connections one after another, and would be judged by that for the rest of the play.
const START_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one. The address is the first line on stdout
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
}

/// What one generator did.
struct Play {
    since: Instant,
    cpu: Duration,
    /// In nanoseconds from `since`; in order, because one thread stamps.
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
    // Without it an answer may wait for the acknowledgement of the last.
    serve(listener.tap_io(|stream| drop(stream.set_nodelay(true))), routes).await
}

/// The process's CPU time so far.
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

/// What arrived since the reset. What cannot be told is null.
fn report(rate: Option<f64>) -> String {
    PLAY.with_borrow(|play| {
        let cpu = cpu().saturating_sub(play.cpu);
        let Play { arrivals, .. } = play;
        let seconds = arrivals.last().zip(arrivals.first()).map_or(0.0, |(last, first)| (last - first) as f64 / 1e9);
        let judged = settled(arrivals);
        // Arrivals of one moment are stamped as far apart as this thread takes to answer one, 5 µs or so: below 5 µs
        // the share varies with the server's speed, below 20 µs it is the generator's.
        // A quotient of nothing by nothing is not a number, which JSON shows as null.
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

/// How late arrivals were, in microseconds, against the latest schedule of `rate` for which none is early.
fn lateness(arrivals: &[u64], rate: f64) -> Value {
    // How late each is against a schedule that begins at 0; the earliest of them is where the fitted one begins.
    let mut late: Vec<f64> =
        arrivals.iter().enumerate().map(|(i, at)| (*at as f64 - i as f64 * 1e9 / rate) / 1e3).collect();
    late.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * late.len() as f64).ceil() as usize;
        late.get(rank.saturating_sub(1)).map(|value| value - late[0])
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) })
}

/// The share of gaps between neighbours that are shorter than `us` microseconds.
fn gaps_below(arrivals: &[u64], us: u64) -> f64 {
    let short = arrivals.windows(2).filter(|pair| pair[1] - pair[0] < us * 1_000).count();
    short as f64 / arrivals.len().saturating_sub(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_what_was_added_to_a_constant_rate() {
        let constant: Vec<u64> = (0..1_000).map(|i| 7_777 + i * 100_000).collect();
        assert_eq!(lateness(&constant, 1e4), json!({ "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0 }));
        // Ten arrivals in one moment, that of the last.
        let clumped: Vec<u64> = constant.chunks(10).flat_map(|ten| [ten[9]; 10]).collect();
        assert_eq!(lateness(&clumped, 1e4), json!({ "p50": 400.0, "p90": 800.0, "p99": 900.0, "max": 900.0 }));
        // A schedule twice as fast was missed by half of the play.
        assert_eq!(lateness(&constant, 2e4)["max"], 49_950.0);
        assert_eq!(lateness(&[], 1e4)["max"], Value::Null);
    }

    #[test]
    fn gaps_and_start_up_end_where_they_say() {
        assert!((gaps_below(&[0, 4_999, 9_999], 5) - 0.5).abs() < 1e-12);
        assert_eq!(settled(&[5, 1_000_000_004, 1_000_000_005]), [1_000_000_005]);
    }
}

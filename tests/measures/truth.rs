//! The generator's clock against servers whose own stamps are known: a known delay, a known stall, a known rate.
//! `--nocapture` prints what was found.

#![allow(clippy::print_stdout, reason = "what was found is for reading")]

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::alone;
use crate::common::server::{Deed, played, serve, target};
use otelbench::os::cores::{KeptAwake, allowed_cores};

/// Longest way there and back, in microseconds. It is some fifty on a quiet machine; what is told apart here is a clock
/// that is right from one that starts, stops or ticks elsewhere, on a machine that may be busy.
const LONGEST_WAY: f64 = if cfg!(debug_assertions) { 10_000.0 } else { 1_000.0 };

/// Share by which a quantile of the stall may be off: what a busy machine adds to one second.
const STALL_TOLERANCE: f64 = 0.1;

/// The median of what is reported is the median of what the server took, by its own stamps, and the way there and back.
#[test]
fn a_known_delay_is_reported_as_the_server_stamped_it() {
    let _turn = alone();
    // To wake a core takes as long as the bound that the clock itself keeps, and is no part of it.
    let _awake = KeptAwake::on(&allowed_cores()).unwrap();
    for delay in [1, 5, 20].map(Duration::from_millis) {
        let stamps = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&stamps);
        let addr = serve(move |_| {
            let read = Instant::now();
            // Sleeping is late by as much as is to be measured; the last stretch is spent looking at the clock.
            thread::sleep(delay.saturating_sub(Duration::from_micros(300)));
            while read.elapsed() < delay {
                std::hint::spin_loop();
            }
            noted.lock().unwrap().push(read.elapsed());
            Deed::Answer
        });
        // At this rate no answer is due when a request is.
        let played = played(target(addr, 4), 130.0, Duration::from_millis(1_500));
        assert_eq!(played.load.completed, 195);
        let mut stamps = stamps.lock().unwrap().clone();
        stamps.sort_unstable();
        let served = stamps[stamps.len() / 2 - 1].as_secs_f64() * 1e6;
        let reported = played.service_us.p50.unwrap();
        // The histogram holds 0.1 % of any value.
        assert!(reported >= served * 0.999, "{reported} µs reported of {served}");
        let way = reported - served;
        println!("delay of {served:.1} µs by the server's stamps: p50 {reported:.1} µs, {way:.1} µs more");
        assert!(way <= LONGEST_WAY, "{way} µs more than the server's {served}");
    }
}

/// The server freezes for a second at its first request, while 1 000 fall due, one a millisecond. Request i is answered when
/// it thaws, so it took 1 s - i ms: the quantile q of that is q s.
#[test]
fn a_known_stall_is_reported_whole() {
    let _turn = alone();
    let began = Mutex::new(None);
    let addr = serve(move |_| {
        let thaws = *began.lock().unwrap().get_or_insert_with(Instant::now) + Duration::from_secs(1);
        thread::sleep(thaws.saturating_duration_since(Instant::now()));
        Deed::Answer
    });
    let played = played(target(addr, 16), 1_000.0, Duration::from_secs(1));
    assert_eq!(played.load.completed, 1_000, "{:?}", played.load);
    let response = &played.response_us;
    for (quantile, reported) in [(0.5, response.p50), (0.9, response.p90), (0.99, response.p99), (0.999, response.p999)]
    {
        let error = reported.unwrap() / (quantile * 1e6) - 1.0;
        println!("stall of 1 s: quantile {quantile} is {:.1} ms, {:+.2} %", reported.unwrap() / 1e3, error * 100.0);
        assert!((-0.005..=STALL_TOLERANCE).contains(&error), "p{quantile}: {reported:?} is {:.2} % off", error * 100.0);
    }
}

#[test]
fn the_rate_offered_is_the_rate_asked_for_also_when_it_is_fractional() {
    let _turn = alone();
    let addr = serve(|_| Deed::Answer);
    let played = played(target(addr, 4), 333.3, Duration::from_secs(10));
    assert_eq!(played.load.scheduled, 3_333);
    assert_eq!(played.load.completed, 3_333, "{:?}", played.load);
    let error = played.rate.offered / 333.3 - 1.0;
    println!("333.3 requests per second over 10 s: {:.4} offered, {:+.4} %", played.rate.offered, error * 100.0);
    assert!(error.abs() <= 1e-4, "{:?}", played.rate);
}

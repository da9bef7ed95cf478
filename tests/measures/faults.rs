//! The fault matrix: the generator names each known fault that is injected, and nothing where there is none. `--nocapture`
//! prints it.
//!
//! On a machine that others use, a stretch may be disturbed beside the fault that was injected. Where the generator says so and a
//! witness confirms it, the stretch is played again; a generator that blames a quiet machine fails the test.

#![allow(clippy::print_stdout, reason = "the matrix is for reading")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::alone;
use crate::common::server::{Deed, play, played, serve, target};
use otelbench::experiment::arrivals::Arrivals;
use otelbench::generator::{Kind, Requests, Target};
use otelbench::record::load::{LoadResult, Validity, ValidityLevel, cause};
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats};

/// Times a stretch is played until the machine is quiet.
const TRIES: usize = 6;
/// Share of the machine in the hands of others from which they may well starve the generator of CPU.
const DISTURBANCE: f64 = 0.1;
/// Clean stretches, of which none may be found fault with.
const CLEAN: usize = 20;

/// Takes its time to make a request, and so has none left to turn to arrivals.
struct Slow;

impl Requests for Slow {
    fn write(&self, _: u64, request: &mut Vec<u8>) -> Kind {
        thread::sleep(Duration::from_millis(8));
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice().clone_into(request);
        Kind::Work
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Calls it, and measures the share of the machine that other processes, or other machines on the same host, had meanwhile:
/// a witness that owes the generator nothing.
fn witnessed<T>(what: impl FnOnce() -> T) -> (T, f64) {
    let taken = || {
        let stat = KernelStats::current().unwrap().total;
        let busy = stat.user + stat.nice + stat.system + stat.steal.unwrap_or(0);
        let own = Process::myself().unwrap().stat().unwrap();
        let ticks = busy.saturating_sub(own.utime + own.stime);
        Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
    };
    let (began, before) = (Instant::now(), taken());
    let made = what();
    let others = taken().saturating_sub(before).as_secs_f64();
    let cores = thread::available_parallelism().unwrap().get() as f64;
    (made, others / (began.elapsed().as_secs_f64() * cores))
}

/// The verdict on a stretch, and whether it rightly blames the machine.
struct Found {
    validity: Validity,
    disturbed: bool,
}

/// The verdict on the first stretch that the machine did not disturb, or on the last.
fn found(play: impl Fn() -> LoadResult) -> Found {
    let tries = (0..TRIES).map(|_| {
        let (played, others) = witnessed(&play);
        assert!(played.load.adds_up(), "{:?}", played.load);
        let blames_the_machine = played.validity.names(cause::STARVED) || played.validity.names(cause::STOLEN);
        Found { validity: played.validity, disturbed: blames_the_machine && others > DISTURBANCE }
    });
    let mut last = None;
    for found in tries {
        if !found.disturbed {
            return found;
        }
        last = Some(found);
    }
    last.unwrap()
}

impl Found {
    /// The names of the causes found, without the machine where it is rightly blamed.
    fn causes(&self) -> Vec<&str> {
        let names = self.validity.causes.iter().filter_map(|cause| cause.split(": ").next());
        names.filter(|name| !self.disturbed || ![cause::STARVED, cause::STOLEN].contains(name)).collect()
    }
}

fn delayed(by: Duration) -> impl Fn(u64) -> Deed {
    move |_| {
        thread::sleep(by);
        Deed::Answer
    }
}

/// One request at a time, each so long.
fn one_by_one(each: Duration) -> impl Fn(u64) -> Deed {
    let turn = Mutex::new(());
    move |_| {
        let _turn = turn.lock().unwrap();
        thread::sleep(each);
        Deed::Answer
    }
}

/// Stands still for a second, from half a second after its first request.
fn standing_still() -> impl Fn(u64) -> Deed {
    let began = Mutex::new(None);
    move |_| {
        let began = *began.lock().unwrap().get_or_insert_with(Instant::now);
        let (stops, goes_on) = (began + ms(500), began + ms(1_500));
        if Instant::now() > stops {
            thread::sleep(goes_on.saturating_duration_since(Instant::now()));
        }
        Deed::Answer
    }
}

/// Does another deed with every tenth request.
fn every_tenth(deed: Deed) -> impl Fn(u64) -> Deed {
    move |n| if n % 10 == 9 { deed } else { Deed::Answer }
}

/// Each fault, what was found, and what should be.
fn matrix() -> Vec<(&'static str, Found, ValidityLevel, Vec<&'static str>)> {
    use ValidityLevel::{Degraded, Invalid};
    let over = |connections, rate, duration: u64, deed: Box<dyn Fn() -> SocketAddr>| {
        found(move || played(target(deed(), connections), rate, ms(duration)))
    };
    let impatient = |connections, rate, deed: fn(u64) -> Deed| {
        found(move || {
            let target = Target { timeout: ms(300), ..target(serve(deed), connections) };
            played(target, rate, ms(600))
        })
    };
    let slow_generator = || {
        let target = Target { requests: Arc::new(Slow), ..target(serve(|_| Deed::Answer), 4) };
        Found { validity: played(target, 500.0, ms(400)).validity, disturbed: false }
    };
    vec![
        ("a generator that has no time", slow_generator(), Invalid, vec![cause::STARVED]),
        (
            "too few connections",
            over(4, 200.0, 1_000, Box::new(|| serve(delayed(ms(50))))),
            Invalid,
            vec![cause::CONNECTION_CAP],
        ),
        (
            "more arrivals than can wait",
            found(|| {
                let target = Target { timeout: ms(300), ..target(serve(delayed(ms(50))), 4) };
                played(target, 20_000.0, ms(1_200))
            }),
            Invalid,
            vec![cause::CONNECTION_CAP, cause::BACKLOG],
        ),
        (
            "a server that works on one request at a time",
            over(16, 200.0, 1_000, Box::new(|| serve(one_by_one(ms(8))))),
            Invalid,
            vec![cause::SLOW],
        ),
        (
            "a server that stands still for a second",
            over(8, 200.0, 4_000, Box::new(|| serve(standing_still()))),
            Degraded,
            vec![cause::STALLED],
        ),
        (
            "a server that falls silent",
            impatient(8, 200.0, |n| if n < 50 { Deed::Answer } else { Deed::Silence }),
            Invalid,
            vec![cause::SILENT],
        ),
        (
            "a server that leaves a few without an answer",
            impatient(32, 500.0, |n| if n % 200 == 99 { Deed::Silence } else { Deed::Answer }),
            Degraded,
            vec![cause::SILENT],
        ),
        (
            "a server that dies",
            over(4, 200.0, 1_000, Box::new(|| serve(|n| if n < 50 { Deed::Answer } else { Deed::Die }))),
            Invalid,
            vec![cause::DEAD],
        ),
        (
            "a server that refuses every tenth",
            over(16, 200.0, 500, Box::new(|| serve(every_tenth(Deed::Status503)))),
            Invalid,
            vec![cause::FAILING],
        ),
        (
            "a server that closes on every tenth",
            over(16, 200.0, 500, Box::new(|| serve(every_tenth(Deed::Close)))),
            Invalid,
            vec![cause::FAILING],
        ),
        (
            "a server that talks nonsense to every tenth",
            over(16, 200.0, 500, Box::new(|| serve(every_tenth(Deed::Garbage)))),
            Invalid,
            vec![cause::FAILING],
        ),
        (
            "a stretch shorter than the gap",
            found(|| {
                let target = Target { shards: 2, ..target(serve(|_| Deed::Answer), 2) };
                play(target, Arrivals::Poisson, 0.001, ms(5))
            }),
            Invalid,
            vec![cause::NOTHING_DUE],
        ),
    ]
}

#[test]
fn every_fault_is_found_and_named_and_nothing_else() {
    let _turn = alone();
    let matrix = matrix();
    println!("| fault injected | verdict | cause named |");
    println!("| --- | --- | --- |");
    for (fault, found, ..) in &matrix {
        println!("| {fault} | {:?} | {} |", found.validity.level, found.validity.causes.join("; "));
    }
    for (fault, found, verdict, causes) in matrix {
        assert_eq!(found.causes(), causes, "{fault}: {:?}", found.validity);
        assert_eq!(found.validity.level, verdict, "{fault}: {:?}", found.validity);
    }
}

#[test]
fn clean_stretches_are_valid() {
    let _turn = alone();
    let clean = || found(|| played(target(serve(|_| Deed::Answer), 16), 500.0, ms(500)));
    let found: Vec<Found> = (0..CLEAN).map(|_| clean()).collect();
    let valid = found.iter().filter(|found| found.validity == Validity::default()).count();
    println!("{valid} of {CLEAN} clean stretches valid");
    for found in found {
        assert_eq!(found.causes(), Vec::<&str>::new(), "{:?}", found.validity);
    }
}

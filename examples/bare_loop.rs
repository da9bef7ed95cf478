//! A minimal open-loop generator: one thread around `epoll_pwait2`, without a runtime and almost without a parser.
//!
//! It is the lower bound for `otelbench load --pacing timer`: both sleep until each arrival, so the difference is the cost of
//! the runtime, the tasks and the counts. It works only with servers whose responses are small and all alike, such as
//! examples/judge.rs. The report has the keys of `otelbench load --format json`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::prctl::set_timerslack;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const BODY: &str = r#"{"user":"u-1","items":["book"],"quantity":1,"amount":9.5}"#;
const LONGEST_NS: u64 = 3_600_000_000_000;
/// More than any response of the judge, in bytes.
const LONGEST_ANSWER: usize = 4096;

#[derive(Debug, Parser)]
struct Args {
    /// Address of the server
    addr: SocketAddr,
    /// Requests per second, evenly spaced
    #[arg(long, default_value = "10000")]
    rps: u64,
    /// Length of the schedule, in seconds
    #[arg(long, default_value = "5")]
    seconds: u64,
    /// Number of keep-alive connections
    #[arg(long, default_value = "16")]
    connections: usize,
}

/// A request in flight.
#[derive(Clone, Copy)]
struct Sent {
    intended: Instant,
    written: Instant,
}

struct Loop {
    request: Vec<u8>,
    connections: Vec<(TcpStream, Option<Sent>)>,
    idle: Vec<usize>,
    waiting: VecDeque<Instant>,
    completed: u64,
    lateness: Histogram<u64>,
    response: Histogram<u64>,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    // The kernel may delay wake-ups by the timer slack, 50 µs by default.
    set_timerslack(1)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut connections = Vec::new();
    for slot in 0..args.connections {
        let stream = TcpStream::connect(args.addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, slot as u64))?;
        connections.push((stream, None));
    }
    let request = format!(
        "POST /order HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        args.addr,
        BODY.len()
    );
    let histogram = || Histogram::new_with_max(LONGEST_NS, 3).expect("an hour is within the library's bounds");
    let mut play = Loop {
        request: request.into_bytes(),
        connections,
        idle: (0..args.connections).collect(),
        waiting: VecDeque::new(),
        completed: 0,
        lateness: histogram(),
        response: histogram(),
    };
    let cpu_before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    play.run(&epoll, args.rps, args.rps * args.seconds)?;
    let cpu_after = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
    let cpu = cpu_after.saturating_sub(Duration::from(cpu_before));
    let report = json!({
        "load": { "completed": play.completed },
        "rate": { "asked": args.rps },
        "lateness_us": quantiles(&play.lateness),
        "response_us": quantiles(&play.response),
        "generator_cpu_us": cpu.as_secs_f64() * 1e6,
    });
    writeln!(io::stdout(), "{report}")
}

impl Loop {
    fn run(&mut self, epoll: &Epoll, rate: u64, arrivals: u64) -> io::Result<()> {
        let start = Instant::now() + Duration::from_millis(2);
        let due = |i: u64| start + Duration::from_nanos(i * 1_000_000_000 / rate);
        let mut next = 0;
        while self.completed < arrivals {
            while next < arrivals && due(next) <= Instant::now() {
                self.waiting.push_back(due(next));
                next += 1;
            }
            while let (Some(slot), false) = (self.idle.last().copied(), self.waiting.is_empty()) {
                self.idle.pop();
                self.send(slot)?;
            }
            let timeout = if next < arrivals { due(next) } else { Instant::now() + Duration::from_secs(1) };
            let mut events = [EpollEvent::empty(); 64];
            for event in wait(epoll, &mut events, timeout.saturating_duration_since(Instant::now()))? {
                // In range: it was registered from a `usize`.
                self.receive(event.data() as usize)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, slot: usize) -> io::Result<()> {
        let Some(intended) = self.waiting.pop_front() else { return Ok(()) };
        let (stream, sent) = &mut self.connections[slot];
        let written = Instant::now();
        *sent = Some(Sent { intended, written });
        stream.write_all(&self.request)
    }

    fn receive(&mut self, slot: usize) -> io::Result<()> {
        let (stream, sent) = &mut self.connections[slot];
        let mut answer = [0; LONGEST_ANSWER];
        let length = match stream.read(&mut answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            read => read?,
        };
        let completed = Instant::now();
        if !answer[..length].starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other("the server closed the connection or sent an unexpected response"));
        }
        if let Some(Sent { intended, written }) = sent.take() {
            let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            self.lateness.saturating_record(ns(written.saturating_duration_since(intended)));
            self.response.saturating_record(ns(completed.saturating_duration_since(intended)));
            self.completed += 1;
            self.idle.push(slot);
        }
        Ok(())
    }
}

/// Waits for events with a time-out in nanoseconds, which `epoll_wait` does not support.
#[expect(unsafe_code, reason = "nix has no epoll_pwait2")]
fn wait<'a>(epoll: &Epoll, events: &'a mut [EpollEvent], timeout: Duration) -> io::Result<&'a [EpollEvent]> {
    let timeout = nix::sys::time::TimeSpec::from_duration(timeout);
    let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
    // SAFETY: the kernel writes at most `room` events into a slice of that length, `EpollEvent` is a transparent
    // `epoll_event`, and `timeout` is only read; both outlive the call. There is no signal mask.
    let ready = unsafe {
        let (events, timeout) = (events.as_mut_ptr().cast(), std::ptr::from_ref(timeout.as_ref()));
        libc::epoll_pwait2(epoll.0.as_raw_fd(), events, room, timeout, std::ptr::null())
    };
    match usize::try_from(ready) {
        Ok(ready) => Ok(&events[..ready]),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let us = |q| histogram.value_at_quantile(q) as f64 / 1e3;
    json!({ "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p999": us(0.999), "max": us(1.0) })
}

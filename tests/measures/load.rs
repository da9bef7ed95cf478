//! `otelbench load` against the order service: what the generator counts is what the service counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::common::{PROGRAM, RPS, Turn, alone, beside_others, otelbench, ran, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use otelbench::generator::THREAD;
use otelbench::record::load::{LoadResult, ValidityLevel};
use procfs::process::Process;

const BODY: &str = r#"{"user":"ada","items":["tea"],"quantity":2,"amount":9.5}"#;

/// Bytes that wait in a pipe. Source: pipe(7).
const PIPE_HOLDS: usize = 65_536;

/// The order service with a Prometheus recorder; it is killed when dropped.
struct Service {
    _turn: Turn,
    child: Child,
    addr: String,
}

impl Service {
    fn start() -> Self {
        let turn = alone();
        let mut child = otelbench("serve --mode metrics --addr 127.0.0.1:0").stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.split("http://").nth(1).unwrap().split(';').next().unwrap().to_owned();
        Self { _turn: turn, child, addr }
    }

    fn load(&self, path: &str, options: &str) -> Command {
        let mut command = otelbench(&format!("load http://{}{path} {options} --format json", self.addr));
        command.args(["--body", BODY]);
        command
    }

    /// Orders that the service has counted.
    fn orders(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let orders = text.lines().find_map(|line| line.strip_prefix("orders_total "));
        orders.map_or(0, |count| count.trim().parse().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn played(text: &str) -> LoadResult {
    let played: LoadResult = serde_json::from_str(text).unwrap();
    assert!(played.load.adds_up(), "{:?}", played.load);
    played
}

#[test]
fn every_request_that_completed_was_counted_by_the_service() {
    let service = Service::start();
    for (options, scheduled) in [
        (format!("--rps {RPS} --duration 500ms"), Some(u64::from(RPS) / 2)),
        (format!("--rps {RPS} --duration 500ms --arrivals poisson --seed 4"), None),
        // Without --rps there is nothing for them to contradict.
        ("--duration 500ms --arrivals ramp:100..300".to_owned(), Some(100)),
        ("--rps max --duration 300ms --connections 4".to_owned(), None),
        (format!("--rps {RPS} --duration 500ms --http2 --connections 2 --streams 8"), Some(u64::from(RPS) / 2)),
        ("--rps max --duration 300ms --http2 --connections 1 --streams 4".to_owned(), None),
    ] {
        let before = service.orders();
        let output = service.load("/order", &options).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let played = played(&stdout(&output));
        assert_eq!(service.orders() - before, played.load.completed, "{options}");
        assert!(played.load.completed > 0);
        assert!(scheduled.is_none_or(|scheduled| played.load.scheduled == scheduled), "{:?}", played.load);
    }
}

#[test]
fn error_statuses_are_counted_as_failures_and_make_the_measurement_invalid() {
    let service = Service::start();
    let output = service.load("/nowhere", "--rps 200 --duration 300ms").output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let played = played(&stdout(&output));
    assert_eq!((played.load.failed["status_4xx"], played.load.completed), (60, 0));
    assert_eq!(played.validity.level, ValidityLevel::Invalid);
}

#[test]
fn sigint_prints_the_partial_report() {
    let service = Service::start();
    let mut child = service.load("/order", "--rps 200 --duration 10m").stdout(Stdio::piped()).spawn().unwrap();
    until(|| service.orders() > 20);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let played = played(&text);
    assert!(played.load.completed > 20 && played.load.scheduled < 200 * 600, "{:?}", played.load);
}

/// The first signal has it print its report, for which there is no room; the second ends it all the same.
#[test]
fn a_second_signal_quits_at_once() {
    let service = Service::start();
    let (unread, mut full) = std::io::pipe().unwrap();
    full.write_all(&vec![b' '; PIPE_HOLDS]).unwrap();
    let mut child = service.load("/order", "--rps 200 --duration 10m").stdout(full).spawn().unwrap();
    until(|| service.orders() > 20);
    let pid = child.id().cast_signed();
    let is_sending = || {
        let tasks = Process::new(pid).unwrap().tasks().unwrap();
        tasks.flatten().any(|task| task.stat().is_ok_and(|stat| stat.comm.starts_with(THREAD)))
    };
    assert!(is_sending());
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    until(|| !is_sending());
    assert!(child.try_wait().unwrap().is_none(), "it has ended, so the second signal shows nothing");
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    until(|| child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(unread);
}

#[test]
fn a_table_is_printed_for_people() {
    let service = Service::start();
    let output = ran(&format!("load http://{}/healthz --rps 100 --duration 200ms", service.addr));
    let table = stdout(&output);
    for words in ["completed  20 of 20 scheduled", "response", "service", "lateness", "p99.9"] {
        assert!(table.contains(words), "{words} is not in:\n{table}");
    }
}

#[test]
fn invalid_targets_and_options_are_refused_with_a_suggestion() {
    let _turn = beside_others();
    for (arguments, says) in [
        ("load https://127.0.0.1:1/", "http://127.0.0.1:3000/order"),
        ("load nowhere", "http://127.0.0.1:3000/order"),
        ("load http://127.0.0.1:1/ --rps -3", "or max"),
        ("load http://127.0.0.1:1/ --rps 1000 --arrivals ramp:1..9", "--rps 1000 and --arrivals ramp:1..9 ask for two"),
        ("load http://127.0.0.1:1/ --rps 5 --arrivals steps:1,9", "leave --rps out"),
        ("load http://127.0.0.1:1/ --rps max --arrivals poisson", "--rps max and --arrivals poisson contradict"),
        ("load http://127.0.0.1:1/ --rps max --arrivals ramp:1..9", "--rps max and --arrivals ramp:1..9 contradict"),
        ("load http://127.0.0.1:1/ --header nonsense", "name: value"),
        ("load http://127.0.0.1:1/ --header host:x", "host is set from the target"),
        ("load http://127.0.0.1:1/ --duration 0s", "longer than zero"),
        ("load http://127.0.0.1:1/ --streams 4", "add --http2, or raise --connections"),
        ("load http://127.0.0.1:1/ --http2 --streams 0", "--streams"),
    ] {
        let output = ran(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments}: {}", stderr(&output));
    }
    let refused = ran("load http://127.0.0.1:9/");
    assert_eq!(refused.status.code(), Some(4));
    assert!(stderr(&refused).contains("127.0.0.1:9") && stderr(&refused).contains("refused"), "{}", stderr(&refused));
}

/// A server of HTTP/1.1 sees that the program does speak HTTP/2.
#[test]
fn a_server_without_http2_is_named_at_the_start() {
    let _turn = beside_others();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = [0; 24];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\n\r\n").unwrap();
        heard
    });
    let refused = ran(&format!("load http://{addr}/ --http2 --streams 10"));
    assert_eq!(refused.status.code(), Some(4));
    assert!(stderr(&refused).contains("does not speak HTTP/2 without TLS (h2c)"), "{}", stderr(&refused));
    assert_eq!(&server.join().unwrap(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn more_connections_than_open_files_are_refused_before_the_start() {
    let _turn = beside_others();
    for options in ["--connections 1000", "--connections 1000 --http2 --streams 100"] {
        let load = format!("ulimit -n 64; exec {PROGRAM} load http://127.0.0.1:9/ {options}");
        let output = Command::new("sh").args(["-c", &load]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("ulimit -n 1064"), "{}", stderr(&output));
    }
}

//! `otelbench serve` and `otelbench sink` alone, as a user with a terminal and curl meets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::common::{otelbench, ran, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use otelbench::experiment::mode::{self, Mode};
use otelbench::experiment::service::SPANS;
use otelbench::lab::certificates::Certificates;
use otelbench::record::received::Received;
use otelbench::sink::{Receiver, ReceiverConfig, ServerTls, Sink, TreeShape};
use otelbench::sut::telemetry::ClientTls;

/// A server that was started, and where it says that it listens.
struct Started {
    child: Child,
    stderr: BufReader<ChildStderr>,
    addr: String,
}

fn start(mut command: Command) -> Started {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let addr = line.split("http://").nth(1).unwrap_or_else(|| panic!("no address in: {line}"));
    let addr = addr.split(';').next().unwrap().trim().to_owned();
    Started { child, stderr, addr }
}

impl Started {
    /// Ends it with a signal; what it printed on stdout and stderr.
    fn stop(mut self, signal: Signal, code: i32) -> (String, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        let output = self.child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        (stdout(&output), said)
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Posts a body as curl does.
    fn order(&self, body: &str) -> String {
        self.ask(&format!(
            "POST /order HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        ))
    }
}

/// The body that README shows.
fn readme_body() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let body = readme.lines().find_map(|line| line.trim().strip_prefix("-d '")?.strip_suffix('\'')).map(str::to_owned);
    body.expect("README shows the body of an order")
}

#[test]
fn an_order_posted_as_readme_shows_reaches_the_sink_as_one_tree() {
    let sink = start(otelbench("sink --addr 127.0.0.1:0 --format json"));
    let mut serve = otelbench(&format!("serve --mode full --addr 127.0.0.1:0 --endpoint http://{}", sink.addr));
    serve.env("OTEL_SERVICE_NAME", "corner-shop").env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    let service = start(serve);
    let answer = service.order(&readme_body());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"order_id\":\"order-1\""), "{answer}");
    let refused = service.order("{}");
    assert!(refused.starts_with("HTTP/1.1 422") && refused.contains("missing field"), "{refused}");
    let (_, said) = service.stop(Signal::SIGTERM, 143);
    assert!(said.contains("spans: 4 ended, 0 dropped"), "{said}");

    let (printed, _) = sink.stop(Signal::SIGINT, 130);
    let received: Received = serde_json::from_str(&printed).unwrap();
    // The good order is a whole tree; the bad one ended at its root.
    assert_eq!((received.spans, received.trees.traces, received.trees.right), (4, 2, 1), "{received:?}");
    assert_eq!(received.metrics.counters["orders.total"].to_string(), "2");
    assert_eq!(received.metrics.counters["orders.errors"].to_string(), "1");
    assert_eq!(received.metrics.histogram_counts["order.latency_ms"], 2);
    assert_eq!(received.resource["service.name"], "corner-shop");
    assert_eq!(received.resource["deployment.environment.name"], "test");
}

#[test]
fn the_environment_names_the_collector_where_no_flag_does() {
    let sink = start(otelbench("sink --addr 127.0.0.1:0 --format json"));
    let mut serve = otelbench("serve --mode full --addr 127.0.0.1:0");
    serve.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", sink.addr));
    let service = start(serve);
    service.order(&readme_body());
    service.stop(Signal::SIGINT, 130);
    let (printed, _) = sink.stop(Signal::SIGINT, 130);
    assert_eq!(serde_json::from_str::<Received>(&printed).unwrap().spans, 3);
}

#[test]
fn metrics_are_scraped_in_the_mode_that_is_scraped() {
    let service = start(otelbench("serve --mode metrics --addr 127.0.0.1:0"));
    service.order(&readme_body());
    let metrics = service.ask("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    for line in ["orders_total 1", "order_latency_ms_bucket{status=\"ok\",le=\"+Inf\"} 1"] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    service.stop(Signal::SIGTERM, 143);
}

#[test]
fn the_modes_are_listed_for_people_and_for_programs() {
    let modes: serde_json::Value = serde_json::from_str(&stdout(&ran("modes --format json"))).unwrap();
    let names: Vec<&str> = modes.as_array().unwrap().iter().map(|mode| mode["name"].as_str().unwrap()).collect();
    let known: Vec<String> = mode::all().into_iter().map(|mode| mode.name).collect();
    assert_eq!(names, known);
    assert!(modes[3]["summary"].as_str().is_some_and(|summary| !summary.is_empty()));
    let table = stdout(&ran("modes"));
    assert!(names.iter().all(|name| table.contains(name)), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn the_toml_shown_of_a_mode_defines_the_same_mode() {
    let shown: toml::Table = toml::from_str(&stdout(&ran("modes full-logs"))).unwrap();
    let mut mine = shown;
    mine.insert("like".into(), "bare".into());
    let (mine, known) = (mode::define("mine", &mine).unwrap(), mode::named("full-logs").unwrap());
    let Mode { name, summary, .. } = mine.clone();
    assert_eq!(mine, Mode { name, summary, ..known });
}

/// A sink that takes only clients of its own run, or anybody in plaintext; and files that clients may show it.
struct Secured {
    receiver: Receiver,
    folder: tempfile::TempDir,
    _sink: Sink,
}

impl Secured {
    fn new(tls: Option<ServerTls>) -> Self {
        let sink = Sink::start().unwrap();
        let shape = TreeShape::new(SPANS, None);
        let reception = ReceiverConfig { tls, ..ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), shape) };
        let receiver = sink.listen(reception).unwrap();
        Self { receiver, folder: tempfile::tempdir().unwrap(), _sink: sink }
    }

    /// Runs a service in this mode, with these certificates, that sends three orders' telemetry here; returns what it says at
    /// its end.
    fn told(&self, mode: &str, endpoint: &str, tls: &ClientTls) -> String {
        let addr = "--addr 127.0.0.1:0 --endpoint";
        let mut command = otelbench(&format!("serve --mode {mode} {addr} {endpoint}"));
        let mut name = |variable: &str, pem: Option<&String>| {
            let path = self.folder.path().join(variable);
            if let Some(pem) = pem {
                std::fs::write(&path, pem).unwrap();
                command.env(format!("OTEL_EXPORTER_OTLP_{variable}"), path);
            }
        };
        name("CERTIFICATE", tls.authority.as_ref());
        name("CLIENT_CERTIFICATE", tls.identity.as_ref().map(|(certificate, _)| certificate));
        name("CLIENT_KEY", tls.identity.as_ref().map(|(_, key)| key));
        command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "300");
        let service = start(command);
        for _ in 0..3 {
            service.order(r#"{"user":"ada","items":["tea"],"quantity":1,"amount":1.5}"#);
        }
        service.stop(Signal::SIGTERM, 143).1
    }
}

#[test]
fn failed_handshakes_are_reported_with_their_reason() {
    let (own, foreign) = (Certificates::make().unwrap(), Certificates::make().unwrap());
    let there = Secured::new(Some(own.server.clone()));
    let endpoint = there.receiver.endpoint();
    let elsewhere = endpoint.replace("localhost", "127.0.0.1");
    let right = &own.client;
    for (why, endpoint, tls, mode) in [
        ("peer sent no certificates", &endpoint, ClientTls { identity: None, ..right.clone() }, "full"),
        (
            "UnknownIssuer",
            &endpoint,
            ClientTls { identity: foreign.client.identity.clone(), ..right.clone() },
            "full-mtls",
        ),
        ("UnknownIssuer", &endpoint, ClientTls { authority: foreign.client.authority, ..right.clone() }, "full-mtls"),
        ("not valid for name \"127.0.0.1\"", &elsewhere, right.clone(), "full-mtls"),
        ("plaintext was sent to a TLS port", &endpoint.replace("https", "http"), right.clone(), "full-mtls"),
    ] {
        let said = there.told(mode, endpoint, &tls);
        assert!(said.contains("9 ended, 0 dropped, 9 in failed exports"), "{why}: {said}");
        // Whoever refuses knows why; the other may see no more than a connection that is gone.
        let here = there.receiver.received().last_refused_connection.unwrap();
        assert!(said.contains(why) || here.contains(why), "{why}: {here}\n{said}");
    }
    assert_eq!(there.receiver.received().spans, 0);
    let said = there.told("full-mtls", &endpoint, right);
    assert!(said.contains("9 ended, 0 dropped, 0 in failed exports"), "{said}");
    assert_eq!(there.receiver.received().trees.traces, 3);
}

#[test]
fn tls_to_a_plaintext_collector_is_reported() {
    let there = Secured::new(None);
    let said = there.told(
        "full-mtls",
        &there.receiver.endpoint().replace("http", "https"),
        &Certificates::make().unwrap().client,
    );
    assert!(said.contains("9 ended, 0 dropped, 9 in failed exports"), "{said}");
    assert!(said.contains("transport error"), "{said}");
}

#[test]
fn mutual_tls_without_a_client_certificate_is_refused_before_the_start() {
    let output = ran("serve --mode full-mtls --addr 127.0.0.1:0 --endpoint https://localhost:1");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"), "{output:?}");
}

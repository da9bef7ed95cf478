//! A real OpenTelemetry Collector must hold the telemetry that the result document says was sent.
//!
//! Without a collector nothing is checked, and the output of `cargo test` says so. `OTELBENCH_COLLECTOR` names one that was
//! built elsewhere.

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::common::{beside_others, document, otelbench, stderr, until};
use otelbench::experiment::service::SPANS;
use otelbench::record::result::Document;
use otelbench::sut::telemetry::SERVICE_NAME;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// A mode that is not in the catalogue.
const MODES: &str = "
[modes.tuned-mtls]
like = \"tuned\"
export.tls = \"mutual\"
";

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/collector");

/// A way from the lanes to the collector.
struct Way {
    /// The mode that takes it.
    mode: &'static str,
    /// Whether by OTLP/HTTP; otherwise by OTLP/gRPC.
    http: bool,
    /// Whether both sides show certificates.
    mtls: bool,
}

#[test]
fn a_collector_holds_what_was_sent_over_grpc() {
    check(&Way { mode: "full", http: false, mtls: false });
}

#[test]
fn a_collector_holds_what_was_sent_over_http() {
    check(&Way { mode: "full-http", http: true, mtls: false });
}

#[test]
fn a_collector_holds_what_was_sent_over_mtls() {
    check(&Way { mode: "full-mtls", http: false, mtls: true });
}

#[test]
fn a_collector_holds_what_the_slim_layer_wrote() {
    check(&Way { mode: "tuned", http: false, mtls: false });
}

#[test]
fn a_collector_holds_what_the_slim_layer_wrote_over_mtls() {
    check(&Way { mode: "tuned-mtls", http: false, mtls: true });
}

/// Two arms send at the same time in each of two rounds, so four processes in all, and one arm sends nothing.
fn check(way: &Way) {
    let Some(executable) = executable() else { return };
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let certificates = way.mtls.then(|| Certificates::make(folder.path()));
    let collector = Collector::start(&executable, folder.path(), certificates.as_ref());
    let (modes, out) = (folder.path().join("modes.toml"), folder.path().join("run.json"));
    fs::write(&modes, MODES).unwrap();
    let options = "--rounds 2 --slices 1 --slice 500ms --warmup 200ms --connections 4";
    let mut run = otelbench(&format!("run --rps 200 --baseline {} --mode none {options}", way.mode));
    run.arg(&modes).arg("--endpoint").arg(collector.endpoint(way)).arg("--out").arg(&out);
    if let Some(certificates) = &certificates {
        run.envs(certificates.for_client());
    }
    let output = run.output().unwrap();
    // What was sent is counted right also on a machine that is too busy for a valid measurement.
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", stderr(&output));
    let document = document(&out);
    let sent = Sent::of(&document);

    let own = scrape(collector.ports.telemetry);
    let accepted: Vec<Sample> = samples(&own, "otelcol_receiver_accepted_spans");
    let protocol = if way.http { "http" } else { "grpc" };
    let [accepted] = accepted.as_slice() else { panic!("spans came by more or fewer ways than one: {accepted:?}") };
    assert_eq!((accepted.label("transport"), accepted.value.to_string()), (protocol, sent.spans.to_string()));

    let exposed = scrape(collector.ports.prometheus);
    let orders = samples(&exposed, "orders_total");
    assert_eq!(values(&orders), sent.orders, "{orders:#?}");
    let latency = samples(&exposed, "order_latency_ms_bucket");
    let all: Vec<Sample> = latency.into_iter().filter(|bucket| bucket.label("le") == "+Inf").collect();
    assert_eq!(values(&all), sent.orders, "{all:#?}");
    let instances: BTreeSet<String> = orders.iter().map(|series| series.label("instance").to_owned()).collect();
    assert_eq!(instances.len(), sent.orders.len(), "{orders:#?}");
    assert!(orders.iter().all(|series| series.label("job") == SERVICE_NAME), "{orders:#?}");

    let spans = collector.spans();
    assert_eq!(spans.len() as u64, sent.spans);
    let senders: BTreeSet<String> = spans.iter().map(|span| span.instance.clone()).collect();
    assert_eq!(senders, instances, "metrics and spans name other processes");
    assert!(spans.iter().all(|span| span.service == SERVICE_NAME));
    trees_are_right(spans, sent.orders.iter().sum());
}

/// Says it on stderr itself, which the harness does not keep for itself as it does what the macros print.
fn say(what: &str) {
    io::stderr().write_all(format!("\n*** {what}\n").as_bytes()).unwrap();
}

/// The collector to test against, if there is one.
pub(crate) fn executable() -> Option<PathBuf> {
    if let Some(named) = env::var_os("OTELBENCH_COLLECTOR") {
        let path = PathBuf::from(named);
        assert!(path.is_file(), "OTELBENCH_COLLECTOR names {}, which is no file", path.display());
        return Some(path);
    }
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/collector/otelcol");
    if built.is_file() {
        return Some(built);
    }
    let missing = "the check against a real collector was NOT RUN: there is none; `deploy/collector/build` builds one";
    assert!(env::var_os("OTELBENCH_COLLECTOR_REQUIRED").is_none(), "{missing}");
    say(missing);
    None
}

/// The lanes' own account of what they sent, warm-up included.
struct Sent {
    /// Orders of each lane that sends, ascending.
    orders: Vec<u64>,
    /// Spans of them all.
    spans: u64,
}

impl Sent {
    fn of(document: &Document) -> Self {
        let (mut orders, mut ended) = (Vec::new(), 0);
        for lane in &document.lanes {
            assert_eq!(lane.orders_uncertain, 0, "{lane:?}");
            let Some(spans) = lane.account.spans else { continue };
            assert_eq!((spans.dropped, spans.failed, spans.rejected), (0, 0, 0), "{lane:?}");
            ended += spans.ended;
            orders.push(lane.orders_completed);
        }
        orders.sort_unstable();
        // On a machine so busy that the first round is void, the run ends with it.
        let rounds = document.lanes.iter().map(|lane| lane.round + 1).max().unwrap();
        assert!(rounds == 2 || document.partial, "{rounds} rounds");
        assert!(orders.len() == 2 * rounds as usize && orders.iter().all(|orders| *orders > 0), "{orders:?}");
        Self { orders, spans: ended }
    }
}

/// A collector that runs.
pub(crate) struct Collector {
    child: Child,
    pub(crate) ports: Ports,
    /// Its description of each span.
    output: PathBuf,
    mtls: bool,
}

/// Loopback ports of a collector.
pub(crate) struct Ports {
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    pub(crate) prometheus: u16,
    telemetry: u16,
}

impl Collector {
    /// Starts it and waits until it listens.
    pub(crate) fn start(executable: &Path, folder: &Path, certificates: Option<&Certificates>) -> Self {
        let ports = Ports::free();
        let (output, log) = (folder.join("spans.txt"), folder.join("collector.log"));
        let on_loopback = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(executable);
        command.arg("--config").arg(format!("{DEPLOY}/config.yaml"));
        if let Some(certificates) = certificates {
            command.arg("--config").arg(format!("{DEPLOY}/mtls.yaml")).envs(certificates.for_server());
        }
        let child = command
            .env("OTLP_GRPC_ADDR", on_loopback(ports.grpc))
            .env("OTLP_HTTP_ADDR", on_loopback(ports.http))
            .env("PROMETHEUS_ADDR", on_loopback(ports.prometheus))
            .env("TELEMETRY_PORT", ports.telemetry.to_string())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut collector = Self { child, ports, output, mtls: certificates.is_some() };
        until(|| {
            let ended = collector.child.try_wait().unwrap();
            assert!(ended.is_none(), "the collector ended:\n{}", fs::read_to_string(&log).unwrap());
            collector.ports.all().iter().all(|port| TcpStream::connect(address(*port)).is_ok())
        });
        collector
    }

    fn endpoint(&self, way: &Way) -> String {
        let scheme = if self.mtls { "https" } else { "http" };
        let port = if way.http { self.ports.http } else { self.ports.grpc };
        format!("{scheme}://localhost:{port}")
    }

    /// The spans it was given, as it describes them.
    fn spans(&self) -> Vec<Span> {
        let text = fs::read_to_string(&self.output).unwrap();
        let (mut resource, mut spans) = (Span::default(), Vec::new());
        for line in text.lines() {
            if line.starts_with("ResourceSpans #") {
                resource = Span::default();
            } else if line.starts_with("Span #") {
                spans.push(resource.clone());
            }
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let text = || value.trim_start_matches("Str(").trim_end_matches(')').to_owned();
            match (key.trim(), spans.last_mut()) {
                // The resource stands before its spans.
                ("-> service.name", _) => resource.service = text(),
                ("-> service.instance.id", _) => resource.instance = text(),
                ("Trace ID", Some(span)) => value.clone_into(&mut span.trace),
                ("Parent ID", Some(span)) => value.clone_into(&mut span.parent),
                ("ID", Some(span)) => value.clone_into(&mut span.id),
                ("Name", Some(span)) => value.clone_into(&mut span.name),
                ("-> user_id", Some(span)) => span.user = text(),
                _ => {}
            }
        }
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ports {
    /// Ports that are free now.
    fn free() -> Self {
        let listeners = [(); 4].map(|()| TcpListener::bind(address(0)).unwrap());
        let [grpc, http, prometheus, telemetry] = listeners.map(|listener| listener.local_addr().unwrap().port());
        Self { grpc, http, prometheus, telemetry }
    }

    fn all(&self) -> [u16; 4] {
        [self.grpc, self.http, self.prometheus, self.telemetry]
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Scrapes this port as a Prometheus server would.
pub(crate) fn scrape(port: u16) -> String {
    let mut connection = TcpStream::connect(address(port)).unwrap();
    // HTTP/1.0, so that the answer comes in one piece and ends with the connection.
    connection.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    answer
}

/// One line of what Prometheus scrapes.
#[derive(Debug)]
struct Sample {
    labels: HashMap<String, String>,
    value: u64,
}

impl Sample {
    /// The label's value, or nothing where there is no such label.
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The samples of the metric, which must be counts, and below a million: from there on they are written with an exponent.
fn samples(exposition: &str, metric: &str) -> Vec<Sample> {
    let lines = exposition.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} "));
    lines
        .map(|(labels, value)| {
            // None of the labels looked at holds a comma or a quote.
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
            Sample { labels, value: value.parse().unwrap() }
        })
        .collect()
}

/// The values of the samples, ascending.
fn values(samples: &[Sample]) -> Vec<u64> {
    let mut values: Vec<u64> = samples.iter().map(|sample| sample.value).collect();
    values.sort_unstable();
    values
}

/// A span as the collector describes it.
#[derive(Clone, Debug, Default)]
struct Span {
    service: String,
    instance: String,
    trace: String,
    parent: String,
    id: String,
    name: String,
    user: String,
}

/// Each order must be one trace of all the service's spans: each under its parent, the first under the caller's, and the last
/// of the caller's user.
fn trees_are_right(spans: Vec<Span>, orders: u64) {
    let mut traces: HashMap<String, HashMap<String, Span>> = HashMap::new();
    for span in spans {
        let twice = traces.entry(span.trace.clone()).or_default().insert(span.name.clone(), span);
        assert!(twice.is_none(), "{twice:?} has a double");
    }
    assert_eq!(traces.len() as u64, orders);
    for trace in traces.values() {
        assert_eq!(trace.len(), SPANS.len(), "{trace:#?}");
        for (name, parent) in SPANS {
            let span = &trace[*name];
            match parent {
                Some(parent) => assert_eq!(span.parent, trace[*parent].id, "{trace:#?}"),
                None => assert!(!span.parent.is_empty(), "{trace:#?}"),
            }
        }
        assert!(trace["charge_payment"].user.starts_with("user-"), "{trace:#?}");
    }
}

/// PEM files of an authority and of a certificate for each side, made for one test.
pub(crate) struct Certificates {
    authority: PathBuf,
    server: Identity,
    client: Identity,
}

struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    fn make(folder: &Path) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let issued = |name: &str, usage: ExtendedKeyUsagePurpose| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            Identity {
                certificate: write(&format!("{name}.pem"), certificate.pem()),
                key: write(&format!("{name}.key"), key.serialize_pem()),
            }
        };
        Self {
            authority: write("authority.pem", authority.pem()),
            server: issued("server", ExtendedKeyUsagePurpose::ServerAuth),
            client: issued("client", ExtendedKeyUsagePurpose::ClientAuth),
        }
    }

    /// As `mtls.yaml` asks for them.
    fn for_server(&self) -> [(&'static str, &Path); 3] {
        [
            ("TLS_CERT_FILE", &self.server.certificate),
            ("TLS_KEY_FILE", &self.server.key),
            ("TLS_CLIENT_CA_FILE", &self.authority),
        ]
    }

    /// As the OTLP exporter's specification names them.
    fn for_client(&self) -> [(&'static str, &Path); 3] {
        [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", &self.authority),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &self.client.certificate),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &self.client.key),
        ]
    }
}

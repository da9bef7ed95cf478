//! The capacity of a batch pipeline: against a collector that takes a known time, and `otelbench pipeline` end to end.

use std::process::Output;
use std::time::Duration;

use crate::common::{alone, beside_others, otelbench, ran, stderr, stdout, valid};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use otelbench::lab::lane::LOOPBACK;
use otelbench::sink::{Receiver, ReceiverConfig, Sink, TreeShape};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Delay of each answer.
const ANSWER: Duration = Duration::from_millis(50);
const QUEUE: u64 = 1_024;
const BATCH: u64 = 512;

/// Passes traces on, and the answers later.
struct Slow {
    collector: TraceServiceClient<tonic::transport::Channel>,
    answer: Duration,
}

#[tonic::async_trait]
impl TraceService for Slow {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // No sooner, whatever the machine does meanwhile.
        let mut collector = self.collector.clone();
        let (answer, ()) = tokio::join!(collector.export(request), tokio::time::sleep(self.answer));
        answer
    }
}

/// A sink behind a relay that answers late.
struct Relayed {
    endpoint: String,
    receiver: Receiver,
    _sink: Sink,
    _runtime: Runtime,
}

fn relayed(answer: Duration) -> Relayed {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sink = Sink::start().unwrap();
    let receiver = sink.listen(ReceiverConfig::at(LOOPBACK, TreeShape::new(&[("emitted", None)], None))).unwrap();
    let endpoint = runtime.block_on(async {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let collector = TraceServiceClient::connect(receiver.endpoint()).await.unwrap();
        let service = TraceServiceServer::new(Slow { collector, answer });
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
        format!("http://{addr}")
    });
    Relayed { endpoint, receiver, _sink: sink, _runtime: runtime }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn steps(document: &Value) -> impl Iterator<Item = &Value> {
    document["steps"].as_array().unwrap().iter()
}

/// The sum over all steps of one of the counts of spans.
fn spans(document: &Value, what: &str) -> u64 {
    steps(document).map(|step| step["account"]["spans"][what].as_u64().unwrap()).sum()
}

/// Searches against the slow collector in this mode, in steps of so many seconds; what came, and what the sink has received of
/// it.
fn searched(mode: &str, step: u32) -> (Value, u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = None;
    let output = valid(|| {
        let relayed = relay.insert(relayed(ANSWER));
        let mut command = otelbench(&format!(
            "pipeline --mode {mode} --queue {QUEUE} --batch {BATCH} --step {step}s --rounds 1 --seed 3 --format json --quiet"
        ));
        command.args(["--endpoint", &relayed.endpoint]).arg("--out").arg(folder.path().join("pipeline.json"));
        command
    });
    (json(&output), relay.unwrap().receiver.received().spans)
}

/// The most spans a step can have sent, by the collector's clock and whatever the machine did meanwhile: exports start at
/// least an answer apart, each takes a batch out of the queue, and the queue holds the rest.
fn at_most(took: f64) -> u64 {
    QUEUE + BATCH * (1 + (took / ANSWER.as_secs_f64()).floor() as u64)
}

/// Holds the capacity of `mode`, found in steps of so many seconds, against theory, of which it must reach a share.
fn the_capacity_is_that_of_the_collector(mode: &str, step: u32, share: f64) {
    let _turn = alone();
    let (document, received) = searched(mode, step);
    let capacity = document["capacity"].as_f64().unwrap();
    let held: Vec<&Value> = steps(&document).filter(|step| step["outcome"] == "held").collect();
    let highest = held.iter().map(|step| step["rate"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!((capacity / highest - 1.0).abs() < 1e-9, "{capacity} of {highest}");
    for step in &held {
        let (took, spans) = (step["took_ms"].as_f64().unwrap() / 1e3, step["spans"].as_u64().unwrap() - 16);
        assert!(spans <= at_most(took), "{spans} in {took} s are more than theory allows");
    }
    // No export is faster than the collector, and what the queue lends is all that is above the bound.
    let predicted = document["predicted"].as_f64().unwrap();
    let bound = BATCH as f64 / ANSWER.as_secs_f64();
    assert!(predicted <= bound, "{predicted} of {bound}");
    let lent = (QUEUE + BATCH) as f64 / f64::from(step);
    assert!((document["lent"].as_f64().unwrap() - lent).abs() < 1e-9);
    assert!(capacity >= share * predicted, "{capacity} of {predicted}");
    // Spans were lost on purpose, and each of them is known.
    let [ended, dropped, failed] = ["ended", "dropped", "failed"].map(|what| spans(&document, what));
    assert!(dropped > 0 && failed == 0, "{dropped} {failed}");
    assert_eq!(ended, received + dropped);
}

#[test]
fn the_sdk_reaches_the_rate_that_the_collector_takes() {
    the_capacity_is_that_of_the_collector("traces", 1, 0.75);
}

#[test]
fn the_slim_layer_reaches_the_rate_that_the_collector_takes() {
    // Every export is full, so it comes within a tenth of what the collector takes: of the 40 exports of a step one may be
    // late.
    the_capacity_is_that_of_the_collector("tuned", 2, 0.9);
}

#[test]
fn settings_for_a_target_are_recommended_and_verified() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("pipeline.json");
    let mut relay = None;
    // These settings send 2560 a second at most.
    let output = valid(|| {
        let relayed = relay.insert(relayed(ANSWER));
        let mut command =
            otelbench("pipeline --mode traces --queue 256 --batch 128 --spans-per-second 5000 --rounds 1 --step 1s");
        command.args(["--endpoint", &relayed.endpoint]).arg("--out").arg(&out);
        command
    });
    let document: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let recommended = &document["recommendation"];
    let batching = &recommended["batching"];
    let (queue, batch) = (batching["queue"].as_u64().unwrap(), batching["batch"].as_u64().unwrap());
    // 2 × 5000 a second at 50 ms and more take at least 500 in a batch, and a second of them in the queue.
    assert!(batch >= 512 && queue == 5_000 + batch, "{recommended}");
    assert_eq!(document["verification"]["lost"], 0, "{}", document["verification"]);
    assert_eq!(document["verification"]["ended"], 5_016);
    let text = stdout(&output);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for word in ["capacity", "predicted", "stall", "recommended", "verified     none of 5 016 spans was lost"] {
        assert!(text.contains(word), "{text}");
    }
    assert!(text.contains(&format!("OTEL_BSP_MAX_EXPORT_BATCH_SIZE={batch}")), "{text}");
}

#[test]
fn the_embedded_sink_closes_the_ledger_of_every_step() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let output = valid(|| {
        let mut command = otelbench("pipeline --queue 64 --batch 32 --step 200ms --rounds 2 --format json --quiet");
        command.arg("--out").arg(folder.path().join("pipeline.json"));
        command
    });
    let document = json(&output);
    for step in steps(&document) {
        let [ended, dropped] = ["ended", "dropped"].map(|what| step["account"]["spans"][what].as_u64().unwrap());
        assert_eq!(ended, step["received"].as_u64().unwrap() + dropped, "{step}");
    }
}

#[test]
fn modes_without_a_pipeline_and_contradicting_sizes_are_refused_with_a_suggestion() {
    let _turn = beside_others();
    for (arguments, words) in [
        ("--mode ful", "did you mean `full`?"),
        ("--mode metrics", "makes no spans; choose one that sends every span, such as full"),
        ("--mode spans-null", "drops every span"),
        ("--mode full-sampled", "its sampler keeps spans from the pipeline"),
        ("--queue 100 --batch 101", "a queue of 100 never holds so many; raise --queue or lower --batch"),
        ("--spans-per-second 0", "0.001"),
    ] {
        let output = ran(&format!("pipeline {arguments}"));
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments}: {}", stderr(&output));
    }
}

#[test]
fn a_collector_that_is_not_there_makes_the_measurement_invalid() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("pipeline.json");
    let mut command = otelbench("pipeline --mode traces --step 50ms --endpoint http://127.0.0.1:9");
    let output = command.arg("--out").arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("were lost behind the queue"), "{}", stderr(&output));
    let document: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!((&document["partial"], &document["capacity"]), (&Value::Bool(true), &Value::Null));
}

//! Cost of the sink per span, on payloads as the SDK's exporter sends them: 512 spans in traces of three, each span with
//! the eight attributes that `tracing-opentelemetry` adds by default.
//!
//! - `decode`: decodes a payload. `in place` is the sink's decoder; `generated` uses the types generated from the OTLP
//!   specification, for comparison.
//! - `tally`: decodes the payloads, builds every trace tree and checks it.
//! - `end to end cpu`: CPU time of the sink's thread per span over loopback, system calls included.
//! - `end to end wall`: wall time per span at full speed. It includes the sender's work unless each has a core of its own.

use std::fs;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use memchr::memmem;
use opentelemetry::trace::{SpanId, TraceId, TracerProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, IdGenerator, SdkTracerProvider};
use otelbench::experiment::fault::Signal;
use otelbench::sink::{ReceivedTally, ReceiverConfig, Sink, THREAD, TreeShape, items};
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tracing_subscriber::layer::SubscriberExt;

/// Spans per payload: the default batch size of the SDK.
const BATCH: usize = 512;
/// Number of payloads that are prepared, with consecutive traces.
const PAYLOADS: usize = 48;
/// Traces in all payloads.
const TRACES: u64 = (PAYLOADS * BATCH / 3) as u64;
/// Payloads in one measurement over loopback: about half a million spans.
const SENT: usize = 1_000;
/// Concurrent requests.
const AT_ONCE: usize = 4;

/// Prefix of every trace id, by which it is found in a payload.
const MARK: [u8; 8] = *b"\xf7bench\xf7\xf7";

/// The expected trace tree.
fn shape() -> TreeShape {
    TreeShape::new(&[("order", None), ("stock", Some("order")), ("pay", Some("stock"))], None)
}

/// Generates trace ids that start with [`MARK`], and span ids, with consecutive numbers.
#[derive(Debug, Default)]
struct Numbered(AtomicU64);

impl IdGenerator for Numbered {
    fn new_trace_id(&self) -> TraceId {
        let number = self.0.fetch_add(1, Relaxed) + 1;
        TraceId::from(u128::from(u64::from_be_bytes(MARK)) << 64 | u128::from(number))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(self.0.fetch_add(1, Relaxed) + 1)
    }
}

/// An HTTP client that keeps the request bodies.
#[derive(Clone, Debug, Default)]
struct Posted(Arc<Mutex<Vec<Bytes>>>);

#[tonic::async_trait]
impl HttpClient for Posted {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        self.0.lock().expect("nobody panics").push(request.into_body());
        Ok(http::Response::new(Bytes::new()))
    }
}

/// A payload and the positions of its trace numbers.
#[derive(Clone)]
struct Payload {
    bytes: Vec<u8>,
    numbers: Vec<usize>,
}

impl Payload {
    /// Gives its traces new numbers, so that the sink has not seen them before.
    fn renumber(&mut self) {
        for at in &self.numbers {
            let number: &mut [u8; 8] = (&mut self.bytes[*at..*at + 8]).try_into().expect("eight bytes are there");
            // Each trace took four numbers: one for itself and three for its spans.
            *number = (u64::from_be_bytes(*number) + 4 * TRACES + 4).to_be_bytes();
        }
    }
}

/// The payloads that the exporter sends for traces of three nested spans.
fn payloads() -> Vec<Payload> {
    let posted = Posted::default();
    let builder = SpanExporter::builder().with_http().with_http_client(posted.clone());
    let exporter = builder.with_endpoint("http://nowhere/v1/traces").build().expect("nothing is missing");
    let batches =
        BatchConfigBuilder::default().with_max_queue_size(2 * BATCH).with_max_export_batch_size(BATCH).build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        .with_id_generator(Numbered::default())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for trace in 0..=TRACES {
            let order = tracing::info_span!("order").entered();
            let stock = tracing::info_span!("stock").entered();
            drop(tracing::info_span!("pay").entered());
            drop(stock);
            drop(order);
            if trace % 100 == 0 {
                provider.force_flush().expect("the exporter answers at once");
            }
        }
    });
    provider.shutdown().expect("the exporter answers at once");
    // The flushes made payloads of 300 spans; merge them into full batches, as under load.
    let sent = std::mem::take(&mut *posted.0.lock().expect("nobody panics"));
    let mut spans: Vec<_> = sent
        .iter()
        .flat_map(|bytes| ExportTraceServiceRequest::decode(&**bytes).expect("the exporter made it").resource_spans)
        .collect();
    let mut template = spans[0].clone();
    let all: Vec<_> = spans.drain(..).flat_map(|mut group| group.scope_spans.swap_remove(0).spans).collect();
    all.chunks(BATCH)
        .take(PAYLOADS)
        .map(|batch| {
            template.scope_spans[0].spans = batch.to_vec();
            let bytes = ExportTraceServiceRequest { resource_spans: vec![template.clone()] }.encode_to_vec();
            let numbers = memmem::find_iter(&bytes, &MARK).map(|at| at + MARK.len()).collect();
            Payload { bytes, numbers }
        })
        .collect()
}

fn decoding(c: &mut Criterion) {
    let payloads = payloads();
    assert_eq!(items(Signal::Traces, &payloads[0].bytes), Ok(BATCH as u64));
    assert_eq!(payloads[0].numbers.len(), BATCH);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("in place", |b| b.iter(|| items(Signal::Traces, black_box(&payloads[0].bytes))));
    group.bench_function("generated", |b| {
        b.iter(|| ExportTraceServiceRequest::decode(black_box(&*payloads[0].bytes)));
    });
    group.finish();
    let mut group = c.benchmark_group("tally");
    group.throughput(Throughput::Elements((PAYLOADS * BATCH) as u64)).sample_size(20);
    let mut tally = ReceivedTally::new(shape(), &[]);
    let mut next = payloads;
    group.bench_function("whole traces", |b| {
        b.iter_batched_ref(
            || {
                next.iter_mut().for_each(Payload::renumber);
                next.clone()
            },
            |payloads| {
                for payload in payloads {
                    tally.add(Signal::Traces, &payload.bytes, |_| 0).expect("the exporter made it");
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
    let received = tally.received(0);
    assert_eq!((received.trees.wrong(), received.duplicated), (0, 0), "{received:?}");
}

/// CPU time of the sink's thread so far.
fn sink_cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs is there").flatten();
    let of_sink =
        tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == THREAD));
    let ns = of_sink.filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ns.sum())
}

/// Sends [`SENT`] payloads and waits for every response. Returns the CPU time of the sink and the wall time.
fn sent(runtime: &Runtime, addr: SocketAddr, grpc: bool, payloads: &mut [Payload]) -> (Duration, Duration) {
    let path = if grpc { "opentelemetry.proto.collector.trace.v1.TraceService/Export" } else { "v1/traces" };
    let content_type = if grpc { "application/grpc" } else { "application/x-protobuf" };
    let mut requests: Vec<Vec<Request<Full<Bytes>>>> = (0..AT_ONCE).map(|_| Vec::new()).collect();
    for i in 0..SENT {
        let payload = &mut payloads[i % PAYLOADS];
        payload.renumber();
        let frame = [&[0][..], &(payload.bytes.len() as u32).to_be_bytes()].concat();
        let body = if grpc { [&frame, &payload.bytes[..]].concat() } else { payload.bytes.clone() };
        let request = Request::post(format!("http://{addr}/{path}")).header("content-type", content_type);
        let request = request.header("host", "sink").body(Full::new(body.into())).expect("it is a request");
        requests[i % AT_ONCE].push(request);
    }
    runtime.block_on(async {
        let (cpu, begun) = (sink_cpu(), Instant::now());
        if grpc {
            let io = TokioIo::new(TcpStream::connect(addr).await.expect("the sink listens"));
            let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = shaken.expect("the sink speaks HTTP/2");
            tokio::spawn(connection);
            join_all(requests.into_iter().map(|requests| {
                let mut sender = sender.clone();
                async move {
                    for request in requests {
                        sender.ready().await.expect("the sink stays");
                        let answer = sender.send_request(request).await.expect("the sink answers");
                        assert!(answer.status().is_success());
                        answer.into_body().collect().await.expect("the sink answers");
                    }
                }
            }))
            .await;
        } else {
            join_all(requests.into_iter().map(|requests| async move {
                let io = TokioIo::new(TcpStream::connect(addr).await.expect("the sink listens"));
                let shaken = hyper::client::conn::http1::handshake(io).await;
                let (mut sender, connection) = shaken.expect("the sink speaks HTTP/1.1");
                tokio::spawn(connection);
                for request in requests {
                    sender.ready().await.expect("the sink stays");
                    let answer = sender.send_request(request).await.expect("the sink answers");
                    assert!(answer.status().is_success());
                    answer.into_body().collect().await.expect("the sink answers");
                }
            }))
            .await;
        }
        (sink_cpu().saturating_sub(cpu), begun.elapsed())
    })
}

fn end_to_end(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let sink = Sink::start().expect("a thread can be made");
    let mut payloads = payloads();
    for (name, grpc) in [("grpc", true), ("http", false)] {
        let mut measured = |what: &str, pick: fn((Duration, Duration)) -> Duration| {
            let mut group = c.benchmark_group(format!("end to end {what}"));
            group.throughput(Throughput::Elements(1)).sample_size(10);
            group.bench_function(name, |b| {
                b.iter_custom(|n| {
                    let receiver = sink.listen(ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), shape()));
                    let receiver = receiver.expect("a port is free");
                    let addr = receiver.endpoint().split_once("//").and_then(|(_, addr)| addr.parse().ok());
                    let spent = pick(sent(&runtime, addr.expect("it is an address"), grpc, &mut payloads));
                    let spans = (SENT * BATCH) as u64;
                    assert_eq!(receiver.received().spans, spans, "all arrived, and none twice");
                    spent.mul_f64(n as f64 / spans as f64)
                });
            });
        };
        measured("cpu", |(cpu, _)| cpu);
        measured("wall", |(_, wall)| wall);
    }
}

criterion_group!(benches, decoding, end_to_end);
criterion_main!(benches);

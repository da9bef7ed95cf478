//! The thread that sends what has closed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message as _;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::sync::mpsc as channel;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::encode::{AnyValue, attribute, bytes, varint, varint_len};
use super::layer::Layer;
use super::queue::{Piece, Pushed, Queue};

/// Name of the thread that sends.
pub const THREAD: &str = "slim-spans";

/// The gRPC method, from `opentelemetry/proto/collector/trace/v1/trace_service.proto`.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How often an export is tried once more after a failure that may pass, as OpenTelemetry's exporter does.
const RETRIES: u32 = 3;
/// The wait before the first of them, which doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The header in which a server says when to come back.
const RETRY_INFO: &str = "grpc-status-details-bin";

/// How spans are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The collector, an `http` URL.
    pub endpoint: String,
    /// Who sends: attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// Spans that wait or are under way at most; those beyond are dropped, and counted.
    pub queue: usize,
    /// Spans in one export at most.
    pub batch: usize,
    /// Longest time that a span waits for its batch to fill.
    pub delay: Duration,
    /// Time that an export may take, retries included.
    pub timeout: Duration,
}

impl Settings {
    /// The SDK's defaults: 2048 spans wait at most, batches of 512, 5 s of delay, 10 s for an export.
    pub fn new(endpoint: impl Into<String>, resource: Vec<(String, String)>) -> Self {
        Self {
            endpoint: endpoint.into(),
            resource,
            queue: 2_048,
            batch: 512,
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why spans cannot be sent.
#[derive(Debug, Error)]
pub enum SlimError {
    /// The endpoint is not one.
    #[error("`{0}` is not the URL of an OTLP/gRPC receiver without TLS; write it as http://localhost:4317")]
    Endpoint(String),
    /// The thread cannot be started.
    #[error("cannot start the thread that sends spans: {0}")]
    Thread(#[from] io::Error),
    /// What was left could not be sent in time.
    #[error("not every span was sent within {0:?}")]
    Overdue(Duration),
}

/// What became of the spans so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Closed.
    pub ended: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// In exports that failed.
    pub failed: u64,
    /// Refused by the collector, by its own count.
    pub rejected: u64,
}

/// One export that is over.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Spans in it.
    pub spans: u64,
    /// Time it took, retries included.
    pub took: Duration,
    /// What the collector refused to take, or why it failed, in the words of gRPC.
    pub outcome: Result<u64, String>,
}

/// The sending side. Dropping it without [`shutdown`](Self::shutdown) leaves what waits unsent.
#[derive(Debug)]
pub struct Slim {
    shared: Arc<Shared>,
    orders: channel::UnboundedSender<Order>,
    thread: JoinHandle<()>,
}

/// What the thread is told.
#[derive(Debug)]
struct Order {
    /// Told when everything that waited has been tried.
    done: mpsc::Sender<()>,
    last: bool,
}

/// What layer and thread share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Queue,
    ended: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    batch_ready: Notify,
}

impl Shared {
    /// Notes that a span has ended, which `write` appends to the message that will be sent.
    pub(super) fn ended(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.ended.fetch_add(1, Relaxed);
        match self.queue.push(write) {
            Pushed::Waits => {}
            Pushed::MakesABatch => self.batch_ready.notify_one(),
            Pushed::Dropped => {
                self.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Slim {
    /// Starts the thread that sends; `told` hears of each export.
    ///
    /// # Errors
    /// When the endpoint is no URL, or the thread cannot be started.
    pub fn start(settings: &Settings, told: impl Fn(Exported) + Send + 'static) -> Result<(Layer, Self), SlimError> {
        let refused = || SlimError::Endpoint(settings.endpoint.clone());
        let endpoint = Endpoint::from_shared(settings.endpoint.clone()).map_err(|_| refused())?;
        if endpoint.uri().scheme_str() != Some("http") {
            return Err(refused());
        }
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue, settings.batch),
            ended: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            batch_ready: Notify::new(),
        });
        let (orders, inbox) = channel::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sender = Sender {
            shared: Arc::clone(&shared),
            resource: resource(&settings.resource),
            timeout: settings.timeout,
            told: Box::new(told),
        };
        let delay = settings.delay;
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn(move || {
            runtime.block_on(sender.send_until_told(endpoint, inbox, delay));
        })?;
        Ok((Layer { shared: Arc::clone(&shared) }, Self { shared, orders, thread }))
    }

    /// Sends what waits, and waits for it for at most `bound`.
    ///
    /// # Errors
    /// When that time was not enough.
    pub fn flush(&self, bound: Duration) -> Result<(), SlimError> {
        self.order(false, bound)
    }

    /// Sends what waits, for at most `bound`, and ends the thread.
    ///
    /// # Errors
    /// When that time was not enough; the thread then ends by itself, later.
    pub fn shutdown(self, bound: Duration) -> Result<Counts, SlimError> {
        self.order(true, bound)?;
        let counts = self.counts();
        // It has nothing left to do but to return.
        drop(self.thread.join());
        Ok(counts)
    }

    /// What became of the spans so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            ended: shared.ended.load(Relaxed),
            dropped: shared.dropped.load(Relaxed),
            failed: shared.failed.load(Relaxed),
            rejected: shared.rejected.load(Relaxed),
        }
    }

    fn order(&self, last: bool, bound: Duration) -> Result<(), SlimError> {
        let (done, finished) = mpsc::channel();
        // Both fail only where the thread is gone, and then nothing will be sent any more.
        let told = self.orders.send(Order { done, last });
        let over = told.map_err(|_| ()).and_then(|()| finished.recv_timeout(bound).map_err(|_| ()));
        over.map_err(|()| SlimError::Overdue(bound))
    }
}

/// The thread's own.
struct Sender {
    shared: Arc<Shared>,
    /// `Resource`, as field 1 of `ResourceSpans`.
    resource: Vec<u8>,
    timeout: Duration,
    told: Box<dyn Fn(Exported) + Send>,
}

impl Sender {
    async fn send_until_told(self, endpoint: Endpoint, mut orders: channel::UnboundedReceiver<Order>, delay: Duration) {
        let channel = endpoint.connect_lazy();
        loop {
            let order = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => Some(order),
                    // Nobody is left who could want more.
                    None => return,
                },
                () = self.shared.batch_ready.notified() => None,
                () = tokio::time::sleep(delay) => None,
            };
            for piece in self.shared.queue.take() {
                self.send(&channel, piece).await;
            }
            if let Some(Order { done, last }) = order {
                // The asker may have stopped waiting.
                let _ = done.send(());
                if last {
                    return;
                }
            }
        }
    }

    async fn send(&self, channel: &Channel, piece: Piece) {
        let spans = piece.spans;
        let started = Instant::now();
        let message = Message { head: head(&self.resource, piece.bytes.len()), spans: piece.bytes.into() };
        let outcome = match tokio::time::timeout(self.timeout, export(channel, message)).await {
            Ok(Ok(rejected)) => Ok(rejected),
            Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        };
        match &outcome {
            Ok(rejected) => self.shared.rejected.fetch_add(*rejected, Relaxed),
            Err(_) => self.shared.failed.fetch_add(spans as u64, Relaxed),
        };
        self.shared.queue.sent(spans);
        (self.told)(Exported { spans: spans as u64, took: started.elapsed(), outcome });
    }
}

/// Sends `message`, again where that may help; the spans that the collector refused.
async fn export(channel: &Channel, message: Message) -> Result<u64, Status> {
    let mut wait = FIRST_WAIT;
    let mut tries = 0;
    loop {
        let mut client = tonic::client::Grpc::new(channel.clone());
        let answer = match client.ready().await {
            Ok(()) => client.unary(Request::new(message.clone()), PathAndQuery::from_static(METHOD), Raw).await,
            Err(error) => Err(Status::unavailable(error.to_string())),
        };
        match answer {
            Ok(rejected) => return Ok(rejected.into_inner()),
            Err(status) if tries < RETRIES && may_pass(&status) => {
                tries += 1;
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            Err(status) => return Err(status),
        }
    }
}

/// Whether the specification has an export tried again after this:
/// <https://opentelemetry.io/docs/specs/otlp/#failures>.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => status.metadata().contains_key(RETRY_INFO) || !status.details().is_empty(),
        _ => false,
    }
}

/// `Resource`, as field 1 of `ResourceSpans`.
fn resource(attributes: &[(String, String)]) -> Vec<u8> {
    let mut inner = Vec::new();
    for (name, value) in attributes {
        attribute(&mut inner, 1, name, AnyValue::Text(value));
    }
    let mut outer = Vec::new();
    bytes(&mut outer, 1, &inner);
    outer
}

/// What stands before `spans` bytes of spans in an `ExportTraceServiceRequest`: the keys and lengths of `ResourceSpans` and
/// `ScopeSpans`, and the resource. The scope has no name: the layer is whoever made the span.
fn head(resource: &[u8], spans: usize) -> Vec<u8> {
    let scope = 1 + varint_len(spans as u64);
    let mut head = Vec::with_capacity(16 + resource.len());
    head.push(1 << 3 | 2);
    varint(&mut head, (resource.len() + scope + spans) as u64);
    head.extend_from_slice(resource);
    head.push(2 << 3 | 2);
    varint(&mut head, spans as u64);
    head
}

/// A message that is written already.
#[derive(Clone)]
struct Message {
    head: Vec<u8>,
    spans: Bytes,
}

/// `ExportTraceServiceResponse`, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

/// Sends a message as it is, and reads of the answer how many spans were refused.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Message;
    type Decode = u64;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, message: Message, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(message.head.len() + message.spans.len());
        into.put_slice(&message.head);
        into.put_slice(&message.spans);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = u64;
    type Error = Status;

    fn decode(&mut self, answer: &mut DecodeBuf<'_>) -> Result<Option<u64>, Status> {
        let answer = Answer::decode(answer).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(answer.partial_success.map_or(0, |partial| partial.rejected_spans.unsigned_abs())))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("shared", &self.shared).finish_non_exhaustive()
    }
}

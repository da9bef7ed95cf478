//! The thread that sends what has closed.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Batcher, Next};
use crate::connection::Connector;
use crate::encode::{AnyValue, attribute, bytes, varint, varint_len};
use crate::endpoint::Endpoint;
use crate::error::SlimError;
use crate::grpc::{Client, PREFIX};
use crate::layer::Layer;
use crate::queue::Queue;
use crate::settings::{Settings, checked};
use crate::shared::{Counts, Requests, Shared};

/// Name of the thread that sends.
pub const THREAD: &str = "slim-spans";

/// Longer times are cut to this one, which clocks can still add up.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// One export that is over.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Spans in it.
    pub spans: u64,
    /// Time it took, retries included.
    pub took: Duration,
    /// How many spans the collector refused to take, or why the export failed, in the words of gRPC.
    pub outcome: Result<u64, String>,
}

/// The sending side. Dropping it without [`shutdown`](Self::shutdown) leaves what waits unsent.
#[derive(Debug)]
pub struct Slim {
    shared: Arc<Shared>,
    /// `None` once it was told to end.
    thread: Option<JoinHandle<()>>,
}

impl Slim {
    /// Starts the thread that sends; `told` hears of each export, on that thread. Nothing is connected until there is
    /// something to send.
    ///
    /// # Errors
    /// When the settings cannot be meant, or the thread cannot be started.
    pub fn start(settings: &Settings, told: impl Fn(Exported) + Send + 'static) -> Result<(Layer, Self), SlimError> {
        settings.headers.iter().try_for_each(checked)?;
        let connector = Connector::new(Endpoint::parse(&settings.endpoint)?, &settings.tls)?;
        let shared = Arc::new(Shared::new(Queue::new(settings.queue, settings.batch)));
        let sender = Sender {
            shared: Arc::clone(&shared),
            client: Client::new(connector, &settings.headers, settings.timeout.min(FOREVER)),
            resource: resource(&settings.resource),
            told: Box::new(told),
        };
        let delay = settings.delay.min(FOREVER);
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn(move || sender.run(delay))?;
        Ok((Layer { shared: Arc::clone(&shared) }, Self { shared, thread: Some(thread) }))
    }

    /// Sends what waits, and waits for it for at most `bound`.
    ///
    /// # Errors
    /// When that time was not enough.
    pub fn flush(&self, bound: Duration) -> Result<(), SlimError> {
        self.sent(false, bound)
    }

    /// Sends what waits, for at most `bound`, and ends the thread.
    ///
    /// # Errors
    /// When that time was not enough; the thread then ends by itself, later.
    pub fn shutdown(mut self, bound: Duration) -> Result<Counts, SlimError> {
        // Taken first, so that the thread goes on with what is left also where this gives up.
        let thread = self.thread.take();
        self.sent(true, bound)?;
        if let Some(thread) = thread {
            // It has nothing left to do but to return.
            drop(thread.join());
        }
        Ok(self.counts())
    }

    /// Where the spans went so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    fn sent(&self, end: bool, bound: Duration) -> Result<(), SlimError> {
        let (done, finished) = mpsc::channel();
        self.shared.request(|requests| {
            requests.flushes.push(done);
            requests.end |= end;
        });
        finished.recv_timeout(bound).map_err(|_| SlimError::Overdue(bound))
    }
}

impl Drop for Slim {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shared.request(|requests| requests.end = true);
        }
    }
}

/// The thread's own.
struct Sender {
    shared: Arc<Shared>,
    client: Client,
    /// `Resource`, as field 1 of `ResourceSpans`.
    resource: Vec<u8>,
    told: Box<dyn Fn(Exported) + Send>,
}

impl Sender {
    /// Sends until it is asked to end.
    fn run(mut self, delay: Duration) {
        let shared = Arc::clone(&self.shared);
        let mut batcher = Batcher::new(&shared.queue, delay, Instant::now());
        let (mut flushes, mut end) = (Vec::<mpsc::Sender<()>>::new(), false);
        loop {
            let asked = match batcher.next(&shared.queue, Instant::now()) {
                Next::Send(batch) => {
                    self.send(&batch);
                    shared.requests()
                }
                // Whoever asked for a flush hears of it before anything else is waited for.
                Next::Wait(_) if !flushes.is_empty() || end => shared.requests(),
                Next::Wait(due) => {
                    let asked = shared.wait(due);
                    self.client.attend();
                    asked
                }
            };
            if !batcher.owes() {
                for done in flushes.drain(..) {
                    // The asker may have stopped waiting.
                    let _ = done.send(());
                }
                if end {
                    return;
                }
            }
            let Requests { batch_ready: _, flushes: more, end: ends } = asked;
            if ends && more.is_empty() {
                // Nobody waits for what is left.
                return;
            }
            if !more.is_empty() {
                batcher.owe_all(&shared.queue, Instant::now());
                flushes.extend(more);
                end |= ends;
            }
        }
    }

    fn send(&mut self, batch: &Batch) {
        let (spans, started) = (batch.spans, Instant::now());
        let outcome = self.client.export(&message(&self.resource, &batch.bytes));
        self.shared.sent(spans, outcome.as_ref().ok().copied());
        let outcome = outcome.map_err(|status| status.to_string());
        (self.told)(Exported { spans: spans as u64, took: started.elapsed(), outcome });
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("shared", &self.shared).finish_non_exhaustive()
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

/// An `ExportTraceServiceRequest` of these spans as gRPC sends it, not compressed. In front of the spans stand the keys and
/// lengths of `ResourceSpans` and `ScopeSpans`, and the resource. The scope has no name: the layer is whoever made the span.
fn message(resource: &[u8], spans: &[u8]) -> Vec<u8> {
    let scope = 1 + varint_len(spans.len() as u64) + spans.len();
    let mut message = Vec::with_capacity(PREFIX + 16 + resource.len() + scope);
    message.extend_from_slice(&[0; PREFIX]);
    message.push(1 << 3 | 2);
    varint(&mut message, (resource.len() + scope) as u64);
    message.extend_from_slice(resource);
    message.push(2 << 3 | 2);
    varint(&mut message, spans.len() as u64);
    message.extend_from_slice(spans);
    // A batch has a megabyte or two at most, and a resource less.
    let length = ((message.len() - PREFIX) as u32).to_be_bytes();
    message[1..PREFIX].copy_from_slice(&length);
    message
}

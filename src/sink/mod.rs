//! The OTLP receiver: accepts traces, metrics and logs over gRPC and HTTP on one port, counts them, checks the trace trees,
//! and injects the faults of a misbehaving collector.
//!
//! It runs on its own thread and runtime in the parent process, as a collector runs beside a service. It knows nothing
//! about modes, lanes or the service: the expected shape of a trace tree is passed in.
//!
//! Only acknowledged requests count as received. gRPC is implemented by hand (five bytes of framing and three headers), so
//! that both transports share one path from the body to the counts, payloads are decoded in place, and a request can be
//! left unanswered or cut off.

mod answer;
mod connection;
mod exchange;
mod identity;
mod otlp;
mod points;
mod protobuf;
mod series;
mod tally;
mod tls;
mod trees;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

pub use self::protobuf::Malformed;
pub use self::tally::{ReceivedTally, items};
pub use self::tls::ServerTls;
pub use self::trees::{Caller, ShapeSpan, TreeShape};

use self::connection::{Patience, Port};
use crate::experiment::fault::{Fault, Percent, Signal, Timeline};
use crate::record::received::Received;

/// Name of the sink's threads.
pub const THREAD: &str = "sink";

/// Bytes of requests, compressed and decompressed, that one receiver holds at a time; beyond that, requests are refused.
const IN_HAND: usize = 256 << 20;

/// Maximum number of series, of totals of series, and of traces known only from log records.
const MOST_SERIES: usize = 1 << 20;
/// Maximum number of metric names, of service names and of resource attributes.
const MOST_NAMES: usize = 1 << 12;
/// Longest name, in bytes, of a metric or a service; attributes of resources are cut to it.
const LONGEST_NAME: usize = 1 << 10;

/// A sink: one runtime, shared by any number of receivers.
#[derive(Debug)]
pub struct Sink {
    /// `None` only during `drop`, which must not block because a sink may be dropped in async code.
    runtime: Option<Runtime>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Settings of a receiver.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Address to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Expected shape of the trace trees.
    pub shape: TreeShape,
    /// Settings for TLS; with it, plaintext connections are refused.
    pub tls: Option<ServerTls>,
    /// Faults to inject.
    pub faults: Vec<Fault>,
    /// Whether the timeline of the faults starts only with [`Receiver::begin`].
    pub faults_wait: bool,
    /// Texts that must not leak: every payload is searched for each of them.
    pub forbidden: Vec<String>,
    /// Number, from 1, of a span that is acknowledged but not counted: an injected loss that the ledger must find.
    pub lost_span: Option<u64>,
}

impl ReceiverConfig {
    /// A receiver at `addr` that expects trees of this shape: plaintext, no faults, no forbidden texts, no lost span.
    pub fn at(addr: SocketAddr, shape: TreeShape) -> Self {
        Self { addr, shape, tls: None, faults: Vec::new(), faults_wait: false, forbidden: Vec::new(), lost_span: None }
    }
}

/// One listening address with its own counts. Dropping it closes the address.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    is_tls: bool,
    state: Arc<ReceiverState>,
    _close: oneshot::Sender<()>,
}

#[derive(Debug)]
struct ReceiverState {
    tally: Mutex<ReceivedTally>,
    wire_bytes: AtomicU64,
    in_hand: Semaphore,
    patience: Patience,
    timeline: Timeline,
    /// When the timeline of the faults started; `None` while it waits.
    began: watch::Sender<Option<Instant>>,
    /// Items seen so far by each fault that affects a share of them, by signal.
    shared: Vec<[AtomicU64; 3]>,
}

impl Sink {
    /// Starts the sink's thread.
    ///
    /// # Errors
    /// If the runtime cannot be created.
    pub fn start() -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(THREAD).enable_all().build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Starts a receiver. The timeline of the faults starts now, unless it waits for [`Receiver::begin`].
    ///
    /// # Errors
    /// If the address cannot be bound, a certificate or key is unusable, or the faults contradict each other.
    pub fn listen(&self, config: ReceiverConfig) -> io::Result<Receiver> {
        self.listen_for(config, Patience::default())
    }

    fn listen_for(&self, config: ReceiverConfig, patience: Patience) -> io::Result<Receiver> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let ReceiverConfig { addr, shape, tls, faults, faults_wait, forbidden, lost_span } = config;
        let timeline = Timeline::new(faults).map_err(invalid)?;
        let acceptor = tls.as_ref().map(ServerTls::acceptor).transpose()?;
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("the sink has ended"))?;
        let entered = runtime.enter();
        let mut port = Port::closed(addr)?;
        let addr = port.addr()?;
        if !timeline.is_down(Duration::ZERO) {
            port = port.opened()?;
        }
        drop(entered);
        let state = Arc::new(ReceiverState {
            tally: Mutex::new(ReceivedTally::new(shape, &forbidden).losing(lost_span)),
            wire_bytes: AtomicU64::new(0),
            in_hand: Semaphore::new(IN_HAND),
            patience,
            shared: (0..timeline.len()).map(|_| Default::default()).collect(),
            timeline,
            began: watch::Sender::new((!faults_wait).then(Instant::now)),
        });
        let (close, closed) = oneshot::channel::<()>();
        let attending = connection::attend(port, Arc::clone(&state), acceptor);
        runtime.spawn(async move {
            tokio::select! {
                _ = closed => {}
                Err(error) = attending => eprintln!("warning: the sink at {addr} stopped receiving: {error}"),
            }
        });
        Ok(Receiver { addr, is_tls: tls.is_some(), state, _close: close })
    }
}

impl Receiver {
    /// URL for OTLP/gRPC and OTLP/HTTP exporters. With TLS the host is `localhost`, because certificates name it.
    pub fn endpoint(&self) -> String {
        if self.is_tls { format!("https://localhost:{}", self.addr.port()) } else { format!("http://{}", self.addr) }
    }

    /// Starts or restarts the timeline of the faults.
    pub fn begin(&self) {
        self.state.began.send_replace(Some(Instant::now()));
    }

    /// Everything received so far.
    pub fn received(&self) -> Received {
        self.state.lock().received(self.state.wire_bytes.load(Relaxed))
    }
}

impl ReceiverState {
    fn lock(&self) -> MutexGuard<'_, ReceivedTally> {
        // A panic in one request must not stop the others from being counted.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Position on the timeline of the faults.
    fn elapsed(&self) -> Duration {
        self.began.borrow().map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// How many of the next `n` items of a signal are affected by the fault with index `place`, which affects a share of them.
    fn in_share(&self, share: Percent, place: usize, signal: Signal, n: u64) -> u64 {
        share.of(self.shared[place][signal as usize].fetch_add(n, Relaxed), n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// Connects, sends `text` and then nothing. Returns the response and the receiver's counts.
    fn answer(patience: Patience, text: &str) -> (String, Received) {
        let sink = Sink::start().unwrap();
        let config = ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), TreeShape::default());
        let receiver = sink.listen_for(config, patience).unwrap();
        let mut stream = TcpStream::connect(receiver.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let n = stream.read(&mut answer).expect("the sink answers or closes");
        // The close is visible before it is counted.
        while n == 0 && receiver.received().refused_connections == 0 {
            std::thread::yield_now();
        }
        (String::from_utf8_lossy(&answer[..n]).into_owned(), receiver.received())
    }

    #[test]
    fn slow_clients_are_disconnected_after_a_time_out() {
        let soon = Duration::from_millis(50);
        let (answer_text, received) = answer(Patience { greeting: soon, ..Patience::default() }, "");
        let why = received.last_refused_connection.unwrap();
        assert_eq!((answer_text.as_str(), why.as_str()), ("", "the client sent nothing for 50ms"));
        let (answer_text, received) = answer(Patience { silence: soon, ..Patience::default() }, "POST /v1/traces HT");
        assert_eq!((answer_text.as_str(), received.refused_connections), ("", 1), "headers that never end");
        let head =
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\n";
        let (answer_text, received) = answer(Patience { payload: soon, ..Patience::default() }, head);
        assert!(answer_text.starts_with("HTTP/1.1 408"), "{answer_text}");
        assert_eq!((received.requests_refused, received.exports), (1, 0));
    }

    #[test]
    fn requests_beyond_the_memory_limit_of_the_receiver_are_refused() {
        let sink = Sink::start().unwrap();
        let config = ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), TreeShape::default());
        let receiver = sink.listen(config).unwrap();
        let request = "POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 2\r\n\r\n\x0a\x00";
        let ask = || {
            let mut stream = TcpStream::connect(receiver.addr).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        assert_eq!(ask(), "HTTP/1.1 200");
        let others = receiver.state.in_hand.try_acquire_many(IN_HAND as u32 - 1).unwrap();
        assert_eq!(ask(), "HTTP/1.1 503");
        drop(others);
        assert_eq!(ask(), "HTTP/1.1 200");
        assert_eq!(receiver.state.in_hand.available_permits(), IN_HAND);
    }
}

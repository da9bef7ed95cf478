//! The OTLP receiver: takes traces, metrics and logs over gRPC and HTTP on one port, counts them, checks that the trace trees
//! are right, and misbehaves on request as a collector may.
//!
//! It runs on a thread and a runtime of its own, in the parent process, as a collector runs beside a service. It knows
//! nothing of modes, lanes or the service: the shape that a tree should have is given to it.
//!
//! What is counted as received is what was acknowledged. gRPC is spoken by hand, five bytes of frame and three headers: both
//! protocols then share one way from the body to the account, payloads are read where they lie, and a request can be left
//! without an answer or be cut off.

mod answer;
mod connection;
mod exchange;
mod otlp;
mod protobuf;
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
pub use self::tally::{Tally, items};
pub use self::tls::Tls;
pub use self::trees::{Caller, ShapeSpan, TreeShape};

use self::connection::{Patience, Port};
use crate::experiment::fault::{Fault, Percent, Signal, Timeline};
use crate::record::received::Received;

/// Name of the sink's threads.
pub const THREAD: &str = "sink";

/// Bytes of requests, compressed and decompressed, that one receiver holds at a time; beyond it requests are refused.
const IN_HAND: usize = 256 << 20;

/// A sink: one runtime that any number of receivers share.
#[derive(Debug)]
pub struct Sink {
    /// Always there but in `drop`, which must not wait: a sink may be dropped where blocking is not allowed.
    runtime: Option<Runtime>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is to be received, where, and how.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Where to listen.
    pub addr: SocketAddr,
    /// What trees are held against.
    pub shape: TreeShape,
    /// With it TLS is spoken, and nothing else.
    pub tls: Option<Tls>,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// Whether their timeline stands at its beginning until [`Receiver::begin`].
    pub faults_wait: bool,
    /// Texts that no payload may hold; each is searched for in every payload.
    pub forbidden: Vec<String>,
    /// The span of this number, from 1, is acknowledged and not counted: a loss that whoever keeps the ledger must find.
    pub lost_span: Option<u64>,
}

impl ReceiverConfig {
    /// At this address, trees held against `shape`; in plaintext, without faults, and nothing forbidden or lost.
    pub fn at(addr: SocketAddr, shape: TreeShape) -> Self {
        Self { addr, shape, tls: None, faults: Vec::new(), faults_wait: false, forbidden: Vec::new(), lost_span: None }
    }
}

/// One address that telemetry is sent to, with an account of its own. Dropping it closes the address.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    is_tls: bool,
    state: Arc<State>,
    _close: oneshot::Sender<()>,
}

#[derive(Debug)]
struct State {
    tally: Mutex<Tally>,
    wire_bytes: AtomicU64,
    in_hand: Semaphore,
    patience: Patience,
    timeline: Timeline,
    /// When the timeline began, if it has.
    began: watch::Sender<Option<Instant>>,
    /// What each fault that takes a share was given so far, by signal.
    shared: Vec<[AtomicU64; 3]>,
}

impl Sink {
    /// Starts the sink's threads.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn start() -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(THREAD).enable_all().build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Begins to receive. The timeline of the faults begins now, unless it waits, or anew with [`Receiver::begin`].
    ///
    /// # Errors
    /// When the address cannot be bound, the certificates or the key are not usable, or the faults contradict each other.
    pub fn listen(&self, reception: ReceiverConfig) -> io::Result<Receiver> {
        self.listen_for(reception, Patience::default())
    }

    fn listen_for(&self, reception: ReceiverConfig, patience: Patience) -> io::Result<Receiver> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let ReceiverConfig { addr, shape, tls, faults, faults_wait, forbidden, lost_span } = reception;
        let timeline = Timeline::new(faults).map_err(invalid)?;
        let acceptor = tls.as_ref().map(Tls::acceptor).transpose()?;
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("the sink has ended"))?;
        let entered = runtime.enter();
        let mut port = Port::closed(addr)?;
        let addr = port.addr()?;
        if !timeline.is_down(Duration::ZERO) {
            port = port.opened()?;
        }
        drop(entered);
        let state = Arc::new(State {
            tally: Mutex::new(Tally::new(shape, &forbidden).losing(lost_span)),
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
    /// Where to send to, over OTLP/gRPC or OTLP/HTTP. With TLS it is `localhost` by name, as certificates have it.
    pub fn endpoint(&self) -> String {
        if self.is_tls { format!("https://localhost:{}", self.addr.port()) } else { format!("http://{}", self.addr) }
    }

    /// Begins the timeline of the faults anew.
    pub fn begin(&self) {
        self.state.began.send_replace(Some(Instant::now()));
    }

    /// What was received so far.
    pub fn received(&self) -> Received {
        self.state.lock().received(self.state.wire_bytes.load(Relaxed))
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        // A panic in one request must not stop the count of the others.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time on the faults' timeline.
    fn elapsed(&self) -> Duration {
        self.began.borrow().map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// How many of the next `n` things of a signal are in the share of the fault at this place.
    fn in_share(&self, share: Percent, place: usize, signal: Signal, n: u64) -> u64 {
        share.of(self.shared[place][signal as usize].fetch_add(n, Relaxed), n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// What becomes of a client that says so much and then nothing.
    fn answer(patience: Patience, said: &str) -> (String, Received) {
        let sink = Sink::start().unwrap();
        let reception = ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), TreeShape::default());
        let receiver = sink.listen_for(reception, patience).unwrap();
        let mut stream = TcpStream::connect(receiver.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let n = stream.read(&mut answer).expect("the sink has the last word");
        // An end is seen before it is counted.
        while n == 0 && receiver.received().refused_connections == 0 {
            std::thread::yield_now();
        }
        (String::from_utf8_lossy(&answer[..n]).into_owned(), receiver.received())
    }

    #[test]
    fn whoever_is_slow_is_waited_for_so_long_and_no_longer() {
        let soon = Duration::from_millis(50);
        let (said, received) = answer(Patience { greeting: soon, ..Patience::default() }, "");
        let why = received.last_refused_connection.unwrap();
        assert_eq!((said.as_str(), why.as_str()), ("", "nothing was said for 50ms"));
        let (said, received) = answer(Patience { silence: soon, ..Patience::default() }, "POST /v1/traces HT");
        assert_eq!((said.as_str(), received.refused_connections), ("", 1), "headers that never end");
        let head =
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\n";
        let (said, received) = answer(Patience { payload: soon, ..Patience::default() }, head);
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
        assert_eq!((received.requests_refused, received.exports), (1, 0));
    }

    #[test]
    fn requests_hold_no_more_bytes_together_than_there_are_to_hold() {
        let sink = Sink::start().unwrap();
        let reception = ReceiverConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)), TreeShape::default());
        let receiver = sink.listen(reception).unwrap();
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

//! The clients that send one request and read its response.
//!
//! [`raw`] writes prepared bytes and parses only as much of the response as it needs; it is the default for measurements.
//! [`hyper`] wraps the well-known client as a cross-check: both must count the same outcomes against the same server.
//! [`http2`] sends many requests over one connection. [`direct`] calls a handler without sockets.

mod direct;
mod head;
mod http2;
mod hyper;
mod raw;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode};
use nix::errno::Errno;

pub use self::direct::Handler;

/// The client and the address it sends to.
#[derive(Clone, Debug)]
pub enum Client {
    /// HTTP/1.1 with prepared bytes on a socket.
    Raw(SocketAddr),
    /// HTTP/1.1 with hyper.
    Hyper(SocketAddr),
    /// HTTP/2 with hyper, without TLS and with prior knowledge (h2c).
    Http2 {
        /// Address of the server.
        addr: SocketAddr,
        /// Concurrent requests per connection. If the server allows fewer, the others wait.
        streams: usize,
    },
    /// No sockets: each request is a call on the generator's own thread, which then also does the work of the service.
    Direct(Handler),
}

impl Client {
    /// Maximum number of concurrent requests on one connection.
    pub(super) fn streams(&self) -> usize {
        match self {
            Self::Raw(_) | Self::Hyper(_) | Self::Direct(_) => 1,
            Self::Http2 { streams, .. } => *streams,
        }
    }
}

/// Creates the connections of all slots of a thread, and holds the connections that slots share.
pub(super) struct Wire {
    client: Client,
    shared: Vec<Rc<http2::Shared>>,
}

impl Wire {
    pub(super) fn new(client: Client, connections: usize) -> Self {
        let shared = match &client {
            Client::Http2 { addr, .. } => (0..connections).map(|_| Rc::new(http2::Shared::new(*addr))).collect(),
            Client::Raw(_) | Client::Hyper(_) | Client::Direct(_) => Vec::new(),
        };
        Self { client, shared }
    }

    /// A connection for `slot`, which opens with its first request.
    pub(super) fn connection(&self, slot: usize) -> Connection {
        match &self.client {
            Client::Raw(addr) => Connection::Raw(raw::Connection::new(*addr)),
            Client::Hyper(addr) => Connection::Hyper(hyper::Connection::new(*addr)),
            Client::Http2 { .. } => Connection::Http2(http2::Stream::on(&self.shared[slot % self.shared.len()])),
            Client::Direct(handler) => Connection::Direct(direct::Call::of(handler)),
        }
    }
}

/// A complete response with its timestamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimedResponse {
    /// Status of the response.
    pub status: StatusCode,
    /// When the first byte of the request was passed to the kernel.
    pub written: Instant,
    /// When the last byte of the response was read.
    pub completed: Instant,
}

/// Class of the error that left a request without a complete response. Failures are counted by class.
pub(super) type FailureClass = &'static str;

/// A connection that sends one request at a time and reopens itself after a failure.
pub(super) enum Connection {
    Raw(raw::Connection),
    Hyper(hyper::Connection),
    Http2(http2::Stream),
    Direct(direct::Call),
}

impl Connection {
    /// Connects now.
    pub(super) async fn open(&mut self) -> io::Result<()> {
        match self {
            Self::Raw(connection) => connection.open().await,
            Self::Hyper(connection) => connection.open().await,
            Self::Http2(stream) => stream.open().await,
            Self::Direct(_) => Ok(()),
        }
    }

    /// Sends `request`, a whole HTTP/1.1 request, and reads the response to its last byte.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<TimedResponse, FailureClass> {
        match self {
            Self::Raw(connection) => connection.exchange(request).await,
            Self::Hyper(connection) => connection.exchange(request).await,
            Self::Http2(stream) => stream.exchange(request).await,
            Self::Direct(call) => call.exchange(request).await,
        }
    }
}

/// Parses a whole HTTP/1.1 request; `None` if it is malformed.
pub(crate) fn parsed(request: &[u8]) -> Option<Request<Bytes>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(request).ok()? else { return None };
    let mut built = Request::builder().method(head.method?).uri(head.path?);
    for header in head.headers.iter() {
        built = built.header(header.name, header.value);
    }
    built.body(Bytes::copy_from_slice(&request[length..])).ok()
}

/// The failure class of a system error.
fn io_class(error: &io::Error) -> FailureClass {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => "refused",
        Some(Errno::ECONNRESET | Errno::EPIPE) => "reset",
        Some(Errno::EMFILE | Errno::ENFILE) => "no_descriptor",
        Some(Errno::EADDRNOTAVAIL) => "no_port",
        Some(Errno::ETIMEDOUT | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => "unreachable",
        Some(_) => "io",
        None if error.kind() == io::ErrorKind::UnexpectedEof => "closed",
        None => "bad_response",
    }
}

//! What carries one exchange: clients behind one seam.
//!
//! [`raw`] writes prepared bytes and reads just what it needs of the answer; it is the one that measures. [`hyper`] is the
//! well-known client, kept as a cross-check: both must count the same outcomes against the same server. [`http2`] has many
//! exchanges share a connection. [`direct`] has no wire.

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

/// What carries the requests, and to whom.
#[derive(Clone, Debug)]
pub enum Client {
    /// HTTP/1.1: prepared bytes on a socket.
    Raw(SocketAddr),
    /// hyper's HTTP/1.1.
    Hyper(SocketAddr),
    /// hyper's HTTP/2, without TLS and with prior knowledge (h2c).
    Http2 {
        /// Where the server listens.
        addr: SocketAddr,
        /// Requests that each connection carries at a time; the server may allow fewer, and the others then wait.
        streams: usize,
    },
    /// Nothing: each request is a call on the generator's own thread, which then does the work of the service too.
    Direct(Handler),
}

impl Client {
    /// Exchanges that one connection carries at a time.
    pub(super) fn streams(&self) -> usize {
        match self {
            Self::Raw(_) | Self::Hyper(_) | Self::Direct(_) => 1,
            Self::Http2 { streams, .. } => *streams,
        }
    }
}

/// Makes the connection of every slot of a thread. Where slots share connections, it holds those.
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

    /// A connection for `slot` that opens with its first exchange.
    pub(super) fn connection(&self, slot: usize) -> Connection {
        match &self.client {
            Client::Raw(addr) => Connection::Raw(raw::Connection::new(*addr)),
            Client::Hyper(addr) => Connection::Hyper(hyper::Connection::new(*addr)),
            Client::Http2 { .. } => Connection::Http2(http2::Stream::on(&self.shared[slot % self.shared.len()])),
            Client::Direct(handler) => Connection::Direct(direct::Call::of(handler)),
        }
    }
}

/// A whole answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// When the kernel was given the first byte of the request.
    pub written: Instant,
    /// When the last byte of the answer was read.
    pub completed: Instant,
}

/// The class of error that left a request without a whole answer. Each is counted apart.
pub(super) type Failure = &'static str;

/// A connection that carries one exchange at a time, and opens itself anew when the last one failed.
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

    /// Sends a whole request, given as HTTP/1.1 has it, and reads the answer to its last byte.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        match self {
            Self::Raw(connection) => connection.exchange(request).await,
            Self::Hyper(connection) => connection.exchange(request).await,
            Self::Http2(stream) => stream.exchange(request).await,
            Self::Direct(call) => call.exchange(request).await,
        }
    }
}

/// A whole HTTP/1.1 request in the terms of the `http` crate; `None` when it is none.
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

/// The class that a system error is counted under.
fn io_class(error: &io::Error) -> Failure {
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

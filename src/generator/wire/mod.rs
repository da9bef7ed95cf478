//! One keep-alive HTTP/1.1 connection: two clients behind one seam.
//!
//! [`raw`] writes prepared bytes and reads just what it needs of the answer; it is the one that measures. [`hyper`] is the
//! well-known client, kept as a cross-check: both must count the same outcomes against the same server.

mod hyper;
mod raw;

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use http::StatusCode;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The client that carries requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Prepared bytes on a socket.
    #[default]
    Raw,
    /// hyper's HTTP/1.1.
    Hyper,
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
}

impl Connection {
    /// A connection to `addr` that opens with its first exchange.
    pub(super) fn new(client: Client, addr: SocketAddr) -> Self {
        match client {
            Client::Raw => Self::Raw(raw::Connection::new(addr)),
            Client::Hyper => Self::Hyper(hyper::Connection::new(addr)),
        }
    }

    /// Connects now.
    pub(super) async fn open(&mut self) -> io::Result<()> {
        match self {
            Self::Raw(connection) => connection.open().await,
            Self::Hyper(connection) => connection.open().await,
        }
    }

    /// Sends a whole HTTP/1.1 request and reads the answer to its last byte.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        match self {
            Self::Raw(connection) => connection.exchange(request).await,
            Self::Hyper(connection) => connection.exchange(request).await,
        }
    }
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

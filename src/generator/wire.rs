//! One keep-alive HTTP/1.1 connection, on hyper.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// When the first byte of the request went to the kernel.
    pub written: Instant,
    /// When the last byte of the answer was read.
    pub completed: Instant,
}

/// Why there was no whole answer. Each class is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer within the time-out.
    TimedOut,
    /// The named class of error.
    Error(&'static str),
}

/// A connection that carries one exchange at a time, and opens itself anew when the last one failed.
pub(super) struct Connection {
    addr: SocketAddr,
    live: Option<Live>,
}

struct Live {
    sender: SendRequest<Full<Bytes>>,
    /// When the kernel first took bytes since this was cleared.
    written: Rc<Cell<Option<Instant>>>,
}

impl Connection {
    /// A connection to `addr` that opens with its first exchange.
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, live: None }
    }

    /// Connects now.
    pub(super) async fn open(&mut self) -> io::Result<()> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let written = Rc::new(Cell::new(None));
        let stamped = Stamped { stream, written: Rc::clone(&written) };
        let (sender, driver) = http1::handshake(TokioIo::new(stamped)).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // The driver's error reaches the exchange that was under way.
            drop(driver.await);
        });
        self.live = Some(Live { sender, written });
        Ok(())
    }

    /// Sends `request` and reads the answer to its last byte, within `timeout`.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let outcome = tokio::time::timeout(timeout, self.attempt(request)).await.unwrap_or(Err(Failure::TimedOut));
        if outcome.is_err() {
            // It may still get the answer to this request, which must not be read as the answer to the next.
            self.live = None;
        }
        outcome
    }

    async fn attempt(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        if self.live.as_ref().is_none_or(|live| live.sender.is_closed()) {
            self.open().await.map_err(|error| Failure::Error(io_class(&error)))?;
        }
        let Some(live) = &mut self.live else { return Err(Failure::Error("connect")) };
        live.written.set(None);
        let status = exchange(&mut live.sender, request).await.map_err(|error| Failure::Error(class(&error)))?;
        let completed = Instant::now();
        Ok(Answer { status, written: live.written.get().unwrap_or(completed), completed })
    }
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> hyper::Result<StatusCode> {
    sender.ready().await?;
    let mut answer = sender.send_request(request).await?;
    while let Some(frame) = answer.body_mut().frame().await {
        frame?;
    }
    Ok(answer.status())
}

/// The class an error is counted under.
fn class(error: &hyper::Error) -> &'static str {
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(io) => io_class(io),
        None if error.is_parse() => "bad_response",
        None if error.is_closed() || error.is_canceled() || error.is_incomplete_message() => "closed",
        None => "http",
    }
}

fn io_class(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::AddrNotAvailable => "no_address",
        _ => "io",
    }
}

/// A stream that notes when the kernel first takes bytes.
struct Stamped {
    stream: TcpStream,
    written: Rc<Cell<Option<Instant>>>,
}

impl Stamped {
    fn stamp(&self) {
        if self.written.get().is_none() {
            self.written.set(Some(Instant::now()));
        }
    }
}

impl AsyncRead for Stamped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stamp();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stamp();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

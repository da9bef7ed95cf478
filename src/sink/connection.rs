//! The listening port and its connections: opens and closes the port, accepts connections and limits their time.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::ReceiverState;
use super::exchange::{Conn, exchange};
use crate::experiment::units::in_one_word;

/// Listen backlog: connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Maximum number of open connections; further ones are closed at once.
const MOST_CONNECTIONS: usize = 1024;

/// Time-outs for slow clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the first byte of a connection, and for the TLS handshake.
    pub(super) greeting: Duration,
    /// For a whole payload, from the end of the request headers.
    pub(super) payload: Duration,
    /// For the next request on a connection, including its headers: twice the default export interval of metrics.
    pub(super) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { greeting: Duration::from_secs(10), payload: Duration::from_secs(30), silence: Duration::from_mins(2) }
    }
}

/// Concurrent requests on one HTTP/2 connection.
const STREAMS: u32 = 32;
/// Bytes of headers of one request.
const HEADERS: u32 = 8 << 10;
/// HTTP/2 flow-control window in bytes, of a stream and of a connection.
const WINDOW: u32 = 1 << 20;

/// First byte of a TLS handshake. No HTTP request starts with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// A port that listens, or one that is closed but reserved: connecting to a socket that is bound but does not listen is
/// refused, and no other process gets the port.
pub(super) enum Port {
    Open(TcpListener),
    Closed(TcpSocket),
}

impl Port {
    /// Binds the port without listening.
    pub(super) fn closed(addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Allows to reuse the port of a receiver that was closed a moment ago.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Self::Closed(socket))
    }

    pub(super) fn opened(self) -> io::Result<Self> {
        match self {
            Self::Closed(socket) => Ok(Self::Open(socket.listen(BACKLOG)?)),
            open @ Self::Open(_) => Ok(open),
        }
    }

    pub(super) fn addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Open(listener) => listener.local_addr(),
            Self::Closed(socket) => socket.local_addr(),
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Open(listener) => listener.accept().await.map(|(stream, _)| stream),
            Self::Closed(_) => std::future::pending().await,
        }
    }
}

/// Accepts connections for as long as it is polled, and opens and closes the port according to the fault timeline.
pub(super) async fn attend(mut port: Port, state: Arc<ReceiverState>, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let addr = port.addr()?;
    let mut began = state.began.subscribe();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let start = *began.borrow_and_update();
        let elapsed = start.map_or(Duration::ZERO, |start| start.elapsed());
        port = match (state.timeline.is_down(elapsed), port) {
            (true, Port::Open(listener)) => {
                drop(listener);
                let closed = Port::closed(addr)?;
                connections.shutdown().await;
                closed
            }
            (false, closed @ Port::Closed(_)) => closed.opened()?,
            (_, same) => same,
        };
        let turn = start.zip(state.timeline.next_turn(elapsed)).map(|(start, turn)| start + turn);
        tokio::select! {
            () = until(turn) => {}
            _ = began.changed() => {}
            Some(_) = connections.join_next() => {}
            accepted = port.accept() => match accepted {
                Err(_) => sleep(Duration::from_millis(10)).await, // No descriptors left, or the client has already gone.
                Ok(stream) => match Arc::clone(&room).try_acquire_owned() {
                    Err(_) => state.lock().refuse_connection(format!("{MOST_CONNECTIONS} connections are already open")),
                    Ok(place) => {
                        let (state, tls) = (Arc::clone(&state), tls.clone());
                        connections.spawn(async move {
                            if let Err(reason) = connection(stream, Arc::clone(&state), tls).await {
                                state.lock().refuse_connection(reason);
                            }
                            drop(place);
                        });
                    }
                },
            },
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Serves one connection. The error says why it was refused.
async fn connection(stream: TcpStream, state: Arc<ReceiverState>, tls: Option<TlsAcceptor>) -> Result<(), String> {
    let conn =
        Arc::new(Conn { state, requests: AtomicU64::new(0), cut: Notify::new(), is_reset: AtomicBool::new(false) });
    // Responses are small and written at once, so Nagle's algorithm would only delay them.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let greeting = conn.state.patience.greeting;
    let mut first = [0];
    let speaks_tls = match timeout(greeting, stream.peek(&mut first)).await {
        Err(_) => return Err(format!("the client sent nothing for {}", in_one_word(greeting))),
        // The client has closed the connection.
        Ok(Ok(0) | Err(_)) => return Ok(()),
        Ok(Ok(_)) => first[0] == TLS_HANDSHAKE,
    };
    let stream = Counted { stream, conn: Arc::clone(&conn) };
    match tls {
        None => {
            let served = serve(stream, &conn).await;
            served.map_err(|why| if speaks_tls { "a TLS handshake was sent to a plaintext port".into() } else { why })
        }
        Some(acceptor) => match timeout(greeting, acceptor.accept(stream)).await {
            Err(_) => Err(format!("the TLS handshake took more than {}", in_one_word(greeting))),
            Ok(Err(_)) if !speaks_tls => Err("plaintext was sent to a TLS port".into()),
            Ok(Err(error)) => Err(format!("TLS handshake: {error}")),
            Ok(Ok(stream)) => serve(stream, &conn).await,
        },
    }
}

/// Serves HTTP/1 or HTTP/2, whichever the client speaks.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, conn: &Arc<Conn>) -> Result<(), String> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(conn.state.patience.silence)
        .max_buf_size(HEADERS as usize * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let service = service_fn(|request| exchange(request, Arc::clone(conn)));
    let serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        served = serving => match served {
            // A connection that has sent a request does not count as refused.
            Err(error) if conn.requests.load(Relaxed) == 0 => Err(format!("no request was received: {error}")),
            _ => Ok(()),
        },
        () = conn.cut.notified() => Ok(()),
        () = silence(conn) => match conn.requests.load(Relaxed) {
            0 => Err(format!("no request was received for {}", in_one_word(conn.state.patience.silence))),
            _ => Ok(()),
        },
    }
}

/// Returns when no request has started within the time-out.
async fn silence(conn: &Conn) {
    loop {
        let before = conn.requests.load(Relaxed);
        sleep(conn.state.patience.silence).await;
        if conn.requests.load(Relaxed) == before {
            return;
        }
    }
}

/// A socket that adds the bytes it reads to the receiver's `wire_bytes`.
struct Counted {
    stream: TcpStream,
    conn: Arc<Conn>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.conn.is_reset.load(Relaxed) {
            // Closes with a reset. If this fails, the client sees a regular close instead.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.conn.state.wire_bytes.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

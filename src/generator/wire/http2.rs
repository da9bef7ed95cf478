//! hyper's HTTP/2 client, without TLS and with prior knowledge: many streams on one connection.
//!
//! When a connection dies, the requests on all of its streams fail. The next request on any of them reopens it, once for
//! all streams.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, LocalBoxFuture};
use h2::Reason;
use http::uri::{Authority, Scheme, Uri};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::io::{InspectReader, InspectWriter};

use super::{FailureClass, TimedResponse, io_class, parsed};

/// Longest wait for the server's SETTINGS frame, which an HTTP/2 server sends without being asked.
const GREETING: Duration = Duration::from_secs(5);
/// Length of the connection preface that a client sends first. Source: RFC 9113, section 3.4.
const PREFACE: usize = 24;
/// Length of a frame header. Source: RFC 9113, section 4.1.
const FRAME_HEAD: usize = 9;
/// Frame types. Source: RFC 9113, section 6.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// Failure class of a connection that was closed without an error code.
const CLOSED: FailureClass = "closed";

/// A connection that several streams share.
pub(in crate::generator) struct Shared {
    addr: SocketAddr,
    /// The latest attempt to open it. All streams wait for the same attempt.
    opening: RefCell<Option<Opening>>,
}

type Opening = future::Shared<LocalBoxFuture<'static, Result<OpenConnection, Unopened>>>;

/// One stream at a time on a shared connection.
pub(in crate::generator) struct Stream(Rc<Shared>);

#[derive(Clone)]
struct OpenConnection {
    sender: SendRequest<StampedBody>,
    stamps: Rc<Stamps>,
    /// Set by the first request that sees the connection end; hyper may notice only later.
    dead: Rc<Cell<bool>>,
    /// The failure class of the error that ended the connection, if any.
    end: future::Shared<LocalBoxFuture<'static, Option<FailureClass>>>,
}

/// Why the connection could not be opened.
#[derive(Clone)]
struct Unopened {
    class: FailureClass,
    error: Arc<io::Error>,
}

impl Shared {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, opening: RefCell::new(None) }
    }

    /// The connection, reopened if it died or could not be opened.
    fn live(&self) -> Opening {
        let mut opening = self.opening.borrow_mut();
        let last = opening.take().filter(|opening| match opening.peek() {
            // Still being opened.
            None => true,
            Some(Ok(live)) => !live.dead.get() && !live.sender.is_closed(),
            Some(Err(_)) => false,
        });
        opening.insert(last.unwrap_or_else(|| open(self.addr).boxed_local().shared())).clone()
    }
}

impl Stream {
    pub(super) fn on(connection: &Rc<Shared>) -> Self {
        Self(Rc::clone(connection))
    }

    pub(super) async fn open(&self) -> io::Result<()> {
        let opened = self.0.live().await;
        opened.map(drop).map_err(|unopened| io::Error::new(unopened.error.kind(), unopened.error))
    }

    /// Sends a request. Dropping the future resets this stream only.
    pub(super) async fn exchange(&self, request: &[u8]) -> Result<TimedResponse, FailureClass> {
        let request = parsed(request).and_then(absolute).ok_or("bad_request")?;
        let OpenConnection { mut sender, stamps, dead, end } =
            self.0.live().await.map_err(|unopened| unopened.class)?;
        let written = Stamp::default();
        let request = request.map(|bytes| StampedBody::new(bytes, Opens { stamps, stream: Rc::clone(&written) }));
        match exchange(&mut sender, request).await {
            Ok(status) => {
                let completed = Instant::now();
                Ok(TimedResponse { status, written: written.get().unwrap_or(completed), completed })
            }
            Err(error) => {
                let (class, scope) = judge(&error);
                if scope == Scope::Connection {
                    dead.set(true);
                }
                // A server sends GOAWAY with a reason and then closes; the streams only see the close.
                Err(if class == CLOSED { end.await.unwrap_or(class) } else { class })
            }
        }
    }
}

/// Moves the host header into the URI, as HTTP/2 requires; `None` without one.
fn absolute(request: Request<Bytes>) -> Option<Request<Bytes>> {
    let (mut head, body) = request.into_parts();
    let host = head.headers.remove(header::HOST)?;
    let mut uri = head.uri.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    head.uri = Uri::from_parts(uri).ok()?;
    Some(Request::from_parts(head, body))
}

async fn exchange(sender: &mut SendRequest<StampedBody>, request: Request<StampedBody>) -> hyper::Result<StatusCode> {
    let mut answer = sender.send_request(request).await?;
    while let Some(frame) = answer.body_mut().frame().await {
        frame?;
    }
    Ok(answer.status())
}

/// Connects and waits for the server's SETTINGS frame, so that an HTTP/1.1 server is not mistaken for a slow HTTP/2 one.
async fn open(addr: SocketAddr) -> Result<OpenConnection, Unopened> {
    let failed = |error: io::Error| Unopened { class: io_class(&error), error: Arc::new(error) };
    let no_http2 = |class, kind, what| {
        let why = format!("{what}: it does not speak HTTP/2 without TLS (h2c)");
        Unopened { class, error: Arc::new(io::Error::new(kind, why)) }
    };
    let socket = TcpStream::connect(addr).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let stamps = Rc::new(Stamps::default());
    let (stamping, mut frames) = (Rc::clone(&stamps), Frames::default());
    let stamped = InspectWriter::new(socket, move |bytes: &[u8]| {
        let now = Instant::now();
        frames.headers(bytes, |stream| stamping.written(stream, now));
    });
    let (greet, greeted) = oneshot::channel();
    let (mut greet, mut first) = (Some(greet), Vec::new());
    let heard = InspectReader::new(stamped, move |bytes: &[u8]| {
        if greet.is_none() {
            return;
        }
        first.extend_from_slice(bytes);
        if let Some(head) = first.first_chunk::<FRAME_HEAD>()
            && let Some(greet) = greet.take()
        {
            // The receiver may have been dropped.
            let _ = greet.send(*head);
        }
    });
    let handshake = http2::handshake(OnThisThread, TokioIo::new(heard)).await;
    let (sender, driver) = handshake.map_err(|error| failed(io::Error::other(error)))?;
    let end = driver.map(|end| end.err().map(|error| judge(&error).0)).boxed_local().shared();
    tokio::task::spawn_local(end.clone());
    match tokio::time::timeout(GREETING, greeted).await {
        Ok(Ok([_, _, _, SETTINGS, 0, 0, 0, 0, 0])) => Ok(OpenConnection { sender, stamps, dead: Rc::default(), end }),
        Ok(Ok(_)) => {
            Err(no_http2("not_http2", io::ErrorKind::InvalidData, "the server answered with another protocol"))
        }
        Ok(Err(_)) => Err(no_http2(CLOSED, io::ErrorKind::UnexpectedEof, "the server closed the connection at once")),
        Err(_) => Err(no_http2("not_http2", io::ErrorKind::TimedOut, "the server sent nothing")),
    }
}

/// Runs hyper's tasks on the current thread.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// The scope of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Stream,
    Connection,
}

/// The failure class of an error, and whether it ends the stream or the connection.
fn judge(error: &hyper::Error) -> (FailureClass, Scope) {
    let Some(cause) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        // hyper returned the request: the connection had ended.
        return (CLOSED, Scope::Connection);
    };
    match cause.get_io().map(io::Error::kind) {
        // h2 reports a close without GOAWAY like this.
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof) => return (CLOSED, Scope::Connection),
        // h2 keeps the kind of a system error but not its number.
        Some(io::ErrorKind::ConnectionReset) => return ("reset", Scope::Connection),
        Some(_) => return ("io", Scope::Connection),
        None => {}
    }
    match (cause.is_reset(), cause.is_go_away()) {
        (true, _) if cause.is_remote() && cause.reason() == Some(Reason::REFUSED_STREAM) => {
            ("stream_refused", Scope::Stream)
        }
        (true, _) if cause.is_remote() => ("stream_reset", Scope::Stream),
        (_, true) if cause.is_remote() => ("goaway", Scope::Connection),
        // Raised by this side: the server sent something invalid.
        (true, _) => ("bad_response", Scope::Stream),
        (_, true) => ("bad_response", Scope::Connection),
        // Raised by this side: the request is invalid.
        _ => ("bad_request", Scope::Stream),
    }
}

/// When a request was passed to the kernel.
type Stamp = Rc<Cell<Option<Instant>>>;

/// Records when each request on a shared connection was passed to the kernel.
///
/// It watches the bytes written and stamps a request when the write that contains the header of its HEADERS frame returns.
/// Time spent waiting for a stream, because the server allows fewer, therefore counts as lateness, not as service time. The
/// body may follow later, as flow control allows.
///
/// Streams are numbered in the order in which they are opened: 1, 3, 5, … (RFC 9113, section 5.1.1). hyper opens a stream
/// right after it calls `is_end_stream` on the body, which is where [`Opens`] hooks in. A request that is dropped before
/// that gets no number.
#[derive(Default)]
struct Stamps {
    opened: Cell<u32>,
    /// Streams that are opened but not yet written, in the order of opening, which is also the order of writing.
    unwritten: RefCell<VecDeque<(u32, Stamp)>>,
}

impl Stamps {
    fn opens(&self, stamp: Stamp) {
        self.unwritten.borrow_mut().push_back((2 * self.opened.get() + 1, stamp));
        self.opened.set(self.opened.get() + 1);
    }

    fn written(&self, stream: u32, at: Instant) {
        // Earlier streams that are still here were reset before they were written.
        while let Some((next, stamp)) = self.unwritten.borrow_mut().pop_front_if(|(next, _)| *next <= stream) {
            if next == stream {
                stamp.set(Some(at));
            }
        }
    }
}

/// Assigns a stream number to a request when hyper opens its stream.
struct Opens {
    stamps: Rc<Stamps>,
    stream: Stamp,
}

/// A request body that notices when its stream is opened.
struct StampedBody {
    bytes: Full<Bytes>,
    opens: Cell<Option<Opens>>,
}

impl StampedBody {
    fn new(bytes: Bytes, opens: Opens) -> Self {
        Self { bytes: Full::new(bytes), opens: Cell::new(Some(opens)) }
    }
}

impl Body for StampedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.bytes).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        if let Some(Opens { stamps, stream }) = self.opens.take() {
            stamps.opens(stream);
        }
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

/// Finds frame headers in the bytes that a client writes, however they are split into writes.
struct Frames {
    /// Bytes until the next frame header.
    skip: usize,
    head: [u8; FRAME_HEAD],
    filled: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, head: [0; FRAME_HEAD], filled: 0 }
    }
}

impl Frames {
    /// Scans the next bytes written and calls `found` with the stream of every HEADERS frame whose header ends in them.
    fn headers(&mut self, mut bytes: &[u8], mut found: impl FnMut(u32)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let taken = (FRAME_HEAD - self.filled).min(bytes.len() - skipped);
            self.head[self.filled..][..taken].copy_from_slice(&bytes[skipped..][..taken]);
            self.filled += taken;
            bytes = &bytes[skipped + taken..];
            if self.filled == FRAME_HEAD {
                let [a, b, c, kind, _, stream @ ..] = self.head;
                (self.skip, self.filled) = (u32::from_be_bytes([0, a, b, c]) as usize, 0);
                if kind == HEADERS {
                    found(u32::from_be_bytes(stream));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_frames_are_found_in_writes_of_any_size(
            frames in prop::collection::vec((0_u8..10, 0_usize..300), 0..20), piece in 1_usize..400,
        ) {
            let mut written = vec![b'P'; PREFACE];
            let mut wanted = Vec::new();
            for (stream, (kind, length)) in (1_u32..).step_by(2).zip(frames) {
                written.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
                written.extend_from_slice(&[kind, 0]);
                written.extend_from_slice(&stream.to_be_bytes());
                // Looks like the header of a HEADERS frame, but lies within another frame.
                written.extend([0, 0, 0, HEADERS, 0].iter().cycle().take(length));
                wanted.extend((kind == HEADERS).then_some(stream));
            }
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in written.chunks(piece) {
                frames.headers(piece, |stream| found.push(stream));
            }
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_stream_that_was_never_written_gets_no_timestamp() {
        let stamps = Stamps::default();
        let asked: [Stamp; 3] = [Stamp::default(), Stamp::default(), Stamp::default()];
        for stamp in &asked {
            stamps.opens(Rc::clone(stamp));
        }
        let (first, third) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        stamps.written(1, first);
        stamps.written(5, third);
        assert_eq!(asked.map(|stamp| stamp.get()), [Some(first), None, Some(third)]);
        assert!(stamps.unwritten.borrow().is_empty());
    }
}

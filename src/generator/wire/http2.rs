//! HTTP/2 without TLS, with prior knowledge: hyper's client, many streams on one connection.
//!
//! The streams of a connection share its fate: when it dies, what each carries fails, and the next exchange on any of
//! them opens it anew, once for all.

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

use super::{Answer, Failure, io_class, parsed};

/// Longest wait for a server's first frame. A server sends it unasked, so one that speaks HTTP/2 has no reason to wait.
const GREETING: Duration = Duration::from_secs(5);
/// What a client sends before its first frame. RFC 9113, section 3.4.
const PREFACE: usize = 24;
/// The head of every frame. RFC 9113, section 4.1.
const FRAME_HEAD: usize = 9;
/// Types of frames. RFC 9113, section 6.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// The class of a connection that ended without a word.
const CLOSED: Failure = "closed";

/// A connection that streams share.
pub(in crate::generator) struct Shared {
    addr: SocketAddr,
    /// The last attempt to open it; all who need it wait for the same one.
    opening: RefCell<Option<Opening>>,
}

type Opening = future::Shared<LocalBoxFuture<'static, Result<Live, Unopened>>>;

/// One exchange at a time on a shared connection.
pub(in crate::generator) struct Stream(Rc<Shared>);

#[derive(Clone)]
struct Live {
    sender: SendRequest<Payload>,
    stamps: Rc<Stamps>,
    /// Set by the first exchange that meets the connection's end; hyper itself may notice a turn later.
    dead: Rc<Cell<bool>>,
    /// How the connection ended, if with an error.
    end: future::Shared<LocalBoxFuture<'static, Option<Failure>>>,
}

/// Why there is no connection.
#[derive(Clone)]
struct Unopened {
    class: Failure,
    error: Arc<io::Error>,
}

impl Shared {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, opening: RefCell::new(None) }
    }

    /// The connection, opened anew if it has died or could not be opened the last time.
    fn live(&self) -> Opening {
        let mut opening = self.opening.borrow_mut();
        let last = opening.take().filter(|opening| match opening.peek() {
            // It is being opened.
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

    /// An exchange that is dropped before its end resets its own stream and leaves the others alone.
    pub(super) async fn exchange(&self, request: &[u8]) -> Result<Answer, Failure> {
        let request = parsed(request).and_then(absolute).ok_or("bad_request")?;
        let Live { mut sender, stamps, dead, end } = self.0.live().await.map_err(|unopened| unopened.class)?;
        let written = Stamp::default();
        let request = request.map(|bytes| Payload::new(bytes, Opens { stamps, stream: Rc::clone(&written) }));
        match exchange(&mut sender, request).await {
            Ok(status) => {
                let completed = Instant::now();
                Ok(Answer { status, written: written.get().unwrap_or(completed), completed })
            }
            Err(error) => {
                let (class, scope) = judge(&error);
                if scope == Scope::Connection {
                    dead.set(true);
                }
                // A server that ends a connection says why and then closes it; its streams are told of the close alone.
                Err(if class == CLOSED { end.await.unwrap_or(class) } else { class })
            }
        }
    }
}

/// The request with its host in the URI, where HTTP/2 has it; `None` when it names none.
fn absolute(request: Request<Bytes>) -> Option<Request<Bytes>> {
    let (mut head, body) = request.into_parts();
    let host = head.headers.remove(header::HOST)?;
    let mut uri = head.uri.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    head.uri = Uri::from_parts(uri).ok()?;
    Some(Request::from_parts(head, body))
}

async fn exchange(sender: &mut SendRequest<Payload>, request: Request<Payload>) -> hyper::Result<StatusCode> {
    let mut answer = sender.send_request(request).await?;
    while let Some(frame) = answer.body_mut().frame().await {
        frame?;
    }
    Ok(answer.status())
}

/// Connects, and waits until the server has shown that it speaks HTTP/2: an HTTP/1.1 server must not pass for one that is
/// slow to answer.
async fn open(addr: SocketAddr) -> Result<Live, Unopened> {
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
            // Who asked may have given up.
            let _ = greet.send(*head);
        }
    });
    let handshake = http2::handshake(OnThisThread, TokioIo::new(heard)).await;
    let (sender, driver) = handshake.map_err(|error| failed(io::Error::other(error)))?;
    let end = driver.map(|end| end.err().map(|error| judge(&error).0)).boxed_local().shared();
    tokio::task::spawn_local(end.clone());
    match tokio::time::timeout(GREETING, greeted).await {
        Ok(Ok([_, _, _, SETTINGS, 0, 0, 0, 0, 0])) => Ok(Live { sender, stamps, dead: Rc::default(), end }),
        Ok(Ok(_)) => Err(no_http2("not_http2", io::ErrorKind::InvalidData, "the server answered in another protocol")),
        Ok(Err(_)) => Err(no_http2(CLOSED, io::ErrorKind::UnexpectedEof, "the server closed the connection at once")),
        Err(_) => Err(no_http2("not_http2", io::ErrorKind::TimedOut, "the server said nothing")),
    }
}

/// Runs hyper's tasks beside the exchanges.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// What an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Stream,
    Connection,
}

/// The class an error is counted under, and how far it reaches.
fn judge(error: &hyper::Error) -> (Failure, Scope) {
    let Some(cause) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        // hyper gave the request back: the connection had ended.
        return (CLOSED, Scope::Connection);
    };
    match cause.get_io().map(io::Error::kind) {
        // What h2 makes of a connection that ends without a word.
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof) => return (CLOSED, Scope::Connection),
        // h2 keeps the kind of a system error and not its number.
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
        // What this side found wrong with what it was sent.
        (true, _) => ("bad_response", Scope::Stream),
        (_, true) => ("bad_response", Scope::Connection),
        // What this side would not send.
        _ => ("bad_request", Scope::Stream),
    }
}

/// When the kernel was given a request.
type Stamp = Rc<Cell<Option<Instant>>>;

/// Tells when the kernel was given each request, on a connection that carries many in any order.
///
/// The frames that are written are watched, and a request is stamped when the write that took the head of its HEADERS
/// frame has returned. That frame may share its write with others', and the time in which it waited for its turn (for a
/// stream, when the server allows fewer) is lateness and not service. A body may follow later, as flow control allows.
///
/// Streams are numbered in the order in which they are opened: 1, 3, 5, … (RFC 9113, section 5.1.1). hyper opens a stream
/// right after it has asked the body whether there is one, which is how [`Opens`] learns of it. A request that is given up
/// before has no number.
#[derive(Default)]
struct Stamps {
    opened: Cell<u32>,
    /// Streams that are open and not written, in the order they were opened, which is that of their writes.
    unwritten: RefCell<VecDeque<(u32, Stamp)>>,
}

impl Stamps {
    fn opens(&self, stamp: Stamp) {
        self.unwritten.borrow_mut().push_back((2 * self.opened.get() + 1, stamp));
        self.opened.set(self.opened.get() + 1);
    }

    fn written(&self, stream: u32, at: Instant) {
        // Those before it that are still here were reset before they were written.
        while let Some((next, stamp)) = self.unwritten.borrow_mut().pop_front_if(|(next, _)| *next <= stream) {
            if next == stream {
                stamp.set(Some(at));
            }
        }
    }
}

/// A request that is about to be a stream.
struct Opens {
    stamps: Rc<Stamps>,
    stream: Stamp,
}

/// The body of a request, which tells when its stream is opened.
struct Payload {
    bytes: Full<Bytes>,
    opens: Cell<Option<Opens>>,
}

impl Payload {
    fn new(bytes: Bytes, opens: Opens) -> Self {
        Self { bytes: Full::new(bytes), opens: Cell::new(Some(opens)) }
    }
}

impl Body for Payload {
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

/// Finds the heads of frames in what a client writes, however it is cut into pieces.
struct Frames {
    /// Bytes until the next head.
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
    /// Takes what was written next, and tells the stream of every HEADERS frame whose head ends in it.
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
        fn headers_are_found_in_writes_of_any_size(
            frames in prop::collection::vec((0_u8..10, 0_usize..300), 0..20), piece in 1_usize..400,
        ) {
            let mut written = vec![b'P'; PREFACE];
            let mut wanted = Vec::new();
            for (stream, (kind, length)) in (1_u32..).step_by(2).zip(frames) {
                written.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
                written.extend_from_slice(&[kind, 0]);
                written.extend_from_slice(&stream.to_be_bytes());
                // What would be the head of a HEADERS frame, were it not in the middle of another.
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
    fn a_stream_that_was_never_written_takes_no_other_s_stamp() {
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

//! One request at a time over HTTP/2 (RFC 9113), on the caller's thread.
//!
//! A batch processor sends one export, waits for its answer, and sends the next, so there is one stream at a time, and no
//! runtime to wait for several. Between requests nobody reads: [`Http2::attend`] catches up with what came meanwhile.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::connection::Stream;
use crate::hpack;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Flags of frames.
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Settings.
const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// The error code of a stream that is no longer wanted.
const CANCEL: u32 = 8;

/// Of a stream's number and of a window the first bit is reserved.
const LAST_31_BITS: u32 = 0x7fff_ffff;
/// Bytes that are read at once.
const READ: usize = 4_096;
const MALFORMED: Failure = Failure::Protocol("the server sent a malformed frame");

/// Length of a frame's head.
const HEAD: usize = 9;
/// Window and largest frame unless the peer says otherwise.
const USUAL_WINDOW: i64 = 65_535;
const USUAL_FRAME: usize = 16_384;
/// Bytes of an answer and of its headers that are read at most; OTLP's are below a hundred.
const LARGEST_ANSWER: usize = 1 << 20;
const LARGEST_HEADERS: usize = 1 << 16;
/// Streams after which a new connection is made, far from the last number.
const LAST_STREAM: u32 = 1 << 30;
/// Longest wait until the peer takes a frame that nobody asked for, such as the answer to a ping.
const ATTENTION: Duration = Duration::from_millis(100);

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2 {
    stream: Stream,
    /// Read and not yet understood.
    input: Vec<u8>,
    /// To be written before the next wait.
    output: Vec<u8>,
    exchange: Exchange,
    /// Number of the next stream.
    next: u32,
    /// Bytes that the peer takes on the connection.
    window: i64,
    /// Bytes that it takes on a new stream.
    initial_window: i64,
    /// Largest frame that it takes.
    frame: usize,
    /// Whether it takes no more streams.
    closing: bool,
}

/// The peer's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Names and values of headers and trailers, as far as a name is known.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// Why there is none. All but `Reset` leave the connection of no use.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection failed.
    Io(io::Error),
    /// The peer ended the connection.
    Closed,
    /// The peer takes no more requests on this connection.
    GoingAway(u32),
    /// The peer reset the stream, for this reason.
    Reset(u32),
    /// The peer does not speak HTTP/2 as it should.
    Protocol(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::GoingAway(code) => write!(f, "the server is going away (HTTP/2 code {code})"),
            Self::Reset(code) => write!(f, "the server reset the stream (HTTP/2 code {code})"),
            Self::Protocol(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<hpack::Malformed> for Failure {
    fn from(_: hpack::Malformed) -> Self {
        Self::Protocol("the server's headers are malformed")
    }
}

/// A frame that was read.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The request under way, or the last one.
#[derive(Debug, Default)]
struct Exchange {
    stream: u32,
    /// Bytes of the body that are sent.
    sent: usize,
    /// Bytes that the peer takes on this stream.
    window: i64,
    /// Headers that go on in another frame.
    block: Vec<u8>,
    /// Whether nothing comes after these headers.
    last: bool,
    answer: Answer,
    /// Whether the answer is complete.
    over: bool,
}

impl Http2 {
    /// Begins to speak on a connection that was just made.
    pub(crate) fn new(stream: Stream) -> Self {
        let mut output = PREFACE.to_vec();
        // No dynamic table and no pushed streams: neither is of use here.
        let settings = [HEADER_TABLE_SIZE, ENABLE_PUSH].map(|setting| [&setting.to_be_bytes()[..], &[0; 4]].concat());
        put(&mut output, SETTINGS, 0, 0, &settings.concat());
        Self {
            stream,
            input: Vec::new(),
            output,
            exchange: Exchange { over: true, ..Exchange::default() },
            next: 1,
            window: USUAL_WINDOW,
            initial_window: USUAL_WINDOW,
            frame: USUAL_FRAME,
            closing: false,
        }
    }

    /// Sends a request, a header block and a body, and waits for the whole answer.
    pub(crate) fn request(&mut self, headers: &[u8], body: &[u8], deadline: Instant) -> Result<Answer, Failure> {
        self.exchange = Exchange { stream: self.next, window: self.initial_window, ..Exchange::default() };
        self.next += 2;
        self.put_headers(headers);
        while !self.exchange.over {
            self.put_data(body);
            self.flush(deadline)?;
            let frame = self.read(deadline)?;
            self.take(&frame)?;
        }
        if self.exchange.sent < body.len() {
            // The peer has answered without reading all; it hears with the next request that no more will come.
            put(&mut self.output, RST_STREAM, 0, self.exchange.stream, &CANCEL.to_be_bytes());
        }
        Ok(std::mem::take(&mut self.exchange.answer))
    }

    /// Catches up with what the peer has sent between requests; whether it would take another.
    pub(crate) fn attend(&mut self) -> bool {
        self.catch_up().is_ok() && !self.closing && self.next < LAST_STREAM
    }

    fn catch_up(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; READ];
        while let Some(read) = self.stream.read_now(&mut bytes)? {
            if read == 0 {
                return Err(Failure::Closed);
            }
            self.input.extend_from_slice(&bytes[..read]);
        }
        while let Some(frame) = self.parse()? {
            self.take(&frame)?;
        }
        self.flush(Instant::now() + ATTENTION)
    }

    fn put_headers(&mut self, block: &[u8]) {
        let (first, rest) = block.split_at(block.len().min(self.frame));
        let mut chunks = rest.chunks(self.frame).peekable();
        let end = |last: bool| if last { END_HEADERS } else { 0 };
        put(&mut self.output, HEADERS, end(chunks.peek().is_none()), self.exchange.stream, first);
        while let Some(chunk) = chunks.next() {
            put(&mut self.output, CONTINUATION, end(chunks.peek().is_none()), self.exchange.stream, chunk);
        }
    }

    /// Puts out as much of the body as the peer takes now.
    fn put_data(&mut self, body: &[u8]) {
        let exchange = &mut self.exchange;
        while exchange.sent < body.len() {
            let rest = &body[exchange.sent..];
            // Windows are below 2^31.
            let window = exchange.window.min(self.window).max(0) as usize;
            let data = &rest[..rest.len().min(self.frame).min(window)];
            if data.is_empty() {
                return;
            }
            let end = if data.len() == rest.len() { END_STREAM } else { 0 };
            put(&mut self.output, DATA, end, exchange.stream, data);
            exchange.sent += data.len();
            // No frame is longer than three bytes can say.
            let length = i64::from(data.len() as u32);
            exchange.window -= length;
            self.window -= length;
        }
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), Failure> {
        if !self.output.is_empty() {
            self.stream.write(&self.output, deadline)?;
            self.output.clear();
        }
        Ok(())
    }

    /// The next frame.
    fn read(&mut self, deadline: Instant) -> Result<Frame, Failure> {
        let mut bytes = [0; READ];
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            match self.stream.read(&mut bytes, deadline)? {
                0 => return Err(Failure::Closed),
                read => self.input.extend_from_slice(&bytes[..read]),
            }
        }
    }

    /// Takes a frame out of what was read, if it is there as a whole.
    fn parse(&mut self) -> Result<Option<Frame>, Failure> {
        let Some((head, rest)) = self.input.split_first_chunk::<HEAD>() else { return Ok(None) };
        if head.starts_with(b"HTTP/") {
            return Err(Failure::Protocol("the server speaks HTTP/1.1; the port of OTLP/gRPC is usually 4317"));
        }
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > USUAL_FRAME {
            return Err(Failure::Protocol("the server sent a frame that is too large, or does not speak HTTP/2"));
        }
        let Some(payload) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.input.drain(..HEAD + length);
        Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes(stream) & LAST_31_BITS, payload }))
    }

    /// Does what a frame asks for.
    fn take(&mut self, frame: &Frame) -> Result<(), Failure> {
        let ours = frame.stream == self.exchange.stream && !self.exchange.over;
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.apply(&frame.payload),
            PING if frame.flags & ACK == 0 => put(&mut self.output, PING, ACK, 0, &frame.payload),
            WINDOW_UPDATE => {
                let more = i64::from(word(&frame.payload, 0)? & LAST_31_BITS);
                if frame.stream == 0 {
                    self.window += more;
                } else if ours {
                    self.exchange.window += more;
                }
            }
            GOAWAY => {
                self.closing = true;
                let (last, code) = (word(&frame.payload, 0)? & LAST_31_BITS, word(&frame.payload, 4)?);
                if self.exchange.stream > last && !self.exchange.over {
                    return Err(Failure::GoingAway(code));
                }
            }
            RST_STREAM if ours => {
                self.exchange.over = true;
                return Err(Failure::Reset(word(&frame.payload, 0)?));
            }
            HEADERS | CONTINUATION if ours => self.headers(frame)?,
            DATA => self.data(frame, ours)?,
            _ => {}
        }
        Ok(())
    }

    fn apply(&mut self, settings: &[u8]) {
        for [a, b, value @ ..] in settings.as_chunks::<6>().0 {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                INITIAL_WINDOW_SIZE => {
                    // The change holds for a stream that is open, too.
                    self.exchange.window += i64::from(value) - self.initial_window;
                    self.initial_window = value.into();
                }
                MAX_FRAME_SIZE => self.frame = (value as usize).max(USUAL_FRAME),
                _ => {}
            }
        }
        put(&mut self.output, SETTINGS, ACK, 0, &[]);
    }

    fn headers(&mut self, frame: &Frame) -> Result<(), Failure> {
        let exchange = &mut self.exchange;
        let mut fragment = frame.payload.as_slice();
        if frame.kind == HEADERS {
            fragment = unpadded(frame)?;
            if frame.flags & PRIORITY != 0 {
                // What the stream depends on, and its weight.
                fragment = fragment.get(5..).ok_or(MALFORMED)?;
            }
            exchange.last = frame.flags & END_STREAM != 0;
        }
        exchange.block.extend_from_slice(fragment);
        if exchange.block.len() > LARGEST_HEADERS {
            return Err(Failure::Protocol("the server's headers are too long"));
        }
        if frame.flags & END_HEADERS != 0 {
            let headers = &mut exchange.answer.headers;
            hpack::read(&exchange.block, |name, value| headers.push((name.to_owned(), value.to_vec())))?;
            exchange.block.clear();
            exchange.over = exchange.last;
        }
        Ok(())
    }

    fn data(&mut self, frame: &Frame, ours: bool) -> Result<(), Failure> {
        // Padding counts, and so does what is for a stream that is over.
        let taken = (frame.payload.len() as u32).to_be_bytes();
        if !frame.payload.is_empty() {
            put(&mut self.output, WINDOW_UPDATE, 0, 0, &taken);
        }
        if !ours {
            return Ok(());
        }
        let body = &mut self.exchange.answer.body;
        body.extend_from_slice(unpadded(frame)?);
        if body.len() > LARGEST_ANSWER {
            return Err(Failure::Protocol("the server's answer is too long"));
        }
        self.exchange.over = frame.flags & END_STREAM != 0;
        if !self.exchange.over && !frame.payload.is_empty() {
            put(&mut self.output, WINDOW_UPDATE, 0, frame.stream, &taken);
        }
        Ok(())
    }
}

/// Appends a frame.
fn put(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // No frame is longer than three bytes can say.
    output.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
    output.extend_from_slice(payload);
}

/// The payload without its padding.
fn unpadded(frame: &Frame) -> Result<&[u8], Failure> {
    if frame.flags & PADDED == 0 {
        return Ok(&frame.payload);
    }
    let (padding, rest) = frame.payload.split_first().ok_or(MALFORMED)?;
    let length = rest.len().checked_sub((*padding).into()).ok_or(MALFORMED)?;
    Ok(&rest[..length])
}

/// The four bytes from `at` on, as a number.
fn word(payload: &[u8], at: usize) -> Result<u32, Failure> {
    let bytes = payload.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().map(u32::from_be_bytes).ok_or(MALFORMED)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    /// `:status: 200`, for headers, and `grpc-status: 0`, for trailers.
    const STATUS_200: &[u8] = &[0x88];
    const TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";

    /// The other side of a connection, by hand.
    struct Peer(TcpStream);

    impl Peer {
        fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
            let mut output = Vec::new();
            put(&mut output, kind, flags, stream, payload);
            self.0.write_all(&output).unwrap();
        }

        fn read(&mut self) -> Frame {
            let mut head = [0; HEAD];
            self.0.read_exact(&mut head).unwrap();
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).unwrap();
            Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }
        }

        /// Reads a request; its stream and its body.
        fn request(&mut self) -> (u32, Vec<u8>) {
            let mut body = Vec::new();
            loop {
                let frame = self.read();
                if frame.kind == DATA {
                    body.extend_from_slice(&frame.payload);
                    if frame.flags & END_STREAM != 0 {
                        return (frame.stream, body);
                    }
                }
            }
        }

        fn answer(&mut self, stream: u32) {
            self.put(HEADERS, END_HEADERS, stream, STATUS_200);
            self.put(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS);
        }
    }

    /// A connection to a peer that does this.
    fn to(peer: impl FnOnce(&mut Peer) + Send + 'static) -> (Http2, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut preface = [0; PREFACE.len()];
            stream.read_exact(&mut preface).unwrap();
            assert_eq!(preface, PREFACE);
            peer(&mut Peer(stream));
        });
        (Http2::new(Stream::Plain(TcpStream::connect(addr).unwrap())), peer)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn status(answer: &Answer) -> &[u8] {
        &answer.headers.iter().find(|(name, _)| name == "grpc-status").unwrap().1
    }

    #[test]
    fn a_body_is_sent_as_the_peer_makes_room_for_it() {
        let body: Vec<u8> = (0..100_000).map(|n| n as u8).collect();
        let expected = body.clone();
        let (mut connection, peer) = to(move |peer| {
            // Ten bytes on a stream, and frames as large as ever; then more, little by little.
            peer.put(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10, 0, 5, 0, 0, 0x40, 0]);
            let mut got = Vec::new();
            while got.len() < expected.len() {
                let frame = peer.read();
                if frame.kind == DATA {
                    got.extend_from_slice(&frame.payload);
                    assert_eq!(frame.flags & END_STREAM != 0, got.len() == expected.len());
                    for stream in [0, frame.stream] {
                        peer.put(WINDOW_UPDATE, 0, stream, &(frame.payload.len() as u32 + 1_000).to_be_bytes());
                    }
                }
            }
            assert_eq!(got, expected);
            peer.answer(1);
        });
        assert_eq!(status(&connection.request(&[0x83], &body, soon()).unwrap()), b"0");
        peer.join().unwrap();
    }

    #[test]
    fn frames_of_every_kind_are_understood() {
        let (mut connection, peer) = to(|peer| {
            peer.put(SETTINGS, 0, 0, &[]);
            let (stream, _) = peer.request();
            peer.put(PING, 0, 0, b"12345678");
            // A kind that nobody knows, padding, a priority, and headers in two frames.
            peer.put(0xfa, 0xff, stream, b"?");
            let padded = [&[2, 0, 0, 0, 0, 16][..], STATUS_200, &[0, 0]].concat();
            peer.put(HEADERS, PADDED | PRIORITY | END_HEADERS, stream, &padded);
            peer.put(DATA, PADDED, stream, b"\x03body\0\0\0");
            peer.put(HEADERS, END_STREAM, stream, &TRAILERS[..4]);
            peer.put(CONTINUATION, END_HEADERS, stream, &TRAILERS[4..]);
            let (mut pinged, mut settled, mut freed) = (false, false, Vec::new());
            while !(pinged && settled && freed.len() == 2) {
                let frame = peer.read();
                match (frame.kind, frame.flags) {
                    (PING, ACK) => pinged = frame.payload == b"12345678",
                    (SETTINGS, ACK) => settled = true,
                    (WINDOW_UPDATE, _) => freed.push((frame.stream, frame.payload)),
                    _ => {}
                }
            }
            assert_eq!(freed, [0, stream].map(|stream| (stream, vec![0, 0, 0, 8])));
        });
        let answer = connection.request(&[0x83], b"hello", soon()).unwrap();
        assert_eq!((answer.body.as_slice(), status(&answer)), (&b"body"[..], &b"0"[..]));
        assert!(connection.attend());
        peer.join().unwrap();
    }

    #[test]
    fn what_comes_between_requests_is_caught_up_with() {
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let (pinged, was_pinged) = std::sync::mpsc::channel();
        let (mut connection, peer) = to(move |peer| {
            let (stream, _) = peer.request();
            peer.answer(stream);
            peer.put(PING, 0, 0, b"are you?");
            pinged.send(()).unwrap();
            while peer.read().kind != PING {}
            // Only what was sent so far is answered.
            peer.put(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
            go_on.send(()).unwrap();
        });
        connection.request(&[0x83], b"hello", soon()).unwrap();
        was_pinged.recv().unwrap();
        assert!(connection.attend());
        may_go_on.recv().unwrap();
        peer.join().unwrap();
        assert!(!connection.attend());
    }

    #[test]
    fn a_peer_that_fails_says_how() {
        type Does = fn(&mut Peer);
        let cases: [(Does, &str); 6] = [
            (|peer| peer.put(RST_STREAM, 0, 1, &[0, 0, 0, 7]), "reset the stream (HTTP/2 code 7)"),
            (|peer| peer.put(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]), "going away (HTTP/2 code 11)"),
            (|peer| peer.0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap(), "speaks HTTP/1.1"),
            (|peer| peer.0.write_all(&[0xff; 9]).unwrap(), "too large"),
            (|peer| peer.put(HEADERS, END_HEADERS, 1, &[0xff, 0xff]), "malformed"),
            (|_| (), "closed the connection"),
        ];
        for (does, says) in cases {
            let (mut connection, peer) = to(move |peer| {
                peer.request();
                does(peer);
            });
            let failure = connection.request(&[0x83], b"hello", soon()).unwrap_err();
            assert!(failure.to_string().contains(says), "{failure} instead of {says}");
            peer.join().unwrap();
        }
    }

    #[test]
    fn a_peer_that_answers_early_is_sent_no_more() {
        let (mut connection, peer) = to(|peer| {
            while peer.read().kind != DATA {}
            peer.answer(1);
            // The rest of the body was never sent: after what fitted the window comes its end, and the next request.
            let mut reset = false;
            loop {
                let frame = peer.read();
                reset |= frame.kind == RST_STREAM && frame.stream == 1;
                if frame.kind == DATA && frame.stream == 3 {
                    assert!(reset);
                    return peer.answer(3);
                }
            }
        });
        let body = vec![0; 65_535 + 1];
        assert_eq!(status(&connection.request(&[0x83], &body, soon()).unwrap()), b"0");
        connection.window += 1_000;
        assert_eq!(status(&connection.request(&[0x83], b"x", soon()).unwrap()), b"0");
        peer.join().unwrap();
    }
}

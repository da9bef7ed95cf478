//! The default client: writes prepared bytes, and parses only as much of the response as is needed to find its end.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::head::{Body, Head, garbage, parse_head};
use super::{FailureClass, TimedResponse, io_class};

/// Longest head of a response or chunk, or longest trailer, in bytes. A longer one is malformed.
const LONGEST_HEAD: usize = 64 * 1024;
/// Size of one read, in bytes.
const READ: usize = 16 * 1024;

/// A connection of the raw client, opened on first use and after a failure.
pub(in crate::generator) struct Connection {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    input: BytesMut,
}

impl Connection {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: None, input: BytesMut::new() }
    }

    pub(super) async fn open(&mut self) -> io::Result<()> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        self.stream = Some(stream);
        self.input.clear();
        Ok(())
    }

    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<TimedResponse, FailureClass> {
        let outcome = self.attempt(request).await.map_err(|error| io_class(&error));
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    async fn attempt(&mut self, request: &[u8]) -> io::Result<TimedResponse> {
        if self.stream.is_none() {
            self.open().await?;
        }
        let Self { stream: Some(stream), input, .. } = self else { return Err(garbage("there is no connection")) };
        if !input.is_empty() {
            return Err(garbage("there was more in the last answer than its head said"));
        }
        let written = Instant::now();
        stream.write_all(request).await?;
        let head = read_head(stream, input).await?;
        input.advance(head.length);
        match head.body {
            Body::Length(length) => skip(stream, input, length).await?,
            Body::Chunked => skip_chunks(stream, input).await?,
            Body::UntilClose => {
                while fill(stream, input).await? > 0 {
                    input.clear();
                }
            }
        }
        let completed = Instant::now();
        if !head.keeps_alive {
            self.stream = None;
        }
        Ok(TimedResponse { status: head.status, written, completed })
    }
}

/// Reads the available bytes; returns 0 at the end of the stream.
async fn fill(stream: &mut TcpStream, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(READ);
    stream.read_buf(input).await
}

/// Like [`fill`], but the end of the stream is an error.
async fn fill_more(stream: &mut TcpStream, input: &mut BytesMut) -> io::Result<()> {
    match fill(stream, input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Reads the head of the final response; interim responses (1xx) are skipped.
async fn read_head(stream: &mut TcpStream, input: &mut BytesMut) -> io::Result<Head> {
    loop {
        match parse_head(input)? {
            Some(head) if head.status.is_informational() => input.advance(head.length),
            Some(head) => return Ok(head),
            None if input.len() > LONGEST_HEAD => return Err(garbage("the head is too long")),
            None => fill_more(stream, input).await?,
        }
    }
}

/// Skips `length` bytes.
async fn skip(stream: &mut TcpStream, input: &mut BytesMut, mut length: u64) -> io::Result<()> {
    loop {
        let here = input.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        input.advance(here);
        length -= here as u64;
        if length == 0 {
            return Ok(());
        }
        fill_more(stream, input).await?;
    }
}

/// Skips a chunked body and its trailers. Source: RFC 9112, section 7.1.
async fn skip_chunks(stream: &mut TcpStream, input: &mut BytesMut) -> io::Result<()> {
    loop {
        let (head, length) = loop {
            match httparse::parse_chunk_size(input).map_err(|_| garbage("a chunk has no length"))? {
                httparse::Status::Complete(size) => break size,
                httparse::Status::Partial if input.len() > LONGEST_HEAD => {
                    return Err(garbage("a chunk's head is too long"));
                }
                httparse::Status::Partial => fill_more(stream, input).await?,
            }
        };
        input.advance(head);
        if length == 0 {
            return skip_trailers(stream, input).await;
        }
        skip(stream, input, length).await?;
        expect_line_end(stream, input).await?;
    }
}

async fn expect_line_end(stream: &mut TcpStream, input: &mut BytesMut) -> io::Result<()> {
    while input.len() < 2 {
        fill_more(stream, input).await?;
    }
    if !input.starts_with(b"\r\n") {
        return Err(garbage("a chunk is longer than it said"));
    }
    input.advance(2);
    Ok(())
}

/// Skips the trailers up to the empty line that ends them.
async fn skip_trailers(stream: &mut TcpStream, input: &mut BytesMut) -> io::Result<()> {
    loop {
        while let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") {
            input.advance(end + 2);
            if end == 0 {
                return Ok(());
            }
        }
        if input.len() > LONGEST_HEAD {
            return Err(garbage("a trailer is too long"));
        }
        fill_more(stream, input).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::MOST_HEADERS;
    use super::*;
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    /// The outcome of one request per answer, when each answer is sent in pieces of at most `piece` bytes.
    async fn answered(answers: &[&[u8]], piece: usize) -> Vec<Result<u16, FailureClass>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection = Connection::new(listener.local_addr().unwrap());
        let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.to_vec()).collect();
        let wanted = answers.len();
        let server = tokio::spawn(async move {
            let mut answers = answers.into_iter();
            while answers.len() > 0 {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    let Some(answer) = answers.next() else { return };
                    for part in answer.chunks(piece) {
                        if stream.write_all(part).await.is_err() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    let text = String::from_utf8_lossy(&answer).to_lowercase();
                    if text.contains("connection: close")
                        || !(text.contains("content-length") || text.contains("chunked"))
                    {
                        break;
                    }
                }
            }
        });
        let mut outcomes = Vec::new();
        for _ in 0..wanted {
            outcomes.push(connection.exchange(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.map(|a| a.status.as_u16()));
        }
        server.abort();
        outcomes
    }

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n5;note=x\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx-sum: 9\r\n\r\n";
    const EMPTY: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
    const CLOSING: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: close\r\n\r\nok";
    const UNTIL_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nas long as it lasts";
    const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn responses_of_every_framing_are_read_to_their_end_in_pieces_of_any_size(
            order in prop::collection::vec(0_usize..6, 1..8), piece in 1_usize..200,
        ) {
            let kinds: [(&[u8], u16); 6] =
                [(PLAIN, 200), (CHUNKED, 201), (EMPTY, 503), (CLOSING, 200), (UNTIL_CLOSE, 200), (INTERIM, 200)];
            let (answers, statuses): (Vec<&[u8]>, Vec<u16>) = order.iter().map(|kind| kinds[*kind]).unzip();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let outcomes = runtime.block_on(answered(&answers, piece));
            prop_assert_eq!(outcomes, statuses.into_iter().map(Ok).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_malformed_response_is_counted_and_the_next_request_gets_a_new_connection() {
        let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'a'; LONGEST_HEAD + READ]].concat();
        let many = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a: b\r\n".repeat(MOST_HEADERS + 1), b"\r\n"].concat();
        for bad in [
            b"\x00\x01\x02 this is not HTTP\r\n\r\n content-length".as_slice(),
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
            &long,
            &many,
        ] {
            assert_eq!(
                answered(&[bad, PLAIN], 4096).await,
                [Err("bad_response"), Ok(200)],
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[tokio::test]
    async fn extra_bytes_after_a_response_fail_the_next_request_and_not_the_finished_one() {
        let two = [PLAIN, PLAIN].concat();
        assert_eq!(answered(&[&two, PLAIN, PLAIN], 4096).await, [Ok(200), Err("bad_response"), Ok(200)]);
    }

    #[tokio::test]
    async fn a_truncated_response_is_counted_as_closed() {
        let cut = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 50\r\n\r\nshort";
        assert_eq!(answered(&[cut, PLAIN], 4096).await, [Err("closed"), Ok(200)]);
    }
}

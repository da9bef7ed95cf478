//! hyper's HTTP/1.1 client, used as a cross-check.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::io::InspectWriter;

use super::{FailureClass, TimedResponse, io_class, parsed};

/// A connection of hyper's client, opened on first use and after a failure.
pub(in crate::generator) struct Connection {
    addr: SocketAddr,
    live: Option<OpenSender>,
}

struct OpenSender {
    sender: SendRequest<Full<Bytes>>,
    /// When bytes were first written to the socket since this was cleared.
    written: Rc<Cell<Option<Instant>>>,
}

impl Connection {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, live: None }
    }

    pub(super) async fn open(&mut self) -> io::Result<()> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let written = Rc::new(Cell::new(None));
        let noted = Rc::clone(&written);
        let stamped =
            InspectWriter::new(stream, move |_: &[u8]| noted.set(noted.get().or_else(|| Some(Instant::now()))));
        let (sender, driver) = http1::handshake(TokioIo::new(stamped)).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // The exchange in flight gets the driver's error.
            drop(driver.await);
        });
        self.live = Some(OpenSender { sender, written });
        Ok(())
    }

    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<TimedResponse, FailureClass> {
        let outcome = self.attempt(request).await;
        if outcome.is_err() {
            self.live = None;
        }
        outcome
    }

    async fn attempt(&mut self, request: &[u8]) -> Result<TimedResponse, FailureClass> {
        let request = parsed(request).ok_or("bad_request")?.map(Full::new);
        if self.live.as_ref().is_none_or(|live| live.sender.is_closed()) {
            self.open().await.map_err(|error| io_class(&error))?;
        }
        let Some(live) = &mut self.live else { return Err("closed") };
        live.written.set(None);
        let status = exchange(&mut live.sender, request).await.map_err(|error| class(&error))?;
        let completed = Instant::now();
        Ok(TimedResponse { status, written: live.written.get().unwrap_or(completed), completed })
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

/// The failure class of an error.
fn class(error: &hyper::Error) -> FailureClass {
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(io) => io_class(io),
        None if error.is_parse() => "bad_response",
        None if error.is_closed() || error.is_canceled() || error.is_incomplete_message() => "closed",
        None => "http",
    }
}

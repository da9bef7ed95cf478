//! One request and its answer, over either protocol: reading within limits, what the faults make of it, and the account.

use std::convert::Infallible;
use std::future::pending;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{Notify, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::answer::{Cause, GRPC, JSON, PROTOBUF, Protocol, Refusal, Reply, accepted, refused};
use super::otlp::{grpc_path, http_path};
use super::{IN_HAND, State};
use crate::experiment::fault::{FaultEffect, Rejection, Signal};
use crate::experiment::units::in_one_word;

/// A message may have this many bytes over gRPC, compressed and decompressed, and over HTTP: the defaults of the OpenTelemetry
/// Collector's receiver.
const GRPC_LIMIT: usize = 4 << 20;
const HTTP_LIMIT: usize = 20 << 20;

/// Of a payload that is too large so much more is read and dropped, that the client may come to read why it is refused.
const DRAINED: usize = 64 << 20;

/// Before every gRPC message: whether it is compressed, and its length.
const GRPC_PREFIX: usize = 5;

/// What the requests of one connection share with it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) state: Arc<State>,
    /// Requests begun.
    pub(super) requests: AtomicU64,
    pub(super) cut: Notify,
    pub(super) is_reset: AtomicBool,
}

impl Conn {
    /// Cuts the connection, as a machine does that has lost its memory of it.
    pub(super) fn reset(&self) {
        self.is_reset.store(true, Relaxed);
        self.cut.notify_one();
    }
}

/// Answers one request, or never.
pub(super) async fn exchange(request: Request<Incoming>, conn: Arc<Conn>) -> Result<Response<Reply>, Infallible> {
    conn.requests.fetch_add(1, Relaxed);
    let protocol = protocol(request.headers());
    Ok(match take(request, protocol, &conn).await {
        Ok(rejected) => accepted(protocol, rejected),
        Err(refusal) => refused(protocol, &refusal),
    })
}

fn protocol(headers: &HeaderMap) -> Protocol {
    match content_type(headers) {
        Some(GRPC) => Protocol::Grpc,
        Some(name) if name.strip_prefix(GRPC).is_some_and(|rest| rest.starts_with('+')) => Protocol::Grpc,
        Some(JSON) => Protocol::HttpJson,
        _ => Protocol::Http,
    }
}

/// The content type without its parameters.
fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

/// Takes a request: the number of its items that were rejected.
async fn take(request: Request<Incoming>, protocol: Protocol, conn: &Conn) -> Result<u64, Refusal> {
    let state = &*conn.state;
    let own_fault = |refusal| {
        state.lock().refuse_request();
        refusal
    };
    let (signal, gzip) = routed(&request, protocol).map_err(own_fault)?;
    let active = state.timeline.faults_at(state.elapsed(), signal);
    let mut body = request.into_body();
    if let FaultEffect::Reset(share, place) = active.outcome
        && state.in_share(share, place, signal, 1) > 0
    {
        // What comes of the rest does not matter.
        drop(timeout(state.patience.payload, body.frame()).await);
        conn.reset();
        return pending().await;
    }
    let most = if protocol == Protocol::Grpc { GRPC_LIMIT } else { HTTP_LIMIT };
    let most = active.limit.map_or(most, |limit| limit.min(most));
    let mut in_hand = InHand { state, permits: None };
    let patience = state.patience.payload;
    let read = timeout(patience, read(&mut body, most, protocol, &mut in_hand)).await;
    let payload = match read {
        Ok(read) => read.and_then(|payload| unwrapped(payload, protocol, gzip, most)),
        Err(_) => Err(Refusal::new(Cause::TimedOut, format!("the payload took more than {}", in_one_word(patience)))),
    };
    let payload = payload.map_err(own_fault)?;
    if gzip {
        in_hand.add(payload.len())?;
    }
    state.lock().search(&payload);
    if active.outcome == FaultEffect::Hang {
        drop((payload, in_hand));
        return pending().await;
    }
    if !active.slow.is_zero() {
        sleep(active.slow).await;
    }
    // From here to the answer nothing waits: what is counted is answered, as far as it lies with the sink. Where the client
    // has gone, or the connection, hyper has dropped this before.
    match active.outcome {
        FaultEffect::Reject(Rejection::Unavailable) => {
            Err(Refusal::new(Cause::Unavailable, "unavailable, as a fault asks"))
        }
        FaultEffect::Reject(Rejection::Exhausted { retry }) => {
            Err(Refusal::new(Cause::Exhausted, "exhausted, as a fault asks").retry_after(retry))
        }
        outcome => {
            let rejected = |items| match outcome {
                FaultEffect::Partial(share, place) => state.in_share(share, place, signal, items),
                _ => 0,
            };
            let added = state.lock().add(signal, &payload, rejected);
            let malformed =
                |why| own_fault(Refusal::new(Cause::Malformed, format!("not an export of {signal}: {why}")));
            added.map_err(malformed)
        }
    }
}

/// Which signal a request carries, and whether it is compressed.
fn routed(request: &Request<Incoming>, protocol: Protocol) -> Result<(Signal, bool), Refusal> {
    let path = request.uri().path();
    let (find, encoding): (fn(Signal) -> &'static str, _) = match protocol {
        Protocol::Grpc => (grpc_path as fn(Signal) -> &'static str, HeaderName::from_static("grpc-encoding")),
        Protocol::Http | Protocol::HttpJson => (http_path, CONTENT_ENCODING),
    };
    let Some(signal) = Signal::ALL.into_iter().find(|signal| find(*signal) == path) else {
        let paths = Signal::ALL.map(find).join(", ");
        return Err(Refusal::new(Cause::UnknownPath, format!("there is nothing here; what is taken is at {paths}")));
    };
    if request.method() != Method::POST {
        return Err(Refusal::new(Cause::WrongMethod, "telemetry is sent by POST"));
    }
    let headers = request.headers();
    if protocol != Protocol::Grpc && content_type(headers) != Some(PROTOBUF) {
        return Err(Refusal::new(
            Cause::WrongType,
            format!("the content type must be {PROTOBUF}, or {GRPC} over HTTP/2"),
        ));
    }
    match headers.get(encoding).map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok((signal, false)),
        Some(b"gzip") => Ok((signal, true)),
        Some(_) => Err(Refusal::new(Cause::WrongType, "the only compression that is understood is gzip")),
    }
}

/// Bytes that this request holds, of those that all may hold together.
struct InHand<'a> {
    state: &'a State,
    permits: Option<SemaphorePermit<'a>>,
}

impl InHand<'_> {
    fn add(&mut self, bytes: usize) -> Result<(), Refusal> {
        // No frame and no payload comes near 4 GiB.
        let Ok(more) = self.state.in_hand.try_acquire_many(bytes as u32) else {
            let why = format!("requests of {} MiB are being read already", IN_HAND >> 20);
            return Err(Refusal::new(Cause::Unavailable, why));
        };
        match &mut self.permits {
            None => self.permits = Some(more),
            Some(permits) => permits.merge(more),
        }
        Ok(())
    }
}

/// Reads a body of at most `most` bytes, the gRPC prefix aside.
async fn read(
    body: &mut Incoming,
    most: usize,
    protocol: Protocol,
    in_hand: &mut InHand<'_>,
) -> Result<Bytes, Refusal> {
    let most = if protocol == Protocol::Grpc { most + GRPC_PREFIX } else { most };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::new(Cause::Malformed, "the payload was cut off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > most {
            drop((first, rest));
            return Err(too_large(body, most).await);
        }
        in_hand.add(data.len())?;
        // As a rule there is one piece, which then is not copied.
        match (first.is_empty(), rest.is_empty()) {
            (true, true) => first = data,
            (_, true) => {
                rest.reserve(first.len() + data.len());
                rest.extend_from_slice(&std::mem::take(&mut first));
                rest.extend_from_slice(&data);
            }
            (_, false) => rest.extend_from_slice(&data),
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

async fn too_large(body: &mut Incoming, most: usize) -> Refusal {
    let mut drained = 0;
    while drained < DRAINED
        && let Some(Ok(frame)) = body.frame().await
    {
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
    oversize(most)
}

fn oversize(most: usize) -> Refusal {
    Refusal::new(Cause::TooLarge, format!("received message larger than max ({most} bytes)"))
}

/// The message itself: out of its gRPC frame, and decompressed.
fn unwrapped(body: Bytes, protocol: Protocol, gzip: bool, most: usize) -> Result<Bytes, Refusal> {
    let malformed = |why: &str| Refusal::new(Cause::Malformed, why);
    let (message, compressed) = match protocol {
        Protocol::Http | Protocol::HttpJson => (body, gzip),
        Protocol::Grpc => {
            let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk::<GRPC_PREFIX>() else {
                return Err(malformed("there is no gRPC message"));
            };
            let declared = u32::from_be_bytes([a, b, c, d]) as usize;
            if declared > most {
                return Err(oversize(most));
            }
            match compressed {
                _ if declared != message.len() => return Err(malformed("the gRPC message is not as long as it says")),
                1 if !gzip => {
                    return Err(malformed("the gRPC message is compressed, and grpc-encoding does not say how"));
                }
                0 | 1 => (body.slice(GRPC_PREFIX..), compressed == 1),
                _ => return Err(malformed("the gRPC message does not begin with 0 or 1")),
            }
        }
    };
    if !compressed {
        return Ok(message);
    }
    let mut decompressed = Vec::new();
    let mut limited = MultiGzDecoder::new(&*message).take(most as u64 + 1);
    limited.read_to_end(&mut decompressed).map_err(|why| malformed(&format!("not gzip: {why}")))?;
    if decompressed.len() > most { Err(oversize(most)) } else { Ok(decompressed.into()) }
}

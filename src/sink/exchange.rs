//! Handles one export request over gRPC or HTTP: reads it within limits, applies the faults, and counts it.

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

use super::answer::{ExportRefusal, GRPC, JSON, OtlpTransport, PROTOBUF, RefusalCause, ReplyBody, accepted, refused};
use super::otlp::{grpc_path, http_path};
use super::{IN_HAND, ReceiverState};
use crate::experiment::fault::{FaultEffect, Rejection, Signal};
use crate::experiment::units::in_one_word;

/// Largest gRPC message in bytes, compressed and decompressed: the default of the OpenTelemetry Collector's receiver.
const GRPC_LIMIT: usize = 4 << 20;
/// The same for HTTP payloads.
const HTTP_LIMIT: usize = 20 << 20;

/// Bytes of a too large payload that are read and dropped, so that the client gets to read the error response.
const DRAINED: usize = 64 << 20;

/// Length of the prefix of a gRPC message: a compression flag and the message length.
const GRPC_PREFIX: usize = 5;

/// State that a connection shares with its requests.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) state: Arc<ReceiverState>,
    /// Requests started.
    pub(super) requests: AtomicU64,
    /// Notified to end the connection.
    pub(super) cut: Notify,
    /// Whether the connection ends with a TCP reset.
    pub(super) is_reset: AtomicBool,
}

impl Conn {
    /// Ends the connection with a TCP reset, as a collector that was restarted does.
    pub(super) fn reset(&self) {
        self.is_reset.store(true, Relaxed);
        self.cut.notify_one();
    }
}

/// Answers one request, or never returns if a fault says so.
pub(super) async fn exchange(request: Request<Incoming>, conn: Arc<Conn>) -> Result<Response<ReplyBody>, Infallible> {
    conn.requests.fetch_add(1, Relaxed);
    let transport = transport(request.headers());
    Ok(match take(request, transport, &conn).await {
        Ok(rejected) => accepted(transport, rejected),
        Err(refusal) => refused(transport, &refusal),
    })
}

fn transport(headers: &HeaderMap) -> OtlpTransport {
    match content_type(headers) {
        Some(GRPC) => OtlpTransport::Grpc,
        Some(name) if name.strip_prefix(GRPC).is_some_and(|rest| rest.starts_with('+')) => OtlpTransport::Grpc,
        Some(JSON) => OtlpTransport::HttpJson,
        _ => OtlpTransport::Http,
    }
}

/// The content type without its parameters.
fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

/// Receives a request and counts its items. Returns the number of items that were rejected.
async fn take(request: Request<Incoming>, transport: OtlpTransport, conn: &Conn) -> Result<u64, ExportRefusal> {
    let state = &*conn.state;
    let own_fault = |refusal| {
        state.lock().refuse_request();
        refusal
    };
    let (signal, gzip) = routed(&request, transport).map_err(own_fault)?;
    let active = state.timeline.faults_at(state.elapsed(), signal);
    let mut body = request.into_body();
    if let FaultEffect::Reset(share, place) = active.outcome
        && state.in_share(share, place, signal, 1) > 0
    {
        // The rest of the payload does not matter.
        drop(timeout(state.patience.payload, body.frame()).await);
        conn.reset();
        return pending().await;
    }
    let most = if transport == OtlpTransport::Grpc { GRPC_LIMIT } else { HTTP_LIMIT };
    let most = active.limit.map_or(most, |limit| limit.min(most));
    let mut in_hand = InHand { state, permits: None };
    let patience = state.patience.payload;
    let read = timeout(patience, read(&mut body, most, transport, &mut in_hand)).await;
    let payload = match read {
        Ok(read) => read.and_then(|payload| unwrapped(payload, transport, gzip, most)),
        Err(_) => Err(ExportRefusal::new(
            RefusalCause::TimedOut,
            format!("the payload took more than {}", in_one_word(patience)),
        )),
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
    // There is no `await` from here to the response, so every counted request is also acknowledged. If the client has gone,
    // hyper has already dropped this future.
    count(state, signal, &payload, &active.outcome)
}

/// Counts the items of a payload, unless a fault refuses it. Returns the number of items that were rejected.
fn count(state: &ReceiverState, signal: Signal, payload: &[u8], effect: &FaultEffect) -> Result<u64, ExportRefusal> {
    match effect {
        FaultEffect::Reject(Rejection::Unavailable) => {
            Err(ExportRefusal::new(RefusalCause::Unavailable, "unavailable: injected fault"))
        }
        FaultEffect::Reject(Rejection::Exhausted { retry }) => {
            Err(ExportRefusal::new(RefusalCause::Exhausted, "resource exhausted: injected fault").retry_after(*retry))
        }
        effect => {
            let rejected = |items| match effect {
                FaultEffect::Partial(share, place) => state.in_share(*share, *place, signal, items),
                _ => 0,
            };
            let mut tally = state.lock();
            tally.add(signal, payload, rejected).map_err(|why| {
                tally.refuse_request();
                ExportRefusal::new(RefusalCause::Malformed, format!("not an export request for {signal}: {why}"))
            })
        }
    }
}

/// The signal that a request carries, and whether its payload is compressed with gzip.
fn routed(request: &Request<Incoming>, transport: OtlpTransport) -> Result<(Signal, bool), ExportRefusal> {
    let path = request.uri().path();
    let (find, encoding): (fn(Signal) -> &'static str, _) = match transport {
        OtlpTransport::Grpc => (grpc_path as fn(Signal) -> &'static str, HeaderName::from_static("grpc-encoding")),
        OtlpTransport::Http | OtlpTransport::HttpJson => (http_path, CONTENT_ENCODING),
    };
    let Some(signal) = Signal::ALL.into_iter().find(|signal| find(*signal) == path) else {
        let paths = Signal::ALL.map(find).join(", ");
        return Err(ExportRefusal::new(RefusalCause::UnknownPath, format!("unknown path; the paths are {paths}")));
    };
    if request.method() != Method::POST {
        return Err(ExportRefusal::new(RefusalCause::WrongMethod, "the method must be POST"));
    }
    let headers = request.headers();
    if transport != OtlpTransport::Grpc && content_type(headers) != Some(PROTOBUF) {
        return Err(ExportRefusal::new(
            RefusalCause::WrongType,
            format!("the content type must be {PROTOBUF}, or {GRPC} over HTTP/2"),
        ));
    }
    match headers.get(encoding).map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok((signal, false)),
        Some(b"gzip") => Ok((signal, true)),
        Some(_) => Err(ExportRefusal::new(RefusalCause::WrongType, "unsupported compression; use gzip or none")),
    }
}

/// Bytes held by this request, counted against the limit of the receiver.
struct InHand<'a> {
    state: &'a ReceiverState,
    permits: Option<SemaphorePermit<'a>>,
}

impl InHand<'_> {
    fn add(&mut self, bytes: usize) -> Result<(), ExportRefusal> {
        // In range: neither a frame nor a payload reaches 4 GiB.
        let Ok(more) = self.state.in_hand.try_acquire_many(bytes as u32) else {
            let why = format!("the receiver already holds {} MiB of requests", IN_HAND >> 20);
            return Err(ExportRefusal::new(RefusalCause::Unavailable, why));
        };
        match &mut self.permits {
            None => self.permits = Some(more),
            Some(permits) => permits.merge(more),
        }
        Ok(())
    }
}

/// Reads a body of at most `most` bytes, not counting the gRPC prefix.
async fn read(
    body: &mut Incoming,
    most: usize,
    transport: OtlpTransport,
    in_hand: &mut InHand<'_>,
) -> Result<Bytes, ExportRefusal> {
    let most = if transport == OtlpTransport::Grpc { most + GRPC_PREFIX } else { most };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ExportRefusal::new(RefusalCause::Malformed, "the payload was cut off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > most {
            drop((first, rest));
            return Err(too_large(body, most).await);
        }
        in_hand.add(data.len())?;
        // Usually there is only one frame, which then need not be copied.
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

async fn too_large(body: &mut Incoming, most: usize) -> ExportRefusal {
    let mut drained = 0;
    while drained < DRAINED
        && let Some(Ok(frame)) = body.frame().await
    {
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
    oversize(most)
}

fn oversize(most: usize) -> ExportRefusal {
    ExportRefusal::new(RefusalCause::TooLarge, format!("received message larger than max ({most} bytes)"))
}

/// Strips the gRPC prefix and decompresses the message.
fn unwrapped(body: Bytes, transport: OtlpTransport, gzip: bool, most: usize) -> Result<Bytes, ExportRefusal> {
    let malformed = |why: &str| ExportRefusal::new(RefusalCause::Malformed, why);
    let (message, compressed) = match transport {
        OtlpTransport::Http | OtlpTransport::HttpJson => (body, gzip),
        OtlpTransport::Grpc => {
            let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk::<GRPC_PREFIX>() else {
                return Err(malformed("the gRPC message is missing"));
            };
            let declared = u32::from_be_bytes([a, b, c, d]) as usize;
            if declared > most {
                return Err(oversize(most));
            }
            match compressed {
                _ if declared != message.len() => {
                    return Err(malformed("the gRPC message does not have its declared length"));
                }
                1 if !gzip => {
                    return Err(malformed("the gRPC message is compressed, but there is no grpc-encoding"));
                }
                0 | 1 => (body.slice(GRPC_PREFIX..), compressed == 1),
                _ => return Err(malformed("the compression flag of the gRPC message is not 0 or 1")),
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

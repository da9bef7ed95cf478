//! Answers as OTLP gives them: over gRPC a status in the trailers, over HTTP a status line and a `google.rpc.Status`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use super::protobuf::Message;

pub(super) const PROTOBUF: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";
pub(super) const GRPC: &str = "application/grpc";

/// How a request came, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
    /// Which is understood as far as to be refused in its own language.
    HttpJson,
}

/// A request that is not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    cause: Cause,
    /// ASCII, and without a percent sign, which gRPC would have escaped.
    message: String,
    retry: Option<Duration>,
}

/// Why, with a code in each protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Malformed,
    TooLarge,
    UnknownPath,
    WrongMethod,
    WrongType,
    TimedOut,
    Exhausted,
    Unavailable,
}

impl Cause {
    /// The code of gRPC, and that of HTTP.
    fn codes(self) -> (u8, StatusCode) {
        match self {
            Self::Malformed => (3, StatusCode::BAD_REQUEST),
            // As gRPC for Go answers, and so the Collector.
            Self::TooLarge => (8, StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnknownPath => (12, StatusCode::NOT_FOUND),
            Self::WrongMethod => (12, StatusCode::METHOD_NOT_ALLOWED),
            Self::WrongType => (12, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::TimedOut => (4, StatusCode::REQUEST_TIMEOUT),
            Self::Exhausted => (8, StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable => (14, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl Refusal {
    pub(super) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), retry: None }
    }

    pub(super) fn retry_after(self, retry: Option<Duration>) -> Self {
        Self { retry, ..self }
    }

    /// `google.rpc.Status`, with a `google.rpc.RetryInfo` where it says when to try again.
    fn status(&self) -> Vec<u8> {
        let (code, _) = self.cause.codes();
        let status = Message::default().number(1, u64::from(code)).bytes(2, self.message.as_bytes());
        let Some(retry) = self.retry else { return status.into_bytes() };
        let delay = Message::default().number(1, retry.as_secs()).number(2, u64::from(retry.subsec_nanos()));
        let info = Message::default().bytes(1, &delay.into_bytes()).into_bytes();
        let any = Message::default().bytes(1, b"type.googleapis.com/google.rpc.RetryInfo").bytes(2, &info);
        status.bytes(3, &any.into_bytes()).into_bytes()
    }
}

/// The answer to a request of which so many items were rejected, in most cases none.
pub(super) fn accepted(protocol: Protocol, rejected: u64) -> Response<Reply> {
    let message = if rejected == 0 {
        Vec::new()
    } else {
        // All signals number these fields alike.
        let partial = Message::default().number(1, rejected).bytes(2, b"rejected, as a fault asks");
        Message::default().bytes(1, &partial.into_bytes()).into_bytes()
    };
    match protocol {
        Protocol::Grpc => {
            let mut framed = vec![0];
            // A few bytes.
            framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
            framed.extend_from_slice(&message);
            let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
            with_type(Reply { data: Some(framed.into()), trailers: Some(trailers) }, GRPC)
        }
        Protocol::Http | Protocol::HttpJson => with_type(Reply::of(message), PROTOBUF),
    }
}

const GRPC_STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: http::HeaderName = http::HeaderName::from_static("grpc-message");
const GRPC_DETAILS: http::HeaderName = http::HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: http::HeaderName = http::HeaderName::from_static("grpc-accept-encoding");

/// The answer to a request that is not taken.
pub(super) fn refused(protocol: Protocol, refusal: &Refusal) -> Response<Reply> {
    let (code, status) = refusal.cause.codes();
    match protocol {
        Protocol::Grpc => {
            // Nothing but headers: what gRPC calls trailers only.
            let mut response = with_type(Reply::default(), GRPC);
            let headers = response.headers_mut();
            headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
            headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip"));
            if let Ok(message) = HeaderValue::from_str(&refusal.message) {
                headers.insert(GRPC_MESSAGE, message);
            }
            if refusal.retry.is_some()
                && let Ok(details) = HeaderValue::from_str(&BASE64_STANDARD_NO_PAD.encode(refusal.status()))
            {
                headers.insert(GRPC_DETAILS, details);
            }
            response
        }
        Protocol::Http | Protocol::HttpJson => {
            let mut response = match protocol {
                Protocol::HttpJson => {
                    let status = serde_json::json!({"code": code, "message": refusal.message});
                    with_type(Reply::of(status.to_string().into_bytes()), JSON)
                }
                _ => with_type(Reply::of(refusal.status()), PROTOBUF),
            };
            *response.status_mut() = status;
            let headers = response.headers_mut();
            if let Some(retry) = refusal.retry {
                let seconds = retry.as_secs() + u64::from(retry.subsec_nanos() > 0);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            if refusal.cause == Cause::WrongMethod {
                headers.insert(ALLOW, HeaderValue::from_static(Method::POST.as_str()));
            }
            response
        }
    }
}

fn with_type(reply: Reply, content_type: &'static str) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The body of an answer: at most one piece of data, and trailers where gRPC wants them.
#[derive(Debug, Default)]
pub(super) struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Reply {
    fn of(data: Vec<u8>) -> Self {
        Self { data: (!data.is_empty()).then(|| data.into()), trailers: None }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

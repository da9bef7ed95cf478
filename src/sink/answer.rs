//! OTLP responses: over gRPC a status in the trailers, over HTTP a status line and a `google.rpc.Status`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use super::protobuf::MessageWriter;

pub(super) const PROTOBUF: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";
pub(super) const GRPC: &str = "application/grpc";

/// How a request was sent, which decides how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtlpTransport {
    Grpc,
    /// OTLP/HTTP with binary protobuf.
    Http,
    /// OTLP/HTTP with JSON. It is not supported, but the error response is JSON too.
    HttpJson,
}

/// The error response to an export request.
#[derive(Debug)]
pub(super) struct ExportRefusal {
    cause: RefusalCause,
    /// ASCII without a percent sign, because gRPC requires other characters to be percent-encoded.
    message: String,
    /// When the client may retry.
    retry: Option<Duration>,
}

/// Why a request is refused; each cause has a gRPC and an HTTP status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalCause {
    Malformed,
    TooLarge,
    UnknownPath,
    WrongMethod,
    WrongType,
    TimedOut,
    Exhausted,
    Unavailable,
}

impl RefusalCause {
    /// The gRPC and the HTTP status code.
    fn codes(self) -> (u8, StatusCode) {
        match self {
            Self::Malformed => (3, StatusCode::BAD_REQUEST),
            // RESOURCE_EXHAUSTED, as grpc-go and therefore the OpenTelemetry Collector answers.
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

impl ExportRefusal {
    pub(super) fn new(cause: RefusalCause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), retry: None }
    }

    pub(super) fn retry_after(self, retry: Option<Duration>) -> Self {
        Self { retry, ..self }
    }

    /// A `google.rpc.Status`, with a `google.rpc.RetryInfo` if there is a retry delay.
    fn status(&self) -> Vec<u8> {
        let (code, _) = self.cause.codes();
        let status = MessageWriter::default().number(1, u64::from(code)).bytes(2, self.message.as_bytes());
        let Some(retry) = self.retry else { return status.into_bytes() };
        let delay = MessageWriter::default().number(1, retry.as_secs()).number(2, u64::from(retry.subsec_nanos()));
        let info = MessageWriter::default().bytes(1, &delay.into_bytes()).into_bytes();
        let any = MessageWriter::default().bytes(1, b"type.googleapis.com/google.rpc.RetryInfo").bytes(2, &info);
        status.bytes(3, &any.into_bytes()).into_bytes()
    }
}

/// The response to a request that was accepted, except for `rejected` items (partial success).
pub(super) fn accepted(transport: OtlpTransport, rejected: u64) -> Response<ReplyBody> {
    let message = if rejected == 0 {
        Vec::new()
    } else {
        // The field numbers are the same for all signals.
        let partial = MessageWriter::default().number(1, rejected).bytes(2, b"rejected by an injected fault");
        MessageWriter::default().bytes(1, &partial.into_bytes()).into_bytes()
    };
    match transport {
        OtlpTransport::Grpc => {
            let mut framed = vec![0];
            // In range: the message has a few bytes.
            framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
            framed.extend_from_slice(&message);
            let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
            with_type(ReplyBody { data: Some(framed.into()), trailers: Some(trailers) }, GRPC)
        }
        OtlpTransport::Http | OtlpTransport::HttpJson => with_type(ReplyBody::of(message), PROTOBUF),
    }
}

const GRPC_STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: http::HeaderName = http::HeaderName::from_static("grpc-message");
const GRPC_DETAILS: http::HeaderName = http::HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: http::HeaderName = http::HeaderName::from_static("grpc-accept-encoding");

/// The response to a request that was refused.
pub(super) fn refused(transport: OtlpTransport, refusal: &ExportRefusal) -> Response<ReplyBody> {
    let (code, status) = refusal.cause.codes();
    match transport {
        OtlpTransport::Grpc => {
            // Headers without a body: a "Trailers-Only" response.
            let mut response = with_type(ReplyBody::default(), GRPC);
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
        OtlpTransport::Http | OtlpTransport::HttpJson => {
            let mut response = match transport {
                OtlpTransport::HttpJson => {
                    let status = serde_json::json!({"code": code, "message": refusal.message});
                    with_type(ReplyBody::of(status.to_string().into_bytes()), JSON)
                }
                _ => with_type(ReplyBody::of(refusal.status()), PROTOBUF),
            };
            *response.status_mut() = status;
            let headers = response.headers_mut();
            if let Some(retry) = refusal.retry {
                let seconds = retry.as_secs() + u64::from(retry.subsec_nanos() > 0);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            if refusal.cause == RefusalCause::WrongMethod {
                headers.insert(ALLOW, HeaderValue::from_static(Method::POST.as_str()));
            }
            response
        }
    }
}

fn with_type(reply: ReplyBody, content_type: &'static str) -> Response<ReplyBody> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The body of a response: at most one chunk of data, and trailers for gRPC.
#[derive(Debug, Default)]
pub(super) struct ReplyBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl ReplyBody {
    fn of(data: Vec<u8>) -> Self {
        Self { data: (!data.is_empty()).then(|| data.into()), trailers: None }
    }
}

impl Body for ReplyBody {
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

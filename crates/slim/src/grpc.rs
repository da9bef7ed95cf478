//! The export call of OTLP/gRPC: a message, an answer, and when to try again.

use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::connection::Connector;
use crate::hpack;
use crate::http2::{Answer, Failure, Http2};

/// The method, from `opentelemetry/proto/collector/trace/v1/trace_service.proto`.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How often an export is tried once more after a failure that may pass, as OpenTelemetry's exporter does.
const RETRIES: u32 = 3;
/// The wait before the first of them, which doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The header in which a server says when to come back.
const RETRY_INFO: &str = "grpc-status-details-bin";
/// Length of what stands before a message: whether it is compressed, and its length.
pub(crate) const PREFIX: usize = 5;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    code: Code,
    message: String,
    /// Whether the server says when to come back.
    retry_info: bool,
}

/// The codes of gRPC: <https://grpc.io/docs/guides/status-codes/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// By their numbers, from 1 on.
const CODES: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

impl Status {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_info: false }
    }

    /// Whether the specification has an export tried again after this:
    /// <https://opentelemetry.io/docs/specs/otlp/#failures>.
    fn may_pass(&self) -> bool {
        match self.code {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => true,
            Code::ResourceExhausted => self.retry_info,
            _ => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

/// A client of a collector.
#[derive(Debug)]
pub(crate) struct Client {
    connector: Connector,
    /// The headers of every call.
    headers: Vec<u8>,
    /// Time that an export may take, retries included.
    timeout: Duration,
    connection: Option<Http2>,
}

impl Client {
    /// A client that connects when it is first asked for a call.
    pub(crate) fn new(connector: Connector, headers: &[(String, String)], timeout: Duration) -> Self {
        let headers = hpack::request(connector.endpoint.tls, &connector.endpoint.authority, METHOD, headers);
        Self { connector, headers, timeout, connection: None }
    }

    /// Keeps the connection alive while there is nothing to export.
    pub(crate) fn attend(&mut self) {
        if let Some(connection) = &mut self.connection
            && !connection.attend()
        {
            self.connection = None;
        }
    }

    /// Sends `message`, which begins with its [`PREFIX`], again where that may help; the spans that the collector refused.
    pub(crate) fn export(&mut self, message: &[u8]) -> Result<u64, Status> {
        let deadline = Instant::now() + self.timeout;
        let mut wait = FIRST_WAIT;
        for _ in 0..RETRIES {
            match self.call(message, deadline) {
                // Where there is no time left for another try, waiting for it helps nobody.
                Err(status) if status.may_pass() && Instant::now() + wait < deadline => {
                    std::thread::sleep(wait);
                    wait *= 2;
                }
                outcome => return outcome,
            }
        }
        self.call(message, deadline)
    }

    fn call(&mut self, message: &[u8], deadline: Instant) -> Result<u64, Status> {
        self.attend();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(deadline)?,
        };
        let answered = connection.request(&self.headers, message, deadline);
        if matches!(answered, Ok(_) | Err(Failure::Reset(_))) {
            self.connection = Some(connection);
        }
        let answer = answered.map_err(|failure| self.unanswered(&failure, ""))?;
        rejected(&message_of(&answer)?)
    }

    fn connect(&self, deadline: Instant) -> Result<Http2, Status> {
        self.connector.connect(deadline).map(Http2::new).map_err(|error| {
            let what = format!("cannot connect to {}: ", self.connector.endpoint.authority);
            self.unanswered(&Failure::from(error), &what)
        })
    }

    /// The status of a call that has no answer.
    fn unanswered(&self, failure: &Failure, what: &str) -> Status {
        match failure {
            Failure::Io(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                Status::new(Code::DeadlineExceeded, format!("{what}no answer within {:?}", self.timeout))
            }
            Failure::Io(_) | Failure::Closed | Failure::GoingAway(_) => {
                Status::new(Code::Unavailable, format!("{what}{failure}"))
            }
            Failure::Protocol(_) => Status::new(Code::Internal, failure.to_string()),
            // As gRPC maps the codes of HTTP/2.
            Failure::Reset(code) => {
                let code = match code {
                    7 => Code::Unavailable,
                    8 => Code::Cancelled,
                    11 => Code::ResourceExhausted,
                    12 => Code::PermissionDenied,
                    0..=6 | 9 | 10 => Code::Internal,
                    _ => Code::Unknown,
                };
                Status::new(code, failure.to_string())
            }
        }
    }
}

/// The message of an answer whose status is OK.
fn message_of(answer: &Answer) -> Result<Vec<u8>, Status> {
    let header = |name: &str| answer.headers.iter().rfind(|(n, _)| n == name).map(|(_, value)| value.as_slice());
    let number = |name| std::str::from_utf8(header(name)?).ok()?.parse::<usize>().ok();
    match number("grpc-status") {
        Some(0) => {
            // Nothing was said of compression, so there is none.
            let message = answer.body.split_at_checked(PREFIX).map(|(_, message)| message.to_vec());
            Ok(message.unwrap_or_default())
        }
        Some(code) => Err(Status {
            code: CODES.get(code - 1).copied().unwrap_or(Code::Unknown),
            message: percent_decoded(header("grpc-message").unwrap_or_default()),
            retry_info: header(RETRY_INFO).is_some(),
        }),
        None => {
            // No gRPC server: <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
            let status = number(":status").unwrap_or_default();
            let code = match status {
                400 => Code::Internal,
                401 => Code::Unauthenticated,
                403 => Code::PermissionDenied,
                404 => Code::Unimplemented,
                429 | 502..=504 => Code::Unavailable,
                _ => Code::Unknown,
            };
            Err(Status::new(code, format!("the server answered with HTTP status {status} and no status of gRPC")))
        }
    }
}

/// A status message as people read it.
fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The spans that an `ExportTraceServiceResponse` says were refused: field 1 of its field 1.
fn rejected(response: &[u8]) -> Result<u64, Status> {
    let malformed = || Status::new(Code::Internal, "the server's answer is malformed");
    let partial_success = field_1(response).ok_or_else(malformed)?;
    let Some(Field::Bytes(partial_success)) = partial_success else { return Ok(0) };
    match field_1(partial_success).ok_or_else(malformed)? {
        Some(Field::Number(rejected)) => Ok(rejected.cast_signed().unsigned_abs()),
        _ => Ok(0),
    }
}

/// The value of a protobuf field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Field 1 of a message, `Some(None)` where it has none, and `None` where it is malformed.
#[expect(clippy::option_option, reason = "a message may lack the field, and it may be none")]
fn field_1(mut message: &[u8]) -> Option<Option<Field<'_>>> {
    let mut found = None;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => Field::Bytes(split(&mut message, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Field::Bytes(split(&mut message, length)?)
            }
            5 => Field::Bytes(split(&mut message, 4)?),
            _ => return None,
        };
        if key >> 3 == 1 {
            found = Some(field);
        }
    }
    Some(found)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = split(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn split<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        Answer { headers, body: body.to_vec() }
    }

    #[test]
    fn the_refused_spans_are_read_of_the_answer() {
        let rejected = |message: &[u8]| rejected(message).map_err(|status| status.code);
        assert_eq!(rejected(&[]), Ok(0));
        // partial_success { rejected_spans: 300, error_message: "no" }, with a field that nobody knows in front.
        assert_eq!(rejected(&[0x10, 0x01, 0x0a, 0x07, 0x08, 0xac, 0x02, 0x12, 0x02, b'n', b'o']), Ok(300));
        assert_eq!(rejected(&[0x0a, 0x00]), Ok(0));
        for malformed in [&[0x0a][..], &[0x0a, 0x05, 0x08], &[0x0b], &[0x08, 0xff], &[0xff; 11]] {
            assert_eq!(rejected(malformed), Err(Code::Internal), "{malformed:?}");
        }
    }

    #[test]
    fn a_status_says_whether_another_try_may_help() {
        let status = |headers: &[(&str, &str)]| message_of(&answer(headers, &[])).unwrap_err();
        let unavailable = status(&[(":status", "200"), ("grpc-status", "14"), ("grpc-message", "so%6Fn %x 100%")]);
        assert_eq!(unavailable.to_string(), "Unavailable: soon %x 100%");
        assert!(unavailable.may_pass());
        assert!(!status(&[("grpc-status", "3")]).may_pass());
        assert!(!status(&[("grpc-status", "8")]).may_pass());
        assert!(status(&[("grpc-status", "8"), ("grpc-status-details-bin", "")]).may_pass());
        assert!(status(&[("grpc-status", "99")]).to_string().starts_with("Unknown"));
        // What stands before the server, and is none.
        assert!(status(&[(":status", "503")]).may_pass());
        assert_eq!(
            status(&[(":status", "404")]).to_string(),
            "Unimplemented: the server answered with HTTP status 404 and no status of gRPC"
        );
        // Trailers win over headers.
        assert_eq!(
            message_of(&answer(&[("grpc-status", "2"), ("grpc-status", "0")], &[0, 0, 0, 0, 1, 9])),
            Ok(vec![9])
        );
    }
}

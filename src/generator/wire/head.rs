//! Parses the head of an HTTP/1.1 response: its status and where its body ends.

use std::io;

use http::StatusCode;

/// Maximum number of headers in a response.
pub(super) const MOST_HEADERS: usize = 128;

/// How the end of the response body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A parsed response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub status: StatusCode,
    /// Bytes of the head itself.
    pub length: usize,
    pub body: Body,
    pub keeps_alive: bool,
}

/// The error for a malformed response.
pub(super) fn garbage(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Parses the head at the start of `input`; `None` while it is incomplete. Source: RFC 9112, section 6.3.
pub(super) fn parse_head(input: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(garbage("the head is not HTTP")),
    };
    let status =
        answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| garbage("no such status"))?;
    let mut keeps_alive = answer.version == Some(1);
    let mut body = Body::UntilClose;
    for header in answer.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") && body != Body::Chunked {
            let length = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            let length = Body::Length(length.ok_or_else(|| garbage("the length is no number"))?);
            if matches!(body, Body::Length(_)) && body != length {
                return Err(garbage("two lengths that differ"));
            }
            body = length;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            let says = |token: &str| {
                header.value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
            };
            keeps_alive = (keeps_alive || says("keep-alive")) && !says("close");
        }
    }
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        body = Body::Length(0);
    }
    Ok(Some(Head { status, length, body, keeps_alive: keeps_alive && body != Body::UntilClose }))
}

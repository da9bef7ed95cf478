//! The head of an answer, and what it says of the body's end.

use std::io;

use http::StatusCode;

/// Most headers of an answer.
pub(super) const MOST_HEADERS: usize = 128;

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub status: StatusCode,
    pub length: usize,
    pub body: Body,
    pub keeps_alive: bool,
}

/// What is not HTTP, and why.
pub(super) fn garbage(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The head at the beginning of `input`, once it is whole. Source: RFC 9112, section 6.3.
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

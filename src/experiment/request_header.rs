//! A header that the user adds to every request of a run.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::units::stored_as_text;

/// Headers that are the generator's: it writes them itself, or could not read the answer if somebody else did.
const RESERVED: [&str; 11] = [
    "baggage",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header of every request, written `NAME:VALUE`, such as `x-tenant: blue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestHeader {
    name: HeaderName,
    /// Visible ASCII, spaces and tabs.
    value: HeaderValue,
}

stored_as_text!(RequestHeader);

/// Why a text is no [`RequestHeader`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestHeaderError {
    /// It has no colon.
    #[error("`{0}` is not a header; write it as NAME:VALUE, such as x-tenant:blue")]
    Form(String),
    /// Its name has characters that names do not have.
    #[error("`{0}` is not the name of a header; write letters, digits and hyphens, such as x-tenant:blue")]
    Name(String),
    /// Its value has characters that values do not have.
    #[error("the value of `{0}` must be one line of printable ASCII, such as {0}:blue")]
    Value(HeaderName),
    /// The generator writes it.
    #[error("the generator sets `{0}` itself; leave it out")]
    Reserved(HeaderName),
}

impl FromStr for RequestHeader {
    type Err = RequestHeaderError;

    fn from_str(text: &str) -> Result<Self, RequestHeaderError> {
        let (name, value) = text.split_once(':').ok_or_else(|| RequestHeaderError::Form(text.into()))?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| RequestHeaderError::Name(name.trim().into()))?;
        if RESERVED.contains(&name.as_str()) {
            return Err(RequestHeaderError::Reserved(name));
        }
        match HeaderValue::try_from(value.trim()) {
            Ok(value) if value.to_str().is_ok() => Ok(Self { name, value }),
            Ok(_) | Err(_) => Err(RequestHeaderError::Value(name)),
        }
    }
}

impl fmt::Display for RequestHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value is ASCII by the check above.
        write!(f, "{}: {}", self.name, self.value.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_written_as_it_stands_on_the_wire() {
        for (text, written) in [
            ("x-tenant:blue", "x-tenant: blue"),
            ("X-Tenant:  blue ", "x-tenant: blue"),
            ("authorization: Bearer a:b=", "authorization: Bearer a:b="),
            ("x-empty:", "x-empty: "),
        ] {
            let header: RequestHeader = text.parse().unwrap();
            assert_eq!(header.to_string(), written);
            assert_eq!(written.parse(), Ok(header));
        }
    }

    #[test]
    fn a_text_that_is_no_header_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("x-tenant", "write it as NAME:VALUE"),
            (":blue", "`` is not the name of a header"),
            ("x tenant:blue", "`x tenant` is not the name of a header"),
            ("x-tenant:a\r\nhost: b", "one line of printable ASCII, such as x-tenant:blue"),
            ("x-tenant:grün", "one line of printable ASCII"),
        ] {
            let error = text.parse::<RequestHeader>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_header_of_the_generators_is_refused() {
        for name in
            ["Host", "content-length", "Content-Type", "Transfer-Encoding", "connection", "traceparent", "Baggage"]
        {
            let error = format!("{name}:1").parse::<RequestHeader>().unwrap_err().to_string();
            assert_eq!(error, format!("the generator sets `{}` itself; leave it out", name.to_lowercase()));
        }
    }
}
